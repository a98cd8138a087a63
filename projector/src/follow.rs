//! Following one partition: read a page, fold it, write it together with the checkpoint, while
//! the next page is read ahead.
//!
//! Any number of projectors may run. The checkpoint is the fence: who finds it moved stands by,
//! and takes over when it stays behind the head. No lock, no lease, nothing to clean up after a
//! kill. What must stay out: decisions; the projector never writes an event.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use frikort_event_store::{EventStore, Signal, StoreError, StoredEvent, Subscription};
use tokio::{sync::watch, time::sleep};

use crate::{
    fold::{Changes, Poison},
    state::State,
    tables::{self, Checkpoint, Written},
};

/// Events folded and written together.
const PAGE: i64 = 5000;

/// How often a projector that stands by looks.
const LOOK: Duration = Duration::from_millis(100);

/// How long the checkpoint may stay behind the head before one that stands by takes over.
const TAKE_OVER: Duration = Duration::from_secs(2);

/// Pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How often progress is logged while there is much to catch up with.
const PROGRESS: Duration = Duration::from_secs(5);

/// What interrupts following.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the projection cannot be written or read")]
    Tables(#[from] sqlx::Error),
    #[error("poison: the partition stops here until it is looked at")]
    Poison(#[from] Poison),
}

/// One partition's follower.
pub(crate) struct Follower {
    pub(crate) partition: i32,
    pub(crate) store: EventStore,
    pub(crate) state: Arc<State>,
    pub(crate) signal: Signal,
    /// Whether the partition is followed.
    pub(crate) sound: watch::Sender<bool>,
}

impl Follower {
    /// Follows for ever.
    pub(crate) async fn run(self) {
        let mut logged = None;
        loop {
            let result = match self.fold_on(&mut logged).await {
                Ok(()) => self.stand_by().await,
                Err(fault) => Err(fault),
            };
            if let Err(fault) = result {
                // Not known any more to be what the tables hold.
                self.sound.send_replace(false);
                let text = format!("{fault:?}");
                if logged.as_ref() != Some(&text) {
                    let error = &fault as &dyn std::error::Error;
                    tracing::error!(partition = self.partition, error, "not following");
                    logged = Some(text);
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Folds until another projector has moved the checkpoint.
    async fn fold_on(&self, logged: &mut Option<String>) -> Result<(), Fault> {
        let checkpoint = self.stand_at_checkpoint(true).await?;
        let mut from = checkpoint.position;
        let mut events = Subscription::new(
            self.store.clone(),
            self.partition,
            None,
            from + 1,
            PAGE,
            self.signal.clone(),
        );
        let mut progress = Progress::new(from);
        let mut page = events.read().await?;
        loop {
            if page.is_empty() {
                if !self.sound.send_replace(true) {
                    tracing::info!(partition = self.partition, position = from, "caught up");
                    *logged = None;
                }
                events.wait().await;
                page = events.read().await?;
                continue;
            }
            let changes = fold(&page)?;
            let pool = self.store.pool();
            let (written, next) =
                tokio::join!(tables::write(pool, self.partition, from, &changes), events.read());
            if written? == Written::CheckpointMoved {
                tracing::info!(partition = self.partition, "another projector folds; standing by");
                return Ok(());
            }
            self.state.advance(&changes);
            from = changes.position;
            progress.log(self, from).await?;
            page = next?;
        }
    }

    /// Keeps answers current while another projector folds, until that one stays behind.
    async fn stand_by(&self) -> Result<(), Fault> {
        let mut at = self.stand_at_checkpoint(false).await?;
        self.sound.send_replace(true);
        let mut moved = Instant::now();
        loop {
            sleep(LOOK).await;
            let now = tables::checkpoint(self.store.pool(), self.partition).await?;
            if now != at {
                at = self.stand_at_checkpoint(false).await?;
                moved = Instant::now();
            } else if self.store.head(self.partition).await?.position == at.position {
                moved = Instant::now();
            } else if moved.elapsed() >= TAKE_OVER {
                tracing::info!(partition = self.partition, "nobody folds; taking over");
                return Ok(());
            }
        }
    }

    async fn stand_at_checkpoint(&self, folding: bool) -> Result<Checkpoint, Fault> {
        // The checkpoint first: limits may then be newer than it, never older.
        let checkpoint = tables::checkpoint(self.store.pool(), self.partition).await?;
        let mut connection = self.store.pool().acquire().await?;
        let limits = tables::limits(&mut connection, self.partition).await?;
        self.state.stand_at(checkpoint, limits, folding);
        Ok(checkpoint)
    }
}

fn fold(page: &[StoredEvent]) -> Result<Changes, Poison> {
    let mut changes = Changes::default();
    for event in page {
        changes.fold(event.position, &event.record)?;
    }
    Ok(changes)
}

/// Says how it goes while there is much to catch up with.
struct Progress {
    since: Instant,
    from: i64,
}

impl Progress {
    fn new(from: i64) -> Self {
        Self { since: Instant::now(), from }
    }

    async fn log(&mut self, follower: &Follower, position: i64) -> Result<(), Fault> {
        let elapsed = self.since.elapsed();
        if elapsed < PROGRESS {
            return Ok(());
        }
        let lag = follower.store.head(follower.partition).await?.position - position;
        if lag > PAGE {
            let events = position - self.from;
            let per_second =
                i128::from(events) * 1000 / i128::try_from(elapsed.as_millis().max(1)).unwrap_or(1);
            tracing::info!(
                partition = follower.partition,
                position,
                lag,
                per_second,
                "catching up"
            );
        }
        *self = Self::new(position);
        Ok(())
    }
}
