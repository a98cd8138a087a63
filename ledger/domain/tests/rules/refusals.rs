//! P9: when several refusals apply, the first of the list is given. Each test holds two faults
//! that stand next to each other in the list, and takes the first away to meet the second.

use frikort_domain::{CancelReason, Rejection};
use time::macros::date;

use crate::scenario::{
    BAKERY, CARD, OTHER_CARD, Step, cancel, correct, deactivate, given, holder, not_covered,
    refused, replayed, report,
};

fn reused(fields: &[&'static str]) -> Rejection {
    Rejection::ReferenceReused { fields: fields.to_vec() }
}

/// Events: 1 the grant, 2 the report.
fn reported() -> Step {
    Step::All(vec![holder(), report(BAKERY, "a", "100.00")])
}

/// Events: 1 the grant, 2 the report, 3 the correction.
fn corrected() -> Step {
    Step::All(vec![reported(), correct(BAKERY, "a", 1, "200.00")])
}

/// Events: 1 the grant, 2 the report, 3 the cancellation.
fn cancelled() -> Step {
    Step::All(vec![reported(), cancel(BAKERY, "a", 1)])
}

#[test]
fn p9_report_supported_work_comes_before_no_card() {
    given([])
        .when(report(BAKERY, "a", "100.00").supported_work())
        .then(refused(Rejection::SupportedWork))
        .when(report(BAKERY, "a", "100.00"))
        .then(refused(Rejection::NoCard));
}

#[test]
fn p9_report_no_card_comes_before_replay() {
    given([reported()])
        .when(report(BAKERY, "a", "100.00").naming(OTHER_CARD))
        .then(refused(Rejection::NoCard))
        .when(report(BAKERY, "a", "100.00").naming(CARD))
        .then(replayed(2));
}

#[test]
fn p9_report_no_card_comes_before_reference_reused() {
    given([reported()])
        .when(report(BAKERY, "a", "101.00").naming(OTHER_CARD))
        .then(refused(Rejection::NoCard))
        .when(report(BAKERY, "a", "101.00"))
        .then(refused(reused(&["facts.amount_oere"])));
}

#[test]
fn p9_report_reference_reused_comes_before_not_covered() {
    let before_the_card = |reference| {
        report(BAKERY, reference, "100.00")
            .paid(date!(2019 - 01 - 31))
            .worked(date!(2018 - 12 - 31), date!(2019 - 01 - 31))
    };
    given([reported()])
        .when(before_the_card("a"))
        .then(refused(reused(&["facts.payment_date", "facts.work_period"])))
        .when(before_the_card("b"))
        .then(refused(not_covered(date!(2018 - 12 - 31), Some(date!(2019 - 01 - 01)))));
}

#[test]
fn p9_report_replay_comes_before_not_covered() {
    given([reported(), deactivate("d1", date!(2019 - 02 - 01))])
        .when(report(BAKERY, "a", "100.00"))
        .then(replayed(2))
        .when(report(BAKERY, "b", "100.00"))
        .then(refused(not_covered(date!(2019 - 03 - 01), None)));
}

#[test]
fn p9_report_not_covered_comes_before_limit_not_set() {
    let in_2020 = || report(BAKERY, "a", "100.00").paid(date!(2020 - 01 - 02));
    given([holder(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(in_2020())
        .then(refused(not_covered(date!(2020 - 01 - 02), None)));
    given([holder()]).when(in_2020()).then(refused(Rejection::LimitNotSet { year: 2020 }));
}

#[test]
fn p9_report_limit_not_set_comes_before_limit_exceeded() {
    given([holder()])
        .when(report(BAKERY, "a", "999999.99").paid(date!(2020 - 01 - 02)).unless_exceeding())
        .then(refused(Rejection::LimitNotSet { year: 2020 }));
}

#[test]
fn p9_report_not_covered_comes_before_limit_exceeded() {
    given([holder(), deactivate("d1", date!(2019 - 02 - 01))])
        .when(report(BAKERY, "a", "20000.01").unless_exceeding())
        .then(refused(not_covered(date!(2019 - 03 - 01), None)));
}

#[test]
fn p9_change_payment_not_found_comes_before_a_repeat() {
    given([corrected()])
        .when(correct(BAKERY, "a", 1, "200.00").naming(OTHER_CARD))
        .then(refused(Rejection::PaymentNotFound))
        .when(correct(BAKERY, "a", 1, "200.00").naming(CARD))
        .then(replayed(3));
    given([cancelled()])
        .when(cancel(BAKERY, "a", 1).naming(OTHER_CARD))
        .then(refused(Rejection::PaymentNotFound))
        .when(cancel(BAKERY, "a", 1).naming(CARD))
        .then(replayed(3));
}

#[test]
fn p9_change_payment_not_found_also_when_there_is_no_card() {
    given([])
        .when(correct(BAKERY, "a", 1, "200.00"))
        .then(refused(Rejection::PaymentNotFound))
        .when(cancel(BAKERY, "a", 1))
        .then(refused(Rejection::PaymentNotFound));
}

#[test]
fn p9_cancel_a_repeat_comes_before_payment_cancelled() {
    given([cancelled()])
        .when(cancel(BAKERY, "a", 1))
        .then(replayed(3))
        .when(cancel(BAKERY, "a", 1).because(CancelReason::Duplicate))
        .then(refused(Rejection::PaymentCancelled))
        .when(cancel(BAKERY, "a", 2))
        .then(refused(Rejection::PaymentCancelled));
}

#[test]
fn p9_correct_a_repeat_comes_before_revision_mismatch() {
    given([corrected()])
        .when(correct(BAKERY, "a", 1, "200.00"))
        .then(replayed(3))
        .when(correct(BAKERY, "a", 1, "201.00"))
        .then(refused(Rejection::RevisionMismatch { revision: 2 }));
}

#[test]
fn p9_correct_a_repeat_comes_before_not_covered() {
    given([corrected(), deactivate("d1", date!(2019 - 02 - 01))])
        .when(correct(BAKERY, "a", 1, "200.00"))
        .then(replayed(3));
}

#[test]
fn p9_only_the_last_change_is_repeated() {
    given([corrected(), correct(BAKERY, "a", 2, "300.00")])
        .when(correct(BAKERY, "a", 1, "200.00"))
        .then(refused(Rejection::RevisionMismatch { revision: 3 }))
        .when(correct(BAKERY, "a", 2, "300.00"))
        .then(replayed(4));
    given([corrected(), cancel(BAKERY, "a", 2)])
        .when(correct(BAKERY, "a", 1, "200.00"))
        .then(refused(Rejection::PaymentCancelled));
}

#[test]
fn p9_a_repeat_with_another_revision_is_no_repeat() {
    given([corrected()])
        .when(correct(BAKERY, "a", 3, "200.00"))
        .then(refused(Rejection::RevisionMismatch { revision: 2 }));
}

#[test]
fn p9_a_cancellation_does_not_repeat_a_correction() {
    given([corrected()])
        .when(cancel(BAKERY, "a", 1))
        .then(refused(Rejection::RevisionMismatch { revision: 2 }));
    given([cancelled()])
        .when(correct(BAKERY, "a", 1, "100.00"))
        .then(refused(Rejection::PaymentCancelled));
}

#[test]
fn p9_change_payment_cancelled_comes_before_revision_mismatch() {
    given([cancelled()])
        .when(correct(BAKERY, "a", 7, "50.00"))
        .then(refused(Rejection::PaymentCancelled))
        .when(cancel(BAKERY, "a", 7))
        .then(refused(Rejection::PaymentCancelled));
    given([reported()])
        .when(cancel(BAKERY, "a", 7))
        .then(refused(Rejection::RevisionMismatch { revision: 1 }));
}

#[test]
fn p9_correct_revision_mismatch_comes_before_not_covered() {
    let before_the_card =
        |revision| correct(BAKERY, "a", revision, "100.00").paid(date!(2018 - 12 - 31));
    given([reported()])
        .when(before_the_card(7))
        .then(refused(Rejection::RevisionMismatch { revision: 1 }))
        .when(before_the_card(1))
        .then(refused(not_covered(date!(2018 - 12 - 31), None)));
}

#[test]
fn p9_correct_not_covered_comes_before_limit_not_set() {
    let into_2020 = || correct(BAKERY, "a", 1, "100.00").paid(date!(2020 - 01 - 02));
    given([reported(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(into_2020())
        .then(refused(not_covered(date!(2020 - 01 - 02), None)));
    given([reported()]).when(into_2020()).then(refused(Rejection::LimitNotSet { year: 2020 }));
}
