//! The reasons that decisions about a card are refused for.

use frikort_proto::v1::{
    CardDecision, CardDecisionKind, CardStatus, ChangeCprNumberRequest, DeactivateCardRequest,
    GetAllowanceRequest, GetCardRequest, GrantCardRequest, PersonRef, ReactivateCardRequest,
    RecordControlRequest, ReissueCardRequest, RejectApplicationRequest, TransferCardRequest,
    person_ref::Person,
};
use frikort_tests::{
    client::{by_cpr, date, grant, new_cpr, report},
    decisions::{control, deactivate, reactivate, reissue, reject, renumber, reverse, transfer},
    stack::Stack,
};
use tonic::Code::{AlreadyExists, FailedPrecondition, NotFound};

use super::status::{Refused, paid_on, refused};

/// The day that CARD_ALREADY_ACTIVE and CARD_NOT_DEACTIVATED name.
const SINCE: &[(&str, &str)] = &[("effective_from", "2022-01-01")];

fn reused(fields: &'static [&'static str]) -> Refused<'static> {
    Refused { fields, ..refused(AlreadyExists, "REFERENCE_REUSED") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_grant_says_why_and_records_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let mut visitations = stack.ledger().await.unwrap().visitations;
    let cpr = new_cpr();
    visitations.grant_card(grant(&cpr)).await.unwrap();
    let before = stack.recorded().await.unwrap();

    let second = GrantCardRequest { reference: "S-2".to_owned(), ..grant(&cpr) };
    let active = Refused { metadata: SINCE, ..refused(FailedPrecondition, "CARD_ALREADY_ACTIVE") };
    active.check("a second card", visitations.grant_card(second).await);
    let other = GrantCardRequest {
        frikort_id: "54321".to_owned(),
        decision_date: Some(date(2022, 1, 2)),
        effective_date: Some(date(2022, 1, 3)),
        ..grant(&cpr)
    };
    reused(&["frikort_id", "decision_date", "effective_date"])
        .check("other content", visitations.grant_card(other).await);
    assert_eq!(stack.recorded().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_deactivation_says_why_and_records_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let mut visitations = stack.ledger().await.unwrap().visitations;
    let (cpr, nobody) = (new_cpr(), new_cpr());
    visitations.grant_card(grant(&cpr)).await.unwrap();
    let before = stack.recorded().await.unwrap();
    let elsewhere = "147".to_owned();
    let of_other =
        DeactivateCardRequest { municipality_code: elsewhere, ..deactivate(&cpr, "S-2") };
    for (what, request, expected) in [
        ("nobody's card", deactivate(&nobody, "S-2"), refused(NotFound, "NO_CARD")),
        ("the grant's reference", deactivate(&cpr, "S-1"), reused(&["reference"])),
        ("another municipality", of_other, refused(NotFound, "NO_CARD")),
    ] {
        expected.check(what, visitations.deactivate_card(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);

    visitations.deactivate_card(deactivate(&cpr, "S-2")).await.unwrap();
    let before = stack.recorded().await.unwrap();
    let other = DeactivateCardRequest {
        decision_date: Some(date(2022, 6, 2)),
        effective_date: Some(date(2022, 6, 3)),
        ..deactivate(&cpr, "S-2")
    };
    for (what, request, expected) in [
        ("other content", other, reused(&["decision_date", "effective_date"])),
        ("a second time", deactivate(&cpr, "S-3"), refused(FailedPrecondition, "NO_ACTIVE_CARD")),
    ] {
        expected.check(what, visitations.deactivate_card(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reactivation_says_why_and_records_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let mut visitations = stack.ledger().await.unwrap().visitations;
    let (cpr, nobody) = (new_cpr(), new_cpr());
    visitations.grant_card(grant(&cpr)).await.unwrap();
    let active = Refused { metadata: SINCE, ..refused(FailedPrecondition, "CARD_NOT_DEACTIVATED") };
    let answer = visitations.reactivate_card(reactivate(&cpr, "S-2")).await;
    active.check("an active card", answer);
    visitations.deactivate_card(deactivate(&cpr, "S-2")).await.unwrap();

    let before = stack.recorded().await.unwrap();
    let elsewhere = "147".to_owned();
    let of_other =
        ReactivateCardRequest { municipality_code: elsewhere, ..reactivate(&cpr, "S-3") };
    let within =
        ReactivateCardRequest { effective_date: Some(date(2022, 6, 1)), ..reactivate(&cpr, "S-3") };
    for (what, request, expected) in [
        ("nobody's card", reactivate(&nobody, "S-3"), refused(NotFound, "NO_CARD")),
        ("another decision's reference", reactivate(&cpr, "S-2"), reused(&["reference"])),
        ("another municipality", of_other, refused(NotFound, "NO_CARD")),
        ("from the last active day", within, active),
    ] {
        expected.check(what, visitations.reactivate_card(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);
    visitations.reactivate_card(reactivate(&cpr, "S-3")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_a_grant_to_somebody_under_age_is_refused_and_enters_nobody() {
    let stack = Stack::start(1).await.unwrap();
    let mut visitations = stack.ledger().await.unwrap().visitations;
    // Born on 2 January 2057 by the century table, so it is nobody's number yet.
    let cpr = "0201575001";
    let young = refused(FailedPrecondition, "UNDER_AGE");
    let from = |day| GrantCardRequest { effective_date: Some(day), ..grant(cpr) };
    let before = stack.recorded().await.unwrap();
    for validate_only in [true, false] {
        let request = GrantCardRequest { validate_only, ..from(date(2075, 1, 1)) };
        young.check("a day too early", visitations.grant_card(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);
    let answer = visitations.grant_card(from(date(2075, 1, 2))).await.unwrap().into_inner();

    // Whoever names the person by id is told the same.
    let begun = Some(date(2075, 1, 2));
    let ended = DeactivateCardRequest { effective_date: begun, ..deactivate(cpr, "S-2") };
    visitations.deactivate_card(ended).await.unwrap();
    let by_id = |day| GrantCardRequest {
        person: Some(PersonRef {
            person: Some(Person::PersonId(answer.card.clone().unwrap_or_default().person_id)),
            frikort_id: String::new(),
        }),
        reference: "S-3".to_owned(),
        ..from(day)
    };
    young.check("by id", visitations.grant_card(by_id(date(2075, 1, 1))).await);
    visitations.grant_card(by_id(date(2075, 1, 3))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_transfer_or_control_says_why_and_records_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let mut visitations = stack.ledger().await.unwrap().visitations;
    let (cpr, nobody) = (new_cpr(), new_cpr());
    visitations.grant_card(grant(&cpr)).await.unwrap();
    let before = stack.recorded().await.unwrap();
    let elsewhere = "147".to_owned();
    let of_other = TransferCardRequest {
        municipality_code: elsewhere.clone(),
        ..transfer(&cpr, "S-2", "151")
    };
    for (what, request, expected) in [
        ("nobody's card", transfer(&nobody, "S-2", "151"), refused(NotFound, "NO_CARD")),
        ("the grant's reference", transfer(&cpr, "S-1", "151"), reused(&["reference"])),
        ("another municipality", of_other, refused(NotFound, "NO_CARD")),
    ] {
        expected.check(what, visitations.transfer_card(request).await);
    }
    let of_other = RecordControlRequest { municipality_code: elsewhere, ..control(&cpr, "S-2") };
    for (what, request, expected) in [
        ("nobody's card", control(&nobody, "S-2"), refused(NotFound, "NO_CARD")),
        ("the grant's reference", control(&cpr, "S-1"), reused(&["reference"])),
        ("another municipality", of_other, refused(NotFound, "NO_CARD")),
    ] {
        expected.check(what, visitations.record_control(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);

    // A dry run says the same, and records nothing.
    let dry = RecordControlRequest { validate_only: true, ..control(&cpr, "S-2") };
    let dry = visitations.record_control(dry).await.unwrap().into_inner();
    assert_eq!(stack.recorded().await.unwrap(), before);
    let real = visitations.record_control(control(&cpr, "S-2")).await.unwrap().into_inner();
    assert_eq!(dry.card, real.card);
    assert_eq!(real.card.unwrap().control_due_date, Some(date(2024, 12, 31)));
    let again = visitations.record_control(control(&cpr, "S-2")).await.unwrap().into_inner();
    assert!(again.replayed && again.position == real.position);

    let dry = TransferCardRequest { validate_only: true, ..transfer(&cpr, "S-3", "151") };
    let dry = visitations.transfer_card(dry).await.unwrap().into_inner();
    let real = visitations.transfer_card(transfer(&cpr, "S-3", "151")).await.unwrap().into_inner();
    assert_eq!(dry.card, real.card);
    assert_eq!(real.card.unwrap().municipality_code, "151");
    let again = visitations.transfer_card(transfer(&cpr, "S-3", "151")).await.unwrap().into_inner();
    assert!(again.replayed && again.position == real.position);
    // The old municipality decides no more, and the new one does.
    let before = stack.recorded().await.unwrap();
    refused(FailedPrecondition, "NOT_RESPONSIBLE")
        .check("the old one", visitations.record_control(control(&cpr, "S-4")).await);
    assert_eq!(stack.recorded().await.unwrap(), before);
    let by_the_new =
        DeactivateCardRequest { municipality_code: "151".to_owned(), ..deactivate(&cpr, "S-5") };
    visitations.deactivate_card(by_the_new).await.unwrap();
    let inactive =
        RecordControlRequest { municipality_code: "151".to_owned(), ..control(&cpr, "S-6") };
    refused(FailedPrecondition, "NO_ACTIVE_CARD")
        .check("a card that is not active", visitations.record_control(inactive).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn n5_a_new_number_leads_to_the_same_person() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let (old, new) = (new_cpr(), new_cpr());
    let person_id = ledger.grant(&old).await.unwrap();
    ledger.payments.report_payment(report(&old, "before", 1_960_000)).await.unwrap();
    let request = renumber(&old, "S-2", &new);

    // Until then, and after a dry run, the new number is nobody's.
    let before = stack.recorded().await.unwrap();
    let dry = ChangeCprNumberRequest { validate_only: true, ..request.clone() };
    ledger.visitations.change_cpr_number(dry).await.unwrap();
    let asked = GetCardRequest { person: by_cpr(&new) };
    let answer = ledger.visitations.get_card(asked.clone()).await;
    refused(NotFound, "NO_CARD").check("a dry run", answer);
    let elsewhere =
        ChangeCprNumberRequest { municipality_code: "147".to_owned(), ..request.clone() };
    refused(NotFound, "NO_CARD")
        .check("another municipality", ledger.visitations.change_cpr_number(elsewhere).await);
    assert_eq!(stack.recorded().await.unwrap(), before);

    let told = ledger.visitations.change_cpr_number(request.clone()).await.unwrap().into_inner();
    assert_eq!(told.card.unwrap().person_id, person_id);
    for number in [&new, &old] {
        let asked = GetCardRequest { person: by_cpr(number) };
        let card = ledger.visitations.get_card(asked).await.unwrap().into_inner().card.unwrap();
        assert_eq!(card.person_id, person_id);
    }
    // One balance, also where the projector answers.
    let payment = report(&new, "after", 100_000);
    let after = ledger.payments.report_payment(payment).await.unwrap().into_inner();
    assert_eq!(after.payment.unwrap().exempt_oere, 40_000);
    let min_position = after.position.unwrap().position;
    for number in [&new, &old] {
        let asked = GetAllowanceRequest {
            person: by_cpr(number),
            year: 2022,
            min_position,
            ..GetAllowanceRequest::default()
        };
        let mut allowances = stack.allowances().await.unwrap();
        let told = allowances.get_allowance(asked).await.unwrap().into_inner();
        assert_eq!(told.allowance.unwrap().total_oere, 2_060_000);
    }

    // Whoever was cut off before the number was entered repeats the call.
    let pool = stack.database.pool().await.unwrap();
    let last = "DELETE FROM register.person WHERE cpr_tag = (SELECT cpr_tag FROM register.person
                ORDER BY ctid DESC LIMIT 1)";
    sqlx::query(last).execute(&pool).await.unwrap();
    let again = ledger.visitations.change_cpr_number(request.clone()).await.unwrap().into_inner();
    assert!(again.replayed && again.position == told.position);
    let numbers: i64 =
        sqlx::query_scalar("SELECT count(*) FROM register.person").fetch_one(&pool).await.unwrap();
    assert_eq!(numbers, 2);
    let other = ChangeCprNumberRequest { new_cpr_number: new_cpr(), ..request };
    reused(&["new_cpr_number"])
        .check("another number", ledger.visitations.change_cpr_number(other).await);

    let records: Vec<String> =
        sqlx::query_scalar("SELECT record FROM ledger.event").fetch_all(&pool).await.unwrap();
    assert!(records.iter().all(|record| !record.contains(&old) && !record.contains(&new)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_application_is_kept_and_tells_nobody_who_asks() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    let before = stack.recorded().await.unwrap();
    let dry = RejectApplicationRequest { validate_only: true, ..reject(&cpr, "A-1") };
    ledger.visitations.reject_application(dry).await.unwrap();
    assert_eq!(stack.recorded().await.unwrap(), before);

    let first = ledger.visitations.reject_application(reject(&cpr, "A-1")).await.unwrap();
    let again = ledger.visitations.reject_application(reject(&cpr, "A-1")).await.unwrap();
    let (first, again) = (first.into_inner(), again.into_inner());
    assert!(!first.replayed && again.replayed);
    assert_eq!((&first.person_id, &first.position), (&again.person_id, &again.position));
    let later = RejectApplicationRequest {
        application_date: Some(date(2022, 5, 2)),
        ..reject(&cpr, "A-1")
    };
    reused(&["application_date"])
        .check("other content", ledger.visitations.reject_application(later).await);

    // To everybody the person is somebody without a card, as before.
    let card = GetCardRequest { person: by_cpr(&cpr) };
    refused(NotFound, "NO_CARD").check("the card", ledger.visitations.get_card(card.clone()).await);
    let payment = ledger.payments.report_payment(report(&cpr, "a", 100)).await;
    refused(NotFound, "NO_CARD").check("a payment", payment);
    let min_position = first.position.unwrap().position;
    let asked = GetAllowanceRequest { person: by_cpr(&cpr), year: 2022, min_position, as_of: None };
    let allowance = stack.allowances().await.unwrap().get_allowance(asked).await;
    refused(NotFound, "NO_CARD").check("an allowance", allowance);

    // A later grant is told with the rejection before it; then there is nothing to apply for.
    ledger.visitations.grant_card(grant(&cpr)).await.unwrap();
    let told = ledger.visitations.get_card(card).await.unwrap().into_inner();
    let kinds: Vec<_> = told.decisions.iter().map(CardDecision::kind).collect();
    assert_eq!(kinds, [CardDecisionKind::Rejection, CardDecisionKind::Grant]);
    assert_eq!(told.decisions[0].application_date, Some(date(2022, 5, 1)));
    let active = Refused { metadata: SINCE, ..refused(FailedPrecondition, "CARD_ALREADY_ACTIVE") };
    active
        .check("an active card", ledger.visitations.reject_application(reject(&cpr, "A-2")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_reversed_deactivation_covers_what_was_refused() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    ledger.visitations.deactivate_card(deactivate(&cpr, "S-2")).await.unwrap();
    let worked = paid_on(&cpr, "a", (2022, 8, 1));
    let uncovered = Refused {
        metadata: &[("first_uncovered_day", "2022-08-01")],
        ..refused(FailedPrecondition, "NOT_COVERED")
    };
    uncovered.check("after it", ledger.payments.report_payment(worked.clone()).await);

    let before = stack.recorded().await.unwrap();
    for (what, request, expected) in [
        (
            "what was never decided",
            reverse(&cpr, "K-1", "S-9"),
            refused(NotFound, "DECISION_NOT_FOUND"),
        ),
        ("a grant", reverse(&cpr, "K-1", "S-1"), refused(NotFound, "DECISION_NOT_FOUND")),
        ("nobody's card", reverse(&new_cpr(), "K-1", "S-2"), refused(NotFound, "NO_CARD")),
    ] {
        expected.check(what, ledger.visitations.reverse_decision(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);
    let told = ledger.visitations.reverse_decision(reverse(&cpr, "K-1", "S-2")).await.unwrap();
    let card = told.into_inner().card.unwrap();
    assert_eq!(card.status(), CardStatus::Active);
    assert_eq!(card.active_periods.len(), 1);
    assert_eq!(card.active_periods[0].last_day, None);
    refused(FailedPrecondition, "DECISION_ALREADY_REVERSED")
        .check("again", ledger.visitations.reverse_decision(reverse(&cpr, "K-2", "S-2")).await);
    ledger.payments.report_payment(worked).await.unwrap();

    // The answer is whole: what was decided, and what became of it.
    let asked = GetCardRequest { person: by_cpr(&cpr) };
    let told = ledger.visitations.get_card(asked).await.unwrap().into_inner();
    let kinds: Vec<_> = told.decisions.iter().map(|d| (d.kind(), d.reversed)).collect();
    let expected = [
        (CardDecisionKind::Grant, false),
        (CardDecisionKind::Deactivation, true),
        (CardDecisionKind::Reversal, false),
    ];
    assert_eq!(kinds, expected);
    let reversal = &told.decisions[2];
    assert_eq!(
        (reversal.reversed_municipality_code.as_str(), reversal.reversed_reference.as_str()),
        ("101", "S-2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn n4_a_reissued_frikort_id_names_the_holder_at_the_ledger_and_the_projector() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let named = |frikort_id: &str| {
        let frikort_id = frikort_id.to_owned();
        by_cpr(&cpr).map(|person| PersonRef { frikort_id, ..person })
    };
    let request = ReissueCardRequest { person: named("12345"), ..reissue(&cpr, "S-2", "54321") };
    let before = stack.recorded().await.unwrap();
    for (what, request, expected) in [
        (
            "nobody's",
            ReissueCardRequest { person: by_cpr(&new_cpr()), ..request.clone() },
            "NO_CARD",
        ),
        ("another's", ReissueCardRequest { person: named("54321"), ..request.clone() }, "NO_CARD"),
    ] {
        refused(NotFound, expected).check(what, ledger.visitations.reissue_card(request).await);
    }
    let elsewhere = ReissueCardRequest { municipality_code: "147".to_owned(), ..request.clone() };
    refused(NotFound, "NO_CARD")
        .check("another municipality", ledger.visitations.reissue_card(elsewhere).await);
    let dry = ReissueCardRequest { validate_only: true, ..request.clone() };
    ledger.visitations.reissue_card(dry).await.unwrap();
    assert_eq!(stack.recorded().await.unwrap(), before);

    let told = ledger.visitations.reissue_card(request).await.unwrap().into_inner();
    let min_position = told.position.unwrap().position;
    let mut allowances = stack.allowances().await.unwrap();
    for (frikort_id, is_theirs) in [("12345", true), ("54321", true), ("11111", false)] {
        let asked = GetCardRequest { person: named(frikort_id) };
        assert_eq!(ledger.visitations.get_card(asked).await.is_ok(), is_theirs);
        let person = named(frikort_id);
        let asked = GetAllowanceRequest { person, year: 2022, min_position, as_of: None };
        assert_eq!(allowances.get_allowance(asked).await.is_ok(), is_theirs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_card_cannot_be_asked_for() {
    let stack = Stack::start(1).await.unwrap();
    let mut visitations = stack.ledger().await.unwrap().visitations;
    let answer = visitations.get_card(GetCardRequest { person: by_cpr(&new_cpr()) }).await;
    refused(NotFound, "NO_CARD").check("a card", answer);
}
