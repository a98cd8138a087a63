//! The projector's continuous check: what it has verified, and what it says when it cannot.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use frikort::postgres::{Cluster, Options};
use frikort_proto::v1::{
    CheckKind, GetVerificationRequest, GetVerificationResponse,
    verification_service_client::VerificationServiceClient,
};
use frikort_tests::{
    client::{Ledger, new_cpr, report},
    database::Database,
    process::{Kind, Service, signal},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::ground::Copy;

/// How long a state may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A projector that checks with a pause of a second.
async fn projector(copy: &Copy, dir: &Path, with_keys: bool) -> Service {
    let mut settings = vec![("FRIKORT_CHECK_PAUSE", "1".to_owned())];
    let keys = dir.join("register.keys");
    fs::write(keys, format!("find={}", "ab".repeat(32))).unwrap();
    if with_keys {
        let keys = dir.join("verifier.keys");
        fs::write(&keys, format!("{}\n", copy.filled.signer.verifier())).unwrap();
        settings.push(("FRIKORT_VERIFIER_KEYS_FILE", keys.to_str().unwrap().to_owned()));
    }
    Service::start_with(Kind::Projector, &copy.database, dir, settings).await.unwrap()
}

/// Asks until the answer is as wanted.
async fn until(
    service: &Service,
    wanted: impl Fn(&GetVerificationResponse) -> bool,
) -> GetVerificationResponse {
    let mut client = VerificationServiceClient::new(service.channel().await.unwrap());
    let mut last = None;
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            let request = GetVerificationRequest {};
            let answer = client.get_verification(request).await.unwrap().into_inner();
            if wanted(&answer) {
                return answer;
            }
            last = Some(answer);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    asked.await.unwrap_or_else(|_| panic!("not in time; {last:?}"))
}

/// Plain HTTP, as Prometheus asks: the value of each sample.
async fn metric(service: &Service, name: &str) -> Option<f64> {
    let mut connection = TcpStream::connect(service.address()).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

const POSITION: &str = "frikort_last_fully_verified_position{partition=\"0\"}";
const AGE: &str = "frikort_last_fully_verified_age_seconds{partition=\"0\"}";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sound_is_verified_and_what_is_found_is_loud() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    let head = copy.filled.head;
    let service = projector(&copy, dir.path(), true).await;
    assert!(metric(&service, AGE).await.unwrap() < 60.0, "since the start");

    let verified = until(&service, |answer| answer.last_round.is_some()).await;
    let round = verified.last_round.unwrap();
    assert_eq!((round.findings, round.not_checked, round.told), (0, vec![], vec![]));
    let partition = &verified.partitions[0];
    assert_eq!(partition.last_fully_verified_position, head);
    assert_eq!(partition.verified_time, round.started_time);
    assert!(!verified.turned_off);
    let head_shown = f64::from(i32::try_from(head).unwrap());
    assert_eq!(metric(&service, POSITION).await, Some(head_shown));
    assert!(metric(&service, AGE).await.unwrap() < 60.0);
    assert_eq!(metric(&service, "frikort_check_findings{kind=\"projection\"}").await, Some(0.0));
    assert_eq!(
        metric(&service, "frikort_projection_position{partition=\"0\"}").await,
        Some(head_shown)
    );
    assert_eq!(metric(&service, "frikort_projection_lag_events{partition=\"0\"}").await, Some(0.0));

    copy.tamper(
        "UPDATE projection.payment SET exempt = exempt - 1 WHERE registered = (
        SELECT min(registered) FROM projection.payment WHERE exempt > 1)",
        0,
    )
    .await;
    let is_found = |answer: &GetVerificationResponse| {
        answer.last_round.as_ref().is_some_and(|round| round.findings > 0)
    };
    let found = until(&service, is_found).await;
    let at = found.partitions[0].verified_time;
    let [finding] = &found.last_round.unwrap().told[..] else { panic!("one finding") };
    assert_eq!((finding.kind(), finding.position), (CheckKind::Projection, head));
    assert_eq!(metric(&service, "frikort_check_findings{kind=\"projection\"}").await, Some(1.0));

    // Once more the same: it is said once, and nothing is verified meanwhile.
    let again = until(&service, |answer| {
        let ended = answer.last_round.as_ref().and_then(|round| round.ended_time);
        ended.is_some_and(|ended| at.is_some_and(|at| ended.seconds > at.seconds + 3))
    });
    let again = again.await;
    assert_eq!(again.partitions[0].verified_time, at);
    assert_eq!(again.partitions[0].last_fully_verified_position, head);
    let said = service.logged().unwrap();
    assert_eq!(said.matches("the check has found").count(), 1, "{said}");
    assert!(service.is_serving().await, "queries go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_could_not_check_everything_verifies_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    let service = projector(&copy, dir.path(), false).await;
    let answer = until(&service, |answer| answer.last_round.is_some()).await;
    let round = answer.last_round.unwrap();
    assert_eq!(round.findings, 0);
    assert!(round.not_checked[0].contains("no verifier key"), "{round:?}");
    assert_eq!(answer.partitions[0].last_fully_verified_position, 0);
    assert_eq!(metric(&service, POSITION).await, Some(0.0));
    assert_eq!(metric(&service, "frikort_check_not_checked").await, Some(1.0));
    // It goes on growing from the start, for the alarm that is set on it.
    let before = metric(&service, AGE).await.unwrap();
    let grown = tokio::time::timeout(PATIENCE, async {
        while metric(&service, AGE).await.unwrap() <= before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    grown.await.expect("the age does not grow");
}

/// Everything in the tables is cut to an older state while it runs, and fits: it remembers.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_once_must_stay() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    let service = projector(&copy, dir.path(), true).await;
    until(&service, |answer| answer.partitions[0].last_fully_verified_position > 0).await;
    let older = copy.filled.head - 70;
    let mut cut = copy.pool.begin().await.unwrap();
    for statement in [
        "SET LOCAL session_replication_role = replica",
        "DELETE FROM ledger.event WHERE position > $p",
        "DELETE FROM ledger.checkpoint WHERE position > $p",
        "DELETE FROM ledger.tile WHERE (number + 1) * 256 > $p",
        "UPDATE ledger.partition_head SET position = $p, recorded_at =
             (SELECT recorded_at FROM ledger.event WHERE position = $p)",
        "TRUNCATE projection.annual_total, projection.payment, projection.card,
             projection.annual_limit, projection.application",
        "UPDATE projection.checkpoint SET position = 0, recorded_at = NULL",
    ] {
        let statement = statement.replace("$p", &older.to_string());
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *cut).await.unwrap();
    }
    cut.commit().await.unwrap();
    let is_found = |answer: &GetVerificationResponse| {
        answer.last_round.as_ref().is_some_and(|round| round.findings > 0)
    };
    let found = until(&service, is_found).await.last_round.unwrap();
    let missing = found.told.iter().find(|found| found.kind() == CheckKind::Checkpoint).unwrap();
    assert_eq!(missing.position, older + 1);
    assert!(missing.description.contains("earlier check"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    fs::write(dir.path().join("register.keys"), format!("find={}", "ab".repeat(32))).unwrap();
    let settings = vec![("FRIKORT_CHECK_PAUSE", "0".to_owned())];
    let service =
        Service::start_with(Kind::Projector, &copy.database, dir.path(), settings).await.unwrap();
    assert!(until(&service, |_| true).await.turned_off);
    assert_eq!(metric(&service, "frikort_check_enabled").await, Some(0.0));
    assert_eq!(metric(&service, AGE).await, None);
}

/// Longer than a check may need for a round, and far shorter than a rest that counts an outage as work.
const AFTER_THE_OUTAGE: Duration = Duration::from_secs(60);

/// How long the check waits within one page, here; its rests are 39 times what it has worked.
const WAITED: Duration = Duration::from_secs(3);

/// The database goes away while a round is under way and comes back while the next one waits for it:
/// what was changed meanwhile is found as soon as ever.
#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_it_goes_on_at_its_usual_pace() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let cluster_dir = dir.path().join("postgres");
    let database = Database::create_alone(cluster_dir.clone(), 1).await.unwrap();
    let ledger_service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(ledger_service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    for number in 0..20 {
        let request = report(&cpr, &format!("payment {number}"), 10_000);
        ledger.payments.report_payment(request).await.unwrap();
    }
    drop(ledger_service);
    let settings = vec![("FRIKORT_CHECK_PAUSE", "1".to_owned())];
    let service =
        Service::start_with(Kind::Projector, &database, dir.path(), settings).await.unwrap();
    until(&service, |answer| answer.last_round.is_some()).await;

    // Not stopped in order: so that connections are refused, and waited for, as on a network.
    signal(database.cluster().pid().unwrap(), "KILL").unwrap();
    let gone = tokio::time::timeout(PATIENCE, async {
        while database.cluster().is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    gone.await.expect("the database does not go away");
    // A round that begins while the database is away.
    until(&service, |answer| answer.current.is_none()).await;
    until(&service, |answer| answer.current.is_some()).await;
    tokio::time::sleep(WAITED).await;
    let start = move || Cluster::start(&cluster_dir, &Options::default());
    tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let back = Instant::now();
    let mut owner = database.pool().await.unwrap().acquire().await.unwrap();
    for statement in [
        "SET session_replication_role = replica",
        "UPDATE ledger.event SET record = replace(record, '100.00', '100.01') WHERE position = 16",
    ] {
        let changed = sqlx::query(statement).execute(&mut *owner).await.unwrap().rows_affected();
        assert!(changed == 1 || statement.starts_with("SET"));
    }
    let is_found = |answer: &GetVerificationResponse| {
        let round = answer.last_round.as_ref();
        round.is_some_and(|round| round.told.iter().any(|found| found.position == 16))
    };
    until(&service, is_found).await;
    assert!(back.elapsed() < AFTER_THE_OUTAGE, "found after {:?}", back.elapsed());
    drop(service);
    database.stop_cluster().await.unwrap();
}

/// The database answers late: the page has taken long, and was no work.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_waited_for_the_database_is_not_rested_for() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    let service = projector(&copy, dir.path(), true).await;
    until(&service, |answer| answer.partitions[0].last_fully_verified_position > 0).await;
    let mut holding = copy.pool.begin().await.unwrap();
    let lock = "LOCK TABLE ledger.tile IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *holding).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
                   AND relation = 'ledger.tile'::regclass";
    let waits = tokio::time::timeout(PATIENCE, async {
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&copy.pool).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waits.await.expect("the check reads tiles");
    tokio::time::sleep(WAITED).await;
    holding.commit().await.unwrap();
    let released = Instant::now();
    let before = until(&service, |_| true).await.last_round.unwrap().ended_time;
    until(&service, |answer| answer.last_round.as_ref().unwrap().ended_time != before).await;
    assert!(released.elapsed() < AFTER_THE_OUTAGE, "ended after {:?}", released.elapsed());
}
