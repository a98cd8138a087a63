//! More than the queues hold: whoever has no room is told so at once, and nothing is lost.

use std::{iter::successors, time::Duration};

use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, GetAllowanceRequest, ReportPaymentRequest},
};
use frikort_tests::{
    audit::{assert_sound, events},
    client::{Ledger, allowances, by_cpr, new_cpr, report},
    database::Database,
    process::{Kind, Service},
    stack::Stack,
};
use tokio::{task::JoinSet, time::timeout};
use tonic::Status;

/// Above what waits in a partition's queue (8.192) and its batch (512).
const CALLS: usize = 9_600;

/// A connection carries 4.096 calls.
const CONNECTIONS: usize = 3;

const PERSONS: usize = 60;

/// What the service says itself, and when to repeat.
fn told(status: &Status) -> Failure {
    let failure = Failure::from_status(status);
    let failure = failure.unwrap_or_else(|| panic!("not the service's word: {status:?}"));
    assert!(failure.retry_delay().is_some(), "{status:?}");
    failure
}

/// Reports at once; gives back what was not recorded, and how many were refused as overloaded.
async fn report_all(
    ledgers: &[Ledger],
    reports: Vec<ReportPaymentRequest>,
) -> (Vec<ReportPaymentRequest>, usize) {
    let mut calls = JoinSet::new();
    for (report, ledger) in reports.into_iter().zip(ledgers.iter().cycle()) {
        let mut payments = ledger.payments.clone();
        calls.spawn(async move { (payments.report_payment(report.clone()).await, report) });
    }
    let (mut again, mut overloaded) = (Vec::new(), 0);
    for (answer, report) in calls.join_all().await {
        let Err(status) = answer else { continue };
        let failure = told(&status);
        match failure.reason {
            ErrorReason::Overloaded => overloaded += 1,
            // Those whose batch the lock held up for too long.
            ErrorReason::StoreUnavailable => {}
            _ => panic!("{status:?}"),
        }
        again.push(report);
    }
    (again, overloaded)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let database = Database::create(1).await.unwrap();
    let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledgers = Vec::new();
    for _ in 0..CONNECTIONS {
        ledgers.push(Ledger::new(service.channel().await.unwrap()));
    }
    ledgers[0].set_limit(2022, 20_000).await.unwrap();
    let mut cprs = Vec::new();
    for _ in 0..PERSONS {
        cprs.push(new_cpr());
        ledgers[0].grant(cprs.last().unwrap()).await.unwrap();
    }
    let pool = database.pool().await.unwrap();
    let before = events(&pool).await;
    let reports: Vec<_> = (0..CALLS)
        .map(|number| report(&cprs[number % PERSONS], &format!("payment {number}"), 100))
        .collect();

    // Nobody can append while this lock is held.
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM ledger.partition_head FOR UPDATE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let held = tokio::spawn({
        let (ledgers, reports) = (ledgers.clone(), reports.clone());
        async move { report_all(&ledgers, reports).await }
    });
    // One who comes now finds the queue full, and is told so while the lock is still held.
    let refused_at_once = async {
        let mut ledger = Ledger::new(service.channel().await.unwrap());
        // Longer each time: who gives up calls by the hundred before the service has looked at them
        // loses the connection.
        let waits = successors(Some(Duration::from_millis(20)), |wait| Some(*wait * 2));
        for wait in waits {
            let late = report(&cprs[0], "payment 0", 100);
            let mut call = std::pin::pin!(ledger.payments.report_payment(late));
            // With room left it waits, and gives up its place when it goes.
            if let Ok(answer) = timeout(wait, &mut call).await {
                let failure = told(&answer.unwrap_err());
                if failure.reason == ErrorReason::Overloaded {
                    return;
                }
            }
        }
    };
    let patience = Duration::from_secs(20);
    timeout(patience, refused_at_once).await.expect("nobody was refused");
    lock.rollback().await.unwrap();

    let (mut again, overloaded) = held.await.unwrap();
    assert!(overloaded > 0, "{CALLS} calls found room");
    while !again.is_empty() {
        (again, _) = report_all(&ledgers, again).await;
    }
    assert_eq!(assert_sound(&pool).await, before + i64::try_from(CALLS).unwrap());
}

/// The projector's connections to the database.
const DATABASE_CONNECTIONS: usize = 16;

/// Above these.
const QUESTIONS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn more_cold_questions_than_connections_are_a_crowd_and_no_outage() {
    let mut stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cprs: Vec<String> = (0..QUESTIONS).map(|_| new_cpr()).collect();
    for cpr in &cprs {
        ledger.grant(cpr).await.unwrap();
    }
    // One that has just been started has nobody in memory.
    stack.projector.kill_and_restart().unwrap();
    stack.projector.wait_until_ready().await.unwrap();

    let pool = stack.database.pool().await.unwrap();
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE projection.annual_total").execute(&mut *lock).await.unwrap();
    let mut calls = JoinSet::new();
    for cpr in &cprs {
        let mut client = allowances(stack.projector.channel().await.unwrap());
        let person = by_cpr(cpr);
        let question = GetAllowanceRequest { person, year: 2022, ..Default::default() };
        calls.spawn(async move { client.get_allowance(question).await });
    }
    // Those that have a connection wait for the lock; the others are told meanwhile.
    let mut refusals = Vec::new();
    while refusals.len() < QUESTIONS - DATABASE_CONNECTIONS {
        refusals.push(calls.join_next().await.unwrap().unwrap().unwrap_err());
    }
    lock.rollback().await.unwrap();
    assert!(refusals.iter().all(|status| told(status).reason == ErrorReason::Overloaded));
    let answers = calls.join_all().await;
    assert!(answers.iter().any(Result::is_ok), "nobody had a connection");
}
