//! What the projector's services share of the wire: parts of requests that several of them have, and
//! what callers are told when there is no answer. What must stay out: reading, and what is asked of
//! one service alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::successors,
};

use frikort_domain::{Amount, LimitSchedule, PersonId, SCHEME_START};
use frikort_event_store::sqlstate;
use frikort_proto::{
    error::{Failure, Faults},
    instant,
    v1::{self, ErrorReason, LedgerPosition, PersonRef},
};
use frikort_register::Named;
use time::{Date, OffsetDateTime};

use crate::{past::Unread, tables::Checkpoint};

/// Persons of one question.
const BATCH: usize = 1000;

/// Reads positions to resume from by partition, each partition once. A position names a state of a
/// history by the instant at which the event there was recorded; 0 is the beginning of any history.
pub(crate) fn positions(
    faults: &mut Faults,
    name: &str,
    wire: &[LedgerPosition],
    partitions: &[i32],
) -> BTreeMap<i32, ResumePosition> {
    let mut positions = BTreeMap::new();
    let mut named = BTreeSet::new();
    for (index, place) in wire.iter().enumerate() {
        let field = |part: &str| format!("{name}[{index}].{part}");
        if !partitions.contains(&place.partition) {
            faults.note(&field("partition"), format!("must be one of {partitions:?}"));
        } else if !named.insert(place.partition) {
            faults.note(&field("partition"), "must be named once");
        }
        if place.position < 0 {
            faults.note(&field("position"), "must be 0 or more");
        }
        if place.position <= 0 {
            continue;
        }
        match place.recorded_time.and_then(instant) {
            Some(recorded_at) => {
                let resume = ResumePosition { position: place.position, recorded_at };
                positions.insert(place.partition, resume);
            }
            None => faults.note(
                &field("recorded_time"),
                "is required: the recorded_time that came with the position",
            ),
        }
    }
    positions
}

/// A position that a caller resumes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ResumePosition {
    pub(crate) position: i64,
    #[serde(with = "time::serde::timestamp::microseconds")]
    pub(crate) recorded_at: OffsetDateTime,
}

/// The position is not in this history.
pub(crate) fn resume_position_lost(partition: i32, position: i64) -> Failure {
    let lost = "the position to resume from is not in this history; begin anew without it";
    Failure::new(ErrorReason::ResumePositionLost, lost)
        .with("partition", partition)
        .with("position", position)
}

/// Reads the persons of a question about many.
pub(crate) fn parse_persons(
    faults: &mut Faults,
    persons: Vec<PersonRef>,
    at_least: usize,
) -> Option<Vec<Named>> {
    if !(at_least..=BATCH).contains(&persons.len()) {
        faults.note("persons", format!("must be {at_least} to {BATCH}"));
        return None;
    }
    let mut named = Vec::with_capacity(persons.len());
    for (index, person) in persons.into_iter().enumerate() {
        named.push(Named::parse(faults, &format!("persons[{index}]"), Some(person)));
    }
    named.into_iter().collect()
}

pub(crate) fn check_year(faults: &mut Faults, year: i32) {
    let first = SCHEME_START.year();
    if !(first..=9999).contains(&year) {
        faults.note("year", format!("must be from {first} to 9999"));
    }
}

/// A year, or 0 for all.
pub(crate) fn check_optional_year(faults: &mut Faults, year: i32) {
    if year != 0 {
        check_year(faults, year);
    }
}

pub(crate) fn check_position(faults: &mut Faults, min_position: i64) {
    if min_position < 0 {
        faults.note("min_position", "must be 0 or more");
    }
}

pub(crate) fn limit_of(limits: &LimitSchedule, year: i32, day: Date) -> Result<Amount, Failure> {
    limits.limit_on(year, day).ok_or_else(|| {
        let message = format!("no limit is on record for the calendar year {year}");
        Failure::new(ErrorReason::LimitNotSet, message).with("year", year)
    })
}

pub(crate) fn nobody() -> Failure {
    Failure::new(ErrorReason::NoCard, "no card is known for this person")
}

/// What callers are told when the projection or the events cannot be read.
pub(crate) fn unread(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut causes = successors(Some(error), |&cause| cause.source());
    let meaning = causes.find_map(|cause| cause.downcast_ref()).map(sqlstate::meaning_of);
    if meaning == Some(sqlstate::Meaning::Contradiction) {
        tracing::error!(error, "the tables contradict what was asked of them");
        return internal();
    }
    tracing::warn!(error, "the projection cannot be read");
    store_unavailable()
}

/// The database is away.
pub(crate) fn store_unavailable() -> Failure {
    Failure::new(ErrorReason::StoreUnavailable, "the database cannot be reached; repeat the call")
}

/// What the past cannot be told for.
pub(crate) fn untold(error: &Unread) -> Failure {
    match error {
        Unread::Store(error) => unread(error),
        Unread::Poison(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "the past cannot be told");
            internal()
        }
    }
}

/// A fault of ours; what it is stands in the log.
pub(crate) fn internal() -> Failure {
    Failure::new(ErrorReason::Internal, "a fault of the server; its log has the cause")
}

pub(crate) fn allowance(
    person: PersonId,
    year: i32,
    limit: Amount,
    total: Amount,
    payments: u32,
) -> v1::Allowance {
    v1::Allowance::new(person.to_string(), year, limit.oere(), total.oere(), payments)
}

pub(crate) fn place(partition: i32, at: Checkpoint) -> LedgerPosition {
    LedgerPosition::new(partition, at.position, at.recorded_at)
}
