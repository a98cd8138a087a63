//! What the questions ask for, each field checked and all bad ones named together. What must stay
//! out: anything that depends on what the projection holds.

use frikort_domain::{MunicipalityCode, Period, SCHEME_START, format_date};
use frikort_proto::{
    Date as WireDate,
    error::{Failure, Faults},
    v1::{
        BatchGetAllowancesRequest, GetAllowanceRequest, GetProcessingTimesRequest,
        GetStatementRequest, ListAnnualTotalsRequest, ListDueControlsRequest,
    },
};
use frikort_register::Named;
use time::{Date, Month, OffsetDateTime};

use crate::{
    as_of::AsOf,
    page::{large_page_size, page_size},
    statement_page::StatementFilter,
    wire::{check_optional_year, check_position, check_year, parse_persons},
};

pub(crate) fn allowance(
    request: GetAllowanceRequest,
    now: OffsetDateTime,
) -> Result<(Named, AsOf), Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    check_year(&mut faults, request.year);
    check_position(&mut faults, request.min_position);
    let as_of = AsOf::parse(&mut faults, request.as_of, now);
    faults.finish(named.map(|named| (named, as_of)))
}

pub(crate) fn allowances(
    request: BatchGetAllowancesRequest,
    now: OffsetDateTime,
) -> Result<(Vec<Named>, AsOf), Failure> {
    let mut faults = Faults::default();
    check_year(&mut faults, request.year);
    check_position(&mut faults, request.min_position);
    let as_of = AsOf::parse(&mut faults, request.as_of, now);
    let named = parse_persons(&mut faults, request.persons, 1);
    faults.finish(named.map(|named| (named, as_of)))
}

/// The person, what the statement is about, and how many payments a page has.
pub(crate) fn statement(
    request: GetStatementRequest,
    now: OffsetDateTime,
) -> Result<(Named, StatementFilter, usize), Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    check_optional_year(&mut faults, request.year);
    check_position(&mut faults, request.min_position);
    let hours_through =
        request.hours_through.and_then(|wire| day(&mut faults, "hours_through", Some(wire)));
    let as_of = AsOf::parse(&mut faults, request.as_of, now);
    let size = large_page_size(&mut faults, request.page_size);
    let (year, with_history) = (request.year, request.with_history);
    let filter = StatementFilter { year, as_of, hours_through, with_history };
    faults.finish(named.zip(size).map(|(named, size)| (named, filter, size)))
}

/// Of which municipality, by which day, and how many on a page.
pub(crate) fn due_controls(
    request: &ListDueControlsRequest,
    today: Date,
) -> Result<(MunicipalityCode, Date, usize), Failure> {
    let mut faults = Faults::default();
    let code = faults.parse("municipality_code", &request.municipality_code);
    let due_by = match request.due_by {
        None => last_day_of(today.year()),
        Some(wire) => day(&mut faults, "due_by", Some(wire)),
    };
    let size = page_size(&mut faults, request.page_size);
    check_position(&mut faults, request.min_position);
    faults.finish((|| Some((code?, due_by?, size?)))())
}

pub(crate) fn processing_times(
    request: &GetProcessingTimesRequest,
) -> Result<(Option<MunicipalityCode>, Period), Failure> {
    let mut faults = Faults::default();
    let code = faults.parse_optional("municipality_code", &request.municipality_code);
    let decided = faults.required("decided", request.decided).and_then(|wire| {
        let first = day(&mut faults, "decided.first_day", wire.first_day);
        let last = day(&mut faults, "decided.last_day", wire.last_day);
        let period = Period::new(first?, last?);
        if period.is_none() {
            faults.note("decided.last_day", "must not lie before first_day");
        }
        period
    });
    check_position(&mut faults, request.min_position);
    faults.finish(decided.map(|decided| (code, decided)))
}

pub(crate) fn annual_totals(
    request: ListAnnualTotalsRequest,
    partitions: &[i32],
) -> Result<(), Failure> {
    let mut faults = Faults::default();
    if !partitions.contains(&request.partition) {
        faults.note("partition", format!("must be one of {partitions:?}"));
    }
    check_position(&mut faults, request.min_position);
    faults.finish(Some(()))
}

fn last_day_of(year: i32) -> Option<Date> {
    Date::from_calendar_date(year, Month::December, 31).ok()
}

fn day(faults: &mut Faults, field: &str, wire: Option<WireDate>) -> Option<Date> {
    let day = faults.required(field, wire)?.to_day().filter(|day| *day >= SCHEME_START);
    if day.is_none() {
        let first = format_date(SCHEME_START);
        faults.note(field, format!("must be a day that exists, from {first} on"));
    }
    day
}
