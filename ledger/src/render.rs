//! From the domain to the wire: the answers.

use frikort_domain::{
    Amount, Card, CardStatus, LimitEntry, PaymentKey, PaymentOutcome, PaymentState, PersonId,
    YearTotals,
};
use frikort_proto::{Date as WireDate, v1};
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
