//! `kill -9` of everything, in the middle of an import, at random moments; then the same import
//! again. Nothing that was acknowledged is lost, nothing is there twice, and every total and
//! split is as if nothing had happened.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use frikort::postgres::{Cluster, Options};
use frikort_tests::{
    audit::{assert_projection_is_the_fold, assert_sound},
    chance::Chance,
    database::Database,
    files::{
        SAMPLE_EVENTS, assert_expected_totals_and_splits, import, lines, load_limits, sample,
        start_import,
    },
    process::{Kind, Service, signal},
};
use sqlx::PgPool;

/// What is killed, in turn.
const VICTIMS: [&str; 12] = [
    "ledger",
    "projector",
    "postgres",
    "ledger",
    "postgres",
    "import",
    "projector",
    "ledger",
    "import",
    "postgres",
    "ledger",
    "projector",
];

/// As many numbers of events as there are victims, ascending, over the whole import.
fn moments(mut chance: Chance) -> Vec<i64> {
    let all = u64::try_from(SAMPLE_EVENTS).unwrap();
    let mut moments: Vec<i64> =
        VICTIMS.iter().map(|_| i64::try_from(chance.below(all * 9 / 10)).unwrap()).collect();
    moments.sort_unstable();
    moments
}

/// Waits until so many events are recorded. The database may be away meanwhile; the import may
/// not: one that has ended before they are recorded fails the test with what it said.
async fn wait_for_events(
    pool: &PgPool,
    count: i64,
    (running, log): (&mut Child, &Path),
    ledger: &Service,
) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        // Asked before the count, so that an import that ends well in between is no failure.
        let ended = running.try_wait().unwrap();
        let query = sqlx::query_scalar::<_, i64>(
            "SELECT coalesce(sum(position), 0)::bigint FROM ledger.partition_head",
        );
        if query.fetch_one(pool).await.is_ok_and(|position| position >= count) {
            return;
        }
        let gave_up = ended.filter(|status| !status.success());
        if gave_up.is_some() || Instant::now() >= deadline {
            panic!(
                "the import does not reach {count} events ({gave_up:?}):\n{}\nthe ledger:\n{}",
                fs::read_to_string(log).unwrap_or_default(),
                ledger.logged().unwrap_or_default()
            );
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn kill_postgres(database: &Database, dir: &Path) {
    let pid = database.cluster().pid().unwrap();
    signal(pid, "KILL").unwrap();
    // A killed process takes its time to die, and takes connections until then. Who starts the
    // cluster meanwhile finds it running, and starts nothing.
    let deadline = Instant::now() + Duration::from_secs(30);
    while database.cluster().is_ready() {
        assert!(Instant::now() < deadline, "the server survives kill -9");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || Cluster::start(&dir, &Options::default()))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_nothing_is_lost_and_nothing_is_there_twice() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let cluster_dir = dir.path().join("postgres");
    let database = Database::create_alone(cluster_dir.clone(), 1).await.unwrap();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let url = database.url("frikort_ledger");
    let mut ledger = Service::start_at(Kind::Ledger, &url, dir.path(), anywhere).await.unwrap();
    let mut projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    load_limits(&ledger, &projector).unwrap();

    let pool = database.pool().await.unwrap();
    let (answers, log) = (dir.path().join("answers.csv"), dir.path().join("import.log"));
    let mut running = start_import(&ledger, &projector, &answers, &log).unwrap();
    let mut acknowledged: HashMap<String, String> = HashMap::new();
    for (victim, moment) in VICTIMS.iter().zip(moments(Chance::printed())) {
        wait_for_events(&pool, moment, (&mut running, &log), &ledger).await;
        match *victim {
            "ledger" => ledger.kill_and_restart().unwrap(),
            "projector" => projector.kill_and_restart().unwrap(),
            "postgres" => kill_postgres(&database, &cluster_dir).await,
            _ => {
                running.kill().unwrap();
                running.wait().unwrap();
                note_acknowledged(&mut acknowledged, &answers);
                running = start_import(&ledger, &projector, &answers, &log).unwrap();
            }
        }
    }
    let status = running.wait().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(&log).unwrap());
    note_acknowledged(&mut acknowledged, &answers);
    ledger.wait_until_ready().await.unwrap();
    projector.wait_until_ready().await.unwrap();

    // Whatever was acknowledged at any time is what the whole import answers now.
    let expected = lines(&sample("expected-answers.csv")).unwrap();
    assert_eq!(assert_sound(&pool).await, 8 + SAMPLE_EVENTS);
    let again = import(&ledger, &projector, dir.path()).unwrap();
    assert_eq!(again.len(), expected.len());
    for (again, expected) in again.iter().zip(&expected) {
        assert_eq!(*again, expected.replace(",recorded,", ",replayed,"));
        let line = again.split(',').next().unwrap();
        if let Some(told) = acknowledged.get(line) {
            assert_eq!(told.replace(",recorded,", ",replayed,"), *again);
        }
    }
    assert_eq!(acknowledged.len(), expected.len());
    assert_eq!(assert_sound(&pool).await, 8 + SAMPLE_EVENTS, "an event too many");
    assert_expected_totals_and_splits(&ledger, &projector, dir.path()).unwrap();
    assert_projection_is_the_fold(&pool).await;

    assert!(ledger.stop().await.unwrap().success());
    assert!(projector.stop().await.unwrap().success());
    database.stop_cluster().await.unwrap();
}

/// What an import that was killed, or has ended, was told so far. Its last line may be cut.
fn note_acknowledged(acknowledged: &mut HashMap<String, String>, answers: &Path) {
    let text = fs::read_to_string(answers).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines().skip(1) {
        let number = line.split(',').next().unwrap().to_owned();
        if let Some(before) = acknowledged.insert(number, line.to_owned()) {
            let plain = |line: &str| line.replace(",recorded,", ",replayed,");
            assert_eq!(plain(&before), plain(line), "another answer than the first time");
        }
    }
}
