//! C6, C12, C13: what decisions say of days when they are recorded late, and which are refused.

use frikort_domain::{Decision, Event, Rejection};
use time::{Date, macros::date};

use crate::scenario::{
    BAKERY, OTHER_CARD, Then, card_recorded, deactivate, given, grant, holder, limit, lists,
    not_covered, reactivate, recorded, refused, report, reverse, today,
};

/// The decision left the card active or not, and its periods are these.
fn leaves(active: bool, periods: &[(Date, Option<Date>)]) -> impl FnOnce(&Then) {
    move |then| {
        let said = match &then.result {
            Ok(Decision::Record(
                Event::CardGranted(_, outcome)
                | Event::CardReactivated(_, outcome)
                | Event::DecisionReversed(_, outcome),
            )) => outcome.active,
            Ok(Decision::Record(Event::CardDeactivated(_, outcome))) => outcome.active,
            other => panic!("no decision about days was recorded: {other:?}"),
        };
        let card = then.after.account.card().expect("a card");
        assert_eq!((said, card.periods.as_slice()), (active, periods));
    }
}

#[test]
fn c12_what_a_late_deactivation_ended_does_not_come_back_when_it_is_reversed() {
    // Found by a second account of the rules: the payment was recorded as covered.
    given([
        limit(2020, "20000.00"),
        today(date!(2021 - 03 - 01)),
        grant("g1", date!(2020 - 03 - 02)),
        deactivate("d1", date!(2021 - 01 - 01)),
        reactivate("r1", date!(2021 - 01 - 31)),
        deactivate("d2", date!(2020 - 03 - 03)),
        reactivate("r2", date!(2020 - 03 - 04)),
        reverse("k1", "d2", date!(2021 - 02 - 01)),
        deactivate("d3", date!(2020 - 06 - 01)),
    ])
    .when(report(BAKERY, "a", "100.00").paid(date!(2020 - 12 - 01)))
    .then(refused(not_covered(date!(2020 - 12 - 01), None)))
    .when(report(BAKERY, "a", "100.00").paid(date!(2020 - 06 - 01)))
    .then(recorded("100.00", "0.00"))
    .and(|then| {
        let periods =
            [(date!(2020 - 03 - 02), Some(date!(2020 - 06 - 01))), (date!(2021 - 01 - 31), None)];
        assert_eq!(then.after.account.card().expect("a card").periods, periods);
    });
}

#[test]
fn c12_a_late_deactivation_ends_nothing_that_a_later_dated_decision_began() {
    let (first, last) = (date!(2019 - 01 - 01), Some(date!(2019 - 03 - 31)));
    let again = date!(2019 - 05 - 01);
    let step = given([
        holder(),
        deactivate("d1", date!(2019 - 04 - 15)),
        reactivate("r1", again),
        report(BAKERY, "before", "100.00").paid(date!(2019 - 04 - 10)),
        report(BAKERY, "after", "100.00").paid(date!(2019 - 05 - 02)),
    ])
    .when(deactivate("d2", date!(2019 - 03 - 31)))
    .then(leaves(true, &[(first, last), (again, None)]))
    // What the later period covers is not after the last active day.
    .and(lists([(BAKERY, "before")]));
    // One that is dated later than all ends it.
    step.when(deactivate("d3", date!(2019 - 06 - 01)))
        .then(leaves(false, &[(first, last), (again, Some(date!(2019 - 06 - 01)))]));
}

#[test]
fn c12_a_card_deactivated_before_it_begins_is_active_all_the_same() {
    let from = date!(2019 - 06 - 10);
    given([limit(2019, "20000.00"), grant("g1", from).decided(date!(2019 - 05 - 01))])
        .when(deactivate("d1", date!(2019 - 05 - 20)))
        .then(leaves(true, &[(from, None)]))
        .when(deactivate("d2", from))
        .then(leaves(false, &[(from, Some(from))]));
}

#[test]
fn c12_of_two_decisions_on_one_day_the_later_recorded_one_says_what_follows() {
    let (first, day) = (date!(2019 - 01 - 01), date!(2019 - 04 - 01));
    let begun = || given([holder(), deactivate("d1", date!(2019 - 02 - 01))]);
    let ended = (first, Some(date!(2019 - 02 - 01)));
    begun()
        .when(reactivate("r1", day))
        .then(leaves(true, &[ended, (day, None)]))
        .when(deactivate("d2", day))
        .then(leaves(false, &[ended, (day, Some(day))]));
    begun()
        .when(reactivate("r1", date!(2019 - 06 - 01)))
        .then(card_recorded)
        .when(deactivate("d2", day))
        .then(leaves(true, &[ended, (date!(2019 - 06 - 01), None)]))
        .when(reactivate("r2", day))
        .then(leaves(true, &[ended, (day, None)]));
}

#[test]
fn c13_a_decision_that_would_open_active_days_is_refused_and_names_the_first_period_it_meets() {
    let (first, last) = (date!(2019 - 01 - 01), date!(2019 - 02 - 01));
    let again = date!(2019 - 05 - 01);
    let met = |effective_from| refused(Rejection::CardNotDeactivated { effective_from });
    let step = given([holder(), deactivate("d1", last), reactivate("r1", again)])
        .when(reactivate("r2", date!(2019 - 01 - 15)))
        .then(met(first))
        .when(reactivate("r2", last))
        .then(met(first))
        .when(reactivate("r2", date!(2019 - 06 - 01)))
        .then(met(again))
        // Recorded late, it opens the days up to the decision that comes after it.
        .when(reactivate("r2", date!(2019 - 03 - 01)))
        .then(leaves(true, &[(first, Some(last)), (date!(2019 - 03 - 01), None)]));
    step.when(grant("g2", date!(2019 - 04 - 01))).then(refused(Rejection::CardAlreadyActive {
        effective_from: Some(date!(2019 - 03 - 01)),
    }));
}

#[test]
fn c13_days_before_a_deactivation_that_stands_are_opened_up_to_it() {
    let first = date!(2019 - 01 - 01);
    let gap = (date!(2019 - 03 - 01), Some(date!(2019 - 03 - 31)));
    given([
        holder(),
        deactivate("d1", date!(2019 - 06 - 30)),
        reactivate("r1", date!(2019 - 09 - 01)),
        deactivate("d2", date!(2019 - 02 - 01)),
        deactivate("d3", date!(2019 - 03 - 31)),
        deactivate("d4", date!(2019 - 10 - 31)),
    ])
    .when(reactivate("r2", date!(2019 - 03 - 01)))
    .then(leaves(
        false,
        &[
            (first, Some(date!(2019 - 02 - 01))),
            gap,
            (date!(2019 - 09 - 01), Some(date!(2019 - 10 - 31))),
        ],
    ));
}

#[test]
fn c6_between_the_periods_of_an_active_card_no_second_one_is_granted() {
    let steps = [
        holder(),
        deactivate("d1", date!(2019 - 02 - 01)),
        reactivate("r1", date!(2019 - 06 - 01)),
    ];
    let between = || grant("g2", date!(2019 - 04 - 01)).naming(OTHER_CARD);
    let active = |effective_from| refused(Rejection::CardAlreadyActive { effective_from });
    given(steps.clone()).when(between()).then(active(Some(date!(2019 - 06 - 01))));
    given(steps.clone()).when(between().by("101")).then(active(None));
    // Of one that is not active any more only the days count (C13).
    given(steps)
        .when(deactivate("d2", date!(2019 - 08 - 01)))
        .then(card_recorded)
        .when(grant("g2", date!(2019 - 08 - 01)))
        .then(active(Some(date!(2019 - 06 - 01))))
        .when(between())
        .then(leaves(
            false,
            &[
                (date!(2019 - 01 - 01), Some(date!(2019 - 02 - 01))),
                (date!(2019 - 04 - 01), Some(date!(2019 - 08 - 01))),
            ],
        ));
}
