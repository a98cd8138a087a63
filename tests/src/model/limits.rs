//! The limits as they were recorded, one after the other: two times, when each was recorded and
//! from which day on it is in force.

use serde::{Deserialize, Serialize};

use super::Day;

/// A year's limit from one day on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Calendar year.
    pub year: i32,
    /// In øre.
    pub oere: i64,
    /// In force from this day on, for all of the year.
    pub from: Day,
    /// The law.
    pub citation: String,
}

/// All limits of one partition with their positions, in order of recording.
#[derive(Clone, Debug, Default)]
pub struct Limits(Vec<(i64, Limit)>);

impl Limits {
    /// Takes in what was recorded at `position`.
    pub fn record(&mut self, position: i64, limit: Limit) {
        self.0.push((position, limit));
    }

    /// Where exactly this limit was recorded, if it is on record and was not replaced.
    pub fn place(&self, limit: &Limit) -> Option<i64> {
        let same_day = |l: &Limit| (l.year, l.from) == (limit.year, limit.from);
        let last = self.0.iter().rfind(|(_, other)| same_day(other));
        last.filter(|(_, other)| other == limit).map(|(position, _)| *position)
    }

    /// The limit of `year` in force on `day`, of what was recorded up to `position`. Before any is, the
    /// earliest of the year (Y5).
    pub fn on(&self, year: i32, day: Day, position: i64) -> Option<i64> {
        let mut in_force: Option<&Limit> = None;
        let mut earliest: Option<&Limit> = None;
        for (recorded, limit) in &self.0 {
            if *recorded > position || limit.year != year {
                continue;
            }
            // What is recorded later for the same day replaces.
            if limit.from <= day && in_force.is_none_or(|before| before.from <= limit.from) {
                in_force = Some(limit);
            }
            if earliest.is_none_or(|first| limit.from <= first.from) {
                earliest = Some(limit);
            }
        }
        in_force.or(earliest).map(|limit| limit.oere)
    }

    /// The last position at which one was recorded; 0 for none.
    pub fn last_position(&self) -> i64 {
        self.0.iter().map(|(position, _)| *position).max().unwrap_or(0)
    }

    /// What was recorded, with positions.
    pub fn recorded(&self) -> &[(i64, Limit)] {
        &self.0
    }
}
