//! The two axes of a question about the past: what the ledger knew (`known_at`), and which
//! payments count (`paid_through`). What must stay out: reading.

use frikort_domain::{SCHEME_START, copenhagen_date, format_date};
use frikort_proto::{
    error::Faults,
    instant,
    v1::{self, as_of},
};
use time::{Date, OffsetDateTime};

use crate::tables::Checkpoint;

/// What is asked for. Nothing given is now, and all payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct AsOf {
    pub(crate) known_at: Option<KnownAt>,
    pub(crate) paid_through: Option<Date>,
}

/// Up to where the ledger is to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum KnownAt {
    /// Up to this position.
    Position(i64),
    /// Up to the last event that was recorded then or before.
    Instant(OffsetDateTime),
}

/// What that is in one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The last event that is known.
    pub(crate) at: Checkpoint,
    /// The day whose limits are in force.
    pub(crate) day: Date,
    /// The last day whose payments count.
    pub(crate) paid_through: Option<Date>,
}

impl AsOf {
    /// Reads it, noting what is wrong with it.
    pub(crate) fn parse(faults: &mut Faults, as_of: Option<v1::AsOf>, now: OffsetDateTime) -> Self {
        let as_of = as_of.unwrap_or_default();
        let first = format_date(SCHEME_START);
        let known_at = match as_of.known_at {
            None => None,
            Some(as_of::KnownAt::KnownPosition(position)) => {
                if position < 0 {
                    faults.note("as_of.known_position", "must be 0 or more");
                }
                Some(KnownAt::Position(position))
            }
            Some(as_of::KnownAt::KnownTime(time)) => {
                let known_at = instant(time)
                    .filter(|at| *at <= now && copenhagen_date(*at) >= SCHEME_START)
                    .map(KnownAt::Instant);
                if known_at.is_none() {
                    let allowed = format!("must be an instant from {first} on, not in the future");
                    faults.note("as_of.known_time", allowed);
                }
                known_at
            }
        };
        let paid_through = as_of.paid_through.and_then(|day| {
            let day = day.to_day().filter(|day| *day >= SCHEME_START);
            if day.is_none() {
                let allowed = format!("must be a day that exists, from {first} on");
                faults.note("as_of.paid_through", allowed);
            }
            day
        });
        Self { known_at, paid_through }
    }

    /// Whether it asks for the present.
    pub(crate) fn is_now(&self) -> bool {
        *self == Self::default()
    }

    /// As the access log has it; nothing of the present.
    pub(crate) fn told(&self) -> String {
        let known = match self.known_at {
            None => String::new(),
            Some(KnownAt::Position(position)) => format!(", known at position {position}"),
            Some(KnownAt::Instant(instant)) => format!(", known at {instant}"),
        };
        let paid = self.paid_through.map(|day| format!(", paid through {}", format_date(day)));
        known + &paid.unwrap_or_default()
    }

    /// What the projection must contain, where `min_position` is asked for beside.
    pub(crate) fn min_position(&self, min_position: i64) -> i64 {
        match self.known_at {
            Some(KnownAt::Position(position)) => position.max(min_position),
            Some(KnownAt::Instant(_)) | None => min_position,
        }
    }

    /// The moment that ends with the event `at`, the ledger being asked on the day `known_on`.
    pub(crate) fn moment(&self, at: Checkpoint, known_on: Date) -> Moment {
        let day = self.paid_through.map_or(known_on, |day| day.min(known_on));
        Moment { at, day, paid_through: self.paid_through }
    }
}

impl Moment {
    /// Whether payments of this day count.
    pub(crate) fn includes(&self, attribution_date: Date) -> bool {
        self.paid_through.is_none_or(|day| attribution_date <= day)
    }

    /// Whether payments of this year can count.
    pub(crate) fn includes_year(&self, year: i32) -> bool {
        self.paid_through.is_none_or(|day| year <= day.year())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frikort_proto::Timestamp;
    use time::macros::{date, datetime};

    fn at(seconds: i64, nanos: i32) -> v1::AsOf {
        let time = Timestamp { seconds, nanos };
        v1::AsOf { known_at: Some(as_of::KnownAt::KnownTime(time)), paid_through: None }
    }

    fn parse(as_of: v1::AsOf) -> Option<AsOf> {
        let mut faults = Faults::default();
        let parsed = AsOf::parse(&mut faults, Some(as_of), datetime!(2023-08-01 10:00 UTC));
        faults.finish(Some(parsed)).ok()
    }

    #[test]
    fn an_instant_lies_between_the_scheme_and_now_in_copenhagen() {
        let first = datetime!(2018-12-31 23:00 UTC).unix_timestamp();
        let now = datetime!(2023-08-01 10:00 UTC).unix_timestamp();
        assert_eq!(parse(at(first - 1, 999_999_999)), None);
        assert_eq!(parse(at(now, 1_000)), None);
        assert_eq!(parse(at(now, 1_000_000_000)), None);
        assert_eq!(parse(at(now, -1)), None);
        assert_eq!(parse(at(i64::MAX, 0)), None);
        assert_eq!(parse(at(i64::MIN, 0)), None);
        assert!(parse(at(first, 0)).is_some());
        let known = parse(at(now - 1, 999_999_999)).unwrap().known_at;
        assert_eq!(known, Some(KnownAt::Instant(datetime!(2023-08-01 09:59:59.999_999 UTC))));
    }

    #[test]
    fn the_earlier_of_the_two_days_says_which_limits_are_in_force() {
        let day = |paid_through, known_on| {
            AsOf { known_at: None, paid_through }.moment(Checkpoint::default(), known_on).day
        };
        let (may, august) = (date!(2023 - 05 - 31), date!(2023 - 08 - 01));
        assert_eq!(day(Some(may), august), may);
        assert_eq!(day(Some(august), may), may);
        assert_eq!(day(None, may), may);
    }

    #[test]
    fn nothing_given_is_now() {
        assert!(parse(v1::AsOf::default()).unwrap().is_now());
        let known_at = Some(as_of::KnownAt::KnownPosition(0));
        assert!(!parse(v1::AsOf { known_at, paid_through: None }).unwrap().is_now());
    }
}
