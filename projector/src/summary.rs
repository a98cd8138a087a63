//! What a statement adds up to, beside the years: months, and hours worked. Pure; what must stay
//! out: reading, and deciding what is exempt.

use std::collections::BTreeMap;

use frikort_domain::{Hours, Period};
use frikort_proto::v1::{DayPeriod, MonthTotals, WorkedHours};
use time::{Date, Month};

use crate::statement::StatedPayment;

/// The months in which payments count, oldest first; cancelled ones count nowhere.
pub(crate) fn months<'a>(payments: impl Iterator<Item = &'a StatedPayment>) -> Vec<MonthTotals> {
    let mut months = BTreeMap::<(i32, Month), MonthTotals>::new();
    for payment in payments.filter(|payment| !payment.cancelled) {
        let day = payment.attribution_date;
        let month = months.entry((day.year(), day.month())).or_insert_with(|| MonthTotals {
            year: day.year(),
            month: u8::from(day.month()).into(),
            ..MonthTotals::default()
        });
        let amount = payment.facts.amount;
        month.total_oere += amount.oere();
        month.exempt_oere += payment.exempt.oere();
        month.taxable_oere += amount.saturating_sub(payment.exempt).oere();
        month.payment_count += 1;
        count(payment, &mut month.hours_hundredths, &mut month.payments_without_hours);
    }
    months.into_values().collect()
}

/// Hours of the work that ended in the 12 months up to `through` (P8).
pub(crate) fn hours<'a>(
    payments: impl Iterator<Item = &'a StatedPayment>,
    through: Date,
) -> WorkedHours {
    let period = twelve_months(through);
    let mut hours = WorkedHours {
        period: Some(DayPeriod {
            first_day: Some(period.first.into()),
            last_day: Some(period.last.into()),
        }),
        ..WorkedHours::default()
    };
    let within = |payment: &&StatedPayment| {
        !payment.cancelled && period.contains(payment.facts.work_days().last)
    };
    for payment in payments.filter(within) {
        count(payment, &mut hours.hours_hundredths, &mut hours.payments_without_hours);
    }
    hours
}

/// Unknown is unknown, not zero (P8).
fn count(payment: &StatedPayment, hundredths: &mut i64, without: &mut i32) {
    match payment.facts.hours.map(Hours::hundredths) {
        Some(hours) => *hundredths += i64::from(hours),
        None => *without += 1,
    }
}

/// From the day after the same day of the year before; 29 February stands for 28 February there.
fn twelve_months(through: Date) -> Period {
    let before = through
        .replace_year(through.year() - 1)
        .or_else(|_| Date::from_calendar_date(through.year() - 1, Month::February, 28));
    let first = before.ok().and_then(Date::next_day).unwrap_or(Date::MIN);
    Period::new(first, through).unwrap_or(Period::day(through))
}

#[cfg(test)]
mod tests {
    use super::*;
    use frikort_domain::{Amount, Facts};
    use time::macros::date;

    fn paid(day: Date, oere: i64, hundredths: Option<i32>) -> StatedPayment {
        let amount = Amount::from_oere(oere).unwrap();
        StatedPayment {
            employer_cvr: 13_748_136,
            reference: "a".to_owned(),
            year: day.year(),
            attribution_date: day,
            revision: 1,
            cancelled: false,
            drawn: 1,
            exempt: amount,
            position: 1,
            facts: Facts {
                amount,
                payment_date: day,
                work: None,
                hours: hundredths.map(|hundredths| Hours::from_hundredths(hundredths).unwrap()),
                components: None,
            },
            history: Vec::new(),
        }
    }

    #[test]
    fn p8_hours_of_twelve_months_and_how_many_payments_say_none() {
        let first = date!(2025 - 05 - 02);
        let mut in_advance = paid(date!(2025 - 04 - 30), 100, Some(700));
        in_advance.facts.work = Period::new(date!(2025 - 05 - 01), first);
        let mut cancelled = paid(first, 100, Some(700));
        cancelled.cancelled = true;
        let payments = [
            paid(date!(2025 - 05 - 01), 100, Some(1)),
            paid(first, 100, Some(250)),
            paid(date!(2025 - 12 - 31), 100, None),
            paid(date!(2026 - 05 - 01), 100, Some(425)),
            paid(date!(2026 - 05 - 02), 100, Some(10)),
            in_advance,
            cancelled,
        ];
        let told = hours(payments.iter(), date!(2026 - 05 - 01));
        assert_eq!((told.hours_hundredths, told.payments_without_hours), (250 + 425 + 700, 1));
        let period = told.period.unwrap();
        assert_eq!(period.first_day, Some(first.into()));
        assert_eq!(period.last_day, Some(date!(2026 - 05 - 01).into()));
    }

    #[test]
    fn p8_twelve_months_end_on_a_leap_day_too() {
        let first = |through| twelve_months(through).first;
        assert_eq!(first(date!(2024 - 02 - 29)), date!(2023 - 03 - 01));
        assert_eq!(first(date!(2025 - 02 - 28)), date!(2024 - 02 - 29));
        assert_eq!(first(date!(2025 - 12 - 31)), date!(2025 - 01 - 01));
    }

    #[test]
    fn months_add_up_to_their_payments() {
        let mut split = paid(date!(2025 - 02 - 28), 1_000, None);
        split.exempt = Amount::from_oere(400).unwrap();
        let payments = [
            paid(date!(2025 - 02 - 01), 500, Some(100)),
            split,
            paid(date!(2024 - 12 - 31), 700, Some(50)),
        ];
        let told: Vec<_> = months(payments.iter())
            .iter()
            .map(|m| ((m.year, m.month), (m.total_oere, m.exempt_oere, m.taxable_oere)))
            .collect();
        assert_eq!(told, [((2024, 12), (700, 700, 0)), ((2025, 2), (1_500, 900, 600))]);
        let february = months(payments.iter()).pop().unwrap();
        assert_eq!((february.payment_count, february.hours_hundredths), (2, 100));
        assert_eq!(february.payments_without_hours, 1);
    }
}
