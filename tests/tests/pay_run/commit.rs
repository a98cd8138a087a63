//! A plan's token: it commits the run that was looked at, and no other.

use frikort_proto::v1::{ErrorReason, ReportPaymentRequest, ReportPaymentsRequest};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, new_cpr, report},
    process::{Kind, Service},
    stack::Stack,
};
use tokio_stream::{StreamExt, iter};
use tonic::Code;

use super::run::{commit, item, options, plan};

/// A run of so many lines a person, the last of which are above the limit.
async fn lines(ledger: &mut Ledger, persons: usize, each: i64) -> Vec<ReportPaymentRequest> {
    ledger.set_limit(2022, 20_000).await.unwrap();
    let mut cprs = Vec::new();
    for _ in 0..persons {
        cprs.push(new_cpr());
        ledger.grant(cprs.last().unwrap()).await.unwrap();
    }
    let oere = 3_000_000 / each;
    (0..each)
        .flat_map(|n| cprs.iter().map(move |cpr| report(cpr, &format!("n {n}"), oere)))
        .collect()
}

type Change = fn(&mut Vec<ReportPaymentRequest>);

#[tokio::test(flavor = "multi_thread")]
async fn a_token_refuses_every_other_run_and_records_nothing_of_it() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let lines = lines(&mut ledger, 3, 2).await;
    let token = plan(&ledger, &lines).await.totals().plan_token.clone();
    let before = stack.recorded().await.unwrap();
    let others: [(&str, Change); 7] = [
        ("an amount", |run| run[2].facts.as_mut().unwrap().amount_oere += 1),
        ("a reference", |run| run[2].reference.push('x')),
        ("an added line", |run| run.push(run[0].clone())),
        ("a missing line", |run| drop(run.pop())),
        ("a missing first line", |run| drop(run.remove(0))),
        ("another order", |run| run.swap(0, 3)),
        ("no lines", Vec::clear),
    ];
    for (what, change) in others {
        let mut run = lines.clone();
        change(&mut run);
        let refused = commit(&ledger, &token, &run).await;
        assert!(refused.lines.is_empty(), "{what}: {refused:?}");
        let failure = refused.failure();
        assert_eq!(failure.reason, ErrorReason::PlanMismatch, "{what}");
        assert_eq!(failure.metadata["lines"], run.len().to_string(), "{what}");
        assert_eq!(stack.recorded().await.unwrap(), before, "{what} was recorded");
    }
    assert_eq!(commit(&ledger, &token, &lines).await.totals().recorded, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_holds_after_a_restart_and_at_another_ledger() {
    let mut stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let lines = lines(&mut ledger, 2, 2).await;
    let token = plan(&ledger, &lines).await.totals().plan_token.clone();
    assert!(stack.ledger.stop().await.unwrap().success());
    // The same keys, another process.
    let other = Service::start(Kind::Ledger, &stack.database, stack.dir.path()).await.unwrap();
    let ledger = Ledger::new(other.channel().await.unwrap());
    let committed = commit(&ledger, &token, &lines).await;
    assert_eq!(committed.totals().recorded, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_cut_off_is_finished_by_repeating_it() {
    const LINES: i64 = 24_000;
    let mut stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let lines = lines(&mut ledger, 100, LINES / 100).await;
    let planned = plan(&ledger, &lines).await;
    let token = planned.totals().plan_token.clone();
    let before = stack.recorded().await.unwrap().events;

    // Killed after the first result: some of it is recorded, and the stream breaks. All of it
    // cannot be, since nobody takes the results.
    let messages: Vec<ReportPaymentsRequest> =
        std::iter::once(options(false, &token)).chain(lines.iter().cloned().map(item)).collect();
    let mut payments = ledger.payments.clone();
    let mut results = payments.report_payments(iter(messages)).await.unwrap().into_inner();
    results.next().await.unwrap().unwrap();
    stack.ledger.kill().unwrap();
    let cut = async { while results.next().await.is_some_and(|result| result.is_ok()) {} };
    cut.await;
    let recorded = stack.recorded().await.unwrap().events - before;
    assert!((1..LINES).contains(&recorded), "{recorded} of {LINES} were recorded at the kill");

    let other = Service::start(Kind::Ledger, &stack.database, stack.dir.path()).await.unwrap();
    let ledger = Ledger::new(other.channel().await.unwrap());
    let again = commit(&ledger, &token, &lines).await;
    let totals = again.totals();
    assert_eq!((totals.already_there, totals.recorded), (recorded, LINES - recorded));
    assert_eq!(again.splits(), planned.splits());
    let (told, expected) = (totals, planned.totals());
    assert_eq!(
        (told.sum_oere, told.exempt_oere, told.taxable_oere),
        (expected.sum_oere, expected.exempt_oere, expected.taxable_oere)
    );
    let pool = stack.database.pool().await.unwrap();
    assert_eq!(assert_sound(&pool).await, before + LINES);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mismatch_is_a_failed_precondition() {
    let stack = Stack::start(1).await.unwrap();
    let ledger = stack.ledger().await.unwrap();
    let token = format!("1-{}", "0".repeat(64));
    let mut payments = ledger.payments.clone();
    let mut results =
        payments.report_payments(iter([options(false, &token)])).await.unwrap().into_inner();
    let status = results.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("plan the run again"), "{status:?}");
}
