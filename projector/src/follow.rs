//! Following one partition: read a page, fold it, write it together with the checkpoint, while
//! the next page is read ahead.
//!
//! Any number of projectors may run. The checkpoint is the fence: who finds it moved stands by,
//! and takes over when it stays behind the head. No lock, no lease, nothing to clean up after a
//! kill. Where another generation is served than the one that was folded, it goes on with that one,
//! which stands where the other stood; one that a newer projector began it leaves alone.
//!
//! A checkpoint whose event is not in the history is of a history that is gone: the generation is
//! retired, and an empty one is folded in its place. Each new server run is a reason to look.
//!
//! Not here: decisions; the projector never writes an event.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use frikort_event_store::{
    DatabaseSessions, EventStore, ServerRun, Signal, StoreError, StoredEvent, Subscription,
};
use tokio::{sync::watch, time::sleep};

use crate::{
    PROJECTION_VERSION,
    fold::{Changes, Poison},
    isolate::Isolation,
    state::State,
    tables::{self, Checkpoint, WriteError, Written},
};

/// Events folded and written together.
pub(crate) const PAGE: i64 = 10_000;

/// How often a projector that stands by looks, or one that has nothing to fold.
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
    #[error("the events cannot be folded")]
    Write(#[from] WriteError),
    #[error("poison: the partition stops here until it is looked at")]
    Poison(#[from] Poison),
    #[error(
        "the projection at position {0} is of another history than the events: it is folded anew"
    )]
    OtherHistory(i64),
    #[error("the database does not answer")]
    Unreachable,
    #[error(
        "a newer projector has begun the generation that is served (version {0}; this program \
         folds version {PROJECTION_VERSION}): run that one"
    )]
    Newer(i32),
}

/// Why somebody no longer folds.
enum Left {
    /// Another projector has moved the checkpoint.
    Moved,
    /// Another generation is served, or the sessions are with another server run.
    Switched,
}

/// One partition's follower.
pub(crate) struct Follower {
    pub(crate) partition: i32,
    pub(crate) sessions: DatabaseSessions,
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
            let followed = tokio::select! {
                followed = self.fold_or_stand_by(&mut logged) => followed,
                // What waits for the server is given up, with its connections.
                () = self.sessions.unreachable() => Err(Fault::Unreachable),
            };
            let result = match followed {
                Err(Fault::OtherHistory(_)) => self.begin_anew().await,
                followed => followed,
            };
            if let Err(fault) = result {
                // Not known any more to be what the tables hold.
                self.sound.send_replace(false);
                self.tell(&fault, &mut logged);
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Follows until there is a reason to look from the start.
    async fn fold_or_stand_by(&self, logged: &mut Option<String>) -> Result<(), Fault> {
        match self.fold_on(logged).await {
            Ok(Left::Switched) => Ok(()),
            Ok(Left::Moved) => self.stand_by(true).await,
            Err(fault @ Fault::Newer(_)) => {
                self.tell(&fault, logged);
                self.stand_by(false).await
            }
            Err(fault) => Err(fault),
        }
    }

    /// Begins an empty generation in the place of one that is of another history.
    async fn begin_anew(&self) -> Result<(), Fault> {
        self.state.doubt();
        self.sound.send_replace(false);
        let pool = self.store.pool();
        let stale = tables::checkpoint(&mut *pool.acquire().await?, self.partition).await?;
        if tables::is_in_history(&mut *pool.acquire().await?, self.partition, stale).await? {
            return Ok(());
        }
        let head = self.store.head(self.partition).await?.position;
        tracing::error!(
            partition = self.partition,
            position = stale.position,
            head,
            "HISTORY CHANGED: the projection is of events that are not in the history; folding anew"
        );
        Ok(tables::begin_anew(pool, self.partition, stale, head).await?)
    }

    /// Logs a fault, once while it lasts.
    fn tell(&self, fault: &Fault, logged: &mut Option<String>) {
        let text = format!("{fault:?}");
        if logged.as_ref() != Some(&text) {
            let error = fault as &dyn std::error::Error;
            tracing::error!(partition = self.partition, error, "not following");
            *logged = Some(text);
        }
    }

    /// Folds until another projector has moved the checkpoint, or another generation is served.
    async fn fold_on(&self, logged: &mut Option<String>) -> Result<Left, Fault> {
        let pool = self.store.pool();
        let version = tables::version(&mut *pool.acquire().await?, self.partition).await?;
        if version > PROJECTION_VERSION {
            return Err(Fault::Newer(version));
        }
        let (mut at, run) = self.stand_at_checkpoint(true).await?;
        let mut events = Subscription::new(
            self.store.clone(),
            self.partition,
            None,
            at.position + 1,
            PAGE,
            self.signal.clone(),
        );
        let mut progress = Progress::new(at.position);
        let mut looked = Instant::now();
        let mut page = events.read().await?;
        loop {
            if page.is_empty() {
                if !self.sound.send_replace(true) {
                    let position = at.position;
                    tracing::info!(partition = self.partition, position, "caught up");
                    *logged = None;
                }
                events.wait().await;
                if looked.elapsed() >= LOOK {
                    looked = Instant::now();
                    if let Some(left) = self.has_left(at, run).await? {
                        return Ok(left);
                    }
                }
                page = events.read().await?;
                continue;
            }
            let changes = Changes::of(&page)?;
            let (written, next) =
                tokio::join!(tables::write(pool, self.partition, at, &changes), events.read());
            let written = match written {
                Err(error) if error.is_contradiction() => {
                    return self.isolate_poison(at, run, &page).await;
                }
                written => written?,
            };
            if written == Written::CheckpointMoved {
                return Ok(self.has_left(at, run).await?.unwrap_or(Left::Moved));
            }
            self.state.advance(&changes);
            (at.position, at.recorded_at) = (changes.position, changes.recorded_at);
            at.event_hash = changes.event_hash;
            if self.sessions.server_run() != run {
                return Ok(Left::Switched);
            }
            progress.log(self, at.position).await?;
            page = next?;
        }
    }

    /// Writes what comes before the event of a page that contradicts the projection, which stops
    /// the partition.
    async fn isolate_poison(
        &self,
        from: Checkpoint,
        run: ServerRun,
        page: &[StoredEvent],
    ) -> Result<Left, Fault> {
        let (pool, mut at) = (self.store.pool(), from);
        let mut isolation = Isolation::of(page);
        while let Some(changes) = isolation.next()? {
            match tables::write(pool, self.partition, at, &changes).await {
                Ok(Written::Yes) => isolation.written(),
                Ok(Written::CheckpointMoved) => break,
                Err(error) => {
                    isolation.refused::<Fault>(error)?;
                    continue;
                }
            }
            self.state.advance(&changes);
            (at.position, at.recorded_at) = (changes.position, changes.recorded_at);
            at.event_hash = changes.event_hash;
        }
        Ok(self.has_left(at, run).await?.unwrap_or(Left::Moved))
    }

    /// Whether the projection stands elsewhere than where this process has brought it.
    async fn has_left(&self, at: Checkpoint, run: ServerRun) -> Result<Option<Left>, Fault> {
        if self.sessions.server_run() != run {
            return Ok(Some(Left::Switched));
        }
        let now =
            tables::checkpoint(&mut *self.store.pool().acquire().await?, self.partition).await?;
        let (partition, generation) = (self.partition, now.generation);
        Ok(if generation != at.generation {
            tracing::info!(partition, generation, "another generation is served");
            Some(Left::Switched)
        } else if now != at {
            tracing::info!(partition, "another projector folds; standing by");
            Some(Left::Moved)
        } else {
            None
        })
    }

    /// Keeps answers current while another projector folds, until that one stays behind. Whether
    /// somebody folds may be known from the start; else it shows.
    async fn stand_by(&self, is_folded: bool) -> Result<(), Fault> {
        let (mut at, mut run) = self.stand_at_checkpoint(false).await?;
        self.sound.send_replace(is_folded);
        let mut moved = Instant::now();
        loop {
            sleep(LOOK).await;
            let now = tables::checkpoint(&mut *self.store.pool().acquire().await?, self.partition)
                .await?;
            if now != at || self.sessions.server_run() != run {
                (at, run) = self.stand_at_checkpoint(false).await?;
            } else if self.store.head(self.partition).await?.position != at.position {
                if moved.elapsed() >= TAKE_OVER {
                    tracing::info!(partition = self.partition, "nobody folds; taking over");
                    return Ok(());
                }
                continue;
            }
            moved = Instant::now();
            self.sound.send_if_modified(|sound| !std::mem::replace(sound, true));
        }
    }

    /// Takes over where the tables are, if that is in the history; and the server run that shows it.
    async fn stand_at_checkpoint(&self, folding: bool) -> Result<(Checkpoint, ServerRun), Fault> {
        let mut tx = self.store.pool().begin_snapshot().await?;
        let run = self.sessions.server_run();
        let checkpoint = tables::checkpoint(&mut tx, self.partition).await?;
        let limits = tables::limits(&mut tx, self.partition).await?;
        let is_in_history = tables::is_in_history(&mut tx, self.partition, checkpoint).await?;
        tx.commit().await?;
        if !is_in_history {
            return Err(Fault::OtherHistory(checkpoint.position));
        }
        self.state.stand_at(checkpoint, limits, folding, run);
        Ok((checkpoint, run))
    }
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
