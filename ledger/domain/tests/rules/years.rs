//! Y1-Y4 and the schedule of limits: which year, and how much.

use frikort_domain::{
    DAYS_AHEAD, Decision, Event, Rejection, SCHEME_START, copenhagen_date, format_date, parse_date,
};
use time::macros::{date, datetime};

use crate::scenario::{
    BAKERY, Then, given, grant, holder, limit, limit_from, moved, recorded, refused, report, split,
    today, used,
};

/// The payment was placed in the year of this day.
fn attributed_to(day: time::Date) -> impl FnOnce(&Then) {
    move |then| {
        assert_eq!(then.outcome().attribution_date, day);
        assert_eq!(then.outcome().year.year, day.year());
    }
}

fn holder_of_2024_and_2025() -> [crate::scenario::Step; 3] {
    [limit(2024, "41280.00"), limit(2025, "42766.00"), grant("g1", date!(2024 - 01 - 01))]
}

#[test]
fn y1_work_in_december_2024_paid_on_2_january_2025_belongs_to_2025() {
    given(holder_of_2024_and_2025())
        .when(
            report(BAKERY, "a", "100.00")
                .worked(date!(2024 - 12 - 01), date!(2024 - 12 - 31))
                .paid(date!(2025 - 01 - 02)),
        )
        .then(attributed_to(date!(2025 - 01 - 02)))
        .and(used(2025, "100.00"))
        .and(used(2024, "0.00"));
}

#[test]
fn y1_work_in_january_2025_paid_on_30_december_2024_belongs_to_2025() {
    given(holder_of_2024_and_2025())
        .when(
            report(BAKERY, "a", "100.00")
                .worked(date!(2025 - 01 - 01), date!(2025 - 01 - 31))
                .paid(date!(2024 - 12 - 30)),
        )
        .then(attributed_to(date!(2025 - 01 - 01)))
        .and(used(2025, "100.00"));
}

#[test]
fn y1_a_payment_within_its_work_period_belongs_to_the_payment_date() {
    given(holder_of_2024_and_2025())
        .when(
            report(BAKERY, "a", "100.00")
                .worked(date!(2024 - 12 - 15), date!(2025 - 01 - 14))
                .paid(date!(2024 - 12 - 31)),
        )
        .then(attributed_to(date!(2024 - 12 - 31)));
}

#[test]
fn y1_without_a_work_period_the_payment_date_decides() {
    given(holder_of_2024_and_2025())
        .when(report(BAKERY, "a", "100.00").paid(date!(2024 - 12 - 31)))
        .then(attributed_to(date!(2024 - 12 - 31)));
}

#[test]
fn y2_the_day_in_copenhagen_changes_at_22_or_23_utc() {
    let day = |instant| copenhagen_date(instant);
    assert_eq!(day(datetime!(2024-12-31 22:59:59 UTC)), date!(2024 - 12 - 31));
    assert_eq!(day(datetime!(2024-12-31 23:00:00 UTC)), date!(2025 - 01 - 01));
    assert_eq!(day(datetime!(2024-07-31 21:59:59 UTC)), date!(2024 - 07 - 31));
    assert_eq!(day(datetime!(2024-07-31 22:00:00 UTC)), date!(2024 - 08 - 01));
    // The same instant, told in another offset.
    assert_eq!(day(datetime!(2025-01-01 00:30:00 +2)), date!(2024 - 12 - 31));
}

#[test]
fn y2_the_clock_changes_on_the_last_sundays_of_march_and_october() {
    // In 2019 31 March and 27 October, in 2024 31 March and 27 October, in 2026 29 and 25.
    for (before, after) in [
        (datetime!(2019-03-30 22:30 UTC), datetime!(2019-03-31 22:30 UTC)),
        (datetime!(2024-03-30 22:30 UTC), datetime!(2024-03-31 22:30 UTC)),
        (datetime!(2026-03-28 22:30 UTC), datetime!(2026-03-29 22:30 UTC)),
    ] {
        assert_eq!(copenhagen_date(before), before.date(), "winter: 23:30 of the same day");
        assert_eq!(Some(copenhagen_date(after)), after.date().next_day(), "summer: 00:30");
    }
    for (before, after) in [
        (datetime!(2019-10-26 22:30 UTC), datetime!(2019-10-27 22:30 UTC)),
        (datetime!(2026-10-24 22:30 UTC), datetime!(2026-10-25 22:30 UTC)),
    ] {
        assert_eq!(Some(copenhagen_date(before)), before.date().next_day(), "summer: 00:30");
        assert_eq!(copenhagen_date(after), after.date(), "winter: 23:30 of the same day");
    }
}

#[test]
fn y2_a_civil_date_is_written_and_read_as_itself() {
    for day in [date!(2019 - 01 - 01), date!(2024 - 02 - 29), date!(2024 - 12 - 31)] {
        assert_eq!(parse_date(&format_date(day)), Some(day));
    }
    assert_eq!(format_date(date!(2024 - 02 - 29)), "2024-02-29");
    for text in ["2023-02-29", "2024-2-29", "24-02-29", "29-02-2024", "2024-02-29T00", " 2024-02-2"]
    {
        assert_eq!(parse_date(text), None, "{text}");
    }
}

#[test]
fn y3_unused_allowance_is_not_carried_over() {
    given([holder(), limit(2020, "20000.00"), report(BAKERY, "a", "5000.00")])
        .when(report(BAKERY, "b", "20000.01").paid(date!(2020 - 01 - 02)))
        .then(recorded("20000.00", "0.01"))
        .and(used(2019, "5000.00"));
}

#[test]
fn y3_a_card_granted_in_december_has_the_whole_years_allowance() {
    given([limit(2019, "20000.00"), grant("g1", date!(2019 - 12 - 01))])
        .when(report(BAKERY, "a", "20000.00").paid(date!(2019 - 12 - 31)))
        .then(recorded("20000.00", "0.00"));
}

#[test]
fn y4_the_scheme_begins_in_2019_and_looks_31_days_ahead() {
    assert_eq!((SCHEME_START, DAYS_AHEAD), (date!(2019 - 01 - 01), 31));
}

#[test]
fn a_year_without_a_limit_is_refused_and_never_guessed() {
    given([holder(), limit(2021, "20000.00")])
        .when(report(BAKERY, "a", "100.00").paid(date!(2020 - 03 - 01)))
        .then(refused(Rejection::LimitNotSet { year: 2020 }));
}

#[test]
fn y5_before_any_limit_of_the_year_is_in_force_the_earliest_one_counts() {
    given([
        limit_from(2023, "40000.00", date!(2023 - 07 - 01)),
        grant("g1", date!(2023 - 01 - 01)),
        today(date!(2023 - 06 - 30)),
    ])
    .when(report(BAKERY, "a", "40001.00").paid(date!(2023 - 03 - 01)))
    .then(recorded("40000.00", "1.00"));
}

/// 2023: 20.000 kr. from 1 January, 40.000 kr. from 1 July for the whole calendar year.
fn holder_of_2023() -> [crate::scenario::Step; 3] {
    [
        limit_from(2023, "20000.00", date!(2023 - 01 - 01)),
        limit_from(2023, "40000.00", date!(2023 - 07 - 01)),
        grant("g1", date!(2023 - 01 - 01)),
    ]
}

#[test]
fn the_limit_of_2023_was_20000_when_asked_on_31_may_2023() {
    let [first, second, card] = holder_of_2023();
    given([first, second, card, today(date!(2023 - 05 - 31))])
        .when(report(BAKERY, "a", "25000.00").paid(date!(2023 - 05 - 31)))
        .then(recorded("20000.00", "5000.00"));
}

#[test]
fn the_limit_of_2023_is_40000_when_asked_on_1_august_2023_first_half_included() {
    let [first, second, card] = holder_of_2023();
    let in_may = report(BAKERY, "a", "25000.00").paid(date!(2023 - 05 - 31));
    given([
        first,
        second,
        card,
        today(date!(2023 - 05 - 31)),
        in_may,
        today(date!(2023 - 08 - 01)),
    ])
    .when(report(BAKERY, "b", "15000.01").paid(date!(2023 - 04 - 30)))
    .then(recorded("15000.00", "0.01"))
    .and(moved([(BAKERY, "a", "25000.00", "0.00")]))
    .and(split(BAKERY, "a", "25000.00", "0.00"))
    .and(used(2023, "40000.00"));
}

#[test]
fn a_late_payment_of_2023_reported_in_2024_meets_the_limit_of_2023() {
    let [first, second, card] = holder_of_2023();
    given([first, second, card, limit(2024, "41280.00"), today(date!(2024 - 02 - 01))])
        .when(report(BAKERY, "a", "40000.01").paid(date!(2023 - 02 - 01)))
        .then(recorded("40000.00", "0.01"));
}

#[test]
fn the_limit_applied_stands_in_the_event() {
    given([holder()]).when(report(BAKERY, "a", "1.00")).then(|then| {
        let Ok(Decision::Record(Event::PaymentReported(_, outcome))) = &then.result else {
            panic!("{:?}", then.result)
        };
        assert_eq!(outcome.year.limit.to_string(), "20000.00");
        assert_eq!((outcome.year.total.to_string().as_str(), outcome.year.payments), ("1.00", 1));
    });
}
