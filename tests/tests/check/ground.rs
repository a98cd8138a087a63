//! One filled ledger with its proof log, copied for each test; and hands with all rights.

use frikort_check::{Check, Concluded, Finding, Kept, Kind, Log};
use frikort_proto::v1::{
    DeactivateCardRequest, RecordControlRequest, ReissueCardRequest, RejectApplicationRequest,
};
use frikort_tests::{
    audit::{events, is_at_rest},
    client::{by_cpr, cancel, correct, date, facts, grant, new_cpr, report},
    database::Database,
    process::{self, Service},
    proof_log::Signer,
    stack::Stack,
};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::sync::{Mutex, OnceCell};

const PERSONS: usize = 16;
const PAYMENTS: usize = 45;

/// Records between two checkpoints.
pub(crate) const EVERY: i64 = 50;

/// A ledger whose services are stopped.
pub(crate) struct Filled {
    database: Database,
    pub(crate) signer: Signer,
    /// The last checkpoint.
    pub(crate) note: String,
    pub(crate) head: i64,
}

static FILLED: OnceCell<Filled> = OnceCell::const_new();
static COPYING: Mutex<()> = Mutex::const_new(());

/// The one of this process.
pub(crate) async fn filled() -> &'static Filled {
    FILLED.get_or_init(fill).await
}

async fn fill() -> Filled {
    // The log is made afterwards, with checkpoints at places that are known.
    let (dir, database) = (tempfile::tempdir().unwrap(), Database::create(1).await.unwrap());
    let silent = vec![("FRIKORT_SIGNING_KEY_FILE", String::new())];
    let ledger =
        Service::start_with(process::Kind::Ledger, &database, dir.path(), silent).await.unwrap();
    let projector = Service::start(process::Kind::Projector, &database, dir.path()).await.unwrap();
    let mut stack = Stack { ledger, projector, database, dir };
    live(&stack).await;
    let pool = stack.database.pool().await.unwrap();
    while !is_at_rest(&pool).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(stack.ledger.stop().await.unwrap().success());
    assert!(stack.projector.stop().await.unwrap().success());
    let signer = Signer::new(0, 7).unwrap();
    let note = signer.log(&pool, 0, EVERY.unsigned_abs()).await.unwrap();
    let head = events(&pool).await;
    // Some full tiles, and one that is not.
    assert!(head > 3 * 256 + 20 && head % 256 > 20 && head % EVERY > 2, "{head} records");
    pool.close().await;
    // It is never dropped, which would do it.
    stack.database.look_through().await.unwrap();
    Filled { database: stack.database, signer, note, head }
}

/// Cards, payments, changes of both, and of a limit.
async fn live(stack: &Stack) {
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    ledger.set_limit(2023, 20_000).await.unwrap();
    let cprs: Vec<String> = (0..PERSONS).map(|_| new_cpr()).collect();
    for (number, cpr) in cprs.iter().enumerate() {
        let mut card = grant(cpr);
        card.application_date = (number % 2 == 0).then(|| date(2021, 12, 1));
        ledger.visitations.grant_card(card).await.unwrap();
    }
    let rejection = RejectApplicationRequest {
        person: by_cpr(&new_cpr()),
        municipality_code: "101".to_owned(),
        reference: "no".to_owned(),
        application_date: Some(date(2022, 1, 3)),
        decision_date: Some(date(2022, 1, 31)),
        ..RejectApplicationRequest::default()
    };
    ledger.visitations.reject_application(rejection).await.unwrap();
    for payment in 0..PAYMENTS {
        for (number, cpr) in cprs.iter().enumerate() {
            let reference = format!("payment {payment}");
            let amount = 40_000 + 1000 * i64::try_from(number * payment).unwrap() / 4;
            ledger.payments.report_payment(report(cpr, &reference, amount)).await.unwrap();
            if payment % 9 == 4 && number % 3 == 0 {
                let corrected = correct(cpr, &reference, 1, facts(amount + 500));
                ledger.payments.correct_payment(corrected).await.unwrap();
            }
            if payment % 11 == 5 && number % 4 == 0 {
                ledger.payments.cancel_payment(cancel(cpr, &reference, 1)).await.unwrap();
            }
        }
    }
    // Reaches whoever is above it.
    ledger.set_limit(2022, 21_000).await.unwrap();
    decide(stack, &cprs).await;
}

/// The rest of what a municipality does.
async fn decide(stack: &Stack, cprs: &[String]) {
    let mut ledger = stack.ledger().await.unwrap();
    let (person, code) = (by_cpr(&cprs[0]), "101".to_owned());
    let reissue = ReissueCardRequest {
        person: person.clone(),
        municipality_code: code.clone(),
        reference: "again".to_owned(),
        frikort_id: "54321".to_owned(),
        decision_date: Some(date(2022, 4, 1)),
        ..ReissueCardRequest::default()
    };
    ledger.visitations.reissue_card(reissue).await.unwrap();
    let control = RecordControlRequest {
        person: person.clone(),
        municipality_code: code.clone(),
        reference: "control".to_owned(),
        control_date: Some(date(2024, 5, 1)),
        ..RecordControlRequest::default()
    };
    ledger.visitations.record_control(control).await.unwrap();
    let deactivation = DeactivateCardRequest {
        person: by_cpr(&cprs[1]),
        municipality_code: code,
        reference: "stop".to_owned(),
        decision_date: Some(date(2024, 6, 1)),
        effective_date: Some(date(2024, 6, 30)),
        ..DeactivateCardRequest::default()
    };
    ledger.visitations.deactivate_card(deactivation).await.unwrap();
}

/// A copy of the filled ledger, to be tampered with.
pub(crate) struct Copy {
    pub(crate) database: Database,
    pub(crate) pool: PgPool,
    pub(crate) filled: &'static Filled,
}

/// A finding: kind and position.
pub(crate) type Found = (Kind, i64);

impl Copy {
    pub(crate) async fn new() -> Self {
        let filled = filled().await;
        let turn = COPYING.lock().await;
        let database = filled.database.copy().await.unwrap();
        drop(turn);
        let pool = database.pool().await.unwrap();
        Self { database, pool, filled }
    }

    /// Runs a statement as superuser, with triggers and their like disabled. `$p` is a position,
    /// and `$h` the head.
    pub(crate) async fn tamper(&self, statement: &str, position: i64) -> u64 {
        let head = self.filled.head.to_string();
        let statement = statement.replace("$p", &position.to_string()).replace("$h", &head);
        let mut owner = self.owner().await;
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *owner).await.unwrap().rows_affected()
    }

    pub(crate) async fn owner(&self) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
        let mut owner = self.pool.acquire().await.unwrap();
        let connection: &mut PgConnection = &mut owner;
        let replica = "SET session_replication_role = replica";
        sqlx::query(replica).execute(connection).await.unwrap();
        owner
    }

    /// The records, in order of position.
    pub(crate) async fn records(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT record FROM ledger.event ORDER BY position")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Runs the engine as an auditor, with the keys, and with checkpoints that were kept.
    pub(crate) async fn check_with(&self, kept: &[&str]) -> (Vec<Finding>, Concluded) {
        let kept = kept.iter().map(|note| Kept { name: "ours".into(), note: (*note).to_owned() });
        let keys = vec![self.filled.signer.verifier()];
        let log = Log { keys, kept: kept.collect(), seen: None };
        let url = self.database.url("frikort_auditor");
        let database: PgConnectOptions = url.parse().unwrap();
        let check = Check { database, partition: None, logs: [(0, log)].into(), rest: 0 };
        let mut running = check.start().unwrap();
        let mut findings = Vec::new();
        while let Some(finding) = running.findings.recv().await {
            findings.push(finding);
        }
        let progress = *running.progress.borrow();
        let concluded = running.concluded().await.unwrap();
        assert_eq!(concluded.findings, u64::try_from(findings.len()).unwrap());
        assert_eq!(progress.done, progress.total, "{concluded:?}");
        (findings, concluded)
    }

    /// The same without any; kinds and positions in order.
    pub(crate) async fn check(&self) -> (Vec<Found>, Concluded) {
        let (findings, concluded) = self.check_with(&[]).await;
        (places(&findings), concluded)
    }
}

/// Kinds and positions in order.
pub(crate) fn places(findings: &[Finding]) -> Vec<Found> {
    let mut places: Vec<_> = findings.iter().map(|found| (found.kind, found.position)).collect();
    places.sort_by_key(|(kind, position)| (*position, *kind));
    places
}
