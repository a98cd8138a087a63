//! From the wire to the domain: every field of every request is checked here, once, and all bad
//! ones are named together. What must stay out: anything that depends on the ledger's state.

mod behalf;
mod checking;
mod forgetting;
mod lookups;
mod reading;

use frikort_domain::{
    Amount, CancelPayment, CancelReason, ChangeCprNumber, Command, Components, CorrectPayment, Cpr,
    Criteria, Criterion, DAYS_AHEAD, DeactivateCard, DecisionKey, Facts, FrikortId, FrikortTag,
    GrantCard, Hours, LimitEntry, MunicipalityCode, NumberTag, PaymentKey, Period, ReactivateCard,
    RecordControl, Reference, ReissueCard, RejectApplication, ReportPayment, ReverseDecision,
    SCHEME_START, TransferCard, contains_cpr, format_date,
};
use frikort_proto::{
    Date as WireDate,
    error::{Failure, Faults},
    v1,
};
use frikort_register::{Named, Who};
use time::{Date, Duration};

pub(crate) use behalf::{Behalf, OnBehalf};
pub(crate) use checking::checking;
pub(crate) use forgetting::{forgetting, request_id};
pub(crate) use lookups::{Lookups, lookups};
pub(crate) use reading::{Reading, Span, reading};

/// A request about a person: whom it names, and what to do once the person is found. The
/// command's Frikort-ID is filled in then, since its tag is made with the person's salt.
pub(crate) struct Parsed<C = Command> {
    pub(crate) named: Named,
    pub(crate) command: C,
}

/// A grant, which gives a new Frikort-ID instead of naming one.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) key: DecisionKey,
    pub(crate) frikort_id: FrikortId,
    pub(crate) decided_on: Date,
    pub(crate) effective_from: Date,
    pub(crate) criteria: Criteria,
    pub(crate) applied_on: Option<Date>,
}

impl Grant {
    pub(crate) fn finish(self, frikort: FrikortTag, born: Date) -> Command {
        let Self { key, decided_on, effective_from, criteria, applied_on, .. } = self;
        Command::GrantCard(GrantCard {
            key,
            frikort,
            decided_on,
            effective_from,
            born,
            criteria,
            applied_on,
        })
    }
}

pub(crate) fn report(request: v1::ReportPaymentRequest, today: Date) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key = payment_key(&mut faults, named.as_ref(), &request.employer_cvr, &request.reference);
    let facts = facts(&mut faults, request.facts, today);
    let production_unit = faults.parse_optional("production_unit", &request.production_unit);
    if production_unit.is_some() {
        check_own_cpr(&mut faults, named.as_ref(), "production_unit", &request.production_unit);
    }
    let parsed = (|| {
        let command = Command::ReportPayment(ReportPayment {
            key: key?,
            facts: facts?,
            production_unit,
            frikort: None,
            ordinary_work: request.ordinary_work,
            reject_if_exceeds: request.reject_if_exceeds,
        });
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn correct(request: v1::CorrectPaymentRequest, today: Date) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key = payment_key(&mut faults, named.as_ref(), &request.employer_cvr, &request.reference);
    let expected_revision = revision(&mut faults, request.expected_revision);
    let facts = facts(&mut faults, request.facts, today);
    let parsed = (|| {
        let (key, facts, expected_revision) = (key?, facts?, expected_revision?);
        let frikort = None;
        let command =
            Command::CorrectPayment(CorrectPayment { key, facts, frikort, expected_revision });
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn cancel(request: v1::CancelPaymentRequest) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let wire_reason = request.reason();
    let named = Named::parse(&mut faults, "person", request.person);
    let key = payment_key(&mut faults, named.as_ref(), &request.employer_cvr, &request.reference);
    let expected_revision = revision(&mut faults, request.expected_revision);
    let reason = match wire_reason {
        v1::CancelReason::WrongPerson => Some(CancelReason::WrongPerson),
        v1::CancelReason::Duplicate => Some(CancelReason::Duplicate),
        v1::CancelReason::NotPaid => Some(CancelReason::NotPaid),
        v1::CancelReason::SupportedWork => Some(CancelReason::SupportedWork),
        v1::CancelReason::Other => Some(CancelReason::Other),
        v1::CancelReason::Unspecified => None,
    };
    if reason.is_none() {
        faults.note("reason", "is required: one of CancelReason");
    }
    let parsed = (|| {
        let (key, reason, expected_revision) = (key?, reason?, expected_revision?);
        let frikort = None;
        let command =
            Command::CancelPayment(CancelPayment { key, reason, frikort, expected_revision });
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn grant(request: v1::GrantCardRequest, today: Date) -> Result<Parsed<Grant>, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    if named.as_ref().is_some_and(|named| named.frikort_id.is_some()) {
        faults.note("person.frikort_id", "must be left out: frikort_id gives the new one");
    }
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let frikort_id = faults.parse("frikort_id", &request.frikort_id);
    let decided_on = day_passed(&mut faults, "decision_date", request.decision_date, today);
    let effective_from = effective_date(&mut faults, request.effective_date);
    let criteria = criteria(&mut faults, &request.criteria);
    let applied_on = request.application_date.and_then(|wire| {
        day_passed(&mut faults, "application_date", Some(wire), decided_on.unwrap_or(today))
    });
    let parsed = (|| {
        let command = Grant {
            key: key?,
            frikort_id: frikort_id?,
            decided_on: decided_on?,
            effective_from: effective_from?,
            criteria: criteria?,
            applied_on,
        };
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn reject(
    request: v1::RejectApplicationRequest,
    today: Date,
) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    if named.as_ref().is_some_and(|named| named.frikort_id.is_some()) {
        faults.note("person.frikort_id", "must be left out: there is no card");
    }
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let decided_on = day_passed(&mut faults, "decision_date", request.decision_date, today);
    let applied_on = day_passed(
        &mut faults,
        "application_date",
        request.application_date,
        decided_on.unwrap_or(today),
    );
    let criteria = criteria(&mut faults, &request.criteria);
    let parsed = (|| {
        let (key, applied_on) = (key?, applied_on?);
        let (decided_on, criteria) = (decided_on?, criteria?);
        let command =
            Command::RejectApplication(RejectApplication { key, applied_on, decided_on, criteria });
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn deactivate(
    request: v1::DeactivateCardRequest,
    today: Date,
) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let decided_on = day_passed(&mut faults, "decision_date", request.decision_date, today);
    let criteria = criteria(&mut faults, &request.criteria);
    let last_day = match request.effective_date {
        None => decided_on,
        date => effective_date(&mut faults, date),
    };
    if let (Some(decided_on), Some(last_day)) = (decided_on, last_day)
        && last_day < decided_on
    {
        // C3: a deactivation works from its decision, never earlier.
        faults.note("effective_date", "must not lie before decision_date");
    }
    let parsed = (|| {
        let (key, decided_on, last_day) = (key?, decided_on?, last_day?);
        let (frikort, criteria) = (None, criteria?);
        let command = Command::DeactivateCard(DeactivateCard {
            key,
            frikort,
            decided_on,
            last_day,
            criteria,
        });
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn reactivate(
    request: v1::ReactivateCardRequest,
    today: Date,
) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let decided_on = day_passed(&mut faults, "decision_date", request.decision_date, today);
    let effective_from = effective_date(&mut faults, request.effective_date);
    let parsed = (|| {
        let (key, decided_on, effective_from) = (key?, decided_on?, effective_from?);
        let frikort = None;
        let command =
            Command::ReactivateCard(ReactivateCard { key, frikort, decided_on, effective_from });
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn transfer(request: v1::TransferCardRequest, today: Date) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let decided_on = day_passed(&mut faults, "decision_date", request.decision_date, today);
    let to = faults.parse("to_municipality_code", &request.to_municipality_code);
    if to.is_some() && request.to_municipality_code == request.municipality_code {
        faults.note("to_municipality_code", "must be another one than municipality_code");
    }
    let parsed = (|| {
        let (key, decided_on, to) = (key?, decided_on?, to?);
        let frikort = None;
        let command = Command::TransferCard(TransferCard { key, frikort, decided_on, to });
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn reverse(request: v1::ReverseDecisionRequest, today: Date) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let decided_on = day_passed(&mut faults, "decision_date", request.decision_date, today);
    let reference = faults.parse("reversed_reference", &request.reversed_reference);
    if reference.is_some() {
        let text = &request.reversed_reference;
        check_own_cpr(&mut faults, named.as_ref(), "reversed_reference", text);
    }
    let municipality = faults
        .parse_optional("reversed_municipality_code", &request.reversed_municipality_code)
        .or(key.as_ref().map(|key| key.municipality));
    let parsed = (|| {
        let (key, decided_on) = (key?, decided_on?);
        let reversed = DecisionKey { municipality: municipality?, reference: reference? };
        let frikort = None;
        let command =
            Command::ReverseDecision(ReverseDecision { key, frikort, decided_on, reversed });
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

pub(crate) fn control(request: v1::RecordControlRequest, today: Date) -> Result<Parsed, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let decided_on = day_passed(&mut faults, "control_date", request.control_date, today);
    let criteria = criteria(&mut faults, &request.criteria);
    let dispensation = request.dispensation;
    let parsed = (|| {
        let (key, decided_on, criteria) = (key?, decided_on?, criteria?);
        let frikort = None;
        let control = RecordControl { key, frikort, decided_on, dispensation, criteria };
        Some(Parsed { named: named?, command: Command::RecordControl(control) })
    })();
    faults.finish(parsed)
}

/// A card issued anew, whose tag is made when the person is found.
pub(crate) struct Reissue {
    pub(crate) key: DecisionKey,
    pub(crate) decided_on: Date,
    pub(crate) frikort_id: FrikortId,
}

impl Reissue {
    pub(crate) fn finish(self, frikort: Option<FrikortTag>, reissued: FrikortTag) -> Command {
        let Self { key, decided_on, .. } = self;
        Command::ReissueCard(ReissueCard { key, frikort, decided_on, reissued })
    }
}

pub(crate) fn reissue(
    request: v1::ReissueCardRequest,
    today: Date,
) -> Result<Parsed<Reissue>, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let decided_on = day_passed(&mut faults, "decision_date", request.decision_date, today);
    let frikort_id = faults.parse("frikort_id", &request.frikort_id);
    let parsed = (|| {
        let command = Reissue { key: key?, decided_on: decided_on?, frikort_id: frikort_id? };
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

/// A new CPR number, whose tag is made when the person is found.
pub(crate) struct NewNumber {
    pub(crate) key: DecisionKey,
    pub(crate) decided_on: Date,
    pub(crate) cpr: Cpr,
}

impl NewNumber {
    pub(crate) fn finish(self, frikort: Option<FrikortTag>, number: NumberTag) -> Command {
        let Self { key, decided_on, .. } = self;
        Command::ChangeCprNumber(ChangeCprNumber { key, frikort, decided_on, number })
    }
}

pub(crate) fn new_number(
    request: v1::ChangeCprNumberRequest,
    today: Date,
) -> Result<Parsed<NewNumber>, Failure> {
    const FIELD: &str = "new_cpr_number";
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let key =
        decision_key(&mut faults, named.as_ref(), &request.municipality_code, &request.reference);
    let decided_on = day_passed(&mut faults, "decision_date", request.decision_date, today);
    let cpr: Option<Cpr> = faults.parse(FIELD, &request.new_cpr_number);
    if let Some(cpr) = &cpr
        && key.is_some()
        && cpr.is_in(&request.reference)
    {
        faults.note("reference", "must not hold the person's CPR number");
    }
    let parsed = (|| {
        let command = NewNumber { key: key?, decided_on: decided_on?, cpr: cpr? };
        Some(Parsed { named: named?, command })
    })();
    faults.finish(parsed)
}

/// A request that names a person and nothing else.
pub(crate) fn person(person: Option<v1::PersonRef>) -> Result<Named, Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", person);
    faults.finish(named)
}

pub(crate) fn limit(request: v1::SetAnnualLimitRequest) -> Result<LimitEntry, Failure> {
    let mut faults = Faults::default();
    let Some(wire) = faults.required("limit", request.limit) else { return faults.finish(None) };
    let first_year = SCHEME_START.year();
    let year_is_sound = (first_year..=9999).contains(&wire.year);
    if !year_is_sound {
        faults.note("limit.year", format!("must be from {first_year} to 9999"));
    }
    let amount = Amount::from_oere(wire.limit_oere).ok();
    let limit = amount.filter(|a| !a.is_zero() && a.oere() % 100 == 0 && *a <= Amount::MAX_PAYMENT);
    if limit.is_none() {
        faults.note("limit.limit_oere", "must be whole kroner, from 100 to 99999900 øre");
    }
    let in_force_from = date(&mut faults, "limit.in_force_date", wire.in_force_date);
    if year_is_sound && in_force_from.is_some_and(|day| day.year() != wire.year) {
        faults.note("limit.in_force_date", "must lie in limit.year");
    }
    let printable = |c: char| !c.is_control() && c != '"' && c != '\\';
    let citation = wire.citation;
    let length = citation.chars().count();
    if !(1..=200).contains(&length) || !citation.chars().all(printable) {
        faults.note(
            "limit.citation",
            "must be 1 to 200 printable characters without quotation mark or backslash",
        );
    } else if contains_cpr(&citation) {
        // W5: it goes into the event.
        faults.note("limit.citation", "must not hold a CPR number");
    }
    let parsed = (|| {
        let (limit, in_force_from) = (limit?, in_force_from?);
        Some(LimitEntry { year: wire.year, limit, in_force_from, citation })
    })();
    faults.finish(parsed)
}

/// W5: what an organisation writes itself must not hold the number of the person it is about.
/// References in general are held against numbers that stand alone; this one is found anywhere.
fn check_own_cpr(faults: &mut Faults, named: Option<&Named>, field: &str, text: &str) {
    if let Some(Named { who: Who::Cpr(cpr), .. }) = named
        && cpr.is_in(text)
    {
        faults.note(field, "must not hold the person's CPR number");
    }
}

fn payment_key(
    faults: &mut Faults,
    named: Option<&Named>,
    employer_cvr: &str,
    reference: &str,
) -> Option<PaymentKey> {
    let employer_cvr = faults.parse("employer_cvr", employer_cvr);
    let reference = own_reference(faults, named, reference);
    Some(PaymentKey { employer_cvr: employer_cvr?, reference: reference? })
}

fn decision_key(
    faults: &mut Faults,
    named: Option<&Named>,
    municipality: &str,
    reference: &str,
) -> Option<DecisionKey> {
    let municipality: Option<MunicipalityCode> = faults.parse("municipality_code", municipality);
    let reference = own_reference(faults, named, reference);
    Some(DecisionKey { municipality: municipality?, reference: reference? })
}

fn own_reference(faults: &mut Faults, named: Option<&Named>, text: &str) -> Option<Reference> {
    let reference = faults.parse("reference", text)?;
    check_own_cpr(faults, named, "reference", text);
    Some(reference)
}

fn revision(faults: &mut Faults, revision: i32) -> Option<u32> {
    let revision = u32::try_from(revision).ok().filter(|revision| *revision >= 1);
    if revision.is_none() {
        faults.note("expected_revision", "must be 1 or more");
    }
    revision
}

fn facts(faults: &mut Faults, wire: Option<v1::PaymentFacts>, today: Date) -> Option<Facts> {
    let wire = faults.required("facts", wire)?;
    // P1.
    let amount = Amount::from_oere(wire.amount_oere).ok();
    let amount = amount.filter(|amount| !amount.is_zero() && *amount <= Amount::MAX_PAYMENT);
    if amount.is_none() {
        faults.note("facts.amount_oere", "must be from 1 to 99999999 øre");
    }
    let payment_date = date(faults, "facts.payment_date", wire.payment_date);
    // Y4.
    let latest = today + Duration::days(DAYS_AHEAD);
    let window = format!("must be from {} to {}", format_date(SCHEME_START), format_date(latest));
    if payment_date.is_some_and(|day| day < SCHEME_START || day > latest) {
        faults.note("facts.payment_date", &window);
    }
    let work = wire.work_period.and_then(|period| work_period(faults, &period, latest, &window));
    let hours = wire.hours_hundredths.and_then(|hundredths| {
        let hours = Hours::from_hundredths(hundredths);
        if hours.is_none() {
            faults.note("facts.hours_hundredths", "must be from 1 to 99999");
        }
        hours
    });
    let components = wire.components.and_then(|wire| components(faults, &wire, amount));
    Some(Facts { amount: amount?, payment_date: payment_date?, work, hours, components })
}

fn work_period(
    faults: &mut Faults,
    wire: &v1::DayPeriod,
    latest: Date,
    window: &str,
) -> Option<Period> {
    let first = date(faults, "facts.work_period.first_day", wire.first_day);
    let last = date(faults, "facts.work_period.last_day", wire.last_day);
    let is_in_window = first.is_none_or(|day| day >= SCHEME_START && day <= latest);
    if !is_in_window {
        faults.note("facts.work_period.first_day", window);
    }
    let period = Period::new(first?, last?);
    if period.is_none() && is_in_window {
        faults.note("facts.work_period.last_day", "must not lie before first_day");
    }
    period
}

fn components(
    faults: &mut Faults,
    wire: &v1::PaymentComponents,
    amount: Option<Amount>,
) -> Option<Components> {
    let mut part = |name: &str, oere: i64| {
        let part = Amount::from_oere(oere).ok().filter(|part| *part <= Amount::MAX_PAYMENT);
        if part.is_none() {
            faults.note(&format!("facts.components.{name}"), "must be from 0 to 99999999 øre");
        }
        part
    };
    let wage = part("wage_oere", wire.wage_oere);
    let holiday_pay = part("holiday_pay_oere", wire.holiday_pay_oere);
    let pension = part("pension_oere", wire.pension_oere);
    let components = Components { wage: wage?, holiday_pay: holiday_pay?, pension: pension? };
    if amount.is_some_and(|amount| components.sum() != amount) {
        faults.note("facts.components", "must add up to facts.amount_oere");
    }
    Some(components)
}

/// The day on which something was applied for, decided or controlled, at the latest `last`.
fn day_passed(
    faults: &mut Faults,
    field: &str,
    wire: Option<WireDate>,
    last: Date,
) -> Option<Date> {
    let day = date(faults, field, wire)?;
    if day < SCHEME_START || day > last {
        let (first, last) = (format_date(SCHEME_START), format_date(last));
        faults.note(field, format!("must be from {first} to {last}"));
        return None;
    }
    Some(day)
}

fn criteria(faults: &mut Faults, wire: &[i32]) -> Option<Criteria> {
    let known = wire.iter().map(|code| match v1::Criterion::try_from(*code).ok()? {
        v1::Criterion::SocialProblems => Some(Criterion::SocialProblems),
        v1::Criterion::EducationLastYear => Some(Criterion::EducationLastYear),
        v1::Criterion::IncomeLastYear => Some(Criterion::IncomeLastYear),
        v1::Criterion::Residence => Some(Criterion::Residence),
        v1::Criterion::Age => Some(Criterion::Age),
        v1::Criterion::Unspecified => None,
    });
    let criteria: Option<Criteria> = known.collect();
    if criteria.is_none() {
        faults.note("criteria", "must be of Criterion, each of them");
    }
    criteria
}

fn effective_date(faults: &mut Faults, wire: Option<WireDate>) -> Option<Date> {
    let day = date(faults, "effective_date", wire)?;
    if day < SCHEME_START {
        faults.note("effective_date", format!("must not lie before {}", format_date(SCHEME_START)));
        return None;
    }
    Some(day)
}

fn date(faults: &mut Faults, field: &str, wire: Option<WireDate>) -> Option<Date> {
    let day = faults.required(field, wire)?.to_day();
    if day.is_none() {
        faults.note(field, "must be a day that exists: year, month and day");
    }
    day
}
