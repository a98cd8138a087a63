//! The limit schedule of one partition, and where each entry was recorded, so that a repeated call
//! is told the same place again.

use std::collections::BTreeMap;

use frikort_domain::{LimitEntry, LimitSchedule};
use time::{Date, OffsetDateTime};

#[derive(Clone, Default)]
pub(crate) struct Limits {
    pub(crate) schedule: LimitSchedule,
    /// Version of the partition's own stream.
    pub(crate) version: i64,
    /// Position and instant, by year and in-force day.
    places: BTreeMap<(i32, Date), (i64, OffsetDateTime)>,
}

impl Limits {
    /// Takes in the entry that the stream has at `version`.
    pub(crate) fn set(
        &mut self,
        entry: LimitEntry,
        version: i64,
        position: i64,
        recorded_at: OffsetDateTime,
    ) {
        self.version = version;
        self.places.insert((entry.year, entry.in_force_from), (position, recorded_at));
        self.schedule.record(entry, position, recorded_at);
    }

    /// Where exactly this entry was recorded, if it is on record.
    pub(crate) fn place(&self, entry: &LimitEntry) -> Option<(i64, OffsetDateTime)> {
        let key = (entry.year, entry.in_force_from);
        self.places.get(&key).copied().filter(|_| self.schedule.contains(entry))
    }
}
