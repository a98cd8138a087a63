//! The access log: who looked whom up, when, by which method and what for (W4).
//!
//! ```text
//!   call ──look-up──▶ waiting ──all of them──▶ one INSERT, one commit ──▶ the calls answer
//! ```
//!
//! No note, no answer: a call answers when its note is durable, and may read meanwhile. One writer a
//! process takes whatever waits, so a commit is shared by all who came while the one before was under
//! way, and by those who come in the moment after; and what is alike in all but person and time is one
//! row. What must stay out: what was answered, and whether somebody may look.

use std::{
    collections::HashMap,
    error::Error,
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
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
use tokio::{runtime::Builder, sync::oneshot::Receiver, time::timeout};
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

/// How long a commit waits at most for enough to come along: one for a few costs nearly as much as
/// one for all.
const GATHER: Duration = Duration::from_micros(200);

/// The access log, for who looks persons up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lookups {
    waiting: Arc<Open>,
    clock: Clock,
}

/// Notes that no commit has taken along yet.
#[derive(Debug, Default)]
struct Waiting {
    queue: Mutex<Queue>,
    /// Says that notes wait, that enough do, or that there will be none any more.
    come: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order in which they came.
    notes: Vec<Note>,
    /// How many are worth a commit at once.
    enough: usize,
    /// Nobody notes any more, or nobody writes.
    is_closed: bool,
}

/// One end of it, which closes it when dropped: whoever still waits is refused.
#[derive(Debug)]
struct Open(Arc<Waiting>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        queue.notes.clear();
        self.0.come.notify_one();
    }
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
    /// Starts the writer, on a thread of its own, since everybody waits for each of its steps; it
    /// ends with the last of us. `pool` is its own, so that a note never waits behind questions.
    pub fn start(pool: PgPool, clock: Clock) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let waiting = Arc::new(Waiting::default());
        let open = Open(waiting.clone());
        thread::Builder::new().name("lookups".to_owned()).spawn(move || {
            while let Some(notes) = open.0.take() {
                let is_written = runtime.block_on(write(&pool, &notes));
                open.0.committed(notes.len());
                answer_all(notes.into_iter().map(|note| (note.noted, is_written)));
            }
        })?;
        Ok(Self { waiting: Arc::new(Open(waiting)), clock })
    }

    /// Notes that persons are looked up; returns when that is durable. `asked` says what of them, as
    /// `year 2026`. A call that may not be noted must not be answered.
    pub async fn note(
        &self,
        by: &Looking,
        asked: String,
        persons: Vec<PersonId>,
    ) -> Result<(), Failure> {
        self.begin(by, asked, persons)?.done().await
    }

    /// The same, begun: what is answered may be read meanwhile.
    pub fn begin(
        &self,
        by: &Looking,
        asked: String,
        persons: Vec<PersonId>,
    ) -> Result<Noting, Failure> {
        if persons.is_empty() {
            return Ok(Noting(None));
        }
        let (noted, is_noted) = ReplyTo::here();
        let note = Note { by: by.clone(), asked, at: self.clock.now(), persons, noted };
        self.waiting.0.push(note)?;
        Ok(Noting(Some(is_noted)))
    }
}

/// A look-up that is being noted. Whether it will be is not known, so nothing may be answered yet.
#[must_use = "what is looked up may be told when it is noted"]
#[derive(Debug)]
pub struct Noting(Option<Receiver<bool>>);

impl Noting {
    /// Makes the answer while the look-up is noted, and gives it when that is durable.
    pub async fn before<T, E: From<Failure>>(
        self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let answer = answer.await;
        self.done().await?;
        answer
    }

    async fn done(self) -> Result<(), Failure> {
        let Some(is_noted) = self.0 else { return Ok(()) };
        if is_noted.await.unwrap_or(false) { Ok(()) } else { Err(cannot_be_noted()) }
    }
}

fn cannot_be_noted() -> Failure {
    let why = "the look-up cannot be noted, so it is not answered; repeat the call";
    Failure::new(ErrorReason::StoreUnavailable, why)
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, note: Note) -> Result<(), Failure> {
        let mut queue = self.lock();
        if queue.is_closed {
            return Err(cannot_be_noted());
        }
        if queue.notes.len() == WAITING {
            let full = "too many look-ups wait to be noted; repeat";
            return Err(Failure::new(ErrorReason::Overloaded, full));
        }
        queue.notes.push(note);
        let waiting = queue.notes.len();
        if waiting == 1 || waiting == queue.enough {
            drop(queue);
            self.come.notify_one();
        }
        Ok(())
    }

    /// Waits for what goes into the next commit, and takes it: all of it, in usual times. `None` when
    /// there will be none any more.
    fn take(&self) -> Option<Vec<Note>> {
        let none = |queue: &mut Queue| queue.notes.is_empty() && !queue.is_closed;
        let few = |queue: &mut Queue| queue.notes.len() < queue.enough && !queue.is_closed;
        let queue = self.come.wait_while(self.lock(), none).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.come.wait_timeout_while(queue, GATHER, few);
        let (mut queue, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let mut persons = 0;
        let before = |note: &Note| {
            let is_room = persons < TOGETHER;
            persons += note.persons.len();
            is_room
        };
        let taken = queue.notes.iter().map(before).take_while(|is_room| *is_room).count();
        let later = queue.notes.split_off(taken);
        let notes = mem::replace(&mut queue.notes, later);
        (!notes.is_empty()).then_some(notes)
    }

    /// A commit of so many is done. Whoever it was for will ask again, and whoever waits has come
    /// meanwhile: somewhat more than half of them all are enough, and the others are at work while
    /// these commit.
    fn committed(&self, together: usize) {
        let mut queue = self.lock();
        queue.enough = (together + queue.notes.len()) * 3 / 5;
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::Caller;

    fn note() -> (Note, Receiver<bool>) {
        let (noted, is_noted) = ReplyTo::here();
        let (who, purpose) = (Caller::local(), "OPERATION".into());
        let by = Looking { who, method: "AllowanceService/GetAllowance", purpose };
        let (asked, at) = ("year 2026".to_owned(), OffsetDateTime::UNIX_EPOCH);
        (Note { by, asked, at, persons: vec![NOBODY], noted }, is_noted)
    }

    fn push(waiting: &Waiting, notes: usize) -> Vec<Receiver<bool>> {
        let notes = (0..notes).map(|_| note());
        notes.map(|(note, is_noted)| (waiting.push(note).unwrap(), is_noted).1).collect()
    }

    #[test]
    fn one_goes_at_once_and_after_many_so_many_are_waited_for() {
        let waiting = Waiting::default();
        let _callers = push(&waiting, 1);
        assert_eq!(waiting.take().unwrap().len(), 1);
        // Ten were committed, and ten have come meanwhile.
        let _callers = push(&waiting, 10);
        waiting.committed(10);
        assert_eq!(waiting.lock().enough, 12);
        // No more come: they go all the same.
        assert_eq!(waiting.take().unwrap().len(), 10);
    }

    #[test]
    fn what_is_above_the_bound_of_a_commit_waits_for_the_next() {
        let waiting = Waiting::default();
        let (mut many, _caller) = note();
        many.persons = vec![NOBODY; TOGETHER];
        waiting.push(many).unwrap();
        let _callers = push(&waiting, 3);
        assert_eq!(waiting.take().unwrap().len(), 1);
        assert_eq!(waiting.take().unwrap().len(), 3);
    }

    #[test]
    fn without_a_writer_everybody_is_refused_and_nobody_waits() {
        let waiting = Arc::new(Waiting::default());
        let writer = Open(waiting.clone());
        let mut callers = push(&waiting, 2);
        drop(writer);
        for is_noted in &mut callers {
            assert_eq!(is_noted.try_recv(), Err(TryRecvError::Closed));
        }
        let refused = waiting.push(note().0).unwrap_err();
        assert_eq!(refused.reason, ErrorReason::StoreUnavailable);
        assert!(waiting.take().is_none());
    }

    #[tokio::test]
    async fn an_answer_that_is_ready_waits_for_its_note_and_goes_nowhere_without() {
        for (noted, ready, told) in [
            (Some(true), Ok(7), Ok(7)),
            (Some(true), Err(ErrorReason::NoCard), Err(ErrorReason::NoCard)),
            (Some(false), Ok(7), Err(ErrorReason::StoreUnavailable)),
            (Some(false), Err(ErrorReason::NoCard), Err(ErrorReason::StoreUnavailable)),
            (None, Ok(7), Err(ErrorReason::StoreUnavailable)),
        ] {
            let (to, is_noted) = ReplyTo::here();
            let answer = async { ready.map_err(|reason| Failure::new(reason, "")) };
            let mut answer = pin!(Noting(Some(is_noted)).before(answer));
            assert!(poll!(&mut answer).is_pending());
            match noted {
                Some(noted) => to.send(noted),
                None => drop(to),
            }
            assert_eq!(answer.await.map_err(|failure| failure.reason), told);
        }
    }

    #[test]
    fn the_writer_ends_when_nobody_notes_any_more() {
        let waiting = Arc::new(Waiting::default());
        let callers = Open(waiting.clone());
        let writer = thread::spawn(move || waiting.take().is_none());
        drop(callers);
        assert!(writer.join().unwrap());
    }
}
