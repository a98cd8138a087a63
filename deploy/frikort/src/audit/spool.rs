//! Lines set aside by person, in so many buckets that the accounts of one fit in memory; they are
//! then read bucket by bucket, each in the order in which it was written.
//!
//! The files have no name, so that they are gone at any end of the program. What must stay out: what
//! is made of the lines.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::Path,
};

use anyhow::Context;

use super::history::Stream;

/// Bytes of lines that one bucket should have; its accounts take about as much in memory.
const BUCKET: u64 = 48 * 1024 * 1024;

/// Files that are open at a time; beyond it buckets get larger.
const MOST_BUCKETS: u64 = 512;

/// Bytes before each line.
const HEADER: usize = 29;

/// Bytes written and read at a time.
const BUFFER: usize = 32 * 1024;

/// Which kind of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record,
    Total,
}

/// Where a line stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) kind: Kind,
    pub(super) partition: i32,
    /// Which file, by the number that the caller gave it.
    pub(super) file: u32,
    /// From 1, in the file.
    pub(super) line: u64,
    /// From 1, in the partition.
    pub(super) index: u64,
}

/// Being written.
pub(super) struct Spool {
    buckets: Vec<BufWriter<File>>,
}

impl Spool {
    /// For so many bytes of lines, in a directory.
    pub(super) fn new(dir: &Path, bytes: u64) -> anyhow::Result<Self> {
        let open = |_| tempfile::tempfile_in(dir).map(|f| BufWriter::with_capacity(BUFFER, f));
        let buckets = (0..(bytes / BUCKET + 1).min(MOST_BUCKETS)).map(open);
        let buckets = buckets.collect::<io::Result<Vec<_>>>();
        let buckets = buckets.with_context(|| format!("cannot use {}", dir.display()))?;
        Ok(Self { buckets })
    }

    /// Sets a line aside with its person's; with all, when it is the partition's.
    pub(super) fn put(&mut self, stream: Stream, origin: Origin, line: &[u8]) -> io::Result<()> {
        let header = header(origin, line.len())?;
        let chosen = match stream {
            Stream::Person(person) => Some(person.0.as_u128() % self.buckets.len() as u128),
            Stream::Partition => None,
        };
        for (number, bucket) in (0_u128..).zip(&mut self.buckets) {
            if chosen.is_none_or(|chosen| chosen == number) {
                bucket.write_all(&header)?;
                bucket.write_all(line)?;
            }
        }
        Ok(())
    }

    /// The buckets, to be read one after the other.
    pub(super) fn buckets(self) -> io::Result<Vec<Bucket>> {
        let rewound = self.buckets.into_iter().map(|bucket| {
            let mut file = bucket.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            Ok(Bucket { file: BufReader::with_capacity(BUFFER, file), line: Vec::new() })
        });
        rewound.collect()
    }
}

fn header(origin: Origin, length: usize) -> io::Result<[u8; HEADER]> {
    let length = u32::try_from(length).map_err(io::Error::other)?;
    let mut header = [0; HEADER];
    let mut rest = header.as_mut_slice();
    rest.write_all(&[u8::from(origin.kind == Kind::Total)])?;
    rest.write_all(&origin.partition.to_le_bytes())?;
    rest.write_all(&origin.file.to_le_bytes())?;
    rest.write_all(&origin.line.to_le_bytes())?;
    rest.write_all(&origin.index.to_le_bytes())?;
    rest.write_all(&length.to_le_bytes())?;
    Ok(header)
}

/// The lines of some persons, and of everybody.
pub(super) struct Bucket {
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Bucket {
    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(Origin, &[u8])>> {
        let mut kind = [0];
        if self.file.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let kind = if kind == [0] { Kind::Record } else { Kind::Total };
        let origin = Origin {
            kind,
            partition: i32::from_le_bytes(self.bytes()?),
            file: u32::from_le_bytes(self.bytes()?),
            line: u64::from_le_bytes(self.bytes()?),
            index: u64::from_le_bytes(self.bytes()?),
        };
        let length = u32::from_le_bytes(self.bytes()?);
        self.line.clear();
        let read = self.file.by_ref().take(length.into()).read_to_end(&mut self.line)?;
        if u32::try_from(read) != Ok(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((origin, &self.line)))
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frikort_domain::PersonId;

    fn origin(index: u64) -> Origin {
        Origin { kind: Kind::Record, partition: 1, file: 2, line: 3, index }
    }

    #[test]
    fn lines_come_back_in_order_and_what_concerns_everybody_in_each_bucket() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path(), 3 * BUCKET).unwrap();
        assert_eq!(spool.buckets.len(), 4);
        for index in 0..100 {
            let stream = match index % 10 {
                0 => Stream::Partition,
                _ => Stream::Person(PersonId(uuid::Uuid::from_u128(index.into()))),
            };
            spool.put(stream, origin(index), index.to_string().as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "they have a name");
        let (mut everybody, mut of_persons) = (0, 0);
        for mut bucket in spool.buckets().unwrap() {
            let mut last = None;
            while let Some((at, line)) = bucket.next().unwrap() {
                assert_eq!(at, origin(at.index));
                assert_eq!(line, at.index.to_string().as_bytes());
                assert!(last.replace(at.index) < Some(at.index), "out of order");
                if at.index % 10 == 0 { everybody += 1 } else { of_persons += 1 }
            }
        }
        assert_eq!((everybody, of_persons), (4 * 10, 90));
    }
}
