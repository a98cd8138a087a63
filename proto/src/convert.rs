//! From plain values to messages, the same for every service and client.

use prost_types::Timestamp;
use time::{Duration, Month, OffsetDateTime};

use crate::{
    Date,
    v1::{Allowance, LedgerPosition},
};

impl From<time::Date> for Date {
    fn from(day: time::Date) -> Self {
        let (month, day_of_month) = (u8::from(day.month()).into(), day.day().into());
        Self { year: day.year(), month, day: day_of_month }
    }
}

impl Date {
    /// The day, if it exists.
    pub fn to_day(self) -> Option<time::Date> {
        let month = Month::try_from(u8::try_from(self.month).ok()?).ok()?;
        let year = (1..=9999).contains(&self.year).then_some(self.year)?;
        time::Date::from_calendar_date(year, month, u8::try_from(self.day).ok()?).ok()
    }
}

/// An instant as a message.
pub fn timestamp(at: OffsetDateTime) -> Timestamp {
    let nanos = i32::try_from(at.nanosecond()).unwrap_or_default();
    Timestamp { seconds: at.unix_timestamp(), nanos }
}

/// The instant of a message, in whole microseconds as records have them; `None` for one that is
/// none by the contract of `Timestamp`.
pub fn instant(time: Timestamp) -> Option<OffsetDateTime> {
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let whole = OffsetDateTime::from_unix_timestamp(time.seconds).ok()?;
    whole.checked_add(Duration::microseconds((nanos / 1000).into()))
}

impl LedgerPosition {
    /// A position of a partition, and when the event there was recorded.
    pub fn new(partition: i32, position: i64, recorded_at: Option<OffsetDateTime>) -> Self {
        Self { partition, position, recorded_time: recorded_at.map(timestamp) }
    }
}

impl Allowance {
    /// What follows from limit and total, in øre, neither negative.
    pub fn new(
        person_id: String,
        year: i32,
        limit_oere: i64,
        total_oere: i64,
        payments: u32,
    ) -> Self {
        let used_oere = limit_oere.min(total_oere);
        Self {
            person_id,
            year,
            limit_oere,
            total_oere,
            used_oere,
            remaining_oere: limit_oere - used_oere,
            taxable_oere: total_oere - used_oere,
            payment_count: i32::try_from(payments).unwrap_or(i32::MAX),
        }
    }

    /// The balance alone, which is what an employer is told (W1): what is used and what remains, and
    /// nothing that tells of other employers' payments.
    #[must_use]
    pub fn balance(self) -> Self {
        Self { total_oere: self.used_oere, taxable_oere: 0, payment_count: 0, ..self }
    }
}
