//! `validate_only` on every write: the answer is that of the real call but for where it is
//! recorded, and nothing is recorded.

use frikort_proto::{
    error::Failure,
    v1::{
        CancelPaymentRequest, CorrectPaymentRequest, DeactivateCardRequest, GrantCardRequest,
        LedgerPosition, ListAnnualLimitsRequest, Payment, ReactivateCardRequest,
        ReportPaymentRequest, ReportPaymentResponse, ReportPaymentsRequest, SetAnnualLimitRequest,
        report_payments_response::Result as Became,
    },
};
use frikort_tests::{
    client::{Ledger, date, grant, new_cpr, report},
    decisions::{deactivate, reactivate},
    stack::Stack,
};

use super::{
    payments::{closed_card, refused_reports},
    status::{cancel, correct},
};

/// Takes out where it was recorded: of a dry run the head as it stands, else the event.
fn place(position: &mut Option<LedgerPosition>, payment: Option<&mut Payment>) -> i64 {
    let position = position.take().unwrap();
    assert!(position.recorded_time.is_some(), "{position:?}");
    if let Some(payment) = payment {
        assert_eq!(payment.position, position.position);
        payment.position = 0;
    }
    position.position
}

/// Takes the place out of two answers: the dry one stands at the head, the real one after it.
macro_rules! assert_alike {
    ($stack:expr, $dry:expr, $real:expr $(, $payment:ident)?) => {{
        let before = $stack.recorded().await.unwrap();
        let mut dry = $dry.await.unwrap().into_inner();
        assert_eq!($stack.recorded().await.unwrap(), before, "a dry run has recorded something");
        let mut real = $real.await.unwrap().into_inner();
        let at = (
            place(&mut dry.position, None$(.or(dry.$payment.as_mut()))?),
            place(&mut real.position, None$(.or(real.$payment.as_mut()))?),
        );
        assert_eq!(at, (before.positions, before.positions + 1));
        assert_eq!(dry, real);
        real
    }};
}

fn dry_report(request: &ReportPaymentRequest) -> ReportPaymentRequest {
    ReportPaymentRequest { validate_only: true, ..request.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_payment_answers_as_the_real_one_and_records_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = closed_card(&mut ledger).await;
    let mut dry = ledger.payments.clone();
    // A twin of "used", so that the warning is told too; and one that crosses the limit.
    for request in [report(&cpr, "twin", 50_000), report(&cpr, "crossing", 1_950_000)] {
        let answer = dry.report_payment(dry_report(&request));
        let real = assert_alike!(stack, answer, ledger.payments.report_payment(request), payment);
        assert_eq!(real.warnings.len(), usize::from(real.payment.unwrap().reference == "twin"));
    }
    let request = correct(&cpr, "used", 1, 10_000);
    let answer = CorrectPaymentRequest { validate_only: true, ..request.clone() };
    let answer = dry.correct_payment(answer);
    let real = assert_alike!(stack, answer, ledger.payments.correct_payment(request), payment);
    assert_eq!(real.payment.unwrap().revision, 2);

    let request = cancel(&cpr, "twin", 1);
    let answer = CancelPaymentRequest { validate_only: true, ..request.clone() };
    let answer = dry.cancel_payment(answer);
    let real = assert_alike!(stack, answer, ledger.payments.cancel_payment(request), payment);
    assert!(real.payment.unwrap().cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_decision_answers_as_the_real_one_and_records_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let mut late = report(&cpr, "after", 50_000);
    late.facts.as_mut().unwrap().work_period = None;
    late.facts.as_mut().unwrap().payment_date = Some(date(2022, 6, 15));
    ledger.payments.report_payment(late).await.unwrap();
    let mut dry = ledger.visitations.clone();

    let request = deactivate(&cpr, "S-2");
    let answer = DeactivateCardRequest { validate_only: true, ..request.clone() };
    let answer = dry.deactivate_card(answer);
    let real = assert_alike!(stack, answer, ledger.visitations.deactivate_card(request));
    assert_eq!(real.payments_after.len(), 1, "{real:?}");

    let request = reactivate(&cpr, "S-3");
    let answer = ReactivateCardRequest { validate_only: true, ..request.clone() };
    let answer = dry.reactivate_card(answer);
    let real = assert_alike!(stack, answer, ledger.visitations.reactivate_card(request));
    assert_eq!(real.card.unwrap().active_periods.len(), 2);

    let again =
        DeactivateCardRequest { decision_date: Some(date(2022, 8, 1)), ..deactivate(&cpr, "S-4") };
    ledger.visitations.deactivate_card(again).await.unwrap();
    let anew = GrantCardRequest {
        reference: "S-5".to_owned(),
        effective_date: Some(date(2022, 9, 1)),
        ..grant(&cpr)
    };
    let answer = GrantCardRequest { validate_only: true, ..anew.clone() };
    let answer = dry.grant_card(answer);
    let real = assert_alike!(stack, answer, ledger.visitations.grant_card(anew));
    assert_eq!(real.card.unwrap().active_periods.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_first_grant_enters_nobody_in_the_register() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let request = grant(&new_cpr());
    let dry = GrantCardRequest { validate_only: true, ..request.clone() };
    let dry = ledger.visitations.grant_card(dry).await.unwrap().into_inner();
    let recorded = stack.recorded().await.unwrap();
    assert_eq!((recorded.events, recorded.persons), (0, 0));
    assert_eq!(dry.position, Some(LedgerPosition::default()));

    let real = ledger.visitations.grant_card(request).await.unwrap().into_inner();
    let (mut dry, mut real) = (dry.card.unwrap(), real.card.unwrap());
    // Nobody has an id yet.
    dry.person_id.clear();
    real.person_id.clear();
    assert_eq!(dry, real);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_limit_records_it_in_no_partition() {
    let stack = Stack::start(4).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2021, 20_000).await.unwrap();
    let before = stack.recorded().await.unwrap();
    let mut request = SetAnnualLimitRequest::default();
    let limits = ledger
        .policies
        .list_annual_limits(ListAnnualLimitsRequest {})
        .await
        .unwrap()
        .into_inner()
        .limits;
    let mut limit = limits[0].clone();
    (limit.year, limit.in_force_date) = (2022, Some(date(2022, 1, 1)));
    request.limit = Some(limit);

    let dry = SetAnnualLimitRequest { validate_only: true, ..request.clone() };
    let mut dry = ledger.policies.set_annual_limit(dry).await.unwrap().into_inner();
    assert_eq!(stack.recorded().await.unwrap(), before);
    let listed = ledger
        .policies
        .list_annual_limits(ListAnnualLimitsRequest {})
        .await
        .unwrap()
        .into_inner()
        .limits;
    assert_eq!(listed, limits);
    let mut real = ledger.policies.set_annual_limit(request).await.unwrap().into_inner();
    let at = |positions: &mut Vec<LedgerPosition>| -> Vec<(i32, i64)> {
        positions.drain(..).map(|place| (place.partition, place.position)).collect()
    };
    assert_eq!(at(&mut dry.positions), [(0, 1), (1, 1), (2, 1), (3, 1)]);
    assert_eq!(at(&mut real.positions), [(0, 2), (1, 2), (2, 2), (3, 2)]);
    assert_eq!(dry, real);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_refused_and_replayed_as_the_real_call_is() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = closed_card(&mut ledger).await;
    let before = stack.recorded().await.unwrap();
    for (request, _) in refused_reports(&cpr) {
        let real = ledger.payments.report_payment(request.clone()).await.unwrap_err();
        let dry = ledger.payments.report_payment(dry_report(&request)).await.unwrap_err();
        // The order of metadata is not the same in two answers: compared as read.
        let read = Failure::from_status;
        assert!(read(&dry).is_some());
        assert_eq!(read(&dry), read(&real), "{}", request.reference);
    }
    let mut replay = async |request: ReportPaymentRequest| -> ReportPaymentResponse {
        ledger.payments.report_payment(request).await.unwrap().into_inner()
    };
    let real = replay(report(&cpr, "used", 50_000)).await;
    let dry = replay(dry_report(&report(&cpr, "used", 50_000))).await;
    assert!(real.replayed);
    assert_eq!(dry, real);
    assert_eq!(stack.recorded().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_item_on_a_stream_records_nothing_and_the_next_does_not_see_it() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = closed_card(&mut ledger).await;
    let before = stack.recorded().await.unwrap();
    let item = |payment| ReportPaymentsRequest { payment: Some(payment), ..Default::default() };
    let real = report(&cpr, "real", 1_950_000);
    let items = [item(dry_report(&real)), item(dry_report(&real)), item(real)];
    let told = exempt(&mut ledger, items.to_vec()).await;
    let at = before.positions;
    assert_eq!(told, [(1_950_000, at), (1_950_000, at), (1_950_000, at + 1)]);
    assert_eq!(stack.recorded().await.unwrap().events, before.events + 1);
}

/// The exempt part of each item, and as of which position it is told.
async fn exempt(ledger: &mut Ledger, items: Vec<ReportPaymentsRequest>) -> Vec<(i64, i64)> {
    let stream = tokio_stream::iter(items);
    let mut results = ledger.payments.report_payments(stream).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(result) = results.message().await.unwrap() {
        let Some(Became::Recorded(answer)) = result.result else { panic!("{result:?}") };
        assert!(!answer.replayed);
        told.push((answer.payment.unwrap().exempt_oere, answer.position.unwrap().position));
    }
    told
}
