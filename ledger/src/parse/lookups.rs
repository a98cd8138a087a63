//! What of the access log is asked for.

use frikort_proto::{
    error::{Failure, Faults},
    v1::ListLookupsRequest,
};
use frikort_register::Named;
use time::OffsetDateTime;

use super::reading::instant;

/// Whose look-ups, and of when.
pub(crate) struct Lookups {
    pub(crate) named: Option<Named>,
    pub(crate) from: OffsetDateTime,
    /// Not included.
    pub(crate) before: Option<OffsetDateTime>,
}

pub(crate) fn lookups(request: ListLookupsRequest) -> Result<Lookups, Failure> {
    let mut faults = Faults::default();
    let named = request.person.map(|person| Named::parse(&mut faults, "person", Some(person)));
    let from = instant(&mut faults, "from_time", request.from_time);
    let before = instant(&mut faults, "before_time", request.before_time);
    if from.zip(before).is_some_and(|(from, before)| before < from) {
        faults.note("before_time", "must not be before from_time");
    }
    let from = from.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let named = named.map_or(Some(None), |named| named.map(Some));
    faults.finish(named.map(|named| Lookups { named, from, before }))
}
