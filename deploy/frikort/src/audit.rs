//! `frikort audit`: the history as files, and what can be shown of it without believing the program
//! that wrote it.
//!
//! What is decided anew is decided by the domain; what could not be checked is said, and is never
//! a pass. What must stay out: the database, and the projector's own fold.

use serde::Serialize;

use crate::{Ending, output, profile::Us};

mod check;
mod claims;
mod export;
mod files;
mod findings;
mod history;
mod keys;
mod lines;
mod mirror;
mod proved;
mod published;
mod receipt;
mod report;
mod signed;
mod spool;
mod tiles;
mod totals;
mod verify;
mod watch;

pub(crate) use keys::parse as verifier_keys;
pub(crate) use totals::compare;

const AFTER: &str = "\
Exit codes of each:
  0   all of it is verified (exported)
  1   a contradiction; the first one is named by file, line, partition and position
  2   not everything could be checked (exported), and it is said what
  64  the command line makes no sense

Examples:
  frikort audit export history              everything, with checkpoint, tiles, totals; again to go on
  frikort audit verify history --key log.vkey --checkpoint noted.checkpoint
  frikort audit verify --json history | jq .first_contradiction
  frikort audit receipt get --position 4711 --out 4711.tlog-proof
  frikort audit receipt verify --key log.vkey *.tlog-proof
  frikort audit watch --state witness       remembers checkpoints, alarms on another history
  frikort audit mirror mirror               the log's static files, all verified
  frikort audit totals                      the projector against a replay of everything
  frikort audit check                       the server checks its own tables, all of them";

/// What of an audit is asked for.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = AFTER)]
pub(crate) enum Command {
    /// Write the history to files, byte for byte as it is stored; goes on where it stopped
    Export(export::Args),
    /// Verify exported files, offline: places, form, and every outcome decided anew
    Verify(verify::Args),
    /// Proof that one record was filed, for whoever filed it
    #[command(subcommand)]
    Receipt(receipt::Command),
    /// Remember the log's checkpoints, and alarm when another history is told
    Watch(watch::Args),
    /// Fetch a log's static files, all of it verified: a copy for any tool of the format
    Mirror(mirror::Args),
    /// Replay the whole history and hold the projector's totals against it
    Totals(totals::Args),
    /// Have the ledger check its tables: records, tiles, checkpoints and the projection
    Check(check::Args),
}

/// What a comparison of everything came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Verified,
    Contradiction,
    Incomplete,
}

impl Verdict {
    /// As the program ends with it.
    fn ending(self) -> Ending {
        match self {
            Self::Verified => Ending::Done,
            Self::Contradiction => Ending::Contradicted,
            Self::Incomplete => Ending::Unchecked,
        }
    }
}

/// The history, or a file of it, is not what it must be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Contradicted(String);

/// Runs one. Whatever keeps it from an end leaves something unchecked, and that is not a pass,
/// also when it is only that nobody reads our output any more.
pub(crate) async fn run(command: Command, us: impl FnOnce() -> anyhow::Result<Us>) -> Ending {
    let ended = async {
        match command {
            Command::Export(args) => export::run(args, &us()?).await,
            Command::Verify(args) => verify::run(&args),
            Command::Receipt(command) => receipt::run(command, us).await,
            Command::Watch(args) => watch::run(args, &us()?).await,
            Command::Mirror(args) => mirror::run(args, &us()?).await,
            Command::Totals(args) => totals::run(args, &us()?).await,
            Command::Check(args) => check::run(args, &us()?).await,
        }
    };
    ended.await.unwrap_or_else(|error| {
        output::note(&format!("frikort: {error:#}"));
        if error.is::<Contradicted>() { Ending::Contradicted } else { Ending::Unchecked }
    })
}
