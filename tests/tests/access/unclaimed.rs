//! Streams of payments whose client takes no results: the server holds a bounded number of them, and
//! serves other streams meanwhile.

use std::time::Duration;

use frikort_proto::v1::{
    ReportPaymentRequest, ReportPaymentsRequest, ReportPaymentsResponse,
    report_payments_response::Result as Became,
};
use frikort_tests::client::{Ledger, cpr, grant, report};
use futures::{StreamExt, future::join_all, stream};
use tokio::time::{Instant, sleep};
use tonic::{
    Streaming,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::Secured;

/// Results that the server may hold for one caller, and in addition for each of its streams.
const RESULTS_PER_CALLER: usize = 16_384;
const RESULTS_PER_STREAM: usize = 16;

/// Results of one stream that may be in the server's transport, which encodes 32 KiB together. No
/// result is smaller than 100 bytes.
const RESULTS_ON_THEIR_WAY: usize = 32 * 1024 / 100;

const STREAMS: usize = 40;
const LINES: usize = 1500;
const PERSONS: usize = 100;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(600);

fn line(run: &str, number: usize) -> ReportPaymentRequest {
    report(&cpr(u32::try_from(number % PERSONS).unwrap()), &format!("{run} {number}"), 1)
}

async fn open(
    ledger: &Ledger,
    cvr: &'static str,
    run: String,
    lines: usize,
) -> Streaming<ReportPaymentsResponse> {
    let lines = stream::iter(0..lines).map(move |number| {
        let payment = ReportPaymentRequest { employer_cvr: cvr.to_owned(), ..line(&run, number) };
        ReportPaymentsRequest { payment: Some(payment), ..ReportPaymentsRequest::default() }
    });
    ledger.payments.clone().report_payments(lines).await.unwrap().into_inner()
}

/// Takes all results: one a line, in order, each recorded.
async fn take_all(mut results: Streaming<ReportPaymentsResponse>, run: &str, lines: usize) {
    let mut next = 0;
    while let Some(result) = results.message().await.unwrap() {
        assert_eq!(usize::try_from(result.index).unwrap(), next, "out of order");
        let Some(Became::Recorded(answer)) = result.result else { panic!("{result:?}") };
        assert_eq!(answer.payment.unwrap().reference, format!("{run} {next}"));
        assert!(!answer.replayed);
        next += 1;
    }
    assert_eq!(next, lines, "one result a line");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_whose_results_nobody_takes_hold_no_more_than_their_callers_budget() {
    let secured = Secured::start().await;
    secured.as_caller("operator").await.set_limit(2022, 20_000).await.unwrap();
    let municipality = secured.as_caller("municipality").await;
    let granted = stream::iter(0..PERSONS).map(|number| {
        let mut visitations = municipality.visitations.clone();
        async move { visitations.grant_card(grant(&cpr(u32::try_from(number).unwrap()))).await }
    });
    granted.buffer_unordered(16).for_each(async |granted| drop(granted.unwrap())).await;
    let before = secured.events().await;
    let recorded = async || usize::try_from(secured.events().await - before).unwrap();

    // A client that takes no results, and has next to no room for any.
    let shown = secured.authority.sign("employer.test").unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(secured.authority.pem()))
        .identity(Identity::from_pem(&shown.certificate, &shown.key));
    let endpoint = Endpoint::from_shared(format!("https://{}", secured.ledger.address())).unwrap();
    let endpoint = endpoint.tls_config(tls).unwrap().initial_stream_window_size(1024);
    let stalled = Ledger::new(endpoint.connect().await.unwrap());
    let employer = "13748136";
    let opened =
        (0..STREAMS).map(|number| open(&stalled, employer, format!("stalled {number}"), LINES));
    let mut unread = join_all(opened).await;
    let deadline = Instant::now() + LONG;
    // Less than a chunk of the budget may be left.
    while recorded().await < RESULTS_PER_CALLER - 256 {
        assert!(Instant::now() < deadline, "only {} lines are recorded", recorded().await);
        sleep(Duration::from_millis(20)).await;
    }

    // Another caller is served, and the same one on a stream whose results are taken.
    let (rival, reader) = (secured.as_caller("rival").await, secured.as_caller("employer").await);
    let mut others = 0;
    let read = open(&reader, employer, "read".to_owned(), LINES).await;
    take_all(read, "read", LINES).await;
    others += LINES;
    let (mut held, mut unchanged) = (0, 0);
    for round in 0.. {
        let run = format!("rival {round}");
        take_all(open(&rival, "25048482", run.clone(), 300).await, &run, 300).await;
        others += 300;
        let now = recorded().await - others;
        unchanged = if now == held { unchanged + 1 } else { 0 };
        held = now;
        if unchanged == 3 {
            break;
        }
        assert!(Instant::now() < deadline, "the stalled streams go on: {held} lines");
    }
    let most = RESULTS_PER_CALLER + STREAMS * (RESULTS_PER_STREAM + RESULTS_ON_THEIR_WAY);
    assert!(held <= most, "{held} results are held, and at most {most} may be");

    // A client that takes its results after all finds each of them.
    let first = unread.swap_remove(0);
    take_all(first, "stalled 0", LINES).await;
}
