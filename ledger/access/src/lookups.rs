//! The access log: who looked whom up, when, by which method and what for (W4).
//!
//! ```text
//!   call ──look-up──▶ journal ──▶ answer
//!                        └──every 20 ms, all of them──▶ one INSERT, one commit
//! ```
//!
//! No note, no answer: a call answers when its note is in the journal, which outlives the process
//! (`journal.rs`); one writer a process brings it to the table. When the table does not take it,
//! nobody is answered until it does. What must stay out: what was answered, and whether somebody may
//! look.

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use frikort_domain::PersonId;
use frikort_process::clock::Clock;
use frikort_proto::{error::Failure, v1::ErrorReason};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    Looking,
    access_log::Alike,
    journal::{Journal, Segment},
    note::{self, Note},
};

/// Persons whose look-ups may be in the journal alone, about; a call's own are never divided.
const WAITING: usize = 50_000;

/// How long notes are gathered for one commit.
const GATHER: Duration = Duration::from_millis(20);

/// How long the database may take for a commit.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause before what the table has not taken is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Stands for whoever is not found.
pub const NOBODY: PersonId = PersonId(Uuid::nil());

/// The access log, for who looks persons up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lookups {
    notes: Arc<Notes>,
    clock: Clock,
    /// Ends when all notes are in the table, or are left.
    written: watch::Receiver<()>,
}

/// Notes that the table does not have yet.
#[derive(Debug)]
struct Notes {
    waiting: Mutex<Waiting>,
    /// Says that some wait, or that there will be no more.
    come: Notify,
    /// The table has not taken the last ones.
    is_stuck: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    journal: Journal,
    /// How many persons' look-ups are in the journal's open file.
    persons: usize,
    /// Nobody notes any more.
    is_closed: bool,
}

impl Lookups {
    /// Starts the writer, which begins with what earlier processes left in `journal`, a directory. `pool`
    /// is its own, so that it never waits behind questions.
    pub fn start(journal: &Path, pool: PgPool, clock: Clock) -> anyhow::Result<Self> {
        let opened = Journal::open(journal).and_then(|opened| Ok((opened.left()?, opened)));
        let (left, journal) =
            opened.with_context(|| format!("no journal of look-ups in {}", journal.display()))?;
        let waiting = Waiting { journal, persons: 0, is_closed: false };
        let notes = Arc::new(Notes {
            waiting: Mutex::new(waiting),
            come: Notify::new(),
            is_stuck: AtomicBool::new(false),
        });
        let (writes, written) = watch::channel(());
        let lookups = Self { notes: notes.clone(), clock, written };
        tokio::spawn(async move {
            notes.write_all(&pool, left).await;
            drop(writes);
        });
        Ok(lookups)
    }

    /// Notes that persons are looked up. `asked` says what of them, as `year 2026`. A call that may
    /// not be noted must not be answered.
    pub fn note(&self, by: &Looking, asked: &str, persons: &[PersonId]) -> Result<(), Failure> {
        if persons.is_empty() {
            return Ok(());
        }
        let (caller, role) = (&by.who.name, by.who.role.name());
        let alike = Alike { caller, role, purpose: &by.purpose, method: by.method, asked };
        let note = Note::new(self.clock.now(), &alike, persons).ok_or_else(cannot_be_noted)?;
        let line = note.line().map_err(|_| cannot_be_noted())?;
        self.notes.add(&line, persons.len())
    }

    /// Takes no more notes, and brings those there are to the table. What it does not take now stays
    /// in the journal, for the next process.
    pub async fn close(mut self) {
        self.notes.lock().is_closed = true;
        self.notes.come.notify_one();
        // The writer says nothing, and ends.
        while self.written.changed().await.is_ok() {}
    }
}

fn cannot_be_noted() -> Failure {
    let why = "the look-up cannot be noted, so it is not answered; repeat the call";
    Failure::new(ErrorReason::StoreUnavailable, why)
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call's note to the journal.
    fn add(&self, line: &[u8], persons: usize) -> Result<(), Failure> {
        let mut waiting = self.lock();
        if waiting.is_closed || self.is_stuck.load(Ordering::Relaxed) {
            return Err(cannot_be_noted());
        }
        if waiting.persons >= WAITING {
            let full = "too many look-ups wait to be noted; repeat";
            return Err(Failure::new(ErrorReason::Overloaded, full));
        }
        let is_first = waiting.journal.is_empty();
        waiting.journal.add(line).map_err(|error| {
            tracing::warn!(%error, "a look-up cannot be written to the journal");
            cannot_be_noted()
        })?;
        waiting.persons += persons;
        drop(waiting);
        if is_first {
            self.come.notify_one();
        }
        Ok(())
    }

    /// Brings to the table what is left, and then what comes, until there will be no more.
    async fn write_all(&self, pool: &PgPool, left: Vec<Segment>) {
        for segment in left {
            if !self.lock().is_closed {
                self.bring(pool, &segment).await;
            }
        }
        loop {
            self.come.notified().await;
            sleep(GATHER).await;
            let (segment, is_closed) = self.take();
            if let Some(segment) = segment {
                self.bring(pool, &segment).await;
            }
            if is_closed {
                break;
            }
        }
        self.lock().journal.end();
    }

    /// What is in the journal, and whether nothing comes after it.
    fn take(&self) -> (Option<Segment>, bool) {
        let mut waiting = self.lock();
        if waiting.journal.is_empty() {
            return (None, waiting.is_closed);
        }
        let segment = waiting.journal.begin_another();
        let segment = segment.inspect_err(|error| {
            self.stick(error);
            self.come.notify_one();
        });
        if segment.is_ok() {
            waiting.persons = 0;
        }
        (segment.ok(), waiting.is_closed)
    }

    /// Brings notes to the table, however often that must be tried; once, when the process stops.
    async fn bring(&self, pool: &PgPool, segment: &Segment) {
        while let Err(error) = write(pool, segment).await {
            self.stick(&*error);
            if self.lock().is_closed {
                tracing::warn!("look-ups stay in the journal, for the next process");
                return;
            }
            sleep(AGAIN).await;
        }
        if self.is_stuck.swap(false, Ordering::Relaxed) {
            tracing::info!("look-ups can be noted again");
        }
    }

    /// Nobody is answered until the table takes notes again.
    fn stick(&self, error: &(dyn Error + 'static)) {
        if !self.is_stuck.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "look-ups cannot be noted");
        }
    }
}

/// Brings notes to the table, and removes their file.
async fn write(pool: &PgPool, segment: &Segment) -> anyhow::Result<()> {
    let lines = segment.read().context("the journal cannot be read")?;
    let (notes, unreadable) = note::read(&lines);
    if !notes.is_empty() {
        let rows = note::rows(segment.id, &notes);
        timeout(PATIENCE, rows.write(pool)).await.context("the database is slow")??;
    }
    if unreadable > 0 {
        let kept = segment.set_aside().context("the journal cannot be changed")?;
        tracing::error!(unreadable, file = %kept.display(), "what the journal holds is no look-up");
        return Ok(());
    }
    segment.remove().context("the journal cannot be changed")
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// A note of two persons, added to notes that no writer takes.
    fn adding(changed: impl FnOnce(&Notes)) -> Result<(), Failure> {
        let dir = tempfile::tempdir().unwrap();
        let waiting = Mutex::new(Waiting {
            journal: Journal::open(dir.path()).unwrap(),
            persons: 0,
            is_closed: false,
        });
        let notes = Notes { waiting, come: Notify::new(), is_stuck: AtomicBool::new(false) };
        changed(&notes);
        let added = notes.add(b"note\n", 2);
        assert_eq!(notes.lock().journal.is_empty(), added.is_err());
        added
    }

    #[test]
    fn where_there_can_be_no_note_nobody_is_answered() {
        let refused = |changed: fn(&Notes)| adding(changed).unwrap_err().reason;
        assert!(adding(|_| {}).is_ok());
        assert!(adding(|notes| notes.lock().persons = WAITING - 1).is_ok());
        let is_full = refused(|notes| notes.lock().persons = WAITING);
        assert_eq!(is_full, ErrorReason::Overloaded);
        let is_closed = refused(|notes| notes.lock().is_closed = true);
        assert_eq!(is_closed, ErrorReason::StoreUnavailable);
        let is_stuck = refused(|notes| notes.stick(&fmt::Error));
        assert_eq!(is_stuck, ErrorReason::StoreUnavailable);
    }
}
