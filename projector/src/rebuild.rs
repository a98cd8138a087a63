//! A new generation of the projection: folded beside the one that is served, proved to be the same,
//! and put in its place in one transaction, while events are appended and questions answered.
//!
//! ```text
//!   fold up to the served one ──▶ compare everybody ──▶ follow, comparing whom it touches ──┐
//!        one transaction: lock the served checkpoint, fold the rest, compare, switch ◀──────┘
//! ```
//!
//! What holds throughout, after the first comparison: whoever has no event beyond where the new one
//! stands has the same rows in both, or was noted as a difference. So at the switch, where nobody
//! has one, all have been compared at that very position; and no snapshot was held for it, which
//! would have kept the dead rows of a busy table for as long.
//!
//! The fold is the one of the follower. What must stay out: mending a difference, and deciding
//! which side is right.

mod compare;
mod progress;

use std::collections::{BTreeSet, HashSet};

use frikort_event_store::{
    ConnectionPool, EventHash, EventStore, PARTITION_STREAM, StoreError, StoredEvent,
};
use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    PROJECTION_VERSION,
    fold::{Changes, Poison},
    generations::{self, Building, Claim, Place},
    isolate::Isolation,
    tables::{self, WriteError, Written},
};
pub(crate) use compare::Difference;
use compare::{PERSONS, Pair};
use progress::Progress;

/// Events folded and written together. More than the follower takes, for whom a page is also how long
/// a question waits for it: the more of them, the fewer rows of totals are written again.
pub(crate) const PAGE: i64 = 25_000;

/// Events that the switch may have to fold while the served checkpoint is locked, at first.
const NEAR: i64 = 250;

/// Rows that differ which are told; the others are counted.
const SHOWN: usize = 10;

/// Persons who differ that are remembered; beyond that they are counted as "at least".
const REMEMBERED: usize = 100_000;

/// Positions whose decisions about applications are compared in one statement.
const POSITIONS: i64 = 20_000;

/// What is wished for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Events folded and written together.
    pub(crate) page: i64,
    /// Switch although the two differ.
    pub(crate) accept_differences: bool,
    /// Begin anew rather than go on with what an earlier run left.
    pub(crate) fresh: bool,
    /// Show a bar, where there is a terminal.
    pub(crate) on_terminal: bool,
}

/// Why there is no new generation. What was folded is kept, and gone on with by the next run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(
        "another rebuild is under way: generation {0}, partition {1} at position {2}; \
         this one has changed nothing"
    )]
    Theirs(i32, i32, i64),
    #[error(
        "what this run builds, or was to replace, is not as it left it: another rebuild has taken it \
         over or has switched; `projector generations` shows what there is"
    )]
    Lost,
    #[error("partition {0} has no event {1}, and its projection claims to have folded it")]
    Ahead(i32, i64),
    #[error("the projection of partition {0} was put back to before position {1}; --fresh")]
    PutBack(i32, i64),
    #[error("the projection cannot be read or written")]
    Tables(#[from] sqlx::Error),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the events cannot be folded")]
    Write(#[from] WriteError),
    #[error("poison: the events cannot be folded")]
    Poison(#[from] Poison),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The two are the same, and the new one is served.
    Switched,
    /// They differ, which was accepted, and the new one is served.
    SwitchedWithDifferences,
    /// They differ, and the old one is served.
    Differs,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    /// The generation that was built.
    pub(crate) generation: i32,
    pub(crate) projection_version: i32,
    /// Where it was proved, a partition each.
    pub(crate) positions: Vec<Proved>,
    /// Events folded by this run before anything was compared, and how many a second.
    pub(crate) events: u64,
    pub(crate) events_per_second: u64,
    /// Persons compared by this run before it followed.
    pub(crate) persons: u64,
    pub(crate) persons_per_second: u64,
    /// Persons whose rows differ.
    pub(crate) differing_persons: usize,
    /// Whether there are more of them than are counted.
    pub(crate) at_least: bool,
    /// Limits and decisions about applications that differ.
    pub(crate) differing_others: usize,
    /// The first rows that differ.
    pub(crate) differences: Vec<Difference>,
}

/// Where a partition was proved, and which generation was served there.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Proved {
    pub(crate) partition: i32,
    pub(crate) replaced: i32,
    pub(crate) position: i64,
}

/// Builds a generation, proves it and switches to it. May be cut off at any time.
pub(crate) async fn run(store: &EventStore, wish: Wish) -> Result<Report, Fault> {
    let building = match generations::claim(store.pool(), wish.fresh).await? {
        Claim::Ours(building) => building,
        Claim::Theirs(of) => return Err(Fault::Theirs(of.generation, of.partition, of.position)),
    };
    let mut rebuild = Rebuild {
        store: store.clone(),
        building: building.clone(),
        served: Vec::new(),
        found: Found::default(),
        wish,
    };
    for place in &building.places {
        let served =
            tables::checkpoint(&mut *store.pool().acquire().await?, place.partition).await?;
        rebuild.served.push(served.generation);
    }
    let done = async {
        let (events, persons) = tokio::select! {
            made = rebuild.make() => made?,
            replaced = building.live(store.pool()) => {
                replaced?;
                return Err(Fault::Lost);
            }
        };
        let positions = match rebuild.may_switch() {
            true => rebuild.switch().await?,
            false => rebuild.stands(),
        };
        Ok((events, persons, positions))
    };
    let (events, persons, positions) = match done.await {
        // A process that hung in a transaction loses its session before it can find that another has
        // taken over.
        Err(_) if building.is_replaced(store.pool()).await? => {
            return Err(Fault::Lost);
        }
        done => done?,
    };
    let is_same = rebuild.found.is_empty();
    let verdict = match (is_same, rebuild.may_switch()) {
        (true, _) => Verdict::Switched,
        (false, true) => Verdict::SwitchedWithDifferences,
        (false, false) => Verdict::Differs,
    };
    let Found { persons: differing, others, shown } = rebuild.found;
    Ok(Report {
        verdict,
        generation: building.generation,
        projection_version: PROJECTION_VERSION,
        positions,
        events: events.done(),
        events_per_second: events.per_second(),
        persons: persons.done(),
        persons_per_second: persons.per_second(),
        differing_persons: differing.len(),
        at_least: differing.len() >= REMEMBERED,
        differing_others: others,
        differences: shown,
    })
}

/// One run.
struct Rebuild {
    store: EventStore,
    building: Building,
    /// The generation served in each place of `building`.
    served: Vec<i32>,
    found: Found,
    wish: Wish,
}

/// What differs.
#[derive(Debug, Default)]
struct Found {
    persons: HashSet<Uuid>,
    others: usize,
    shown: Vec<Difference>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.persons.is_empty() && self.others == 0
    }

    fn show(&mut self, rows: Vec<Difference>) {
        for row in rows {
            let (partition, table, key) = (row.partition, &row.table, &row.key);
            let (serving, rebuilt) = (row.serving(), row.rebuilt());
            let person = row.person_id.map(|id| id.to_string()).unwrap_or_default();
            tracing::warn!(partition, person, table, key, serving, rebuilt, "a row differs");
            self.shown.push(row);
        }
    }
}

impl Rebuild {
    /// Brings the new one near to the one that is served, everybody compared.
    async fn make(&mut self) -> Result<(Progress, Progress), Fault> {
        let mut missing = 0;
        for index in 0..self.building.places.len() {
            missing += self.lag(index).await?;
        }
        let mut events = Progress::new("events", missing, self.wish.on_terminal);
        for index in 0..self.building.places.len() {
            while self.lag(index).await? > self.wish.page {
                self.fold(index, &mut events).await?;
            }
            self.fold(index, &mut events).await?;
        }
        events.finish();
        let mut persons = Progress::new("persons", self.cards().await?, self.wish.on_terminal);
        for index in 0..self.building.places.len() {
            self.compare_all(index, &mut persons).await?;
        }
        persons.finish();
        if !self.may_switch() {
            self.compare_limits().await?;
            return Ok((events, persons));
        }
        self.come_near().await?;
        Ok((events, persons))
    }

    /// Follows until all are near at the same time, which is farther with each try: much may be
    /// recorded.
    async fn come_near(&mut self) -> Result<(), Fault> {
        let (mut near, mut far) = (NEAR, true);
        while far && self.may_switch() {
            far = false;
            for index in 0..self.building.places.len() {
                if self.lag(index).await? > near {
                    far = true;
                    self.follow(index).await?;
                }
            }
            near = self.wish.page.min(near * 2);
        }
        Ok(())
    }

    /// Whether nothing speaks against switching so far.
    fn may_switch(&self) -> bool {
        self.found.is_empty() || self.wish.accept_differences
    }

    fn stands(&self) -> Vec<Proved> {
        let places = self.building.places.iter().zip(&self.served);
        let stands = |(place, replaced): (&Place, &i32)| Proved {
            partition: place.partition,
            replaced: *replaced,
            position: place.position,
        };
        places.map(stands).collect()
    }

    fn pair(&self, index: usize) -> Pair {
        Pair {
            partition: self.building.places[index].partition,
            serving: self.served[index],
            rebuilt: self.building.generation,
        }
    }

    /// Persons to be compared.
    async fn cards(&self) -> Result<i64, sqlx::Error> {
        let mut count = 0;
        for place in &self.building.places {
            count += sqlx::query_scalar!(
                r#"SELECT count(*) AS "count!" FROM projection.card
                   WHERE partition = $1 AND generation = $2"#,
                place.partition,
                self.building.generation
            )
            .fetch_one(&mut *self.store.pool().acquire().await?)
            .await?;
        }
        Ok(count)
    }

    /// How many events the new one is behind the one that is served.
    async fn lag(&self, index: usize) -> Result<i64, sqlx::Error> {
        let place = self.building.places[index];
        let served =
            tables::checkpoint(&mut *self.store.pool().acquire().await?, place.partition).await?;
        Ok(served.position - place.position)
    }

    /// Folds up to where the served one stands now.
    async fn fold(&mut self, index: usize, progress: &mut Progress) -> Result<(), Fault> {
        let until = self.building.places[index].position + self.lag(index).await?;
        let mut folded = self.read_and_fold(self.building.places[index], until).await?;
        while let Some((changes, events)) = folded {
            let from = self.building.places[index];
            let next = Place { position: changes.position, event_hash: changes.event_hash, ..from };
            // The next page is read and folded while the database writes this one.
            let (written, following) = tokio::join!(
                self.building.write(self.store.pool(), from, &changes),
                self.read_and_fold(next, until)
            );
            self.has_written(from, until, written).await?;
            self.building.places[index] = next;
            progress.advance(events);
            folded = following?;
        }
        Ok(())
    }

    /// Fails unless the page after `from` is written, and names the event that contradicts what is
    /// built.
    async fn has_written(
        &self,
        from: Place,
        until: i64,
        written: Result<Written, WriteError>,
    ) -> Result<(), Fault> {
        match written {
            Ok(Written::Yes) => return Ok(()),
            Ok(Written::CheckpointMoved) => return Err(Fault::Lost),
            Err(error) if !error.is_contradiction() => return Err(error.into()),
            Err(_) => {}
        }
        let (page, mut at) = (self.read(from, until).await?, from);
        let mut isolation = Isolation::of(&page);
        while let Some(changes) = isolation.next()? {
            match self.building.write(self.store.pool(), at, &changes).await {
                Ok(Written::Yes) => isolation.written(),
                Ok(Written::CheckpointMoved) => return Err(Fault::Lost),
                Err(error) => {
                    isolation.refused::<Fault>(error)?;
                    continue;
                }
            }
            at = Place { position: changes.position, event_hash: changes.event_hash, ..at };
        }
        Ok(())
    }

    /// What the next events up to `until` change, and how many they are; nothing there.
    async fn read_and_fold(
        &self,
        from: Place,
        until: i64,
    ) -> Result<Option<(Changes, usize)>, Fault> {
        let page = self.read(from, until).await?;
        let changes = || Ok((Changes::of(&page)?, page.len()));
        (!page.is_empty()).then(changes).transpose()
    }

    /// The next events up to `until`; none there.
    async fn read(&self, from: Place, until: i64) -> Result<Vec<StoredEvent>, Fault> {
        let count = self.wish.page.min(until - from.position);
        if count <= 0 {
            return Ok(Vec::new());
        }
        let page = self.store.read_all(from.partition, from.position + 1, count).await?;
        if page.is_empty() {
            return Err(Fault::Ahead(from.partition, from.position + 1));
        }
        Ok(page)
    }

    /// Compares everybody, and every decision about an application.
    async fn compare_all(&mut self, index: usize, progress: &mut Progress) -> Result<(), Fault> {
        let (pair, position) = (self.pair(index), self.building.places[index].position);
        let mut connection = self.store.pool().acquire().await?;
        let mut persons = pair.persons(&mut connection, Uuid::nil()).await?;
        while let Some(last) = persons.last().copied() {
            self.compare(&mut connection, pair, &persons, position).await?;
            progress.advance(persons.len());
            persons = pair.persons(&mut connection, last).await?;
        }
        let mut from = 0;
        while from < position {
            let until = position.min(from + POSITIONS);
            let rows = pair.applications(&mut connection, from, until).await?;
            self.note(rows);
            from = until;
        }
        Ok(())
    }

    async fn compare_limits(&mut self) -> Result<(), Fault> {
        let mut connection = self.store.pool().acquire().await?;
        for index in 0..self.building.places.len() {
            let position = self.building.places[index].position;
            let rows = self.pair(index).limits(&mut connection, position).await?;
            self.note(rows);
        }
        Ok(())
    }

    /// Folds on to where the served one stands now, and compares whom that touched.
    async fn follow(&mut self, index: usize) -> Result<(), Fault> {
        let until = self.building.places[index].position + self.lag(index).await?;
        loop {
            let from = self.building.places[index];
            let page = self.read(from, until).await?;
            if page.is_empty() {
                return Ok(());
            }
            let changes = Changes::of(&page)?;
            let written = self.building.write(self.store.pool(), from, &changes).await;
            self.has_written(from, until, written).await?;
            let event_hash = changes.event_hash;
            self.building.places[index] = Place { position: changes.position, event_hash, ..from };
            let mut connection = self.store.pool().acquire().await?;
            self.compare_touched(&mut connection, index, from.position, &page).await?;
        }
    }

    async fn compare_touched(
        &mut self,
        connection: &mut PgConnection,
        index: usize,
        after: i64,
        page: &[StoredEvent],
    ) -> Result<(), Fault> {
        let (pair, last) = (self.pair(index), page.last().map_or(after, |event| event.position));
        let touched: BTreeSet<Uuid> = page.iter().map(|event| event.person_id).collect();
        let touched: Vec<Uuid> = touched.into_iter().filter(|id| *id != PARTITION_STREAM).collect();
        for persons in touched.chunks(usize::try_from(PERSONS).unwrap_or(usize::MAX)) {
            self.compare(connection, pair, persons, last).await?;
        }
        let rows = pair.applications(connection, after, last).await?;
        self.note(rows);
        Ok(())
    }

    async fn compare(
        &mut self,
        connection: &mut PgConnection,
        pair: Pair,
        persons: &[Uuid],
        position: i64,
    ) -> Result<(), Fault> {
        for person in pair.differing(connection, persons, position).await? {
            if self.found.persons.len() < REMEMBERED
                && self.found.persons.insert(person)
                && self.found.shown.len() < SHOWN
            {
                let rows = pair.rows(connection, person).await?;
                self.found.show(rows);
            }
        }
        Ok(())
    }

    fn note(&mut self, mut rows: Vec<Difference>) {
        self.found.others += rows.len();
        rows.truncate(SHOWN.saturating_sub(self.found.shown.len()));
        self.found.show(rows);
    }

    /// Locks the served checkpoints, folds and compares what is left, and switches: all partitions
    /// or none. Whoever folds the served ones waits for the lock, and finds that it is to go on
    /// with the new ones.
    async fn switch(&mut self) -> Result<Vec<Proved>, Fault> {
        let before = self.building.places.clone();
        let mut tx = self.store.pool().begin().await?;
        // Our own first: nobody takes it for left while we wait for the others.
        for place in &before {
            if !self.building.lock(&mut tx, *place).await? {
                return Err(Fault::Lost);
            }
        }
        let mut ends = Vec::with_capacity(before.len());
        for (place, replaced) in before.iter().zip(&self.served) {
            ends.push(lock(&mut tx, *place, *replaced).await?);
        }
        for (index, until) in ends.into_iter().enumerate() {
            let mut recorded_at = None;
            loop {
                let from = self.building.places[index];
                let page = self.read(from, until).await?;
                if page.is_empty() {
                    break;
                }
                let changes = Changes::of(&page)?;
                tables::write_rows(&mut tx, self.building.of(from.partition), &changes).await?;
                let event_hash = changes.event_hash;
                self.building.places[index] =
                    Place { position: changes.position, event_hash, ..from };
                recorded_at = changes.recorded_at;
                self.compare_touched(&mut tx, index, from.position, &page).await?;
            }
            let rows = self.pair(index).limits(&mut tx, until).await?;
            self.note(rows);
            let end = (until, self.building.places[index].event_hash, recorded_at);
            self.serve(&mut tx, before[index], end).await?;
        }
        if !self.may_switch() {
            tx.rollback().await?;
            return Ok(self.stands());
        }
        tx.commit().await?;
        Ok(self.stands())
    }

    async fn serve(
        &self,
        tx: &mut PgConnection,
        from: Place,
        end: (i64, EventHash, Option<OffsetDateTime>),
    ) -> Result<(), Fault> {
        match self.building.serve(tx, from, end).await? {
            true => Ok(()),
            false => Err(Fault::Lost),
        }
    }
}

/// Locks a served checkpoint, and gives its position.
async fn lock(tx: &mut PgConnection, place: Place, generation: i32) -> Result<i64, Fault> {
    let position = sqlx::query_scalar!(
        "SELECT position FROM projection.checkpoint
         WHERE partition = $1 AND generation = $2 AND state = 'serving' FOR UPDATE",
        place.partition,
        generation
    )
    .fetch_optional(tx)
    .await?
    .ok_or(Fault::Lost)?;
    if position < place.position {
        return Err(Fault::PutBack(place.partition, place.position));
    }
    Ok(position)
}

/// Whether what is served was begun by an older version of the fold.
async fn is_outdated(pool: &ConnectionPool) -> Result<bool, sqlx::Error> {
    let all = generations::list(pool).await?;
    let serving = all.iter().filter(|of| of.state == "serving" && of.position > 0);
    Ok(serving.clone().any(|of| of.version < PROJECTION_VERSION)
        && serving.into_iter().all(|of| of.version <= PROJECTION_VERSION))
}

/// Where an older version of the fold began what is served, folds a new generation beside it and
/// switches. That they differ is then expected, told and no hindrance. Ends when all is of this
/// version, or of a newer one.
pub(crate) async fn renew(store: EventStore) {
    let wish = Wish { page: PAGE, accept_differences: true, fresh: false, on_terminal: false };
    loop {
        let ended = match is_outdated(store.pool()).await {
            Ok(false) => return,
            Ok(true) => {
                let version = PROJECTION_VERSION;
                tracing::info!(version, "the projection is of an older version: rebuilding it");
                run(&store, wish).await
            }
            Err(error) => Err(error.into()),
        };
        match ended {
            Ok(report) => {
                let (generation, differing) = (report.generation, report.differing_persons);
                tracing::info!(generation, differing, "a rebuilt projection is served");
            }
            Err(Fault::Theirs(generation, ..)) => {
                tracing::info!(generation, "another projector rebuilds it");
            }
            Err(fault) => {
                let error = &fault as &dyn std::error::Error;
                tracing::error!(error, "the projection is not rebuilt; trying again");
            }
        }
        tokio::time::sleep(crate::RENEW_PAUSE).await;
    }
}
