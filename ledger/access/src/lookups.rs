//! The access log: who looked whom up, when, by which method and what for (W4).
//!
//! ```text
//!   call ──look-up──▶ queue ──all that waits──▶ one INSERT, one commit ──▶ the calls answer
//! ```
//!
//! No note, no answer: a call answers when its note is durable. One writer a process takes whatever
//! waits, so a commit is shared by all who came while the one before was under way; and what is alike
//! in all but person and time is one row. What must stay out: what was answered, and whether somebody
//! may look.

use std::{collections::HashMap, error::Error, time::Duration};

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
    notes: mpsc::Sender<Note>,
    clock: Clock,
}

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
        let (notes, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write_all(pool, waiting));
        Self { notes, clock }
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
        self.notes.try_send(note).map_err(|_| {
            Failure::new(ErrorReason::Overloaded, "too many look-ups wait to be noted; repeat")
        })?;
        if is_noted.await.unwrap_or(false) {
            return Ok(());
        }
        Err(Failure::new(
            ErrorReason::StoreUnavailable,
            "the look-up cannot be noted, so it is not answered; repeat the call",
        ))
    }
}

async fn write_all(pool: PgPool, mut waiting: mpsc::Receiver<Note>) {
    let mut notes = Vec::new();
    while let Some(first) = waiting.recv().await {
        let mut persons = first.persons.len();
        notes.push(first);
        while persons < TOGETHER
            && let Ok(next) = waiting.try_recv()
        {
            persons += next.persons.len();
            notes.push(next);
        }
        let is_written = write(&pool, &notes).await;
        answer_all(notes.drain(..).map(|note| (note.noted, is_written)));
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
