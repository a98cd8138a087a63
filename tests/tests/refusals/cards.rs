//! The reasons that decisions about a card are refused for.

use frikort_proto::v1::{
    DeactivateCardRequest, GetCardRequest, GrantCardRequest, ReactivateCardRequest,
};
use frikort_tests::{
    client::{by_cpr, date, grant, new_cpr},
    stack::Stack,
};
use tonic::Code::{AlreadyExists, FailedPrecondition, NotFound};

use super::status::{Refused, deactivate, reactivate, refused};

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
        ("another municipality", of_other, refused(FailedPrecondition, "NOT_RESPONSIBLE")),
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
        ("another municipality", of_other, refused(FailedPrecondition, "NOT_RESPONSIBLE")),
        ("from the last active day", within, active),
    ] {
        expected.check(what, visitations.reactivate_card(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);
    visitations.reactivate_card(reactivate(&cpr, "S-3")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_card_cannot_be_asked_for() {
    let stack = Stack::start(1).await.unwrap();
    let mut visitations = stack.ledger().await.unwrap().visitations;
    let answer = visitations.get_card(GetCardRequest { person: by_cpr(&new_cpr()) }).await;
    refused(NotFound, "NO_CARD").check("a card", answer);
}
