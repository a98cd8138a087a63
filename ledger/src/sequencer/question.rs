//! What a partition is asked, what it answers, and the way to it.

use frikort_domain::{
    Account, Actor, Card, Command, FrikortTag, LimitEntry, LimitSchedule, PaymentKey,
    PaymentOutcome, PaymentState, PersonId, RecordedDecision, Rejection,
};
use frikort_event_store::ServerRun;
use frikort_process::lane::ReplyTo;
use frikort_register::{NewNumber, Person};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// Requests that may wait for one partition. A full queue answers `OVERLOADED` at once.
const QUEUE: usize = 8192;

/// One question to a partition.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    /// Answer what would happen, and record nothing.
    pub(crate) validate_only: bool,
    pub(crate) actor: Actor,
    pub(crate) trace_id: Option<String>,
    pub(crate) reply: ReplyTo<Reply>,
}

#[derive(Debug)]
pub(crate) enum Ask {
    /// Decide a command about a person.
    Command(Subject, Command),
    /// The same of a change of the CPR number, which is entered in the register with the event.
    ChangeNumber(Subject, Command, Box<NewNumber>),
    /// The card as it is now, and its decisions, of the person who has this Frikort-ID, where one is given.
    Card(Subject, Option<FrikortTag>),
    /// The account as it is now, to try commands on.
    Account(Subject),
    /// Record a limit in this partition.
    SetLimit(LimitEntry),
    /// Record a limit that other partitions have, if it becomes this version of the partition's own
    /// stream; answered as `Overloaded` otherwise.
    CompleteLimit { entry: LimitEntry, version: i64 },
    /// The limits on record.
    Limits,
    /// Nothing; answered when whatever was committed before is on a synchronous standby too, where there
    /// is one.
    Cover,
}

/// Whom a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) person: PersonId,
    /// The newest server run when the person was found in the register; absent where the person was
    /// not looked up there.
    pub(crate) read_in: Option<ServerRun>,
}

impl From<&Person> for Subject {
    fn from(person: &Person) -> Self {
        Self { person: person.id, read_in: Some(person.read_in) }
    }
}

impl From<PersonId> for Subject {
    fn from(person: PersonId) -> Self {
        Self { person, read_in: None }
    }
}

pub(crate) type Reply = Result<Answer, Refused>;

/// What a caller is told.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Where it was recorded, or as of which position it is said.
    pub(crate) position: i64,
    pub(crate) recorded_at: Option<OffsetDateTime>,
    /// It had been recorded before.
    pub(crate) replayed: bool,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// A payment as it was recorded. With its present revision, where a repeated report was changed since.
    Payment(PaymentOutcome, Option<u32>),
    /// The card, which a rejected application has none of, and the accepted payments that lie
    /// after it.
    Card(Option<Card>, Vec<(PaymentKey, PaymentState)>),
    /// The card, and the decisions that made it.
    Case(Card, Vec<RecordedDecision>),
    /// The person's splits are as the limits make them.
    Settled,
    Account(Box<Account>),
    Limit,
    Limits(LimitSchedule),
    Covered,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// A rule. Nothing was recorded.
    Rejected(Rejection),
    /// The new CPR number leads to somebody already, or its person was forgotten. Nothing was
    /// recorded.
    NumberTaken,
    /// A queue is full, or other ledgers were quicker for too long. Nothing was recorded.
    Overloaded,
    /// The database is away; the outcome may be unknown.
    StoreUnavailable,
    /// Acknowledged events are lost, and no operator has accepted that. Nothing was recorded.
    HistoryChanged,
    /// The clock is not to be believed. Nothing was recorded.
    ClockOff,
    /// The process is stopping. Nothing was recorded.
    ShuttingDown,
    /// A fault of ours, in the log.
    Internal,
}

/// The way to a partition's sequencer.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    queue: mpsc::Sender<Request>,
}

impl Handle {
    /// A queue's two ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (queue, requests) = mpsc::channel(QUEUE);
        (Self { queue }, requests)
    }

    /// Asks, or is refused at once when the queue is full.
    pub(crate) async fn ask(
        &self,
        ask: Ask,
        validate_only: bool,
        actor: Actor,
        trace_id: Option<String>,
    ) -> Reply {
        let (reply, answer) = ReplyTo::here();
        let request = Request { ask, validate_only, actor, trace_id, reply };
        self.queue.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Refused::ShuttingDown,
        })?;
        answer.await.unwrap_or(Err(Refused::Internal))
    }

    /// Asks, waiting for room.
    pub(crate) async fn ask_in_turn(&self, ask: Ask, actor: Actor) -> Reply {
        let (reply, answer) = ReplyTo::here();
        self.hand_in(Request { ask, validate_only: false, actor, trace_id: None, reply }).await;
        answer.await.unwrap_or(Err(Refused::Internal))
    }

    /// Hands in a request of a stream, waiting for room: a stream slows its sender down instead.
    pub(crate) async fn hand_in(&self, request: Request) {
        if let Err(mpsc::error::SendError(request)) = self.queue.send(request).await {
            // The caller may be gone; then there is nobody to tell.
            request.reply.send(Err(Refused::ShuttingDown));
        }
    }
}

impl Ask {
    /// The number that is entered with what is asked for.
    pub(super) fn number(&self) -> Option<&NewNumber> {
        match self {
            Self::ChangeNumber(_, _, number) => Some(number),
            _ => None,
        }
    }

    /// Whose account it needs.
    pub(super) fn person(&self) -> Option<PersonId> {
        Some(self.subject()?.person)
    }

    /// Whom it is about.
    pub(super) fn subject(&self) -> Option<Subject> {
        match self {
            Self::Command(subject, _)
            | Self::ChangeNumber(subject, ..)
            | Self::Card(subject, _)
            | Self::Account(subject) => Some(*subject),
            Self::SetLimit(_) | Self::CompleteLimit { .. } | Self::Limits | Self::Cover => None,
        }
    }
}
