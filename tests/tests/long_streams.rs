//! A person with very many events is read outside the batches when the account is not in memory: other
//! callers do not wait, and what is decided about the person afterwards rests on all of the events.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, ReportPaymentRequest, ReportPaymentResponse, ReportPaymentsRequest,
        report_payments_response::Result as Became,
    },
};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, new_cpr, report},
    database::Database,
    process::{Kind, Service},
};
use tokio_stream::{StreamExt, iter};
use tonic::Status;

/// Payments of the person, whose reading takes many times as long as a call.
const MANY: usize = 20_000;

/// Persons besides.
const OTHERS: usize = 5;

/// Payments through each of two ledgers.
const EACH: usize = 100;

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

async fn start(database: &Database, dir: &std::path::Path) -> Service {
    let many = vec![("FRIKORT_PAYMENTS_PER_YEAR", "100000".to_owned())];
    Service::start_with(Kind::Ledger, database, dir, many).await.unwrap()
}

/// Reports payments of 1,00 kr. on a stream.
async fn report_many(ledger: &mut Ledger, cpr: &str) {
    let items: Vec<_> = (0..MANY)
        .map(|number| ReportPaymentsRequest {
            payment: Some(report(cpr, &format!("payment-{number}"), 100)),
            ..ReportPaymentsRequest::default()
        })
        .collect();
    let mut results = ledger.payments.report_payments(iter(items)).await.unwrap().into_inner();
    while let Some(result) = results.next().await {
        assert!(matches!(result.unwrap().result, Some(Became::Recorded(_))));
    }
}

/// Reports a payment until it is not refused as overload: the person is still being read then.
async fn report_patiently(
    ledger: &mut Ledger,
    request: ReportPaymentRequest,
) -> Result<ReportPaymentResponse, Status> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ledger.payments.report_payment(request.clone()).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => {
                let reason = Failure::from_status(&status).unwrap().reason;
                if reason != ErrorReason::Overloaded || Instant::now() > deadline {
                    return Err(status);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_person_with_very_many_events() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let database = Database::create(1).await.unwrap();
    let mut service = start(&database, dir.path()).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let long = new_cpr();
    let others: Vec<String> = (0..OTHERS).map(|_| new_cpr()).collect();
    for cpr in others.iter().chain([&long]) {
        ledger.grant(cpr).await.unwrap();
    }
    report_many(&mut ledger, &long).await;
    let before = assert_sound(&database.pool().await.unwrap()).await;
    assert!(service.stop().await.unwrap().success());

    let service = start(&database, dir.path()).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    let is_answered = Arc::new(AtomicBool::new(false));
    // A payment that is on record, a new one, and one more: in this order.
    let about_long = {
        let (mut ledger, cpr, is_answered) = (ledger.clone(), long.clone(), is_answered.clone());
        tokio::spawn(async move {
            let first = report(&cpr, "payment-7", 100);
            let replayed = report_patiently(&mut ledger, first).await;
            is_answered.store(true, Ordering::SeqCst);
            let recorded = report_patiently(&mut ledger, report(&cpr, "new", 100)).await;
            (replayed.unwrap(), recorded.unwrap())
        })
    };
    let deadline = Instant::now() + PATIENCE;
    while !service.logged().unwrap().contains("reading a long stream outside the batches") {
        assert!(Instant::now() < deadline, "the stream is not read outside the batches");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for cpr in &others {
        ledger.payments.report_payment(report(cpr, "other", 100)).await.unwrap();
    }
    assert!(!is_answered.load(Ordering::SeqCst), "the others have waited");
    let (replayed, recorded) = about_long.await.unwrap();
    assert!(replayed.replayed && !recorded.replayed);
    let total = recorded.allowance.unwrap().total_oere;
    assert_eq!(total, 100 * (i64::try_from(MANY).unwrap() + 1));
    let events = assert_sound(&database.pool().await.unwrap()).await;
    assert_eq!(events, before + i64::try_from(OTHERS).unwrap() + 1);
}

/// Several requests that wait for the same person are decided in the order in which they came, each on
/// what the one before has recorded.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_waited_are_decided_one_after_the_other() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let database = Database::create(1).await.unwrap();
    let mut service = start(&database, dir.path()).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    report_many(&mut ledger, &cpr).await;
    service.kill().unwrap();

    let service = start(&database, dir.path()).await;
    let ledger = Ledger::new(service.channel().await.unwrap());
    let reports = (0..20).map(|number| {
        let (mut ledger, cpr) = (ledger.clone(), cpr.clone());
        async move {
            let request = report(&cpr, &format!("waited-{}", number / 2), 100);
            report_patiently(&mut ledger, request).await.unwrap()
        }
    });
    let answers = futures::future::join_all(reports).await;
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 10);
    let total = answers.iter().map(|answer| answer.allowance.as_ref().unwrap().total_oere).max();
    assert_eq!(total, Some(100 * (i64::try_from(MANY).unwrap() + 10)));
    assert_sound(&database.pool().await.unwrap()).await;
}

/// Two ledgers that are busy move the head of each other's batches all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_not_read_again_because_another_ledger_was_quicker() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let database = Database::create(1).await.unwrap();
    let mut service = start(&database, dir.path()).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let (long, other) = (new_cpr(), new_cpr());
    ledger.grant(&long).await.unwrap();
    ledger.grant(&other).await.unwrap();
    report_many(&mut ledger, &long).await;
    assert!(service.stop().await.unwrap().success());

    let services = [start(&database, dir.path()).await, start(&database, dir.path()).await];
    let mut one = Ledger::new(services[0].channel().await.unwrap());
    let mut two = Ledger::new(services[1].channel().await.unwrap());
    report_patiently(&mut one, report(&long, "first", 100)).await.unwrap();
    let about_long = async {
        for number in 0..EACH {
            let request = report(&long, &format!("long-{number}"), 100);
            one.payments.report_payment(request).await.unwrap();
        }
    };
    let about_other = async {
        for number in 0..EACH {
            let request = report(&other, &format!("other-{number}"), 100);
            two.payments.report_payment(request).await.unwrap();
        }
    };
    tokio::join!(about_long, about_other);
    let log = services[0].logged().unwrap();
    assert_eq!(log.matches("reading a long stream outside the batches").count(), 1, "{log}");
    assert_sound(&database.pool().await.unwrap()).await;
}
