//! The event tables of all epochs, as plain data. Not here: what follows from the events.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, ensure};
use frikort::postgres::{Cluster, OWNER, Options};
use frikort_proof::{Edge, Hash, leaf_hash};
use frikort_proto::{timestamp, v1::LedgerPosition};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::fold::Person;

/// One row of the event table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The person's id; nil for an event of the partition.
    pub person_id: Uuid,
    /// When it was recorded.
    pub recorded_at: OffsetDateTime,
    /// The stored bytes.
    pub line: String,
    /// The same, parsed.
    pub record: Value,
}

impl Event {
    /// The event's type.
    pub fn kind(&self) -> &str {
        self.record["type"].as_str().unwrap_or_default()
    }
}

/// The event table of one epoch, at its end.
#[derive(Debug, Default)]
pub struct History {
    /// Of each partition, in the order of positions.
    partitions: BTreeMap<i32, Vec<Event>>,
    /// The persons' events folded, by partition and person; made when first used.
    persons: OnceLock<BTreeMap<(i32, Uuid), Person>>,
}

impl History {
    /// Reads the table.
    pub async fn read(connection: &mut PgConnection) -> anyhow::Result<Self> {
        let rows: Vec<(i32, i64, Uuid, OffsetDateTime, String)> = sqlx::query_as(
            "SELECT partition, position, person_id, recorded_at, record FROM ledger.event
             ORDER BY partition, position",
        )
        .fetch_all(connection)
        .await?;
        let mut partitions: BTreeMap<i32, Vec<Event>> = BTreeMap::new();
        for (partition, position, person_id, recorded_at, line) in rows {
            let events = partitions.entry(partition).or_default();
            let expected = i64::try_from(events.len())? + 1;
            ensure!(position == expected, "partition {partition}: {position} after {expected} - 1");
            let record = serde_json::from_str(&line)?;
            events.push(Event { person_id, recorded_at, line, record });
        }
        Ok(Self { partitions, persons: OnceLock::new() })
    }

    /// Starts the stopped cluster of a directory for as long as its table is read.
    pub(super) async fn read_stopped(dir: &Path) -> anyhow::Result<Self> {
        let (place, options) = (dir.to_owned(), Options { durable: false, ..Options::default() });
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&place, &options));
        let cluster = cluster.await?.with_context(|| format!("the cluster {}", dir.display()))?;
        let mut owner = PgConnection::connect(&cluster.url(OWNER, "frikort")).await?;
        let history = Self::read(&mut owner).await;
        owner.close().await?;
        tokio::task::spawn_blocking(move || cluster.stop()).await??;
        history
    }

    /// The events of a partition, in the order of positions.
    pub fn events(&self, partition: i32) -> &[Event] {
        self.partitions.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// The partitions that have an event.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.partitions.keys().copied()
    }

    /// The last position of a partition; 0 when it is empty.
    pub fn head(&self, partition: i32) -> i64 {
        i64::try_from(self.events(partition).len()).unwrap_or(i64::MAX)
    }

    /// The event at a position.
    pub fn at(&self, partition: i32, position: i64) -> Option<&Event> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        self.events(partition).get(index)
    }

    /// The event that an answer names by position and instant.
    pub fn named(&self, place: &LedgerPosition) -> Result<&Event, String> {
        let LedgerPosition { partition, position, .. } = *place;
        let head = self.head(partition);
        let event = self.at(partition, position).ok_or_else(|| {
            format!("names position {position} of partition {partition}, whose head is {head}")
        })?;
        let recorded = timestamp(event.recorded_at);
        match place.recorded_time {
            Some(told) if told == recorded => Ok(event),
            told => Err(format!(
                "names position {position} of partition {partition} at {told:?}; the event there \
                 was recorded at {recorded:?}"
            )),
        }
    }

    /// What a person's events come to.
    pub(super) fn person(&self, partition: i32, person: Uuid) -> Option<&Person> {
        let persons = self.persons.get_or_init(|| {
            let mut persons: BTreeMap<(i32, Uuid), Person> = BTreeMap::new();
            for (partition, events) in &self.partitions {
                for (event, position) in events.iter().zip(1..) {
                    let person = persons.entry((*partition, event.person_id)).or_default();
                    person.take(position, event);
                }
            }
            persons
        });
        persons.get(&(partition, person))
    }

    /// The persons who have an event, with their partition.
    pub(super) fn persons(&self) -> impl Iterator<Item = (i32, Uuid)> {
        self.person(0, Uuid::nil());
        self.persons.get().into_iter().flat_map(|persons| persons.keys().copied())
    }

    /// The root of the log's tree over the first `size` records; `None` where there are fewer.
    pub fn root(&self, partition: i32, size: u64) -> Option<Hash> {
        let first = self.events(partition).get(..usize::try_from(size).ok()?)?;
        let mut edge = Edge::default();
        for event in first {
            edge.push(leaf_hash(event.line.as_bytes()));
        }
        Some(edge.root())
    }

    /// The first position of a partition at which this history differs from a later one, and how
    /// many events of this one are not in the later one; `None` where all of them are.
    pub fn lost_in(&self, later: &Self, partition: i32) -> Option<(i64, i64)> {
        let (old, new) = (self.events(partition), later.events(partition));
        let same = old.iter().zip(new).take_while(|(old, new)| old.line == new.line).count();
        let lost = i64::try_from(old.len() - same).ok()?;
        (lost > 0).then(|| (self.head(partition) - lost + 1, lost))
    }
}

/// The event tables of all epochs, the first one first.
#[derive(Debug)]
pub struct Histories(Vec<Arc<History>>);

impl Histories {
    /// In the order of epochs.
    pub fn new(histories: Vec<Arc<History>>) -> Self {
        Self(histories)
    }

    /// That of an epoch.
    pub fn of(&self, epoch: usize) -> &History {
        &self.0[epoch]
    }

    /// The present one.
    pub fn last(&self) -> &History {
        self.0.last().expect("there is one at least")
    }
}
