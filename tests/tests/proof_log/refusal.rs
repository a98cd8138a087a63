//! A history that is not what was signed: nothing more is signed, health and log say so, and the
//! first position that differs is named. Where records are gone or are others, nothing more is recorded
//! either (H1); where the log's own tables alone are wrong, payments go on.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, GetCheckpointRequest},
};
use frikort_tests::{
    client::{Ledger, grant, new_cpr, report},
    database::Database,
    process::{Kind, Service},
};
use sqlx::{AssertSqlSafe, Executor};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{checkpoint, filled, refused};

/// As whoever owns the machine: no trigger keeps them from anything.
async fn tamper(database: &Database, statements: &[String]) {
    let mut superuser = database.pool().await.unwrap().acquire().await.unwrap();
    superuser.execute("SET session_replication_role = replica").await.unwrap();
    for statement in statements {
        let done = superuser.execute(AssertSqlSafe(statement.clone())).await.unwrap();
        assert!(done.rows_affected() > 0, "{statement}");
    }
}

async fn health(service: &Service, name: &str) -> ServingStatus {
    let mut health = HealthClient::new(service.channel().await.unwrap());
    let request = HealthCheckRequest { service: name.to_owned() };
    health.check(request).await.unwrap().into_inner().status()
}

/// Nothing is signed, from `first` on, and everybody can see it. Whether payments go on.
async fn assert_refused(service: &Service, first: i64, payments_go_on: bool) {
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    assert_eq!(refused(&mut ledger).await, Some(first));
    assert_eq!(health(service, "frikort.v1.AuditService").await, ServingStatus::NotServing);
    let expected = match payments_go_on {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while health(service, "").await != expected {
        assert!(Instant::now() < deadline, "payments go on: {}", !payments_go_on);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = service.logged().unwrap();
    let named = format!("first_different_position={first}");
    assert!(log.lines().any(|l| l.contains("NOT SIGNING") && l.contains(&named)), "{log}");
}

async fn restarted(database: &Database, dir: &Path) -> Service {
    Service::start_answering(Kind::Ledger, database, dir).await.unwrap()
}

/// What a grant is refused with.
async fn refused_with(ledger: &mut Ledger) -> ErrorReason {
    let status = ledger.visitations.grant_card(grant(&new_cpr())).await.unwrap_err();
    Failure::from_status(&status).unwrap().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_got_shorter() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (mut service, mut ledger, last) = filled(&database, dir.path(), 40).await;
    checkpoint(&mut ledger, last).await;
    service.kill().unwrap();
    // As a database does that was restored from a dump of before.
    let first = last - 9;
    tamper(
        &database,
        &[
            format!("DELETE FROM ledger.event WHERE position >= {first}"),
            format!("UPDATE ledger.partition_head SET position = {first} - 1"),
            "DELETE FROM ledger.checkpoint".to_owned(),
        ],
    )
    .await;
    let service = restarted(&database, dir.path()).await;
    assert_refused(&service, first, false).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    assert_eq!(refused_with(&mut ledger).await, ErrorReason::HistoryChanged);
    drop(service);

    // The lost positions are taken by other payments, of a ledger that has no such file; that does
    // not mend it.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join("register.keys"), elsewhere.path().join("register.keys"))
        .unwrap();
    tamper(&database, &["DELETE FROM ledger.history_incident".to_owned()]).await;
    let other = Service::start(Kind::Ledger, &database, elsewhere.path()).await.unwrap();
    let mut ledger = Ledger::new(other.channel().await.unwrap());
    let person = new_cpr();
    ledger.grant(&person).await.unwrap();
    for number in 0..20 {
        let request = report(&person, &format!("later-{number}"), 1_000);
        ledger.payments.report_payment(request).await.unwrap();
    }
    drop(other);
    tamper(&database, &["DELETE FROM ledger.checkpoint".to_owned()]).await;
    let service = restarted(&database, dir.path()).await;
    // The last checkpoint's file still has the hash of each record after the last full tile.
    assert_refused(&service, first, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_long_after() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (service, mut ledger, last) = filled(&database, dir.path(), 560).await;
    checkpoint(&mut ledger, last).await;
    let change = "UPDATE ledger.event SET record = replace(record, '\"10.00\"', '\"11.00\"')
                  WHERE position = 300";
    tamper(&database, &[change.to_owned()]).await;
    // While it runs: old records are read again in turn.
    assert_refused(&service, 300, false).await;
    drop(service);
    // A restart does not forget it for long, and mending the record heals it.
    let service = restarted(&database, dir.path()).await;
    assert_refused(&service, 300, false).await;
    let mend = change.replace("11.00", "12.00").replace("10.00", "11.00").replace("12.00", "10.00");
    tamper(&database, &[mend]).await;
    for _ in 0..600 {
        if health(&service, "frikort.v1.AuditService").await == ServingStatus::Serving {
            let mut ledger = Ledger::new(service.channel().await.unwrap());
            ledger.audits.get_checkpoint(GetCheckpointRequest { partition: 0 }).await.unwrap();
            // Recording goes on too, without anybody's decision.
            while health(&service, "").await != ServingStatus::Serving {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            ledger.grant(&new_cpr()).await.unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not sign again");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_in_tiles_and_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (mut service, mut ledger, last) = filled(&database, dir.path(), 600).await;
    checkpoint(&mut ledger, last).await;
    service.kill().unwrap();

    // A checkpoint that somebody else has written.
    let forge = "UPDATE ledger.checkpoint SET note = replace(note, E'\\n\\n', E'\\nx\\n\\n')
                 WHERE position = (SELECT max(position) FROM ledger.checkpoint)";
    tamper(&database, &[forge.to_owned()]).await;
    let service = restarted(&database, dir.path()).await;
    assert_refused(&service, last, true).await;
    drop(service);
    let mend = forge.replace("E'\\n\\n', E'\\nx\\n\\n'", "E'\\nx\\n\\n', E'\\n\\n'");
    tamper(&database, &[mend]).await;

    // A tile.
    let turn =
        "UPDATE ledger.tile SET hashes = set_byte(hashes, 32 * 44, get_byte(hashes, 32 * 44) # 1)
                WHERE level = 0 AND number = 1";
    tamper(&database, &[turn.to_owned()]).await;
    let service = restarted(&database, dir.path()).await;
    assert_refused(&service, 256 + 44 + 1, true).await;
    drop(service);
    tamper(&database, &[turn.to_owned()]).await;

    // A tile that is not there.
    let lost = "DELETE FROM ledger.tile WHERE level = 0 AND number = 0".to_owned();
    tamper(&database, &[lost]).await;
    let service = restarted(&database, dir.path()).await;
    assert_refused(&service, 1, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_file_it_trusts_the_table_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (mut service, mut ledger, last) = filled(&database, dir.path(), 5).await;
    checkpoint(&mut ledger, last).await;
    service.kill().unwrap();
    std::fs::remove_file(dir.path().join("signing.key.partition-0.checkpoint")).unwrap();
    let service = restarted(&database, dir.path()).await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    checkpoint(&mut ledger, last).await;
    assert!(service.logged().unwrap().contains("no last checkpoint is kept outside"));
}
