//! Whom a caller sees, and how much (W1, W2): an employer those whom it pays, or whose Frikort-ID it
//! has beside the CPR number, and of them the balance and its own rows; a municipality its citizens;
//! benefit and tax systems everybody who has a card, without employers.
//!
//! Whom a caller does not see is nobody to it (W3); the right is that of now, also where the past is
//! asked about. What must stay out: reading what is told.

use std::collections::HashSet;

use frikort_access::{Caller, Role};
use frikort_domain::PersonId;
use frikort_proto::v1;
use frikort_register::{Named, Who};
use uuid::Uuid;

use crate::{
    query::{Allowances, Found},
    statement::StatedPayment,
    tables::municipality,
};

/// Of those found, whom the caller sees; a place each, empty for the others.
pub(crate) async fn seen(
    allowances: &Allowances,
    caller: &Caller,
    named: &[&Named],
    found: Vec<Option<Found>>,
) -> Result<Vec<Option<Found>>, sqlx::Error> {
    if matches!(caller.role, Role::Operator | Role::Benefit | Role::Tax) {
        return Ok(found);
    }
    let mut visible = HashSet::new();
    for partition in allowances.partitions() {
        let of_it = found.iter().flatten().filter(|(person, _)| person.partition == partition);
        let mut persons: Vec<Uuid> = of_it.map(|(person, _)| person.id.0).collect();
        if persons.is_empty() {
            // Nobody is looked for too: an answer that came sooner would tell (W3).
            persons.push(Uuid::nil());
        }
        visible.extend(match caller.role {
            Role::Employer => paid(allowances, caller, partition, &persons).await?,
            _ => citizens(allowances, caller, partition, &persons).await?,
        });
    }
    let sees = |named: &Named, (person, tag): &Found| {
        // A Frikort-ID that is not the person's is found out where the person is read.
        let shown = caller.role == Role::Employer && matches!(named.who, Who::Cpr(_));
        (shown && tag.is_some()) || visible.contains(&person.id.0)
    };
    let each = found.into_iter().zip(named);
    Ok(each.map(|(found, named)| found.filter(|found| sees(named, found))).collect())
}

/// Whom the caller's employers have paid: a payment that is not cancelled. Person by person, as
/// [`crate::tables::years`] reads.
async fn paid(
    allowances: &Allowances,
    caller: &Caller,
    partition: i32,
    persons: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT asked.person_id AS "person_id!"
           FROM projection.checkpoint AS c, unnest($2::uuid[]) AS asked (person_id)
           WHERE c.partition = $1 AND c.state = 'serving' AND EXISTS (
               SELECT FROM projection.payment
               WHERE partition = $1 AND generation = c.generation
                 AND person_id = asked.person_id AND employer_cvr = ANY($3) AND NOT cancelled
               OFFSET 0)"#,
        partition,
        persons,
        &employers(caller)
    )
    .fetch_all(&mut *allowances.store.pool().acquire().await?)
    .await
}

/// Whom the caller's municipality answers for, read in the same way.
async fn citizens(
    allowances: &Allowances,
    caller: &Caller,
    partition: i32,
    persons: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT asked.person_id AS "person_id!"
           FROM projection.checkpoint AS c, unnest($2::uuid[]) AS asked (person_id)
           WHERE c.partition = $1 AND c.state = 'serving' AND EXISTS (
               SELECT FROM projection.card
               WHERE partition = $1 AND generation = c.generation
                 AND person_id = asked.person_id AND municipality = $3
               OFFSET 0)"#,
        partition,
        persons,
        caller.municipality_code.map(municipality)
    )
    .fetch_all(&mut *allowances.store.pool().acquire().await?)
    .await
}

fn employers(caller: &Caller) -> Vec<i32> {
    let column = |cvr: &frikort_domain::Cvr| i32::try_from(cvr.number()).unwrap_or(i32::MAX);
    caller.cvr_numbers.iter().map(column).collect()
}

/// An allowance, as far as the caller sees it.
pub(crate) fn allowance(caller: &Caller, allowance: v1::Allowance) -> v1::Allowance {
    if caller.sees_totals() { allowance } else { allowance.balance() }
}

/// Leaves of a person's payments those that the caller sees.
pub(crate) fn own_rows(caller: &Caller, payments: &mut Vec<StatedPayment>) {
    if caller.role == Role::Employer {
        let own = employers(caller);
        payments.retain(|payment| own.contains(&payment.employer_cvr));
    }
}

/// A payment, as far as the caller sees it: to benefit and tax systems without its employer, and
/// without the employer's reference, which may be as good as a name.
pub(crate) fn payment(caller: &Caller, mut payment: v1::Payment) -> v1::Payment {
    if matches!(caller.role, Role::Benefit | Role::Tax) {
        payment.employer_cvr.clear();
        payment.reference.clear();
    }
    payment
}

/// Who are told from the others, in the order in which they were found.
pub(crate) fn ids(found: &[Option<Found>]) -> Vec<PersonId> {
    let id = |found: &Option<Found>| found.as_ref().map_or(frikort_access::NOBODY, |(p, _)| p.id);
    found.iter().map(id).collect()
}
