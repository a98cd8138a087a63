//! The yearly limit: a dated schedule, never a constant. No code path knows a number; a year
//! without an entry has no limit.

use serde::{Deserialize, Serialize};
use time::Date;

use crate::{Amount, civil::iso};

/// The limit of one calendar year from one in-force day on, with its citation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitEntry {
    /// Calendar year.
    pub year: i32,
    /// The limit; it holds for the whole calendar year.
    pub limit: Amount,
    /// From which day on this is the limit of the year.
    #[serde(with = "iso")]
    pub in_force_from: Date,
    /// The law or notice.
    pub citation: String,
}

/// All limits on record, by year and in-force day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitSchedule(Vec<LimitEntry>);

impl LimitSchedule {
    /// The limit of `year` on `day`: the entry with the latest in-force date not after that day, and before
    /// any is in force the earliest one of that year (Y5). `None` where no entry of the year is known.
    pub fn limit_on(&self, year: i32, day: Date) -> Option<Amount> {
        let first = self.0.partition_point(|entry| entry.year < year);
        let mut of_year = self.0[first..].iter().take_while(|entry| entry.year == year);
        let earliest = of_year.next()?;
        let in_force = of_year.take_while(|entry| entry.in_force_from <= day).last();
        Some(in_force.unwrap_or(earliest).limit)
    }

    /// Whether exactly this entry is on record.
    pub fn contains(&self, entry: &LimitEntry) -> bool {
        self.0.contains(entry)
    }

    /// Adds an entry, or replaces the one of the same year and in-force day.
    pub fn set(&mut self, entry: LimitEntry) {
        let key = |e: &LimitEntry| (e.year, e.in_force_from);
        match self.0.binary_search_by_key(&key(&entry), key) {
            Ok(at) => self.0[at] = entry,
            Err(at) => self.0.insert(at, entry),
        }
    }

    /// The entries, by year, then in-force day.
    pub fn entries(&self) -> &[LimitEntry] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    fn entry(year: i32, kroner: i64, in_force_from: Date) -> LimitEntry {
        let limit = Amount::from_oere(kroner * 100).unwrap();
        LimitEntry { year, limit, in_force_from, citation: "LOV 1596 af 28/12/2022".into() }
    }

    #[test]
    fn the_limit_of_2023_depends_on_when_it_is_asked() {
        let mut schedule = LimitSchedule::default();
        schedule.set(entry(2023, 40_000, date!(2023 - 07 - 01)));
        schedule.set(entry(2023, 20_000, date!(2023 - 01 - 01)));
        let asked = |day| schedule.limit_on(2023, day).unwrap().to_string();
        assert_eq!(asked(date!(2023 - 05 - 31)), "20000.00");
        assert_eq!(asked(date!(2023 - 08 - 01)), "40000.00");
        assert_eq!(asked(date!(2022 - 12 - 30)), "20000.00");
        assert_eq!(schedule.limit_on(2024, date!(2024 - 01 - 01)), None);
    }

    #[test]
    fn y5_before_any_entry_is_in_force_the_earliest_of_the_year_counts() {
        let mut schedule = LimitSchedule::default();
        schedule.set(entry(2025, 42_766, date!(2025 - 03 - 01)));
        schedule.set(entry(2025, 43_000, date!(2025 - 09 - 01)));
        let asked = |day| schedule.limit_on(2025, day).unwrap().to_string();
        assert_eq!(asked(date!(2024 - 12 - 30)), "42766.00");
        assert_eq!(asked(date!(2025 - 02 - 28)), "42766.00");
        assert_eq!(asked(date!(2025 - 08 - 31)), "42766.00");
        assert_eq!(asked(date!(2025 - 09 - 01)), "43000.00");
        assert_eq!(schedule.limit_on(2024, date!(2025 - 09 - 01)), None);
        assert_eq!(schedule.limit_on(2026, date!(2026 - 01 - 01)), None);
    }

    #[test]
    fn a_mistake_is_replaced() {
        let mut schedule = LimitSchedule::default();
        schedule.set(entry(2025, 42_767, date!(2025 - 01 - 01)));
        schedule.set(entry(2025, 42_766, date!(2025 - 01 - 01)));
        assert_eq!(schedule.entries().len(), 1);
        assert_eq!(schedule.limit_on(2025, date!(2025 - 02 - 01)).unwrap().oere(), 4_276_600);
    }
}
