//! Places of which there are few: one caller has its share of them, and another finds its own.

use std::time::Duration;

use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, ReportPaymentsRequest, ReportPaymentsResponse, RunOptions,
        WatchAllowancesRequest, WatchAllowancesResponse,
    },
};
use frikort_tests::client::{Ledger, allowances, by_cpr, new_cpr, report};
use futures::StreamExt;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::{CALLERS, Secured, purpose};

/// How long a place may take to be given back.
const GIVEN_BACK: Duration = Duration::from_secs(10);

fn overloaded(status: &Status) -> Failure {
    let failure = Failure::from_status(status).unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(failure.reason, ErrorReason::Overloaded, "{status:?}");
    assert!(failure.retry_delay().is_some());
    failure
}

/// A run that is being planned: it has its place, and keeps it until it is dropped.
struct Planned {
    _lines: mpsc::UnboundedSender<ReportPaymentsRequest>,
    _results: Streaming<ReportPaymentsResponse>,
}

async fn plan(ledger: &Ledger, cpr: &str) -> Result<Planned, Status> {
    let (lines, sent) = mpsc::unbounded_channel();
    let run = Some(RunOptions { validate_only: true, plan_token: String::new() });
    lines.send(ReportPaymentsRequest { run, ..ReportPaymentsRequest::default() }).unwrap();
    let payment = Some(report(cpr, "one", 1));
    lines.send(ReportPaymentsRequest { payment, ..ReportPaymentsRequest::default() }).unwrap();
    let mut payments = ledger.payments.clone();
    let results = payments.report_payments(UnboundedReceiverStream::new(sent)).await?;
    let mut results = results.into_inner();
    results.next().await.expect("an answer to the line, or a refusal")?;
    Ok(Planned { _lines: lines, _results: results })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_plans_half_of_the_runs_and_another_the_rest() {
    let secured = Secured::start().await;
    let (employer, rival) = (secured.as_caller("employer").await, secured.as_caller("rival").await);
    // Whoever it is about: a plan of a line that is refused is a plan.
    let cpr = new_cpr();
    let first = plan(&employer, &cpr).await.unwrap();
    let _second = plan(&employer, &cpr).await.unwrap();
    let Err(refused) = plan(&employer, &cpr).await else { panic!("it has three") };
    assert!(overloaded(&refused).message.contains("2 of the 4 places"), "{refused:?}");
    // By name, and not by connection.
    let again = secured.as_caller("employer").await;
    assert!(plan(&again, &cpr).await.is_err());
    let _others = [plan(&rival, &cpr).await.unwrap(), plan(&rival, &cpr).await.unwrap()];
    assert!(overloaded(&plan(&rival, &cpr).await.err().unwrap()).message.contains("all 4 places"));
    let deadline = Instant::now() + GIVEN_BACK;
    drop(first);
    let _next = loop {
        match plan(&employer, &cpr).await {
            Ok(planned) => break planned,
            Err(status) => drop(overloaded(&status)),
        }
        assert!(Instant::now() < deadline, "no place is given back");
    };
}

async fn watch(channel: &Channel, cpr: &str) -> Result<Streaming<WatchAllowancesResponse>, Status> {
    let persons = by_cpr(cpr).into_iter().collect();
    let request = WatchAllowancesRequest { persons, ..WatchAllowancesRequest::default() };
    let request = purpose(Request::new(request), "X");
    Ok(allowances(channel.clone()).watch_allowances(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_is_for_the_operator_to_set() {
    let settings = vec![("FRIKORT_MAX_SHARE_OF_PLACES", "1".to_owned())];
    let secured = Secured::start_with(CALLERS, |_| settings).await;
    let connect = async |name: &str| {
        let shown = secured.authority.sign(&format!("{name}.test")).unwrap();
        secured.connect(&secured.projector, Some(&shown)).await.unwrap()
    };
    let (tax, benefit, cpr) = (connect("tax").await, connect("benefit").await, new_cpr());
    // One of a hundred of 256.
    let mut watched = vec![watch(&tax, &cpr).await.unwrap(), watch(&tax, &cpr).await.unwrap()];
    let Err(refused) = watch(&tax, &cpr).await else { panic!("it has three") };
    assert!(overloaded(&refused).message.contains("2 of the 256 places"), "{refused:?}");
    watch(&benefit, &cpr).await.unwrap();
    watched.pop();
    let deadline = Instant::now() + GIVEN_BACK;
    while let Err(status) = watch(&tax, &cpr).await {
        overloaded(&status);
        assert!(Instant::now() < deadline, "no place is given back");
    }
}
