//! What the services share: the register, the sequencers, the store, and the way from a parsed
//! request to an answer.

use std::{collections::BTreeMap, sync::Arc};

use frikort_access::{Looking, Lookups, NOBODY, Places};
use frikort_domain::{
    Account, Actor, Command, Decision, FrikortTag, LimitSchedule, PersonId, Rejection, Role,
    copenhagen_date, decide,
};
use frikort_event_store::{DatabaseSessions, EventStore, Signal, StoreError};
use frikort_process::clock::Clock;
use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, LedgerPosition},
};
use frikort_register::{Named, Person, Register};
use time::Date;
use tokio_util::sync::CancellationToken;
use tonic::{Request, metadata::MetadataMap};
use uuid::Uuid;

use crate::{
    complete_limits::LimitCompletion,
    fail::{internal, store_unavailable},
    parse::{Behalf, OnBehalf, Parsed},
    proof::Log,
    sequencer::{Answer, Ask, Handle, Refused, body},
    services::{check::Checking, result_budget::ResultBudgets},
};

/// Everything that a call needs.
pub(crate) struct Ledger {
    pub(crate) sessions: DatabaseSessions,
    pub(crate) store: EventStore,
    pub(crate) register: Register,
    pub(crate) lookups: Lookups,
    pub(crate) sequencers: BTreeMap<i32, Handle>,
    /// Whether each partition has the limits of the others.
    pub(crate) limits: Arc<LimitCompletion>,
    /// The proof log of each partition.
    pub(crate) logs: BTreeMap<i32, Log>,
    pub(crate) clock: Clock,
    /// How many payments a person may have recorded in one calendar year (P10).
    pub(crate) payments_per_year: u32,
    /// Rises when something was appended, by whichever ledger.
    pub(crate) appended: Signal,
    pub(crate) checking: Checking,
    /// A place for each run that may be planned, or committed with a token, now.
    pub(crate) runs: Places,
    /// How many results of payment streams may wait for their callers.
    pub(crate) result_budgets: ResultBudgets,
    /// Cancelled when the process stops.
    pub(crate) stop: CancellationToken,
}

/// Who calls about persons, and under which trace.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) looking: Looking,
    pub(crate) trace_id: Option<String>,
    /// Counts whom it was told to be nobody, beside how a call ends.
    pub(crate) misses: frikort_access::Misses,
}

impl Caller {
    /// Whom the guard has let through.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Failure> {
        let misses = frikort_access::Misses::within(request.extensions());
        Ok(Self { looking: Looking::of(request)?, trace_id: trace_id(request.metadata()), misses })
    }

    /// Holds whom a request names against for whom the caller acts (P7, C7).
    pub(crate) fn acting<C: OnBehalf>(self, parsed: Parsed<C>) -> Result<Acting<C>, Failure> {
        let behalf = parsed.command.behalf().ok_or_else(internal)?;
        match behalf {
            Behalf::Employer(cvr) => self.looking.who.acts_for_employer(cvr, "employer_cvr")?,
            Behalf::Municipality(code) => {
                self.looking.who.acts_for_municipality(code, "municipality_code")?;
            }
        }
        let looking = self.looking.clone();
        Ok(Acting { parsed, by: self.by(behalf), looking })
    }

    /// Who is on record for what is done on somebody's behalf: the employer, the municipality, or
    /// the operator in their place.
    fn by(self, behalf: Behalf) -> By {
        let actor = match (self.looking.who.role, behalf) {
            (frikort_access::Role::Operator, _) => return self.asking(),
            (_, Behalf::Employer(cvr)) => {
                Actor { role: Role::Employer, organisation: cvr.to_string() }
            }
            (_, Behalf::Municipality(code)) => {
                Actor { role: Role::Municipality, organisation: code.to_string() }
            }
        };
        By { actor, trace_id: self.trace_id }
    }

    /// For what records nothing.
    pub(crate) fn asking(self) -> By {
        By::operator(&self.looking.who, self.trace_id)
    }
}

/// Who is on record for an event.
#[derive(Clone)]
pub(crate) struct By {
    pub(crate) actor: Actor,
    pub(crate) trace_id: Option<String>,
}

impl By {
    /// The caller under its own name: for what only the operator does, and for what records nothing.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Failure> {
        let who = frikort_access::caller(request.extensions())?;
        Ok(Self::operator(who, trace_id(request.metadata())))
    }

    fn operator(who: &frikort_access::Caller, trace_id: Option<String>) -> Self {
        let actor = Actor { role: Role::Operator, organisation: who.name.clone() };
        Self { actor, trace_id }
    }
}

/// A request whose caller acts for whom it names. Nothing else is decided.
pub(crate) struct Acting<C = Command> {
    pub(crate) parsed: Parsed<C>,
    pub(crate) by: By,
    pub(crate) looking: Looking,
}

/// Nobody who has a card, or nobody whom the caller may see: the two look the same (W3).
pub(crate) fn nobody() -> Failure {
    Refused::Rejected(Rejection::NoCard).into()
}

/// Whether a command about somebody has recorded nothing, and its answer tells of the person all the
/// same: it was tried, or a call repeated, or a rule refused it.
pub(crate) fn only_looked(validate_only: bool, outcome: Result<&Answer, &Failure>) -> bool {
    match outcome {
        Ok(answer) => validate_only || answer.replayed,
        // What is ours, or the database's, tells of nobody.
        Err(failure) => !matches!(
            failure.reason,
            ErrorReason::Overloaded
                | ErrorReason::StoreUnavailable
                | ErrorReason::HistoryChanged
                | ErrorReason::ShuttingDown
                | ErrorReason::Internal
        ),
    }
}

/// The trace id of a W3C `traceparent`: 32 hexadecimal digits.
fn trace_id(metadata: &MetadataMap) -> Option<String> {
    let header = metadata.get("traceparent")?.to_str().ok()?;
    let trace_id = header.split('-').nth(1)?;
    let sound =
        trace_id.len() == 32 && trace_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    sound.then(|| trace_id.to_owned())
}

/// An answer, with whom it is about.
pub(crate) struct Told {
    pub(crate) person: PersonId,
    partition: i32,
    pub(crate) answer: Answer,
}

impl Told {
    pub(crate) fn new(person: &Person, answer: Answer) -> Self {
        Self { person: person.id, partition: person.partition, answer }
    }

    /// An answer about somebody who is in nobody's register.
    pub(crate) fn nobody(answer: Answer) -> Self {
        Self { person: PersonId(Uuid::nil()), partition: 0, answer }
    }

    pub(crate) fn place(&self) -> LedgerPosition {
        LedgerPosition::new(self.partition, self.answer.position, self.answer.recorded_at)
    }
}

impl Ledger {
    /// Today in Copenhagen.
    pub(crate) fn today(&self) -> Date {
        copenhagen_date(self.clock.now())
    }

    /// The partitions, ascending.
    pub(crate) fn partitions(&self) -> Vec<i32> {
        self.sequencers.keys().copied().collect()
    }

    /// The person whom a request names, and the tag of the Frikort-ID given beside.
    pub(crate) async fn find(
        &self,
        named: &Named,
    ) -> Result<Option<(Person, Option<FrikortTag>)>, Failure> {
        if let Some(known) = self.register.known_named(named) {
            return Ok(Some(known));
        }
        // Boxed, since it is rare, and would else be most of every call's size.
        let asked = [named];
        let found = Box::pin(self.register.find_named(&asked));
        Ok(found.await.map_err(|error| self.read_failed(error))?.pop().flatten())
    }

    /// The card of the person whom a request names. Without one, or with a Frikort-ID that is not
    /// the person's, there is nobody.
    pub(crate) async fn card(
        &self,
        named: &Named,
        caller: Caller,
    ) -> Result<(Person, Told), Failure> {
        let found = self.find(named).await?;
        self.look(&caller.looking, found.as_ref().map(|(person, _)| person.id))?;
        let (person, frikort) = found.ok_or_else(nobody)?;
        let ask = Ask::Card((&person).into(), frikort);
        let answer = self.ask(person.partition, ask, false, caller.asking()).await?;
        Ok((person, Told::new(&person, answer)))
    }

    /// Has a command decided by the partition of the person whom it names.
    pub(crate) async fn decide(
        &self,
        acting: Acting,
        validate_only: bool,
    ) -> Result<Told, Failure> {
        let Acting { parsed: Parsed { named, mut command }, by, looking } = acting;
        let Some((person, frikort)) = self.find(&named).await? else {
            self.look(&looking, None)?;
            return Ok(Told::nobody(self.decide_unknown(&command)?));
        };
        command.name_frikort(frikort);
        let ask = Ask::Command((&person).into(), command);
        let outcome = self.ask(person.partition, ask, validate_only, by).await;
        if only_looked(validate_only, outcome.as_ref()) {
            self.look(&looking, Some(person.id))?;
        }
        Ok(Told::new(&person, outcome?))
    }

    /// Notes that somebody was looked up, or nobody was found (W4). What records an event need not: the
    /// event tells of itself.
    pub(crate) fn look(&self, looking: &Looking, person: Option<PersonId>) -> Result<(), Failure> {
        self.lookups.note(looking, "", &[person.unwrap_or(NOBODY)])
    }

    /// Asks a partition.
    pub(crate) async fn ask(
        &self,
        partition: i32,
        ask: Ask,
        validate_only: bool,
        by: By,
    ) -> Result<Answer, Failure> {
        let handle = self.sequencer(partition)?;
        Ok(handle.ask(ask, validate_only, by.actor, by.trace_id).await?)
    }

    /// The way to a partition's sequencer.
    pub(crate) fn sequencer(&self, partition: i32) -> Result<&Handle, Failure> {
        self.sequencers.get(&partition).ok_or_else(|| {
            tracing::error!(partition, "the partition was added after the start; restart");
            internal()
        })
    }

    /// What callers are told when the register or the events cannot be read.
    pub(crate) fn read_failed(&self, error: impl Into<StoreError>) -> Failure {
        let error = error.into();
        let cause = &error as &dyn std::error::Error;
        let passing = match &error {
            StoreError::Unavailable(passing) => passing,
            StoreError::HistoryChanged { partition, position } => {
                let lost = "the history that was being read is not the database's any more";
                return Failure::new(ErrorReason::ResumePositionLost, lost)
                    .with("partition", partition)
                    .with("position", position);
            }
            _ => {
                tracing::error!(error = cause, "the tables contradict what was asked of them");
                return internal();
            }
        };
        tracing::warn!(error = cause, "the tables cannot be read");
        match passing {
            sqlx::Error::PoolTimedOut if self.store.is_busy() => Refused::Overloaded.into(),
            // Also what a server says that is going down or coming up: a client that repeats the
            // call loses nothing, one that is told of a fault gives up.
            _ => store_unavailable(),
        }
    }

    /// The answer to a command about somebody who is in nobody's register: that of an account
    /// without events. It records nothing, so it can only refuse, or show a first grant.
    pub(crate) fn decide_unknown(&self, command: &Command) -> Result<Answer, Failure> {
        let mut account = Account::default();
        let (limits, today) = (LimitSchedule::default(), self.today());
        let decided = decide(&account, &limits, command, today);
        let event = match decided.map_err(Refused::Rejected)? {
            Decision::Record(event) => event,
            Decision::ReplayPayment(..) | Decision::ReplayCard(_) | Decision::Settled => {
                return Err(internal());
            }
        };
        account.apply(&event, 1, 1, self.clock.now()).map_err(|_| internal())?;
        let body = body(&event, &account, &limits, today).ok_or_else(internal)?;
        Ok(Answer { position: 0, recorded_at: None, replayed: false, body })
    }
}
