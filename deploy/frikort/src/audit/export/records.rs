//! Records to a file, byte for byte as they are stored. A file only grows: what stands in it is held
//! against the ledger where it ends, and gone on from there.

use std::{
    fs::{File, TryLockError},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use anyhow::{Context, bail, ensure};
use frikort_domain::Record;
use frikort_proto::v1::{EventRecord, ReadEventsRequest, read_events_response::Item};

use crate::{
    audit::{Contradicted, lines::LONGEST},
    client::Service,
    events::Events,
    progress::Progress,
};

/// A file, and how far it is.
pub(super) struct Target {
    pub(super) path: PathBuf,
    file: File,
    pub(super) partition: i32,
    /// The position of the last whole line, 0 without one, and the line.
    pub(super) last: i64,
    last_line: String,
}

impl Target {
    /// Opens a file, alone, and finds where it ends.
    pub(super) fn open(path: PathBuf, partition: i32, head: i64) -> anyhow::Result<Self> {
        let shown = || path.display().to_string();
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.with_context(shown)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another program writes {}", shown()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(shown),
        }
        let (end, last_line) = last_line(&mut file).with_context(shown)?;
        // What stands behind it was cut off.
        file.set_len(end).with_context(shown)?;
        file.seek(SeekFrom::Start(end)).with_context(shown)?;
        let mut last = 0;
        if end > 0 {
            let record = Record::decode(&last_line)
                .map_err(|e| Contradicted(format!("the last line of {}: {e}", shown())))?;
            last = record.position;
            if record.partition != partition || last > head {
                let other = format!(
                    "{} ends at position {last} of partition {}; the ledger has {head} in \
                     partition {partition}: it is not the ledger that this was exported from, or \
                     one that was set back",
                    shown(),
                    record.partition
                );
                return Err(Contradicted(other).into());
            }
        }
        Ok(Self { path, file, partition, last, last_line })
    }

    /// Writes what is missing of what the request asks for, up to a position where one is given, and
    /// otherwise all there is now; answers how many records that are.
    pub(super) async fn fill(
        &mut self,
        ledger: &Service,
        request: ReadEventsRequest,
        until: Option<i64>,
        progress: &mut Progress,
    ) -> anyhow::Result<u64> {
        let request = ReadEventsRequest {
            partition: Some(self.partition),
            // Once more, so that it can be held against the file.
            from_position: self.last,
            ..request
        };
        let mut events = Events::read(ledger, request).await?;
        if self.last > 0 {
            let again = events.next_event().await?;
            self.check_continues(again.as_ref())?;
        }
        let mut out = BufWriter::with_capacity(256 * 1024, &self.file);
        let mut written = 0;
        while until.is_none_or(|until| self.last < until) {
            // The mark says that it was all; a stream that only ends was cut off.
            let event = match events.next().await?.context("the ledger's answer was cut off")? {
                Item::Event(event) => event,
                Item::CaughtUp(_) if until.is_none() => break,
                Item::CaughtUp(_) => continue,
            };
            if until.is_some_and(|until| event.position > until) {
                break;
            }
            out.write_all(&event.record)?;
            out.write_all(b"\n")?;
            written += 1;
            progress.more(event.position - self.last);
            self.last = event.position;
        }
        out.flush()?;
        drop(out);
        self.file.sync_all().with_context(|| self.path.display().to_string())?;
        Ok(written)
    }

    fn check_continues(&self, again: Option<&EventRecord>) -> Result<(), Contradicted> {
        let there = again.filter(|event| event.position == self.last);
        if there.is_some_and(|event| event.record == self.last_line.as_bytes()) {
            return Ok(());
        }
        Err(Contradicted(format!(
            "{}, partition {}, position {}: the last line is not what the ledger has there",
            self.path.display(),
            self.partition,
            self.last
        )))
    }
}

/// Where the last whole line ends, and the line; searched from the end.
fn last_line(file: &mut File) -> anyhow::Result<(u64, String)> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut tail = 64 * 1024;
    loop {
        let from = length.saturating_sub(tail);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(length - from).read_to_end(&mut bytes)?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        let begin = end.and_then(|end| bytes[..end].iter().rposition(|byte| *byte == b'\n'));
        match (begin, end) {
            (None, end) if from == 0 => {
                let end = end.map_or(0, |end| end + 1);
                let line = bytes[..end.saturating_sub(1)].to_vec();
                return Ok((end as u64, String::from_utf8(line)?));
            }
            (Some(begin), Some(end)) => {
                let line = bytes[begin + 1..end].to_vec();
                return Ok((from + end as u64 + 1, String::from_utf8(line)?));
            }
            _ => {}
        }
        ensure!(tail <= 2 * LONGEST, "it has no line of at most {LONGEST} bytes at its end");
        tail *= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(text: &[u8]) -> (u64, String) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        last_line(&mut file).unwrap()
    }

    #[test]
    fn the_last_whole_line_is_found_whatever_its_length() {
        assert_eq!(end_of(b""), (0, String::new()));
        assert_eq!(end_of(b"cut o"), (0, String::new()));
        assert_eq!(end_of(b"one\n"), (4, "one".to_owned()));
        assert_eq!(end_of(b"one\ntwo\nthr"), (8, "two".to_owned()));
        let long = "x".repeat(300_000);
        assert_eq!(end_of(format!("one\n{long}\n").as_bytes()), (300_005, long.clone()));
        assert_eq!(end_of(format!("one\n{long}").as_bytes()), (4, "one".to_owned()));
    }
}
