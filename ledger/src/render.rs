//! From the domain to the wire: the answers.

use frikort_domain::{
    Amount, Card, CardStatus, Criteria, Criterion, Event, LimitEntry, MunicipalityCode, PaymentKey,
    PaymentOutcome, PaymentState, PersonId, RecordedDecision, Reference, YearTotals,
};
use frikort_proto::{
    Date as WireDate,
    v1::{self, CardDecisionKind as Kind},
};
use time::Date;

/// A payment as an answer tells it: `amount` is zero when it is cancelled.
pub(crate) fn payment(
    person: PersonId,
    key: &PaymentKey,
    amount: Amount,
    outcome: &PaymentOutcome,
    position: i64,
) -> v1::Payment {
    v1::Payment {
        person_id: person.to_string(),
        employer_cvr: key.employer_cvr.to_string(),
        reference: key.reference.as_str().to_owned(),
        revision: number(outcome.revision),
        year: outcome.year.year,
        attribution_date: Some(outcome.attribution_date.into()),
        amount_oere: amount.oere(),
        exempt_oere: outcome.exempt.oere(),
        taxable_oere: outcome.taxable.oere(),
        cancelled: amount.is_zero(),
        position,
        facts: None,
        history: Vec::new(),
    }
}

/// A payment as it stands in an account.
pub(crate) fn standing(person: PersonId, key: &PaymentKey, state: &PaymentState) -> v1::Payment {
    v1::Payment {
        person_id: person.to_string(),
        employer_cvr: key.employer_cvr.to_string(),
        reference: key.reference.as_str().to_owned(),
        revision: number(state.revision),
        year: state.year,
        attribution_date: Some(state.facts.attribution_date().into()),
        amount_oere: state.amount().oere(),
        exempt_oere: state.exempt.oere(),
        taxable_oere: state.taxable().oere(),
        cancelled: state.cancelled,
        position: state.position,
        facts: None,
        history: Vec::new(),
    }
}

pub(crate) fn allowance(person: PersonId, year: &YearTotals) -> v1::Allowance {
    let (limit, total) = (year.limit.oere(), year.total.oere());
    v1::Allowance::new(person.to_string(), year.year, limit, total, year.payments)
}

pub(crate) fn card(person: PersonId, card: &Card) -> v1::Card {
    let status = match card.status {
        CardStatus::Active => v1::CardStatus::Active,
        CardStatus::Deactivated => v1::CardStatus::Deactivated,
    };
    let period = |(first, last): &(Date, Option<Date>)| v1::ActivePeriod {
        first_day: Some((*first).into()),
        last_day: last.map(WireDate::from),
    };
    v1::Card {
        person_id: person.to_string(),
        status: status.into(),
        municipality_code: card.municipality.to_string(),
        active_periods: card.periods.iter().map(period).collect(),
        control_due_date: card.control_due().map(WireDate::from),
    }
}

/// A decision as it stands on record; `None` for an event that is none.
pub(crate) fn decision(partition: i32, recorded: &RecordedDecision) -> Option<v1::CardDecision> {
    let plain = |kind: Kind, municipality: MunicipalityCode, reference: &Reference, day: Date| {
        v1::CardDecision {
            kind: kind.into(),
            municipality_code: municipality.to_string(),
            reference: reference.as_str().to_owned(),
            decision_date: Some(day.into()),
            ..v1::CardDecision::default()
        }
    };
    let told = match &recorded.event {
        Event::CardGranted(d, _) => v1::CardDecision {
            application_date: d.applied_on.map(WireDate::from),
            effective_date: Some(d.effective_from.into()),
            criteria: criteria(&d.criteria),
            ..plain(Kind::Grant, d.municipality, &d.reference, d.decided_on)
        },
        Event::ApplicationRejected(d) => v1::CardDecision {
            application_date: Some(d.applied_on.into()),
            criteria: criteria(&d.criteria),
            ..plain(Kind::Rejection, d.municipality, &d.reference, d.decided_on)
        },
        Event::CardDeactivated(d, _) => v1::CardDecision {
            effective_date: Some(d.last_day.into()),
            criteria: criteria(&d.criteria),
            reversed: recorded.reversed,
            ..plain(Kind::Deactivation, d.municipality, &d.reference, d.decided_on)
        },
        Event::CardReactivated(d, _) => v1::CardDecision {
            effective_date: Some(d.effective_from.into()),
            ..plain(Kind::Reactivation, d.municipality, &d.reference, d.decided_on)
        },
        Event::CardReissued(d) => plain(Kind::Reissue, d.municipality, &d.reference, d.decided_on),
        Event::DecisionReversed(d, _) => v1::CardDecision {
            reversed_municipality_code: d.reversed.municipality.to_string(),
            reversed_reference: d.reversed.reference.as_str().to_owned(),
            ..plain(Kind::Reversal, d.municipality, &d.reference, d.decided_on)
        },
        Event::CardTransferred(d) => v1::CardDecision {
            to_municipality_code: d.to.to_string(),
            ..plain(Kind::Transfer, d.municipality, &d.reference, d.decided_on)
        },
        Event::ControlRecorded(d) => v1::CardDecision {
            dispensation: d.dispensation,
            criteria: criteria(&d.criteria),
            ..plain(Kind::Control, d.municipality, &d.reference, d.decided_on)
        },
        Event::CprNumberChanged(d) => {
            plain(Kind::NumberChange, d.municipality, &d.reference, d.decided_on)
        }
        Event::PaymentReported(..)
        | Event::PaymentCorrected(..)
        | Event::PaymentCancelled(..)
        | Event::AllowanceRecalculated(..)
        | Event::AnnualLimitSet(_) => return None,
    };
    let place = v1::LedgerPosition::new(partition, recorded.position, Some(recorded.recorded_at));
    Some(v1::CardDecision { position: Some(place), ..told })
}

fn criteria(criteria: &Criteria) -> Vec<i32> {
    let code = |criterion: &Criterion| match criterion {
        Criterion::SocialProblems => v1::Criterion::SocialProblems.into(),
        Criterion::EducationLastYear => v1::Criterion::EducationLastYear.into(),
        Criterion::IncomeLastYear => v1::Criterion::IncomeLastYear.into(),
        Criterion::Residence => v1::Criterion::Residence.into(),
        Criterion::Age => v1::Criterion::Age.into(),
    };
    criteria.iter().map(code).collect()
}

pub(crate) fn limit(entry: &LimitEntry) -> v1::AnnualLimit {
    v1::AnnualLimit {
        year: entry.year,
        limit_oere: entry.limit.oere(),
        in_force_date: Some(entry.in_force_from.into()),
        citation: entry.citation.clone(),
    }
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
