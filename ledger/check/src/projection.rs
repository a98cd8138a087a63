//! What is read of the projection: the only place that knows its tables.
//!
//! All of it is read in one snapshot together with the records that it is held against, and of the
//! generation that is served there.

use rust_decimal::Decimal;
use sqlx::PgConnection;
use time::Date;
use uuid::Uuid;

use crate::rows::{Card, Limit, Payment, Persons, Total};

/// Where the projection stands; 0 where it has not begun, or is not served.
pub(crate) async fn position(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<i64, sqlx::Error> {
    Ok(served(connection, partition).await?.unwrap_or_default())
}

/// Where the generation stands that is served; `None` where none is.
pub(crate) async fn served(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<Option<i64>, sqlx::Error> {
    let query = sqlx::query_scalar!(
        "SELECT position FROM projection.checkpoint WHERE partition = $1 AND state = 'serving'",
        partition
    );
    query.fetch_optional(connection).await
}

/// The rows of all persons from one to another.
pub(crate) async fn persons(
    connection: &mut PgConnection,
    partition: i32,
    from: Uuid,
    to: Uuid,
) -> Result<Persons, sqlx::Error> {
    let mut persons = Persons::default();
    let totals = sqlx::query!(
        "SELECT person_id, year, total, applied_limit, payments, position
         FROM projection.annual_total
         WHERE partition = $1 AND person_id >= $2 AND person_id <= $3
           AND generation = (SELECT generation FROM projection.checkpoint
                           WHERE partition = $1 AND state = 'serving')",
        partition,
        from,
        to
    );
    for row in totals.fetch_all(&mut *connection).await? {
        let total = Total {
            total: row.total,
            applied_limit: row.applied_limit,
            payments: row.payments,
            position: row.position,
        };
        persons.entry(row.person_id).or_default().totals.insert(row.year, total);
    }
    let cards = sqlx::query!(
        "SELECT person_id, frikort_tags, municipality, active, controlled_in, position
         FROM projection.card WHERE partition = $1 AND person_id >= $2 AND person_id <= $3
           AND generation = (SELECT generation FROM projection.checkpoint
                           WHERE partition = $1 AND state = 'serving')",
        partition,
        from,
        to
    );
    for row in cards.fetch_all(&mut *connection).await? {
        let card = Card {
            frikort_tags: row.frikort_tags,
            municipality: row.municipality,
            active: row.active,
            controlled_in: row.controlled_in,
            position: row.position,
        };
        persons.entry(row.person_id).or_default().card = Some(card);
    }
    add_payments(&mut persons, connection, partition, from, to).await?;
    Ok(persons)
}

async fn add_payments(
    persons: &mut Persons,
    connection: &mut PgConnection,
    partition: i32,
    from: Uuid,
    to: Uuid,
) -> Result<(), sqlx::Error> {
    let payments = sqlx::query!(
        "SELECT person_id, employer_cvr, reference, registered, drawn, position, year, revision,
                attribution_date, payment_date, work_first, work_last, cancelled, amount, exempt,
                hours, wage, holiday_pay, pension
         FROM projection.payment WHERE partition = $1 AND person_id >= $2 AND person_id <= $3
           AND generation = (SELECT generation FROM projection.checkpoint
                           WHERE partition = $1 AND state = 'serving')",
        partition,
        from,
        to
    );
    for row in payments.fetch_all(connection).await? {
        let payment = Payment {
            registered: row.registered,
            drawn: row.drawn,
            position: row.position,
            year: row.year,
            revision: row.revision,
            attribution_date: row.attribution_date,
            payment_date: row.payment_date,
            work: row.work_first.zip(row.work_last),
            half_work: row.work_first.is_some() != row.work_last.is_some(),
            cancelled: row.cancelled,
            amount: row.amount,
            exempt: row.exempt,
            hours: row.hours,
            components: [row.wage, row.holiday_pay, row.pension],
        };
        let key = (row.employer_cvr, row.reference);
        persons.entry(row.person_id).or_default().payments.insert(key, payment);
    }
    Ok(())
}

/// The limits, by year and in-force day.
pub(crate) async fn limits(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<Vec<((i32, Date), Limit)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT year, in_force_from, amount, citation, position FROM projection.annual_limit
         WHERE partition = $1
           AND generation = (SELECT generation FROM projection.checkpoint
                           WHERE partition = $1 AND state = 'serving')",
        partition
    )
    .fetch_all(connection)
    .await?;
    let limit = |amount: Decimal, citation, position| Limit { amount, citation, position };
    Ok(rows
        .into_iter()
        .map(|row| ((row.year, row.in_force_from), limit(row.amount, row.citation, row.position)))
        .collect())
}

/// What the projection has of decisions about applications at positions `from` to `to`: position,
/// municipality, day of the decision, days that it took.
pub(crate) async fn applications(
    connection: &mut PgConnection,
    partition: i32,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, (i16, Date, i32))>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT position, municipality, decided_on, days FROM projection.application
         WHERE partition = $1 AND position >= $2 AND position <= $3
           AND generation = (SELECT generation FROM projection.checkpoint
                           WHERE partition = $1 AND state = 'serving')",
        partition,
        from,
        to
    )
    .fetch_all(connection)
    .await?;
    let values = |municipality, decided_on, days| (municipality, decided_on, days);
    Ok(rows
        .into_iter()
        .map(|row| (row.position, values(row.municipality, row.decided_on, row.days)))
        .collect())
}
