//! `frikort audit export`: the history to files, one line a record, byte for byte as it is stored.
//!
//! Memory is a page and a buffer, whatever the length. A file only grows: what stands in it is held
//! against the ledger where it ends, and gone on from there. What must stay out: any other form.

use std::{
    fs::{self, File, TryLockError},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use frikort_domain::Record;
use frikort_proto::v1::{EventRecord, PersonRef, ReadEventsRequest, read_events_response::Item};
use serde::Serialize;

use super::{Contradicted, lines::LONGEST};
use crate::{
    Ending,
    client::Service,
    events::{self, Events},
    output,
    progress::Progress,
    wire,
};

const AFTER: &str = "\
Each partition is written to DIR/partition-N.jsonl, one person to DIR/person.jsonl: one record a
line as ledger/domain/RECORDS.md describes it, up to the ledger's last position when it began.

A file that is there is gone on with: the last whole line must be the ledger's record at that
position, byte for byte (otherwise: 1), and a line that was cut off is taken away. So what was
interrupted is run again.

--json prints one object: files, each with file, partition, last_position and written (records).

Exit codes: 0 all of it is written; 1 a file is not the beginning of this ledger's history; 2 it
could not be finished.";

/// Options of `frikort audit export`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Where the files are, or will be.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Only this person's records, by CPR number; an extract.
    #[arg(long, value_name = "N")]
    cpr: Option<String>,
    /// Only up to this position, in each partition.
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    until: Option<i64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

/// What came of it.
#[derive(Serialize)]
struct Exported {
    files: Vec<Written>,
}

#[derive(Serialize)]
struct Written {
    file: String,
    partition: i32,
    last_position: i64,
    written: u64,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Ending> {
    let ledger = args.ledger.service()?;
    let person = args.cpr.map(|cpr| wire::by_cpr(cpr, String::new()));
    let heads = events::heads(&ledger, person.clone()).await?;
    fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
    refuse_mixture(&args.dir, person.is_some())?;
    let mut targets = Vec::new();
    for (partition, head) in heads {
        let name = match person {
            Some(_) => "person.jsonl".to_owned(),
            None => format!("partition-{partition}.jsonl"),
        };
        let until = args.until.map_or(head, |until| until.min(head));
        targets.push(Target::open(args.dir.join(name), partition, head, until)?);
    }
    let wanted: i64 = targets.iter().map(|target| (target.until - target.last).max(0)).sum();
    let mut progress = Progress::new("export", wanted.unsigned_abs());
    let mut files = Vec::new();
    let mut done = 0;
    for target in targets {
        let written = target.fill(&ledger, person.clone(), &mut done, &mut progress).await?;
        files.push(written);
    }
    progress.finish();
    if args.json {
        output::line(&serde_json::to_string_pretty(&Exported { files })?)?;
        return Ok(Ending::Done);
    }
    for Written { file, last_position, written, .. } in files {
        output::line(&format!("{file}: {written} records more, up to position {last_position}"))?;
    }
    Ok(Ending::Done)
}

/// A directory holds one export: everybody's, or one person's.
fn refuse_mixture(dir: &Path, person: bool) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let other = match person {
            true => name.starts_with("partition-") && name.ends_with(".jsonl"),
            false => name == "person.jsonl",
        };
        ensure!(!other, "{} holds another export ({name}); name a new directory", dir.display());
    }
    Ok(())
}

/// A file, and how far it is.
struct Target {
    path: PathBuf,
    file: File,
    partition: i32,
    /// The position of the last whole line, 0 without one, and the line.
    last: i64,
    last_line: String,
    until: i64,
}

impl Target {
    /// Opens a file, alone, and finds where it ends.
    fn open(path: PathBuf, partition: i32, head: i64, until: i64) -> anyhow::Result<Self> {
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
        Ok(Self { path, file, partition, last, last_line, until })
    }

    /// Writes what is missing up to `until`.
    async fn fill(
        mut self,
        ledger: &Service,
        person: Option<PersonRef>,
        done: &mut u64,
        progress: &mut Progress,
    ) -> anyhow::Result<Written> {
        let request = ReadEventsRequest {
            person,
            partition: Some(self.partition),
            // Once more, so that it can be held against the file.
            from_position: self.last,
            ..ReadEventsRequest::default()
        };
        let mut events = Events::read(ledger, request).await?;
        if self.last > 0 {
            let again = events.next_event().await?;
            self.check_continues(again.as_ref())?;
        }
        let mut out = BufWriter::with_capacity(256 * 1024, &self.file);
        let mut written = 0;
        loop {
            // The mark says that it was all; a stream that only ends was cut off.
            let event = match events.next().await?.context("the ledger's answer was cut off")? {
                Item::Event(event) if event.position <= self.until => event,
                Item::Event(_) | Item::CaughtUp(_) => break,
            };
            out.write_all(&event.record)?;
            out.write_all(b"\n")?;
            written += 1;
            *done += (event.position - self.last).unsigned_abs();
            self.last = event.position;
            progress.step(*done);
        }
        out.flush()?;
        drop(out);
        self.file.sync_all().with_context(|| self.path.display().to_string())?;
        let file = self.path.display().to_string();
        Ok(Written { file, partition: self.partition, last_position: self.last, written })
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
