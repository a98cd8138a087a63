//! A1-A9: how one year's limit is shared among its payments.

use frikort_domain::{Decision, Event, Rejection, decide, settled_payments};
use time::macros::date;

use crate::scenario::{
    BAKERY, GARDEN, HARBOUR, Step, Then, cancel, correct, given, given_with, grant, holder, key,
    kr, limit, limit_from, moved, nothing_recorded, recalculate, recorded, refused, replayed,
    report, split, today, used,
};

fn used_19600() -> [Step; 2] {
    [holder(), report(BAKERY, "before", "19600.00")]
}

/// The rules' own example: A 12.000, B 9.000 (8.000 + 1.000).
fn a_and_b() -> [Step; 3] {
    [holder(), report(BAKERY, "A", "12000.00"), report(GARDEN, "B", "9000.00")]
}

/// The same, and C with nothing left for it.
fn a_b_and_c() -> Step {
    let [holder, a, b] = a_and_b();
    Step::All(vec![holder, a, b, report(HARBOUR, "C", "500.00")])
}

#[test]
fn a1_used_19600_and_paid_1000_is_400_exempt_and_600_taxable() {
    given(used_19600()).when(report(GARDEN, "a", "1000.00")).then(recorded("400.00", "600.00"));
}

#[test]
fn a1_at_exactly_the_limit_nothing_is_taxable() {
    given(used_19600()).when(report(GARDEN, "a", "400.00")).then(recorded("400.00", "0.00"));
}

#[test]
fn a1_one_oere_over_the_limit_one_oere_is_taxable() {
    given(used_19600()).when(report(GARDEN, "a", "400.01")).then(recorded("400.00", "0.01"));
}

#[test]
fn a1_one_oere_under_the_limit_leaves_one_oere() {
    given(used_19600())
        .when(report(GARDEN, "a", "399.99"))
        .then(recorded("399.99", "0.00"))
        .when(report(GARDEN, "b", "0.02"))
        .then(recorded("0.01", "0.01"));
}

#[test]
fn a1_above_the_limit_a_payment_is_recorded_and_wholly_taxable() {
    given(a_and_b()).when(report(HARBOUR, "C", "500.00")).then(recorded("0.00", "500.00"));
}

#[test]
fn a2_used_is_the_smaller_of_limit_and_sum_and_every_payment_is_its_two_parts() {
    given(a_and_b())
        .when(report(HARBOUR, "C", "500.00"))
        .then(used(2019, "20000.00"))
        .and(|then| {
            let (total, payments) = then.after.account.year_total(2019);
            assert_eq!((total.to_string().as_str(), payments), ("21500.00", 3));
            for (_, state) in then.after.account.payments() {
                assert_eq!(state.exempt + state.taxable(), state.amount());
            }
        })
        .when(cancel(BAKERY, "A", 1))
        .then(used(2019, "9500.00"));
}

#[test]
fn a3_a_late_report_draws_last_whatever_its_dates() {
    given([holder(), report(BAKERY, "may", "19900.00").paid(date!(2019 - 05 - 31))])
        .when(report(GARDEN, "january", "200.00").paid(date!(2019 - 01 - 31)))
        .then(recorded("100.00", "100.00"))
        .and(split(BAKERY, "may", "19900.00", "0.00"));
}

#[test]
fn a4_an_upward_correction_pushes_nobody_out() {
    given([holder(), report(BAKERY, "A", "12000.00"), report(GARDEN, "B", "8000.00")])
        .when(correct(BAKERY, "A", 1, "13000.00"))
        .then(recorded("12000.00", "1000.00"))
        .and(moved([]))
        .and(split(GARDEN, "B", "8000.00", "0.00"));
}

#[test]
fn a4_an_upward_correction_draws_its_increase_from_what_is_left() {
    given([holder(), report(BAKERY, "A", "10000.00"), report(GARDEN, "B", "8000.00")])
        .when(correct(BAKERY, "A", 1, "13000.00"))
        .then(recorded("12000.00", "1000.00"))
        .and(moved([]));
}

#[test]
fn a4_a_downward_correction_gives_up_the_taxable_part_first() {
    given(a_and_b())
        .when(correct(GARDEN, "B", 1, "8500.00"))
        .then(recorded("8000.00", "500.00"))
        .and(moved([]))
        .when(correct(GARDEN, "B", 2, "8000.00"))
        .then(recorded("8000.00", "0.00"))
        .and(moved([]))
        .when(correct(GARDEN, "B", 3, "7999.99"))
        .then(recorded("7999.99", "0.00"))
        .and(used(2019, "19999.99"));
}

#[test]
fn a4_a_corrected_payment_keeps_its_exempt_part_also_when_an_earlier_one_is_taxed() {
    given([
        holder(),
        report(BAKERY, "A", "12000.00"),
        report(GARDEN, "B", "8000.00"),
        correct(BAKERY, "A", 1, "13000.00"),
    ])
    .when(correct(GARDEN, "B", 1, "8500.00"))
    .then(recorded("8000.00", "500.00"))
    .and(moved([]))
    .and(split(BAKERY, "A", "12000.00", "1000.00"));
}

#[test]
fn a4_a_correction_of_the_hours_alone_moves_nothing() {
    given(a_and_b())
        .when(correct(GARDEN, "B", 1, "9000.00").hours("7.40"))
        .then(recorded("8000.00", "1000.00"))
        .and(moved([]));
}

#[test]
fn a4_a_correction_to_the_same_content_changes_the_revision_and_no_split() {
    given(a_and_b())
        .when(correct(BAKERY, "A", 1, "12000.00"))
        .then(recorded("12000.00", "0.00"))
        .and(moved([]))
        .and(|then| assert_eq!(then.outcome().revision, 2));
}

#[test]
fn a5_the_example_of_the_rules_a_corrected_to_11000_makes_b_wholly_exempt() {
    given(a_and_b())
        .when(correct(BAKERY, "A", 1, "11000.00"))
        .then(recorded("11000.00", "0.00"))
        .and(moved([(GARDEN, "B", "9000.00", "0.00")]))
        .and(split(GARDEN, "B", "9000.00", "0.00"))
        .and(used(2019, "20000.00"));
}

#[test]
fn a5_freed_allowance_goes_to_the_first_registered_first() {
    given([a_b_and_c()])
        .when(correct(BAKERY, "A", 1, "10900.00"))
        .then(moved([(GARDEN, "B", "9000.00", "0.00"), (HARBOUR, "C", "100.00", "400.00")]));
    given([a_b_and_c()])
        .when(correct(BAKERY, "A", 1, "11500.00"))
        .then(moved([(GARDEN, "B", "8500.00", "500.00")]))
        .and(split(HARBOUR, "C", "0.00", "500.00"));
}

#[test]
fn a5_a_cancellation_frees_what_the_payment_held() {
    given([a_b_and_c()])
        .when(cancel(BAKERY, "A", 1))
        .then(moved([(GARDEN, "B", "9000.00", "0.00"), (HARBOUR, "C", "500.00", "0.00")]))
        .and(used(2019, "9500.00"));
}

#[test]
fn a5_a_raised_limit_goes_to_taxable_parts_before_a_new_payment_draws() {
    given([a_b_and_c(), limit(2019, "21200.00")])
        .when(report(BAKERY, "D", "100.00"))
        .then(recorded("0.00", "100.00"))
        .and(moved([(GARDEN, "B", "9000.00", "0.00"), (HARBOUR, "C", "200.00", "300.00")]));
}

#[test]
fn a5_a_raised_limit_reaches_the_corrected_payment_in_its_own_place() {
    given([a_b_and_c(), limit(2019, "20700.00")])
        .when(correct(HARBOUR, "C", 1, "600.00"))
        .then(recorded("0.00", "600.00"))
        .and(moved([(GARDEN, "B", "8700.00", "300.00")]));
    given([a_b_and_c(), limit(2019, "21200.00")])
        .when(correct(HARBOUR, "C", 1, "600.00"))
        .then(recorded("200.00", "400.00"))
        .and(moved([(GARDEN, "B", "9000.00", "0.00")]));
}

#[test]
fn a5_freed_allowance_stays_in_its_year() {
    given([
        a_b_and_c(),
        limit(2020, "100.00"),
        report(HARBOUR, "next", "150.00").paid(date!(2020 - 01 - 02)),
    ])
    .when(cancel(BAKERY, "A", 1))
    .then(split(HARBOUR, "next", "100.00", "50.00"));
}

#[test]
fn a5_a_cancelled_payment_is_given_nothing() {
    given([a_b_and_c(), cancel(GARDEN, "B", 1)])
        .when(cancel(BAKERY, "A", 1))
        .then(moved([]))
        .and(split(GARDEN, "B", "0.00", "0.00"))
        .and(used(2019, "500.00"));
}

#[test]
fn a6_a_lowered_limit_takes_back_from_the_last_registered_first() {
    given([a_b_and_c(), limit(2019, "15000.00")])
        .when(report(BAKERY, "D", "100.00"))
        .then(recorded("0.00", "100.00"))
        .and(moved([(GARDEN, "B", "3000.00", "6000.00")]))
        .and(used(2019, "15000.00"));
}

#[test]
fn a6_a_lowered_limit_reaches_earlier_payments_when_the_last_has_nothing_more() {
    given([a_b_and_c(), limit(2019, "11999.99")])
        .when(report(BAKERY, "D", "100.00"))
        .then(moved([(BAKERY, "A", "11999.99", "0.01"), (GARDEN, "B", "0.00", "9000.00")]));
}

#[test]
fn a6_order_of_taking_back_is_registration_not_dates() {
    given([
        holder(),
        report(BAKERY, "may", "10000.00").paid(date!(2019 - 05 - 31)),
        report(GARDEN, "january", "10000.00").paid(date!(2019 - 01 - 31)),
        limit(2019, "19000.00"),
    ])
    .when(report(HARBOUR, "x", "1.00"))
    .then(moved([(GARDEN, "january", "9000.00", "1000.00")]));
}

#[test]
fn a6_the_corrected_payment_itself_can_lose_to_a_lowered_limit() {
    given([a_b_and_c(), limit(2019, "18000.00")])
        .when(correct(GARDEN, "B", 1, "9000.00").hours("7.40"))
        .then(recorded("6000.00", "3000.00"))
        .and(moved([]))
        .and(split(BAKERY, "A", "12000.00", "0.00"));
}

#[test]
fn a6_and_a5_meet_in_one_cancellation() {
    // Lowered by 5.000, then 12.000 freed: B and C are whole again within 15.000.
    given([a_b_and_c(), limit(2019, "15000.00")])
        .when(cancel(BAKERY, "A", 1))
        .then(moved([(GARDEN, "B", "9000.00", "0.00"), (HARBOUR, "C", "500.00", "0.00")]))
        .and(used(2019, "9500.00"));
}

#[test]
fn a7_the_split_told_is_stored_and_stays_when_the_payments_split_changes() {
    // Events: 1 the grant, 2 A, 3 B, 4 the correction of A.
    let ledger = given(a_and_b());
    let Event::PaymentReported(data, told) = ledger.events[2].clone() else { panic!("B is third") };
    assert_eq!(data.facts.amount, kr("9000.00"));
    assert_eq!((told.exempt, told.taxable), (kr("8000.00"), kr("1000.00")));
    ledger
        .when(correct(BAKERY, "A", 1, "11000.00"))
        .then(split(GARDEN, "B", "9000.00", "0.00"))
        .when(report(GARDEN, "B", "9000.00"))
        .then(replayed(3));
}

#[test]
fn a7_what_was_told_can_be_computed_again_from_the_facts() {
    let before = given([holder(), report(BAKERY, "A", "12000.00")]);
    let Step::Do(command) = report(GARDEN, "B", "9000.00") else { unreachable!() };
    let again = decide(&before.account, &before.limits, &command, before.today);
    assert_eq!(again, Ok(Decision::Record(given(a_and_b()).events[2].clone())));
}

#[test]
fn a7_an_outcome_that_does_not_follow_from_its_data_is_found() {
    let before = given([holder(), report(BAKERY, "A", "12000.00")]);
    let told = given(a_and_b()).events[2].clone();
    before.check_anew(3, &told).expect("as it was decided");
    // A split that adds up all the same, the facts changed, and a payment that was there already.
    let Event::PaymentReported(data, outcome) = told else { panic!("B is third") };
    let mut better = outcome.clone();
    (better.exempt, better.taxable) = (kr("8000.01"), kr("999.99"));
    let mut smaller = data.clone();
    smaller.facts.amount = kr("8999.99");
    for event in [
        Event::PaymentReported(data, better),
        Event::PaymentReported(smaller, outcome),
        before.events[1].clone(),
    ] {
        before.check_anew(3, &event).expect_err("it does not follow");
    }
}

#[test]
fn a8_a_payment_that_must_not_exceed_is_refused_with_the_split_it_would_have_had() {
    let would_be = Rejection::LimitExceeded { exempt: kr("400.00"), taxable: kr("600.00") };
    given(used_19600())
        .when(report(GARDEN, "a", "1000.00").unless_exceeding())
        .then(refused(would_be))
        .and(nothing_recorded)
        .when(report(GARDEN, "a", "1000.00"))
        .then(recorded("400.00", "600.00"));
}

#[test]
fn a8_a_payment_that_reaches_the_limit_does_not_exceed_it() {
    given(used_19600())
        .when(report(GARDEN, "a", "400.00").unless_exceeding())
        .then(recorded("400.00", "0.00"));
}

#[test]
fn a8_a_refusal_leaves_a_raised_limit_to_the_next_event() {
    let would_be = Rejection::LimitExceeded { exempt: kr("0.00"), taxable: kr("1.00") };
    given([a_b_and_c(), limit(2019, "21000.00")])
        .when(report(BAKERY, "D", "1.00").unless_exceeding())
        .then(refused(would_be))
        .and(split(GARDEN, "B", "8000.00", "1000.00"));
}

/// A recalculation moved exactly these splits, and left the year's sum as it was.
fn recalculated<const N: usize>(expected: [(&str, &str, &str, &str); N]) -> impl FnOnce(&Then) {
    move |then| {
        let Ok(Decision::Record(Event::AllowanceRecalculated(data, outcome))) = &then.result else {
            panic!("{:?}", then.result)
        };
        assert_eq!((data.year, outcome.year.year), (2019, 2019));
        assert_eq!(then.before.account.year_total(2019), then.after.account.year_total(2019));
        let told: Vec<_> = outcome
            .changed
            .iter()
            .map(|c| (c.employer_cvr.to_string(), c.reference.as_str(), c.exempt, c.taxable))
            .collect();
        let expected = expected.map(|(employer, reference, exempt, taxable)| {
            (employer.to_owned(), reference, kr(exempt), kr(taxable))
        });
        assert_eq!(told, expected);
    }
}

#[test]
fn a5_a_raised_limit_reaches_everybody_who_had_a_taxable_part() {
    given([a_b_and_c(), limit(2019, "21000.00")])
        .when(recalculate(2019))
        .then(recalculated([(GARDEN, "B", "9000.00", "0.00")]))
        .and(used(2019, "21000.00"))
        // Once: there is nothing to record the second time.
        .when(recalculate(2019))
        .then(|then| assert_eq!(then.result, Ok(Decision::Settled)))
        .and(nothing_recorded);
}

#[test]
fn a5_who_has_no_taxable_part_is_not_recalculated() {
    given([holder(), report(BAKERY, "A", "12000.00"), limit(2019, "21000.00")])
        .when(recalculate(2019))
        .then(|then| assert_eq!(then.result, Ok(Decision::Settled)))
        .and(nothing_recorded);
}

#[test]
fn a6_a_lowered_limit_is_taken_back_from_the_last_registered_by_a_recalculation() {
    given([a_b_and_c(), limit(2019, "11000.00")])
        .when(recalculate(2019))
        .then(recalculated([
            (BAKERY, "A", "11000.00", "1000.00"),
            (GARDEN, "B", "0.00", "9000.00"),
        ]))
        .and(used(2019, "11000.00"));
}

#[test]
fn a7_what_was_told_stands_after_a_recalculation() {
    // Events: 1 the grant, 2 A, 3 B, 4 C.
    given([a_b_and_c(), limit(2019, "25000.00"), recalculate(2019)])
        .when(report(GARDEN, "B", "9000.00"))
        .then(replayed(3));
}

/// 15.000 kr. of 2019, of which `a` has 5.000 and `b` 10.000; `a` waits for 5.000 more.
fn a_waits() -> [Step; 5] {
    [
        limit(2019, "15000.00"),
        grant("g1", date!(2019 - 01 - 01)),
        report(BAKERY, "a", "5000.00"),
        report(GARDEN, "b", "10000.00"),
        correct(BAKERY, "a", 1, "10000.00"),
    ]
}

fn changed_to(amount: &str) -> Step {
    limit_from(2019, amount, date!(2019 - 01 - 01))
}

#[test]
fn a9_limits_that_changed_take_effect_one_after_the_other_whether_or_not_there_was_time() {
    let follow = || recalculate(2019);
    let (lowered, raised) = (|| changed_to("5000.00"), || changed_to("15000.00"));
    // With time to carry each out, and with none.
    let with_pause = given_with(given(a_waits()), [lowered(), follow(), raised()]);
    let at_once = given_with(given(a_waits()), [lowered(), raised()]);
    for ledger in [with_pause, at_once] {
        ledger
            .when(follow())
            .then(split(BAKERY, "a", "10000.00", "0.00"))
            .and(split(GARDEN, "b", "5000.00", "5000.00"))
            .when(follow())
            .then(|then| assert_eq!(then.result, Ok(Decision::Settled)));
    }
    // Any other event of the year settles it just so.
    given_with(given(a_waits()), [lowered(), raised()])
        .when(report(HARBOUR, "c", "1.00"))
        .then(recorded("0.00", "1.00"))
        .and(split(BAKERY, "a", "10000.00", "0.00"))
        .and(split(GARDEN, "b", "5000.00", "5000.00"));
}

#[test]
fn a9_a_limit_that_came_into_force_meanwhile_takes_effect_in_its_turn() {
    let (may, july) = (date!(2019 - 05 - 01), date!(2019 - 07 - 01));
    let scheduled = [limit_from(2019, "5000.00", may), limit_from(2019, "15000.00", july)];
    let begun = || {
        let steps =
            [today(date!(2019 - 04 - 01))].into_iter().chain(a_waits()).chain(scheduled.clone());
        given(steps)
    };
    let with_pause = given_with(begun(), [today(may), recalculate(2019), today(july)]);
    let at_once = given_with(begun(), [today(july)]);
    for ledger in [with_pause, at_once] {
        ledger
            .when(recalculate(2019))
            .then(split(BAKERY, "a", "10000.00", "0.00"))
            .and(split(GARDEN, "b", "5000.00", "5000.00"));
    }
}

#[test]
fn a9_what_a_deactivation_lists_is_settled_by_every_limit() {
    let ledger = given_with(given(a_waits()), [changed_to("5000.00"), changed_to("15000.00")]);
    let keys = [key(GARDEN, "b"), key(BAKERY, "a"), key(BAKERY, "nobody's")];
    let settled = settled_payments(&ledger.account, &ledger.limits, ledger.today, &keys);
    let exempt: Vec<String> = settled.iter().map(|(_, state)| state.exempt.to_string()).collect();
    assert_eq!(exempt, ["5000.00", "10000.00"]);
    assert_eq!(ledger.split(GARDEN, "b").0, "10000.00", "the account itself is as recorded");
}
