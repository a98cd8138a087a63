//! The facts of a payment, which a report and a correction share.

use frikort_proto::v1::{DayPeriod, PaymentComponents, PaymentFacts as Facts};
use frikort_tests::client::date;

use super::{
    case::{Case, case},
    fields::{Way, in_days, lift, numbers, required_date},
};

const AMOUNT: &str = "facts.amount_oere";
const PAID: &str = "facts.payment_date";
const FIRST: &str = "facts.work_period.first_day";
const LAST: &str = "facts.work_period.last_day";
const HOURS: &str = "facts.hours_hundredths";
const PARTS: &str = "facts.components";
const WAGE: &str = "facts.components.wage_oere";
const HOLIDAY_PAY: &str = "facts.components.holiday_pay_oere";
const PENSION: &str = "facts.components.pension_oere";

/// One øre more than a payment may be.
const TOO_MUCH: i64 = 100_000_000;

/// Every way in which facts can be wrong, missing included.
pub(crate) fn facts<R: 'static>(at: impl Way<R, Option<Facts>>) -> Vec<Case<R>> {
    let mut cases = lift(at, inside());
    cases.push(case("no facts", &["facts"], move |r| *at(r) = None));
    cases.push(case("empty facts", &[AMOUNT, PAID], move |r| *at(r) = Some(Facts::default())));
    cases
}

fn inside() -> Vec<Case<Option<Facts>>> {
    let mut cases =
        numbers(AMOUNT, |f: &mut Facts| &mut f.amount_oere, &[0, -1, i64::MIN, i64::MAX, TOO_MUCH]);
    cases.extend(required_date(PAID, |f: &mut Facts| &mut f.payment_date));
    cases.extend(numbers(
        HOURS,
        |f: &mut Facts| f.hours_hundredths.get_or_insert_default(),
        &[0, -1, 100_000, i32::MIN, i32::MAX],
    ));
    cases.extend(windows());
    cases.extend(work_period());
    cases.extend(components());
    cases.push(case(
        "all of it wrong",
        &[AMOUNT, PAID, FIRST, LAST, HOURS, WAGE, PENSION],
        |f: &mut Facts| {
            *f = Facts {
                amount_oere: -1,
                payment_date: Some(date(2023, 2, 29)),
                work_period: Some(DayPeriod { first_day: Some(date(2022, 4, 31)), last_day: None }),
                hours_hundredths: Some(0),
                components: Some(PaymentComponents {
                    wage_oere: i64::MIN,
                    holiday_pay_oere: 0,
                    pension_oere: i64::MAX,
                }),
            };
        },
    ));
    lift(|f: &mut Option<Facts>| f.get_or_insert_default(), cases)
}

/// Days that exist, and lie outside the time that payments are taken for.
fn windows() -> Vec<Case<Facts>> {
    vec![
        case("paid before the scheme", &[PAID], |f: &mut Facts| {
            f.payment_date = Some(date(2018, 12, 31));
        }),
        case("paid 32 days ahead", &[PAID], |f: &mut Facts| f.payment_date = Some(in_days(32))),
        case("paid in the year 9999", &[PAID], |f: &mut Facts| {
            f.payment_date = Some(date(9999, 12, 31));
        }),
        case("worked before the scheme", &[FIRST], |f: &mut Facts| {
            work(f).first_day = Some(date(2018, 12, 31));
        }),
        case("worked 32 days ahead", &[FIRST], |f: &mut Facts| {
            *work(f) = DayPeriod { first_day: Some(in_days(32)), last_day: Some(in_days(33)) };
        }),
    ]
}

fn work(facts: &mut Facts) -> &mut DayPeriod {
    facts.work_period.get_or_insert_default()
}

fn work_period() -> Vec<Case<Facts>> {
    let mut cases = required_date(FIRST, |f: &mut Facts| &mut work(f).first_day);
    cases.extend(required_date(LAST, |f: &mut Facts| &mut work(f).last_day));
    cases.push(case("an empty work period", &[FIRST, LAST], |f: &mut Facts| {
        *work(f) = DayPeriod::default();
    }));
    cases.push(case("a reversed work period", &[LAST], |f: &mut Facts| {
        *work(f) =
            DayPeriod { first_day: Some(date(2022, 2, 28)), last_day: Some(date(2022, 2, 27)) };
    }));
    // P9: what is wrong between the two is named once each is right by itself.
    cases.push(case("a work period that begins too early, reversed", &[FIRST], |f: &mut Facts| {
        *work(f) =
            DayPeriod { first_day: Some(date(2018, 2, 28)), last_day: Some(date(2018, 2, 27)) };
    }));
    cases
}

fn components() -> Vec<Case<Facts>> {
    fn parts(facts: &mut Facts) -> &mut PaymentComponents {
        // 500,00 kr., as the amount is.
        facts.components.get_or_insert(PaymentComponents {
            wage_oere: 40_000,
            holiday_pay_oere: 8_000,
            pension_oere: 2_000,
        })
    }
    fn split(
        wage_oere: i64,
        holiday_pay_oere: i64,
        pension_oere: i64,
    ) -> Option<PaymentComponents> {
        Some(PaymentComponents { wage_oere, holiday_pay_oere, pension_oere })
    }
    let bad = [-1, i64::MIN, i64::MAX, TOO_MUCH];
    let mut cases = numbers(WAGE, |f: &mut Facts| &mut parts(f).wage_oere, &bad);
    cases.extend(numbers(HOLIDAY_PAY, |f: &mut Facts| &mut parts(f).holiday_pay_oere, &bad));
    cases.extend(numbers(PENSION, |f: &mut Facts| &mut parts(f).pension_oere, &bad));
    cases.extend([
        case("components one øre short", &[PARTS], |f: &mut Facts| parts(f).wage_oere -= 1),
        case("components one øre over", &[PARTS], |f: &mut Facts| parts(f).pension_oere += 1),
        case("empty components", &[PARTS], |f: &mut Facts| f.components = split(0, 0, 0)),
        case("components that add up to more than a payment", &[PARTS], |f: &mut Facts| {
            f.components = split(TOO_MUCH - 1, TOO_MUCH - 1, TOO_MUCH - 1);
        }),
        case("components that overflow", &[WAGE, HOLIDAY_PAY, PENSION], |f: &mut Facts| {
            f.components = split(i64::MAX, i64::MAX, i64::MAX);
        }),
    ]);
    cases
}
