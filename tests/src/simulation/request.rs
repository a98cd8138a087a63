//! From the model's words to the contract's: a call as it is sent.

use frikort_proto::{
    Date, timestamp,
    v1::{
        self, CancelPaymentRequest, ChangeCprNumberRequest, CorrectPaymentRequest,
        DeactivateCardRequest, GrantCardRequest, PaymentComponents, PaymentFacts, PersonRef,
        ReactivateCardRequest, RecordControlRequest, ReissueCardRequest, RejectApplicationRequest,
        ReportPaymentRequest, ReverseDecisionRequest, TransferCardRequest,
    },
};

use crate::model::{AsOf, Command, Day, Decision, Facts, Kind, Known, Limit};

/// A call as it is sent, any number of times.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Grant(GrantCardRequest),
    Reject(RejectApplicationRequest),
    Reverse(ReverseDecisionRequest),
    Deactivate(DeactivateCardRequest),
    Reactivate(ReactivateCardRequest),
    Reissue(ReissueCardRequest),
    Transfer(TransferCardRequest),
    Control(RecordControlRequest),
    Renumber(ChangeCprNumberRequest),
    Report(ReportPaymentRequest),
    Correct(CorrectPaymentRequest),
    Cancel(CancelPaymentRequest),
}

/// `cpr_of` gives the CPR number that is the person's so-many-th.
pub(super) fn request(
    person: PersonRef,
    command: &Command,
    dry: bool,
    cpr_of: impl Fn(u32) -> String,
) -> Request {
    let person = Some(person);
    match command.clone() {
        Command::Decide(decision) => visitation(person, decision, dry, cpr_of),
        Command::Report { key, facts, unit, ordinary, strict } => {
            Request::Report(ReportPaymentRequest {
                person,
                employer_cvr: key.employer,
                reference: key.reference,
                facts: Some(wire_facts(&facts)),
                ordinary_work: ordinary,
                production_unit: unit.unwrap_or_default(),
                reject_if_exceeds: strict,
                validate_only: dry,
            })
        }
        Command::Correct { key, facts, revision } => Request::Correct(CorrectPaymentRequest {
            person,
            employer_cvr: key.employer,
            reference: key.reference,
            expected_revision: revision,
            facts: Some(wire_facts(&facts)),
            validate_only: dry,
        }),
        Command::Cancel { key, reason, revision } => Request::Cancel(CancelPaymentRequest {
            person,
            employer_cvr: key.employer,
            reference: key.reference,
            expected_revision: revision,
            reason,
            validate_only: dry,
        }),
    }
}

fn visitation(
    person: Option<PersonRef>,
    decision: Decision,
    validate_only: bool,
    cpr_of: impl Fn(u32) -> String,
) -> Request {
    let municipality_code = code(decision.municipality);
    let (reference, decision_date) = (decision.reference, wire_day(decision.decided));
    match decision.kind {
        Kind::Grant { frikort_id, from, applied, criteria } => Request::Grant(GrantCardRequest {
            person,
            municipality_code,
            reference,
            frikort_id,
            decision_date,
            effective_date: wire_day(from),
            validate_only,
            criteria: criteria.into_iter().collect(),
            application_date: applied.and_then(wire_day),
        }),
        Kind::Reject { applied, criteria } => Request::Reject(RejectApplicationRequest {
            person,
            municipality_code,
            reference,
            application_date: wire_day(applied),
            decision_date,
            criteria: criteria.into_iter().collect(),
            validate_only,
        }),
        Kind::Deactivate { last_day, criteria } => Request::Deactivate(DeactivateCardRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            // The default, left out.
            effective_date: wire_day(last_day).filter(|day| Some(*day) != decision_date),
            validate_only,
            criteria: criteria.into_iter().collect(),
        }),
        Kind::Reactivate { from } => Request::Reactivate(ReactivateCardRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            effective_date: wire_day(from),
            validate_only,
        }),
        kind => about_person(
            Requested { person, municipality_code, reference, decision_date, validate_only },
            kind,
            cpr_of,
        ),
    }
}

/// What every decision has.
struct Requested {
    person: Option<PersonRef>,
    municipality_code: String,
    reference: String,
    decision_date: Option<Date>,
    validate_only: bool,
}

/// Decisions that neither open nor close a card by themselves.
fn about_person(requested: Requested, kind: Kind, cpr_of: impl Fn(u32) -> String) -> Request {
    let Requested { person, municipality_code, reference, decision_date, validate_only } =
        requested;
    match kind {
        Kind::Reverse { municipality, reference: reversed_reference } => {
            Request::Reverse(ReverseDecisionRequest {
                person,
                // The default, left out.
                reversed_municipality_code: Some(code(municipality))
                    .filter(|reversed| *reversed != municipality_code)
                    .unwrap_or_default(),
                municipality_code,
                reference,
                decision_date,
                reversed_reference,
                validate_only,
            })
        }
        Kind::Reissue { frikort_id } => Request::Reissue(ReissueCardRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            frikort_id,
            validate_only,
        }),
        Kind::Transfer { to } => Request::Transfer(TransferCardRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            to_municipality_code: code(to),
            validate_only,
        }),
        Kind::Control { dispensation, criteria } => Request::Control(RecordControlRequest {
            person,
            municipality_code,
            reference,
            control_date: decision_date,
            dispensation,
            validate_only,
            criteria: criteria.into_iter().collect(),
        }),
        Kind::Renumber { number } => Request::Renumber(ChangeCprNumberRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            new_cpr_number: cpr_of(number),
            validate_only,
        }),
        Kind::Grant { .. }
        | Kind::Reject { .. }
        | Kind::Deactivate { .. }
        | Kind::Reactivate { .. } => unreachable!("built by who calls this"),
    }
}

/// As of when a question is asked.
pub(super) fn wire_as_of(as_of: AsOf) -> v1::AsOf {
    let known_at = as_of.known.map(|known| match known {
        Known::At(position, _) => v1::as_of::KnownAt::KnownPosition(position),
        Known::When(instant, _) => v1::as_of::KnownAt::KnownTime(timestamp(instant)),
    });
    v1::AsOf { known_at, paid_through: as_of.through.and_then(wire_day) }
}

fn code(municipality: u16) -> String {
    format!("{municipality:03}")
}

pub(super) fn wire_day(day: Day) -> Option<Date> {
    Some(day.0.into())
}

fn wire_facts(facts: &Facts) -> PaymentFacts {
    PaymentFacts {
        amount_oere: facts.oere,
        payment_date: wire_day(facts.paid),
        work_period: facts.work.map(|(first, last)| v1::DayPeriod {
            first_day: wire_day(first),
            last_day: wire_day(last),
        }),
        hours_hundredths: facts.hours,
        components: facts.parts.map(|[wage_oere, holiday_pay_oere, pension_oere]| {
            PaymentComponents { wage_oere, holiday_pay_oere, pension_oere }
        }),
    }
}

pub(super) fn wire_limit(limit: &Limit) -> v1::AnnualLimit {
    v1::AnnualLimit {
        year: limit.year,
        limit_oere: limit.oere,
        in_force_date: wire_day(limit.from),
        citation: limit.citation.clone(),
    }
}
