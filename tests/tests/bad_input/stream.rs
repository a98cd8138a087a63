//! ReportPayments: every bad report again, as items of one stream.

use frikort_proto::{
    error::Failure,
    v1::{
        ReportPaymentsRequest, ReportPaymentsResponse, report_payments_response::Result as Became,
    },
};
use frikort_tests::client::report;
use tokio_stream::{StreamExt, iter};
use tonic::{Code, Status};

use super::{
    case::{Case, Ground, case, digits_in, judge_item},
    payments::reports,
};

type Item = ReportPaymentsRequest;

async fn send(ground: &Ground, items: Vec<Item>) -> Vec<Result<ReportPaymentsResponse, Status>> {
    let mut payments = ground.ledger.payments.clone();
    payments.report_payments(iter(items)).await.unwrap().into_inner().collect().await
}

/// Every bad report but those that end the stream, and an item without one.
fn bad_items() -> Vec<Case<Item>> {
    let bad = reports().into_iter().filter(|case| case.fields != ["(message)"]);
    let mut cases =
        super::fields::lift(|item: &mut Item| item.payment.get_or_insert_default(), bad.collect());
    cases.push(case("no payment", &["payment"], |item: &mut Item| item.payment = None));
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_items_are_refused_by_field_and_harm_no_other() {
    let ground = Ground::new().await;
    let cases = bad_items();
    let sound = |reference: &str| Item {
        payment: Some(report(&ground.cpr, reference, 50_000)),
        ..Default::default()
    };
    let mut items = vec![sound("first")];
    for case in &cases {
        let mut item = sound("bad");
        (case.change)(&mut item);
        items.push(item);
    }
    items.push(sound("last"));
    let before = ground.stack.recorded().await.unwrap();
    let results = send(&ground, items.clone()).await;
    assert_eq!(results.len(), items.len(), "one result an item");

    let mut wrong = Vec::new();
    for ((index, result), item) in (0..).zip(results).zip(&items) {
        let result = result.unwrap();
        assert_eq!(result.index, index);
        let case = usize::try_from(index - 1).ok().and_then(|at| cases.get(at));
        let verdict = match (case, result.result.unwrap()) {
            (Some(case), Became::Refused(refusal)) => {
                judge_item(&refusal, &case.fields, &digits_in(&format!("{item:?}")))
            }
            (None, Became::Recorded(_)) => Ok(()),
            (_, other) => Err(format!("became {other:?}")),
        };
        let what = case.map_or("a sound one", |case| case.what.as_str());
        wrong.extend(verdict.err().map(|why| format!("{what}: {why}")));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let after = ground.stack.recorded().await.unwrap();
    assert_eq!((after.events, after.persons), (before.events + 2, before.persons));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_above_the_message_limit_ends_the_stream_and_what_went_before_stands() {
    let ground = Ground::new().await;
    let sound = report(&ground.cpr, "before", 50_000);
    let mut too_large = report(&ground.cpr, "too large", 50_000);
    too_large.production_unit = "1".repeat(1024 * 1024);
    let after = report(&ground.cpr, "after", 50_000);
    let items = [sound, too_large, after]
        .map(|payment| Item { payment: Some(payment), ..Default::default() });
    let before = ground.stack.recorded().await.unwrap();
    let results = send(&ground, items.to_vec()).await;

    assert_eq!(results.len(), 2, "{results:?}");
    let first = results[0].as_ref().unwrap();
    assert!(matches!(first.result, Some(Became::Recorded(_))), "{first:?}");
    let status = results[1].as_ref().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let failure = Failure::from_status(status).expect("an error of our model");
    assert_eq!(failure.reason_name(), "INVALID_FIELD");
    assert_eq!(failure.fields[0].0, "(message)");
    let recorded = ground.stack.recorded().await.unwrap();
    assert_eq!(recorded.events, before.events + 1, "the first item and nothing else");
}
