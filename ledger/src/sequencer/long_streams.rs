//! Reads the accounts of persons with very many events page by page, outside the batches, so that other
//! callers do not wait. Requests about such a person wait in the order of arrival. They are refused as
//! overload after [`REQUEST_TIMEOUT`]; reading goes on, so a later request is answered.
//!
//! Not here: which accounts are kept, and bringing one that was read to the head.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use frikort_domain::{Account, PersonId};
use frikort_event_store::{DatabaseSessions, EventHash, EventStore, StoredEvent};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Refused, Request,
    fault::{Fault, read},
    queue::MAX_BATCH,
};

/// Streams with more events than this are read outside the batches.
pub(super) const LONG_STREAM_EVENTS: i64 = 1000;

/// Events of one page.
const PAGE_EVENTS: i64 = 250;

/// Streams that are read concurrently.
const CONCURRENT_LOADS: usize = 2;

/// How long reading one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams that may be read or wait for a permit.
const MAX_LOADS: usize = 64;

/// Requests that may wait: those of one person are a batch when the person is read.
const MAX_WAITING: usize = MAX_BATCH;

/// How long a request may wait.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);

/// The persons of one partition who are being read.
pub(super) struct LongStreams {
    partition: i32,
    store: EventStore,
    sessions: DatabaseSessions,
    /// Where they are read: not on the sequencer's thread.
    runtime: Handle,
    permits: Arc<Semaphore>,
    loads: HashMap<PersonId, Load>,
    /// Numbers the loads.
    loads_started: u64,
    waiting: usize,
    sender: mpsc::UnboundedSender<Loaded>,
    results: mpsc::UnboundedReceiver<Loaded>,
}

struct Load {
    number: u64,
    task: AbortHandle,
    /// With the instant at which each is refused.
    requests: Vec<(Instant, Request)>,
}

/// What came of reading a person.
pub(super) struct Loaded {
    person: PersonId,
    number: u64,
    account: Result<Account, Fault>,
}

impl LongStreams {
    /// Reads from `store`, whose sessions are `sessions`. To be called within the runtime that reads.
    pub(super) fn new(partition: i32, store: EventStore, sessions: DatabaseSessions) -> Self {
        let (sender, results) = mpsc::unbounded_channel();
        Self {
            partition,
            store,
            sessions,
            runtime: Handle::current(),
            permits: Arc::new(Semaphore::new(CONCURRENT_LOADS)),
            loads: HashMap::new(),
            loads_started: 0,
            waiting: 0,
            sender,
            results,
        }
    }

    /// Begins to read a person's events, up to position and hash of an event of the history. Where too many
    /// streams are being read, nothing is started.
    pub(super) fn load(&mut self, person: PersonId, until: (i64, EventHash)) {
        if self.loads.len() >= MAX_LOADS || self.loads.contains_key(&person) {
            return;
        }
        self.loads_started += 1;
        let (number, sender, permits) =
            (self.loads_started, self.sender.clone(), self.permits.clone());
        let (partition, store) = (self.partition, self.store.clone());
        let sessions = self.sessions.clone();
        let task = self.runtime.spawn(async move {
            let Ok(_permit) = permits.acquire().await else { return };
            tracing::debug!(partition, "reading a long stream outside the batches");
            let reading = read_account(&store, partition, person, until);
            let account = sessions.while_reachable(reading).await.unwrap_or(Err(Fault::Timeout));
            // The sequencer may have ended.
            let _ = sender.send(Loaded { person, number, account });
        });
        let load = Load { number, task: task.abort_handle(), requests: Vec::new() };
        self.loads.insert(person, load);
    }

    /// Takes the requests out of a batch whose person is being read.
    pub(super) fn park(&mut self, requests: &mut Vec<Request>) {
        if self.loads.is_empty() {
            return;
        }
        let expires_at = Instant::now() + REQUEST_TIMEOUT;
        let is_parked = |request: &mut Request| {
            request.ask.person().is_some_and(|person| self.loads.contains_key(&person))
        };
        let parked: Vec<Request> = requests.extract_if(.., is_parked).collect();
        for request in parked {
            let load = request.ask.person().and_then(|person| self.loads.get_mut(&person));
            match load {
                Some(load) if self.waiting < MAX_WAITING => {
                    load.requests.push((expires_at, request));
                    self.waiting += 1;
                }
                _ => request.reply.send(Err(Refused::Overloaded)),
            }
        }
    }

    /// The next result; `None` when a request has expired.
    pub(super) async fn next(&mut self) -> Option<Loaded> {
        let oldest = self.loads.values().filter_map(|load| load.requests.first());
        let until = oldest.map(|(until, _)| *until).min();
        let expired = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            loaded = self.results.recv() => loaded,
            () = expired => None,
        }
    }

    /// A person who was read, with what came of it and the requests that waited; `None` where it is not
    /// asked for any more.
    pub(super) fn take(
        &mut self,
        loaded: Loaded,
    ) -> Option<(PersonId, Result<Account, Fault>, Vec<Request>)> {
        let Loaded { person, number, account } = loaded;
        self.loads.get(&person).filter(|load| load.number == number)?;
        let load = self.loads.remove(&person)?;
        self.waiting -= load.requests.len();
        let requests = load.requests.into_iter().map(|(_, request)| request).collect();
        Some((person, account, requests))
    }

    /// Refuses the requests that have expired.
    pub(super) fn refuse_expired(&mut self) {
        let now = Instant::now();
        for load in self.loads.values_mut() {
            for (_, request) in load.requests.extract_if(.., |(until, _)| *until <= now) {
                self.waiting -= 1;
                request.reply.send(Err(Refused::Overloaded));
            }
        }
    }

    /// Ends all loads and refuses their requests.
    pub(super) fn refuse_all(&mut self, refused: &Refused) {
        for (_, load) in self.loads.drain() {
            load.task.abort();
            for (_, request) in load.requests {
                request.reply.send(Err(refused.clone()));
            }
        }
        self.waiting = 0;
    }
}

impl Drop for LongStreams {
    fn drop(&mut self) {
        self.refuse_all(&Refused::ShuttingDown);
    }
}

/// Whether there are more events than so many.
pub(super) fn has_more_than(events: &[StoredEvent], limit: i64) -> bool {
    usize::try_from(limit).is_ok_and(|limit| events.len() > limit)
}

async fn read_account(
    store: &EventStore,
    partition: i32,
    person: PersonId,
    until: (i64, EventHash),
) -> Result<Account, Fault> {
    let mut account = Account::default();
    loop {
        // Each page is of the history that the event at `until` is of.
        let page = (account.version() + 1, PAGE_EVENTS + 1);
        let streams = [person.0];
        let reading = store.read_streams_at(partition, &streams, until, page);
        let events = timeout(PAGE_TIMEOUT, reading).await.map_err(|_| Fault::Timeout)??;
        for stored in &events {
            let record = read(&stored.record, stored.position)?;
            account.apply(&record.event, record.version, record.position, record.recorded_at)?;
        }
        if !has_more_than(&events, PAGE_EVENTS) {
            return Ok(account);
        }
        tokio::task::yield_now().await;
    }
}
