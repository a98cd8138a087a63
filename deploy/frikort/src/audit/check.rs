//! `frikort audit check`: has the ledger check its own tables, and shows what it tells.
//!
//! The server finds what the database alone shows to be wrong. Whoever does not trust the server
//! verifies an export; checkpoints that were kept elsewhere are worth giving to both.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use frikort_proto::{
    error::Failure,
    instant,
    v1::{
        AcceptedLoss, CheckConcluded, CheckFinding, CheckKind, CheckLedgerRequest,
        CheckLedgerResponse, CheckProgress, audit_service_client::AuditServiceClient,
        check_ledger_response::Item,
    },
};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use tonic::Streaming;

use super::Verdict;
use crate::{
    Ending,
    client::{CallError, MAX_ANSWER_BYTES, Service},
    output,
    profile::Us,
    progress::Progress,
};

const AFTER: &str = "\
The ledger reads everything twice, up to the head as it is now, and slowly, so that payments go on:
in order of position (form, place, instant, hash, tiles, checkpoints), and person by person (versions,
every event decided anew, and the projection's totals, splits, cards and limits held against it).

--checkpoint gives signed checkpoints that were kept elsewhere, as GetCheckpoint answers them: the
history must have each of them as its beginning. A history that was cut short, and everything with
it, is found by nothing else.

--json prints one object with
  verdict         verified, contradiction or incomplete
  findings        how many in all
  told            at most 1000 of them: partition, position (the first concerned), kind (form,
                  position, instant, version, outcome, tile, checkpoint, projection), person_id
                  (null where it is about none), description
  checked         of each partition, up to which position everything was checked
  not_checked     sentences; empty when everything was
  accepted_losses events that were acknowledged once and are lost, as an operator has accepted:
                  partition, first_lost_position, last_lost_position, accepted_at, accepted_by,
                  reason
Members are only ever added.

Exit codes: 0 all of it is verified; 1 a contradiction; 2 not everything could be checked, also when
the server did not come to its end.";

/// How long the server may be silent; it tells how far it is twice a second.
const SILENCE: Duration = Duration::from_secs(30);

/// Options of `frikort audit check`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Only this partition.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// A signed checkpoint that was kept elsewhere; may be given several times.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

/// What came of it; the names are those of `--json`.
#[derive(Serialize)]
struct Report {
    verdict: Verdict,
    findings: i64,
    told: Vec<Told>,
    checked: BTreeMap<i32, i64>,
    not_checked: Vec<String>,
    accepted_losses: Vec<Loss>,
}

/// Events that are lost, as an operator has accepted.
#[derive(Serialize)]
struct Loss {
    partition: i32,
    first_lost_position: i64,
    last_lost_position: i64,
    accepted_at: Option<String>,
    accepted_by: String,
    reason: String,
}

impl From<AcceptedLoss> for Loss {
    fn from(loss: AcceptedLoss) -> Self {
        let accepted_at = loss.accepted_time.and_then(instant);
        Self {
            partition: loss.partition,
            first_lost_position: loss.first_lost_position,
            last_lost_position: loss.last_lost_position,
            accepted_at: accepted_at.and_then(|at| at.format(&Rfc3339).ok()),
            accepted_by: loss.accepted_by,
            reason: loss.reason,
        }
    }
}

#[derive(Serialize)]
struct Told {
    partition: i32,
    position: i64,
    kind: String,
    person_id: Option<String>,
    description: String,
}

impl From<CheckFinding> for Told {
    fn from(finding: CheckFinding) -> Self {
        let kind = kind(finding.kind());
        let CheckFinding { partition, position, person_id, description, .. } = finding;
        let person_id = Some(person_id).filter(|person| !person.is_empty());
        Self { partition, position, kind, person_id, description }
    }
}

impl Told {
    fn line(&self) -> String {
        let Self { partition, position, kind, description, .. } = self;
        let place = match position {
            0 => format!("partition {partition}"),
            _ => format!("partition {partition}, position {position}"),
        };
        format!("CONTRADICTION: {place}: {kind}: {description}")
    }
}

/// `CHECK_KIND_TILE` as `tile`.
fn kind(kind: CheckKind) -> String {
    kind.as_str_name().trim_start_matches("CHECK_KIND_").to_lowercase()
}

pub(super) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let mut checkpoints = Vec::new();
    for file in &args.checkpoint {
        let note = fs::read_to_string(file);
        checkpoints.push(note.with_context(|| file.display().to_string())?);
    }
    let request = CheckLedgerRequest { partition: args.partition, checkpoints };
    let mut items = begin(&args.ledger.service(us)?, request).await?;
    let mut told: Vec<Told> = Vec::new();
    let mut shown: Option<Progress> = None;
    let concluded = loop {
        match next(&mut items).await? {
            // At first nobody knows how much there is.
            Item::Progress(CheckProgress { total: 0, .. }) => {}
            Item::Progress(CheckProgress { done, total }) => {
                let progress =
                    shown.get_or_insert_with(|| Progress::new("check", total.unsigned_abs()));
                progress.reach(done.unsigned_abs());
                progress.show(0);
            }
            Item::Finding(finding) => {
                let finding = Told::from(finding);
                if !args.json {
                    let line = finding.line();
                    shown.as_ref().map_or_else(|| output::note(&line), |p| p.note(&line));
                }
                told.push(finding);
            }
            Item::Concluded(concluded) => break concluded,
        }
    };
    if let Some(progress) = shown {
        progress.finish();
    }
    let report = Report::new(concluded, told);
    if args.json {
        output::line(&serde_json::to_string_pretty(&report)?)?;
    } else {
        output::line(&report.text())?;
    }
    Ok(report.verdict.ending())
}

async fn begin(
    ledger: &Service,
    request: CheckLedgerRequest,
) -> Result<Streaming<CheckLedgerResponse>, CallError> {
    let call = ledger.stream(request, |channel, request| async move {
        let client = AuditServiceClient::new(channel);
        client.max_decoding_message_size(MAX_ANSWER_BYTES).check_ledger(request).await
    });
    call.await
}

/// The next thing told; an end before `concluded` is an error, and so nothing that passes.
async fn next(items: &mut Streaming<CheckLedgerResponse>) -> anyhow::Result<Item> {
    let Ok(message) = tokio::time::timeout(SILENCE, items.message()).await else {
        bail!(
            "the server has told nothing for {} s: not everything was checked",
            SILENCE.as_secs()
        );
    };
    match message {
        Ok(message) => message
            .and_then(|message| message.item)
            .context("the check ended without a conclusion: not everything was checked"),
        Err(status) => Err(Failure::from_status(&status)
            .map_or(CallError::Foreign(status), CallError::Refused)
            .into()),
    }
}

impl Report {
    fn new(concluded: CheckConcluded, told: Vec<Told>) -> Self {
        let CheckConcluded { checked, findings, not_checked, accepted_losses } = concluded;
        let verdict = match (findings, not_checked.is_empty()) {
            (0, true) => Verdict::Verified,
            (0, false) => Verdict::Incomplete,
            _ => Verdict::Contradiction,
        };
        let checked = checked.iter().map(|at| (at.partition, at.position)).collect();
        let accepted_losses = accepted_losses.into_iter().map(Loss::from).collect();
        Self { verdict, findings, told, checked, not_checked, accepted_losses }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (partition, position) in &self.checked {
            text += &format!("partition {partition}: checked up to position {position}\n");
        }
        text += &format!("{} contradictions\n", self.findings);
        for loss in &self.accepted_losses {
            text += &format!(
                "partition {}: the events at positions {} to {}, as they were acknowledged then, are \
                 lost; accepted {} by {}: {}\n",
                loss.partition,
                loss.first_lost_position,
                loss.last_lost_position,
                loss.accepted_at.as_deref().unwrap_or_default(),
                loss.accepted_by,
                loss.reason
            );
        }
        if !self.not_checked.is_empty() {
            text += "\nNot checked:\n";
            for what in &self.not_checked {
                text += &format!("  - {what}\n");
            }
        }
        text += match self.verdict {
            Verdict::Verified => "\nVERIFIED.",
            Verdict::Contradiction => "\nCONTRADICTION.",
            Verdict::Incomplete => {
                "\nINCOMPLETE: no contradiction in what was checked, but not everything was."
            }
        };
        text
    }
}
