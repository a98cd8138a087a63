//! The access log: who looked whom up, when, by which method and what for (W4).
//!
//! ```text
//!   call ──look-up──▶ waiting ──all of them──▶ one INSERT, one commit ──▶ the calls answer
//! ```
//!
//! No note, no answer: a call answers when its note is durable. One writer a process takes whatever
//! waits, so a commit is shared by all who came while the one before was under way; and what is alike
//! in all but person and time is one row. What must stay out: what was answered, and whether somebody
//! may look.

use std::{
    collections::HashMap,
    error::Error,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use frikort_domain::PersonId;
use frikort_process::{
    clock::Clock,
    lane::{ReplyTo, answer_all},
};
use frikort_proto::{error::Failure, v1::ErrorReason};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

use crate::{
    Looking,
    access_log::{Alike, Rows},
};

/// Calls that may wait for their note.
const WAITING: usize = 8192;

/// Persons that are noted with one commit, about; a call's own are never divided.
const TOGETHER: usize = 20_000;

/// How long the database may take for a commit. Whoever calls waits for the one under way, and for
/// its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// The access log, for who looks persons up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lookups {
    waiting: Waiting,
    /// Says that notes wait. Closed with the last of us.
    wake: mpsc::Sender<()>,
    clock: Clock,
}

/// Notes that no commit has taken along yet, in the order in which they came.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<Vec<Note>>>);

/// The look-ups of one call.
#[derive(Debug)]
struct Note {
    by: Looking,
    asked: String,
    at: OffsetDateTime,
    persons: Vec<PersonId>,
    /// Whether it is durable.
    noted: ReplyTo<bool>,
}

/// Stands for whoever is not found.
pub const NOBODY: PersonId = PersonId(Uuid::nil());

impl Lookups {
    /// Starts the writer; it ends with the last of us. `pool` is its own, so that a note never waits
    /// behind questions.
    pub fn start(pool: PgPool, clock: Clock) -> Self {
        let (wake, woken) = mpsc::channel(1);
        let waiting = Waiting::default();
        tokio::spawn(write_all(pool, waiting.clone(), woken));
        Self { waiting, wake, clock }
    }

    /// Notes that persons are looked up; returns when that is durable. `asked` says what of them, as
    /// `year 2026`. A call that may not be noted must not be answered.
    pub async fn note(
        &self,
        by: &Looking,
        asked: String,
        persons: Vec<PersonId>,
    ) -> Result<(), Failure> {
        if persons.is_empty() {
            return Ok(());
        }
        let (noted, is_noted) = ReplyTo::here();
        let note = Note { by: by.clone(), asked, at: self.clock.now(), persons, noted };
        if self.waiting.push(note)? {
            // After the tasks of this thread that can run: what they note goes along.
            let wake = Wake(self.wake.clone());
            tokio::spawn(async move { drop(wake) });
        }
        if is_noted.await.unwrap_or(false) {
            return Ok(());
        }
        Err(Failure::new(
            ErrorReason::StoreUnavailable,
            "the look-up cannot be noted, so it is not answered; repeat the call",
        ))
    }
}

/// Wakes the writer when dropped: also where the thread ends before it comes to that.
struct Wake(mpsc::Sender<()>);

impl Drop for Wake {
    fn drop(&mut self) {
        // Full: it is awake.
        let _ = self.0.try_send(());
    }
}

impl Waiting {
    /// Adds a note, and says whether it is the first.
    fn push(&self, note: Note) -> Result<bool, Failure> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == WAITING {
            let full = "too many look-ups wait to be noted; repeat";
            return Err(Failure::new(ErrorReason::Overloaded, full));
        }
        notes.push(note);
        Ok(notes.len() == 1)
    }

    /// Takes what goes into one commit: all of it, in usual times.
    fn take(&self) -> Vec<Note> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut persons = 0;
        let before = |note: &Note| {
            let is_room = persons < TOGETHER;
            persons += note.persons.len();
            is_room
        };
        let taken = notes.iter().map(before).take_while(|is_room| *is_room).count();
        let later = notes.split_off(taken);
        mem::replace(&mut *notes, later)
    }
}

async fn write_all(pool: PgPool, waiting: Waiting, mut woken: mpsc::Receiver<()>) {
    while woken.recv().await.is_some() {
        loop {
            let notes = waiting.take();
            if notes.is_empty() {
                break;
            }
            let is_written = write(&pool, &notes).await;
            answer_all(notes.into_iter().map(|note| (note.noted, is_written)));
        }
    }
}

/// Whether it is durable.
async fn write(pool: &PgPool, notes: &[Note]) -> bool {
    let rows = rows(notes);
    let written = timeout(PATIENCE, rows.write(pool)).await;
    let error: &dyn Error = match &written {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error,
        Err(late) => late,
    };
    tracing::warn!(error, "look-ups cannot be noted");
    false
}

/// One row for what is alike.
fn rows(notes: &[Note]) -> Rows {
    let mut kinds: HashMap<_, Vec<&Note>> = HashMap::new();
    for note in notes {
        let Looking { who, method, purpose } = &note.by;
        // A caller that was read anew from its file meanwhile is another one here.
        let who: *const _ = &raw const **who;
        kinds.entry((who, *method, &**purpose, &*note.asked)).or_default().push(note);
    }
    let mut rows = Rows::default();
    for ((_, method, purpose, asked), notes) in kinds {
        let Some(Note { by: Looking { who, .. }, .. }) = notes.first() else { continue };
        let alike = Alike { caller: &who.name, role: who.role.name(), purpose, method, asked };
        let each = notes.iter().flat_map(|note| note.persons.iter().map(|who| (note.at, *who)));
        rows.add(&alike, each);
    }
    rows
}
