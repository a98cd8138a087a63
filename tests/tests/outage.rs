//! The database goes away and comes back: callers are told at once, nothing is lost, and nobody
//! has to restart a service.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::{Duration, Instant};

use frikort::postgres::{Cluster, Options};
use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, GetAllowanceRequest},
};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, allowances, by_cpr, grant, new_cpr, report},
    database::Database,
    process::{Kind, Service},
};
use tonic::Status;

fn assert_told_to_retry(status: &Status, asked: Instant) {
    let failure = Failure::from_status(status).unwrap();
    assert_eq!(failure.reason, ErrorReason::StoreUnavailable, "{status:?}");
    assert!(failure.retry_delay().is_some());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "told after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_at_once_and_go_on_when_the_database_is_back() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let cluster_dir = dir.path().join("postgres");
    let database = Database::create_alone(cluster_dir.clone(), 1).await.unwrap();
    let ledger_service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(ledger_service.channel().await.unwrap());
    let mut allowances = allowances(projector.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let before = ledger.payments.report_payment(report(&cpr, "before", 100)).await.unwrap();
    let position = before.into_inner().position.unwrap().position;

    database.stop_cluster().await.unwrap();
    for attempt in 0..3 {
        let asked = Instant::now();
        let reported = ledger.payments.report_payment(report(&cpr, "during", 100)).await;
        assert_told_to_retry(&reported.unwrap_err(), asked);
        let asked = Instant::now();
        let granted = ledger.visitations.grant_card(grant(&new_cpr())).await;
        assert_told_to_retry(&granted.unwrap_err(), asked);
        let asked = Instant::now();
        let person = by_cpr(&new_cpr());
        let request = GetAllowanceRequest { person, year: 2022, ..GetAllowanceRequest::default() };
        assert_told_to_retry(&allowances.get_allowance(request).await.unwrap_err(), asked);
        assert!(!ledger_service.is_serving().await, "attempt {attempt}");
    }

    tokio::task::spawn_blocking(move || Cluster::start(&cluster_dir, &Options::default()))
        .await
        .unwrap()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let after = loop {
        match ledger.payments.report_payment(report(&cpr, "during", 100)).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) => {
                assert!(Instant::now() < deadline, "not back: {status:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    assert!(!after.replayed);
    assert_eq!(after.position.unwrap().position, position + 1);
    assert_eq!(assert_sound(&database.pool().await.unwrap()).await, position + 1);
    let request = GetAllowanceRequest {
        person: by_cpr(&cpr),
        year: 2022,
        min_position: position + 1,
        ..GetAllowanceRequest::default()
    };
    let answer = loop {
        match allowances.get_allowance(request.clone()).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) => assert!(Instant::now() < deadline, "not back: {status:?}"),
        }
    };
    assert_eq!(answer.allowance.unwrap().total_oere, 200);
}
