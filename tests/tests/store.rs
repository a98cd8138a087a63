//! The event store against a real Postgres: positions, streams, subscriptions, and the fence.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use frikort_event_store::{
    Appended, Appender, Batch, Direction, EventStore, StoreError, Subscription, listen,
};
use frikort_tests::database::Database;
use sqlx::postgres::PgConnectOptions;
use time::{OffsetDateTime, macros::datetime};
use tokio::sync::watch;
use uuid::Uuid;

const START: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

struct Setting {
    store: EventStore,
    options: PgConnectOptions,
    database: Database,
}

async fn setting() -> Setting {
    let database = Database::create(1).await.unwrap();
    let options: PgConnectOptions = database.url("frikort_ledger").parse().unwrap();
    let pool = frikort_event_store::pool(options.clone(), 4);
    let store = EventStore::open(pool).await.unwrap();
    Setting { store, options, database }
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
    let Setting { store, options, .. } = setting().await;
    let mut appender = Appender::new(options, 0);
    let (a, b) = (stream(1), stream(2));
    let mut head = appender.head().await.unwrap();
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
    let Setting { store, options, .. } = setting().await;
    let (mut one, mut two) = (Appender::new(options.clone(), 0), Appender::new(options, 0));
    let head = one.head().await.unwrap();
    let (mine, theirs) = (batch(&[(stream(1), 1)], "one"), batch(&[(stream(2), 1)], "two"));
    let outcomes = tokio::join!(one.append(head, &mine), two.append(head, &theirs));
    let outcomes = [outcomes.0.unwrap(), outcomes.1.unwrap()];
    assert!(outcomes.contains(&Appended::Yes) && outcomes.contains(&Appended::HeadMoved));
    assert_eq!(store.head(0).await.unwrap().position, 1);
}

#[tokio::test]
async fn a_raised_fence_shuts_out_a_call_at_the_same_position() {
    let Setting { store, options, .. } = setting().await;
    let (mut late, mut other) = (Appender::new(options.clone(), 0), Appender::new(options, 0));
    let head = late.head().await.unwrap();
    assert_eq!(other.raise_fence().await.unwrap().position, head.position);
    let appended = late.append(head, &batch(&[(stream(1), 1)], "late")).await.unwrap();
    assert_eq!(appended, Appended::HeadMoved);
    assert_eq!(store.head(0).await.unwrap().position, 0);
}

#[tokio::test]
async fn resolving_tells_a_committed_batch_from_another_at_its_place() {
    let Setting { options, .. } = setting().await;
    let (mut one, mut two) = (Appender::new(options.clone(), 0), Appender::new(options, 0));
    let head = one.head().await.unwrap();
    let batch_one = batch(&[(stream(1), 1), (stream(1), 2)], "one");
    let batch_two = batch(&[(stream(2), 1), (stream(2), 2)], "two");
    assert_eq!(one.resolve(head, &batch_one).await.unwrap(), Appended::HeadMoved);
    let head = one.head().await.unwrap();
    assert_eq!(two.append(head, &batch_two).await.unwrap(), Appended::Yes);
    assert_eq!(one.resolve(head, &batch_one).await.unwrap(), Appended::HeadMoved);
    assert_eq!(two.resolve(head, &batch_two).await.unwrap(), Appended::Yes);
}

#[tokio::test]
async fn a_version_that_is_taken_is_refused_whole() {
    let Setting { store, options, .. } = setting().await;
    let mut appender = Appender::new(options, 0);
    let head = appender.head().await.unwrap();
    let twice = batch(&[(stream(1), 1), (stream(2), 1), (stream(1), 1)], "e");
    let error = appender.append(head, &twice).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert_eq!(store.head(0).await.unwrap().position, 0);
    assert!(store.read_all(0, 1, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_catches_up_and_then_hears_of_what_comes() {
    let Setting { store, options, .. } = setting().await;
    let mut appender = Appender::new(options, 0);
    let head = appender.head().await.unwrap();
    let first = batch(&[(stream(1), 1), (stream(2), 1), (stream(1), 2)], "e");
    appender.append(head, &first).await.unwrap();

    let (sender, signal) = watch::channel(0);
    let listening = tokio::spawn(listen(store.pool().clone(), sender));
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
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap(), [4]);
    listening.abort();
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
