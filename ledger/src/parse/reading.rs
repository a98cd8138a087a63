//! What auditors ask to read.

use frikort_domain::RECORD_TYPES;
use frikort_proto::{
    Timestamp,
    error::{Failure, Faults},
    v1::ReadEventsRequest,
};
use frikort_register::Named;
use time::OffsetDateTime;

/// What `ReadEvents` is asked for.
pub(crate) struct Reading {
    pub(crate) named: Option<Named>,
    pub(crate) partition: Option<i32>,
    pub(crate) span: Span,
    pub(crate) types: Vec<String>,
    pub(crate) follow: bool,
}

/// From where to where; both ends are wanted.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: i64,
    pub(crate) to: Option<i64>,
    pub(crate) recorded_from: Option<OffsetDateTime>,
    /// Not included.
    pub(crate) recorded_before: Option<OffsetDateTime>,
}

pub(crate) fn reading(request: ReadEventsRequest, partitions: &[i32]) -> Result<Reading, Failure> {
    let mut faults = Faults::default();
    let named = request.person.and_then(|p| Named::parse(&mut faults, "person", Some(p)));
    if request.partition.is_some_and(|partition| !partitions.contains(&partition)) {
        faults.note("partition", format!("must be one of {partitions:?}"));
    }
    if request.from_position < 0 {
        faults.note("from_position", "must be 0 or more");
    }
    let to = Some(request.to_position).filter(|to| *to != 0);
    if to.is_some_and(|to| to < request.from_position.max(1)) {
        faults.note("to_position", "must be 0, or from_position or more");
    }
    let recorded_from = instant(&mut faults, "recorded_from", request.recorded_from);
    let recorded_before = instant(&mut faults, "recorded_before", request.recorded_before);
    for (field, is_end) in
        [("to_position", to.is_some()), ("recorded_before", recorded_before.is_some())]
    {
        if request.follow && is_end {
            faults.note(field, "must be left out with follow, which has no end");
        }
    }
    for (index, unknown) in request.types.iter().enumerate() {
        if !RECORD_TYPES.contains(&unknown.as_str()) {
            let allowed = format!("must be one of {}", RECORD_TYPES.join(", "));
            faults.note(&format!("types[{index}]"), allowed);
        }
    }
    let span = Span { from: request.from_position.max(1), to, recorded_from, recorded_before };
    let (partition, types, follow) = (request.partition, request.types, request.follow);
    faults.finish(Some(Reading { named, partition, span, types, follow }))
}

pub(super) fn instant(
    faults: &mut Faults,
    field: &str,
    time: Option<Timestamp>,
) -> Option<OffsetDateTime> {
    let read = frikort_proto::instant(time?);
    if read.is_none() {
        faults
            .note(field, "must be an instant of a year from 0 to 9999, with 0 to 999999999 nanos");
    }
    read
}
