//! WatchAllowances: changes of allowances, in the order of positions, each once.
//!
//! One task a partition reads the events behind the projection page by page, and waits for the
//! caller to take what they changed: a slow caller costs a page of changes and no more. All
//! watchers take turns at reading, so that they never keep questions from the database. Whoever is
//! forgotten is nobody from then on: what is on its way to the caller is looked through for them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use frikort_access::{Access, Looking, Place, Places};
use frikort_domain::{Event, LimitEntry, PersonId, YearTotals};
use frikort_event_store::{EventHash, EventStore, PARTITION_STREAM, StoreError, StoredEvent};
use frikort_process::feed::{Items, feed};
use frikort_proto::{
    error::{Failure, Faults},
    timestamp,
    v1::{
        AllowanceChange, AnnualLimit, CaughtUp, LedgerPosition, LimitChange,
        WatchAllowancesRequest, WatchAllowancesResponse, watch_allowances_response::Item,
    },
};
use frikort_register::{Named, Register};
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use uuid::Uuid;

use crate::{
    as_of::AsOf,
    effect::Effect,
    fold::Poison,
    past::decode,
    query::{Allowances, Asked, Found},
    tables::Checkpoint,
    wire::{
        ResumePosition, allowance, check_optional_year, internal, parse_persons, positions,
        resume_position_lost, unread, untold,
    },
};

/// Events read at a time.
const PAGE: i64 = 500;

/// Messages that wait for a caller.
const AHEAD: usize = 100;

/// Callers that watch at the same time.
const WATCHERS: usize = 256;

/// Pages that are read at the same time, for all of them.
const READS: usize = 4;

/// What a caller is told.
type Told = Result<WatchAllowancesResponse, Status>;

/// What all watchers share.
#[derive(Debug)]
pub(crate) struct Watching {
    places: Places,
    reads: Arc<Semaphore>,
}

impl Watching {
    pub(crate) fn new(access: &Access) -> Self {
        let places = access.places("watchers", WATCHERS);
        Self { places, reads: Arc::new(Semaphore::new(READS)) }
    }
}

/// A request, parsed.
pub(crate) struct Wish {
    after: BTreeMap<i32, ResumePosition>,
    /// Empty for everybody.
    named: Vec<Named>,
    year: i32,
}

/// The last event that a caller was sent, or resumes from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastSent {
    pub(crate) position: i64,
    pub(crate) hash: EventHash,
    pub(crate) recorded_at: Option<OffsetDateTime>,
}

/// What a caller wants to see.
struct Wanted {
    /// `None` for everybody.
    persons: Option<HashSet<PersonId>>,
    /// 0 for all.
    year: i32,
    /// Given back when the last partition's task has ended.
    _place: Place,
}

/// Persons whom a caller named, as far as they are in the register still.
struct Still {
    register: Arc<Register>,
    /// Those who were found, and how many had been forgotten before that.
    found: HashMap<PersonId, i64>,
}

/// One partition, for one caller.
struct Watcher {
    store: EventStore,
    applied: watch::Receiver<Checkpoint>,
    reads: Arc<Semaphore>,
    wanted: Arc<Wanted>,
    partition: i32,
}

/// Starts a task a partition, and gives what they send.
pub(crate) async fn start(
    allowances: &Allowances,
    by: &Looking,
    request: WatchAllowancesRequest,
) -> Result<BoxStream<'static, Told>, Failure> {
    let partitions: Vec<i32> = allowances.states.keys().copied().collect();
    let Wish { after, named, year } = parse(request, &partitions)?;
    if named.is_empty() {
        by.who.acts_for_all("persons")?;
    }
    let after = allowances.resume(&after).await?;
    let place = allowances.watching.places.take(&by.who)?;
    let persons = if named.is_empty() {
        None
    } else {
        Some(find(allowances, by, &partitions, &named, year).await?)
    };
    let names_persons = persons.is_some();
    let wanted = Arc::new(Wanted { persons, year, _place: place });
    let (items, stream) = mpsc::channel(AHEAD);
    for (partition, state) in &allowances.states {
        let watcher = Watcher {
            store: allowances.store.clone(),
            applied: state.applied(),
            reads: allowances.watching.reads.clone(),
            wanted: wanted.clone(),
            partition: *partition,
        };
        let (to, after) = (items.clone(), after.get(partition).copied().unwrap_or_default());
        let watching = async move { watcher.run(after, &to).await };
        tokio::spawn(feed(items.clone(), allowances.stop.clone(), watching));
    }
    let told = ReceiverStream::new(stream);
    if !names_persons {
        return Ok(told.boxed());
    }
    let still = Still { register: allowances.register.clone(), found: HashMap::new() };
    Ok(still.of(told).boxed())
}

pub(crate) fn parse(request: WatchAllowancesRequest, partitions: &[i32]) -> Result<Wish, Failure> {
    let mut faults = Faults::default();
    let after = positions(&mut faults, "after", &request.after, partitions);
    let named = parse_persons(&mut faults, request.persons, 0);
    check_optional_year(&mut faults, request.year);
    faults.finish(named.map(|named| Wish { after, named, year: request.year }))
}

/// The persons named, without those who are nobody (W3).
async fn find(
    allowances: &Allowances,
    by: &Looking,
    partitions: &[i32],
    named: &[Named],
    year: i32,
) -> Result<HashSet<PersonId>, Failure> {
    let asked = Asked { year, as_of: AsOf::default(), min_position: 0 };
    let found = allowances.look(by, &named.iter().collect::<Vec<_>>(), &asked).await?;
    let snapshot =
        allowances.snapshot(partitions, &found).await.map_err(|error| allowances.unread(&error))?;
    let is_somebody = |(person, frikort): &Found| {
        let years = snapshot.get(&person.partition).and_then(|known| known.persons.get(&person.id));
        frikort.is_none() || years.is_some_and(|years| years.knows(*frikort))
    };
    Ok(found.into_iter().flatten().filter(is_somebody).map(|(person, _)| person.id).collect())
}

impl Still {
    /// What may be told.
    fn of(self, told: ReceiverStream<Told>) -> impl Stream<Item = Told> {
        stream::unfold(Some((self, told)), |state| async move {
            let (mut still, mut told) = state?;
            loop {
                let next = told.next().await?;
                let may = match &next {
                    Ok(answer) => still.knows(answer).await,
                    Err(_) => Ok(true),
                };
                match may {
                    Ok(true) => return Some((next, Some((still, told)))),
                    Ok(false) => {}
                    Err(failure) => return Some((Err(failure.into()), None)),
                }
            }
        })
    }

    /// Whether whom it is about is in the register still.
    async fn knows(&mut self, told: &WatchAllowancesResponse) -> Result<bool, Failure> {
        let Some(Item::Change(change)) = &told.item else { return Ok(true) };
        let id = change.allowances.first().and_then(|of| Uuid::parse_str(&of.person_id).ok());
        let person = PersonId(id.ok_or_else(internal)?);
        // Before the person is looked for: whoever is forgotten meanwhile is looked for again.
        let forgotten = self.register.forgotten();
        if forgotten.is_some() && self.found.get(&person).copied() == forgotten {
            return Ok(true);
        }
        let is_there = self.register.find_id(person).await;
        let is_there = is_there.map_err(|error| unread(&error))?.is_some();
        if let Some(forgotten) = forgotten.filter(|_| is_there) {
            self.found.insert(person, forgotten);
        }
        Ok(is_there)
    }
}

impl Watcher {
    /// Sends what follows `after` for as long as the caller takes it.
    async fn run(
        mut self,
        after: LastSent,
        items: &Items<WatchAllowancesResponse>,
    ) -> Result<(), Status> {
        let head = self.store.head(self.partition).await.map_err(|error| unread(&error))?.position;
        let mut sent = after;
        let mut marked = None;
        loop {
            let applied = self.applied.borrow_and_update().position;
            while sent.position < applied {
                let (last, page) = self.read(sent, applied).await?;
                for item in page {
                    if !send(items, item).await {
                        return Ok(());
                    }
                }
                sent = last;
            }
            if applied < sent.position {
                // The projection may have gone back with its history.
                let is_there = self.store.require_event(self.partition, sent.position, sent.hash);
                is_there.await.map_err(|error| self.unread(&error))?;
            }
            if sent.position == applied && applied >= head && marked != Some(applied) {
                marked = Some(applied);
                let recorded_time = sent.recorded_at.map(timestamp);
                let mark = CaughtUp { partition: self.partition, position: applied, recorded_time };
                if !send(items, Item::CaughtUp(mark)).await {
                    return Ok(());
                }
            }
            tokio::select! {
                changed = self.applied.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = items.closed() => return Ok(()),
            }
        }
    }

    /// What the events after `after` changed, no further than `until`, and the last of them.
    async fn read(&self, after: LastSent, until: i64) -> Result<(LastSent, Vec<Item>), Status> {
        // Closed never.
        let _turn = self.reads.acquire().await.map_err(|_| internal())?;
        let count = PAGE.min(until - after.position);
        let last = (after.position, after.hash);
        let page = self.store.read_all_after(self.partition, last, count).await;
        let page = page.map_err(|error| self.unread(&error))?;
        let Some(last) = page.last() else {
            // It was projected: the history has gone back.
            return Err(resume_position_lost(self.partition, until).into());
        };
        let recorded_at = decode(last).map_err(|poison| untold(&poison.into()))?.recorded_at;
        let last =
            LastSent { position: last.position, hash: last.hash(), recorded_at: Some(recorded_at) };
        let items = page.iter().map(|event| self.item(event)).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(|poison| untold(&poison.into()))?;
        Ok((last, items.into_iter().flatten().collect()))
    }

    /// What a caller gets when the events cannot be read.
    fn unread(&self, error: &StoreError) -> Failure {
        match error {
            StoreError::HistoryChanged { partition, position } => {
                resume_position_lost(*partition, *position)
            }
            error => unread(error),
        }
    }

    /// What an event changed, if the caller wants to see it.
    fn item(&self, event: &StoredEvent) -> Result<Option<Item>, Poison> {
        let person = PersonId(event.person_id);
        if event.person_id != PARTITION_STREAM && !self.wanted.person(person) {
            return Ok(None);
        }
        let record = decode(event)?;
        let place = LedgerPosition::new(self.partition, event.position, Some(record.recorded_at));
        if let Event::AnnualLimitSet(entry) = &record.event {
            return Ok(self.wanted.year(entry.year).then(|| limit(entry, place)));
        }
        let Some(effect) = Effect::of(&record.event) else { return Ok(None) };
        let wanted = effect.years.iter().filter(|totals| self.wanted.year(totals.year));
        let allowances: Vec<_> = wanted.map(|totals| after_event(person, totals)).collect();
        if allowances.is_empty() {
            return Ok(None);
        }
        Ok(Some(Item::Change(AllowanceChange { allowances, position: Some(place) })))
    }
}

impl Wanted {
    fn person(&self, person: PersonId) -> bool {
        self.persons.as_ref().is_none_or(|persons| persons.contains(&person))
    }

    fn year(&self, year: i32) -> bool {
        self.year == 0 || self.year == year
    }
}

/// Whether the caller is still there.
async fn send(items: &Items<WatchAllowancesResponse>, item: Item) -> bool {
    items.send(Ok(WatchAllowancesResponse { item: Some(item) })).await.is_ok()
}

fn after_event(person: PersonId, totals: &YearTotals) -> frikort_proto::v1::Allowance {
    allowance(person, totals.year, totals.limit, totals.total, totals.payments)
}

fn limit(entry: &LimitEntry, place: LedgerPosition) -> Item {
    let limit = AnnualLimit {
        year: entry.year,
        limit_oere: entry.limit.oere(),
        in_force_date: Some(entry.in_force_from.into()),
        citation: entry.citation.clone(),
    };
    Item::Limit(LimitChange { limit: Some(limit), position: Some(place) })
}
