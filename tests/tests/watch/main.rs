//! WatchAllowances: every change once and in order, however often a watcher is cut off; nothing
//! before a question sees it; nothing that a slow caller could make grow.
//!
//! In here is what both rooms watch with; what a watcher is told is in `changes.rs`, what bounds
//! watching in `bounds.rs`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bounds;
mod changes;

use std::{net::SocketAddr, time::Duration};

use frikort_proto::{
    error::Failure,
    v1::{
        Allowance, CaughtUp, LedgerPosition, WatchAllowancesRequest,
        watch_allowances_response::Item,
    },
};
use frikort_tests::client::allowances;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Streaming, transport::Channel};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One message, in a form that both the watcher and the table give: partition and position, then
/// person, year, limit, total and number of payments; a limit has year and limit alone.
type Seen = (i32, i64, String);

/// The position that a message names, from which a watch can be resumed.
fn place_of(item: &Item) -> LedgerPosition {
    match item {
        Item::Change(change) => change.position.unwrap(),
        Item::Limit(change) => change.position.unwrap(),
        Item::CaughtUp(mark) => LedgerPosition {
            partition: mark.partition,
            position: mark.position,
            recorded_time: mark.recorded_time,
        },
    }
}

fn line(a: &Allowance) -> String {
    format!("{} {} {} {} {}", a.person_id, a.year, a.limit_oere, a.total_oere, a.payment_count)
}

/// What a message says; `Err` for a mark.
fn seen(item: Item) -> Result<Seen, CaughtUp> {
    match item {
        Item::Change(change) => {
            let at = change.position.unwrap();
            assert!(at.recorded_time.is_some());
            let lines: Vec<_> = change.allowances.iter().map(line).collect();
            Ok((at.partition, at.position, lines.join("; ")))
        }
        Item::Limit(change) => {
            let (at, limit) = (change.position.unwrap(), change.limit.unwrap());
            assert!(limit.in_force_date.is_some());
            Ok((at.partition, at.position, format!("{} {}", limit.year, limit.limit_oere)))
        }
        Item::CaughtUp(mark) => Err(mark),
    }
}

/// What a watcher must see, taken from the records by SQL.
async fn recorded(pool: &PgPool) -> Vec<Seen> {
    sqlx::query_as(
        "SELECT partition, position, concat_ws('; ', said, said_left) FROM (
             SELECT partition, position,
                 CASE WHEN r ->> 'type' = 'annual_limit_set' THEN
                     concat_ws(' ', r #>> '{data,year}', ((r #>> '{data,limit}')::numeric * 100)::bigint)
                 ELSE concat_ws(' ', person_id, y ->> 'year', ((y ->> 'limit')::numeric * 100)::bigint,
                     ((y ->> 'total')::numeric * 100)::bigint, y ->> 'payments') END AS said,
                 CASE WHEN l IS NOT NULL THEN
                     concat_ws(' ', person_id, l ->> 'year', ((l ->> 'limit')::numeric * 100)::bigint,
                     ((l ->> 'total')::numeric * 100)::bigint, l ->> 'payments') END AS said_left
             FROM (SELECT partition, position, person_id, record::json AS r,
                          record::json #> '{outcome,year}' AS y,
                          record::json #> '{outcome,left_year}' AS l FROM ledger.event) AS e
             WHERE r ->> 'type' LIKE 'payment_%'
                OR r ->> 'type' IN ('annual_limit_set', 'allowance_recalculated')) AS e
         ORDER BY partition, position",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Starts to watch, as soon as the projector is there.
async fn watch(
    address: SocketAddr,
    request: &WatchAllowancesRequest,
) -> Streaming<frikort_proto::v1::WatchAllowancesResponse> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let uri = format!("http://{address}");
        if let Ok(channel) = Channel::from_shared(uri).unwrap().connect().await {
            let started = allowances(channel).watch_allowances(request.clone()).await;
            match started {
                Ok(stream) => return stream.into_inner(),
                Err(status) => assert!(may_repeat(&status), "{status:?}"),
            }
        }
        assert!(Instant::now() < deadline, "the projector does not come back");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A cut connection, or an answer that says so itself.
fn may_repeat(status: &tonic::Status) -> bool {
    Failure::from_status(status).is_none_or(|failure| failure.retry_delay().is_some())
}

/// Reads up to the first mark of the partition; all that came before it.
async fn until_mark(
    items: &mut Streaming<frikort_proto::v1::WatchAllowancesResponse>,
) -> (Vec<Seen>, CaughtUp) {
    let mut all = Vec::new();
    loop {
        let message = timeout(PATIENCE, items.message()).await.unwrap().unwrap().unwrap();
        match seen(message.item.unwrap()) {
            Ok(item) => all.push(item),
            Err(mark) => return (all, mark),
        }
    }
}
