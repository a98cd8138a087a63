//! For whom a caller acts: held against each request before a person is looked for, so that the
//! answer is the same whoever the person is.

use frikort_proto::{
    error::Failure,
    v1::{
        ChangeCprNumberRequest, ErrorReason, GetCardRequest, GrantCardRequest,
        ListDueControlsRequest, ListPaymentsRequest, RejectApplicationRequest,
        ReportPaymentsRequest, overview_service_client::OverviewServiceClient,
        report_payments_response::Result as Became,
    },
};
use frikort_tests::{
    client::{by_cpr, cancel, correct, date, facts, grant, new_cpr, report},
    decisions::{control, deactivate, reactivate, reissue, reject, renumber, reverse, transfer},
};
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

/// Of the municipality 101 somebody whose card is active, somebody whose card is not (with the id), and
/// somebody whose application was rejected; and nobody.
async fn citizens(secured: &Secured) -> ([String; 4], String) {
    let [active, inactive, rejected, nobody] = [(); 4].map(|()| new_cpr());
    let mut ours = secured.as_caller("municipality").await;
    ours.grant(&active).await.unwrap();
    let id = ours.grant(&inactive).await.unwrap();
    ours.visitations.deactivate_card(deactivate(&inactive, "S-2")).await.unwrap();
    ours.visitations.reject_application(reject(&rejected, "S-1")).await.unwrap();
    ([active, inactive, rejected, nobody], id)
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_w3_a_decision_about_anothers_citizen_is_answered_as_about_nobody() {
    let secured = Secured::start().await;
    let ([active, inactive, rejected, nobody], _) = citizens(&secured).await;
    let mut theirs = secured.as_caller("neighbour").await.visitations;
    let before = secured.events().await;
    let asked = [&active, &inactive, &rejected, &nobody];
    // Each as the neighbour, tried and meant.
    macro_rules! alike {
        ($method:ident, $request:expr) => {{
            let mut answers = Vec::new();
            for (cpr, validate_only) in asked.iter().flat_map(|cpr| [(cpr, true), (cpr, false)]) {
                let mut request = $request(cpr);
                request.municipality_code = "147".to_owned();
                request.validate_only = validate_only;
                let refused = theirs.$method(request).await.unwrap_err();
                assert_eq!(reason(&refused), ErrorReason::NoCard);
                answers.push(told(&refused));
            }
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        }};
    }
    alike!(deactivate_card, |cpr: &str| deactivate(cpr, "X-1"));
    alike!(reactivate_card, |cpr: &str| reactivate(cpr, "X-1"));
    alike!(reverse_decision, |cpr: &str| reverse(cpr, "X-1", "S-2"));
    alike!(reissue_card, |cpr: &str| reissue(cpr, "X-1", "54321"));
    alike!(transfer_card, |cpr: &str| transfer(cpr, "X-1", "151"));
    alike!(record_control, |cpr: &str| control(cpr, "X-1"));
    // Also where the new number is somebody's.
    alike!(change_cpr_number, |cpr: &str| {
        renumber(cpr, "X-1", if cpr == active { &inactive } else { &active })
    });
    assert_eq!(secured.events().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn w3_a_grant_that_is_only_tried_tells_nothing_of_a_card_that_was_anothers() {
    let secured = Secured::start().await;
    let ([active, inactive, rejected, nobody], id) = citizens(&secured).await;
    let mut ours = secured.as_caller("municipality").await;
    let anew = |cpr: &str, municipality: &str| GrantCardRequest {
        municipality_code: municipality.to_owned(),
        reference: "X-1".to_owned(),
        effective_date: Some(date(2022, 9, 1)),
        validate_only: true,
        ..grant(cpr)
    };
    let mut theirs = secured.as_caller("neighbour").await.visitations;
    let of_nobody = theirs.grant_card(anew(&nobody, "147")).await.unwrap().into_inner();
    for cpr in [&inactive, &rejected] {
        let tried = theirs.grant_card(anew(cpr, "147")).await.unwrap().into_inner();
        assert_eq!(tried, of_nobody);
    }
    let no = |cpr: &str, municipality: &str| RejectApplicationRequest {
        municipality_code: municipality.to_owned(),
        validate_only: true,
        ..reject(cpr, "X-1")
    };
    let of_nobody = theirs.reject_application(no(&nobody, "147")).await.unwrap().into_inner();
    for cpr in [&inactive, &rejected] {
        let tried = theirs.reject_application(no(cpr, "147")).await.unwrap().into_inner();
        assert_eq!(tried, of_nobody);
    }
    // Whose card it is sees all of it, before and after.
    let tried = ours.visitations.grant_card(anew(&inactive, "101")).await.unwrap().into_inner();
    let card = tried.card.unwrap();
    assert_eq!((&card.person_id, card.active_periods.len()), (&id, 2));

    // C6: that there is an active card is told, and nothing of it.
    let elsewhere = [
        theirs.grant_card(anew(&active, "147")).await.unwrap_err(),
        theirs.reject_application(no(&active, "147")).await.unwrap_err(),
    ];
    for status in elsewhere {
        let refused = Failure::from_status(&status).unwrap();
        assert_eq!(refused.reason, ErrorReason::CardAlreadyActive);
        assert!(refused.metadata.is_empty(), "{refused:?}");
    }
    // A grant makes it theirs, with its history.
    let meant = GrantCardRequest { validate_only: false, ..anew(&inactive, "147") };
    let card = theirs.grant_card(meant).await.unwrap().into_inner().card.unwrap();
    assert_eq!((&card.person_id, card.active_periods.len()), (&id, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn w3_w4_whose_a_new_number_is_is_not_told_for_a_try_and_is_noted() {
    let secured = Secured::start().await;
    let (own, taken) = (new_cpr(), new_cpr());
    secured.as_caller("municipality").await.grant(&taken).await.unwrap();
    let mut theirs = secured.as_caller("neighbour").await.visitations;
    let here = GrantCardRequest { municipality_code: "147".to_owned(), ..grant(&own) };
    theirs.grant_card(here).await.unwrap();
    let change = |new: &str, validate_only| ChangeCprNumberRequest {
        municipality_code: "147".to_owned(),
        validate_only,
        ..renumber(&own, "X-1", new)
    };
    let tried = theirs.change_cpr_number(change(&taken, true)).await.unwrap().into_inner();
    let free = theirs.change_cpr_number(change(&new_cpr(), true)).await.unwrap().into_inner();
    assert_eq!(tried, free);

    let pool = secured.database.pool().await.unwrap();
    secured.until_noted().await;
    let events = secured.events().await;
    let persons = "SELECT count(DISTINCT person_id) FROM access.entry
                   WHERE method = 'VisitationService/ChangeCprNumber'";
    let count = async || sqlx::query_scalar::<_, i64>(persons).fetch_one(&pool).await.unwrap();
    assert_eq!(count().await, 1);
    let refused = theirs.change_cpr_number(change(&taken, false)).await.unwrap_err();
    let refused = Failure::from_status(&refused).unwrap();
    assert_eq!(refused.reason, ErrorReason::InvalidField);
    assert_eq!(refused.fields[0].0, "new_cpr_number");
    secured.until_noted().await;
    assert_eq!(count().await, 2, "whose number it is was looked up");
    assert_eq!(secured.events().await, events);
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
