//! `frikort import`: visitations and payments from CSV files to the ledger.
//!
//! Rows of one person are sent in the order of the file, each after the answer to the one before,
//! since a correction needs its report; persons are sent beside each other. Memory is bounded by
//! a window over the file, whatever its size. What must stay out: rules about cards and payments
//! (the ledger refuses), and a CPR number in anything that is written (line and column instead).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tokio::task::JoinSet;

use crate::{
    Ending,
    client::{CallError, Service},
    output,
    profile::Us,
    progress::Progress,
};

mod answers;
mod catch_up;
mod dialect;
mod feeds;
pub(crate) mod fuzzing;
mod payment;
mod plan;
mod rows;
mod send;
mod summary;
mod turns;
mod visitation;

use answers::Answers;
use catch_up::Reached;
pub(crate) use catch_up::wait as wait_for_projector;
use dialect::Dialect;
use rows::{Entry, Form, Row};
use send::Answer;
use summary::Summary;
use turns::Turns;

/// Rows read ahead of the oldest one without an answer, for each call in flight.
const WINDOW_PER_CALL: usize = 32;

/// Malformed rows that are shown; more are only counted.
const MOST_REPORTS: u64 = 100;

const AFTER: &str = "\
Columns, by name in the header line, in any order; further columns are not looked at:
  visitations  cpr,frikort_id,municipality,decision,decided_on,effective_from,reference
               decision: granted, rejected (with applied_on), deactivated, reactivated, reissued
               (a new frikort_id), reversed
               (a deactivation, named by reversed_reference and, where another municipality had
               decided it, reversed_municipality), transferred (with to_municipality) or controlled
               (also dispensation: true or false); where there is more to say also applied_on and
               criteria: of SOCIAL_PROBLEMS, EDUCATION_LAST_YEAR, INCOME_LAST_YEAR, RESIDENCE and
               AGE, with spaces between
  payments     cpr,employer_cvr,reference,amount,paid_on, and where there is more to say
               action,frikort_id,work_first,work_last,hours,expected_revision,reason
               action: report (also if it is empty), correct (with expected_revision) or cancel
               (with expected_revision and reason: WRONG_PERSON, DUPLICATE, NOT_PAID,
               SUPPORTED_WORK or OTHER)
A reported payment is declared ordinary work.

Danish exports are read as they are: fields separated by `;` or tab, dates 31-01-2025, amounts and
hours 1.234,50, UTF-8 (also with a byte order mark) or Windows-1252, and headers such as CPR-nr.,
CVR-nr., Beløb, Udbetalt, Arbejde fra, Arbejde til, Timer. It says what it took the columns for.
Otherwise dates are 2025-01-31, amounts and hours 1234.50. Decimals are always two.

The answers file has line,result,exempt,taxable: line counts payments from 1; result is recorded,
replayed (the same was recorded before) or the reason of a refusal.

Importing the same file again is safe: what was recorded is answered with replayed.

A pay run can be looked at before it is recorded: --validate-only sends the payments as one run,
records nothing, and writes for every line what it would do after the lines before it (planned in
the place of recorded). It prints control totals and a token; --plan TOKEN records the payments
only if they are that run, line by line; otherwise nothing is recorded (PLAN_MISMATCH). What was
cut off is repeated: the token is about the payments, and stays good. Both are for a file of at
most 100000 reported payments; one that also corrects or cancels is refused. Send visitations
before, and corrections and cancellations with a file of their own.

Exit codes: 0 done, refusals included; 1 a row was malformed (it is named, the rest went on), or
the run was not taken; 2 gave up because the ledger did not answer.

Example:
  frikort import --visitations visitations.csv --payments payments.csv --answers answers.csv
  frikort import --payments run.csv --validate-only --answers plan.csv
  frikort import --payments run.csv --plan 1-5f0c… --answers answers.csv";

/// Options of `frikort import`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// CSV file of municipalities' decisions; sent before the payments.
    #[arg(long, value_name = "FILE", required_unless_present = "payments")]
    visitations: Option<PathBuf>,
    /// CSV file of payments, corrections and cancellations.
    #[arg(long, value_name = "FILE")]
    payments: Option<PathBuf>,
    /// Where to write what became of each payment.
    #[arg(long, value_name = "FILE", requires = "payments")]
    answers: Option<PathBuf>,
    /// Record nothing: tell what each payment would do, the totals, and the run's token.
    #[arg(long, requires = "payments", conflicts_with_all = ["visitations", "plan"])]
    validate_only: bool,
    /// Record the payments only if they are the run that was planned under this token.
    #[arg(long, value_name = "TOKEN", requires = "payments", conflicts_with = "visitations")]
    plan: Option<String>,
    /// Calls under way at once.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: u16,
    /// How long a call is repeated while the ledger does not answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    give_up_after: u64,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
    /// At the end it is waited for, so that questions find all of it.
    #[command(flatten)]
    projector: crate::cli::ProjectorAddress,
}

/// What to import.
pub(crate) struct Files<'a> {
    pub(crate) visitations: Option<&'a Path>,
    pub(crate) payments: Option<&'a Path>,
    pub(crate) answers: Option<&'a Path>,
}

pub(crate) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let patience = Duration::from_secs(args.give_up_after);
    let ledger = args.ledger.service_with(us, patience)?;
    let files = Files {
        visitations: args.visitations.as_deref(),
        payments: args.payments.as_deref(),
        answers: args.answers.as_deref(),
    };
    let summary = match plan::options(args.validate_only, args.plan) {
        Some(options) => plan::run(&ledger, &files, options).await?,
        None => {
            let summary = import(&ledger, &files, usize::from(args.in_flight)).await?;
            output::line(&summary.to_string())?;
            summary
        }
    };
    let projector = args.projector.service_with(us, catch_up::PATIENCE)?;
    catch_up::wait(&projector, &summary.reached).await?;
    Ok(if summary.malformed == 0 { Ending::Done } else { Ending::Incomplete })
}

/// Sends the files, visitations first.
pub(crate) async fn import(
    ledger: &Service,
    files: &Files<'_>,
    in_flight: usize,
) -> anyhow::Result<Summary> {
    let mut summary = Summary::default();
    if let Some(file) = files.visitations {
        let mut import = Import::new(ledger, &visitation::FORM, file, None, &mut summary)?;
        import.run(file, in_flight).await?;
    }
    if let Some(file) = files.payments {
        let mut import = Import::new(ledger, &payment::FORM, file, files.answers, &mut summary)?;
        import.run(file, in_flight).await?;
    }
    Ok(summary)
}

/// One file under way.
struct Import<'a> {
    ledger: &'a Service,
    form: &'static Form,
    answers: Answers,
    turns: Turns,
    progress: Progress,
    summary: &'a mut Summary,
}

impl<'a> Import<'a> {
    fn new(
        ledger: &'a Service,
        form: &'static Form,
        file: &Path,
        answers: Option<&Path>,
        summary: &'a mut Summary,
    ) -> anyhow::Result<Self> {
        let bytes = file.metadata().with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Self {
            ledger,
            form,
            answers: Answers::new(answers)?,
            turns: Turns::default(),
            progress: Progress::new(form.name, bytes.len()),
            summary,
        })
    }

    async fn run(&mut self, file: &Path, in_flight: usize) -> anyhow::Result<()> {
        let result = self.send_all(file, in_flight).await;
        // What was answered is told, however it ended.
        self.answers.flush()?;
        self.progress.finish();
        result
    }

    async fn send_all(&mut self, file: &Path, in_flight: usize) -> anyhow::Result<()> {
        let dialect = Dialect::of(file, self.form.columns)?;
        if !dialect.is_ours() {
            self.progress.note(&format!("{}: {dialect}", self.form.name));
        }
        let mut rows = rows::read(file, self.form, dialect)?;
        let mut calls = JoinSet::new();
        let mut more = true;
        let mut tick = tokio::time::interval(Progress::INTERVAL);
        while more || !calls.is_empty() {
            let room = self.answers.open() < in_flight * WINDOW_PER_CALL;
            tokio::select! {
                row = rows.recv(), if more && room => match row {
                    Some(row) => self.take(row?)?,
                    None => more = false,
                },
                Some(called) = calls.join_next() => {
                    let (entry, answer) = called?;
                    self.answered(&entry, answer)?;
                }
                _ = tick.tick() => self.progress.show(self.ledger.repeating()),
            }
            while calls.len() < in_flight
                && let Some(entry) = self.turns.next()
            {
                let ledger = self.ledger.clone();
                calls.spawn(async move {
                    let answer = send::send(&ledger, &entry).await;
                    (entry, answer)
                });
            }
        }
        Ok(())
    }

    /// Takes in a row: a malformed one is answered at once, the others wait for their turn.
    fn take(&mut self, entry: Entry) -> anyhow::Result<()> {
        self.answers.expect_one_more();
        match entry.malformed() {
            None => self.turns.offer(entry),
            Some(answer) => self.settle(entry.row, &answer)?,
        }
        Ok(())
    }

    fn answered(&mut self, entry: &Entry, answer: Result<Answer, CallError>) -> anyhow::Result<()> {
        self.turns.finished(&entry.person);
        self.settle(entry.row, &answer?)
    }

    fn settle(&mut self, row: Row, answer: &Answer) -> anyhow::Result<()> {
        self.report(row, answer);
        self.summary.count(self.form.name, answer);
        self.progress.advance(row.end_byte);
        self.answers.put(row.number, answer)
    }

    /// Names a malformed row's line and columns, until that gets too much.
    fn report(&mut self, row: Row, answer: &Answer) {
        if answer.faults.is_empty() {
            return;
        }
        self.summary.malformed += 1;
        let said = match self.summary.malformed {
            ..=MOST_REPORTS => answer
                .faults
                .iter()
                .map(|fault| format!("{} line {}: {fault}", self.form.name, row.line))
                .collect::<Vec<_>>()
                .join("\n"),
            n if n == MOST_REPORTS + 1 => "further malformed rows are only counted".to_owned(),
            _ => return,
        };
        self.progress.note(&said);
    }
}
