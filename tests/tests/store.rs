//! The event store against a real Postgres: positions, streams, subscriptions, and the fence.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::{Duration, Instant};

use frikort_event_store::{
    Appended, Appender, Batch, ConnectionPool, DatabaseSessions, Direction, EventHash, EventStore,
    Head, Incident, SessionPurpose, StoreError, Subscription, accept_incidents, listen,
};
use frikort_tests::{
    database::Database,
    history::eventually,
    process::receive_notices,
    proxy::{Proxy, Traffic},
};
use sqlx::{Executor, PgPool, postgres::PgConnectOptions};
use time::{OffsetDateTime, macros::datetime};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

const START: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

struct Setting {
    store: EventStore,
    sessions: DatabaseSessions,
    database: Database,
}

impl Setting {
    fn appender(&self) -> Appender {
        Appender::new(self.sessions.clone(), 0)
    }

    async fn head(&self) -> Head {
        self.store.head(0).await.unwrap()
    }

    /// Does something as whoever owns the machine: no trigger keeps them from anything.
    async fn tamper(&self, statement: &'static str) {
        let mut superuser = self.database.pool().await.unwrap().acquire().await.unwrap();
        superuser.execute("SET session_replication_role = replica").await.unwrap();
        superuser.execute(statement).await.unwrap();
    }
}

async fn setting() -> Setting {
    let database = Database::create(1).await.unwrap();
    receive_notices();
    let options: PgConnectOptions = database.url("frikort_ledger").parse().unwrap();
    let sessions = DatabaseSessions::new(options);
    let store = EventStore::open(sessions.pool(4, SessionPurpose::Calls)).await.unwrap();
    Setting { store, sessions, database }
}

/// A batch of one event in each stream, at the version given.
fn batch(streams: &[(Uuid, i64)], text: &str) -> Batch {
    let mut batch = Batch::default();
    for (at, (stream, version)) in (0_i64..).zip(streams) {
        let recorded_at = START + time::Duration::microseconds(at);
        batch.push(*stream, *version, recorded_at, format!("{text}-{version}"));
    }
    batch
}

fn stream(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

#[tokio::test]
async fn positions_follow_on_and_streams_read_both_ways() {
    let setting = setting().await;
    let (store, mut appender) = (setting.store.clone(), setting.appender());
    let (a, b) = (stream(1), stream(2));
    let mut head = setting.head().await;
    for version in 1..=5 {
        let batch = batch(&[(a, version), (b, version)], "e");
        assert_eq!(appender.append(head, &batch).await.unwrap(), Appended::Yes);
        head = batch.head_after(head);
    }
    assert_eq!(store.head(0).await.unwrap(), head);
    let all = store.read_all(0, 1, 100).await.unwrap();
    assert_eq!(all.iter().map(|e| e.position).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    let forwards = store.read_stream(0, a, 2, Direction::Forwards, 2).await.unwrap();
    assert_eq!(forwards.iter().map(|e| &*e.record).collect::<Vec<_>>(), ["e-2", "e-3"]);
    let backwards = store.read_stream(0, b, 4, Direction::Backwards, 2).await.unwrap();
    assert_eq!(backwards.iter().map(|e| &*e.record).collect::<Vec<_>>(), ["e-4", "e-3"]);
    let both = store.read_streams(0, &[b, a], 4).await.unwrap();
    assert_eq!(both.iter().map(|e| e.position).collect::<Vec<_>>(), [1, 3, 2, 4]);
}

#[tokio::test]
async fn of_two_writers_at_one_head_one_wins_and_the_other_changes_nothing() {
    let setting = setting().await;
    let (store, mut one, mut two) = (setting.store.clone(), setting.appender(), setting.appender());
    let head = setting.head().await;
    let (mine, theirs) = (batch(&[(stream(1), 1)], "one"), batch(&[(stream(2), 1)], "two"));
    let outcomes = tokio::join!(one.append(head, &mine), two.append(head, &theirs));
    let outcomes = [outcomes.0.unwrap(), outcomes.1.unwrap()];
    assert!(outcomes.contains(&Appended::Yes) && outcomes.contains(&Appended::HeadMoved));
    assert_eq!(store.head(0).await.unwrap().position, 1);
}

#[tokio::test]
async fn a_raised_fence_shuts_out_a_call_at_the_same_position() {
    let setting = setting().await;
    let (store, mut late) = (setting.store.clone(), setting.appender());
    let mut other = setting.appender();
    let head = setting.head().await;
    assert_eq!(other.raise_fence(0).await.unwrap().head.position, head.position);
    let appended = late.append(head, &batch(&[(stream(1), 1)], "late")).await.unwrap();
    assert_eq!(appended, Appended::HeadMoved);
    assert_eq!(store.head(0).await.unwrap().position, 0);
}

/// An append of another ledger is under way while the fence is raised, and is committed then.
#[tokio::test]
async fn a_fence_that_waited_for_an_append_stands_at_its_event() {
    let setting = setting().await;
    let mut appender = setting.appender();
    let head = setting.head().await;
    let pool = setting.database.pool().await.unwrap();
    let mut under_way = pool.begin().await.unwrap();
    let appended: bool = sqlx::query_scalar("SELECT ledger.append(0, $1, $2, $3, $4, $5, $6, $7)")
        .bind(head.position)
        .bind(head.fence)
        .bind(head.event_hash.0.as_slice())
        .bind([stream(1)])
        .bind([1_i64])
        .bind([START])
        .bind(["under way-1"])
        .fetch_one(&mut *under_way)
        .await
        .unwrap();
    assert!(appended);
    let raising = tokio::spawn(async move { appender.raise_fence(0).await });
    until_one_waits_for_a_lock(&pool).await;
    under_way.commit().await.unwrap();
    let status = raising.await.unwrap().unwrap();
    assert_eq!(status.head.position, 1);
    assert_eq!(status.head, setting.head().await);
}

async fn until_one_waits_for_a_lock(pool: &PgPool) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + Duration::from_secs(60);
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(pool).await.unwrap() == 0 {
        assert!(Instant::now() < deadline, "no session waits for a lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn resolving_tells_a_committed_batch_from_another_at_its_place() {
    let setting = setting().await;
    let (mut one, mut two) = (setting.appender(), setting.appender());
    let head = setting.head().await;
    let batch_one = batch(&[(stream(1), 1), (stream(1), 2)], "one");
    let batch_two = batch(&[(stream(2), 1), (stream(2), 2)], "two");
    assert_eq!(one.resolve(head, &batch_one).await.unwrap(), Appended::HeadMoved);
    let head = setting.head().await;
    assert_eq!(two.append(head, &batch_two).await.unwrap(), Appended::Yes);
    assert_eq!(one.resolve(head, &batch_one).await.unwrap(), Appended::HeadMoved);
    assert_eq!(two.resolve(head, &batch_two).await.unwrap(), Appended::Yes);
}

#[tokio::test]
async fn a_version_that_is_taken_is_refused_whole() {
    let setting = setting().await;
    let (store, mut appender) = (setting.store.clone(), setting.appender());
    let head = setting.head().await;
    let twice = batch(&[(stream(1), 1), (stream(2), 1), (stream(1), 1)], "e");
    let error = appender.append(head, &twice).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert_eq!(store.head(0).await.unwrap().position, 0);
    assert!(store.read_all(0, 1, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_catches_up_and_then_hears_of_what_comes() {
    let setting = setting().await;
    let (store, mut appender) = (setting.store.clone(), setting.appender());
    let head = setting.head().await;
    let first = batch(&[(stream(1), 1), (stream(2), 1), (stream(1), 2)], "e");
    appender.append(head, &first).await.unwrap();

    let (sender, signal) = watch::channel(0);
    let listening = tokio::spawn(listen(setting.sessions.clone(), sender));
    let mut all = Subscription::new(store.clone(), 0, None, 1, 2, signal.clone());
    let mut one = Subscription::new(store.clone(), 0, Some(stream(1)), 2, 10, signal);
    let positions = |events: Vec<frikort_event_store::StoredEvent>| {
        events.iter().map(|e| e.position).collect::<Vec<_>>()
    };
    assert_eq!(positions(all.read().await.unwrap()), [1, 2]);
    assert_eq!(positions(all.read().await.unwrap()), [3]);
    assert_eq!(positions(all.read().await.unwrap()), [] as [i64; 0]);
    assert_eq!(positions(one.read().await.unwrap()), [3]);

    let head = first.head_after(head);
    appender.append(head, &batch(&[(stream(1), 3)], "later")).await.unwrap();
    let heard = async {
        loop {
            all.wait().await;
            let events = all.read().await.unwrap();
            if !events.is_empty() {
                return positions(events);
            }
        }
    };
    assert_eq!(timeout(Duration::from_secs(10), heard).await.unwrap(), [4]);
    listening.abort();
}

/// As a database that was put back, and whose position was then taken by another event.
const ANOTHER_HISTORY: &str = "UPDATE ledger.event SET record = 'other' WHERE position = 2";

#[tokio::test]
async fn a_batch_that_was_decided_on_another_history_is_not_appended() {
    let setting = setting().await;
    let mut appender = setting.appender();
    let first = batch(&[(stream(1), 1), (stream(1), 2)], "e");
    assert_eq!(appender.append(setting.head().await, &first).await.unwrap(), Appended::Yes);
    let head = setting.head().await;
    assert_eq!(head, first.head_after(Head { fence: head.fence, ..Head::EMPTY }));
    setting.tamper(ANOTHER_HISTORY).await;
    let next = batch(&[(stream(1), 3)], "e");
    assert_eq!(appender.append(head, &next).await.unwrap(), Appended::HeadMoved);
    let standing = appender.status(head.position).await.unwrap();
    assert_eq!(standing.head.position, 2);
    assert_eq!(standing.remembered_hash, Some(EventHash::of("other")));
    assert_eq!(appender.resolve(head, &next).await.unwrap(), Appended::HeadMoved);
    assert_eq!(appender.append(standing.head, &next).await.unwrap(), Appended::HeadMoved, "fenced");
    assert_eq!(appender.append(setting.head().await, &next).await.unwrap(), Appended::Yes);
}

#[tokio::test]
async fn whoever_reads_on_in_another_history_is_refused() {
    let setting = setting().await;
    let (store, mut appender) = (setting.store.clone(), setting.appender());
    let first = batch(&[(stream(1), 1), (stream(1), 2)], "e");
    appender.append(setting.head().await, &first).await.unwrap();
    let signal = watch::channel(0).1;
    let mut all = Subscription::new(store.clone(), 0, None, 1, 10, signal.clone());
    let mut one = Subscription::new(store.clone(), 0, Some(stream(1)), 1, 10, signal);
    assert_eq!((all.read().await.unwrap().len(), one.read().await.unwrap().len()), (2, 2));
    let head = setting.head().await;
    let at = (head.position, head.event_hash);
    assert_eq!(store.read_streams_at(0, &[stream(1)], at, (1, 9)).await.unwrap().len(), 2);
    assert_eq!(store.read_streams_at(0, &[stream(9)], at, (1, 9)).await.unwrap(), []);
    setting.tamper(ANOTHER_HISTORY).await;
    appender.append(setting.head().await, &batch(&[(stream(1), 3)], "e")).await.unwrap();
    let changed = |error| matches!(error, StoreError::HistoryChanged { position: 2, .. });
    assert!(changed(all.read().await.unwrap_err()));
    assert!(changed(one.read().await.unwrap_err()));
    assert!(changed(all.read().await.unwrap_err()), "it stays so");
    assert!(changed(store.read_streams_at(0, &[stream(1)], at, (1, 9)).await.unwrap_err()));
    assert!(changed(store.read_streams_at(0, &[stream(9)], at, (1, 9)).await.unwrap_err()));
}

#[tokio::test]
async fn h1_while_an_incident_is_open_nothing_is_appended() {
    let setting = setting().await;
    let mut appender = setting.appender();
    let lost = Incident {
        evidence_position: 7,
        evidence_hash: EventHash::of("lost"),
        first_lost_position: 3,
        head_position: 2,
        checkpoint: None,
    };
    let next = batch(&[(stream(1), 1)], "e");
    for _ in 0..2 {
        assert!(!appender.record_incident(&lost, START).await.unwrap());
        let head = setting.head().await;
        assert_eq!(appender.append(head, &next).await.unwrap(), Appended::HeadMoved);
        assert!(appender.status(0).await.unwrap().has_open_incident);
    }
    assert!(appender.withdraw_incidents(START).await.unwrap(), "the evidence is not there");
    let owner = setting.database.pool().await.unwrap();
    let accepted = accept_incidents(&owner.clone().into(), 0, "a reason", START).await.unwrap();
    assert_eq!(accepted.len(), 1);
    assert_eq!((accepted[0].first_lost_position, accepted[0].last_lost_position), (3, 7));
    assert!(accept_incidents(&owner.clone().into(), 0, "again", START).await.unwrap().is_empty());
    assert!(appender.record_incident(&lost, START).await.unwrap(), "it is accepted");
    assert_eq!(appender.append(setting.head().await, &next).await.unwrap(), Appended::Yes);
}

#[tokio::test]
async fn h1_an_incident_whose_evidence_is_there_again_is_withdrawn() {
    let setting = setting().await;
    let mut appender = setting.appender();
    let first = batch(&[(stream(1), 1), (stream(1), 2)], "e");
    appender.append(setting.head().await, &first).await.unwrap();
    let head = setting.head().await;
    let lost = Incident {
        evidence_position: 2,
        evidence_hash: head.event_hash,
        first_lost_position: 2,
        head_position: 2,
        checkpoint: None,
    };
    setting.tamper(ANOTHER_HISTORY).await;
    appender.record_incident(&lost, START).await.unwrap();
    assert!(appender.withdraw_incidents(START).await.unwrap());
    setting.tamper("UPDATE ledger.event SET record = 'e-2' WHERE position = 2").await;
    assert!(!appender.withdraw_incidents(START).await.unwrap());
    let next = batch(&[(stream(1), 3)], "e");
    assert_eq!(appender.append(head, &next).await.unwrap(), Appended::Yes);
    // Found lost again, it is open again.
    setting.tamper(ANOTHER_HISTORY).await;
    assert!(!appender.record_incident(&lost, START).await.unwrap());
    assert!(appender.status(0).await.unwrap().has_open_incident);
}

#[tokio::test]
async fn a_commit_that_is_acknowledged_with_a_warning_is_uncertain() {
    let setting = setting().await;
    let owner = setting.database.pool().await.unwrap();
    owner
        .execute(
            "CREATE FUNCTION ledger.warn() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE WARNING 'as a wait for a standby that was cancelled'; RETURN NULL; END $$;
             CREATE TRIGGER warn AFTER INSERT ON ledger.event EXECUTE FUNCTION ledger.warn()",
        )
        .await
        .unwrap();
    let mut appender = setting.appender();
    let (head, first) = (setting.head().await, batch(&[(stream(1), 1)], "e"));
    let error = appender.append(head, &first).await.unwrap_err();
    assert!(matches!(error, StoreError::UncertainCommit), "{error:?}");
    assert_eq!(appender.resolve(head, &first).await.unwrap(), Appended::Yes);
}

#[tokio::test]
async fn a_schema_that_is_not_there_or_not_ours_is_refused_with_advice() {
    let Setting { database, .. } = setting().await;
    let pool = database.pool().await.unwrap();
    let newer = "CREATE OR REPLACE FUNCTION ledger.schema_version() RETURNS integer
                 LANGUAGE sql IMMUTABLE AS 'SELECT 99'";
    sqlx::query(newer).execute(&pool).await.unwrap();
    let error = EventStore::open(pool.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongSchema { found: 99, .. }), "{error:?}");
    sqlx::query("DROP FUNCTION ledger.schema_version()").execute(&pool).await.unwrap();
    let error = EventStore::open(pool).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongSchema { found: 0, .. }), "{error:?}");
}

/// Each place where a connection that comes back can fall silent: while it is asked whether it answers, or
/// rolled back, and at its next statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_answers_are_lost_leaves_its_place_to_another() {
    let database = Database::create(1).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), database.cluster().socket_dir()).unwrap();
    let options: PgConnectOptions = proxy.url(&database.url("frikort_ledger")).parse().unwrap();
    let sessions = DatabaseSessions::new(options);
    let ask = async |pool: &ConnectionPool| {
        let mut connection = pool.acquire().await?;
        connection.execute("SELECT 1").await.map(drop)
    };
    for (requests, in_transaction) in [0, 1, 2].into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let pool = sessions.pool(1, SessionPurpose::Calls);
        ask(&pool).await.unwrap();
        if in_transaction {
            let transaction = pool.begin().await.unwrap();
            proxy.set_traffic(Traffic::SwallowedAfter(requests));
            drop(transaction);
        } else {
            let connection = pool.acquire().await.unwrap();
            proxy.set_traffic(Traffic::SwallowedAfter(requests));
            drop(connection);
        }
        let asking = async {
            while ask(&pool).await.is_ok() {}
            // Another error than silence would not be lost.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = proxy.lost() => {}
            () = asking => {}
        }
        proxy.set_traffic(Traffic::Flows);
        eventually("the pool has another connection", async || {
            Ok(timeout(Duration::from_secs(1), ask(&pool)).await.is_ok_and(|asked| asked.is_ok()))
        })
        .await
        .unwrap_or_else(|error| panic!("after {requests} requests: {error:#}"));
    }
}
