//! What a database server can do to running services short of losing its history: it falls silent,
//! refuses to write, and ends idle sessions. Callers get an answer before their own deadline, health
//! and log follow, and nobody restarts a service.
//!
//! Not here: a server that is stopped (`outage.rs`), or that goes back (`history`).

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::{Duration, Instant};

use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, GetAllowanceRequest, ReportPaymentRequest,
        allowance_service_client::AllowanceServiceClient,
    },
};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, allowances, by_cpr, new_cpr, report},
    database::Database,
    process::{Kind, Service, server_processes, signal},
};
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tempfile::TempDir;
use tonic::{Code, Request, Status, transport::Channel};

/// What a caller waits at the most. A service that answers only then has not answered.
const CALLERS_DEADLINE: Duration = Duration::from_secs(20);

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

struct Site {
    database: Database,
    ledger: Service,
    projector: Service,
    payments: Ledger,
    questions: AllowanceServiceClient<Channel>,
    cpr: String,
    _dir: TempDir,
}

impl Site {
    /// Services on a cluster of their own, and a person with a card and one payment.
    async fn start() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let database = Database::create_alone(dir.path().join("postgres"), 1).await.unwrap();
        let ledger = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
        let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
        let mut payments = Ledger::new(ledger.channel().await.unwrap());
        let questions = allowances(projector.channel().await.unwrap());
        payments.set_limit(2022, 20_000).await.unwrap();
        let cpr = new_cpr();
        payments.grant(&cpr).await.unwrap();
        let mut site = Self { database, ledger, projector, payments, questions, cpr, _dir: dir };
        site.report("first").await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while site.ask().await.ok() != Some(100) {
            assert!(Instant::now() < deadline, "the payment is not projected");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        site
    }

    async fn report(&mut self, reference: &str) -> Result<bool, Status> {
        let request: ReportPaymentRequest = report(&self.cpr, reference, 100);
        let answer = self.payments.payments.report_payment(within_deadline(request)).await?;
        Ok(answer.into_inner().replayed)
    }

    async fn ask(&mut self) -> Result<i64, Status> {
        let person = by_cpr(&self.cpr);
        let request = GetAllowanceRequest { person, year: 2022, ..GetAllowanceRequest::default() };
        let answer = self.questions.get_allowance(within_deadline(request)).await?;
        Ok(answer.into_inner().allowance.unwrap().total_oere)
    }

    async fn until_health_is(&self, is_serving: bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = (self.ledger.is_serving().await, self.projector.is_serving().await);
            if now == (is_serving, is_serving) {
                return;
            }
            assert!(Instant::now() < deadline, "ledger and projector serve: {now:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What was reported meanwhile is recorded once, and all of it is in the totals.
    async fn assert_whole(&mut self, references: &[String]) {
        for reference in references {
            self.report(reference).await.unwrap();
            assert!(self.report(reference).await.unwrap(), "{reference} is recorded twice");
        }
        let pool = self.database.pool().await.unwrap();
        let events = 3 + i64::try_from(references.len()).unwrap();
        assert_eq!(assert_sound(&pool).await, events);
        let total = 100 * (1 + i64::try_from(references.len()).unwrap());
        let deadline = Instant::now() + PATIENCE;
        while self.ask().await.ok() != Some(total) {
            assert!(Instant::now() < deadline, "the projection does not come to {total}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn within_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALLERS_DEADLINE);
    request
}

/// The service answered, and says when to repeat.
fn assert_unavailable(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let failure = Failure::from_status(status).unwrap();
    assert_eq!(failure.reason, ErrorReason::StoreUnavailable, "{status:?}");
    assert!(failure.retry_delay().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_keeps_no_caller_waiting() {
    let mut site = Site::start().await;
    let stopped = server_processes(&site.database).unwrap();
    stopped.iter().for_each(|process| signal(*process, "STOP").unwrap());
    let mut references = Vec::new();
    for number in 0..6 {
        let reference = format!("silent-{number}");
        assert_unavailable(&site.report(&reference).await.unwrap_err());
        references.push(reference);
        // A warm answer needs no database, but its entry in the access log does.
        if let Err(status) = site.ask().await {
            assert_unavailable(&status);
        }
    }
    site.until_health_is(false).await;
    stopped.iter().for_each(|process| signal(*process, "CONT").unwrap());
    site.until_health_is(true).await;
    site.assert_whole(&references).await;
    for service in [&site.ledger, &site.projector] {
        let log = service.logged().unwrap();
        assert_eq!(log.matches("the database does not answer; retrying").count(), 1, "{log}");
        assert_eq!(log.matches("the database answers again").count(), 1, "{log}");
    }
}

async fn execute(pool: &PgPool, statement: &str) {
    pool.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
}

/// Sessions of the services, but for those of the two heartbeats.
const OTHER_SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE usename LIKE 'frikort\\_%' AND backend_type = 'client backend'
      AND query NOT LIKE '%clock_timestamp()%'";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_while_idle_costs_no_call() {
    let mut site = Site::start().await;
    let pool = site.database.pool().await.unwrap();
    for round in 0..3 {
        // As `idle_session_timeout` ends them; the services need not have noticed.
        execute(
            &pool,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE usename LIKE 'frikort\\_%' AND state = 'idle'
               AND state_change < now() - interval '1 second'",
        )
        .await;
        assert!(!site.report(&format!("idle-{round}")).await.unwrap());
        site.ask().await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        // Until sessions are idle for a second again.
        loop {
            let idle: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
                "{OTHER_SESSIONS} AND state_change < now() - interval '1100 milliseconds'"
            )))
            .fetch_one(&pool)
            .await
            .unwrap();
            if idle > 3 {
                break;
            }
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    site.until_health_is(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_to_write_is_in_the_log_and_recovers() {
    let mut site = Site::start().await;
    let pool = site.database.pool().await.unwrap();
    execute(&pool, "ALTER ROLE frikort_ledger SET default_transaction_read_only = on").await;
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE usename = 'frikort_ledger'";
    execute(&pool, end_sessions).await;
    let references = ["read-only".to_owned()];
    assert_unavailable(&site.report(&references[0]).await.unwrap_err());
    let deadline = Instant::now() + PATIENCE;
    while site.ledger.is_serving().await {
        assert!(Instant::now() < deadline, "it says SERVING");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = site.ledger.logged().unwrap();
    assert!(log.contains("the partition cannot be written; retrying"), "{log}");
    assert!(log.contains("read-only transaction"), "the cause is not in the log: {log}");
    execute(&pool, "ALTER ROLE frikort_ledger RESET default_transaction_read_only").await;
    execute(&pool, end_sessions).await;
    site.until_health_is(true).await;
    site.assert_whole(&references).await;
}
