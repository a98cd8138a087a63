//! `frikort audit verify`: exported files, from the files alone.
//!
//! What must stay out: services, and any network. A contradiction is never weighed against what is
//! sound; what could not be checked is never a pass.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use super::{
    history::{History, Taken},
    lines::{Line, Lines},
    report::{FileReport, Report},
};
use crate::{Ending, output, progress::Progress};

const AFTER: &str = "\
Of each record it checks that
  form       it is one, in the one form in which a record is written, with the event id of its place
  positions  it stands at the next position of its partition: 1, 2, 3 …
  instants   it was recorded after the one before
  versions   it has the next version of its stream: 1, 2, 3 … for each person, and for the limits
  outcomes   deciding it anew from its data, the records before it and the limits on record, by the
             rules of frikort-domain, gives the outcome that is recorded; so do all totals and splits
What was not recorded cannot be judged again: whether the work was declared ordinary, the holder's
age, and whether the caller asked to be refused above the limit.

A file that begins later than position 1 lacks limits and persons' first records: then no outcome is
decided anew, and persons whose first record is there are only added up. The same holds for an
--extract, such as one person's records, where positions may be missing too. Both end with 2.

Files alone cannot show that they are all there is, nor that nobody has written the whole history
anew: that takes a checkpoint from elsewhere. Whoever notes a root can hold the same records against it
later: as many lines as there were then must have the same root. Without one it ends with 2, unless
--without-checkpoint says that this is known; everything else must then be verified.

--json prints one object with
  verdict              verified_without_checkpoint, contradiction or incomplete
  records, persons     how many were read
  files                of each: file, records
  partitions           of each: partition, first_position, last_position, root (RFC 6962, in hex, of
                       its records from the first to the last; null where they are not all there)
  checks               of each: check, contradictions
  outcomes             records by what was done: decided_anew, limits, added_up, without_begin,
                       contradicting, after_contradiction, unknown
  contradictions       how many in all
  first_contradiction  file, line, partition, position (absent where the line tells none), check,
                       what; null when there is none
  not_checked          sentences; empty when everything was
  years                of each: year, persons, payments, total, exempt, taxable (kroner as text)
Members are only ever added.

Exit codes: 0 all of it is verified; 1 a contradiction; 2 not everything could be checked.

Memory: about 0,5 kB a payment, persons included, since a decision needs the whole account.";

/// Options of `frikort audit verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Exported files, or directories of them; a partition's files in order.
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// Do not ask for a checkpoint: the rest can be a pass without.
    #[arg(long)]
    without_checkpoint: bool,
    /// The files hold only some records, such as one person's.
    #[arg(long)]
    extract: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Ending> {
    let files = files(&args.paths)?;
    let mut bytes = 0;
    for file in &files {
        bytes += fs::metadata(file).with_context(|| format!("{}", file.display()))?.len();
    }
    let mut history = History::new(args.extract);
    let mut report = Report::default();
    let mut progress = Progress::new("verify", bytes);
    let mut before = 0;
    for file in &files {
        before = read(file, before, &mut history, &mut report, &mut progress)?;
    }
    progress.finish();
    report.conclude(&history, args.extract, args.without_checkpoint);
    if args.json {
        output::line(&serde_json::to_string_pretty(&report)?)?;
    } else {
        output::line(&report.to_string())?;
    }
    Ok(report.ending())
}

/// Takes the lines of one file; answers how many bytes are done with it.
fn read(
    path: &Path,
    before: u64,
    history: &mut History,
    report: &mut Report,
    progress: &mut Progress,
) -> anyhow::Result<u64> {
    let mut lines = Lines::open(path)?;
    let mut file = FileReport::new(path);
    let in_file = || path.display().to_string();
    while let Some(line) = lines.next().with_context(in_file)? {
        let Line::Whole(line) = line else {
            report.not_checked(format!(
                "{} ends within line {}: what wrote it was cut off (export goes on there)",
                path.display(),
                lines.number
            ));
            break;
        };
        let taken: Taken = history.take(line);
        report.hash(taken.place, line);
        file.records += 1;
        report.note(&file, lines.number, taken);
        progress.step(before + lines.end);
    }
    report.files.push(file);
    Ok(before + lines.end)
}

/// The files that are named, and of a directory its `.jsonl` files by name.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut within = Vec::new();
        for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
            let entry = entry?.path();
            if entry.extension().is_some_and(|extension| extension == "jsonl") {
                within.push(entry);
            }
        }
        ensure!(!within.is_empty(), "{} holds no .jsonl file", path.display());
        within.sort();
        files.extend(within);
    }
    Ok(files)
}
