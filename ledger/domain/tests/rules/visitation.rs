//! C6 to C9, C11: one card, one responsible municipality, age, control, one answer to one decision.

use frikort_domain::{CardStatus, Criterion, Decision, MunicipalityCode, Rejection};
use time::{Date, macros::date};

use crate::scenario::{
    BAKERY, CARD, GARDEN, OTHER_CARD, Then, card_recorded, control, deactivate, given, grant,
    holder, key, limit, not_covered, nothing_recorded, reactivate, recorded, refused, reissue,
    reject, renumber, report, reverse, transfer,
};

fn reused(fields: &[&'static str]) -> Rejection {
    Rejection::ReferenceReused { fields: fields.to_vec() }
}

/// The answer of the event at `position`, with the card as it was then, and nothing recorded.
fn card_replayed(
    position: i64,
    status: CardStatus,
    periods: &[(Date, Option<Date>)],
) -> impl FnOnce(&Then) {
    move |then| {
        let Ok(Decision::ReplayCard(answer)) = &then.result else { panic!("{:?}", then.result) };
        let at = usize::try_from(position - 1).expect("positions begin at 1");
        let recorded_at = then.before.moments[at];
        assert_eq!((answer.position, answer.recorded_at), (position, recorded_at));
        let card = answer.card.as_ref().expect("a card");
        assert_eq!((card.status, card.periods.as_slice()), (status, periods));
        nothing_recorded(then);
    }
}

#[test]
fn c6_a_second_card_is_refused_while_one_is_active() {
    let since = |effective_from| Rejection::CardAlreadyActive { effective_from };
    let active = || since(Some(date!(2019 - 01 - 01)));
    given([holder()])
        .when(grant("g2", date!(2019 - 05 - 01)).naming(OTHER_CARD))
        .then(refused(active()))
        .when(grant("g2", date!(2019 - 05 - 01)).by("101"))
        .then(refused(since(None)))
        .when(grant("g2", date!(2018 - 12 - 01)))
        .then(refused(active()));
}

#[test]
fn c6_a_second_card_may_not_overlap_the_last_days_of_the_first() {
    given([holder(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(grant("g2", date!(2019 - 06 - 15)))
        .then(refused(Rejection::CardAlreadyActive { effective_from: Some(date!(2019 - 01 - 01)) }))
        .when(grant("g2", date!(2019 - 06 - 16)))
        .then(card_recorded);
}

#[test]
fn c6_the_balance_belongs_to_person_and_year_not_to_card_or_municipality() {
    given([
        holder(),
        report(BAKERY, "a", "19600.00"),
        deactivate("d1", date!(2019 - 04 - 01)),
        grant("g2", date!(2019 - 05 - 01)).by("101").naming(OTHER_CARD),
    ])
    .when(report(GARDEN, "b", "1000.00").paid(date!(2019 - 05 - 02)).naming(OTHER_CARD))
    .then(recorded("400.00", "600.00"));
}

#[test]
fn c6_a_card_that_is_not_active_cannot_be_deactivated_nor_an_active_one_reactivated() {
    given([holder()])
        .when(reactivate("r1", date!(2019 - 05 - 01)))
        .then(refused(Rejection::CardNotDeactivated { effective_from: date!(2019 - 01 - 01) }))
        .when(deactivate("d1", date!(2019 - 05 - 01)))
        .then(card_recorded)
        .when(deactivate("d2", date!(2019 - 06 - 01)))
        .then(refused(Rejection::NoActiveCard));
}

#[test]
fn c7_only_the_responsible_municipality_decides() {
    given([holder()])
        .when(deactivate("d1", date!(2019 - 05 - 01)).by("101"))
        .then(refused(Rejection::NoCard))
        .when(deactivate("d1", date!(2019 - 05 - 01)))
        .then(card_recorded)
        .when(reactivate("r1", date!(2019 - 06 - 01)).by("101"))
        .then(refused(Rejection::NoCard));
}

#[test]
fn c7_w3_to_a_municipality_that_was_never_responsible_the_card_is_none() {
    let day = date!(2019 - 05 - 01);
    let of_others = || {
        [
            deactivate("a1", day),
            reactivate("x2", day),
            reissue("x3", OTHER_CARD, day),
            transfer("x4", "101", day),
            reverse("x5", "d1", day),
            control("x6", day),
            renumber("x7", 1, day),
        ]
        .map(|step| step.by("201"))
    };
    let rejected = || reject("a1", date!(2019 - 01 - 01), date!(2019 - 01 - 15)).by("201");
    // Its rejection is on record under a reference that it uses again: that tells of no card either.
    let nobody = || given([limit(2019, "20000.00"), rejected()]);
    let active = || given([rejected(), holder()]);
    let inactive = || given([rejected(), holder(), deactivate("d1", day)]);
    for step in of_others() {
        nobody().when(step.clone()).then(refused(Rejection::NoCard));
        active().when(step.clone()).then(refused(Rejection::NoCard));
        inactive().when(step).then(refused(Rejection::NoCard));
    }
}

#[test]
fn c6_w3_a_municipality_learns_of_anothers_active_card_and_not_since_when() {
    let elsewhere = || refused(Rejection::CardAlreadyActive { effective_from: None });
    given([holder()])
        .when(grant("x1", date!(2019 - 05 - 01)).by("201"))
        .then(elsewhere())
        .when(reject("x1", date!(2019 - 04 - 01), date!(2019 - 05 - 01)).by("201"))
        .then(elsewhere());
}

#[test]
fn c7_after_a_grant_by_another_municipality_that_one_decides() {
    given([
        holder(),
        deactivate("d1", date!(2019 - 04 - 01)),
        grant("g2", date!(2019 - 05 - 01)).by("101"),
    ])
    .when(deactivate("d2", date!(2019 - 06 - 01)))
    .then(refused(Rejection::NotResponsible))
    .when(deactivate("d2", date!(2019 - 06 - 01)).by("101"))
    .then(card_recorded);
}

#[test]
fn c11_the_same_grant_again_is_answered_as_it_was_whatever_happened_since() {
    given([
        holder(),
        deactivate("d1", date!(2019 - 06 - 15)),
        reactivate("r1", date!(2019 - 07 - 01)),
    ])
    .when(grant("g1", date!(2019 - 01 - 01)))
    .then(card_replayed(1, CardStatus::Active, &[(date!(2019 - 01 - 01), None)]));
}

#[test]
fn c11_the_same_deactivation_again_lists_the_same_payments() {
    given([
        holder(),
        report(BAKERY, "after", "100.00").paid(date!(2019 - 06 - 16)),
        deactivate("d1", date!(2019 - 06 - 15)),
        reactivate("r1", date!(2019 - 07 - 01)),
        crate::scenario::cancel(BAKERY, "after", 1),
    ])
    .when(deactivate("d1", date!(2019 - 06 - 15)))
    .then(card_replayed(
        3,
        CardStatus::Deactivated,
        &[(date!(2019 - 01 - 01), Some(date!(2019 - 06 - 15)))],
    ))
    .and(|then| {
        let Ok(Decision::ReplayCard(answer)) = &then.result else { unreachable!() };
        assert_eq!(answer.payments_after, [key(BAKERY, "after")]);
    });
}

#[test]
fn c11_the_same_reactivation_again_is_answered_as_it_was() {
    let june = (date!(2019 - 01 - 01), Some(date!(2019 - 06 - 15)));
    given([
        holder(),
        deactivate("d1", date!(2019 - 06 - 15)),
        reactivate("r1", date!(2019 - 07 - 01)),
        deactivate("d2", date!(2019 - 08 - 01)),
    ])
    .when(reactivate("r1", date!(2019 - 07 - 01)))
    .then(card_replayed(3, CardStatus::Active, &[june, (date!(2019 - 07 - 01), None)]));
}

#[test]
fn c11_other_content_under_the_reference_is_refused_naming_what_differs() {
    given([holder(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(grant("g1", date!(2019 - 01 - 02)).decided(date!(2019 - 01 - 01)))
        .then(refused(reused(&["effective_date"])))
        .when(grant("g1", date!(2019 - 01 - 02)).naming(OTHER_CARD))
        .then(refused(reused(&["frikort_id", "decision_date", "effective_date"])))
        .when(deactivate("d1", date!(2019 - 06 - 15)).decided(date!(2019 - 06 - 14)))
        .then(refused(reused(&["decision_date"])))
        .when(reactivate("r1", date!(2019 - 07 - 01)))
        .then(card_recorded)
        .when(reactivate("r1", date!(2019 - 07 - 02)).decided(date!(2019 - 07 - 01)))
        .then(refused(reused(&["effective_date"])));
}

#[test]
fn c11_another_kind_of_decision_under_the_reference_is_refused() {
    given([holder()])
        .when(deactivate("g1", date!(2019 - 06 - 15)))
        .then(refused(reused(&["reference"])));
}

#[test]
fn c11_the_same_reference_of_another_municipality_is_another_decision() {
    given([holder(), deactivate("d1", date!(2019 - 06 - 15))])
        .when(grant("g1", date!(2019 - 07 - 01)).by("101"))
        .then(card_recorded);
}

#[test]
fn n4_a_wrong_frikort_id_is_answered_like_a_person_without_a_card() {
    given([])
        .when(deactivate("d1", date!(2019 - 06 - 15)))
        .then(refused(Rejection::NoCard))
        .when(reactivate("r1", date!(2019 - 06 - 15)))
        .then(refused(Rejection::NoCard));
    given([holder()])
        .when(deactivate("d1", date!(2019 - 06 - 15)).naming(OTHER_CARD))
        .then(refused(Rejection::NoCard))
        .when(deactivate("d1", date!(2019 - 06 - 15)).naming(CARD))
        .then(card_recorded)
        .when(reactivate("r1", date!(2019 - 07 - 01)).naming(OTHER_CARD))
        .then(refused(Rejection::NoCard))
        .when(report(BAKERY, "a", "1.00").naming(OTHER_CARD))
        .then(refused(Rejection::NoCard));
}

#[test]
fn n4_an_earlier_frikort_id_is_still_the_persons() {
    given([
        holder(),
        deactivate("d1", date!(2019 - 06 - 15)),
        grant("g2", date!(2019 - 07 - 01)).naming(OTHER_CARD),
    ])
    .when(report(BAKERY, "a", "1.00").naming(CARD))
    .then(recorded("1.00", "0.00"))
    .when(report(BAKERY, "b", "1.00").naming(OTHER_CARD))
    .then(recorded("1.00", "0.00"));
}

#[test]
fn c7_a_transfer_hands_the_person_over_with_card_and_history() {
    let decided = |municipality: &str| {
        let municipality: MunicipalityCode = municipality.parse().expect("a municipality");
        move |then: &Then| {
            assert_eq!(then.after.account.card().map(|card| card.municipality), Some(municipality));
            card_recorded(then);
        }
    };
    given([holder(), report(BAKERY, "a", "19600.00")])
        .when(transfer("t1", "101", date!(2019 - 05 - 01)).by("201"))
        .then(refused(Rejection::NoCard))
        .when(transfer("t1", "101", date!(2019 - 05 - 01)))
        .then(decided("101"))
        // The balance stays where it was, and so does coverage.
        .when(report(GARDEN, "b", "1000.00").paid(date!(2019 - 06 - 02)))
        .then(recorded("400.00", "600.00"))
        .when(deactivate("d1", date!(2019 - 07 - 01)))
        .then(refused(Rejection::NotResponsible))
        .when(deactivate("d1", date!(2019 - 07 - 01)).by("101"))
        .then(card_recorded)
        // Also a card that is not active is handed over, and back.
        .when(transfer("t2", "751", date!(2019 - 08 - 01)).by("101"))
        .then(decided("751"))
        .when(reactivate("r1", date!(2019 - 09 - 01)))
        .then(card_recorded);
}

#[test]
fn c11_a_transfer_under_the_same_reference_is_answered_as_it_was() {
    let first = || transfer("t1", "101", date!(2019 - 05 - 01));
    given([holder(), first()])
        .when(first())
        .then(card_replayed(2, CardStatus::Active, &[(date!(2019 - 01 - 01), None)]))
        .when(transfer("t1", "201", date!(2019 - 05 - 02)))
        .then(refused(reused(&["decision_date", "to_municipality_code"])))
        .when(deactivate("t1", date!(2019 - 05 - 01)))
        .then(refused(reused(&["reference"])));
}

#[test]
fn c8_the_holder_is_18_on_the_first_active_day() {
    let at = |day| grant("g1", day).born(date!(2006 - 06 - 15));
    given([limit(2024, "41280.00")])
        .when(at(date!(2024 - 06 - 14)))
        .then(refused(Rejection::UnderAge))
        .when(at(date!(2024 - 06 - 15)))
        .then(card_recorded);
    // Born on a leap day: 18 years have passed when 28 February has.
    let leap = |day| grant("g1", day).born(date!(2004 - 02 - 29));
    given([limit(2022, "20000.00")])
        .when(leap(date!(2022 - 02 - 28)))
        .then(refused(Rejection::UnderAge))
        .when(leap(date!(2022 - 03 - 01)))
        .then(card_recorded);
}

#[test]
fn c8_a_grant_that_is_on_record_is_replayed_whatever_the_age() {
    given([holder()])
        .when(grant("g1", date!(2019 - 01 - 01)).born(date!(2019 - 01 - 01)))
        .then(card_replayed(1, CardStatus::Active, &[(date!(2019 - 01 - 01), None)]));
}

#[test]
fn c9_a_control_is_due_by_the_end_of_the_second_year_after_grant_or_control() {
    let due = |day: Option<Date>| {
        move |then: &Then| {
            assert_eq!(then.after.account.card().and_then(|card| card.control_due()), day);
            card_recorded(then);
        }
    };
    given([limit(2019, "20000.00")])
        .when(grant("g1", date!(2019 - 03 - 01)))
        .then(due(Some(date!(2021 - 12 - 31))))
        .when(control("c1", date!(2020 - 11 - 30)))
        .then(due(Some(date!(2022 - 12 - 31))))
        // A control that is recorded late does not bring the next one nearer.
        .when(control("c2", date!(2019 - 12 - 01)))
        .then(due(Some(date!(2022 - 12 - 31))))
        .when(transfer("t1", "101", date!(2021 - 01 - 01)))
        .then(due(Some(date!(2022 - 12 - 31))))
        .when(deactivate("d1", date!(2021 - 05 - 01)).by("101"))
        .then(due(None));
}

#[test]
fn c9_only_the_responsible_municipality_controls_and_only_an_active_card() {
    given([holder()])
        .when(control("c1", date!(2020 - 05 - 01)).by("101"))
        .then(refused(Rejection::NoCard))
        .when(control("c1", date!(2020 - 05 - 01)))
        .then(card_recorded)
        .when(deactivate("d1", date!(2020 - 06 - 01)))
        .then(card_recorded)
        .when(control("c2", date!(2020 - 07 - 01)))
        .then(refused(Rejection::NoActiveCard))
        // What is on record is answered all the same.
        .when(control("c1", date!(2020 - 05 - 01)))
        .then(card_replayed(2, CardStatus::Active, &[(date!(2019 - 01 - 01), None)]));
}

#[test]
fn c10_criteria_are_part_of_a_decision_in_one_order_and_each_once() {
    use Criterion::{Age, IncomeLastYear, SocialProblems};
    let first = || grant("g1", date!(2019 - 01 - 01)).resting_on(&[Age, SocialProblems]);
    let active: &[(Date, Option<Date>)] = &[(date!(2019 - 01 - 01), None)];
    given([limit(2019, "20000.00"), first()])
        .when(first())
        .then(card_replayed(1, CardStatus::Active, active))
        .when(first().resting_on(&[SocialProblems, Age, Age]))
        .then(card_replayed(1, CardStatus::Active, active))
        .when(first().resting_on(&[SocialProblems]))
        .then(refused(reused(&["criteria"])))
        .when(control("c1", date!(2020 - 01 - 01)).resting_on(&[IncomeLastYear]))
        .then(card_recorded)
        .when(control("c1", date!(2020 - 01 - 01)))
        .then(refused(reused(&["criteria"])))
        .when(deactivate("d1", date!(2020 - 02 - 01)).resting_on(&[IncomeLastYear]))
        .then(card_recorded)
        .when(deactivate("d1", date!(2020 - 02 - 01)))
        .then(refused(reused(&["criteria"])));
}

#[test]
fn n5_a_change_of_number_is_recorded_by_the_responsible_municipality_and_changes_nothing_else() {
    let day = date!(2019 - 05 - 01);
    given([holder(), report(BAKERY, "a", "19600.00")])
        .when(renumber("n1", 1, day).by("101"))
        .then(refused(Rejection::NoCard))
        .when(renumber("n1", 1, day).naming(OTHER_CARD))
        .then(refused(Rejection::NoCard))
        .when(renumber("n1", 1, day))
        .then(|then: &Then| {
            assert_eq!(then.before.account.card(), then.after.account.card());
            card_recorded(then);
        })
        .when(renumber("n1", 1, day))
        .then(card_replayed(3, CardStatus::Active, &[(date!(2019 - 01 - 01), None)]))
        .when(renumber("n1", 2, day))
        .then(refused(reused(&["new_cpr_number"])))
        .when(report(GARDEN, "b", "1000.00").paid(date!(2019 - 06 - 02)))
        .then(recorded("400.00", "600.00"));
    given([limit(2019, "20000.00")]).when(renumber("n1", 1, day)).then(refused(Rejection::NoCard));
}

/// A card stands with these periods.
fn card_stands(status: CardStatus, periods: &[(Date, Option<Date>)]) -> impl FnOnce(&Then) {
    move |then| {
        let card = then.after.account.card().expect("a card");
        assert_eq!((card.status, card.periods.as_slice()), (status, periods));
    }
}

#[test]
fn c5_a_reversed_deactivation_restores_coverage_from_the_day_it_took_effect() {
    let from = date!(2019 - 01 - 01);
    let worked = || report(BAKERY, "a", "100.00").paid(date!(2019 - 05 - 15));
    given([holder(), deactivate("d1", date!(2019 - 05 - 01))])
        .when(worked())
        .then(refused(not_covered(date!(2019 - 05 - 15), None)))
        .when(reverse("k1", "d1", date!(2019 - 06 - 01)))
        .then(card_stands(CardStatus::Active, &[(from, None)]))
        .when(worked())
        .then(recorded("100.00", "0.00"))
        .when(report(BAKERY, "b", "100.00").worked(date!(2019 - 04 - 28), date!(2019 - 05 - 03)))
        .then(recorded("100.00", "0.00"));
}

#[test]
fn c5_a_reversal_fills_the_gap_before_a_reactivation() {
    let from = date!(2019 - 01 - 01);
    let reactivated = date!(2019 - 06 - 01);
    given([holder(), deactivate("d1", date!(2019 - 05 - 01)), reactivate("r1", reactivated)])
        .when(reverse("k1", "d1", date!(2019 - 09 - 01)))
        .then(card_stands(CardStatus::Active, &[(from, None)]))
        // What comes later still ends it.
        .when(deactivate("d2", date!(2019 - 08 - 01)))
        .then(card_stands(CardStatus::Deactivated, &[(from, Some(date!(2019 - 08 - 01)))]));
}

#[test]
fn c5_a_later_deactivation_stands_when_an_earlier_one_is_reversed() {
    let from = date!(2019 - 01 - 01);
    let steps = || {
        given([
            holder(),
            deactivate("d1", date!(2019 - 05 - 01)),
            reactivate("r1", date!(2019 - 06 - 01)),
            deactivate("d2", date!(2019 - 08 - 01)),
        ])
    };
    let ended = Some(date!(2019 - 08 - 01));
    steps()
        .when(reverse("k1", "d1", date!(2019 - 09 - 01)))
        .then(card_stands(CardStatus::Deactivated, &[(from, ended)]));
    let two = [(from, Some(date!(2019 - 05 - 01))), (date!(2019 - 06 - 01), None)];
    steps()
        .when(reverse("k1", "d2", date!(2019 - 09 - 01)))
        .then(card_stands(CardStatus::Active, &two));
}

#[test]
fn c5_a_reversal_joins_a_card_that_was_granted_meanwhile() {
    let from = date!(2019 - 01 - 01);
    given([
        holder(),
        deactivate("d1", date!(2019 - 05 - 01)),
        grant("g2", date!(2019 - 07 - 01)).by("101").naming(OTHER_CARD),
    ])
    // The one that is responsible now records it, and names who had decided (C7).
    .when(reverse("k1", "d1", date!(2019 - 08 - 01)))
    .then(refused(Rejection::NotResponsible))
    .when(reverse("k1", "d1", date!(2019 - 08 - 01)).by("101"))
    .then(card_stands(CardStatus::Active, &[(from, None)]))
    .and(|then| {
        let card = then.after.account.card().expect("a card");
        assert_eq!(card.municipality.to_string(), "101");
    });
}

#[test]
fn c5_only_a_deactivation_on_record_is_reversed_and_only_once() {
    let day = date!(2019 - 06 - 01);
    given([holder(), deactivate("d1", date!(2019 - 05 - 01))])
        .when(reverse("k1", "d2", day))
        .then(refused(Rejection::DecisionNotFound))
        .when(reverse("k1", "g1", day))
        .then(refused(Rejection::DecisionNotFound))
        .when(reverse("k1", "d1", day))
        .then(card_recorded)
        .when(reverse("k1", "d1", day))
        .then(card_replayed(3, CardStatus::Active, &[(date!(2019 - 01 - 01), None)]))
        .when(reverse("k2", "d1", day))
        .then(refused(Rejection::DecisionAlreadyReversed))
        .when(reverse("k1", "d2", day))
        .then(refused(reused(&["reversed_reference"])))
        // The deactivation's own answer is as it was given.
        .when(deactivate("d1", date!(2019 - 05 - 01)))
        .then(card_replayed(
            2,
            CardStatus::Deactivated,
            &[(date!(2019 - 01 - 01), Some(date!(2019 - 05 - 01)))],
        ))
        .when(deactivate("d3", date!(2019 - 09 - 01)))
        .then(card_recorded);
    given([limit(2019, "20000.00")])
        .when(reverse("k1", "d1", day))
        .then(refused(Rejection::NoCard));
}

#[test]
fn c10_a_rejected_application_gives_no_card_and_is_answered_again() {
    let (applied, decided) = (date!(2019 - 02 - 01), date!(2019 - 02 - 15));
    let none = |then: &Then| {
        let Ok(Decision::ReplayCard(answer)) = &then.result else { panic!("{:?}", then.result) };
        assert_eq!((&answer.card, answer.position), (&None, 1));
        nothing_recorded(then);
    };
    given([limit(2019, "20000.00")])
        .when(reject("a1", applied, decided).resting_on(&[Criterion::IncomeLastYear]))
        .then(card_recorded)
        .and(|then| assert_eq!(then.after.account.card(), None))
        .when(reject("a1", applied, decided).resting_on(&[Criterion::IncomeLastYear]))
        .then(none)
        .when(reject("a1", decided, decided))
        .then(refused(reused(&["application_date", "criteria"])))
        // Whoever was rejected has no card to be asked about, and may be granted one later.
        .when(report(BAKERY, "a", "100.00"))
        .then(refused(Rejection::NoCard))
        .when(control("c1", decided))
        .then(refused(Rejection::NoCard))
        .when(grant("g1", date!(2019 - 03 - 01)))
        .then(card_recorded)
        .when(reject("a2", applied, decided))
        .then(refused(Rejection::CardAlreadyActive {
            effective_from: Some(date!(2019 - 03 - 01)),
        }));
}

#[test]
fn n4_a_reissued_frikort_id_names_the_holder_beside_the_one_before() {
    let day = date!(2019 - 05 - 01);
    let paid = |reference, tag| report(BAKERY, reference, "100.00").naming(tag);
    given([holder()])
        .when(paid("a", OTHER_CARD))
        .then(refused(Rejection::NoCard))
        .when(reissue("n1", OTHER_CARD, day).by("101"))
        .then(refused(Rejection::NoCard))
        .when(reissue("n1", OTHER_CARD, day))
        .then(card_recorded)
        .and(|then| assert_eq!(then.before.account.card(), then.after.account.card()))
        .when(paid("a", OTHER_CARD))
        .then(recorded("100.00", "0.00"))
        .when(paid("b", CARD))
        .then(recorded("100.00", "0.00"))
        .when(reissue("n1", OTHER_CARD, day))
        .then(card_replayed(2, CardStatus::Active, &[(date!(2019 - 01 - 01), None)]))
        .when(reissue("n1", CARD, day))
        .then(refused(reused(&["frikort_id"])))
        .when(deactivate("d1", date!(2019 - 06 - 01)))
        .then(card_recorded)
        .when(reissue("n2", CARD, date!(2019 - 07 - 01)))
        .then(refused(Rejection::NoActiveCard));
    given([limit(2019, "20000.00")])
        .when(reissue("n1", CARD, day))
        .then(refused(Rejection::NoCard));
}
