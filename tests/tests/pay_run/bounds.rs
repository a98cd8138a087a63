//! Where options may stand, what they may hold, and how much of a run there may be.

use frikort_proto::v1::{ErrorReason, ReportPaymentRequest, ReportPaymentsRequest};
use frikort_tests::{
    client::{Ledger, new_cpr, report},
    stack::Stack,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use super::run::{Ran, item, options, plan, send};

/// The ledger, a person with a card, and a run of one line.
async fn ground() -> (Stack, Ledger, ReportPaymentRequest) {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    (stack, ledger, report(&cpr, "one", 50_000))
}

fn bad_fields(ran: &Ran) -> Vec<&str> {
    let failure = ran.failure();
    assert_eq!(failure.reason, ErrorReason::InvalidField, "{failure:?}");
    failure.fields.iter().map(|(field, _)| field.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn options_stand_alone_and_make_sense() {
    let (stack, ledger, line) = ground().await;
    let before = stack.recorded().await.unwrap();
    let with_payment = ReportPaymentsRequest { payment: Some(line.clone()), ..options(true, "") };
    let token = format!("1-{}", "0".repeat(64));
    let dry = ReportPaymentRequest { validate_only: true, ..line.clone() };
    let cases = [
        (vec![with_payment], vec!["payment"]),
        (vec![options(true, &token), item(line.clone())], vec!["run.plan_token"]),
        (vec![options(false, "yes"), item(line.clone())], vec!["run.plan_token"]),
        (vec![options(true, ""), options(true, "")], vec!["run"]),
        (vec![options(true, ""), item(dry.clone())], vec!["payment.validate_only"]),
        (vec![options(false, &token), item(dry.clone())], vec!["payment.validate_only"]),
        (vec![options(false, ""), item(dry)], vec!["payment.validate_only"]),
    ];
    for (messages, fields) in cases {
        let what = format!("{messages:?}");
        assert_eq!(bad_fields(&send(&ledger, messages).await), fields, "{what}");
    }
    assert_eq!(stack.recorded().await.unwrap(), before);
}

/// Who asks for a plan in the middle is told before anything more is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn options_after_an_item_end_the_stream_there() {
    let (stack, ledger, line) = ground().await;
    let before = stack.recorded().await.unwrap().events;
    let two = ReportPaymentRequest { reference: "two".to_owned(), ..line.clone() };
    let ran = send(&ledger, vec![item(line), options(true, ""), item(two)]).await;
    assert_eq!(bad_fields(&ran), ["run"]);
    assert_eq!(ran.answers().count(), 1, "what went before stands");
    assert_eq!(stack.recorded().await.unwrap().events, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_options_has_no_totals() {
    let (_stack, ledger, line) = ground().await;
    let ran = send(&ledger, vec![item(line)]).await;
    assert_eq!((ran.lines.len(), ran.totals, ran.failure), (1, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_too_many_is_refused_and_the_bound_is_named() {
    let (stack, ledger, mut line) = ground().await;
    // Malformed lines are lines too, and quick.
    line.facts = None;
    let before = stack.recorded().await.unwrap();
    let most = vec![line; 100_001];
    let allowed = plan(&ledger, &most[1..]).await;
    let totals = allowed.totals();
    assert_eq!((totals.lines, totals.refused), (100_000, 100_000));
    let above = plan(&ledger, &most).await;
    assert_eq!(bad_fields(&above), ["run"]);
    assert!(above.failure().fields[0].1.contains("at most 100000 lines"), "{above:?}");
    assert_eq!(above.lines.len(), 100_000);
    let mut messages = vec![options(false, &totals.plan_token)];
    messages.extend(most.into_iter().map(item));
    assert_eq!(bad_fields(&send(&ledger, messages).await), ["run"]);
    assert_eq!(stack.recorded().await.unwrap(), before);
}

/// Each run in progress has one of four places; a fifth is told to come again, and can then.
#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_run_at_once_is_refused_with_a_delay() {
    let (_stack, ledger, line) = ground().await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let (sender, begun) = mpsc::unbounded_channel();
        sender.send(options(true, "")).unwrap();
        sender.send(item(line.clone())).unwrap();
        let begun = UnboundedReceiverStream::new(begun);
        let mut payments = ledger.payments.clone();
        let mut results = payments.report_payments(begun).await.unwrap().into_inner();
        // It has its place when it answers.
        results.next().await.unwrap().unwrap();
        open.push((sender, results));
    }
    let refused = plan(&ledger, std::slice::from_ref(&line)).await;
    assert_eq!(refused.failure().reason, ErrorReason::Overloaded);
    assert!(refused.failure().retry_delay().is_some());
    // A stream without a plan needs no place.
    assert_eq!(send(&ledger, vec![options(false, ""), item(line.clone())]).await.lines.len(), 1);

    let (sender, mut results) = open.pop().unwrap();
    drop(sender);
    while let Some(result) = results.next().await {
        result.unwrap();
    }
    // The place is free as soon as the run has ended.
    assert_eq!(plan(&ledger, std::slice::from_ref(&line)).await.totals().already_there, 1);
}
