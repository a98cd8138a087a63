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

use std::{collections::HashMap, sync::Arc, time::Duration};

use frikort_domain::PersonId;
use frikort_process::{clock::Clock, lane::Lane};
use frikort_proto::{error::Failure, v1::ErrorReason};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

use crate::{Caller, Looking};

/// Calls that may wait for their note.
const WAITING: usize = 8192;

/// Persons that are noted with one commit, about; a call's own are never divided.
const TOGETHER: usize = 20_000;

/// How long a call waits for its note.
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
    noted: oneshot::Sender<bool>,
    /// Where the call waits.
    lane: Option<Lane>,
}

/// What the look-ups of one row have in common.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    caller: Arc<Caller>,
    method: &'static str,
    purpose: Arc<str>,
    asked: String,
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
        let (noted, done) = oneshot::channel();
        let (at, lane) = (self.clock.now(), Lane::current());
        let note = Note { by: by.clone(), asked, at, persons, noted, lane };
        self.notes.try_send(note).map_err(|_| {
            Failure::new(ErrorReason::Overloaded, "too many look-ups wait to be noted; repeat")
        })?;
        match timeout(PATIENCE, done).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(Failure::new(
                ErrorReason::StoreUnavailable,
                "the look-up cannot be noted, so it is not answered; repeat the call",
            )),
        }
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
        let written = write(&pool, &notes).await;
        if let Err(error) = &written {
            tracing::warn!(error = error as &dyn std::error::Error, "look-ups cannot be noted");
        }
        tell(notes.drain(..), written.is_ok());
    }
}

/// Lets the calls go on, with one errand a lane: woken one by one, each would be a wake-up of its own.
fn tell(notes: impl Iterator<Item = Note>, is_written: bool) {
    let mut lanes: Vec<(Lane, Vec<oneshot::Sender<bool>>)> = Vec::new();
    for Note { noted, lane, .. } in notes {
        let Some(lane) = lane else {
            // Whoever waits no more has given no answer either.
            let _ = noted.send(is_written);
            continue;
        };
        match lanes.iter_mut().find(|(known, _)| known.number() == lane.number()) {
            Some((_, waiting)) => waiting.push(noted),
            None => lanes.push((lane, vec![noted])),
        }
    }
    for (lane, waiting) in lanes {
        lane.run(move || {
            for noted in waiting {
                let _ = noted.send(is_written);
            }
        });
    }
}

/// One row for what is alike, in one statement.
async fn write(pool: &PgPool, notes: &[Note]) -> Result<(), sqlx::Error> {
    let mut kinds: HashMap<Kind, Vec<&Note>> = HashMap::new();
    for note in notes {
        let Looking { who, method, purpose } = note.by.clone();
        let kind = Kind { caller: who, method, purpose, asked: note.asked.clone() };
        kinds.entry(kind).or_default().push(note);
    }
    let mut rows = Rows::default();
    for (kind, notes) in kinds {
        let before = rows.persons.len();
        for note in notes {
            rows.persons.extend(note.persons.iter().map(|person| person.0));
            rows.times.extend(std::iter::repeat_n(note.at, note.persons.len()));
        }
        rows.callers.push(kind.caller.name.clone());
        rows.roles.push(kind.caller.role.name().to_owned());
        rows.purposes.push(kind.purpose.to_string());
        rows.methods.push(kind.method.to_owned());
        rows.asked.push(kind.asked);
        // The places in an array of SQL, which begins with 1.
        rows.firsts.push(place(before + 1));
        rows.lasts.push(place(rows.persons.len()));
    }
    let last = rows.times.iter().max().copied();
    sqlx::query!(
        "INSERT INTO access.lookup
             (noted_at, lookup_id, caller, role, purpose, method, asked, times, persons)
         SELECT $10, gen_random_uuid(), r.caller, r.role, r.purpose, r.method, r.asked,
                ($8::timestamptz[])[r.first:r.last], ($9::uuid[])[r.first:r.last]
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[],
                     $7::integer[])
              AS r (caller, role, purpose, method, asked, first, last)",
        &rows.callers,
        &rows.roles,
        &rows.purposes,
        &rows.methods,
        &rows.asked,
        &rows.firsts,
        &rows.lasts,
        &rows.times,
        &rows.persons,
        last
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Rows, column by column; persons and times of all of them one after the other.
#[derive(Default)]
struct Rows {
    callers: Vec<String>,
    roles: Vec<String>,
    purposes: Vec<String>,
    methods: Vec<String>,
    asked: Vec<String>,
    firsts: Vec<i32>,
    lasts: Vec<i32>,
    times: Vec<OffsetDateTime>,
    persons: Vec<Uuid>,
}

fn place(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}
