//! Whom a caller sees, and how much of a person (W1, W2, W3), by the questions about allowances.

use std::time::Instant;

use frikort_proto::{
    error::Failure,
    v1::{
        BatchGetAllowancesRequest, DeactivateCardRequest, ErrorReason, GetAllowanceRequest,
        GetReceiptRequest, GetStatementRequest, PersonRef, WatchAllowancesRequest,
        allowance_service_client::AllowanceServiceClient,
    },
};
use frikort_tests::{
    client::{by_cpr, cancel, date, new_cpr, report},
    decisions::{deactivate, reject, transfer},
    pki::CALLERS,
};
use tonic::{Request, Status, transport::Channel};

use crate::{Secured, purpose};

/// A question of which the answer contains `position`.
fn allowance(person: Option<PersonRef>, position: i64) -> GetAllowanceRequest {
    let min_position = position;
    GetAllowanceRequest { person, year: 2022, min_position, ..GetAllowanceRequest::default() }
}

fn statement(person: Option<PersonRef>, position: i64) -> GetStatementRequest {
    GetStatementRequest { person, min_position: position, ..GetStatementRequest::default() }
}

fn with_frikort_id(cpr: &str, frikort_id: &str) -> Option<PersonRef> {
    Some(PersonRef { frikort_id: frikort_id.to_owned(), ..by_cpr(cpr).unwrap() })
}

/// All that a caller is told.
fn told(status: &Status) -> (i32, String, Vec<u8>) {
    assert_eq!(Failure::from_status(status).unwrap().reason, ErrorReason::NoCard);
    (status.code().into(), status.message().to_owned(), status.details().to_vec())
}

/// Two persons with cards; the first is paid by both employers, the second by the other alone.
/// Gives the last position.
async fn paid(secured: &Secured, both: &str, other: &str) -> i64 {
    secured.as_caller("operator").await.set_limit(2022, 20_000).await.unwrap();
    let mut municipality = secured.as_caller("municipality").await;
    municipality.grant(both).await.unwrap();
    municipality.grant(other).await.unwrap();
    let mut employer = secured.as_caller("employer").await;
    let answer = employer.payments.report_payment(report(both, "own", 1_500_000)).await.unwrap();
    let allowance = answer.into_inner().allowance.unwrap();
    assert_eq!((allowance.used_oere, allowance.payment_count), (1_500_000, 0));
    let mut rival = secured.as_caller("rival").await;
    let mut last = 0;
    for person in [both, other] {
        let mut theirs = report(person, "theirs", 1_000_000);
        theirs.employer_cvr = "25048482".to_owned();
        let answer = rival.payments.report_payment(theirs).await.unwrap().into_inner();
        // W1: the balance, and not what others have paid above it.
        let allowance = answer.allowance.unwrap();
        assert_eq!(allowance.total_oere, allowance.used_oere);
        assert_eq!((allowance.taxable_oere, allowance.payment_count), (0, 0));
        last = answer.position.unwrap().position;
    }
    last
}

async fn allowances(secured: &Secured, name: &str) -> AllowanceServiceClient<Channel> {
    let shown = secured.authority.sign(&format!("{name}.test")).unwrap();
    AllowanceServiceClient::new(secured.connect(&secured.projector, Some(&shown)).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn w1_an_employer_sees_whom_it_pays_and_its_own_rows() {
    let secured = Secured::start().await;
    let (both, other, nobody) = (new_cpr(), new_cpr(), new_cpr());
    let last = paid(&secured, &both, &other).await;
    let mut employer = allowances(&secured, "employer").await;
    let balance = employer.get_allowance(allowance(by_cpr(&both), last)).await.unwrap();
    let balance = balance.into_inner().allowance.unwrap();
    assert_eq!((balance.used_oere, balance.remaining_oere), (2_000_000, 0));
    assert_eq!((balance.total_oere, balance.taxable_oere), (2_000_000, 0));
    assert_eq!(balance.payment_count, 0);
    let mut question = statement(by_cpr(&both), last);
    question.hours_through = Some(date(2022, 12, 31));
    let own = employer.get_statement(question).await.unwrap().into_inner();
    let references: Vec<_> = own.payments.iter().map(|p| p.reference.as_str()).collect();
    assert_eq!(references, ["own"]);
    assert_eq!(own.payments[0].employer_cvr, "13748136");
    assert_eq!(own.months.iter().map(|month| month.total_oere).sum::<i64>(), 1_500_000);
    assert_eq!(own.hours.unwrap().payments_without_hours, 1);
    assert_eq!(own.allowances, [balance]);

    // W3: whom it does not pay, with a card or without, looks the same.
    let question = |cpr: &str| allowance(by_cpr(cpr), last);
    let unseen = told(&employer.get_allowance(question(&other)).await.unwrap_err());
    assert_eq!(unseen, told(&employer.get_allowance(question(&nobody)).await.unwrap_err()));
    let of_other = employer.get_statement(statement(by_cpr(&other), last)).await.unwrap_err();
    assert_eq!(unseen, told(&of_other));
    // The Frikort-ID beside the CPR number opens it; another one, or one beside an id, does not.
    let shown = allowance(with_frikort_id(&other, "12345"), last);
    assert!(employer.get_allowance(shown).await.is_ok());
    let wrong = allowance(with_frikort_id(&other, "54321"), last);
    assert_eq!(unseen, told(&employer.get_allowance(wrong).await.unwrap_err()));
    let of_nobody = allowance(with_frikort_id(&nobody, "12345"), last);
    assert_eq!(unseen, told(&employer.get_allowance(of_nobody).await.unwrap_err()));
    let many = BatchGetAllowancesRequest {
        persons: [&both, &other, &nobody].map(|cpr| by_cpr(cpr).unwrap()).to_vec(),
        year: 2022,
        ..BatchGetAllowancesRequest::default()
    };
    let results = employer.batch_get_allowances(many).await.unwrap().into_inner().results;
    let seen: Vec<bool> = results.iter().map(|result| result.allowance.is_some()).collect();
    assert_eq!(seen, [true, false, false]);
    // Nor does it watch what others pay.
    let watched = employer.watch_allowances(WatchAllowancesRequest::default()).await;
    let refused = Failure::from_status(&watched.err().unwrap()).unwrap();
    assert_eq!(refused.reason, ErrorReason::NotAllowed);

    // Whom it pays no more it sees no more.
    let mut ledger = secured.as_caller("employer").await;
    let cancelled = ledger.payments.cancel_payment(cancel(&both, "own", 1)).await.unwrap();
    let last = cancelled.into_inner().position.unwrap().position;
    let gone = employer.get_allowance(allowance(by_cpr(&both), last)).await.unwrap_err();
    assert_eq!(unseen, told(&gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn w1_a_receipt_is_given_to_whoever_filed_the_record() {
    let secured = Secured::start().await;
    let (both, other) = (new_cpr(), new_cpr());
    let last = paid(&secured, &both, &other).await;
    let mut employer = secured.as_caller("employer").await;
    // One limit, two cards, then the payments: own, theirs, theirs.
    let ask = |position| GetReceiptRequest { partition: 0, position };
    assert!(employer.audits.get_receipt(ask(4)).await.is_ok());
    for position in [1, 2, 5, last] {
        let refused = employer.audits.get_receipt(ask(position)).await.unwrap_err();
        assert_eq!(Failure::from_status(&refused).unwrap().reason, ErrorReason::NotAllowed);
    }
    // Its own cancellation frees allowance for a payment of somebody else, which the record names.
    let cancelled = employer.payments.cancel_payment(cancel(&both, "own", 1)).await.unwrap();
    let position = cancelled.into_inner().position.unwrap().position;
    let refused = employer.audits.get_receipt(ask(position)).await.unwrap_err();
    assert_eq!(Failure::from_status(&refused).unwrap().reason, ErrorReason::NotAllowed);
    assert!(secured.as_caller("auditor").await.audits.get_receipt(ask(position)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn w2_a_municipality_sees_its_citizens_until_they_move() {
    let secured = Secured::start().await;
    let (both, other, nobody) = (new_cpr(), new_cpr(), new_cpr());
    let last = paid(&secured, &both, &other).await;
    let mut ours = allowances(&secured, "municipality").await;
    let mut theirs = allowances(&secured, "neighbour").await;
    let seen = ours.get_statement(statement(by_cpr(&both), last)).await.unwrap().into_inner();
    assert_eq!(seen.payments.len(), 2);
    assert_eq!(seen.allowances[0].total_oere, 2_500_000);
    let question = |cpr: &str, last| allowance(by_cpr(cpr), last);
    let unseen = told(&theirs.get_allowance(question(&both, last)).await.unwrap_err());
    assert_eq!(unseen, told(&theirs.get_allowance(question(&nobody, last)).await.unwrap_err()));
    let moves = transfer(&both, "S-2", "147");
    let mut municipality = secured.as_caller("municipality").await;
    let moved = municipality.visitations.transfer_card(moves).await.unwrap().into_inner();
    let last = moved.position.unwrap().position;
    assert!(theirs.get_allowance(question(&both, last)).await.is_ok());
    assert_eq!(unseen, told(&ours.get_allowance(question(&both, last)).await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn w2_benefit_and_tax_see_sums_and_splits_without_employers_and_say_what_for() {
    let secured = Secured::start().await;
    let (both, other) = (new_cpr(), new_cpr());
    let last = paid(&secured, &both, &other).await;
    for name in ["benefit", "tax"] {
        let mut caller = allowances(&secured, name).await;
        let without = caller.get_allowance(allowance(by_cpr(&both), last)).await.unwrap_err();
        let refused = Failure::from_status(&without).unwrap();
        assert_eq!(refused.reason, ErrorReason::InvalidField);
        assert_eq!(refused.fields[0].0, "frikort-purpose");
        let mut question = Request::new(statement(by_cpr(&both), last));
        question.get_mut().with_history = true;
        let seen = caller.get_statement(purpose(question, "DAGPENGE")).await.unwrap().into_inner();
        assert_eq!(seen.payments.len(), 2);
        assert!(seen.payments.iter().all(|p| p.employer_cvr.is_empty() && p.reference.is_empty()));
        let text = format!("{seen:?}");
        assert!(!text.contains("13748136") && !text.contains("theirs"), "{text}");
        assert_eq!(
            (seen.allowances[0].total_oere, seen.allowances[0].payment_count),
            (2_500_000, 2)
        );
        // Watching names whom.
        let everybody = purpose(Request::new(WatchAllowancesRequest::default()), "DAGPENGE");
        let refused = caller.watch_allowances(everybody).await.err().unwrap();
        assert_eq!(Failure::from_status(&refused).unwrap().reason, ErrorReason::NotAllowed);
        let persons = vec![by_cpr(&both).unwrap()];
        let one = WatchAllowancesRequest { persons, ..WatchAllowancesRequest::default() };
        let mut changes = caller
            .watch_allowances(purpose(Request::new(one), "DAGPENGE"))
            .await
            .unwrap()
            .into_inner();
        assert!(changes.message().await.unwrap().is_some());
    }
}

/// How often who has to say by the time alone which of two answers it was would be right.
fn told_apart(one: &[f64], other: &[f64]) -> f64 {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    let (mut before, mut all) = (0.0, 0.0);
    for (a, b) in pairs {
        before +=
            f64::from(u8::from(a < b)) + f64::from(u8::from((a - b).abs() < f64::EPSILON)) / 2.0;
        all += 1.0;
    }
    let share: f64 = before / all;
    share.max(1.0 - share)
}

/// Fails where who is refused an answer about persons of three kinds, the last of whom nobody knows,
/// would be told by the time of which kind each is.
async fn check_not_told_apart(known: [&str; 2], mut ask: impl AsyncFnMut(&str) -> Status) {
    const ROUNDS: usize = 150;
    let mut took = [const { Vec::new() }; 3];
    for round in 0..ROUNDS + 10 {
        let unknown = new_cpr();
        let mut asked = [(0, known[0]), (1, known[1]), (2, &*unknown)];
        asked.rotate_left(round % 3);
        for (kind, cpr) in asked {
            let begun = Instant::now();
            let refused = ask(cpr).await;
            // The first ones find nothing in memory.
            if round >= 10 {
                took[kind].push(begun.elapsed().as_secs_f64());
            }
            assert_eq!(Failure::from_status(&refused).unwrap().reason, ErrorReason::NoCard);
        }
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let right = told_apart(&took[a], &took[b]);
        assert!(right < 0.7, "kinds {a} and {b} are told apart in {right:.2} of all cases");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w3_who_is_unseen_without_a_card_or_unknown_is_not_told_apart_by_time() {
    // So often nobody would be told so.
    let guesses = |_: &_| vec![("FRIKORT_MISSES_AT_ONCE", "10000".to_owned())];
    let secured = Secured::start_with(CALLERS, guesses).await;
    let (both, unseen, rejected) = (new_cpr(), new_cpr(), new_cpr());
    paid(&secured, &both, &unseen).await;
    let mut municipality = secured.as_caller("municipality").await.visitations;
    municipality.reject_application(reject(&rejected, "S-3")).await.unwrap();
    let mut employer = allowances(&secured, "employer").await;
    let ask =
        async |cpr: &str| employer.get_allowance(allowance(by_cpr(cpr), 0)).await.unwrap_err();
    check_not_told_apart([&unseen, &rejected], ask).await;

    let mut neighbour = secured.as_caller("neighbour").await.visitations;
    let ask = async |cpr: &str| {
        let municipality_code = "147".to_owned();
        let request = DeactivateCardRequest { municipality_code, ..deactivate(cpr, "X-1") };
        neighbour.deactivate_card(request).await.unwrap_err()
    };
    check_not_told_apart([&unseen, &rejected], ask).await;
}
