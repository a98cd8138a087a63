//! `frikort audit receipt`: the proof that one record was filed, as a text that needs nobody to be
//! checked. What must stay out: the rest of the history.

use std::path::PathBuf;

use anyhow::{Context, bail};
use frikort_domain::Record;
use frikort_proof::{Receipt, VerifierKey};
use frikort_proto::v1::{GetReceiptRequest, audit_service_client::AuditServiceClient};
use serde::Serialize;

use super::{files, history, keys};
use crate::{Ending, output, profile::Us};

const AFTER_GET: &str = "\
A write is answered with its position; about a second later its receipt can be had, and some seconds
are waited for it. Keep the file as it is: it holds the record, its place in the log, and the signed
checkpoint of the log (c2sp.org/tlog-proof).

Exit codes: 0 it is written; 2 it could not be had.

Example: frikort audit receipt get --position 4711 --out 4711.tlog-proof";

const AFTER_VERIFY: &str = "\
Shows of each file that the record in it stood at its position in the log when the checkpoint in it was
signed; needs the files and the log's verifier keys and nothing else. Prints what was filed.

--json prints one object a line: file, verdict (verified, contradiction or unreadable), partition,
position, recorded_at, type, person_id, version, checkpoint (its size), what (why not). Members are
only ever added.

Exit codes: 0 all are verified; 1 one of them shows nothing, or something else than it says; 2 one
could not be checked: unreadable, or no key of its log.

Example: frikort audit receipt verify --key log.vkey receipts/*.tlog-proof";

/// What is done with receipts.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Fetch the receipt of a record
    Get(Get),
    /// Verify receipts, offline
    Verify(Verify),
}

/// Options of `frikort audit receipt get`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_GET)]
pub(crate) struct Get {
    /// The record's partition.
    #[arg(long, value_name = "N", default_value_t = 0)]
    partition: i32,
    /// The record's position, as the write was answered with it.
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    position: i64,
    /// Where to write it; otherwise it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

/// Options of `frikort audit receipt verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_VERIFY)]
pub(crate) struct Verify {
    /// The receipts.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    keys: keys::Keys,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    command: Command,
    us: impl FnOnce() -> anyhow::Result<Us>,
) -> anyhow::Result<Ending> {
    match command {
        Command::Get(args) => get(args, &us()?).await,
        Command::Verify(args) => verify(&args),
    }
}

async fn get(args: Get, us: &Us) -> anyhow::Result<Ending> {
    let Get { partition, position, out, ledger } = args;
    let request = GetReceiptRequest { partition, position };
    let call = ledger.service(us)?;
    let call = call.call(request, |channel, request| async move {
        AuditServiceClient::new(channel).get_receipt(request).await
    });
    let receipt = call.await?.receipt;
    match out {
        Some(path) => files::replace(&path, receipt.as_bytes())?,
        None => output::text(&receipt)?,
    }
    Ok(Ending::Done)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Verified,
    Unreadable,
    Contradiction,
}

/// What came of one file.
#[derive(Serialize)]
struct Checked {
    file: String,
    verdict: Verdict,
    #[serde(flatten)]
    filed: Option<Filed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
}

/// What was filed.
#[derive(Serialize)]
struct Filed {
    partition: i32,
    position: i64,
    recorded_at: String,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    person_id: Option<String>,
    version: i64,
    checkpoint: u64,
}

fn verify(args: &Verify) -> anyhow::Result<Ending> {
    let keys = args.keys.read()?;
    if keys.is_empty() {
        bail!("--key: name the log's verifier key; without it a receipt shows nothing");
    }
    let mut worst = Verdict::Verified;
    for path in &args.files {
        let file = path.display().to_string();
        let checked = match files::text(path).and_then(|text| text.context("it is not there")) {
            Err(error) => {
                let what = Some(format!("{error:#}"));
                Checked { file, verdict: Verdict::Unreadable, filed: None, what }
            }
            Ok(text) => match check(&text, &keys) {
                Ok(filed) => {
                    Checked { file, verdict: Verdict::Verified, filed: Some(filed), what: None }
                }
                Err((verdict, what)) => Checked { file, verdict, filed: None, what: Some(what) },
            },
        };
        worst = worst.max(checked.verdict);
        let line = if args.json { serde_json::to_string(&checked)? } else { checked.to_string() };
        output::line(&line)?;
    }
    Ok(match worst {
        Verdict::Verified => Ending::Done,
        Verdict::Unreadable => Ending::Unchecked,
        Verdict::Contradiction => Ending::Contradicted,
    })
}

/// Whether a receipt shows what it says, and what that is.
fn check(text: &str, keys: &[VerifierKey]) -> Result<Filed, (Verdict, String)> {
    let wrong = |what: String| (Verdict::Contradiction, what);
    let receipt: Receipt = text.parse().map_err(|e| wrong(format!("{e}")))?;
    let unverified = frikort_proof::Checkpoint::parse_unverified(&receipt.note);
    let unverified = unverified.map_err(|error| wrong(error.to_string()))?;
    if keys.iter().all(|key| *key.name() != unverified.origin) {
        let what = format!("no key of its log was given: {}", unverified.origin.as_str());
        return Err((Verdict::Unreadable, what));
    }
    let checkpoint =
        receipt.verify(keys).map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => wrong(format!("{error}: {cause}")),
            None => wrong(error.to_string()),
        })?;
    let record = history::read(&receipt.record).map_err(|unread| {
        (if unread.unknown { Verdict::Unreadable } else { Verdict::Contradiction }, unread.what)
    })?;
    // The place that the record tells is the one at which it was logged.
    let position = receipt.index.checked_add(1).and_then(|at| i64::try_from(at).ok());
    if Some(record.position) != position || keys::partition(&checkpoint) != Some(record.partition) {
        let Record { partition, position, .. } = record;
        return Err(wrong(format!(
            "the record says partition {partition}, position {position}; it was logged as leaf {} of \
             {}",
            receipt.index,
            checkpoint.origin.as_str()
        )));
    }
    let line: serde_json::Value = serde_json::from_slice(&receipt.record).unwrap_or_default();
    let text = |key: &str| line.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    Ok(Filed {
        partition: record.partition,
        position: record.position,
        recorded_at: text("recorded_at").unwrap_or_default(),
        r#type: text("type").unwrap_or_default(),
        person_id: record.person_id.map(|person| person.to_string()),
        version: record.version,
        checkpoint: checkpoint.size,
    })
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, verdict, filed, what } = self;
        match (filed, what) {
            (Some(filed), _) => {
                let Filed { partition, position, recorded_at, r#type, .. } = filed;
                write!(
                    f,
                    "{file}: verified: {type} at position {position} of partition {partition}, \
                     recorded {recorded_at}"
                )
            }
            (None, what) => {
                let told = match verdict {
                    Verdict::Contradiction => "NOT PROVED",
                    Verdict::Verified | Verdict::Unreadable => "not checked",
                };
                write!(f, "{file}: {told}: {}", what.as_deref().unwrap_or_default())
            }
        }
    }
}
