//! Persons kept in memory, and only for as long as it is known that none of them was forgotten.
//!
//! How many persons were forgotten is read again and again; when it is another number, all that is
//! in memory is let go: that is seldom, and somebody who is asked for again is one read by key. And
//! while the number was not read lately (the database is away, the process hung), nothing in memory
//! is believed. So nobody is found here later than [`FORGOTTEN_WITHIN`] after they were forgotten,
//! whatever is lost on the way. A database that has gone back may lack persons who are in memory, so
//! all of them are let go, too, when a session with another server run was opened.
//!
//! What must stay out: notifications. They would make it quicker, and nothing may rest on them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use frikort_event_store::{ConnectionPool, DatabaseSessions, ServerRun};
use lru::LruCache;
use tokio::sync::watch;

use crate::{CprTag, Person};

/// Persons kept in memory, at about 130 bytes each.
const CACHED_PERSONS: NonZeroUsize = NonZeroUsize::new(200_000).expect("above zero");

/// After how long nobody finds a person who was forgotten, in whichever process.
pub const FORGOTTEN_WITHIN: Duration = Duration::from_secs(2);

/// How often it is asked how many were forgotten.
const LOOK: Duration = Duration::from_millis(500);

/// The persons that one process remembers.
#[derive(Debug)]
pub(crate) struct Memory {
    kept: Mutex<Kept>,
    /// Absent in tests of what is kept alone.
    sessions: Option<DatabaseSessions>,
}

#[derive(Debug)]
struct Kept {
    persons: LruCache<CprTag, Person>,
    as_of: AsOf,
    /// When the last reading of `as_of` began.
    read: Option<Instant>,
}

/// The state of the register that memory is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AsOf {
    /// How many were forgotten; `None` before that was read.
    forgotten: Option<i64>,
    /// The server run that it was read in.
    read_in: ServerRun,
}

impl Memory {
    /// Empty, and kept up as long as somebody holds it; and whether the last reading succeeded.
    /// `pool` is its own: a reading must not wait behind questions.
    pub(crate) fn start(
        sessions: DatabaseSessions,
        pool: ConnectionPool,
    ) -> (Arc<Self>, watch::Receiver<bool>) {
        let memory = Arc::new(Self::new(Some(sessions)));
        let (succeeds, sound) = watch::channel(false);
        tokio::spawn(keep_up(Arc::downgrade(&memory), pool, succeeds));
        (memory, sound)
    }

    fn new(sessions: Option<DatabaseSessions>) -> Self {
        let persons = LruCache::new(CACHED_PERSONS);
        let as_of = AsOf { forgotten: None, read_in: ServerRun::NONE };
        Self { kept: Mutex::new(Kept { persons, as_of, read: None }), sessions }
    }

    /// Who is remembered.
    pub(crate) fn recall(&self, tag: &CprTag) -> Option<Person> {
        self.believed(&mut self.kept())?.get(tag).copied()
    }

    /// The same of several, a place each.
    pub(crate) fn recall_all(&self, tags: &[CprTag]) -> Vec<Option<Person>> {
        let mut kept = self.kept();
        let mut persons = self.believed(&mut kept);
        tags.iter().map(|tag| persons.as_mut()?.get(tag).copied()).collect()
    }

    /// To be asked for before persons are read that are then to be remembered.
    pub(crate) fn as_of(&self) -> AsOf {
        self.kept().as_of
    }

    /// Remembers persons who were read after `as_of` was asked for; unless somebody was forgotten
    /// meanwhile, since it may be one of them.
    pub(crate) fn remember(&self, as_of: AsOf, read: impl Iterator<Item = (CprTag, Person)>) {
        let mut kept = self.kept();
        if kept.as_of == as_of {
            for (tag, person) in read {
                kept.persons.put(tag, person);
            }
        }
    }

    /// How many were forgotten, if that was read lately.
    pub(crate) fn forgotten(&self) -> Option<i64> {
        let mut kept = self.kept();
        self.believed(&mut kept)?;
        kept.as_of.forgotten
    }

    /// So many were forgotten, as was read in a server run from an instant on.
    fn learn(&self, forgotten: i64, read_in: ServerRun, began: Instant) {
        let mut kept = self.kept();
        let as_of = AsOf { forgotten: Some(forgotten), read_in };
        if kept.as_of != as_of {
            kept.persons.clear();
            kept.as_of = as_of;
        }
        kept.read = Some(began);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who are remembered, if it was looked at lately whether they were forgotten, and the
    /// database is known to be the one that they were read from.
    fn believed<'kept>(
        &self,
        kept: &'kept mut Kept,
    ) -> Option<&'kept mut LruCache<CprTag, Person>> {
        let (read, read_in) = (kept.read?, kept.as_of.read_in);
        let sessions = self.sessions.as_ref();
        let is_current = sessions.is_none_or(|sessions| sessions.can_answer_from_memory(read_in));
        (is_current && read.elapsed() < FORGOTTEN_WITHIN).then_some(&mut kept.persons)
    }
}

async fn keep_up(memory: Weak<Memory>, pool: ConnectionPool, succeeds: watch::Sender<bool>) {
    loop {
        let began = Instant::now();
        let Some(sessions) = memory.upgrade().and_then(|memory| memory.sessions.clone()) else {
            return;
        };
        let read_in = sessions.server_run();
        let read = tokio::select! {
            read = forgotten(&pool) => read,
            () = sessions.unreachable() => Err(sqlx::Error::PoolTimedOut),
        };
        let Some(memory) = memory.upgrade() else { return };
        succeeds.send_replace(read.is_ok());
        match read {
            // Read at once again where it may be the number of an earlier run or of a later one.
            Ok(_) if sessions.server_run() != read_in => continue,
            Ok(forgotten) => memory.learn(forgotten, read_in, began),
            Err(error) => tracing::debug!(%error, "whether somebody was forgotten is not known"),
        }
        drop(memory);
        tokio::time::sleep(LOOK).await;
    }
}

async fn forgotten(pool: &ConnectionPool) -> Result<i64, sqlx::Error> {
    let last = sqlx::query_scalar!("SELECT max(number) FROM register.forgotten");
    Ok(last.fetch_one(&mut *pool.acquire().await?).await?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use frikort_domain::PersonId;
    use uuid::Uuid;

    use super::*;

    const TAG: CprTag = [7; 32];

    fn person() -> Person {
        Person { id: PersonId(Uuid::nil()), partition: 0, read_in: ServerRun::NONE, salt: [0; 16] }
    }

    fn knows(memory: &Memory) -> bool {
        memory.recall(&TAG).is_some() && memory.recall_all(&[TAG])[0].is_some()
    }

    fn remember(memory: &Memory, as_of: AsOf) {
        memory.remember(as_of, [(TAG, person())].into_iter());
    }

    #[test]
    fn who_is_remembered_is_let_go_when_somebody_is_forgotten() {
        let memory = Memory::new(None);
        memory.learn(3, ServerRun::NONE, Instant::now());
        remember(&memory, memory.as_of());
        memory.learn(3, ServerRun::NONE, Instant::now());
        assert!(knows(&memory));
        memory.learn(4, ServerRun::NONE, Instant::now());
        assert!(!knows(&memory));
        // A backup was put back: what was forgotten after it is there again.
        remember(&memory, memory.as_of());
        memory.learn(2, ServerRun::NONE, Instant::now());
        assert!(!knows(&memory));
    }

    #[test]
    fn persons_who_were_read_in_another_server_run_are_let_go() {
        let memory = Memory::new(None);
        memory.learn(3, ServerRun::NONE, Instant::now());
        let before = memory.as_of();
        remember(&memory, before);
        assert!(knows(&memory));
        let later = ServerRun::NONE.next();
        memory.learn(3, later, Instant::now());
        assert!(!knows(&memory));
        remember(&memory, before);
        assert!(!knows(&memory));
    }

    #[test]
    fn who_was_read_before_somebody_was_forgotten_is_not_remembered_after() {
        let memory = Memory::new(None);
        memory.learn(3, ServerRun::NONE, Instant::now());
        let before = memory.as_of();
        memory.learn(4, ServerRun::NONE, Instant::now());
        remember(&memory, before);
        assert!(!knows(&memory));
    }

    #[test]
    fn nobody_is_believed_to_be_there_when_that_was_not_looked_at_lately() {
        let memory = Memory::new(None);
        remember(&memory, memory.as_of());
        assert!(!knows(&memory), "before the first reading");
        let Some(long_ago) = Instant::now().checked_sub(FORGOTTEN_WITHIN) else { return };
        memory.learn(0, ServerRun::NONE, long_ago);
        remember(&memory, memory.as_of());
        assert!(!knows(&memory));
        memory.learn(0, ServerRun::NONE, Instant::now());
        assert!(knows(&memory));
    }
}
