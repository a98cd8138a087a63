//! The sequencer: one task per partition that decides and appends, batch by batch.
//!
//! ```text
//!   callers ──▶ bounded queue ──▶ drain ─▶ load accounts ─▶ decide each ─▶ append ─▶ answer all
//!                                   ▲                                        │
//!                                   └──── read on, decide again ◀── head moved by another ledger
//! ```
//!
//! There is no timer: while one batch commits, the next one gathers. Nobody is answered before
//! the commit, since an answer may rest on an event of the same batch. A batch without events is
//! held against the head as well, since another ledger may have moved it.
//!
//! Start-up, another ledger's events and recovery after an error are one function:
//! [`Sequencer::synchronize`]. What must stay out: gRPC, CPR numbers, rules about payments.

use std::time::Duration;

use frikort_domain::{
    Account, Actor, Card, Command, Contradiction, Decision, Event, FrikortTag, LimitEntry,
    PaymentKey, PaymentOutcome, PaymentState, PersonId, Record, RecordError, Rejection,
    copenhagen_date, decide,
};
use frikort_event_store::{
    Appended, Appender, Batch, Direction, EventStore, Head, PARTITION_STREAM, StoreError,
};
use frikort_process::clock::Clock;
use time::{Date, OffsetDateTime};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use crate::{cache::Accounts, limits::Limits};

/// Requests that may wait for one partition. A full queue answers `OVERLOADED` at once.
const QUEUE: usize = 8192;

/// Requests decided together; caps how long a caller waits for others.
const MAX_BATCH: usize = 512;

/// Events read at a time when catching up with another ledger.
const PAGE: i64 = 1000;

/// How long a database call may take before its outcome is looked for on another connection.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long callers wait for an unknown outcome to be resolved before they are told that it is
/// unknown.
const RESOLVE_TIMEOUT: Duration = Duration::from_millis(700);

/// How long a batch may lose the race for the head against other ledgers.
const CONTENTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before the database is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// One question to a partition.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    /// Answer what would happen, and record nothing.
    pub(crate) validate_only: bool,
    pub(crate) actor: Actor,
    pub(crate) trace_id: Option<String>,
    pub(crate) reply: oneshot::Sender<Reply>,
}

#[derive(Debug)]
pub(crate) enum Ask {
    /// Decide a command about a person.
    Command(PersonId, Command),
    /// The card as it is now of the person who has this Frikort-ID, where one is given.
    Card(PersonId, Option<FrikortTag>),
    /// Record a limit in this partition.
    SetLimit(LimitEntry),
    /// The limits on record.
    Limits,
}

pub(crate) type Reply = Result<Answer, Refused>;

/// What a caller is told.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Where it was recorded, or as of which position it is said.
    pub(crate) position: i64,
    pub(crate) recorded_at: Option<OffsetDateTime>,
    /// It had been recorded before.
    pub(crate) replayed: bool,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Payment(PaymentOutcome),
    /// The card, and the accepted payments that lie after it.
    Card(Card, Vec<(PaymentKey, PaymentState)>),
    Limit,
    Limits(Vec<LimitEntry>),
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// A rule. Nothing was recorded.
    Rejected(Rejection),
    /// A queue is full, or other ledgers were quicker for too long. Nothing was recorded.
    Overloaded,
    /// The database is away; the outcome may be unknown.
    StoreUnavailable,
    /// The process is stopping. Nothing was recorded.
    ShuttingDown,
    /// A fault of ours, in the log.
    Internal,
}

/// What stops a batch or the partition.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the store did not answer in time")]
    Timeout,
    #[error("the record at position {0} cannot be read")]
    Record(i64, #[source] RecordError),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

impl Fault {
    /// Passing: the database will come back. Anything else is a contradiction.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Timeout | Self::Store(StoreError::Unavailable(_)))
    }
}

/// The way to a partition's sequencer.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    queue: mpsc::Sender<Request>,
}

impl Handle {
    /// Asks, or is refused at once when the queue is full.
    pub(crate) async fn ask(
        &self,
        ask: Ask,
        validate_only: bool,
        actor: Actor,
        trace_id: Option<String>,
    ) -> Reply {
        let (reply, answer) = oneshot::channel();
        let request = Request { ask, validate_only, actor, trace_id, reply };
        self.queue.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Refused::ShuttingDown,
        })?;
        answer.await.unwrap_or(Err(Refused::Internal))
    }

    /// Hands in a request of a stream, waiting for room: a stream slows its sender down instead.
    pub(crate) async fn hand_in(&self, request: Request) {
        if let Err(mpsc::error::SendError(request)) = self.queue.send(request).await {
            // The caller may be gone; then there is nobody to tell.
            let _ = request.reply.send(Err(Refused::ShuttingDown));
        }
    }
}

/// One partition's writer.
pub(crate) struct Sequencer {
    partition: i32,
    store: EventStore,
    appender: Appender,
    clock: Clock,
    queue: mpsc::Receiver<Request>,
    accounts: Accounts,
    limits: Limits,
    /// Where the cached state stands.
    head: Head,
    /// Whether the cached state is known to stand at the partition's head.
    synchronized: bool,
    /// A call of ours may still be under way somewhere; it must be shut out first.
    open_call: bool,
    /// Whether the partition can be written.
    sound: watch::Sender<bool>,
    /// Told after each commit.
    committed: watch::Sender<i64>,
}

/// A decided batch that is not committed yet.
struct Draft {
    events: Batch,
    replies: Vec<Reply>,
    /// Accounts that have moved on with it.
    touched: Vec<PersonId>,
    limits_before: Option<Limits>,
}

impl Sequencer {
    /// A sequencer, the way to it, and what it tells: whether it is sound, and each commit.
    pub(crate) fn new(
        partition: i32,
        store: EventStore,
        appender: Appender,
        clock: Clock,
        cached_payments: usize,
    ) -> (Self, Handle, watch::Receiver<bool>, watch::Receiver<i64>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (sound, is_sound) = watch::channel(false);
        let (committed, commits) = watch::channel(0);
        let sequencer = Self {
            partition,
            store,
            appender,
            clock,
            queue,
            accounts: Accounts::new(cached_payments),
            limits: Limits::default(),
            head: Head { position: 0, fence: 0, recorded_at: None },
            synchronized: false,
            // A predecessor of this process may have left one.
            open_call: true,
            sound,
            committed,
        };
        (sequencer, Handle { queue: sender }, is_sound, commits)
    }

    /// Runs until every [`Handle`] is dropped and the queue is empty.
    pub(crate) async fn run(mut self) {
        let mut requests = Vec::with_capacity(MAX_BATCH);
        loop {
            if !self.synchronized {
                let synchronized = self.synchronize().await;
                self.note_health(&synchronized);
            }
            let waiting = self.queue.recv_many(&mut requests, MAX_BATCH);
            let received = if self.synchronized {
                waiting.await
            } else {
                // Try again soon, asked or not, so that health tells when it works again.
                match timeout(RETRY_PAUSE, waiting).await {
                    Ok(received) => received,
                    Err(_) => continue,
                }
            };
            if received == 0 {
                return;
            }
            // Who has gone does not want it recorded any more; the next batch has room for it.
            requests.retain(|request| !request.reply.is_closed());
            self.process(&mut requests).await;
        }
    }

    /// Decides and appends one batch, and answers everybody in it.
    async fn process(&mut self, requests: &mut Vec<Request>) {
        let deadline = Instant::now() + CONTENTION_TIMEOUT;
        let refused = loop {
            match self.attempt(requests).await {
                Ok(Some(replies)) => {
                    self.note_health(&Ok(()));
                    for (request, reply) in requests.drain(..).zip(replies) {
                        // Somebody who has gone meanwhile finds the answer by asking again.
                        let _ = request.reply.send(reply);
                    }
                    return;
                }
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => break Refused::Overloaded,
                Err(fault) => {
                    let passing = fault.is_passing();
                    self.note_health(&Err(fault));
                    break if passing { Refused::StoreUnavailable } else { Refused::Internal };
                }
            }
        };
        for request in requests.drain(..) {
            let _ = request.reply.send(Err(refused.clone()));
        }
    }

    /// One try: `None` when the head was moved by another ledger.
    async fn attempt(&mut self, requests: &[Request]) -> Result<Option<Vec<Reply>>, Fault> {
        if !self.synchronized {
            self.synchronize().await?;
        }
        self.load(requests).await?;
        let draft = self.decide_all(requests)?;
        if draft.events.is_empty() {
            let head = in_time(self.appender.head()).await?;
            self.synchronized = head == self.head;
            return Ok(self.synchronized.then_some(draft.replies));
        }
        match self.append(&draft.events).await {
            Ok(Appended::Yes) => {
                self.head = draft.events.head_after(self.head);
                self.committed.send_replace(self.head.position);
                self.accounts.shrink();
                Ok(Some(draft.replies))
            }
            Ok(Appended::HeadMoved) => {
                self.undo(draft);
                self.synchronized = false;
                Ok(None)
            }
            Err(fault) => {
                self.undo(draft);
                self.synchronized = false;
                self.open_call = true;
                Err(fault)
            }
        }
    }

    /// Appends; after an error, finds out what became of it before anybody is answered.
    async fn append(&mut self, events: &Batch) -> Result<Appended, Fault> {
        let fault = match in_time(self.appender.append(self.head, events)).await {
            Ok(appended) => return Ok(appended),
            Err(fault) => fault,
        };
        tracing::warn!(
            partition = self.partition,
            error = &fault as &dyn std::error::Error,
            "an append failed; finding out whether it was committed"
        );
        self.synchronized = false;
        let deadline = Instant::now() + RESOLVE_TIMEOUT;
        loop {
            match in_time(self.appender.resolve(self.head, events)).await {
                Ok(Appended::Yes) => return Ok(Appended::Yes),
                // The database had a reason that trying again would meet again.
                Ok(Appended::HeadMoved) if !fault.is_passing() => return Err(fault),
                Ok(Appended::HeadMoved) => return Ok(Appended::HeadMoved),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Brings head, limits and cached accounts to where the partition stands.
    async fn synchronize(&mut self) -> Result<(), Fault> {
        let head = if self.open_call {
            in_time(self.appender.raise_fence()).await?
        } else {
            in_time(self.appender.head()).await?
        };
        self.open_call = false;
        if self.head.position == 0 || head.position - self.head.position > 10 * PAGE {
            // At the start, or far behind: accounts are read when somebody asks for them.
            self.accounts.clear();
            self.load_limits().await?;
        } else {
            self.catch_up(head.position).await?;
        }
        self.head = head;
        self.synchronized = true;
        Ok(())
    }

    async fn load_limits(&mut self) -> Result<(), Fault> {
        self.limits = Limits::default();
        loop {
            let from = self.limits.version + 1;
            let page = in_time(self.store.read_stream(
                self.partition,
                PARTITION_STREAM,
                from,
                Direction::Forwards,
                PAGE,
            ));
            let events = page.await?;
            for stored in &events {
                self.follow(&read(&stored.record, stored.position)?)?;
            }
            if events.is_empty() {
                return Ok(());
            }
        }
    }

    /// Follows the events of other ledgers from our head to `until`.
    async fn catch_up(&mut self, until: i64) -> Result<(), Fault> {
        while self.head.position < until {
            let limit = PAGE.min(until - self.head.position);
            let page = self.store.read_all(self.partition, self.head.position + 1, limit);
            for stored in in_time(page).await? {
                self.follow(&read(&stored.record, stored.position)?)?;
                self.head.position = stored.position;
            }
        }
        Ok(())
    }

    /// Moves the cached state on by one recorded event.
    fn follow(&mut self, record: &Record) -> Result<(), Fault> {
        match (&record.event, record.person_id) {
            (Event::AnnualLimitSet(entry), _) => {
                let (version, position) = (record.version, record.position);
                self.limits.set(entry.clone(), version, position, record.recorded_at);
            }
            (event, Some(person)) => {
                self.accounts.change(person, |account| {
                    account.apply(event, record.version, record.position, record.recorded_at)
                })?;
            }
            (_, None) => {
                let what = "an event of a person without the person";
                return Err(Contradiction { position: record.position, what }.into());
            }
        }
        Ok(())
    }

    /// Reads the accounts of a batch that are not cached, with one query.
    async fn load(&mut self, requests: &[Request]) -> Result<(), Fault> {
        let persons = requests.iter().filter_map(|request| request.ask.person());
        let missing = self.accounts.missing(persons);
        if missing.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = missing.iter().map(|person| person.0).collect();
        let streams = self.store.read_streams(self.partition, &ids, self.head.position);
        let events = in_time(streams).await?;
        for person in missing {
            self.accounts.insert(person, Account::default());
        }
        for stored in &events {
            let applied =
                read(&stored.record, stored.position).and_then(|record| self.follow(&record));
            if let Err(fault) = applied {
                // Half-loaded accounts must not be decided upon.
                self.accounts.clear();
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Decides every request in order; accounts move on at once, so that two payments for the
    /// last 500 kr. are decided one after the other.
    fn decide_all(&mut self, requests: &[Request]) -> Result<Draft, Fault> {
        let mut draft = Draft {
            events: Batch::default(),
            replies: Vec::with_capacity(requests.len()),
            touched: Vec::new(),
            limits_before: None,
        };
        let mut now = self.clock.now();
        for request in requests {
            // Strictly increasing, so that an instant names one position.
            let last = draft.events.head_after(self.head).recorded_at;
            now = last.map_or(now, |last| now.max(last + time::Duration::MICROSECOND));
            let reply = match &request.ask {
                Ask::Command(person, command) => {
                    self.decide_command(request, *person, command, now, &mut draft)?
                }
                Ask::Card(person, frikort) => self.read_card(*person, *frikort, &draft),
                Ask::SetLimit(entry) => self.set_limit(request, entry, now, &mut draft),
                Ask::Limits => {
                    Ok(self.say(&draft, Body::Limits(self.limits.schedule.entries().to_vec())))
                }
            };
            draft.replies.push(reply);
        }
        Ok(draft)
    }

    fn decide_command(
        &mut self,
        request: &Request,
        person: PersonId,
        command: &Command,
        now: OffsetDateTime,
        draft: &mut Draft,
    ) -> Result<Reply, Fault> {
        let Some(account) = self.accounts.get(person) else { return Ok(Err(Refused::Internal)) };
        let decision = match decide(account, &self.limits.schedule, command, today(now)) {
            Ok(decision) => decision,
            Err(rejection) => return Ok(Err(Refused::Rejected(rejection))),
        };
        let event = match decision {
            Decision::Record(event) => event,
            Decision::ReplayPayment(answer) => {
                return Ok(Ok(Answer {
                    position: answer.position,
                    recorded_at: Some(answer.recorded_at),
                    replayed: true,
                    body: Body::Payment(answer.outcome),
                }));
            }
            Decision::ReplayCard(answer) => {
                return Ok(Ok(Answer {
                    position: answer.position,
                    recorded_at: Some(answer.recorded_at),
                    replayed: true,
                    body: Body::Card(answer.card, found(account, &answer.payments_after)),
                }));
            }
        };
        let version = account.version() + 1;
        let position = draft.events.head_after(self.head).position + 1;
        if request.validate_only {
            let mut account = account.clone();
            account.apply(&event, version, position, now)?;
            let body = body(&event, &account);
            return Ok(body.map(|body| self.say(draft, body)).ok_or(Refused::Internal));
        }
        let record = self.record(request, Some(person), version, position, now, event);
        draft.events.push(person.0, version, now, record.encode());
        draft.touched.push(person);
        self.follow(&record)?;
        let body = self.accounts.get(person).and_then(|account| body(&record.event, account));
        let answer = |body| Answer { position, recorded_at: Some(now), replayed: false, body };
        Ok(body.map(answer).ok_or(Refused::Internal))
    }

    fn read_card(&mut self, person: PersonId, frikort: Option<FrikortTag>, draft: &Draft) -> Reply {
        let account = self.accounts.get(person).filter(|account| account.knows_card(frikort));
        let card = account.and_then(Account::card);
        let card = card.ok_or(Refused::Rejected(Rejection::NoCard))?;
        Ok(self.say(draft, Body::Card(card, Vec::new())))
    }

    fn set_limit(
        &mut self,
        request: &Request,
        entry: &LimitEntry,
        now: OffsetDateTime,
        draft: &mut Draft,
    ) -> Reply {
        if let Some((position, at)) = self.limits.place(entry) {
            let recorded_at = Some(at);
            return Ok(Answer { position, recorded_at, replayed: true, body: Body::Limit });
        }
        if request.validate_only {
            return Ok(self.say(draft, Body::Limit));
        }
        draft.limits_before.get_or_insert_with(|| self.limits.clone());
        let version = self.limits.version + 1;
        let position = draft.events.head_after(self.head).position + 1;
        let event = Event::AnnualLimitSet(entry.clone());
        let record = self.record(request, None, version, position, now, event);
        draft.events.push(PARTITION_STREAM, version, now, record.encode());
        self.limits.set(entry.clone(), version, position, now);
        Ok(Answer { position, recorded_at: Some(now), replayed: false, body: Body::Limit })
    }

    fn record(
        &self,
        request: &Request,
        person_id: Option<PersonId>,
        version: i64,
        position: i64,
        recorded_at: OffsetDateTime,
        event: Event,
    ) -> Record {
        Record {
            partition: self.partition,
            position,
            person_id,
            version,
            recorded_at,
            actor: request.actor.clone(),
            trace_id: request.trace_id.clone(),
            event,
        }
    }

    /// An answer that records nothing: as of the head, this batch included.
    fn say(&self, draft: &Draft, body: Body) -> Answer {
        let head = draft.events.head_after(self.head);
        Answer { position: head.position, recorded_at: head.recorded_at, replayed: false, body }
    }

    /// Forgets what a batch that was not committed has changed.
    fn undo(&mut self, draft: Draft) {
        for person in draft.touched {
            self.accounts.forget(person);
        }
        if let Some(limits) = draft.limits_before {
            self.limits = limits;
        }
    }

    /// Tells health and log when the partition stops or works again. After a contradiction
    /// nothing cached is believed any more.
    fn note_health(&mut self, result: &Result<(), Fault>) {
        let was_sound = self.sound.send_replace(result.is_ok());
        match result {
            Ok(()) if !was_sound => {
                tracing::info!(
                    partition = self.partition,
                    position = self.head.position,
                    "the partition can be written"
                );
            }
            Ok(()) => {}
            Err(fault) => {
                let error = fault as &dyn std::error::Error;
                if !fault.is_passing() {
                    tracing::error!(partition = self.partition, error, "the partition stops");
                    self.accounts.clear();
                    self.head.position = 0;
                } else if was_sound {
                    tracing::warn!(partition = self.partition, error, "the partition is away");
                }
                self.synchronized = false;
            }
        }
    }
}

impl Ask {
    fn person(&self) -> Option<PersonId> {
        match self {
            Self::Command(person, _) | Self::Card(person, _) => Some(*person),
            Self::SetLimit(_) | Self::Limits => None,
        }
    }
}

/// What a caller is told about an event that its account has just taken in.
pub(crate) fn body(event: &Event, account: &Account) -> Option<Body> {
    match event {
        Event::PaymentReported(_, outcome)
        | Event::PaymentCorrected(_, outcome)
        | Event::PaymentCancelled(_, outcome) => Some(Body::Payment(outcome.clone())),
        Event::CardDeactivated(_, outcome) => {
            Some(Body::Card(account.card()?, found(account, &outcome.payments_after)))
        }
        Event::CardGranted(_) | Event::CardReactivated(_) => {
            Some(Body::Card(account.card()?, Vec::new()))
        }
        Event::AnnualLimitSet(_) => None,
    }
}

fn found(account: &Account, keys: &[PaymentKey]) -> Vec<(PaymentKey, PaymentState)> {
    let state = |key: &PaymentKey| Some((key.clone(), account.payment(key)?.clone()));
    keys.iter().filter_map(state).collect()
}

fn today(now: OffsetDateTime) -> Date {
    copenhagen_date(now)
}

fn read(record: &str, position: i64) -> Result<Record, Fault> {
    Record::decode(record).map_err(|error| Fault::Record(position, error))
}

async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, Fault> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Fault::Timeout),
    }
}
