//! The records of a partition person by person: versions without gaps, every event decided anew,
//! and what comes of it held against the projection as of where that stands.
//!
//! A chunk is read in one snapshot: where the projection stands, its rows, and the records of the
//! same persons. A person whose records do not end in the chunk begins again with the next one,
//! unless the chunk has nobody else. What must stay out: the form of records, which is looked at in
//! order of position and only made use of here.

use std::collections::{BTreeMap, BTreeSet};

use frikort_domain::{Event, LimitHistory, PersonId, Replay, Unsound};
use frikort_event_store::{ConnectionPool, PARTITION_STREAM};
use sqlx::PgConnection;
use time::Date;
use uuid::Uuid;

use crate::{
    finding::{Kind, Notes},
    order::Row,
    projection, read,
    rows::{Limit, Persons, Rows, Settled, sentence},
};

/// Records read at a time.
const PAGE: i64 = 500;

/// One partition's streams so far.
#[derive(Debug)]
pub(crate) struct Streams {
    partition: i32,
    /// The head when the check began.
    end: i64,
    /// The persons up to this one are done.
    done: Uuid,
    limits: Limits,
    /// Persons whose records contradict, or cannot be read.
    lost: u64,
    first_lost: Option<i64>,
    /// The projection has been held against the end of the history, and the limits.
    begun: bool,
}

/// The limits on record so far.
#[derive(Debug, Default)]
struct Limits {
    history: LimitHistory,
    /// In order of recording; a later one of the same year and day replaces an earlier one.
    entries: Vec<((i32, Date), Limit)>,
    version: i64,
    position: i64,
    /// From here on they may be others.
    lost: Option<i64>,
}

/// One person so far.
struct Person {
    id: Uuid,
    replay: Replay,
    settled: Settled,
    /// The rows as of where the projection stands, once that is passed.
    then: Option<Rows>,
    /// What was found, to be told at the end: whoever begins again is not told twice.
    found: Vec<(i64, Kind, String)>,
    /// From this position on nothing more can be said.
    lost: Option<i64>,
}

/// What a chunk came to.
pub(crate) struct Chunk {
    /// Records looked at.
    pub(crate) records: i64,
    /// It was the last one.
    pub(crate) last: bool,
}

impl Streams {
    pub(crate) fn new(partition: i32, end: i64) -> Self {
        let (done, limits, begun) = (PARTITION_STREAM, Limits::default(), false);
        Self { partition, end, done, limits, lost: 0, first_lost: None, begun }
    }

    /// Reads the next persons, and holds them against everything.
    pub(crate) async fn chunk(
        &mut self,
        pool: &ConnectionPool,
        notes: &mut Notes,
    ) -> Result<Chunk, sqlx::Error> {
        let mut tx = pool.begin_snapshot().await?;
        let at = projection::position(&mut tx, self.partition).await?;
        let until = self.end.max(at);
        self.read_limits(&mut tx, until, notes).await?;
        if !self.begun {
            self.begun = true;
            self.compare_limits(&mut tx, at, notes).await?;
        }
        let mut followed = Persons::new();
        let mut lost = BTreeSet::new();
        let (mut after, mut records) = ((self.done, i64::MAX), 0);
        let mut current: Option<Person> = None;
        let last = loop {
            let page = read::streams(&mut tx, self.partition, after, until, PAGE).await?;
            for row in &page {
                if current.as_ref().is_none_or(|person| person.id != row.person_id) {
                    self.finish(current.take(), &mut followed, &mut lost, notes);
                    current = Some(Person::new(row.person_id));
                }
                if let Some(person) = &mut current {
                    self.take(person, row, at);
                }
                after = (row.person_id, row.version);
                records += 1;
            }
            if i64::try_from(page.len()).is_ok_and(|read| read < PAGE) {
                self.finish(current.take(), &mut followed, &mut lost, notes);
                break true;
            }
            // Whoever is not at the end begins again, unless it would for ever.
            if !followed.is_empty() || !lost.is_empty() {
                break false;
            }
        };
        let from = Uuid::from_u128(self.done.as_u128().saturating_add(1));
        let from = if self.done == PARTITION_STREAM { self.done } else { from };
        let ended = followed.keys().chain(&lost).max().copied();
        let to = if last { Uuid::max() } else { ended.unwrap_or(self.done) };
        let stored = projection::persons(&mut tx, self.partition, from, to).await?;
        tx.commit().await?;
        compare(&followed, &stored, &lost, at, notes);
        self.done = to;
        Ok(Chunk { records, last })
    }

    /// Takes a person's next record.
    fn take(&self, person: &mut Person, row: &Row, at: i64) {
        if person.lost.is_some() {
            return;
        }
        if row.position > at && person.then.is_none() {
            person.then = Some(person.rows());
        }
        let Some(record) = row.sound(self.partition) else {
            // Told where it stands.
            person.lost = Some(row.position);
            return;
        };
        let known = self.limits.lost.is_none_or(|lost| row.position < lost);
        let limits = known.then_some(&self.limits.history);
        let taken = person.replay.take(&record, limits);
        if taken.as_ref().err().is_none_or(Unsound::goes_on) {
            person.settled.note(&record.event, row.position);
        }
        let Err(unsound) = taken else { return };
        let kind = match &unsound {
            Unsound::Version { .. } | Unsound::Order { .. } => Kind::Version,
            Unsound::Outcome(_) | Unsound::Broken(_) => Kind::Outcome,
        };
        person.found.push((row.position, kind, unsound.to_string()));
        if !unsound.goes_on() {
            person.lost = Some(row.position);
        }
    }

    /// A person's records have come to their end.
    fn finish(
        &mut self,
        person: Option<Person>,
        followed: &mut Persons,
        lost: &mut BTreeSet<Uuid>,
        notes: &mut Notes,
    ) {
        let Some(mut person) = person else { return };
        for (position, kind, what) in person.found.drain(..) {
            notes.find(position, kind, Some(PersonId(person.id)), what);
        }
        if let Some(position) = person.lost {
            lost.insert(person.id);
            self.lost += 1;
            self.first_lost = Some(self.first_lost.map_or(position, |first| first.min(position)));
        } else {
            let rows = person.then.take().unwrap_or_else(|| person.rows());
            followed.insert(person.id, rows);
        }
    }

    /// Reads what was recorded of the partition itself since.
    async fn read_limits(
        &mut self,
        connection: &mut PgConnection,
        until: i64,
        notes: &mut Notes,
    ) -> Result<(), sqlx::Error> {
        let (partition, limits) = (self.partition, &mut self.limits);
        for row in read::of_partition(connection, partition, limits.version, until).await? {
            limits.take(partition, &row, notes);
        }
        Ok(())
    }

    /// Holds the projection's limits, and where it stands, against the history.
    async fn compare_limits(
        &self,
        connection: &mut PgConnection,
        at: i64,
        notes: &mut Notes,
    ) -> Result<(), sqlx::Error> {
        let head = read::last_position(connection, self.partition).await?;
        if at > head {
            let what = format!("the projection stands at position {at}, and the history ends here");
            notes.find(head, Kind::Projection, None, what);
        }
        let stored: BTreeMap<_, _> =
            projection::limits(connection, self.partition).await?.into_iter().collect();
        if self.limits.lost.is_some_and(|lost| lost <= at) {
            return Ok(());
        }
        let mut find = |(year, day): &(i32, Date), what: &str| {
            let what = format!("the limit of {year} in force from {day} {what}");
            notes.find(at, Kind::Projection, None, what);
        };
        let then = self.limits.entries.iter().filter(|(_, limit)| limit.position <= at);
        let ours: BTreeMap<_, _> = then.map(|(key, limit)| (*key, limit)).collect();
        for (key, limit) in &ours {
            match stored.get(key) {
                None => find(key, "is missing"),
                Some(theirs) if theirs != *limit => find(key, "is not what was recorded"),
                Some(_) => {}
            }
        }
        let unknown = |key: &&(i32, Date)| !ours.contains_key(key);
        stored.keys().filter(unknown).for_each(|key| find(key, "was never recorded"));
        Ok(())
    }

    /// Says what of all the streams could not be checked.
    pub(crate) fn conclude(&mut self, notes: &mut Notes) {
        let partition = self.partition;
        if let Some(position) = self.first_lost {
            let persons = self.lost;
            notes.leave_out(
                Some(position),
                format!(
                    "partition {partition}: of {persons} persons whose records contradict or \
                     cannot be read, what follows, and the projection; the first at position \
                     {position}"
                ),
            );
        }
        if let Some(position) = self.limits.lost {
            let what = "a limit contradicts or cannot be read: no outcome was decided anew";
            let what = format!("partition {partition}, from position {position} on: {what}");
            notes.leave_out(Some(position), what);
        }
    }
}

impl Limits {
    /// Takes the next record of the partition itself.
    fn take(&mut self, partition: i32, row: &Row, notes: &mut Notes) {
        let next = self.version + 1;
        // What is missing was recorded after the one before.
        let since = self.position + 1;
        (self.version, self.position) = (row.version, row.position);
        if row.version != next || row.position < since {
            let what = format!("version {} of the limits stands where {next} must", row.version);
            notes.find(row.position, Kind::Version, None, what);
            self.lost.get_or_insert(since.min(row.position));
        }
        let record = row.sound(partition);
        let Some((Event::AnnualLimitSet(entry), recorded_at)) =
            record.map(|record| (record.event, record.recorded_at))
        else {
            self.lost.get_or_insert(row.position);
            return;
        };
        let limit = Limit {
            amount: entry.limit.decimal(),
            citation: entry.citation.clone(),
            position: row.position,
        };
        if self.lost.is_none() {
            self.entries.push(((entry.year, entry.in_force_from), limit));
            self.history.record(entry, row.position, recorded_at);
        }
    }
}

impl Person {
    fn new(id: Uuid) -> Self {
        let (replay, settled) = (Replay::default(), Settled::default());
        Self { id, replay, settled, then: None, found: Vec::new(), lost: None }
    }

    fn rows(&self) -> Rows {
        Rows::of(self.replay.account(), &self.settled)
    }
}

/// Holds the rows that are stored of some persons against those that follow.
fn compare(
    followed: &Persons,
    stored: &Persons,
    lost: &BTreeSet<Uuid>,
    at: i64,
    notes: &mut Notes,
) {
    let none = Rows::default();
    for (id, ours) in followed {
        let person = PersonId(*id);
        let theirs = stored.get(id).unwrap_or(&none);
        if let Some(what) = sentence(person, &ours.differences(theirs)) {
            notes.find(at, Kind::Projection, Some(person), what);
        }
    }
    let unknown = |id: &&Uuid| !followed.contains_key(id) && !lost.contains(id);
    for id in stored.keys().filter(unknown) {
        let what = "rows stand there of a person whom no record is about".to_owned();
        notes.find(at, Kind::Projection, Some(PersonId(*id)), what);
    }
}
