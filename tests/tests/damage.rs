//! A head that says more than the table holds: the ledger stops loudly, and never goes on from a
//! position that nobody can show.

use std::time::Duration;

use frikort_proto::{error::Failure, v1::ErrorReason};
use frikort_tests::{
    audit::events,
    client::{Ledger, new_cpr, report},
    database::Database,
    process::{Kind, Service},
};
use tonic::Request;

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_its_event_stops_the_partition_and_nothing_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();

    let pool = database.pool().await.unwrap();
    let move_head = "UPDATE ledger.partition_head SET position = position + 5";
    sqlx::query(move_head).execute(&pool).await.unwrap();
    let before = events(&pool).await;
    for attempt in 0..3 {
        let mut request = Request::new(report(&cpr, "after", 100));
        request.set_timeout(Duration::from_secs(20));
        let status = ledger.payments.report_payment(request).await.unwrap_err();
        let reason = Failure::from_status(&status).map(|failure| failure.reason);
        assert_eq!(reason, Some(ErrorReason::Internal), "attempt {attempt}: {status:?}");
        assert!(!service.is_serving().await, "attempt {attempt}");
    }
    assert_eq!(events(&pool).await, before);
    assert!(service.logged().unwrap().contains("the partition stops"));
}
