//! The access log: who looked whom up, when, by which method and what for (W4).
//!
//! ```text
//!   call ──look-up──▶ its lane ──all of them──▶ journal ──▶ answers
//!                                                └──every 20 ms──▶ one INSERT, one commit
//! ```
//!
//! No note, no answer: what a lane notes is in the journal, which outlives the process (`journal.rs`),
//! before its connections send more; one writer a process brings it to the table. When either does not
//! take it, nobody is answered until it does. What must stay out: what was answered, and whether somebody may
//! look.

use std::{
    cell::RefCell,
    error::Error,
    mem,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use frikort_domain::PersonId;
use frikort_event_store::ConnectionPool;
use frikort_process::{clock::Clock, lane};
use frikort_proto::{error::Failure, v1::ErrorReason};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    Looking,
    access_log::Rows,
    journal::{Journal, Segment},
    note::{self, Alike, Note},
};

/// Persons whose look-ups may be in the journal alone, about; a call's own are never divided.
const WAITING: usize = 50_000;

/// How long notes are gathered for one commit.
const GATHER: Duration = Duration::from_millis(20);

/// How long the database may take for a commit.
const PATIENCE: Duration = Duration::from_millis(1500);

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
    /// How many persons' look-ups have come since the writer took the last ones, about.
    persons: AtomicUsize,
    /// Says that some wait, or that there will be no more.
    come: Notify,
    /// The journal, or the table, has not taken the last ones.
    is_stuck: AtomicBool,
    /// Mirrors `is_stuck` for health checks.
    sound: watch::Sender<bool>,
    /// Nobody notes any more.
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    journal: Journal,
    /// What the journal has not taken. Nobody was answered for it.
    unwritten: Vec<u8>,
}

thread_local! {
    /// What this lane writes to the journal before its connections send more.
    static HELD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Lookups {
    /// Starts the writer, which begins with what earlier processes left in `journal`, a directory. `pool`
    /// is its own, so that it never waits behind questions.
    pub fn start(journal: &Path, pool: ConnectionPool, clock: Clock) -> anyhow::Result<Self> {
        let opened = Journal::open(journal).and_then(|opened| Ok((opened.left()?, opened)));
        let (left, journal) =
            opened.with_context(|| format!("no journal of look-ups in {}", journal.display()))?;
        let notes = Arc::new(Notes::begin(journal));
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

    /// Whether lookups can be recorded. While they cannot, no question about a person is answered.
    pub fn sound(&self) -> watch::Receiver<bool> {
        self.notes.sound.subscribe()
    }

    /// Takes no more notes, and brings those there are to the table. What it does not take now stays
    /// in the journal, for the next process.
    pub async fn close(mut self) {
        self.notes.is_closed.store(true, Ordering::Relaxed);
        self.notes.come.notify_one();
        // The writer says nothing, and ends.
        while self.written.changed().await.is_ok() {}
    }
}

fn cannot_be_noted() -> Failure {
    let why = "the look-up cannot be noted, so it is not answered; repeat the call";
    Failure::new(ErrorReason::StoreUnavailable, why)
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.journal.is_empty() && self.unwritten.is_empty()
    }
}

impl Notes {
    fn begin(journal: Journal) -> Self {
        Self {
            waiting: Mutex::new(Waiting { journal, unwritten: Vec::new() }),
            persons: AtomicUsize::new(0),
            come: Notify::new(),
            is_stuck: AtomicBool::new(false),
            sound: watch::Sender::new(true),
            is_closed: AtomicBool::new(false),
        }
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call's note: on a lane to what that writes to the journal before any answer leaves, elsewhere
    /// to the journal.
    fn add(self: &Arc<Self>, line: &[u8], persons: usize) -> Result<(), Failure> {
        if self.is_closed() || self.is_stuck() {
            return Err(cannot_be_noted());
        }
        let and_these = |waiting| (waiting < WAITING).then_some(waiting + persons);
        if self.persons.fetch_update(Ordering::Relaxed, Ordering::Relaxed, and_these).is_err() {
            let full = "too many look-ups wait to be noted; repeat";
            return Err(Failure::new(ErrorReason::Overloaded, full));
        }
        if !lane::is_here() {
            return if self.write(line) { Ok(()) } else { Err(cannot_be_noted()) };
        }
        let is_first = HELD.with_borrow_mut(|held| {
            held.extend(line);
            held.len() == line.len()
        });
        if is_first {
            let notes = self.clone();
            lane::before_sending(move || notes.write(&HELD.take()));
        }
        Ok(())
    }

    /// Writes notes to the journal. Those that it does not take are tried again, and meanwhile nobody is
    /// answered.
    fn write(&self, lines: &[u8]) -> bool {
        let mut waiting = self.lock();
        let is_first = waiting.is_empty();
        let written = waiting.journal.add(lines);
        if let Err(error) = &written {
            waiting.unwritten.extend(lines);
            self.stick(error);
        }
        drop(waiting);
        if is_first {
            self.come.notify_one();
        }
        written.is_ok()
    }

    /// Brings to the table what is left, and then what comes, until there will be no more.
    async fn write_all(&self, pool: &ConnectionPool, left: Vec<Segment>) {
        for segment in left {
            if !self.is_closed() {
                self.bring(pool, &segment).await;
            }
        }
        loop {
            // What waits when it is stuck is brought before anybody is answered again: notes of one file
            // are of about one time.
            if !self.is_stuck() {
                self.come.notified().await;
            }
            sleep(GATHER).await;
            let (segment, is_closed) = self.take();
            if let Some(segment) = segment {
                self.bring(pool, &segment).await;
            }
            self.go_on();
            if is_closed {
                break;
            }
        }
        self.lock().journal.end();
    }

    /// What is in the journal, and whether nothing comes after it.
    fn take(&self) -> (Option<Segment>, bool) {
        let is_closed = self.is_closed();
        self.persons.store(0, Ordering::Relaxed);
        let dir = {
            let waiting = self.lock();
            if waiting.is_empty() {
                return (None, is_closed);
            }
            waiting.journal.dir().to_owned()
        };
        // Created without the lock: it may take milliseconds, and a worker that waits for the lock
        // serves none of its connections.
        let next = Segment::create(&dir);
        let mut waiting = self.lock();
        let segment = next.map(|next| waiting.journal.go_on_with(next));
        let unwritten = mem::take(&mut waiting.unwritten);
        let written = waiting.journal.add(&unwritten);
        if written.is_err() {
            waiting.unwritten = unwritten;
        }
        if let Some(error) = segment.as_ref().err().or(written.as_ref().err()) {
            self.stick(error);
        }
        (segment.ok(), is_closed)
    }

    /// Brings notes to the table, however often that must be tried; once, when the process stops.
    async fn bring(&self, pool: &ConnectionPool, segment: &Segment) {
        // The first failure may be that of a session that was ended; the next attempt has another one.
        let mut is_first = true;
        while let Err(error) = write(pool, segment).await {
            if mem::take(&mut is_first) {
                continue;
            }
            self.stick(&*error);
            if self.is_closed() {
                tracing::warn!("look-ups stay in the journal, for the next process");
                return;
            }
            sleep(AGAIN).await;
        }
    }

    /// Answers again, if nothing waits any more.
    fn go_on(&self) {
        let waiting = self.lock();
        if waiting.is_empty() && self.is_stuck.swap(false, Ordering::Relaxed) {
            self.sound.send_replace(true);
            tracing::info!("look-ups can be noted again");
        }
    }

    /// Nobody is answered until what waits is in the table.
    fn stick(&self, error: &(dyn Error + 'static)) {
        if !self.is_stuck.swap(true, Ordering::Relaxed) {
            self.sound.send_replace(false);
            tracing::warn!(error, "look-ups cannot be noted");
        }
    }
}

/// Brings notes to the table, and removes their file.
async fn write(pool: &ConnectionPool, segment: &Segment) -> anyhow::Result<()> {
    let lines = segment.read().context("the journal cannot be read")?;
    let (notes, unreadable) = note::read(&lines);
    if !notes.is_empty() {
        let rows = Rows::of(segment.id, &notes);
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

    fn begin() -> (tempfile::TempDir, Arc<Notes>) {
        let dir = tempfile::tempdir().unwrap();
        let notes = Arc::new(Notes::begin(Journal::open(dir.path()).unwrap()));
        (dir, notes)
    }

    /// A note of two persons, added to notes that no writer takes.
    fn adding(changed: impl FnOnce(&Notes)) -> Result<(), Failure> {
        let (_dir, notes) = begin();
        changed(&notes);
        let added = notes.add(b"note\n", 2);
        assert_eq!(notes.lock().is_empty(), added.is_err());
        added
    }

    #[test]
    fn where_there_can_be_no_note_nobody_is_answered() {
        let refused = |changed: fn(&Notes)| adding(changed).unwrap_err().reason;
        assert!(adding(|_| {}).is_ok());
        assert!(adding(|notes| notes.persons.store(WAITING - 1, Ordering::Relaxed)).is_ok());
        let is_full = refused(|notes| notes.persons.store(WAITING, Ordering::Relaxed));
        assert_eq!(is_full, ErrorReason::Overloaded);
        let is_closed = refused(|notes| notes.is_closed.store(true, Ordering::Relaxed));
        assert_eq!(is_closed, ErrorReason::StoreUnavailable);
        let is_stuck = refused(|notes| notes.stick(&fmt::Error));
        assert_eq!(is_stuck, ErrorReason::StoreUnavailable);
    }

    #[test]
    fn what_the_journal_does_not_take_is_refused_and_tried_again() {
        let (_dir, notes) = begin();
        notes.add(b"one\n", 1).unwrap();
        notes.lock().journal.break_off();
        assert_eq!(notes.add(b"two\n", 1).unwrap_err().reason, ErrorReason::StoreUnavailable);
        assert_eq!(notes.add(b"three\n", 1).unwrap_err().reason, ErrorReason::StoreUnavailable);
        let (first, _) = notes.take();
        let (second, _) = notes.take();
        let read = |segment: Option<Segment>| segment.unwrap().read().unwrap();
        assert_eq!((read(first), read(second)), (b"one\n".to_vec(), b"two\n".to_vec()));
        assert!(notes.take().0.is_none());
    }
}
