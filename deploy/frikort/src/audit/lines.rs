//! The lines of a file, one at a time: a file may be longer than memory, a line may not.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, bail};

/// The longest line that is read, in bytes. A record has some hundred.
pub(super) const LONGEST: u64 = 64 * 1024 * 1024;

/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// A file under way.
pub(super) struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
    /// Of the line last read, from 1.
    pub(super) number: u64,
    /// Where the last whole line ends, in bytes.
    pub(super) end: u64,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line, without its line feed.
    Whole(&'a [u8]),
    /// What stands behind the last line feed: whoever wrote it was cut off.
    CutOff,
}

impl Lines {
    /// Opens a file.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::of(file))
    }

    /// From where the file stands.
    fn of(file: File) -> Self {
        let file = BufReader::with_capacity(BUFFER, file);
        Self { file, line: Vec::new(), number: 0, end: 0 }
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Line<'_>>> {
        self.line.clear();
        self.number += 1;
        let read = self.read().with_context(|| format!("line {}", self.number))?;
        if read == 0 {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            if read > LONGEST {
                bail!("line {} is longer than {LONGEST} bytes", self.number);
            }
            return Ok(Some(Line::CutOff));
        }
        self.end += read;
        self.line.pop();
        Ok(Some(Line::Whole(&self.line)))
    }

    fn read(&mut self) -> io::Result<u64> {
        let read = self.file.by_ref().take(LONGEST + 1).read_until(b'\n', &mut self.line)?;
        Ok(read as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    #[test]
    fn a_line_without_its_end_is_told_apart() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\ntwo\nthr").unwrap();
        file.rewind().unwrap();
        let mut lines = Lines::of(file);
        assert_eq!(lines.next().unwrap(), Some(Line::Whole(b"one")));
        assert_eq!(lines.next().unwrap(), Some(Line::Whole(b"two")));
        assert_eq!(lines.next().unwrap(), Some(Line::CutOff));
        assert_eq!((lines.number, lines.end), (3, 8));
        assert_eq!(lines.next().unwrap(), None);
    }
}
