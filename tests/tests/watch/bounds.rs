//! What bounds watching: memory where callers read nothing, places, and a stop that tells everybody.
//! What is watched is in `changes.rs`.

use std::{fs, time::Duration};

use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, GetAllowanceRequest, ReportPaymentsRequest, WatchAllowancesRequest,
        watch_allowances_response::Item,
    },
};
use frikort_tests::{
    client::{Ledger, allowances, by_cpr, new_cpr, report},
    process::signal,
    stack::Stack,
};
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

use crate::{PATIENCE, may_repeat, until_mark};

/// Memory of a process that is its own, in KiB.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Records many payments, fast; the last position.
async fn record_many(ledger: &mut Ledger, cprs: &[String], count: usize) -> i64 {
    let request = |number: usize| {
        let cpr = &cprs[number % cprs.len()];
        let payment = Some(report(cpr, &format!("p-{number}"), 100));
        ReportPaymentsRequest { payment, ..ReportPaymentsRequest::default() }
    };
    let requests: Vec<_> = (0..count).map(request).collect();
    let results = ledger.payments.report_payments(stream::iter(requests)).await.unwrap();
    let mut results = results.into_inner();
    let mut told = 0;
    while let Some(result) = results.next().await {
        assert!(result.is_ok());
        told += 1;
    }
    assert_eq!(told, count);
    1 + i64::try_from(cprs.len() + count).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_read_nothing_cost_a_page_each_and_lose_nothing() {
    const PAYMENTS: usize = 30_000;
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let mut cprs = Vec::new();
    for _ in 0..100 {
        cprs.push(new_cpr());
        ledger.grant(&cprs[cprs.len() - 1]).await.unwrap();
    }
    let last = record_many(&mut ledger, &cprs, PAYMENTS).await;
    let mut client = stack.allowances().await.unwrap();
    let question = GetAllowanceRequest {
        person: by_cpr(&cprs[0]),
        year: 2022,
        min_position: last,
        as_of: None,
    };
    client.get_allowance(question.clone()).await.unwrap();

    // Together they would hold 20 × 30.000 changes, of some hundred bytes each.
    let before = memory(stack.projector.id());
    let mut slow = Vec::new();
    for _ in 0..20 {
        let request = WatchAllowancesRequest::default();
        let mut client = allowances(stack.projector.channel().await.unwrap());
        let mut items = client.watch_allowances(request).await.unwrap().into_inner();
        let first = timeout(PATIENCE, items.message()).await.unwrap().unwrap().unwrap();
        assert!(matches!(first.item, Some(Item::Limit(_))));
        slow.push(items);
    }
    // All take turns at reading: when one that came last has all, each of the others could have.
    let quick = client.watch_allowances(WatchAllowancesRequest::default()).await;
    let (all, mark) = until_mark(&mut quick.unwrap().into_inner()).await;
    assert_eq!((all.len(), mark.position), (1 + PAYMENTS, last));
    let grown = memory(stack.projector.id()).saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB for 20 callers that read nothing");
    // Nor are questions kept waiting.
    let asked = Instant::now();
    client.get_allowance(question).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    let (all, mark) = until_mark(&mut slow[0]).await;
    assert_eq!((all.len(), mark.position), (PAYMENTS, last));
    let positions = all.iter().map(|(_, position, _)| *position);
    assert!(positions.eq(102..=last));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_watchers_and_there_is_a_place_for_so_many_and_no_more() {
    let mut stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let mut client = stack.allowances().await.unwrap();
    let mut watching = Vec::new();
    let refused = loop {
        match client.watch_allowances(WatchAllowancesRequest::default()).await {
            Ok(items) => watching.push(items.into_inner()),
            Err(status) => break status,
        }
        assert!(watching.len() <= 256);
    };
    assert_eq!(watching.len(), 256);
    assert_eq!(Failure::from_status(&refused).unwrap().reason, ErrorReason::Overloaded);
    // A place that is given up is free again.
    watching.truncate(250);
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = client.watch_allowances(WatchAllowancesRequest::default()).await {
        assert!(may_repeat(&status) && Instant::now() < deadline);
        sleep(Duration::from_millis(10)).await;
    }
    signal(stack.projector.id(), "TERM").unwrap();
    for items in &mut watching {
        let status = loop {
            match timeout(PATIENCE, items.message()).await.unwrap() {
                Ok(message) => assert!(message.is_some(), "it ended without a word"),
                Err(status) => break status,
            }
        };
        let failure = Failure::from_status(&status);
        assert_eq!(failure.map(|f| f.reason), Some(ErrorReason::ShuttingDown), "{status:?}");
    }
    drop(watching);
    assert!(stack.projector.wait().await.unwrap().success());
}
