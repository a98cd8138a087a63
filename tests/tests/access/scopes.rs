//! For whom a caller acts: held against each request before a person is looked for, so that the
//! answer is the same whoever the person is.

use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, GetCardRequest, ListDueControlsRequest, ListPaymentsRequest,
        ReportPaymentsRequest, overview_service_client::OverviewServiceClient,
        report_payments_response::Result as Became,
    },
};
use frikort_tests::client::{by_cpr, cancel, correct, facts, grant, new_cpr, report};
use futures::stream;
use tonic::Status;

use crate::Secured;

/// All that a caller is told.
pub(crate) fn told(status: &Status) -> (i32, String, Vec<u8>) {
    (status.code().into(), status.message().to_owned(), status.details().to_vec())
}

fn reason(status: &Status) -> ErrorReason {
    Failure::from_status(status).unwrap().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_an_employer_acts_for_its_own_and_is_on_record() {
    let secured = Secured::start().await;
    secured.as_caller("operator").await.set_limit(2022, 20_000).await.unwrap();
    let (known, unknown) = (new_cpr(), new_cpr());
    secured.as_caller("municipality").await.grant(&known).await.unwrap();
    let mut employer = secured.as_caller("employer").await;
    employer.payments.report_payment(report(&known, "1", 10_000)).await.unwrap();
    let pool = secured.database.pool().await.unwrap();
    let by: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT record::jsonb ->> 'type', record::jsonb #>> '{actor,role}',
                record::jsonb #>> '{actor,organisation}'
         FROM ledger.event ORDER BY position",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let of = |kind: &str, role: &str, who: &str| (kind.into(), role.into(), who.into());
    assert_eq!(
        by,
        [
            of("annual_limit_set", "operator", "driften"),
            of("card_granted", "municipality", "101"),
            of("payment_reported", "employer", "13748136"),
        ]
    );
    let before = secured.events().await;

    // In somebody else's name: the same about a holder and about nobody, and nothing is recorded.
    let theirs = "25048482";
    let mut answers = Vec::new();
    for cpr in [&known, &unknown] {
        let mut reported = report(cpr, "1", 10_000);
        reported.employer_cvr = theirs.to_owned();
        let mut corrected = correct(cpr, "1", 1, facts(9_000));
        corrected.employer_cvr = theirs.to_owned();
        let mut cancelled = cancel(cpr, "1", 1);
        cancelled.employer_cvr = theirs.to_owned();
        let payments = &mut employer.payments;
        answers.push([
            told(&payments.report_payment(reported.clone()).await.unwrap_err()),
            told(&payments.correct_payment(corrected).await.unwrap_err()),
            told(&payments.cancel_payment(cancelled).await.unwrap_err()),
        ]);
        // On a stream the line is refused, and the others go on.
        let lines = [reported, report(cpr, "1", 10_000)];
        let lines = lines.map(|line| ReportPaymentsRequest {
            payment: Some(line),
            ..ReportPaymentsRequest::default()
        });
        let results = payments.report_payments(stream::iter(lines)).await.unwrap();
        let mut results = results.into_inner();
        let Became::Refused(refused) = results.message().await.unwrap().unwrap().result.unwrap()
        else {
            panic!("the line was taken")
        };
        assert_eq!(refused.reason(), ErrorReason::NotAllowed);
        assert_eq!(refused.metadata["field"], "employer_cvr");
        let next = results.message().await.unwrap().unwrap().result.unwrap();
        assert_eq!(matches!(next, Became::Recorded(_)), cpr == &known, "{next:?}");
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(secured.events().await, before);
    let refused = &answers[0][0];
    assert_eq!(refused.1, "the caller does not act for employer_cvr");
    // What is malformed is said first (P9).
    let mut malformed = report(&known, "1", 0);
    malformed.employer_cvr = theirs.to_owned();
    let status = employer.payments.report_payment(malformed).await.unwrap_err();
    assert_eq!(reason(&status), ErrorReason::InvalidField);
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_w2_a_municipality_decides_for_itself_and_sees_its_own() {
    let secured = Secured::start().await;
    let (cpr, nobody) = (new_cpr(), new_cpr());
    let mut ours = secured.as_caller("municipality").await;
    let mut theirs = secured.as_caller("neighbour").await;
    let status = theirs.visitations.grant_card(grant(&cpr)).await.unwrap_err();
    assert_eq!(reason(&status), ErrorReason::NotAllowed);
    assert_eq!(secured.events().await, 0);
    ours.grant(&cpr).await.unwrap();
    let asked = |cpr: &str| GetCardRequest { person: by_cpr(cpr) };
    let card = ours.visitations.get_card(asked(&cpr)).await.unwrap().into_inner().card.unwrap();
    // W3: another municipality's citizen, and nobody, look the same; by id too.
    let mut by_id = by_cpr(&cpr).unwrap();
    by_id.person = Some(frikort_proto::v1::person_ref::Person::PersonId(card.person_id));
    let of_theirs = theirs.visitations.get_card(asked(&cpr)).await.unwrap_err();
    let of_nobody = theirs.visitations.get_card(asked(&nobody)).await.unwrap_err();
    let by_their_id = theirs.visitations.get_card(GetCardRequest { person: Some(by_id) }).await;
    assert_eq!(reason(&of_theirs), ErrorReason::NoCard);
    assert_eq!(told(&of_theirs), told(&of_nobody));
    assert_eq!(told(&of_theirs), told(&by_their_id.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn w1_w2_lists_are_of_those_whom_the_caller_acts_for() {
    let secured = Secured::start().await;
    let connect = async |name: &str| {
        let shown = secured.authority.sign(&format!("{name}.test")).unwrap();
        let channel = secured.connect(&secured.projector, Some(&shown)).await.unwrap();
        OverviewServiceClient::new(channel)
    };
    let mut employer = connect("employer").await;
    let payments = |cvr: &str| ListPaymentsRequest {
        employer_cvr: cvr.to_owned(),
        ..ListPaymentsRequest::default()
    };
    employer.list_payments(payments("29189706")).await.unwrap();
    let status = employer.list_payments(payments("25048482")).await.unwrap_err();
    assert_eq!(reason(&status), ErrorReason::NotAllowed);
    let mut municipality = connect("municipality").await;
    let due = |code: &str| ListDueControlsRequest {
        municipality_code: code.to_owned(),
        ..ListDueControlsRequest::default()
    };
    municipality.list_due_controls(due("101")).await.unwrap();
    let status = municipality.list_due_controls(due("147")).await.unwrap_err();
    assert_eq!(reason(&status), ErrorReason::NotAllowed);
}
