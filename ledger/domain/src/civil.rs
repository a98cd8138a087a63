//! Civil dates in Europe/Copenhagen (Y1, Y2). They never pass through UTC; the one conversion
//! from an instant is [`copenhagen_date`], for "today".

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
use time::{Date, Duration, Month, OffsetDateTime, Weekday};

use crate::digits::Text;

/// Days from `first` to `last`, both included; `first ≤ last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first day.
    pub first: Date,
    /// The last day.
    pub last: Date,
}

impl Period {
    /// One day.
    pub fn day(day: Date) -> Self {
        Self { first: day, last: day }
    }

    /// `None` when `last` lies before `first`.
    pub fn new(first: Date, last: Date) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// Whether `day` lies in it.
    pub fn contains(self, day: Date) -> bool {
        self.first <= day && day <= self.last
    }
}

/// The day that places a payment in a calendar year (Y1): the payment date, or the first day of
/// the work when it is paid in advance.
pub fn attribution_date(payment_date: Date, work: Option<Period>) -> Date {
    work.map_or(payment_date, |work| work.first.max(payment_date))
}

/// The civil date in Copenhagen at an instant: UTC+1, and UTC+2 from the last Sunday of March
/// 01:00 UTC to the last Sunday of October 01:00 UTC (Directive 2000/84/EC).
pub fn copenhagen_date(instant: OffsetDateTime) -> Date {
    let utc = instant.to_offset(time::UtcOffset::UTC);
    let switch = |month: Month| {
        let last_day = month_end(utc.year(), month);
        let back = last_day.weekday().number_days_from_sunday();
        (last_day - Duration::days(i64::from(back))).midnight().assume_utc() + Duration::hours(1)
    };
    let summer = match utc.month() {
        Month::January | Month::February | Month::November | Month::December => false,
        Month::March => switch(Month::March) <= utc,
        Month::October => utc < switch(Month::October),
        _ => true,
    };
    // A record that somebody made up may lie in the last hour that there is.
    utc.saturating_add(Duration::hours(if summer { 2 } else { 1 })).date()
}

fn month_end(year: i32, month: Month) -> Date {
    debug_assert!(Weekday::Sunday.number_days_from_sunday() == 0);
    Date::from_calendar_date(year, month, month.length(year)).unwrap_or(Date::MAX)
}

/// `2023-02-28`.
pub fn format_date(date: Date) -> String {
    iso_text::<10>(date).as_str().to_owned()
}

/// `2023-02-28`, to be written on from. The year is one of 0 to 9999, as in every record.
pub(crate) fn iso_text<const N: usize>(date: Date) -> Text<N> {
    Text::new()
        .number(date.year().unsigned_abs().into(), 4)
        .push(b'-')
        .number(u8::from(date.month()).into(), 2)
        .push(b'-')
        .number(date.day().into(), 2)
}

/// Reads `2023-02-28`; `None` for any other form or a day that does not exist.
pub fn parse_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<u16> {
        let digits = &bytes[range];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0')))
    };
    let month = Month::try_from(u8::try_from(number(5..7)?).ok()?).ok()?;
    let day = u8::try_from(number(8..10)?).ok()?;
    Date::from_calendar_date(i32::from(number(0..4)?), month, day).ok()
}

/// `#[serde(with = "civil::iso")]` for a date as `"2023-02-28"`.
pub(crate) mod iso {
    use super::{Date, Deserialize, Deserializer, Serializer, iso_text, parse_date};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(iso_text::<10>(*date).as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Date, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        parse_date(text).ok_or_else(|| D::Error::custom("not a date"))
    }

    /// The same for a date that may be absent; `null` is not absent.
    pub(crate) mod option {
        use super::{Date, Deserializer, Serializer};

        pub(crate) fn serialize<S: Serializer>(
            date: &Option<Date>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match date {
                Some(date) => super::serialize(date, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Date>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

/// `Period` as `{"first":"2023-02-27","last":"2023-02-28"}`.
impl serde::Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Period", 2)?;
        fields.serialize_field("first", iso_text::<10>(self.first).as_str())?;
        fields.serialize_field("last", iso_text::<10>(self.last).as_str())?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Days {
            #[serde(with = "iso")]
            first: Date,
            #[serde(with = "iso")]
            last: Date,
        }
        let days = Days::deserialize(deserializer)?;
        Self::new(days.first, days.last).ok_or_else(|| D::Error::custom("last before first"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    #[test]
    fn y1_attribution_date() {
        let work = |first, last| Period::new(first, last);
        // Work Dec 2024 paid 2 Jan 2025 → 2025.
        let december = work(date!(2024 - 12 - 01), date!(2024 - 12 - 31));
        assert_eq!(attribution_date(date!(2025 - 01 - 02), december).year(), 2025);
        // Work Jan 2025 paid 30 Dec 2024 → 2025.
        let january = work(date!(2025 - 01 - 01), date!(2025 - 01 - 31));
        assert_eq!(attribution_date(date!(2024 - 12 - 30), january), date!(2025 - 01 - 01));
        assert_eq!(attribution_date(date!(2024 - 12 - 30), None).year(), 2024);
    }

    #[test]
    fn y2_today_is_the_day_in_copenhagen() {
        assert_eq!(copenhagen_date(datetime!(2025-12-31 22:59:59 UTC)), date!(2025 - 12 - 31));
        assert_eq!(copenhagen_date(datetime!(2025-12-31 23:00 UTC)), date!(2026 - 01 - 01));
        assert_eq!(copenhagen_date(datetime!(2025-06-30 21:59:59 UTC)), date!(2025 - 06 - 30));
        assert_eq!(copenhagen_date(datetime!(2025-06-30 22:00 UTC)), date!(2025 - 07 - 01));
        // The switches of 2025: 30 March and 26 October, 01:00 UTC.
        assert_eq!(copenhagen_date(datetime!(2025-03-29 23:30 UTC)), date!(2025 - 03 - 30));
        assert_eq!(copenhagen_date(datetime!(2025-03-30 22:00 UTC)), date!(2025 - 03 - 31));
        assert_eq!(copenhagen_date(datetime!(2025-10-25 22:00 UTC)), date!(2025 - 10 - 26));
        assert_eq!(copenhagen_date(datetime!(2025-10-26 22:59 UTC)), date!(2025 - 10 - 26));
        assert_eq!(copenhagen_date(datetime!(9999-12-31 23:59 UTC)), date!(9999 - 12 - 31));
    }

    #[test]
    fn dates_that_do_not_exist_are_not_read() {
        assert_eq!(parse_date("2024-02-29"), Some(date!(2024 - 02 - 29)));
        for text in ["2023-02-29", "2023-04-31", "2023-4-01", "01-02-2023", "2023-13-01", ""] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
