//! P1-P8: reporting, repeating, correcting and cancelling a payment.

use frikort_domain::{Amount, AmountError, CancelReason, Components, Decision, Hours, Rejection};
use time::macros::date;

use crate::scenario::{
    BAKERY, GARDEN, HARBOUR, Step, Then, cancel, card_recorded, correct, deactivate, given,
    given_with, grant, holder, key, kr, limit, limit_from, moved, not_covered, nothing_recorded,
    recalculate, recorded, refused, replayed, report, split, used,
};

fn reused(fields: &[&'static str]) -> Rejection {
    Rejection::ReferenceReused { fields: fields.to_vec() }
}

fn at_unit(step: Step, unit: &str) -> Step {
    let unit = unit.parse().expect("a P-number");
    step.with_report(|command| command.production_unit = Some(unit))
}

fn made_of(step: Step, wage: &str, holiday_pay: &str, pension: &str) -> Step {
    let components =
        Components { wage: kr(wage), holiday_pay: kr(holiday_pay), pension: kr(pension) };
    step.with_facts(|facts| facts.components = Some(components))
}

#[test]
fn p1_the_components_add_up_to_the_gross_amount() {
    let (wage, holiday_pay, pension) = (kr("800.10"), kr("99.90"), kr("0.01"));
    assert_eq!(Components { wage, holiday_pay, pension }.sum(), kr("900.01"));
    given([holder(), report(BAKERY, "x", "19500.00")])
        .when(made_of(report(BAKERY, "a", "900.01"), "800.10", "99.90", "0.01"))
        .then(recorded("500.00", "400.01"));
}

#[test]
fn p1_the_largest_payment_is_999_999_99() {
    assert_eq!(Amount::MAX_PAYMENT, kr("999999.99"));
    given([holder()])
        .when(report(BAKERY, "a", "999999.99"))
        .then(recorded("20000.00", "979999.99"));
}

#[test]
fn p1_an_amount_has_two_decimals_and_no_sign() {
    assert_eq!("1.001".parse::<Amount>(), Err(AmountError::Malformed));
    assert_eq!("-0.01".parse::<Amount>(), Err(AmountError::Negative));
    assert_eq!(Amount::from_oere(-1), Err(AmountError::Negative));
}

#[test]
fn p2_supported_work_is_refused() {
    given([holder()])
        .when(report(BAKERY, "a", "100.00").supported_work())
        .then(refused(Rejection::SupportedWork));
}

#[test]
fn p3_the_same_report_again_gets_the_original_answer() {
    // Events: 1 the grant, 2 the report.
    given([holder(), report(BAKERY, "a", "100.00")])
        .when(report(BAKERY, "a", "100.00"))
        .then(replayed(2));
}

#[test]
fn p3_the_original_answer_outlives_correction_cancellation_deactivation_and_limits() {
    given([
        holder(),
        report(BAKERY, "a", "25000.00"),
        correct(BAKERY, "a", 1, "300.00").hours("3.00"),
        correct(BAKERY, "a", 2, "200.00"),
        cancel(BAKERY, "a", 3),
        deactivate("d1", date!(2019 - 02 - 01)),
        limit(2019, "1.00"),
    ])
    .when(report(BAKERY, "a", "25000.00"))
    .then(replayed(2))
    .and(|then| assert_eq!(then.after.split(BAKERY, "a"), ("0.00".to_owned(), "0.00".to_owned())));
}

#[test]
fn p3_the_content_of_a_correction_is_not_that_of_the_report() {
    given([holder(), report(BAKERY, "a", "100.00"), correct(BAKERY, "a", 1, "200.00")])
        .when(report(BAKERY, "a", "200.00"))
        .then(refused(reused(&["facts.amount_oere"])));
}

#[test]
fn p3_each_field_that_differs_is_named() {
    let again = |change: fn(Step) -> Step, field: &'static str| {
        given([holder(), report(BAKERY, "a", "100.00")])
            .when(change(report(BAKERY, "a", "100.00")))
            .then(refused(reused(&[field])));
    };
    again(|step| step.with_facts(|facts| facts.amount = kr("100.01")), "facts.amount_oere");
    again(|step| step.paid(date!(2019 - 03 - 02)), "facts.payment_date");
    again(|step| step.worked(date!(2019 - 03 - 01), date!(2019 - 03 - 01)), "facts.work_period");
    again(|step| step.hours("7.40"), "facts.hours_hundredths");
    again(|step| made_of(step, "100.00", "0.00", "0.00"), "facts.components");
    again(|step| at_unit(step, "1001234567"), "production_unit");
    given([holder(), report(BAKERY, "a", "100.00")])
        .when(at_unit(report(BAKERY, "a", "1.00").paid(date!(2019 - 03 - 02)), "1001234567"))
        .then(refused(reused(&["facts.amount_oere", "facts.payment_date", "production_unit"])));
}

#[test]
fn p3_another_employers_same_reference_is_another_payment() {
    given([holder(), report(BAKERY, "a", "100.00")])
        .when(report(GARDEN, "a", "200.00"))
        .then(recorded("200.00", "0.00"));
}

#[test]
fn p3_a_repeat_that_must_not_exceed_gets_the_original_answer() {
    given([holder(), report(BAKERY, "a", "20000.01")])
        .when(report(BAKERY, "a", "20000.01").unless_exceeding())
        .then(replayed(2));
}

fn warns(then: &Then) {
    assert!(then.outcome().possible_duplicate);
}

fn does_not_warn(then: &Then) {
    assert!(!then.outcome().possible_duplicate);
}

#[test]
fn p4_two_payments_alike_in_all_but_the_reference_are_legal_and_warned_about() {
    given([holder(), report(BAKERY, "morning", "400.00").hours("4.00")])
        .when(report(BAKERY, "evening", "400.00").hours("4.00"))
        .then(recorded("400.00", "0.00"))
        .and(warns)
        .and(used(2019, "800.00"));
}

#[test]
fn p4_alike_are_amount_attribution_date_and_days_of_work() {
    let given_one = || given([holder(), report(BAKERY, "a", "400.00").hours("4.00")]);
    let day = date!(2019 - 03 - 01);
    given_one().when(report(BAKERY, "b", "400.00").hours("4.01")).then(warns);
    given_one().when(report(BAKERY, "b", "400.00")).then(warns);
    given_one().when(at_unit(report(BAKERY, "b", "400.00"), "1001234567")).then(warns);
    // One stated day that is the payment date is the same as none.
    given_one().when(report(BAKERY, "b", "400.00").worked(day, day)).then(warns);
    given_one().when(report(BAKERY, "b", "400.01").hours("4.00")).then(does_not_warn);
    given_one().when(report(GARDEN, "b", "400.00").hours("4.00")).then(does_not_warn);
    let next = date!(2019 - 03 - 02);
    given_one().when(report(BAKERY, "b", "400.00").paid(next)).then(does_not_warn);
    given_one().when(report(BAKERY, "b", "400.00").worked(next, next)).then(does_not_warn);
    let before = date!(2019 - 02 - 28);
    given_one().when(report(BAKERY, "b", "400.00").worked(before, day)).then(does_not_warn);
}

#[test]
fn p4_a_payment_is_held_against_the_others_as_they_stand() {
    given([holder(), report(BAKERY, "a", "100.00"), correct(BAKERY, "a", 1, "400.00")])
        .when(report(BAKERY, "b", "100.00"))
        .then(does_not_warn)
        .when(report(BAKERY, "c", "400.00"))
        .then(warns);
    given([holder(), report(BAKERY, "a", "400.00"), cancel(BAKERY, "a", 1)])
        .when(report(BAKERY, "b", "400.00"))
        .then(does_not_warn);
}

#[test]
fn p5_a_correction_replaces_amount_dates_and_hours() {
    given([holder(), report(BAKERY, "a", "100.00").hours("1.00")])
        .when(
            correct(BAKERY, "a", 1, "250.00")
                .paid(date!(2019 - 04 - 30))
                .worked(date!(2019 - 04 - 01), date!(2019 - 04 - 02)),
        )
        .then(recorded("250.00", "0.00"))
        .and(|then| {
            let state = then.after.account.payment(&key(BAKERY, "a")).expect("the payment");
            assert_eq!((state.revision, state.facts.hours), (2, None));
            assert_eq!(state.facts.payment_date, date!(2019 - 04 - 30));
            assert_eq!(then.outcome().attribution_date, date!(2019 - 04 - 30));
        })
        .and(used(2019, "250.00"));
}

#[test]
fn p5_a_correction_names_the_revision_it_expects() {
    given([holder(), report(BAKERY, "a", "100.00"), correct(BAKERY, "a", 1, "200.00")])
        .when(correct(BAKERY, "a", 1, "300.00"))
        .then(refused(Rejection::RevisionMismatch { revision: 2 }))
        .when(correct(BAKERY, "a", 3, "300.00"))
        .then(refused(Rejection::RevisionMismatch { revision: 2 }))
        .when(correct(BAKERY, "a", 2, "300.00"))
        .then(recorded("300.00", "0.00"));
}

/// 2019 is full and B waits; 2020 has 100 kr. left.
fn two_full_years() -> Step {
    Step::All(vec![
        holder(),
        limit(2020, "20000.00"),
        report(BAKERY, "A", "12000.00"),
        report(GARDEN, "B", "9000.00"),
        report(HARBOUR, "N", "19900.00").paid(date!(2020 - 01 - 31)),
    ])
}

#[test]
fn p5_moved_to_another_year_a_payment_frees_the_old_one_and_draws_last_in_the_new_one() {
    given([two_full_years()])
        .when(correct(BAKERY, "A", 1, "12000.00").paid(date!(2020 - 01 - 02)))
        .then(recorded("100.00", "11900.00"))
        .and(moved([(GARDEN, "B", "9000.00", "0.00")]))
        .and(split(HARBOUR, "N", "19900.00", "0.00"))
        .and(used(2019, "9000.00"))
        .and(used(2020, "20000.00"))
        .and(|then| {
            let outcome = then.outcome();
            let left = outcome.left_year.expect("the year it left");
            assert_eq!((left.year, left.total, left.payments), (2019, kr("9000.00"), 1));
            assert_eq!(left.limit, kr("20000.00"));
            let year = outcome.year;
            assert_eq!((year.year, year.total, year.payments), (2020, kr("31900.00"), 2));
        });
}

#[test]
fn p5_moved_away_and_back_a_payment_has_lost_its_place() {
    given([
        two_full_years(),
        correct(BAKERY, "A", 1, "12000.00").paid(date!(2020 - 01 - 02)),
        correct(BAKERY, "A", 2, "12000.00"),
        report(HARBOUR, "M", "50.00"),
    ])
    // B drew all it needed meanwhile; A got what was left of 2019, and M nothing.
    .when(report(HARBOUR, "K", "1.00"))
    .then(split(GARDEN, "B", "9000.00", "0.00"))
    .and(split(BAKERY, "A", "11000.00", "1000.00"))
    .and(split(HARBOUR, "M", "0.00", "50.00"))
    // What B gives up goes to A: among those that wait, A stands before M.
    .when(correct(GARDEN, "B", 1, "8000.00"))
    .then(moved([(BAKERY, "A", "12000.00", "0.00")]));
}

#[test]
fn p5_a_payment_moved_into_a_year_is_the_last_to_be_topped_up() {
    given([
        two_full_years(),
        report(GARDEN, "waiting", "300.00").paid(date!(2020 - 02 - 28)),
        // 100 kr. of 2020 went to "waiting"; A, moved in, has nothing.
        correct(BAKERY, "A", 1, "12000.00").paid(date!(2020 - 01 - 02)),
    ])
    .when(correct(HARBOUR, "N", 1, "19600.00").paid(date!(2020 - 01 - 31)))
    .then(moved([(GARDEN, "waiting", "300.00", "0.00"), (BAKERY, "A", "100.00", "11900.00")]));
}

#[test]
fn p5_moving_a_payment_settles_limits_that_changed_in_both_years() {
    given([two_full_years(), limit(2019, "8000.00"), limit(2020, "19000.00")])
        .when(correct(BAKERY, "A", 1, "12000.00").paid(date!(2020 - 01 - 02)))
        .then(recorded("0.00", "12000.00"))
        .and(moved([(HARBOUR, "N", "19000.00", "900.00")]))
        .and(split(GARDEN, "B", "8000.00", "1000.00"))
        .and(used(2019, "8000.00"))
        .and(used(2020, "19000.00"));
}

#[test]
fn p5_a_past_year_is_corrected_also_when_the_card_is_no_longer_active() {
    given([
        holder(),
        report(BAKERY, "A", "100.00"),
        deactivate("d1", date!(2019 - 06 - 15)),
        crate::scenario::today(date!(2021 - 02 - 01)),
    ])
    .when(correct(BAKERY, "A", 1, "150.00"))
    .then(recorded("150.00", "0.00"))
    .when(cancel(BAKERY, "A", 2))
    .then(used(2019, "0.00"));
}

#[test]
fn p6_each_reason_ends_the_payment() {
    for reason in [
        CancelReason::WrongPerson,
        CancelReason::Duplicate,
        CancelReason::NotPaid,
        CancelReason::SupportedWork,
        CancelReason::Other,
    ] {
        given([holder(), report(BAKERY, "a", "100.00")])
            .when(cancel(BAKERY, "a", 1).because(reason))
            .then(recorded("0.00", "0.00"))
            .and(used(2019, "0.00"))
            .and(|then| {
                let state = then.after.account.payment(&key(BAKERY, "a")).expect("the payment");
                assert!(state.cancelled && state.amount().is_zero());
                assert_eq!(then.outcome().revision, 2);
                assert_eq!(then.after.account.year_total(2019), (Amount::ZERO, 0));
            });
    }
}

#[test]
fn p6_after_a_cancellation_nothing_more_is_accepted() {
    given([holder(), report(BAKERY, "a", "100.00"), cancel(BAKERY, "a", 1)])
        .when(cancel(BAKERY, "a", 2))
        .then(refused(Rejection::PaymentCancelled))
        .when(cancel(BAKERY, "a", 1).because(CancelReason::Other))
        .then(refused(Rejection::PaymentCancelled))
        .when(correct(BAKERY, "a", 2, "50.00"))
        .then(refused(Rejection::PaymentCancelled));
}

#[test]
fn p7_only_the_employer_that_reported_a_payment_corrects_or_cancels_it() {
    given([holder(), report(BAKERY, "a", "100.00")])
        .when(correct(GARDEN, "a", 1, "50.00"))
        .then(refused(Rejection::PaymentNotFound))
        .when(cancel(GARDEN, "a", 1))
        .then(refused(Rejection::PaymentNotFound));
}

#[test]
fn p8_hours_go_in_hundredths_up_to_999_99_and_zero_is_not_unknown() {
    assert_eq!(Hours::from_hundredths(1).map(|h| h.to_string()).as_deref(), Some("0.01"));
    assert_eq!(Hours::from_hundredths(99_999).map(|h| h.to_string()).as_deref(), Some("999.99"));
    for hundredths in [0, -1, 100_000, i32::MAX, i32::MIN] {
        assert_eq!(Hours::from_hundredths(hundredths), None, "{hundredths}");
    }
    given([holder()]).when(report(BAKERY, "a", "100.00")).then(|then| {
        let state = then.after.account.payment(&key(BAKERY, "a")).expect("the payment");
        assert_eq!(state.facts.hours, None);
    });
}

#[test]
fn p5_what_was_accepted_is_judged_anew_only_where_the_days_of_work_change() {
    let late = || deactivate("d1", date!(2019 - 02 - 15));
    let worked = |step: Step| step.worked(date!(2019 - 03 - 01), date!(2019 - 03 - 03));
    given([holder(), worked(report(BAKERY, "a", "100.00")).paid(date!(2019 - 03 - 31)), late()])
        .when(worked(correct(BAKERY, "a", 1, "150.00")).paid(date!(2019 - 03 - 31)))
        .then(recorded("150.00", "0.00"))
        .when(worked(correct(BAKERY, "a", 2, "150.00")).hours("7.50").paid(date!(2019 - 04 - 01)))
        .then(recorded("150.00", "0.00"))
        .when(correct(BAKERY, "a", 3, "150.00").paid(date!(2019 - 03 - 02)))
        .then(refused(not_covered(date!(2019 - 03 - 02), None)))
        .when(correct(BAKERY, "a", 3, "150.00").paid(date!(2019 - 02 - 15)))
        .then(recorded("150.00", "0.00"));
}

#[test]
fn p11_a_report_repeated_after_a_change_gets_its_answer_and_is_told_so() {
    let repeated = |changed_since| {
        move |then: &Then| {
            let Ok(Decision::ReplayPayment(answer, now)) = &then.result else {
                panic!("no repeat: {:?}", then.result)
            };
            assert_eq!((answer.outcome.exempt, *now), (kr("100.00"), changed_since));
            nothing_recorded(then);
        }
    };
    given([holder(), report(BAKERY, "a", "100.00")])
        .when(report(BAKERY, "a", "100.00"))
        .then(repeated(None))
        .when(correct(BAKERY, "a", 1, "150.00"))
        .then(recorded("150.00", "0.00"))
        .when(report(BAKERY, "a", "100.00"))
        .then(repeated(Some(2)))
        .when(cancel(BAKERY, "a", 2))
        .then(card_recorded)
        .when(report(BAKERY, "a", "100.00"))
        .then(repeated(Some(3)));
    // A split that changed is no change of the payment.
    given([
        limit(2019, "150.00"),
        grant("g1", date!(2019 - 01 - 01)),
        report(GARDEN, "first", "100.00"),
        report(BAKERY, "a", "100.00"),
        cancel(GARDEN, "first", 1),
    ])
    .when(report(BAKERY, "a", "100.00"))
    .then(|then| {
        let Ok(Decision::ReplayPayment(answer, now)) = &then.result else { panic!("no repeat") };
        assert_eq!((answer.outcome.exempt, *now), (kr("50.00"), None));
    });
}

#[test]
fn a10_a_payment_that_was_moved_stands_at_the_place_of_the_move() {
    let in_2020 = |step: Step| step.paid(date!(2020 - 03 - 01));
    // `b` was registered before `c`, and moved into 2020 after it.
    let steps = || {
        given([
            holder(),
            limit(2020, "250.00"),
            in_2020(report(GARDEN, "a", "100.00")),
            report(BAKERY, "b", "100.00"),
            in_2020(report(GARDEN, "c", "100.00")),
            in_2020(correct(BAKERY, "b", 1, "100.00")),
        ])
    };
    // A3: it drew last.
    assert_eq!(steps().split(BAKERY, "b"), ("50.00".to_owned(), "50.00".to_owned()));
    // A6: it gives back first.
    given_with(steps(), [limit_from(2020, "150.00", date!(2020 - 01 - 01))])
        .when(recalculate(2020))
        .then(split(BAKERY, "b", "0.00", "100.00"))
        .and(split(GARDEN, "c", "50.00", "50.00"))
        // A5: what is freed reaches it last.
        .when(cancel(GARDEN, "a", 1))
        .then(split(GARDEN, "c", "100.00", "0.00"))
        .and(split(BAKERY, "b", "50.00", "50.00"));
}
