//! `frikort audit export`: the history to files, one line a record, byte for byte as it is stored,
//! and beside it what the ledger and the projector say about it, so that all of it can be verified
//! later from the files alone. What must stay out: any verdict; `verify` judges.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use frikort_proto::{timestamp, v1::ReadEventsRequest};
use serde::Serialize;
use time::{Date, Month, OffsetDateTime, UtcOffset};

use crate::{Ending, client::Service, events, output, profile::Us, progress::Progress, wire};

mod beside;
mod records;

use beside::Beside;
use records::Target;

const AFTER: &str = "\
Of each partition N it writes into DIR
  partition-N.jsonl         the records, one a line, as ledger/domain/RECORDS.md describes them
  partition-N.totals.jsonl  the projector's total of each person and year, as of a position
  partition-N.tiles/        the hashes that the ledger stored of the records (c2sp.org/tlog-tiles)
  partition-N.keys          the log's verifier keys, as the server tells them
  partition-N.checkpoint    the signed checkpoint of exactly these records; last, so that without it
                            the export is not finished
It waits up to 15 seconds for a checkpoint that reaches all there was when it began, and writes the
records up to that. Where the ledger signs nothing, or the projector does not answer, the rest is
written, it is said, and the exit code is 2.

What is there is gone on with: the last whole line must be the ledger's record at that position, byte
for byte, the new checkpoint must go on from the one that is there (otherwise: 1), and a line that was
cut off is taken away. So what was interrupted is run again.

--cpr writes one person's records to DIR/person.jsonl; --year those that were recorded in that calendar
year in Copenhagen, whatever year they are about, to DIR/year-Y-partition-N.jsonl. Extracts have
nothing beside them.

--json prints one object: files, each with file, partition, last_position, written (records),
checkpoint (its size), tiles, totals (lines), each null where it was not written; not_written:
sentences, empty when everything was. Members are only ever added.

Exit codes: 0 all of it is written; 1 what is there is not the beginning of this ledger's history; 2 it
could not be finished.

Examples:
  frikort audit export history
  frikort audit export --year 2025 of-2025
  frikort audit export --cpr 0101605001 of-one";

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
    /// Only what was recorded in this calendar year; an extract.
    #[arg(long, value_name = "Y", value_parser = clap::value_parser!(i32).range(2019..=9998))]
    year: Option<i32>,
    /// Only up to this position, in each partition, and nothing beside the records.
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    #[arg(conflicts_with_all = ["cpr", "year"])]
    until: Option<i64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
    #[command(flatten)]
    projector: crate::cli::ProjectorAddress,
}

/// What came of it.
#[derive(Default, Serialize)]
struct Exported {
    files: Vec<Written>,
    not_written: Vec<String>,
}

#[derive(Serialize)]
struct Written {
    file: String,
    partition: i32,
    last_position: i64,
    written: u64,
    #[serde(flatten)]
    beside: beside::Written,
}

pub(super) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let ledger = args.ledger.service(us)?;
    let extract = Extract::of(&args)?;
    let heads = events::heads(&ledger, extract.request.person.clone()).await?;
    fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
    refuse_mixture(&args.dir, &extract.names)?;
    let mut targets = Vec::new();
    for (partition, head) in heads {
        let path = args.dir.join(extract.file(partition));
        targets.push((Target::open(path, partition, head)?, partition, head));
    }
    let wanted: i64 = targets.iter().map(|(target, _, head)| head - target.last).sum();
    let mut progress = Progress::new("export", wanted.unsigned_abs());
    let mut exported = Exported::default();
    for (target, partition, head) in targets {
        let not_written = &mut exported.not_written;
        let file = if extract.is_whole && args.until.is_none() {
            let projector = args.projector.service(us)?;
            let base = args.dir.join(format!("partition-{partition}"));
            let beside = Beside { ledger: &ledger, projector, partition, base, not_written };
            whole(beside, target, head, &mut progress).await?
        } else {
            let request = extract.request.clone();
            records(
                &ledger,
                target,
                request,
                args.until.map(|until| until.min(head)),
                &mut progress,
            )
            .await?
        };
        exported.files.push(file);
    }
    progress.finish();
    told(&exported, args.json)?;
    Ok(if exported.not_written.is_empty() { Ending::Done } else { Ending::Unchecked })
}

/// A partition's records up to a checkpoint, and all that is beside them.
async fn whole(
    mut beside: Beside<'_>,
    mut target: Target,
    head: i64,
    progress: &mut Progress,
) -> anyhow::Result<Written> {
    // First, since the records must go at least so far.
    let totals = beside.totals(head).await?;
    let needed = totals.as_ref().map_or(head, |totals| totals.position.max(head));
    let signed = beside.checkpoint(needed).await?;
    let until = signed.as_ref().map_or(needed, |signed| signed.signed.position());
    // A checkpoint that came too late reaches less far.
    let totals = totals.filter(|totals| totals.position <= until);
    let request = ReadEventsRequest { to_position: until, ..ReadEventsRequest::default() };
    let written = target.fill(beside.ledger, request, Some(until), progress).await?;
    ensure!(target.last == until, "the ledger has no record at position {}", target.last + 1);
    let (file, partition) = (target.path.display().to_string(), beside.partition);
    let beside = beside.finish(totals, signed).await?;
    Ok(Written { file, partition, last_position: until, written, beside })
}

/// Records alone.
async fn records(
    ledger: &Service,
    mut target: Target,
    request: ReadEventsRequest,
    until: Option<i64>,
    progress: &mut Progress,
) -> anyhow::Result<Written> {
    let written = target.fill(ledger, request, until, progress).await?;
    let file = target.path.display().to_string();
    let (partition, last_position) = (target.partition, target.last);
    let beside = beside::Written::default();
    Ok(Written { file, partition, last_position, written, beside })
}

/// Which records are wanted, and how their files are called.
struct Extract {
    is_whole: bool,
    /// What every file's name begins with.
    names: String,
    of_one_partition: bool,
    request: ReadEventsRequest,
}

impl Extract {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let person = args.cpr.as_ref().map(|cpr| wire::by_cpr(cpr.clone(), String::new()));
        let begins = |year| Some(new_year(year?).map(timestamp));
        let recorded_from = begins(args.year).transpose()?;
        let recorded_before = begins(args.year.map(|year| year + 1)).transpose()?;
        let year = args.year.map(|year| format!("year-{year}"));
        let names = match (&person, year) {
            (None, None) => "partition-".to_owned(),
            (None, Some(year)) => format!("{year}-partition-"),
            (Some(_), None) => "person.jsonl".to_owned(),
            (Some(_), Some(year)) => format!("person-{year}.jsonl"),
        };
        let is_whole = person.is_none() && args.year.is_none();
        let of_one_partition = person.is_some();
        let request =
            ReadEventsRequest { person, recorded_from, recorded_before, ..Default::default() };
        Ok(Self { is_whole, names, of_one_partition, request })
    }

    fn file(&self, partition: i32) -> String {
        let Self { names, .. } = self;
        if self.of_one_partition { names.clone() } else { format!("{names}{partition}.jsonl") }
    }
}

/// The instant at which a year begins in Copenhagen: winter time is an hour ahead of UTC.
fn new_year(year: i32) -> anyhow::Result<OffsetDateTime> {
    let day = Date::from_calendar_date(year, Month::January, 1)?;
    Ok(day.midnight().assume_offset(UtcOffset::from_hms(1, 0, 0)?))
}

/// A directory holds one export: everybody's, or one extract.
fn refuse_mixture(dir: &Path, names: &str) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let other = name.ends_with(".jsonl") && !name.starts_with(names);
        ensure!(!other, "{} holds another export ({name}); name a new directory", dir.display());
    }
    Ok(())
}

fn told(exported: &Exported, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(output::line(&serde_json::to_string_pretty(exported)?)?);
    }
    for Written { file, last_position, written, beside, .. } in &exported.files {
        let beside = beside.to_string();
        let line =
            format!("{file}: {written} records more, up to position {last_position}{beside}");
        output::line(&line)?;
    }
    for what in &exported.not_written {
        output::note(&format!("not written: {what}"));
    }
    Ok(())
}
