//! ReportPayments: a stream of payments, one result an item, in order.
//!
//! Items are taken in chunks of what has arrived, so that a chunk's persons are looked up with one
//! query, and handed to the sequencers in order. Results wait in a bounded queue in the order of
//! the items; while it is full, or the caller's budget is used up (`result_budget.rs`), nothing more
//! is read, and the sender is slowed down.
//!
//! A stream that begins with options is a run: it ends with totals. It may be planned, which
//! records nothing, or committed under a plan's token, which records nothing until the last line
//! was held against it.

use std::{pin::Pin, sync::Arc, time::Duration};

use frikort_access::{Looking, NOBODY};
use frikort_domain::{Amount, Command, FrikortTag, PaymentKey};
use frikort_process::lane::ReplyTo;
use frikort_proto::{
    error::{Failure, Faults},
    v1::{
        ErrorReason, ReportPaymentRequest, ReportPaymentsRequest, ReportPaymentsResponse,
        RunOptions, RunTotals, report_payments_response::Result as Became,
    },
};
use frikort_register::Person;
use futures::{
    Stream, StreamExt,
    stream::{self, Peekable},
};
use prost::Message;
use tokio::{
    sync::{
        mpsc::{self, error::SendError},
        oneshot,
    },
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    payment::{Recorded, subject},
    result_budget::{ResultRoom, StreamBudget},
};
use crate::{
    fail::internal,
    ledger::{Acting, By, Caller, Ledger, Told, only_looked},
    parse::{self, Parsed},
    pay_run::{Content, count_result, count_sent, is_token},
    plan::Plan,
    sequencer::{Ask, Refused, Reply, Request as Question},
};

/// Items of one stream that may be under way.
const WINDOW: usize = 2048;

/// Items looked up together.
const CHUNK: u32 = 256;

/// Items planned together: each may bring an account of any size.
const PLAN_CHUNK: u32 = 64;

/// Runs that may be planned or committed at the same time; each takes up to some 50 MB.
pub(crate) const MAX_RUNS: usize = 4;

/// How long such a run may stand still, waiting for its sender or for who takes its results.
const RUN_PATIENCE: Duration = Duration::from_secs(60);

type Item = Result<ReportPaymentsRequest, Status>;

/// A person as the register knows one, and the tag of the Frikort-ID given beside.
type Found = Option<(Person, Option<FrikortTag>)>;

/// Takes in a stream, and gives its results.
pub(super) fn report_payments(
    ledger: Arc<Ledger>,
    caller: Caller,
    items: Streaming<ReportPaymentsRequest>,
) -> impl Stream<Item = Result<ReportPaymentsResponse, Status>> + Send {
    let (results, queued) = mpsc::channel::<Queued>(WINDOW);
    let (by, looked) = (caller.looking.clone(), ledger.clone());
    let misses = caller.misses.clone();
    let budget = ledger.result_budgets.new_stream(&by.who.name);
    let reporting = Reporting { ledger, caller, results, budget, patience: None };
    tokio::spawn(reporting.take_in(items));
    let mut totals = RunTotals::default();
    // Several at a time, since each may wait for its answer.
    let results = ReceiverStream::new(queued)
        .map(move |Queued { pending, room }| {
            let result = pending.result(looked.clone(), by.clone());
            async move { (result.await, room) }
        })
        .buffered(CHUNK as usize);
    results.zip(stream::iter(0_i64..)).map(move |((result, room), index)| {
        // The result is taken.
        drop(room);
        let mut result = result?;
        if matches!(&result, Became::Refused(refusal) if refusal.reason() == ErrorReason::NoCard) {
            misses.count(1);
        }
        count_result(&mut totals, &mut result);
        Ok(ReportPaymentsResponse { index, result: Some(result) })
    })
}

/// The result of one item, or what it waits for.
enum Pending {
    Refused(Failure),
    Asked {
        person: Person,
        key: PaymentKey,
        amount: Amount,
        validate_only: bool,
        reply: oneshot::Receiver<Reply>,
    },
    Planned(Box<Recorded>),
    /// What was sent; what came of it is added where the results are.
    Totals(RunTotals),
    /// The stream ends here, with an error of its own.
    Broken(Status),
}

impl Pending {
    async fn result(self, ledger: Arc<Ledger>, by: Looking) -> Result<Became, Status> {
        let result = match self {
            Self::Refused(failure) => Err(failure),
            Self::Asked { person, key, amount, validate_only, reply } => {
                let reply = reply.await.unwrap_or(Err(Refused::Internal));
                let outcome = reply.map_err(Failure::from);
                let noted = match only_looked(validate_only, outcome.as_ref()) {
                    true => ledger.look(&by, Some(person.id)),
                    false => Ok(()),
                };
                noted.and(outcome).and_then(|answer| {
                    let recorded = Recorded { told: Told::new(&person, answer), key, amount };
                    recorded.report_response(&by.who)
                })
            }
            Self::Planned(recorded) => recorded.report_response(&by.who),
            Self::Totals(totals) => return Ok(Became::Totals(totals)),
            Self::Broken(status) => return Err(status),
        };
        Ok(match result {
            Ok(recorded) => Became::Recorded(recorded),
            Err(failure) => {
                frikort_process::serve::tell_refused(&failure);
                Became::Refused(failure.into())
            }
        })
    }
}

/// A result in the queue. The last one of a chunk holds the room of all of them: it is taken last.
struct Queued {
    pending: Pending,
    room: Option<ResultRoom>,
}

impl From<Pending> for Queued {
    fn from(pending: Pending) -> Self {
        Self { pending, room: None }
    }
}

/// Why a stream is not read to its end.
enum End {
    /// Nobody takes the results any more.
    Gone,
    Broken(Status),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure.into())
    }
}

impl From<SendError<Queued>> for End {
    fn from(_: SendError<Queued>) -> Self {
        Self::Gone
    }
}

/// What the options of a run ask for.
enum Mode {
    Record,
    Plan,
    Commit(String),
}

impl Mode {
    fn of(first: ReportPaymentsRequest, options: RunOptions) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        if first.payment.is_some() {
            faults.note("payment", "must be left out of the message that holds run");
        }
        let RunOptions { validate_only, plan_token } = options;
        if !plan_token.is_empty() && validate_only {
            faults.note("run.plan_token", "must be left out with validate_only");
        } else if !plan_token.is_empty() && !is_token(&plan_token) {
            faults.note("run.plan_token", "must be a token that a plan was answered with");
        }
        faults.finish(Some(match (validate_only, plan_token.is_empty()) {
            (true, _) => Self::Plan,
            (false, true) => Self::Record,
            (false, false) => Self::Commit(plan_token),
        }))
    }
}

/// One stream that is being read.
struct Reporting {
    ledger: Arc<Ledger>,
    caller: Caller,
    results: mpsc::Sender<Queued>,
    budget: StreamBudget,
    /// How long it may stand still; without limit unless it takes one of few places.
    patience: Option<Duration>,
}

impl Reporting {
    /// Reads a stream to its end, or until the process stops or the caller goes.
    async fn take_in(self, items: Streaming<ReportPaymentsRequest>) {
        // Room for the last word, also when the results are not taken.
        let Ok(last) = self.results.clone().reserve_owned().await else { return };
        if let Err(End::Broken(status)) = self.read(items).await {
            last.send(Pending::Broken(status).into());
        }
    }

    async fn read(mut self, mut items: Streaming<ReportPaymentsRequest>) -> Result<(), End> {
        let Some(first) = self.next(&mut items).await? else { return Ok(()) };
        let mut first = first.map_err(|status| End::Broken(stream_error(status)))?;
        let Some(options) = first.run.take() else {
            let items = stream::iter([Ok(first)]).chain(items);
            return self.record(items, false).await.map(drop);
        };
        let token = match Mode::of(first, options)? {
            Mode::Record => {
                let totals = self.record(items, true).await?;
                return self.send(Pending::Totals(totals).into()).await;
            }
            Mode::Plan => None,
            Mode::Commit(token) => Some(token),
        };
        let place = self.ledger.runs.take(&self.caller.looking.who)?;
        self.patience = Some(RUN_PATIENCE);
        let totals = match token {
            Some(token) => self.commit(items, &token).await?,
            None => self.plan(items).await?,
        };
        // Before the last word: whoever hears it may begin the next run.
        drop(place);
        self.send(Pending::Totals(totals).into()).await
    }

    /// Records items as they come.
    async fn record(
        &self,
        items: impl Stream<Item = Item> + Unpin,
        in_run: bool,
    ) -> Result<RunTotals, End> {
        let mut totals = RunTotals::default();
        let mut arriving = items.peekable();
        while let Some((chunk, room)) = self.next_chunk(&mut arriving, CHUNK).await? {
            let (items, broken) = sound_part(chunk, in_run);
            let today = self.ledger.today();
            let parsed = items.into_iter().map(|item| {
                count_sent(&mut totals, item.payment.as_ref());
                let payment = required(item)?;
                let validate_only = payment.validate_only;
                Ok((self.acting(parse::report(payment, today)?)?, validate_only))
            });
            self.ask_all(parsed.collect(), room).await?;
            broken?;
        }
        Ok(totals)
    }

    /// Reads the whole run, and records it if it bears this token.
    async fn commit(
        &self,
        items: impl Stream<Item = Item> + Unpin,
        token: &str,
    ) -> Result<RunTotals, End> {
        let mut totals = RunTotals::default();
        let mut content = Content::new(self.ledger.register.text_tag());
        let mut lines = Vec::new();
        let mut chunks = items.ready_chunks(CHUNK as usize);
        while let Some(chunk) = self.next(&mut chunks).await? {
            let (items, broken) = sound_part(chunk, true);
            broken?;
            for item in items {
                let line = item.payment.unwrap_or_default();
                lines.push(content.take(&line)?);
                count_sent(&mut totals, Some(&line));
            }
        }
        content.check(token)?;
        let mut lines = stream::iter(lines).peekable();
        while let Some((chunk, room)) = self.next_chunk(&mut lines, CHUNK).await? {
            let today = self.ledger.today();
            let parsed = chunk.into_iter().map(|line| {
                let line = ReportPaymentRequest::decode_length_delimited(line.as_ref());
                let parsed = parse::report(line.map_err(|_| internal())?, today)?;
                Ok((self.acting(parsed)?, false))
            });
            self.ask_all(parsed.collect(), room).await?;
        }
        Ok(totals)
    }

    /// Tells for each line what it would do after those before it.
    async fn plan(&self, items: impl Stream<Item = Item> + Unpin) -> Result<RunTotals, End> {
        let mut totals = RunTotals::default();
        let mut content = Content::new(self.ledger.register.text_tag());
        let mut plan = Plan::new(self.ledger.clone(), self.caller.clone().asking());
        let mut arriving = items.peekable();
        while let Some((chunk, room)) = self.next_chunk(&mut arriving, PLAN_CHUNK).await? {
            let (items, mut broken) = sound_part(chunk, true);
            let mut parsed = Vec::with_capacity(items.len());
            for item in items {
                let line = item.payment.unwrap_or_default();
                if let Err(too_large) = content.take(&line) {
                    broken = Err(too_large.into());
                    break;
                }
                count_sent(&mut totals, Some(&line));
                let line = parse::report(line, plan.today);
                parsed.push(line.and_then(|line| Ok(self.acting(line)?.parsed)));
            }
            self.plan_all(&mut plan, parsed, room).await?;
            broken?;
        }
        Ok(RunTotals { plan_token: content.token(), ..totals })
    }

    /// Plans a chunk. A plan that cannot be made whole is none, so what cannot be read breaks it.
    async fn plan_all(
        &self,
        plan: &mut Plan,
        lines: Vec<Result<Parsed, Failure>>,
        room: ResultRoom,
    ) -> Result<(), End> {
        self.caller.misses.allowed()?;
        let mut found = self.find(lines.iter().flatten()).await?.into_iter();
        let lines: Vec<_> = lines
            .into_iter()
            .map(|line| line.map(|parsed| (parsed, found.next().flatten())))
            .collect();
        let persons = lines.iter().flatten().filter_map(|(_, found)| Some(&found.as_ref()?.0));
        plan.load(persons).await?;
        let looked = lines.iter().flatten().map(|(_, found)| found.as_ref());
        self.note(looked)?;
        let (mut left, mut room) = (lines.len(), Some(room));
        for line in lines {
            let pending = match line {
                Err(failure) => Pending::Refused(failure),
                Ok((parsed, found)) => self.plan_one(plan, parsed.command, found),
            };
            left -= 1;
            self.send(Queued { pending, room: room.take_if(|_| left == 0) }).await?;
        }
        Ok(())
    }

    fn plan_one(&self, plan: &mut Plan, mut command: Command, found: Found) -> Pending {
        let Some((key, amount)) = subject(&command) else { return Pending::Refused(internal()) };
        let Some((person, frikort)) = found else { return self.unknown(&command) };
        command.name_frikort(frikort);
        let Command::ReportPayment(report) = command else { return Pending::Refused(internal()) };
        match plan.next(&person, report) {
            Ok(answer) => {
                let told = Told::new(&person, answer);
                Pending::Planned(Box::new(Recorded { told, key, amount }))
            }
            Err(refused) => Pending::Refused(refused.into()),
        }
    }

    /// Looks up a chunk's persons with one query, and asks for each item in order.
    async fn ask_all(
        &self,
        mut items: Vec<Result<(Acting, bool), Failure>>,
        room: ResultRoom,
    ) -> Result<(), End> {
        if let Err(failure) = self.caller.misses.allowed() {
            items.iter_mut().for_each(|item| *item = Err(failure.clone()));
        }
        let found = self.find(items.iter().flatten().map(|(acting, _)| &acting.parsed)).await;
        if let Ok(found) = &found {
            self.note(found.iter().map(Option::as_ref).filter(Option::is_none))?;
        }
        let mut found = found.map(Vec::into_iter);
        let (mut left, mut room) = (items.len(), Some(room));
        for item in items {
            let pending = match (item, &mut found) {
                (Err(failure), _) => Pending::Refused(failure),
                (Ok(_), Err(failure)) => Pending::Refused(failure.clone()),
                (Ok((acting, validate_only)), Ok(found)) => {
                    let person = found.next().flatten();
                    self.ask_one(acting, person, validate_only).await
                }
            };
            left -= 1;
            self.send(Queued { pending, room: room.take_if(|_| left == 0) }).await?;
        }
        Ok(())
    }

    /// The caller, acting for the employer whom a line names.
    fn acting(&self, line: Parsed) -> Result<Acting, Failure> {
        self.caller.clone().acting(line)
    }

    async fn ask_one(&self, acting: Acting, found: Found, validate_only: bool) -> Pending {
        let Acting { parsed: Parsed { mut command, .. }, by, .. } = acting;
        let Some((key, amount)) = subject(&command) else { return Pending::Refused(internal()) };
        let Some((person, frikort)) = found else { return self.unknown(&command) };
        command.name_frikort(frikort);
        let handle = match self.ledger.sequencer(person.partition) {
            Ok(handle) => handle,
            Err(failure) => return Pending::Refused(failure),
        };
        let (reply_to, reply) = ReplyTo::here();
        let ask = Ask::Command((&person).into(), command);
        let By { actor, trace_id } = by;
        handle.hand_in(Question { ask, validate_only, actor, trace_id, reply: reply_to }).await;
        Pending::Asked { person, key, amount, validate_only, reply }
    }

    /// Somebody who is in nobody's register.
    fn unknown(&self, command: &Command) -> Pending {
        Pending::Refused(self.ledger.decide_unknown(command).err().unwrap_or_else(internal))
    }

    async fn find(&self, lines: impl Iterator<Item = &Parsed>) -> Result<Vec<Found>, Failure> {
        let named: Vec<_> = lines.map(|parsed| &parsed.named).collect();
        let found = self.ledger.register.find_named(&named).await;
        found.map_err(|error| self.ledger.read_failed(error))
    }

    /// Notes a chunk's look-ups, of somebody or of nobody (W4).
    fn note<'a>(
        &self,
        found: impl Iterator<Item = Option<&'a (Person, Option<FrikortTag>)>>,
    ) -> Result<(), Failure> {
        let id = |found: Option<&(Person, _)>| found.map_or(NOBODY, |(person, _)| person.id);
        let persons: Vec<_> = found.map(id).collect();
        self.ledger.lookups.note(&self.caller.looking, "", &persons)
    }

    /// What comes next, unless the process stops.
    async fn next<T>(&self, items: &mut (impl Stream<Item = T> + Unpin)) -> Result<Option<T>, End> {
        self.unless_stopped(items.next()).await
    }

    /// The next items of those that have arrived, as far as there is room for their results, and that
    /// room; unless the process stops.
    async fn next_chunk<S: Stream + Unpin>(
        &self,
        items: &mut Peekable<S>,
        most: u32,
    ) -> Result<Option<(Vec<S::Item>, ResultRoom)>, End> {
        // A stream that stands still reserves nothing; one that waits for room holds one item.
        if self.unless_stopped(Pin::new(&mut *items).peek()).await?.is_none() {
            return Ok(None);
        }
        let reserved = self.unless_stopped(self.budget.reserve(most)).await?;
        let mut room = reserved.map_err(|_| internal())?;
        let chunk = items.ready_chunks(room.results()).next().await.unwrap_or_default();
        room.shrink_to(chunk.len());
        Ok(Some((chunk, room)))
    }

    /// What a step gives, unless the process stops.
    async fn unless_stopped<T>(&self, step: impl Future<Output = T>) -> Result<T, End> {
        tokio::select! {
            done = in_time(self.patience, step) => Ok(done?),
            () = self.ledger.stop.cancelled() => Err(Failure::from(Refused::ShuttingDown).into()),
        }
    }

    /// Waits for room where results wait to be taken.
    async fn send(&self, queued: Queued) -> Result<(), End> {
        Ok(in_time(self.patience, self.results.send(queued)).await??)
    }
}

/// Waits for a step, but not longer than there is patience for.
async fn in_time<T>(
    patience: Option<Duration>,
    step: impl Future<Output = T>,
) -> Result<T, Failure> {
    let Some(patience) = patience else { return Ok(step.await) };
    timeout(patience, step).await.map_err(|_| {
        let message = format!(
            "the run stood still for {} seconds, and gave up its place; repeat it",
            patience.as_secs()
        );
        Failure::new(ErrorReason::Overloaded, message)
    })
}

/// The items before the one that breaks the stream, if one does.
fn sound_part(chunk: Vec<Item>, in_run: bool) -> (Vec<ReportPaymentsRequest>, Result<(), End>) {
    let mut sound = Vec::with_capacity(chunk.len());
    for item in chunk {
        let checked = item.map_err(|status| End::Broken(stream_error(status)));
        match checked.and_then(|item| Ok(check_place(item, in_run)?)) {
            Ok(item) => sound.push(item),
            Err(end) => return (sound, Err(end)),
        }
    }
    (sound, Ok(()))
}

/// Whoever asks for a plan too late, or within a run that is recorded, must not believe that
/// nothing is recorded.
fn check_place(
    item: ReportPaymentsRequest,
    in_run: bool,
) -> Result<ReportPaymentsRequest, Failure> {
    let mut faults = Faults::default();
    if item.run.is_some() {
        faults.note("run", "is allowed in the first message of the stream only");
    }
    if in_run && item.payment.as_ref().is_some_and(|payment| payment.validate_only) {
        faults.note("payment.validate_only", "must be false on a stream with run");
    }
    faults.finish(Some(item))
}

fn required(item: ReportPaymentsRequest) -> Result<ReportPaymentRequest, Failure> {
    let mut faults = Faults::default();
    let payment = faults.required("payment", item.payment);
    faults.finish(payment)
}

/// What breaks a stream: a message that cannot be read is the sender's fault, anything else the
/// transport's.
fn stream_error(status: Status) -> Status {
    frikort_process::serve::unreadable(&status).map_or(status, Status::from)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_run_that_stands_still_gives_up_its_place() {
        let patience = Some(Duration::from_millis(1));
        let failure = in_time(patience, pending::<()>()).await.unwrap_err();
        assert_eq!(failure.reason, ErrorReason::Overloaded);
        assert!(failure.retry_delay().is_some());
        assert_eq!(in_time(patience, ready(7)).await, Ok(7));
        assert_eq!(in_time(None, ready(7)).await, Ok(7));
    }
}
