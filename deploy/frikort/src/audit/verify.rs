//! `frikort audit verify`: exported files, from the files alone, in bounded memory.
//!
//! Two passes. The first takes the lines in order: form, places, hashes. It sets them aside by person;
//! the second takes some persons at a time and decides their records anew. What must stay out:
//! services, and any network. A contradiction is never weighed against what is sound; what could not
//! be checked is never a pass.

use std::{env, path::PathBuf};

use anyhow::Context;

use super::{keys, report::Report, spool::Spool};
use crate::{Ending, output, progress::Progress};

mod by_person;
mod in_order;
mod input;

use by_person::ByPerson;
use in_order::InOrder;
pub(super) use in_order::{Claimed, Known};
use input::Input;

const AFTER: &str = "\
Of each record it checks that
  form       it is one, in the one form in which a record is written, with the event id of its place
  positions  it stands at the next position of its partition: 1, 2, 3 …
  instants   it was recorded after the one before
  versions   it has the next version of its stream: 1, 2, 3 … for each person, and for the limits
  outcomes   deciding it anew from its data, the records before it and the limits on record there, by
             the rules of frikort-domain, gives the outcome that is recorded; so do all totals, splits
What was not recorded cannot be judged again: whether the work was declared ordinary, the holder's
age, and whether the caller asked to be refused above the limit.

And of what a whole export has beside partition-N.jsonl:
  tiles        the hashes that the ledger stored about a second after each record are those of the
               records: what was changed later is found at its position
  checkpoints  partition-N.checkpoint is signed and is about exactly these records; each older
               --checkpoint, noted earlier and kept elsewhere, is about the beginning of them
  totals       the projector's totals in partition-N.totals.jsonl are the sums of the records up to
               the position that they name, no more of them and no less

Bring the log's --key: keys that came with the export are only the word of the server, which could
have signed another history; and an older --checkpoint shows that nothing was changed since.

A file that begins later than position 1 lacks limits and persons' first records: then no outcome is
decided anew, and persons whose first record is there are only added up. The same holds for an
--extract, such as one person's records, where positions may be missing too. Both end with 2. So does
an export without checkpoint, tiles or totals, unless --without-checkpoint says that this is known.

--json prints one object with
  verdict              verified, verified_without_checkpoint, contradiction or incomplete
  records, persons     how many were read
  keys                 given, export (only the server's word) or none
  files                of each: file, records
  partitions           of each: partition, first_position, last_position, root (RFC 6962, in hex, of
                       its records from the first to the last; null where they are not all there),
                       checkpoint (size of the one that came with it), tiles (compared),
                       totals (position, lines)
  checkpoints          of each --checkpoint: file, partition, size, agrees
  checks               of each: check, contradictions
  outcomes             records by what was done: decided_anew, limits, added_up, without_begin,
                       contradicting, after_contradiction, unknown
  contradictions       how many in all
  first_contradiction  file, line, partition, position (line and position absent where there is
                       none), check, what; null when there is none. First in the history: it names
                       the position that differs, or that is missing
  not_checked          sentences; empty when everything was
  years                of each: year, persons, payments, total, exempt, taxable (kroner as text)
Members are only ever added.

Exit codes: 0 all of it is verified; 1 a contradiction; 2 not everything could be checked.

Memory does not grow with the records (about 80 MB, measured with 1,6 million). In the --temporary-dir
it needs as much room as the files themselves; that is given back at any end.

Examples:
  frikort audit verify history --key log.vkey --checkpoint noted/2026-01-01.checkpoint
  frikort audit verify --json history | jq .first_contradiction";

/// Options of `frikort audit verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Exported files, or directories of them; a partition's files in order.
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    keys: keys::Keys,
    /// A signed checkpoint that was noted earlier; repeat for several.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Do not ask for a checkpoint, tiles and totals: the rest can be a pass without.
    #[arg(long)]
    without_checkpoint: bool,
    /// The files hold only some records, such as one person's.
    #[arg(long)]
    extract: bool,
    /// Where lines are set aside, as much as there is in the files.
    #[arg(long, value_name = "DIR", default_value_os_t = env::temp_dir())]
    temporary_dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Ending> {
    let mut report = Report::default();
    let input = Input::find(&args.paths, &args.keys.read()?, &args.checkpoints, &mut report)?;
    let bytes = input.bytes;
    let set_aside = || format!("{}: about {bytes} bytes are needed", args.temporary_dir.display());
    let mut spool = Spool::new(&args.temporary_dir, bytes)?;
    let mut progress = Progress::new("verify", bytes * 2);
    let known = InOrder::new(args.extract, &mut report, &mut spool, &mut progress).read(input)?;
    let mut persons = ByPerson::new(&known, &mut report, &mut progress, bytes);
    for bucket in spool.buckets().with_context(set_aside)? {
        persons.read(bucket).with_context(set_aside)?;
    }
    let counts = persons.counts;
    progress.finish();
    report.conclude(&known, counts, args.extract, args.without_checkpoint);
    if args.json {
        output::line(&serde_json::to_string_pretty(&report)?)?;
    } else {
        output::line(&report.to_string())?;
    }
    Ok(report.ending())
}
