//! Stopping: SIGTERM under load answers everybody who was accepted, and ends with 0; what is aborted
//! leaves no memory behind.

use std::{fs, os::unix::process::ExitStatusExt};

use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, ReportPaymentsRequest},
};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, new_cpr, report},
    database::Database,
    process::{Kind, Service, signal},
};
use futures::{StreamExt, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_answers_what_was_accepted_and_ends_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let mut service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();

    // 32 callers, each reporting one payment after the other until it is refused.
    let callers = (0..32).map(|caller| {
        let (mut payments, cpr) = (ledger.payments.clone(), cpr.clone());
        tokio::spawn(async move {
            let mut recorded = 0_i64;
            loop {
                let request = report(&cpr, &format!("{caller}-{recorded}"), 100);
                match payments.report_payment(request).await {
                    Ok(_) => recorded += 1,
                    Err(status) => return (recorded, status),
                }
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let pool = database.pool().await.unwrap();
    while frikort_tests::audit::events(&pool).await < 200 {
        tokio::task::yield_now().await;
    }
    signal(service.id(), "TERM").unwrap();
    let mut acknowledged = 0;
    for caller in callers {
        let (recorded, status) = caller.await.unwrap();
        acknowledged += recorded;
        // A connection that is closed, or our own word: nothing else.
        let reason = Failure::from_status(&status).map(|failure| failure.reason);
        assert!(
            matches!(reason, None | Some(ErrorReason::ShuttingDown)),
            "an accepted call was not answered: {status:?}"
        );
    }
    assert!(service.wait().await.unwrap().success());
    // The limit, the grant, and exactly what was acknowledged.
    assert_eq!(assert_sound(&pool).await, 2 + acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_open_at_the_stop_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let mut service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let item =
        ReportPaymentsRequest { payment: Some(report(&cpr, "one", 100)), ..Default::default() };
    let open = stream::iter([item]).chain(stream::pending());
    let mut results = ledger.payments.report_payments(open).await.unwrap().into_inner();
    assert_eq!(results.next().await.unwrap().unwrap().index, 0);
    signal(service.id(), "TERM").unwrap();
    let status = results.next().await.unwrap().unwrap_err();
    assert_eq!(Failure::from_status(&status).unwrap().reason, ErrorReason::ShuttingDown);
    assert!(service.wait().await.unwrap().success());
}

/// Keys lie in a service's memory, so it leaves none, whatever it was started with.
#[tokio::test]
async fn an_aborted_service_leaves_no_core_dump() {
    let dir = tempfile::tempdir().unwrap();
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).unwrap();
    let database = Database::create(1).await.unwrap();
    for kind in [Kind::Ledger, Kind::Projector] {
        let mut service = Service::start(kind, &database, dir.path()).await.unwrap();
        let limits = fs::read_to_string(format!("/proc/{}/limits", service.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
        signal(service.id(), "ABRT").unwrap();
        let ended = service.wait().await.unwrap();
        assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false), "{kind:?}");
    }
}
