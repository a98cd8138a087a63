//! C1-C5: on which days the card was active, and what that means for a payment.

use time::{Date, macros::date};

use crate::scenario::{
    BAKERY, GARDEN, card_recorded, correct, deactivate, given, grant, holder, limit, lists,
    not_covered, reactivate, recorded, refused, report, split, used,
};

fn granted_in_june() -> [crate::scenario::Step; 2] {
    [limit(2019, "20000.00"), grant("g1", date!(2019 - 06 - 10))]
}

fn worked(first: Date, last: Date) -> crate::scenario::Step {
    report(BAKERY, "a", "100.00").worked(first, last).paid(date!(2019 - 06 - 30))
}

#[test]
fn c1_work_wholly_within_the_active_time_is_covered() {
    given(granted_in_june())
        .when(worked(date!(2019 - 06 - 10), date!(2019 - 06 - 30)))
        .then(recorded("100.00", "0.00"));
}

#[test]
fn c1_work_that_straddles_the_grant_is_refused_with_the_day_to_split_it() {
    given(granted_in_june())
        .when(worked(date!(2019 - 06 - 01), date!(2019 - 06 - 30)))
        .then(refused(not_covered(date!(2019 - 06 - 01), Some(date!(2019 - 06 - 10)))))
        .and(used(2019, "0.00"));
}

#[test]
fn c1_split_at_the_day_given_both_parts_are_answered() {
    given(granted_in_june())
        .when(worked(date!(2019 - 06 - 01), date!(2019 - 06 - 09)))
        .then(refused(not_covered(date!(2019 - 06 - 01), None)))
        .when(worked(date!(2019 - 06 - 10), date!(2019 - 06 - 30)))
        .then(recorded("100.00", "0.00"));
}

#[test]
fn c1_work_that_straddles_the_deactivation_is_refused_with_the_first_uncovered_day() {
    let steps = [holder(), deactivate("d1", date!(2019 - 06 - 15))];
    given(steps)
        .when(worked(date!(2019 - 06 - 01), date!(2019 - 06 - 30)))
        .then(refused(not_covered(date!(2019 - 06 - 16), Some(date!(2019 - 06 - 16)))));
}

#[test]
fn c1_a_single_uncovered_day_at_the_end_is_enough_to_refuse() {
    given([holder(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(worked(date!(2019 - 06 - 01), date!(2019 - 06 - 16)))
        .then(refused(not_covered(date!(2019 - 06 - 16), Some(date!(2019 - 06 - 16)))));
}

#[test]
fn c1_without_a_work_period_the_payment_date_must_be_covered() {
    let paid = |day| report(BAKERY, "a", "100.00").paid(day);
    given(granted_in_june())
        .when(paid(date!(2019 - 06 - 09)))
        .then(refused(not_covered(date!(2019 - 06 - 09), None)))
        .when(paid(date!(2019 - 06 - 10)))
        .then(recorded("100.00", "0.00"));
}

#[test]
fn c1_with_a_work_period_the_payment_date_need_not_be_covered() {
    given([holder(), deactivate("d1", date!(2019 - 04 - 30))])
        .when(worked(date!(2019 - 04 - 01), date!(2019 - 04 - 30)))
        .then(recorded("100.00", "0.00"));
}

#[test]
fn c1_a_gap_within_the_work_is_not_covered() {
    given([
        holder(),
        deactivate("d1", date!(2019 - 06 - 10)),
        reactivate("r1", date!(2019 - 06 - 12)),
    ])
    .when(worked(date!(2019 - 06 - 01), date!(2019 - 06 - 30)))
    .then(refused(not_covered(date!(2019 - 06 - 11), Some(date!(2019 - 06 - 11)))))
    .when(worked(date!(2019 - 06 - 11), date!(2019 - 06 - 30)))
    .then(refused(not_covered(date!(2019 - 06 - 11), Some(date!(2019 - 06 - 12)))))
    .when(worked(date!(2019 - 06 - 12), date!(2019 - 06 - 30)))
    .then(recorded("100.00", "0.00"));
}

#[test]
fn c1_work_across_two_periods_that_touch_is_covered() {
    given([
        holder(),
        deactivate("d1", date!(2019 - 06 - 10)),
        reactivate("r1", date!(2019 - 06 - 11)),
        deactivate("d2", date!(2019 - 06 - 20)),
        grant("g2", date!(2019 - 06 - 21)),
    ])
    .when(worked(date!(2019 - 06 - 01), date!(2019 - 06 - 30)))
    .then(recorded("100.00", "0.00"));
}

#[test]
fn c1_a_correction_is_covered_by_its_new_dates() {
    given([
        holder(),
        deactivate("d1", date!(2019 - 06 - 15)),
        report(BAKERY, "a", "100.00").paid(date!(2019 - 06 - 15)),
    ])
    .when(correct(BAKERY, "a", 1, "100.00").paid(date!(2019 - 06 - 16)))
    .then(refused(not_covered(date!(2019 - 06 - 16), None)));
}

#[test]
fn c2_a_card_is_active_from_the_date_in_the_letter_also_before_the_decision() {
    let letter = grant("g1", date!(2019 - 02 - 01)).decided(date!(2019 - 03 - 15));
    given([limit(2019, "20000.00"), letter])
        .when(report(BAKERY, "a", "100.00").paid(date!(2019 - 02 - 01)))
        .then(recorded("100.00", "0.00"));
}

#[test]
fn c2_a_card_is_active_through_the_day_of_deactivation() {
    given([holder(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(report(BAKERY, "a", "100.00").paid(date!(2019 - 06 - 15)))
        .then(recorded("100.00", "0.00"))
        .when(report(BAKERY, "b", "100.00").paid(date!(2019 - 06 - 16)))
        .then(refused(not_covered(date!(2019 - 06 - 16), None)));
}

#[test]
fn c2_a_card_granted_and_deactivated_on_one_day_was_active_that_day() {
    given([
        limit(2019, "20000.00"),
        grant("g1", date!(2019 - 06 - 10)),
        deactivate("d1", date!(2019 - 06 - 10)),
    ])
    .when(report(BAKERY, "a", "100.00").paid(date!(2019 - 06 - 10)))
    .then(recorded("100.00", "0.00"));
}

#[test]
fn c3_work_before_the_deactivation_paid_after_it_stays_covered() {
    given([holder(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(
            report(BAKERY, "a", "100.00")
                .worked(date!(2019 - 06 - 01), date!(2019 - 06 - 15))
                .paid(date!(2019 - 07 - 31)),
        )
        .then(recorded("100.00", "0.00"));
}

#[test]
fn c3_a_payment_that_was_accepted_stays_accepted_and_is_listed() {
    given([
        holder(),
        report(BAKERY, "after", "100.00").paid(date!(2019 - 06 - 16)),
        report(BAKERY, "on the day", "100.00").paid(date!(2019 - 06 - 15)),
        report(GARDEN, "half", "100.00").worked(date!(2019 - 06 - 10), date!(2019 - 06 - 20)),
        report(GARDEN, "worked before", "100.00")
            .worked(date!(2019 - 06 - 01), date!(2019 - 06 - 15))
            .paid(date!(2019 - 06 - 30)),
    ])
    .when(deactivate("d1", date!(2019 - 06 - 15)))
    .then(lists([(BAKERY, "after"), (GARDEN, "half")]))
    .and(split(BAKERY, "after", "100.00", "0.00"))
    .and(split(GARDEN, "half", "100.00", "0.00"))
    .and(used(2019, "400.00"));
}

#[test]
fn c3_a_cancelled_payment_is_not_listed() {
    given([
        holder(),
        report(BAKERY, "after", "100.00").paid(date!(2019 - 06 - 16)),
        crate::scenario::cancel(BAKERY, "after", 1),
    ])
    .when(deactivate("d1", date!(2019 - 06 - 15)))
    .then(lists([]));
}

#[test]
fn c4_reactivation_in_the_same_year_continues_the_same_used_amount() {
    given([
        holder(),
        report(BAKERY, "a", "19600.00"),
        deactivate("d1", date!(2019 - 04 - 01)),
        reactivate("r1", date!(2019 - 05 - 01)),
    ])
    .when(report(GARDEN, "b", "1000.00").paid(date!(2019 - 05 - 02)))
    .then(recorded("400.00", "600.00"));
}

#[test]
fn c5_reactivated_from_the_day_after_the_last_one_there_is_no_gap() {
    given([holder(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(reactivate("r1", date!(2019 - 06 - 16)).decided(date!(2019 - 09 - 01)))
        .then(card_recorded)
        .when(worked(date!(2019 - 06 - 01), date!(2019 - 06 - 30)))
        .then(recorded("100.00", "0.00"));
}
