//! One stream after another, replayed from its records alone: what an auditor does with a history.
//! Each record is held against the ones before it in its stream, decided anew by the limits as they
//! stood at its position, and folded in. What must stay out: where records come from, and their form.

use time::OffsetDateTime;

use crate::{
    Account, LimitEntry, LimitSchedule, Record, account::Contradiction, redecide::redecide,
};

/// The limits of a partition as they stood at each of its positions.
#[derive(Clone, Debug, Default)]
pub struct LimitHistory {
    /// Position of each entry, ascending, with the schedule from there on. There are few.
    steps: Vec<(i64, LimitSchedule)>,
}

impl LimitHistory {
    /// Takes in the entry recorded at `position`; they come in order of position.
    pub fn record(&mut self, entry: LimitEntry, position: i64, recorded_at: OffsetDateTime) {
        let mut schedule = self.as_of(i64::MAX).cloned().unwrap_or_default();
        schedule.record(entry, position, recorded_at);
        self.steps.push((position, schedule));
    }

    /// The limits on record after the event at `position`; `None` where there was none.
    pub fn as_of(&self, position: i64) -> Option<&LimitSchedule> {
        let known = self.steps.partition_point(|(at, _)| *at <= position);
        known.checked_sub(1).map(|last| &self.steps[last].1)
    }
}

/// Why a record does not follow from the ones before it in its stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// It is not the next of its stream. Nothing follows from here.
    #[error("version {found} of its stream stands where {next} must")]
    Version {
        /// The record's version.
        found: i64,
        /// That of the stream's next record.
        next: i64,
    },
    /// It has a lower position than the record before it in the stream. Nothing follows from here.
    #[error("it comes before the version before it, which is at position {before}")]
    Order {
        /// Position of the version before.
        before: i64,
    },
    /// Another outcome follows; what is recorded makes sense by itself, and the replay goes on
    /// from it.
    #[error("{}", .0.what)]
    Outcome(Contradiction),
    /// It makes no sense after the records before it. Nothing follows from here.
    #[error("{}", .0.what)]
    Broken(Contradiction),
}

impl Unsound {
    /// Whether the account still is what is recorded, so that the next record can be held
    /// against it.
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::Outcome(_))
    }
}

/// One person's records so far.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    account: Account,
    position: i64,
}

impl Replay {
    /// What the records so far come to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Takes the person's next record. Where the limits are not known, it is not decided anew: that
    /// totals and splits follow from the state before is held all the same.
    pub fn take(&mut self, record: &Record, limits: Option<&LimitHistory>) -> Result<(), Unsound> {
        let Record { version, position, recorded_at, .. } = *record;
        let next = self.account.version() + 1;
        if version != next {
            return Err(Unsound::Version { found: version, next });
        }
        if position <= self.position {
            return Err(Unsound::Order { before: self.position });
        }
        self.position = position;
        let none = LimitSchedule::default();
        let decided = limits.map_or(Ok(()), |limits| {
            redecide(&self.account, limits.as_of(position).unwrap_or(&none), record)
        });
        self.account
            .apply(&record.event, version, position, recorded_at)
            .map_err(Unsound::Broken)?;
        decided.map_err(Unsound::Outcome)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;
    use crate::Amount;

    const GOLDEN: &str = include_str!("../tests/golden/records.jsonl");

    fn entry(kroner: i64) -> LimitEntry {
        LimitEntry {
            year: 2025,
            limit: Amount::from_oere(kroner * 100).unwrap(),
            in_force_from: date!(2025 - 01 - 01),
            citation: "a law".into(),
        }
    }

    #[test]
    fn limits_are_those_on_record_at_a_position() {
        let mut limits = LimitHistory::default();
        limits.record(entry(20_000), 3, OffsetDateTime::UNIX_EPOCH);
        limits.record(entry(21_000), 7, OffsetDateTime::UNIX_EPOCH);
        let known = |position| {
            let schedule = limits.as_of(position)?;
            Some(schedule.limit_on(2025, date!(2025 - 06 - 01)).unwrap().to_string())
        };
        assert_eq!(known(2), None);
        assert_eq!(known(3).as_deref(), Some("20000.00"));
        assert_eq!(known(6).as_deref(), Some("20000.00"));
        assert_eq!(known(7).as_deref(), Some("21000.00"));
    }

    /// A grant, as the first record of its person.
    fn grant() -> Record {
        let mut records = GOLDEN.lines().filter_map(|line| Record::decode(line).ok());
        let granted = |record: &Record| matches!(record.event, crate::Event::CardGranted(..));
        let mut grant = records.find(granted).unwrap();
        (grant.version, grant.position) = (1, 5);
        grant
    }

    #[test]
    fn what_is_not_the_next_of_its_stream_is_not_taken() {
        let limits = LimitHistory::default();
        let mut replay = Replay::default();
        let late = Record { version: 2, ..grant() };
        let not_next = Unsound::Version { found: 2, next: 1 };
        assert_eq!(replay.take(&late, Some(&limits)), Err(not_next));
        assert_eq!(replay.take(&grant(), Some(&limits)), Ok(()));
        assert!(replay.account().card().is_some());
        let before = Record { version: 2, position: 4, ..grant() };
        let order = replay.take(&before, Some(&limits)).unwrap_err();
        assert_eq!(order, Unsound::Order { before: 5 });
        assert!(!order.goes_on());
        assert_eq!(replay.account().version(), 1, "it was not folded in");
        // The same decision once more: the rules would have answered from the first.
        let twice = Record { version: 2, position: 6, ..grant() };
        assert!(matches!(replay.take(&twice, Some(&limits)), Err(Unsound::Broken(_))));
    }
}
