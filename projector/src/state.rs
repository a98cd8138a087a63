//! What a projector holds in memory of one partition: how far it is, the limits, and the years of
//! the persons that were asked about lately.
//!
//! Only the projector that folds keeps years, since only it knows at once what changes; one that
//! stands by reads the tables for every answer. Everything is changed and read under one lock, so
//! an answer from memory is as consistent as one from a transaction.
//!
//! All of it is of one history: that of the server run in which the follower has found the checkpoint's
//! event. When a session with another run was opened, nothing is answered, from memory or from the
//! tables, until the follower has looked again.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use frikort_domain::{LimitSchedule, PersonId};
use frikort_event_store::{CurrentRun, DatabaseSessions, ServerRun};
use lru::LruCache;
use tokio::sync::watch;

use crate::{
    fold::Changes,
    tables::{Checkpoint, Years},
};

/// Persons whose years are kept, at about 250 bytes each.
const CACHED_PERSONS: NonZeroUsize = NonZeroUsize::new(100_000).expect("above zero");

/// One partition, as every task of the process sees it.
#[derive(Debug)]
pub(crate) struct State {
    sessions: DatabaseSessions,
    inner: Mutex<Inner>,
    /// The server run of whose history the tables are, once they are far enough to be answered from. Set
    /// with `inner` held.
    served: CurrentRun,
    applied: watch::Sender<Checkpoint>,
}

#[derive(Debug)]
struct Inner {
    checkpoint: Checkpoint,
    limits: Arc<LimitSchedule>,
    years: LruCache<PersonId, Years>,
    /// This process folds; what it keeps is what the tables hold.
    folding: bool,
    /// The server run in which the checkpoint was found to be of the history.
    run: ServerRun,
}

impl Inner {
    /// The server run whose callers are answered.
    fn served(&self) -> ServerRun {
        let is_far_enough = self.checkpoint.position >= self.checkpoint.serve_from;
        if is_far_enough { self.run } else { ServerRun::NONE }
    }
}

/// A consistent view of one person.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) limits: Arc<LimitSchedule>,
    pub(crate) years: Years,
}

impl State {
    pub(crate) fn new(sessions: DatabaseSessions) -> Self {
        let inner = Inner {
            checkpoint: Checkpoint::default(),
            limits: Arc::default(),
            years: LruCache::new(CACHED_PERSONS),
            folding: false,
            run: ServerRun::NONE,
        };
        Self {
            sessions,
            inner: Mutex::new(inner),
            served: CurrentRun::default(),
            applied: watch::Sender::new(Checkpoint::default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the projection is, for waiting.
    pub(crate) fn applied(&self) -> watch::Receiver<Checkpoint> {
        self.applied.subscribe()
    }

    /// Starts anew at a checkpoint that was found to be of the history in a server run, folding or
    /// standing by.
    pub(crate) fn stand_at(
        &self,
        checkpoint: Checkpoint,
        limits: LimitSchedule,
        folding: bool,
        run: ServerRun,
    ) {
        let mut inner = self.lock();
        inner.run = run;
        inner.checkpoint = checkpoint;
        inner.limits = Arc::new(limits);
        inner.folding = folding;
        inner.years.clear();
        self.served.set(inner.served());
        drop(inner);
        self.applied.send_replace(checkpoint);
    }

    /// Takes over what was just committed.
    pub(crate) fn advance(&self, changes: &Changes) {
        let mut inner = self.lock();
        let checkpoint = Checkpoint {
            generation: inner.checkpoint.generation,
            position: changes.position,
            recorded_at: changes.recorded_at,
            event_hash: changes.event_hash,
            serve_from: inner.checkpoint.serve_from,
        };
        inner.checkpoint = checkpoint;
        for (entry, _) in &changes.limits {
            Arc::make_mut(&mut inner.limits).set(entry.clone());
        }
        for (person, card) in &changes.cards {
            if let Some(years) = inner.years.peek_mut(person) {
                years.tags.extend(&card.tags);
            }
        }
        for ((person, year), total) in &changes.totals {
            if let Some(years) = inner.years.peek_mut(person) {
                years.set(*year, total.total, total.payments);
            }
        }
        self.served.set(inner.served());
        drop(inner);
        self.applied.send_replace(checkpoint);
    }

    /// Whether the tables are of the history of a server run, and far enough to be answered from. To
    /// be looked at after they were read in a session with that run.
    pub(crate) fn serves(&self, run: ServerRun) -> bool {
        run != ServerRun::NONE && self.served.get() == run
    }

    /// The projection is of another history: nothing is answered until it is folded anew.
    pub(crate) fn doubt(&self) {
        let mut inner = self.lock();
        inner.run = ServerRun::NONE;
        inner.years.clear();
        self.served.set(ServerRun::NONE);
    }

    /// A person's view from memory, where it is kept.
    pub(crate) fn view(&self, person: PersonId) -> Option<View> {
        let mut inner = self.lock();
        if !self.sessions.can_answer_from_memory(self.served.get()) {
            return None;
        }
        let years = inner.years.get(&person)?.clone();
        Some(View { checkpoint: inner.checkpoint, limits: inner.limits.clone(), years })
    }

    /// Keeps years that were read at `checkpoint`, if that is where we stand: older ones may lack
    /// what was committed since, newer ones would get it twice, and those of another generation
    /// may be other ones.
    pub(crate) fn keep(&self, person: PersonId, years: Years, checkpoint: Checkpoint) {
        let mut inner = self.lock();
        if inner.folding && checkpoint == inner.checkpoint {
            inner.years.put(person, years);
        }
    }
}
