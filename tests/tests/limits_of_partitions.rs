//! Every partition has the limits of the others: one that was added, and one that a limit did not
//! reach because the call was cut off.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{process::Command, time::Duration};

use frikort_proto::{
    error::Failure,
    v1::{AnnualLimit, ErrorReason, ListAnnualLimitsRequest},
};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, new_cpr, report},
    database::Database,
    process::{Kind, Service, program},
};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long a condition may take to come about.
const PATIENCE: Duration = Duration::from_secs(30);

struct Setting {
    database: Database,
    pool: PgPool,
    service: Service,
    dir: TempDir,
}

async fn setting(partitions: i32) -> Setting {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(partitions).await.unwrap();
    let pool = database.pool().await.unwrap();
    let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    Setting { database, pool, service, dir }
}

/// The limits of a partition in the order in which they were recorded: year and øre, and who did.
async fn recorded(pool: &PgPool, partition: i32) -> Vec<(String, String, String)> {
    let query = "SELECT record::json #>> '{data,year}', record::json #>> '{data,limit}',
                        record::json #>> '{actor,organisation}'
                 FROM ledger.event
                 WHERE partition = $1 AND person_id = '00000000-0000-0000-0000-000000000000'
                 ORDER BY version";
    sqlx::query_as(query).bind(partition).fetch_all(pool).await.unwrap()
}

async fn limits_of(pool: &PgPool, partition: i32) -> Vec<(String, String)> {
    let limits = recorded(pool, partition).await;
    limits.into_iter().map(|(year, limit, _)| (year, limit)).collect()
}

/// Pays somebody new in a partition, and fails where that is refused.
async fn pay_somebody_in(ledger: &mut Ledger, partition: i32) {
    for _ in 0..100 {
        let cpr = new_cpr();
        ledger.grant(&cpr).await.unwrap();
        let answer = ledger.payments.report_payment(report(&cpr, "pay", 100)).await.unwrap();
        if answer.into_inner().position.unwrap().partition == partition {
            return;
        }
    }
    panic!("nobody is in partition {partition}");
}

async fn listed(ledger: &mut Ledger) -> Result<Vec<AnnualLimit>, tonic::Status> {
    let answer = ledger.policies.list_annual_limits(ListAnnualLimitsRequest {}).await?;
    Ok(answer.into_inner().limits)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_begins_with_the_limits_of_the_others() {
    let Setting { database, pool, mut service, dir } = setting(1).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    // One that was corrected too.
    for (year, kroner) in [(2022, 10_000), (2023, 30_000), (2022, 20_000)] {
        ledger.set_limit(year, kroner).await.unwrap();
    }
    assert!(service.stop().await.unwrap().success());
    let migrated = Command::new(program("ledger").unwrap())
        .args(["migrate", "--partitions", "3"])
        .env("DATABASE_URL", database.url("frikort_migrator"))
        .status()
        .unwrap();
    assert!(migrated.success());

    let again = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(again.channel().await.unwrap());
    for partition in 0..3 {
        pay_somebody_in(&mut ledger, partition).await;
    }
    let expected = limits_of(&pool, 0).await;
    assert_eq!(expected.len(), 3);
    for partition in 1..3 {
        assert_eq!(limits_of(&pool, partition).await, expected, "partition {partition}");
        let by: Vec<String> =
            recorded(&pool, partition).await.into_iter().map(|(_, _, by)| by).collect();
        assert_eq!(by, ["ledger"; 3], "partition {partition}");
    }
    assert_eq!(listed(&mut ledger).await.unwrap().len(), 2);
    assert_sound(&pool).await;
}

/// Holds the head of a partition, so that nothing is recorded there.
async fn hold(pool: &PgPool, partition: i32) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut holder = pool.begin().await.unwrap();
    let lock = "SELECT position FROM ledger.partition_head WHERE partition = $1 FOR UPDATE";
    sqlx::query(lock).bind(partition).execute(&mut *holder).await.unwrap();
    holder
}

/// Waits until a partition has so many limits.
async fn until_recorded(pool: &PgPool, partition: i32, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while limits_of(pool, partition).await.len() < count {
        assert!(Instant::now() < deadline, "partition {partition} has not {count} limits");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_whose_recording_was_killed_between_two_partitions_is_completed_at_the_start() {
    let Setting { database, pool, mut service, dir } = setting(3).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 10_000).await.unwrap();
    let holder = hold(&pool, 1).await;
    let mut other = ledger.clone();
    let cut_off = tokio::spawn(async move { other.set_limit(2022, 20_000).await });
    until_recorded(&pool, 0, 2).await;
    service.kill().unwrap();
    cut_off.await.unwrap().unwrap_err();
    // What the killed process has left in the server would still be done.
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name LIKE 'frikort-%'";
    sqlx::query(end).execute(&pool).await.unwrap();
    holder.rollback().await.unwrap();
    assert_eq!((limits_of(&pool, 1).await.len(), limits_of(&pool, 2).await.len()), (1, 1));

    let again = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(again.channel().await.unwrap());
    let expected = limits_of(&pool, 0).await;
    for partition in 1..3 {
        pay_somebody_in(&mut ledger, partition).await;
        assert_eq!(limits_of(&pool, partition).await, expected, "partition {partition}");
    }
    let limits: Vec<i64> =
        listed(&mut ledger).await.unwrap().iter().map(|limit| limit.limit_oere).collect();
    assert_eq!(limits, [2_000_000]);
    // The same call again has nothing to record.
    ledger.set_limit(2022, 20_000).await.unwrap();
    assert_eq!(limits_of(&pool, 2).await, expected);
    assert_sound(&pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_a_partition_could_not_take_is_completed_without_a_restart() {
    let Setting { pool, service, database: _database, dir: _dir } = setting(2).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    let holder = hold(&pool, 1).await;
    let failed = ledger.set_limit(2022, 20_000).await.unwrap_err();
    let reason = Failure::from_status(&failed).unwrap().reason;
    assert_eq!(reason, ErrorReason::StoreUnavailable, "{failed:?}");
    assert_eq!((limits_of(&pool, 0).await.len(), limits_of(&pool, 1).await.len()), (1, 0));
    // Nobody is told that it is the limit, and nobody new is where it is missing.
    listed(&mut ledger).await.unwrap_err();
    assert!(!service.is_serving().await);
    pay_somebody_in(&mut ledger, 0).await;
    for _ in 0..30 {
        let cpr = new_cpr();
        ledger.grant(&cpr).await.unwrap();
        ledger.payments.report_payment(report(&cpr, "pay", 100)).await.unwrap();
    }
    holder.rollback().await.unwrap();
    until_recorded(&pool, 1, 1).await;
    pay_somebody_in(&mut ledger, 1).await;
    assert_eq!(listed(&mut ledger).await.unwrap().len(), 1);
    assert_sound(&pool).await;
}
