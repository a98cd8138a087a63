//! ListAnnualTotals: every annual total of a partition, from one snapshot of the tables.
//!
//! A page at a time, and the next one when the caller has taken it. A listing keeps a connection and
//! a snapshot for as long as it lasts, so there are few at a time, and a caller that takes nothing
//! is let go. What must stay out: memory, and settling; a split is told as it was recorded.

use std::{sync::Arc, time::Duration};

use frikort_access::{Access, Caller, Place, Places};
use frikort_event_store::PooledTransaction;
use frikort_process::feed::{Items, feed};
use frikort_proto::{
    error::Failure,
    v1::{AnnualTotal, ErrorReason, ListAnnualTotalsRequest, ListAnnualTotalsResponse},
};
use sqlx::PgConnection;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use uuid::Uuid;

use crate::{
    asked,
    query::Allowances,
    tables::{self, Checkpoint, amount},
    wire::{place, unread},
};

/// Totals of one message.
const PAGE: i64 = 1000;

/// Messages that wait for a caller.
const AHEAD: usize = 2;

/// Listings at the same time.
const LISTINGS: usize = 2;

/// How long a caller may take for a message, and for all of them: a snapshot keeps dead rows.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What all listings share.
#[derive(Debug)]
pub(crate) struct Listings(Places);

impl Listings {
    pub(crate) fn new(access: &Access) -> Self {
        Self(access.places("listings", LISTINGS))
    }
}

/// Starts a listing once the projection contains what is asked for.
pub(crate) async fn start(
    allowances: &Allowances,
    who: &Arc<Caller>,
    request: ListAnnualTotalsRequest,
    deadline: Instant,
) -> Result<ReceiverStream<Result<ListAnnualTotalsResponse, Status>>, Failure> {
    asked::annual_totals(request, &allowances.partitions())?;
    let ListAnnualTotalsRequest { partition, min_position } = request;
    allowances.wait_for(partition, min_position, deadline).await?;
    let place = allowances.listings.0.take(who)?;
    let run = allowances.sessions.server_run();
    let tx = allowances.store.pool().begin_snapshot().await;
    let tx = tx.map_err(|error| unread(&error))?;
    // All pages are read in this session, and so are of one history.
    allowances.require_history(run)?;
    let (items, stream) = mpsc::channel(AHEAD);
    let listing = list(tx, partition, items.clone(), place);
    tokio::spawn(feed(items, allowances.stop.clone(), listing));
    Ok(ReceiverStream::new(stream))
}

async fn list(
    mut tx: PooledTransaction,
    partition: i32,
    items: Items<ListAnnualTotalsResponse>,
    _place: Place,
) -> Result<(), Status> {
    // Sessions end a transaction that waits for longer than a caller may take for a message.
    let patient = "SET LOCAL idle_in_transaction_session_timeout = '1min'";
    sqlx::query(patient).execute(&mut *tx).await.map_err(|error| unread(&error))?;
    // A page of a list may take longer than a question.
    let long = "SET LOCAL statement_timeout = '1min'";
    sqlx::query(long).execute(&mut *tx).await.map_err(|error| unread(&error))?;
    let at =
        tables::answered_checkpoint(&mut tx, partition).await.map_err(|error| unread(&error))?;
    let (mut after, end) = ((Uuid::nil(), 0), Instant::now() + LONGEST);
    loop {
        let rows = page(&mut tx, partition, at, after).await.map_err(|error| unread(&error))?;
        let last = rows.last().map(|(place, _)| *place);
        let totals = rows.into_iter().map(|(_, total)| total).collect();
        let position = Some(place(partition, at));
        let sent = items.send(Ok(ListAnnualTotalsResponse { position, totals }));
        match timeout_at(end.min(Instant::now() + PATIENCE), sent).await {
            Ok(Ok(())) => {}
            // The caller is gone.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(overloaded("the listing was not taken in time; repeat").into()),
        }
        let Some(last) = last else { return Ok(()) };
        after = last;
    }
}

/// The totals after a person's year, each with what leads to the next.
async fn page(
    connection: &mut PgConnection,
    partition: i32,
    at: Checkpoint,
    (person, year): (Uuid, i32),
) -> Result<Vec<((Uuid, i32), AnnualTotal)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT t.person_id, t.year, t.total, t.payments,
                  coalesce((SELECT sum(p.exempt) FROM projection.payment AS p
                            WHERE p.partition = t.partition AND p.generation = t.generation
                              AND p.person_id = t.person_id AND p.year = t.year
                              AND NOT p.cancelled), 0) AS "exempt!"
           FROM projection.annual_total AS t
           WHERE t.partition = $1 AND t.generation = $2 AND (t.person_id, t.year) > ($3, $4)
           ORDER BY t.person_id, t.year LIMIT $5"#,
        partition,
        at.generation,
        person,
        year,
        PAGE
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let total = AnnualTotal {
                person_id: row.person_id.to_string(),
                year: row.year,
                total_oere: amount(row.total)?.oere(),
                payments: row.payments,
                exempt_oere: amount(row.exempt)?.oere(),
            };
            Ok(((row.person_id, row.year), total))
        })
        .collect()
}

fn overloaded(message: &str) -> Failure {
    Failure::new(ErrorReason::Overloaded, message)
}
