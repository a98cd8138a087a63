//! Catch-up subscriptions: read from a position to the head, then go on as events come.
//!
//! A notification only says "look again", and may be lost; the timer makes sure. So a reader is
//! late by at most [`POLL`], and never misses an event. A reader whose last event is not in the history
//! any more gets an error instead of the events of another history.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{DatabaseSessions, EventHash, EventStore, SessionPurpose, StoreError, StoredEvent};

/// How long a reader waits without a notification before it looks again.
const POLL: Duration = Duration::from_millis(50);

/// How long the listener waits before it connects again.
const RECONNECT: Duration = Duration::from_millis(500);

/// Rises whenever somebody says that something was appended.
pub type Signal = watch::Receiver<u64>;

/// Listens for notifications until dropped or aborted, reconnecting as needed. One a process is
/// enough; every subscription takes a clone of the signal. It is also the first to learn that the
/// server has ended the process's sessions.
pub async fn listen(sessions: DatabaseSessions, signal: watch::Sender<u64>) {
    loop {
        // A pool of its own each time: a listener whose connection has broken gives it back without a
        // bound.
        let pool = sessions.sqlx_pool(1, SessionPurpose::Background);
        let heard = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen("ledger_appended").await?;
            while listener.try_recv().await?.is_some() {
                signal.send_modify(|count| *count += 1);
            }
            Ok::<(), sqlx::Error>(())
        };
        // A listener hears nothing of a server that falls silent.
        if let Some(Err(error)) = sessions.while_reachable(heard).await {
            tracing::debug!(%error, "not listening for notifications; polling goes on");
        }
        sessions.suspect();
        tokio::time::sleep(RECONNECT).await;
    }
}

/// A reader of one partition, or of one stream in it, that keeps its place.
#[derive(Debug)]
pub struct Subscription {
    store: EventStore,
    partition: i32,
    stream: Option<Uuid>,
    next: i64,
    /// The last event read, and its hash.
    last: Option<(i64, EventHash)>,
    page: i64,
    signal: Signal,
}

impl Subscription {
    /// From position `from` on (1 for the beginning), up to `page` events at a time; of one
    /// stream only, where one is named.
    pub fn new(
        store: EventStore,
        partition: i32,
        stream: Option<Uuid>,
        from: i64,
        page: i64,
        signal: Signal,
    ) -> Self {
        Self { store, partition, stream, next: from.max(1), last: None, page, signal }
    }

    /// The next events; none when the head is reached. Safe to repeat after an error.
    ///
    /// # Errors
    /// [`StoreError::HistoryChanged`] where the last event that was read is not in the history any
    /// more. It stays so.
    pub async fn read(&mut self) -> Result<Vec<StoredEvent>, StoreError> {
        // Before looking: what is appended while we look is then signalled anew.
        self.signal.borrow_and_update();
        let (partition, page) = (self.partition, self.page);
        let events = match (self.last, self.stream) {
            (Some(last), None) => self.store.read_all_after(partition, last, page).await?,
            (None, None) => self.store.read_all(partition, self.next, page).await?,
            (last, Some(stream)) => {
                let read = self.store.read_stream_at(partition, stream, self.next, page).await?;
                if let Some((position, hash)) = last {
                    // After the read: a history that has changed before it is found by this.
                    self.store.require_event(partition, position, hash).await?;
                }
                read
            }
        };
        if let Some(last) = events.last() {
            self.next = last.position + 1;
            self.last = Some((last.position, last.hash()));
        }
        Ok(events)
    }

    /// Waits until there may be more.
    pub async fn wait(&mut self) {
        let changed = tokio::time::timeout(POLL, self.signal.changed()).await;
        if let Ok(Err(_)) = changed {
            // Nobody listens any more; the timer alone goes on.
            tokio::time::sleep(POLL).await;
        }
    }
}
