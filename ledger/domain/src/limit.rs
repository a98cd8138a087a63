//! The yearly limit: a dated schedule, never a constant. No code path knows a number; a year
//! without an entry has no limit.

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime, UtcOffset};

use crate::{
    Amount,
    civil::{copenhagen_date, iso},
};

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

/// All limits on record, by year and in-force day, and how they came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitSchedule {
    /// By year and in-force day; of each the one that was recorded last.
    entries: Vec<LimitEntry>,
    /// All of them, also those that were replaced, in order of recording.
    recorded: Vec<RecordedLimit>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RecordedLimit {
    position: i64,
    /// The civil date in Copenhagen.
    recorded_on: Date,
    entry: LimitEntry,
}

/// When a limit took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectiveFrom {
    /// When it was recorded, at this position.
    Recording(i64),
    /// On this day, on which it came into force: it had been recorded before.
    Day(Date),
}

/// The limits of a year that took effect one after the other (A9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitChanges {
    /// Those before the one in force, oldest first; none where it has not changed.
    before: Vec<Amount>,
    in_force: Amount,
}

impl LimitChanges {
    /// Oldest first; the last one is in force.
    pub fn iter(&self) -> impl Iterator<Item = Amount> {
        self.before.iter().copied().chain([self.in_force])
    }

    /// The limit in force.
    pub fn in_force(&self) -> Amount {
        self.in_force
    }
}

impl LimitSchedule {
    /// The limit of `year` on `day`: the entry with the latest in-force date not after that day, and before
    /// any is in force the earliest one of that year (Y5). `None` where no entry of the year is known.
    pub fn limit_on(&self, year: i32, day: Date) -> Option<Amount> {
        let (earliest, later) = self.of_year(year).split_first()?;
        let in_force = later.iter().take_while(|entry| entry.in_force_from <= day).last();
        Some(in_force.unwrap_or(earliest).limit)
    }

    /// The limits of `year` that took effect after the event at `settled`, its position and when it was
    /// recorded; the last one is that of `day`. Only that one where there is no such event. `None` where no
    /// entry of the year is known.
    pub fn changes(
        &self,
        year: i32,
        settled: Option<(i64, OffsetDateTime)>,
        day: Date,
    ) -> Option<LimitChanges> {
        let in_force = self.limit_on(year, day)?;
        let mut before = Vec::new();
        if let Some((position, recorded_at)) = settled
            && self.may_have_changed(year, position, recorded_at, day)
        {
            let after = Some((position, copenhagen_date(recorded_at)));
            before = self.effects(year, after, day).into_iter().map(|(_, limit)| limit).collect();
            before.pop_if(|last| *last == in_force);
        }
        Some(LimitChanges { before, in_force })
    }

    /// Whether a limit of `year` can have taken effect after an event. Every decision asks, so the day in UTC
    /// has to do: the day in Copenhagen is the same or the next one.
    fn may_have_changed(
        &self,
        year: i32,
        position: i64,
        recorded_at: OffsetDateTime,
        day: Date,
    ) -> bool {
        let utc = recorded_at.to_offset(UtcOffset::UTC).date();
        let comes = |entry: &LimitEntry| entry.in_force_from > utc && entry.in_force_from <= day;
        let recorded_after = |limit: &&RecordedLimit| limit.position > position;
        self.of_year(year).iter().any(comes)
            || self.recorded.iter().rev().take_while(recorded_after).any(|l| l.entry.year == year)
    }

    /// What the limit of `year` was after each change through `day`, oldest first, of those after an event, its
    /// position and day, or of all.
    pub fn effects(
        &self,
        year: i32,
        after: Option<(i64, Date)>,
        day: Date,
    ) -> Vec<(EffectiveFrom, Amount)> {
        let of_year = self.recorded.iter().filter(|limit| limit.entry.year == year);
        let is_before =
            |limit: &&RecordedLimit| after.is_some_and(|(position, _)| limit.position <= position);
        let (before, later): (Vec<_>, Vec<_>) = of_year.partition(is_before);
        let mut known = Self::default();
        before.into_iter().for_each(|limit| known.set(limit.entry.clone()));
        let (mut reached, mut effects) = (after.map(|(_, day)| day), Vec::new());
        for limit in later {
            let recorded_on = limit.recorded_on;
            let effective_on = reached.map_or(recorded_on, |reached| reached.max(recorded_on));
            known.come_into_force(reached, effective_on, &mut effects);
            known.set(limit.entry.clone());
            let effect = known.limit_on(year, effective_on);
            effects.extend(effect.map(|effect| (EffectiveFrom::Recording(limit.position), effect)));
            reached = Some(effective_on);
        }
        known.come_into_force(reached, day, &mut effects);
        effects
    }

    /// The limits, all of one year, that come into force after one day and through another.
    fn come_into_force(
        &self,
        after: Option<Date>,
        through: Date,
        effects: &mut Vec<(EffectiveFrom, Amount)>,
    ) {
        let comes = |entry: &&LimitEntry| {
            after.is_some_and(|after| entry.in_force_from > after) && entry.in_force_from <= through
        };
        effects.extend(
            self.entries
                .iter()
                .filter(comes)
                .map(|entry| (EffectiveFrom::Day(entry.in_force_from), entry.limit)),
        );
    }

    fn of_year(&self, year: i32) -> &[LimitEntry] {
        let first = self.entries.partition_point(|entry| entry.year < year);
        let end = self.entries.partition_point(|entry| entry.year <= year);
        &self.entries[first..end]
    }

    /// Whether exactly this entry is on record.
    pub fn contains(&self, entry: &LimitEntry) -> bool {
        self.entries.contains(entry)
    }

    /// Takes in the entry recorded at `position`; they come in order of position.
    pub fn record(&mut self, entry: LimitEntry, position: i64, recorded_at: OffsetDateTime) {
        let recorded_on = copenhagen_date(recorded_at);
        self.recorded.push(RecordedLimit { position, recorded_on, entry: entry.clone() });
        self.set(entry);
    }

    /// Adds an entry, or replaces the one of the same year and in-force day, where it is not known when it was
    /// recorded. `limit_on` tells of it, `changes` and `effects` do not.
    pub fn set(&mut self, entry: LimitEntry) {
        let key = |e: &LimitEntry| (e.year, e.in_force_from);
        match self.entries.binary_search_by_key(&key(&entry), key) {
            Ok(at) => self.entries[at] = entry,
            Err(at) => self.entries.insert(at, entry),
        }
    }

    /// The entries, by year, then in-force day.
    pub fn entries(&self) -> &[LimitEntry] {
        &self.entries
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
