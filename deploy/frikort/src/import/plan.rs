//! `frikort import` of a whole run: planned with `--validate-only`, or recorded under the token of
//! a plan with `--plan`. One stream in the order of the file, since each line is looked at after
//! those before it, and the token is about their order.
//!
//! What must stay out: what a line would do, and whether it is the same run; the ledger says.

use std::{collections::VecDeque, path::Path};

use anyhow::{Context, bail};
use frikort_proto::{
    error::Failure,
    v1::{
        ReportPaymentRequest, ReportPaymentsRequest, ReportPaymentsResponse, RunOptions, RunTotals,
        payment_service_client::PaymentServiceClient, report_payments_response::Result as Became,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use super::{
    Files, Import, Summary,
    dialect::Dialect,
    payment,
    rows::{self, Entry, Row},
    send::{Answer, Command, refusal},
};
use crate::{
    client::Service,
    money, output,
    progress::Progress,
    table::{self, Align},
};

/// Lines between the file and the connection.
const CHANNEL: usize = 256;

/// What the command line asks for; `None` for an import without a plan.
pub(super) fn options(validate_only: bool, plan: Option<String>) -> Option<RunOptions> {
    let given = validate_only || plan.is_some();
    given.then(|| RunOptions { validate_only, plan_token: plan.unwrap_or_default() })
}

/// Sends the payments as one run, and shows its totals. Repeated from the first line while that
/// can help: a plan records nothing, and what was recorded is replayed.
pub(super) async fn run(
    ledger: &Service,
    files: &Files<'_>,
    options: RunOptions,
) -> anyhow::Result<Summary> {
    let file = files.payments.context("a run is of payments")?;
    check_only_reports(file).await?;
    let validate_only = options.validate_only;
    let attempt = |channel, options: Request<RunOptions>| {
        attempt(ledger, channel, options.into_inner(), file, files.answers)
    };
    let (summary, totals) = ledger.stream(options, attempt).await??;
    output::line(&summary.to_string())?;
    output::line(&shown(&totals, validate_only))?;
    if validate_only {
        output::line(&format!(
            "Nothing is recorded. To record exactly this run:\n  \
             frikort import --payments {} --plan {}",
            file.display(),
            totals.plan_token
        ))?;
    }
    Ok(summary)
}

/// A correction or a cancellation is about a revision, and a plan has none. Looked for before
/// anything is sent.
async fn check_only_reports(file: &Path) -> anyhow::Result<()> {
    let mut rows = rows::read(file, &payment::FORM, Dialect::of(file, payment::FORM.columns)?)?;
    while let Some(row) = rows.recv().await {
        let Entry { row, command, .. } = row?;
        if command.is_ok_and(|command| !matches!(command, Command::Report(_))) {
            bail!(
                "payments line {} is a correction or a cancellation, and a plan is of reports only; \
                 send those with a file of their own, without --validate-only and --plan",
                row.line
            );
        }
    }
    Ok(())
}

fn shown(totals: &RunTotals, validate_only: bool) -> String {
    let mut table = table::new(&["Control totals", ""], &[Align::Left, Align::Right]);
    let recorded = if validate_only { "Would be recorded" } else { "Recorded" };
    let rows = [
        ("Lines", totals.lines.to_string()),
        ("Sum", money::danish(totals.sum_oere)),
        ("Exempt", money::danish(totals.exempt_oere)),
        ("Taxable", money::danish(totals.taxable_oere)),
        (recorded, totals.recorded.to_string()),
        ("There already", totals.already_there.to_string()),
        ("There with other content", totals.changed.to_string()),
        ("Refused", totals.refused.to_string()),
    ];
    for (what, value) in rows {
        table.add_row([what.to_owned(), value]);
    }
    // They count above too, and are there to be looked at.
    let warnings = [
        ("Of these, possible duplicates", totals.possible_duplicates),
        ("Of these, changed since", totals.changed_since),
    ];
    for (what, lines) in warnings.into_iter().filter(|(_, lines)| *lines > 0) {
        table.add_row([what.to_owned(), lines.to_string()]);
    }
    table.to_string()
}

/// Why an attempt ends early.
enum Stop {
    /// The stream's; it may be worth another attempt.
    Status(Status),
    /// The file's, or the terminal's.
    Local(anyhow::Error),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(error)
    }
}

type Done = (Summary, RunTotals);

async fn attempt(
    ledger: &Service,
    channel: Channel,
    options: RunOptions,
    file: &Path,
    answers: Option<&Path>,
) -> Result<Response<anyhow::Result<Done>>, Status> {
    match send(ledger, channel, options, file, answers).await {
        Ok(done) => Ok(Response::new(Ok(done))),
        Err(Stop::Local(error)) => Ok(Response::new(Err(error))),
        Err(Stop::Status(status)) => Err(status),
    }
}

async fn send(
    ledger: &Service,
    channel: Channel,
    options: RunOptions,
    file: &Path,
    answers: Option<&Path>,
) -> Result<Done, Stop> {
    let mut summary = Summary::default();
    let import = Import::new(ledger, &payment::FORM, file, answers, &mut summary)?;
    let (sender, messages) = mpsc::channel(CHANNEL);
    let validate_only = options.validate_only;
    let first = ReportPaymentsRequest { run: Some(options), ..ReportPaymentsRequest::default() };
    sender.try_send(first).context("the first message found no room")?;
    let mut client = PaymentServiceClient::new(channel);
    let results = client.report_payments(ReceiverStream::new(messages)).await?.into_inner();
    let mut sending = Sending {
        import,
        validate_only,
        sender: Some(sender),
        sent: VecDeque::new(),
        next: None,
        totals: None,
    };
    let result = sending.all(file, results).await;
    sending.import.answers.flush()?;
    sending.import.progress.finish();
    result?;
    let cut_off = || Status::unavailable("the stream ended before its totals");
    let totals = sending.totals.take().ok_or_else(cut_off)?;
    Ok((summary, totals))
}

/// One attempt under way.
struct Sending<'a> {
    import: Import<'a>,
    validate_only: bool,
    /// Dropped behind the last line: that ends the run.
    sender: Option<mpsc::Sender<ReportPaymentsRequest>>,
    /// Lines without a result, the oldest first.
    sent: VecDeque<Row>,
    /// A line that waits for room.
    next: Option<(Row, ReportPaymentRequest)>,
    totals: Option<RunTotals>,
}

impl Sending<'_> {
    async fn all(
        &mut self,
        file: &Path,
        mut results: Streaming<ReportPaymentsResponse>,
    ) -> Result<(), Stop> {
        let form = self.import.form;
        let dialect = Dialect::of(file, form.columns)?;
        if !dialect.is_ours() {
            self.import.progress.note(&format!("{}: {dialect}", form.name));
        }
        let mut rows = rows::read(file, form, dialect)?;
        let mut tick = tokio::time::interval(Progress::INTERVAL);
        loop {
            let sender = self.sender.clone();
            let room = async { sender?.reserve_owned().await.ok() };
            tokio::select! {
                row = rows.recv(), if self.sender.is_some() && self.next.is_none() => match row {
                    Some(row) => self.take(row?)?,
                    None => self.sender = None,
                },
                room = room, if self.next.is_some() => {
                    let line = self.next.take();
                    if let (Some(room), Some((row, payment))) = (room, line) {
                        let payment = Some(payment);
                        room.send(ReportPaymentsRequest { payment, run: None });
                        self.sent.push_back(row);
                    } else {
                        // The ledger has ended the stream; why, is behind the results.
                        self.sender = None;
                    }
                },
                result = results.message() => match result? {
                    Some(result) => self.became(result)?,
                    None => return Ok(()),
                },
                _ = tick.tick() => self.import.progress.show(self.import.ledger.repeating()),
            }
        }
    }

    fn take(&mut self, entry: Entry) -> anyhow::Result<()> {
        self.import.answers.expect_one_more();
        match entry.command {
            Ok(Command::Report(payment)) => self.next = Some((entry.row, payment)),
            Ok(_) => bail!("payments line {} was another one just now", entry.row.line),
            Err(faults) => {
                let malformed = Answer { faults, ..Answer::refused("INVALID_FIELD") };
                self.import.settle(entry.row, &malformed)?;
            }
        }
        Ok(())
    }

    fn became(&mut self, result: ReportPaymentsResponse) -> anyhow::Result<()> {
        let answer = match result.result.context("a result without content")? {
            Became::Totals(totals) => {
                self.totals = Some(totals);
                return Ok(());
            }
            Became::Refused(refused) => refusal(&Failure::from(refused)),
            Became::Recorded(answer) if !self.validate_only => Answer::reported(answer),
            Became::Recorded(answer) => {
                let answer = Answer { recorded: None, ..Answer::reported(answer) };
                let result = if answer.result == "recorded" { "planned" } else { answer.result };
                Answer { result, ..answer }
            }
        };
        let row = self.sent.pop_front().context("a result for a line that was not sent")?;
        self.import.settle(row, &answer)
    }
}
