//! The log files of what we start: appended to, bounded, and quoted by their end when something
//! fails. What must stay out: writing a line of our own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// From this size on a log begins anew, keeping one old file.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// How much of the end is read to quote from.
const TAIL_BYTES: u64 = 8 * 1024;
const TAIL_LINES: usize = 8;

/// Opens a log to write at its end.
pub(crate) fn append(log: &Path) -> io::Result<File> {
    begin_anew_when_large(log)?;
    OpenOptions::new().create(true).append(true).open(log)
}

/// Puts a log that has grown large aside, over the one put aside before.
pub(crate) fn begin_anew_when_large(log: &Path) -> io::Result<()> {
    if fs::metadata(log).is_ok_and(|meta| meta.len() > MAX_BYTES) {
        fs::rename(log, log.with_extension("log.old"))?;
    }
    Ok(())
}

/// The last lines of a log; nothing when it cannot be read, since it is only quoted.
pub(crate) fn tail(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = || -> io::Result<()> {
        let mut file = File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(())
    };
    let _ = { read }();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        let room = tempfile::tempdir().unwrap();
        let log = room.path().join("x.log");
        assert_eq!(tail(&log), "");
        fs::write(&log, (0..5000).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        let tail = tail(&log);
        assert!(tail.starts_with("line 4992\n") && tail.ends_with("line 4999"), "{tail}");
    }
}
