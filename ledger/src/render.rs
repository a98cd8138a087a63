//! From the domain to the wire: the answers.

use frikort_domain::{
    Amount, Card, CardStatus, LimitEntry, PaymentKey, PaymentOutcome, PaymentState, PersonId,
    YearTotals,
};
use frikort_proto::{Date as WireDate, v1};
use time::{Date, OffsetDateTime};

pub(crate) fn date(day: Date) -> WireDate {
    WireDate {
        year: day.year(),
        month: i32::from(u8::from(day.month())),
        day: i32::from(day.day()),
    }
}

pub(crate) fn place(
    partition: i32,
    position: i64,
    recorded_at: Option<OffsetDateTime>,
) -> v1::LedgerPosition {
    let recorded_time = recorded_at.map(|at| prost_types::Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or_default(),
    });
    v1::LedgerPosition { partition, position, recorded_time }
}

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
        attribution_date: Some(date(outcome.attribution_date)),
        amount_oere: amount.oere(),
        exempt_oere: outcome.exempt.oere(),
        taxable_oere: outcome.taxable.oere(),
        cancelled: amount.is_zero(),
        position,
        facts: None,
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
        attribution_date: Some(date(state.facts.attribution_date())),
        amount_oere: state.amount().oere(),
        exempt_oere: state.exempt.oere(),
        taxable_oere: state.taxable().oere(),
        cancelled: state.cancelled,
        position: state.position,
        facts: None,
    }
}

pub(crate) fn allowance(person: PersonId, year: &YearTotals) -> v1::Allowance {
    let used = year.limit.min(year.total);
    v1::Allowance {
        person_id: person.to_string(),
        year: year.year,
        limit_oere: year.limit.oere(),
        total_oere: year.total.oere(),
        used_oere: used.oere(),
        remaining_oere: year.limit.saturating_sub(used).oere(),
        taxable_oere: year.total.saturating_sub(used).oere(),
        payment_count: number(year.payments),
    }
}

pub(crate) fn card(person: PersonId, card: &Card) -> v1::Card {
    let status = match card.status {
        CardStatus::Active => v1::CardStatus::Active,
        CardStatus::Deactivated => v1::CardStatus::Deactivated,
    };
    let period = |(first, last): &(Date, Option<Date>)| v1::ActivePeriod {
        first_day: Some(date(*first)),
        last_day: last.map(date),
    };
    v1::Card {
        person_id: person.to_string(),
        status: status.into(),
        municipality_code: card.municipality.to_string(),
        active_periods: card.periods.iter().map(period).collect(),
    }
}

pub(crate) fn limit(entry: &LimitEntry) -> v1::AnnualLimit {
    v1::AnnualLimit {
        year: entry.year,
        limit_oere: entry.limit.oere(),
        in_force_date: Some(date(entry.in_force_from)),
        citation: entry.citation.clone(),
    }
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
