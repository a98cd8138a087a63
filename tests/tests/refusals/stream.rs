//! ReportPayments: one result an item, in order, and the same refusals as one call gives.

use frikort_proto::{
    error::Failure,
    v1::{
        Refusal, ReportPaymentRequest, ReportPaymentsRequest, Warning,
        report_payments_response::Result as Became,
    },
};
use frikort_tests::{
    client::{Ledger, new_cpr, report},
    stack::Stack,
};
use tokio_stream::{StreamExt, iter};

use super::payments::{closed_card, refused_reports};

async fn send(ledger: &Ledger, payments: Vec<ReportPaymentRequest>) -> Vec<Became> {
    let items = payments
        .into_iter()
        .map(|payment| ReportPaymentsRequest { payment: Some(payment), ..Default::default() });
    let items: Vec<_> = items.collect();
    let sent = items.len();
    let mut client = ledger.payments.clone();
    let mut results = client.report_payments(iter(items)).await.unwrap().into_inner();
    let mut became = Vec::new();
    while let Some(result) = results.next().await {
        let result = result.unwrap();
        assert_eq!(usize::try_from(result.index).unwrap(), became.len(), "out of order");
        became.push(result.result.unwrap());
    }
    assert_eq!(became.len(), sent, "one result an item");
    became
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_refused_as_the_call_would_be_and_harms_no_other() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = closed_card(&mut ledger).await;
    let other = new_cpr();
    ledger.grant(&other).await.unwrap();
    let mut items = Vec::new();
    let mut expected = Vec::new();
    for (at, (request, _)) in refused_reports(&cpr).into_iter().enumerate() {
        let status = ledger.payments.report_payment(request.clone()).await.unwrap_err();
        let failure = Failure::from_status(&status).expect("an error of our model");
        items.push(request);
        expected.push(Some(Refusal::from(failure)));
        // A good one after each bad one.
        items.push(report(&other, &format!("good {at}"), 100));
        expected.push(None);
    }
    let before = stack.recorded().await.unwrap();
    let results = send(&ledger, items.clone()).await;
    let mut recorded = 0;
    for ((result, expected), item) in results.iter().zip(expected).zip(&items) {
        match (result, expected) {
            (Became::Refused(refusal), Some(expected)) => {
                assert_eq!(refusal, &expected, "{}", item.reference);
            }
            (Became::Recorded(answer), None) => {
                recorded += 1;
                assert!(!answer.replayed);
                assert_eq!(answer.payment.as_ref().unwrap().reference, item.reference);
                let total = answer.allowance.as_ref().unwrap().total_oere;
                assert_eq!(total, 100 * recorded, "decided one after the other");
                let position = answer.position.unwrap().position;
                assert_eq!(position, before.positions + recorded, "recorded in order");
            }
            (other, _) => panic!("{}: {other:?}", item.reference),
        }
    }
    let after = stack.recorded().await.unwrap();
    assert_eq!(after.events, before.events + recorded);

    // Once more: the good ones are replayed, the bad ones refused again.
    for (first, again) in results.into_iter().zip(send(&ledger, items).await) {
        match (first, again) {
            (Became::Recorded(mut first), Became::Recorded(again)) => {
                first.replayed = true;
                assert_eq!(first, again);
            }
            (first, again) => assert_eq!(first, again),
        }
    }
    assert_eq!(stack.recorded().await.unwrap(), after);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_sees_the_items_before_it() {
    let stack = Stack::start(4).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let persons: Vec<String> = (0..8).map(|_| new_cpr()).collect();
    for cpr in &persons {
        ledger.grant(cpr).await.unwrap();
    }
    // Everybody's limit is crossed by the second of three; the third repeats the first.
    let run = |reference: &'static str, oere: i64| {
        persons.iter().map(move |cpr| report(cpr, reference, oere))
    };
    let items: Vec<_> =
        run("a", 1_500_000).chain(run("b", 1_500_000)).chain(run("a", 1_500_000)).collect();
    for (at, became) in send(&ledger, items).await.into_iter().enumerate() {
        let Became::Recorded(answer) = became else { panic!("{at}: {became:?}") };
        let exempt = answer.payment.unwrap().exempt_oere;
        let alike = vec![i32::from(Warning::PossibleDuplicate)];
        let expected = match at / persons.len() {
            0 => (1_500_000, false, vec![]),
            1 => (500_000, false, alike),
            _ => (1_500_000, true, vec![]),
        };
        assert_eq!((exempt, answer.replayed, answer.warnings), expected, "item {at}");
    }
}
