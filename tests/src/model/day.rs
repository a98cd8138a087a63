//! Civil days and instants (Y1, Y2).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::{Date, Duration, Month, OffsetDateTime, Weekday};

/// When something was recorded.
pub type Instant = OffsetDateTime;

/// A civil date in Denmark; `2024-02-29` in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub Date);

impl Day {
    /// A day that exists.
    ///
    /// # Panics
    /// When it does not.
    pub fn new(year: i32, month: u8, day: u8) -> Self {
        let month = Month::try_from(month).expect("a month");
        Self(Date::from_calendar_date(year, month, day).expect("a day that exists"))
    }

    /// So many days later; earlier when negative.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        Self(self.0 + Duration::days(days))
    }

    /// The calendar year.
    pub fn year(self) -> i32 {
        self.0.year()
    }

    /// 1 to 12.
    pub fn month(self) -> u8 {
        self.0.month().into()
    }

    /// The day in Copenhagen at an instant: one hour ahead of UTC, two in summer, which lasts from
    /// the last Sunday of March to the last Sunday of October, 01:00 UTC.
    pub fn in_copenhagen(at: Instant) -> Self {
        let last_sunday = |month| {
            let end = Self::new(at.year(), month, 31);
            let sunday = (0..7).map(|back| end.plus(-back));
            let sunday = sunday.filter(|day| day.0.weekday() == Weekday::Sunday).max();
            sunday.unwrap_or(end).0.midnight().assume_utc() + Duration::hours(1)
        };
        let summer = last_sunday(3) <= at && at < last_sunday(10);
        Self((at + Duration::hours(if summer { 2 } else { 1 })).date())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year(), self.month(), self.0.day())
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts: Vec<&str> = text.split('-').collect();
        let read = || {
            let [year, month, day] = parts.as_slice() else { return None };
            let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
            let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?);
            date.ok().map(Self)
        };
        read().ok_or_else(|| D::Error::custom(format!("{text} is no day")))
    }
}
