//! The sequencer: one task per partition that decides and appends, batch by batch.
//!
//! ```text
//!   callers ──▶ bounded queue ──▶ drain ─▶ load accounts ─▶ decide each ─▶ append ─▶ answer all
//!                                   ▲                                        │
//!                                   └──── read on, decide again ◀── head moved by another ledger
//! ```
//!
//! While one batch commits, the next one gathers, and goes when that one is in. Nobody is answered
//! before the commit, since an answer may rest on an event of the same batch. A batch without
//! events is held against the head as well, since another ledger may have moved it.
//!
//! It runs on a thread of its own: everybody waits for each of its steps, so it must not queue
//! behind the tasks that serve callers.
//!
//! Start-up, another ledger's events, recovery after an error and a history that has changed are one
//! function: [`Sequencer::synchronize`]. Whatever is remembered here belongs to the history whose last
//! event is at the remembered head, and is dropped when that event is not in the history any more. Where
//! acknowledged or signed events are lost, nothing is appended until an operator accepts that (H1).
//!
//! Not here: gRPC, CPR numbers, rules about payments.

mod draft;
mod fault;
mod long_streams;
mod question;
mod queue;

use std::{mem, time::Duration};

use frikort_domain::{Account, Contradiction, Event, PersonId, Record};
use frikort_event_store::{
    Appended, Appender, Batch, Direction, EventStore, Head, PARTITION_STREAM, PartitionStatus,
    ServerRun, StoredEvent,
};
use frikort_process::{clock::Clock, lane::answer_all};
use frikort_register::{NewNumber, enter_numbers};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    cache::Accounts,
    history::{Evidence, SignedEvidence},
    limits::Limits,
};
use draft::Draft;
pub(crate) use draft::body;
use fault::{CLOCK_TOLERANCE, Fault, LostRange, in_time, no_event_at, read};
use long_streams::{LONG_STREAM_EVENTS, Loaded, LongStreams, has_more_than};
pub(crate) use question::{Answer, Ask, Body, Handle, Refused, Reply, Request};
use queue::{MAX_BATCH, Queue};

/// Events read at a time when catching up with another ledger.
const PAGE: i64 = 1000;

/// Persons read with one query, so that a batch of persons who are not in memory is read step by step.
const MAX_STREAMS: usize = 64;

/// How long callers wait for an unknown outcome to be resolved before they are answered that it is
/// unknown.
const RESOLVE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a batch may lose the race for the head against other ledgers.
const CONTENTION_TIMEOUT: Duration = Duration::from_millis(1500);

/// Pause before the database is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Pause before it is looked whether an operator has accepted a loss.
const INCIDENT_PAUSE: Duration = Duration::from_secs(1);

/// How often a fault that lasts is logged.
const FAULT_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// One partition's writer.
pub(crate) struct Sequencer {
    partition: i32,
    store: EventStore,
    appender: Appender,
    clock: Clock,
    queue: Queue,
    accounts: Accounts,
    /// Persons whose streams are too long to be read within a batch.
    long: LongStreams,
    limits: Limits,
    /// P10.
    payments_per_year: u32,
    /// Where the cached state stands.
    head: Head,
    /// Whether the cached state is known to stand at the partition's head.
    synchronized: bool,
    /// A call of ours may still be under way somewhere; it must be shut out first.
    open_call: bool,
    /// What the history must hold.
    evidence: Evidence,
    /// What was signed, as the signer reports it.
    signed: watch::Receiver<SignedEvidence>,
    /// The server run whose history was found to hold the evidence.
    checked: Option<ServerRun>,
    /// Up to where the history is covered by a commit of ours that was acknowledged cleanly.
    covered: i64,
    /// Why the last append failed, where that passes and nothing was committed; and its first event.
    failed: Option<(Fault, Batch)>,
    /// An event that could not be appended twice. It is tried, and rolled back, before the partition counts
    /// as one that can be written.
    trial: Option<Batch>,
    /// The kind of fault that was logged last, and when.
    logged: Option<(mem::Discriminant<Fault>, Instant)>,
    /// Pause before the partition is tried again.
    retry_pause: Duration,
    /// Whether the partition can be written.
    sound: watch::Sender<bool>,
    /// Told after each commit.
    committed: watch::Sender<i64>,
    /// Told when a limit is on record.
    told_limits: watch::Sender<Limits>,
}

/// What bounds one sequencer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Payments whose accounts are kept in memory.
    pub(crate) cached_payments: usize,
    /// Payments that a person may have recorded in one calendar year (P10).
    pub(crate) payments_per_year: u32,
}

/// A sequencer's handle, and what the sequencer tells.
pub(crate) struct Told {
    pub(crate) handle: Handle,
    /// Whether the partition can be written.
    pub(crate) sound: watch::Receiver<bool>,
    /// The position after each commit.
    pub(crate) commits: watch::Receiver<i64>,
    /// The limits on record.
    pub(crate) limits: watch::Receiver<Limits>,
}

impl Sequencer {
    /// A sequencer, the way to it, and what it tells. Batches read from `store`, and long streams are
    /// read from `background_store`.
    pub(crate) fn new(
        partition: i32,
        (store, background_store): (EventStore, EventStore),
        appender: Appender,
        clock: Clock,
        signed: watch::Receiver<SignedEvidence>,
        bounds: Bounds,
    ) -> (Self, Told) {
        let (handle, queue) = Handle::new();
        let (sound, is_sound) = watch::channel(false);
        let (committed, commits) = watch::channel(0);
        let (told_limits, limits) = watch::channel(Limits::default());
        let mut evidence = Evidence::default();
        evidence.signed.clone_from(&signed.borrow());
        let sequencer = Self {
            partition,
            long: LongStreams::new(partition, background_store, appender.sessions().clone()),
            store,
            appender,
            clock,
            queue: Queue::new(queue),
            accounts: Accounts::new(bounds.cached_payments),
            limits: Limits::default(),
            payments_per_year: bounds.payments_per_year,
            head: Head::EMPTY,
            synchronized: false,
            // A predecessor of this process may have left one.
            open_call: true,
            evidence,
            signed,
            checked: None,
            covered: 0,
            failed: None,
            trial: None,
            logged: None,
            retry_pause: RETRY_PAUSE,
            sound,
            committed,
            told_limits,
        };
        (sequencer, Told { handle, sound: is_sound, commits, limits })
    }

    /// Runs until every [`Handle`] is dropped and the queue is empty.
    pub(crate) async fn run(mut self) {
        let mut requests = Vec::with_capacity(MAX_BATCH);
        let mut reachability = self.appender.sessions().reachability();
        loop {
            self.long.refuse_expired();
            if !self.synchronized {
                let synchronized = self.synchronize().await;
                if let Err(fault) = &synchronized {
                    self.queue.refuse_queued(fault);
                }
                self.note_health(&synchronized);
            }
            let open = if self.synchronized {
                // An idle partition finds out, too, that its history has changed.
                tokio::select! {
                    biased;
                    loaded = self.long.next() => {
                        if let Some(loaded) = loaded {
                            self.take_loaded(loaded, &mut requests).await;
                        }
                        true
                    }
                    open = self.queue.gather(&mut requests) => open,
                    Ok(()) = reachability.changed() => {
                        self.synchronized = false;
                        continue;
                    }
                    // Where this process signs nothing, the channel is closed and never says so again.
                    Ok(()) = self.signed.changed() => {
                        self.take_signed();
                        continue;
                    }
                }
            } else {
                // Try again soon, asked or not, so that health tells when it works again.
                match timeout(self.retry_pause, self.queue.gather(&mut requests)).await {
                    Ok(open) => open,
                    Err(_) => continue,
                }
            };
            if !open {
                return;
            }
            // Who has gone does not want it recorded any more; the next batch has room for it.
            requests.retain(|request| !request.reply.is_closed());
            if !requests.is_empty() {
                self.process(&mut requests).await;
            }
        }
    }

    /// Decides and appends one batch, and answers everybody in it.
    async fn process(&mut self, requests: &mut Vec<Request>) {
        // Also before a batch that will record nothing: it may have loaded accounts all the same.
        self.accounts.shrink();
        let deadline = Instant::now() + CONTENTION_TIMEOUT;
        // Requests whose number is taken: maybe by another one of this batch, so they are answered when
        // that one is committed.
        let mut taken = Vec::new();
        // An append that failed and was not committed is tried once more, on another connection.
        let mut has_failed = false;
        let refused = loop {
            let attempted = self.attempt(requests, &mut taken).await;
            let attempted = match self.failed.take() {
                Some((fault, first))
                    if mem::replace(&mut has_failed, true) || Instant::now() >= deadline =>
                {
                    self.trial = Some(first);
                    Err(fault)
                }
                _ => attempted,
            };
            match attempted {
                Ok(Some(replies)) => {
                    self.note_health(&Ok(()));
                    answer_all(requests.drain(..).map(|request| request.reply).zip(replies));
                    break None;
                }
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => break Some(Refused::Overloaded),
                Err(fault) => {
                    let refusal = fault.refusal();
                    self.queue.refuse_queued(&fault);
                    self.note_health(&Err(fault));
                    break Some(refusal);
                }
            }
        };
        if let Some(refused) = refused {
            for request in requests.drain(..) {
                request.reply.send(Err(refused.clone()));
            }
        }
        for request in taken {
            request.reply.send(Err(Refused::NumberTaken));
        }
    }

    /// One try: `None` when the head was moved by another ledger, or the number of a request is taken: it is
    /// in `taken` then, and the others must be decided again.
    async fn attempt(
        &mut self,
        requests: &mut Vec<Request>,
        taken: &mut Vec<Request>,
    ) -> Result<Option<Vec<Reply>>, Fault> {
        if !self.synchronized {
            self.synchronize().await?;
        }
        self.check_clock()?;
        self.load(requests).await?;
        if requests.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let draft = self.decide_all(requests)?;
        if draft.events.is_empty() {
            let status = in_time(self.appender.status(self.head.position)).await?;
            self.synchronized = status.head == self.head && !status.has_open_incident;
            let is_asked = requests.iter().any(|request| matches!(request.ask, Ask::Cover));
            let is_uncovered = is_asked || self.covered < self.head.position;
            if self.synchronized && status.is_synchronous && is_uncovered {
                // What others have committed may be missing on the standby.
                in_time(self.appender.cover()).await?;
                self.covered = self.head.position;
            }
            return Ok(self.synchronized.then_some(draft.replies));
        }
        let numbers: Vec<_> =
            draft.new_numbers.iter().filter_map(|at| requests[*at].ask.number()).collect();
        match self.append(&draft.events, &numbers).await {
            Ok(Appended::Yes) => {
                self.head = draft.events.head_after(self.head);
                self.covered = self.head.position;
                self.evidence.acknowledge(self.head);
                self.committed.send_replace(self.head.position);
                if draft.limits_before.is_some() {
                    self.tell_limits();
                }
                Ok(Some(draft.replies))
            }
            Ok(Appended::HeadMoved) => {
                self.undo(draft);
                self.synchronized = false;
                Ok(None)
            }
            Ok(Appended::Refused(at)) => {
                taken.push(requests.remove(draft.new_numbers[at]));
                self.undo(draft);
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
    async fn append(&mut self, events: &Batch, numbers: &[&NewNumber]) -> Result<Appended, Fault> {
        let appended = if numbers.is_empty() {
            in_time(self.appender.append(self.head, events)).await
        } else {
            let enter = async |connection: &mut _| enter_numbers(connection, numbers).await;
            in_time(self.appender.append_with(self.head, events, enter)).await
        };
        let fault = match appended {
            Ok(appended) => return Ok(appended),
            Err(fault) => fault,
        };
        tracing::warn!(
            partition = self.partition,
            error = &fault as &dyn std::error::Error,
            "an append failed; finding out whether it was committed"
        );
        self.synchronized = false;
        let resolving = async {
            loop {
                match self.appender.resolve(self.head, events).await {
                    Ok(resolved) => break resolved,
                    Err(_) => sleep(RETRY_PAUSE).await,
                }
            }
        };
        match timeout(RESOLVE_TIMEOUT, resolving).await {
            // The database had a reason that trying again would meet again.
            Ok(Appended::HeadMoved) if !fault.is_passing() => Err(fault),
            Ok(Appended::HeadMoved) => {
                self.failed = Some((fault, events.first()));
                Ok(Appended::HeadMoved)
            }
            Ok(resolved) => Ok(resolved),
            Err(_) => Err(Fault::Timeout),
        }
    }

    /// Brings head, limits and cached accounts to where the partition is, if its history is the one
    /// that they are of, and holds what was acknowledged and signed.
    async fn synchronize(&mut self) -> Result<(), Fault> {
        let remembered = self.head.position;
        let status = if self.open_call {
            in_time(self.appender.raise_fence(remembered)).await?
        } else {
            in_time(self.appender.status(remembered)).await?
        };
        if self.open_call {
            self.covered = status.head.position;
        }
        self.open_call = false;
        let run = self.appender.server_run();
        if status.remembered_hash != Some(self.head.event_hash) {
            tracing::warn!(
                partition = self.partition,
                position = remembered,
                head = status.head.position,
                "the history has changed: what is remembered of it is dropped"
            );
            self.drop_memory();
        }
        self.take_signed();
        if self.checked != Some(run) || status.has_open_incident {
            self.check_evidence(&status).await?;
            self.checked = Some(run);
        }
        let head = status.head;
        if self.head.position == 0 || head.position - self.head.position > 10 * PAGE {
            // At the start, or far behind: accounts are read when somebody asks for them.
            self.accounts.clear();
            self.load_limits(head).await?;
        } else {
            self.catch_up(head.position).await?;
        }
        self.head = head;
        self.evidence.note(head);
        self.check_clock()?;
        if let Some(batch) = &self.trial {
            in_time(self.appender.try_append(self.head, batch)).await?;
            self.trial = None;
        }
        self.synchronized = true;
        self.tell_limits();
        Ok(())
    }

    /// Makes sure that the clock can be believed.
    fn check_clock(&self) -> Result<(), Fault> {
        if !self.clock.is_system() {
            return Ok(());
        }
        let now = self.clock.now();
        if let Some(at) = self.appender.sessions().server_time()
            && (now - at).abs() > CLOCK_TOLERANCE
        {
            return Err(Fault::Clock { now, other: "the database's", at });
        }
        match self.head.recorded_at.filter(|at| *at - now > CLOCK_TOLERANCE) {
            Some(at) => Err(Fault::Clock { now, other: "the last event was recorded at", at }),
            None => Ok(()),
        }
    }

    /// What was signed meanwhile must be in the history too.
    fn take_signed(&mut self) {
        let signed = self.signed.borrow_and_update();
        if *signed == self.evidence.signed {
            return;
        }
        // What grows on what was checked is not checked again.
        if signed.changed != self.evidence.signed.changed || self.evidence.signed.marks.is_empty() {
            self.checked = None;
            self.synchronized = false;
        }
        self.evidence.signed = signed.clone();
    }

    /// Makes sure that the history holds what was acknowledged and signed, or that an operator has
    /// accepted the loss. Puts a loss on record, which stops every ledger.
    async fn check_evidence(&mut self, status: &PartitionStatus) -> Result<(), Fault> {
        let mut loss: Option<LostRange> = None;
        for mark in self.evidence.newest() {
            if in_time(self.appender.event_hash(mark.position)).await? == Some(mark.hash) {
                continue;
            }
            let all = self.evidence.all();
            let common = in_time(self.appender.last_common_position(&all)).await?;
            let incident = self.evidence.incident(mark, common, status.head);
            let now = self.clock.now();
            if in_time(self.appender.record_incident(&incident, now)).await? {
                self.evidence.drop_accepted(mark);
                tracing::warn!(
                    partition = self.partition,
                    first_lost_position = incident.first_lost_position,
                    lost_events = incident.lost_events(),
                    "an operator has accepted the loss; going on with the history that is there"
                );
                continue;
            }
            let (first_position, last_position) = (incident.first_lost_position, mark.position);
            loss =
                Some(loss.map_or(LostRange { first_position, last_position }, |loss| LostRange {
                    first_position: loss.first_position.min(first_position),
                    last_position: loss.last_position.max(last_position),
                }));
        }
        // Another ledger's evidence, or evidence that is there again.
        let may_be_open = loss.is_some() || status.has_open_incident;
        if may_be_open && in_time(self.appender.withdraw_incidents(self.clock.now())).await? {
            self.checked = None;
            return Err(Fault::HistoryChanged(loss));
        }
        Ok(())
    }

    /// Drops all that is remembered of the history.
    fn drop_memory(&mut self) {
        self.accounts.clear();
        self.long.refuse_all(&Refused::StoreUnavailable);
        self.limits = Limits::default();
        self.head = Head::EMPTY;
        self.covered = 0;
        self.checked = None;
        self.synchronized = false;
    }

    fn tell_limits(&self) {
        self.told_limits.send_if_modified(|told| {
            let is_new = told.version != self.limits.version;
            if is_new {
                told.clone_from(&self.limits);
            }
            is_new
        });
    }

    async fn load_limits(&mut self, head: Head) -> Result<(), Fault> {
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
                // What was read is of the history that the head is of.
                let (position, hash) = (head.position, head.event_hash);
                return in_time(self.store.require_event(self.partition, position, hash)).await;
            }
        }
    }

    /// Follows the events of other ledgers from our head to `until`.
    async fn catch_up(&mut self, until: i64) -> Result<(), Fault> {
        while self.head.position < until {
            let limit = PAGE.min(until - self.head.position);
            let last = (self.head.position, self.head.event_hash);
            let events = in_time(self.store.read_all_after(self.partition, last, limit)).await?;
            if events.is_empty() {
                return Err(no_event_at(until));
            }
            for stored in events {
                self.follow(&read(&stored.record, stored.position)?)?;
                (self.head.position, self.head.event_hash) = (stored.position, stored.hash());
                self.evidence.note(self.head);
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
                let changed = self.accounts.change(person, |account| {
                    account.apply(event, record.version, record.position, record.recorded_at)
                });
                changed.transpose()?;
            }
            (_, None) => {
                let what = "an event of a person without the person";
                return Err(Contradiction { position: record.position, what }.into());
            }
        }
        Ok(())
    }

    /// Reads the accounts of a batch that are not cached. Requests about persons with very many events
    /// leave the batch, and wait until those are read.
    async fn load(&mut self, requests: &mut Vec<Request>) -> Result<(), Fault> {
        self.long.park(requests);
        let persons = requests.iter().filter_map(|request| request.ask.person());
        let missing = self.accounts.missing(persons);
        if missing.is_empty() {
            return Ok(());
        }
        for persons in missing.chunks(MAX_STREAMS) {
            let ids: Vec<_> = persons.iter().map(|person| person.0).collect();
            let head = (self.head.position, self.head.event_hash);
            let reading =
                self.store.read_streams_at(self.partition, &ids, head, (1, LONG_STREAM_EVENTS + 1));
            let events = in_time(reading).await?;
            for person in persons {
                self.accounts.insert(*person, Account::default());
            }
            // A stream's events come together.
            for stream in events.chunk_by(|one, next| one.person_id == next.person_id) {
                let person = PersonId(stream[0].person_id);
                if has_more_than(stream, LONG_STREAM_EVENTS) {
                    self.accounts.forget(person);
                    self.long.load(person, head);
                } else {
                    self.follow_all(stream)?;
                }
            }
        }
        self.long.park(requests);
        // Of persons who are not being read, since too many are.
        let persons = requests.iter().filter_map(|request| request.ask.person());
        let missing = self.accounts.missing(persons);
        let is_missing = |request: &mut Request| {
            request.ask.person().is_some_and(|person| missing.contains(&person))
        };
        for request in requests.extract_if(.., is_missing) {
            request.reply.send(Err(Refused::Overloaded));
        }
        Ok(())
    }

    fn follow_all(&mut self, events: &[StoredEvent]) -> Result<(), Fault> {
        for stored in events {
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

    /// Keeps an account that was read outside the batches, and takes the requests that waited for it.
    async fn take_loaded(&mut self, loaded: Loaded, requests: &mut Vec<Request>) {
        let Some((person, account, waiting)) = self.long.take(loaded) else { return };
        let kept = match account {
            Ok(account) => self.keep_loaded(person, account).await,
            Err(fault) => Err(fault),
        };
        match kept {
            Ok(()) => requests.extend(waiting),
            Err(fault) => {
                for request in waiting {
                    request.reply.send(Err(fault.refusal()));
                }
                // One person who cannot be read now is no reason to stop; a contradiction is.
                if !fault.is_passing() {
                    self.note_health(&Err(fault));
                }
            }
        }
    }

    /// Brings an account to the head: other ledgers may have recorded more meanwhile.
    async fn keep_loaded(&mut self, person: PersonId, account: Account) -> Result<(), Fault> {
        let head = (self.head.position, self.head.event_hash);
        let (streams, newer) = ([person.0], (account.version() + 1, LONG_STREAM_EVENTS + 1));
        let reading = self.store.read_streams_at(self.partition, &streams, head, newer);
        let newer = in_time(reading).await?;
        if has_more_than(&newer, LONG_STREAM_EVENTS) {
            // It is read again when there is another request.
            return Err(Fault::Timeout);
        }
        self.accounts.insert(person, account);
        self.follow_all(&newer)
    }

    /// Takes back what a batch that was not committed has changed. An account that is not kept from before
    /// is read again.
    fn undo(&mut self, draft: Draft) {
        // The first one of a person is from before the batch.
        for (person, before) in draft.touched.into_iter().rev() {
            match before {
                Some(before) => self.accounts.insert(person, *before),
                None => self.accounts.forget(person),
            }
        }
        if let Some(limits) = draft.limits_before {
            self.limits = limits;
        }
    }

    /// Tells health and log when the partition stops or works again, and every minute while a fault
    /// lasts.
    fn note_health(&mut self, result: &Result<(), Fault>) {
        // Each batch comes here; only a change is told.
        let is_sound = result.is_ok();
        let was_sound = is_sound
            != self.sound.send_if_modified(|sound| mem::replace(sound, is_sound) != is_sound);
        match result {
            Ok(()) if !was_sound => {
                self.logged = None;
                tracing::info!(
                    partition = self.partition,
                    position = self.head.position,
                    "the partition can be written"
                );
            }
            Ok(()) => {}
            Err(fault) => {
                self.log(fault);
                let is_incident = matches!(fault, Fault::HistoryChanged(_));
                self.retry_pause = if is_incident { INCIDENT_PAUSE } else { RETRY_PAUSE };
                if fault.is_passing() {
                    self.synchronized = false;
                } else {
                    // After a contradiction nothing is believed that is remembered.
                    self.drop_memory();
                }
            }
        }
    }
}

impl Sequencer {
    /// Logs a fault when it begins, and every minute while it lasts.
    fn log(&mut self, fault: &Fault) {
        let kind = mem::discriminant(fault);
        let is_logged = self
            .logged
            .is_some_and(|(logged, at)| logged == kind && at.elapsed() < FAULT_LOG_INTERVAL);
        if is_logged {
            return;
        }
        self.logged = Some((kind, Instant::now()));
        let (partition, error) = (self.partition, fault as &dyn std::error::Error);
        match fault {
            Fault::HistoryChanged(Some(LostRange { first_position, last_position })) => {
                tracing::error!(
                    partition,
                    first_lost_position = first_position,
                    lost_events = last_position - first_position + 1,
                    error,
                    "the partition stops"
                );
            }
            fault if fault.is_passing() => {
                tracing::warn!(partition, error, "the partition cannot be written; retrying");
            }
            _ => tracing::error!(partition, error, "the partition stops"),
        }
    }
}
