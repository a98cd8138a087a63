//! P10: a year takes a bounded number of payments.

use frikort_domain::Rejection;
use time::macros::date;

use crate::scenario::{
    BAKERY, GARDEN, HARBOUR, Step, cancel, card_recorded, correct, given, grant, holder, limit,
    not_covered, payments_per_year, recalculate, recorded, refused, replayed, report,
};

const IN_2020: time::Date = date!(2020 - 01 - 02);

fn too_many(year: i32, payments_per_year: u32) -> Rejection {
    Rejection::TooManyPayments { year, payments_per_year }
}

/// Two payments of 2019, where no more may be. Events: 1 the grant, 2 and 3 the reports.
fn full_year() -> Step {
    let reports = [report(BAKERY, "a", "100.00"), report(GARDEN, "b", "200.00")];
    Step::All([vec![payments_per_year(2), holder()], reports.into()].concat())
}

#[test]
fn p10_a_full_year_takes_no_more_of_any_employer_and_another_year_does() {
    given([full_year(), limit(2020, "20000.00")])
        .when(report(HARBOUR, "c", "1.00"))
        .then(refused(too_many(2019, 2)))
        .when(report(HARBOUR, "c", "1.00").paid(IN_2020))
        .then(recorded("1.00", "0.00"));
}

#[test]
fn p10_a_year_below_the_number_takes_one_more() {
    given([full_year(), payments_per_year(3)])
        .when(report(HARBOUR, "c", "1.00"))
        .then(recorded("1.00", "0.00"))
        .when(report(HARBOUR, "d", "1.00"))
        .then(refused(too_many(2019, 3)));
}

#[test]
fn p10_cancelled_payments_count() {
    given([full_year(), cancel(BAKERY, "a", 1), cancel(GARDEN, "b", 1)])
        .when(report(HARBOUR, "c", "1.00"))
        .then(refused(too_many(2019, 2)));
}

#[test]
fn p10_what_is_on_record_is_repeated_corrected_and_cancelled() {
    given([full_year()])
        .when(report(BAKERY, "a", "100.00"))
        .then(replayed(2))
        .when(correct(BAKERY, "a", 1, "150.00"))
        .then(recorded("150.00", "0.00"))
        .when(cancel(GARDEN, "b", 1))
        .then(recorded("0.00", "0.00"));
    given([full_year(), limit(2019, "50.00")]).when(recalculate(2019)).then(card_recorded);
}

#[test]
fn p10_a_correction_into_a_full_year_is_refused_and_makes_room_where_it_leaves() {
    let in_2020 = report(HARBOUR, "c", "1.00").paid(IN_2020);
    given([full_year(), limit(2020, "20000.00"), in_2020])
        .when(correct(HARBOUR, "c", 1, "1.00").paid(date!(2019 - 05 - 02)))
        .then(refused(too_many(2019, 2)))
        .when(correct(BAKERY, "a", 1, "100.00").paid(IN_2020))
        .then(recorded("100.00", "0.00"))
        .when(correct(HARBOUR, "c", 1, "1.00").paid(date!(2019 - 05 - 02)))
        .then(recorded("1.00", "0.00"))
        .when(report(HARBOUR, "d", "1.00"))
        .then(refused(too_many(2019, 2)));
}

#[test]
fn p10_a_payment_that_was_moved_and_cancelled_counts_where_it_was_last() {
    let moved = correct(BAKERY, "a", 1, "100.00").paid(IN_2020);
    given([full_year(), limit(2020, "20000.00"), moved, cancel(BAKERY, "a", 2)])
        .when(report(HARBOUR, "c", "1.00"))
        .then(recorded("1.00", "0.00"))
        .when(report(HARBOUR, "d", "1.00").paid(IN_2020))
        .then(recorded("1.00", "0.00"))
        .when(report(HARBOUR, "e", "1.00").paid(IN_2020))
        .then(refused(too_many(2020, 2)));
}

#[test]
fn p9_too_many_payments_comes_after_limit_not_set_and_before_limit_exceeded() {
    let before_the_card = report(HARBOUR, "c", "1.00").paid(date!(2018 - 12 - 31));
    given([full_year()])
        .when(before_the_card)
        .then(refused(not_covered(date!(2018 - 12 - 31), None)))
        .when(report(HARBOUR, "c", "20000.00").unless_exceeding())
        .then(refused(too_many(2019, 2)));
    let card = grant("g1", date!(2019 - 01 - 01));
    given([payments_per_year(0), card, limit(2020, "20000.00")])
        .when(report(HARBOUR, "c", "1.00"))
        .then(refused(Rejection::LimitNotSet { year: 2019 }));
}

#[test]
fn p9_correct_too_many_payments_comes_after_limit_not_set() {
    given([full_year(), payments_per_year(0)])
        .when(correct(BAKERY, "a", 1, "100.00").paid(IN_2020))
        .then(refused(Rejection::LimitNotSet { year: 2020 }));
}

/// The number is not on record: what was recorded while it was higher stands, and is decided the same
/// again; the scenario holds each event so.
#[test]
fn p10_a_number_that_is_lowered_contradicts_no_history() {
    let then = given([full_year(), payments_per_year(1)]).when(report(BAKERY, "a", "100.00"));
    then.then(replayed(2))
        .when(correct(BAKERY, "a", 1, "50.00"))
        .then(recorded("50.00", "0.00"))
        .when(report(HARBOUR, "c", "1.00"))
        .then(refused(too_many(2019, 1)));
}
