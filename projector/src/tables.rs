//! The projection's tables: writing a page's changes together with the checkpoint, in one
//! transaction, and reading one consistent state.
//!
//! Every statement touches one partition and names it first, and says of which generation: the one
//! that is folded, or, in the same statement, the one that is served. So no answer is ever mixed of
//! two, and none is read of one that was retired or is being dropped.

use std::collections::{BTreeMap, HashMap};

use frikort_domain::{Amount, FrikortTag, LimitEntry, LimitSchedule, MunicipalityCode, PersonId};
use frikort_event_store::{ConnectionPool, EventHash, sqlstate};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::{
    PROJECTION_VERSION,
    fold::{CardChange, Changes, PaymentChange},
};

/// Where the projection of one partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Checkpoint {
    /// Not kept by callers: a listing goes on in the generation that follows.
    #[serde(skip)]
    pub(crate) generation: i32,
    pub(crate) position: i64,
    #[serde(with = "time::serde::timestamp::microseconds::option")]
    pub(crate) recorded_at: Option<OffsetDateTime>,
    /// The hash of the event at `position`. Callers have `recorded_at` for it.
    #[serde(skip)]
    pub(crate) event_hash: EventHash,
    /// Nothing is answered before this position.
    #[serde(skip)]
    pub(crate) serve_from: i64,
}

/// Whose rows: one generation of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Of {
    pub(crate) partition: i32,
    pub(crate) generation: i32,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Totals and checkpoint are committed.
    Yes,
    /// Another projector has moved the checkpoint, or another generation is served, or one that a
    /// newer projector began, or the page is of another history. Nothing was written.
    CheckpointMoved,
}

/// Why changes could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The database says so.
    #[error("the projection cannot be written")]
    Database(#[from] sqlx::Error),
    /// A change of a payment that the projection does not have contradicts the history.
    #[error("it changes a payment that is not in the projection")]
    NoSuchPayment,
}

impl WriteError {
    /// Whether the changes would be refused again, however often they are written.
    pub(crate) fn is_contradiction(&self) -> bool {
        match self {
            Self::Database(error) => {
                sqlstate::meaning_of(error) == sqlstate::Meaning::Contradiction
            }
            Self::NoSuchPayment => true,
        }
    }
}

/// Reads where the generation of a partition stands that is served.
pub(crate) async fn checkpoint(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<Checkpoint, sqlx::Error> {
    let query = sqlx::query_as!(
        Checkpoint,
        r#"SELECT generation, position, recorded_at, event_hash AS "event_hash: EventHash",
                  serve_from
           FROM projection.checkpoint WHERE partition = $1 AND state = 'serving'"#,
        partition
    );
    Ok(query.fetch_optional(connection).await?.unwrap_or_default())
}

/// The tables are of another history than the events: nothing is answered from them.
fn other_history() -> sqlx::Error {
    sqlx::Error::Protocol("the projection is of another history than the events".to_owned())
}

/// The same of a projection that is answered from: fails where its event is not in the history.
pub(crate) async fn answered_checkpoint(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<Checkpoint, sqlx::Error> {
    let checkpoint = checkpoint(&mut *connection, partition).await?;
    match is_in_history(connection, partition, checkpoint).await? {
        true => Ok(checkpoint),
        false => Err(other_history()),
    }
}

/// Whether the event that a checkpoint names is in the history.
pub(crate) async fn is_in_history(
    connection: &mut PgConnection,
    partition: i32,
    checkpoint: Checkpoint,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query_scalar!(
        r#"SELECT ledger.event_hash($1, $2) AS "hash: EventHash""#,
        partition,
        checkpoint.position
    );
    Ok(query.fetch_one(connection).await? == Some(checkpoint.event_hash))
}

/// Retires a generation that is served and is of another history, and begins an empty one in its
/// place, which answers nothing before it is at `serve_from`. Does nothing where the checkpoint was
/// moved meanwhile.
pub(crate) async fn begin_anew(
    pool: &ConnectionPool,
    partition: i32,
    stale: Checkpoint,
    serve_from: i64,
) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let retired = sqlx::query!(
        "UPDATE projection.checkpoint SET state = 'retired', since = now()
         WHERE partition = $1 AND generation = $2 AND position = $3 AND event_hash = $4
           AND state = 'serving'",
        partition,
        stale.generation,
        stale.position,
        stale.event_hash as EventHash
    )
    .execute(&mut *tx)
    .await?;
    if retired.rows_affected() == 1 {
        sqlx::query!(
            "INSERT INTO projection.checkpoint (partition, generation, state, serve_from)
             SELECT $1, max(generation) + 1, 'serving', $2 FROM projection.checkpoint",
            partition,
            serve_from
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await
}

/// The version of the fold that began the generation that is served; 0 where nothing is folded yet.
pub(crate) async fn version(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<i32, sqlx::Error> {
    let query = sqlx::query_scalar!(
        "SELECT version FROM projection.checkpoint
         WHERE partition = $1 AND state = 'serving' AND position > 0",
        partition
    );
    Ok(query.fetch_optional(connection).await?.unwrap_or_default())
}

/// Writes a page's changes to the generation that is served, if it is still at `from`, and the page's
/// last event is in the history.
pub(crate) async fn write(
    pool: &ConnectionPool,
    partition: i32,
    from: Checkpoint,
    changes: &Changes,
) -> Result<Written, WriteError> {
    let mut tx = pool.begin().await?;
    let moved = sqlx::query!(
        "UPDATE projection.checkpoint
         SET position = $4, recorded_at = $5, event_hash = $8,
             version = CASE WHEN position = 0 THEN $6 ELSE version END
         WHERE partition = $1 AND generation = $2 AND position = $3 AND event_hash = $7
           AND state = 'serving' AND (version <= $6 OR position = 0)
           AND ledger.event_hash($1, $4) = $8",
        partition,
        from.generation,
        from.position,
        changes.position,
        changes.recorded_at,
        PROJECTION_VERSION,
        from.event_hash as EventHash,
        changes.event_hash as EventHash
    )
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() != 1 {
        return Ok(Written::CheckpointMoved);
    }
    write_rows(&mut tx, Of { partition, generation: from.generation }, changes).await?;
    tx.commit().await?;
    Ok(Written::Yes)
}

/// Writes what a page changed, without the checkpoint, which is the caller's to move in the same
/// transaction.
pub(crate) async fn write_rows(
    tx: &mut PgConnection,
    of: Of,
    changes: &Changes,
) -> Result<(), WriteError> {
    write_totals(tx, of, changes).await?;
    insert_payments(tx, of, changes).await?;
    update_payments(tx, of, changes).await?;
    write_cards(tx, of, changes).await?;
    write_applications(tx, of, changes).await?;
    write_limits(tx, of, changes).await?;
    Ok(())
}

async fn write_totals(tx: &mut PgConnection, of: Of, changes: &Changes) -> Result<(), sqlx::Error> {
    if changes.totals.is_empty() {
        return Ok(());
    }
    // Rows in the order of the key touch each index page once.
    let mut rows: Vec<_> = changes.totals.iter().collect();
    rows.sort_unstable_by_key(|(key, _)| **key);
    let persons: Vec<Uuid> = rows.iter().map(|((person, _), _)| person.0).collect();
    let years: Vec<i32> = rows.iter().map(|((_, year), _)| *year).collect();
    let totals: Vec<Decimal> = rows.iter().map(|(_, total)| total.total.decimal()).collect();
    let limits: Vec<Decimal> = rows.iter().map(|(_, total)| total.limit.decimal()).collect();
    let payments: Vec<i32> = rows.iter().map(|(_, total)| signed(total.payments)).collect();
    let positions: Vec<i64> = rows.iter().map(|(_, total)| total.position).collect();
    sqlx::query!(
        "INSERT INTO projection.annual_total
             (partition, generation, person_id, year, total, applied_limit, payments, position)
         SELECT $1, $2, * FROM unnest($3::uuid[], $4::integer[], $5::numeric[], $6::numeric[],
             $7::integer[], $8::bigint[])
         ON CONFLICT ON CONSTRAINT annual_total_pkey DO UPDATE
         SET total = excluded.total, applied_limit = excluded.applied_limit,
             payments = excluded.payments, position = excluded.position",
        of.partition,
        of.generation,
        &persons,
        &years,
        &totals,
        &limits,
        &payments,
        &positions
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Payment rows, column by column.
#[derive(Default)]
struct Columns {
    persons: Vec<Uuid>,
    employers: Vec<i32>,
    references: Vec<String>,
    registered: Vec<Option<i64>>,
    drawn: Vec<Option<i64>>,
    positions: Vec<i64>,
    years: Vec<Option<i32>>,
    revisions: Vec<Option<i32>>,
    attributed: Vec<Option<Date>>,
    paid: Vec<Option<Date>>,
    work_first: Vec<Option<Date>>,
    work_last: Vec<Option<Date>>,
    cancelled: Vec<bool>,
    amounts: Vec<Option<Decimal>>,
    exempt: Vec<Decimal>,
    hours: Vec<Option<Decimal>>,
    wage: Vec<Option<Decimal>>,
    holiday_pay: Vec<Option<Decimal>>,
    pension: Vec<Option<Decimal>>,
}

impl Columns {
    /// The new payments of a page, or those that were there before, in the order of the key.
    fn of(changes: &Changes, new: bool) -> Self {
        let mut rows: Vec<_> = changes
            .payments
            .iter()
            .filter(|(_, change)| change.registered.is_some() == new)
            .collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        let mut columns = Self::default();
        for ((person, key), change) in rows {
            columns.persons.push(person.0);
            columns.employers.push(signed(key.employer_cvr.number()));
            columns.references.push(key.reference.as_str().to_owned());
            columns.push(change);
        }
        columns
    }

    fn push(&mut self, change: &PaymentChange) {
        let stated = change.stated.as_ref();
        let facts = stated.map(|stated| &stated.facts);
        let work = facts.and_then(|facts| facts.work);
        let components = facts.and_then(|facts| facts.components);
        self.registered.push(change.registered);
        self.drawn.push(change.drawn);
        self.positions.push(change.position);
        self.years.push(stated.map(|stated| stated.year));
        self.revisions.push(change.revision.map(signed));
        self.attributed.push(stated.map(|stated| stated.attribution_date));
        self.paid.push(facts.map(|facts| facts.payment_date));
        self.work_first.push(work.map(|work| work.first));
        self.work_last.push(work.map(|work| work.last));
        self.cancelled.push(change.cancelled);
        self.amounts.push(facts.map(|facts| facts.amount.decimal()));
        self.exempt.push(change.exempt.decimal());
        let hours = facts.and_then(|facts| facts.hours);
        self.hours.push(hours.map(|hours| Decimal::new(hours.hundredths().into(), 2)));
        self.wage.push(components.map(|parts| parts.wage.decimal()));
        self.holiday_pay.push(components.map(|parts| parts.holiday_pay.decimal()));
        self.pension.push(components.map(|parts| parts.pension.decimal()));
    }
}

async fn insert_payments(
    tx: &mut PgConnection,
    of: Of,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    let rows = Columns::of(changes, true);
    if rows.persons.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO projection.payment (partition, generation, person_id, employer_cvr, reference,
             registered, drawn, position, year, revision, attribution_date, payment_date,
             work_first, work_last, cancelled, amount, exempt, hours, wage, holiday_pay, pension)
         SELECT $1, $2, * FROM unnest($3::uuid[], $4::integer[], $5::text[], $6::bigint[],
             $7::bigint[], $8::bigint[], $9::integer[], $10::integer[], $11::date[], $12::date[],
             $13::date[], $14::date[], $15::boolean[], $16::numeric[], $17::numeric[],
             $18::numeric[], $19::numeric[], $20::numeric[], $21::numeric[])",
        of.partition,
        of.generation,
        &rows.persons,
        &rows.employers,
        &rows.references,
        &rows.registered as &[Option<i64>],
        &rows.drawn as &[Option<i64>],
        &rows.positions,
        &rows.years as &[Option<i32>],
        &rows.revisions as &[Option<i32>],
        &rows.attributed as &[Option<Date>],
        &rows.paid as &[Option<Date>],
        &rows.work_first as &[Option<Date>],
        &rows.work_last as &[Option<Date>],
        &rows.cancelled,
        &rows.amounts as &[Option<Decimal>],
        &rows.exempt,
        &rows.hours as &[Option<Decimal>],
        &rows.wage as &[Option<Decimal>],
        &rows.holiday_pay as &[Option<Decimal>],
        &rows.pension as &[Option<Decimal>]
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Corrections, cancellations and moved splits of payments that were there before the page. Where
/// `amount` is given, all that the employer stated is replaced.
///
/// Partition and generation are joined like the rest of the key, and not given apart: a planner that
/// knows nothing of a table that has just been filled takes all of a generation for one row, and would
/// read everybody for each change.
async fn update_payments(
    tx: &mut PgConnection,
    of: Of,
    changes: &Changes,
) -> Result<(), WriteError> {
    let rows = Columns::of(changes, false);
    if rows.persons.is_empty() {
        return Ok(());
    }
    let updated = sqlx::query!(
        "UPDATE projection.payment AS p
         SET drawn = coalesce(c.drawn, p.drawn), position = c.position,
             year = coalesce(c.year, p.year), revision = coalesce(c.revision, p.revision),
             attribution_date = coalesce(c.attribution_date, p.attribution_date),
             payment_date = coalesce(c.payment_date, p.payment_date),
             work_first = CASE WHEN c.amount IS NULL THEN p.work_first ELSE c.work_first END,
             work_last = CASE WHEN c.amount IS NULL THEN p.work_last ELSE c.work_last END,
             cancelled = p.cancelled OR c.cancelled, amount = coalesce(c.amount, p.amount),
             exempt = c.exempt,
             hours = CASE WHEN c.amount IS NULL THEN p.hours ELSE c.hours END,
             wage = CASE WHEN c.amount IS NULL THEN p.wage ELSE c.wage END,
             holiday_pay = CASE WHEN c.amount IS NULL THEN p.holiday_pay ELSE c.holiday_pay END,
             pension = CASE WHEN c.amount IS NULL THEN p.pension ELSE c.pension END
         FROM (SELECT $1::integer AS partition, $2::integer AS generation, c.*
               FROM unnest($3::uuid[], $4::integer[], $5::text[], $6::bigint[], $7::bigint[],
                   $8::integer[], $9::integer[], $10::date[], $11::date[], $12::date[], $13::date[],
                   $14::boolean[], $15::numeric[], $16::numeric[], $17::numeric[], $18::numeric[],
                   $19::numeric[], $20::numeric[])
                   AS c (person_id, employer_cvr, reference, drawn, position, year, revision,
                         attribution_date, payment_date, work_first, work_last, cancelled, amount,
                         exempt, hours, wage, holiday_pay, pension) OFFSET 0) AS c
         WHERE p.partition = c.partition AND p.generation = c.generation
           AND p.person_id = c.person_id
           AND p.employer_cvr = c.employer_cvr AND p.reference = c.reference",
        of.partition,
        of.generation,
        &rows.persons,
        &rows.employers,
        &rows.references,
        &rows.drawn as &[Option<i64>],
        &rows.positions,
        &rows.years as &[Option<i32>],
        &rows.revisions as &[Option<i32>],
        &rows.attributed as &[Option<Date>],
        &rows.paid as &[Option<Date>],
        &rows.work_first as &[Option<Date>],
        &rows.work_last as &[Option<Date>],
        &rows.cancelled,
        &rows.amounts as &[Option<Decimal>],
        &rows.exempt,
        &rows.hours as &[Option<Decimal>],
        &rows.wage as &[Option<Decimal>],
        &rows.holiday_pay as &[Option<Decimal>],
        &rows.pension as &[Option<Decimal>]
    )
    .execute(tx)
    .await?;
    if usize::try_from(updated.rows_affected()) != Ok(rows.persons.len()) {
        return Err(WriteError::NoSuchPayment);
    }
    Ok(())
}

/// A row that is there gets its changes; one that is not there is a grant's to make, which gives all
/// of it. The key is joined whole, as in [`update_payments`].
async fn write_cards(tx: &mut PgConnection, of: Of, changes: &Changes) -> Result<(), sqlx::Error> {
    if changes.cards.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<_> = changes.cards.iter().collect();
    rows.sort_unstable_by_key(|(person, _)| **person);
    let persons: Vec<Uuid> = rows.iter().map(|(person, _)| person.0).collect();
    let tags: Vec<String> = rows.iter().map(|(_, card)| tags(card)).collect();
    let municipalities: Vec<Option<i16>> =
        rows.iter().map(|(_, card)| card.municipality.map(municipality)).collect();
    let active: Vec<Option<bool>> = rows.iter().map(|(_, card)| card.active).collect();
    let controlled: Vec<Option<i32>> = rows.iter().map(|(_, card)| card.controlled_in).collect();
    let positions: Vec<i64> = rows.iter().map(|(_, card)| card.position).collect();
    sqlx::query!(
        "WITH c AS (
             SELECT $1::integer AS partition, $2::integer AS generation, person_id,
                    string_to_array(tags, ',')::uuid[] AS tags, municipality, active,
                    controlled_in, position
             FROM unnest($3::uuid[], $4::text[], $5::smallint[], $6::boolean[], $7::integer[],
                 $8::bigint[]) AS c (person_id, tags, municipality, active, controlled_in, position)
         ), updated AS (
             UPDATE projection.card AS card
             SET frikort_tags = card.frikort_tags || c.tags,
                 municipality = coalesce(c.municipality, card.municipality),
                 active = coalesce(c.active, card.active),
                 controlled_in = greatest(c.controlled_in, card.controlled_in),
                 position = c.position
             FROM c
             WHERE card.partition = c.partition AND card.generation = c.generation
               AND card.person_id = c.person_id
             RETURNING card.person_id
         )
         INSERT INTO projection.card (partition, generation, person_id, frikort_tags,
             municipality, active, controlled_in, position)
         SELECT c.* FROM c WHERE c.person_id NOT IN (SELECT person_id FROM updated)",
        of.partition,
        of.generation,
        &persons,
        &tags,
        &municipalities as &[Option<i16>],
        &active as &[Option<bool>],
        &controlled as &[Option<i32>],
        &positions
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The tags of the Frikort-IDs as text, with a comma between: an array of lists cannot be unnested.
fn tags(card: &CardChange) -> String {
    let tags: Vec<_> = card.tags.iter().map(|tag| Uuid::from_bytes(tag.0).to_string()).collect();
    tags.join(",")
}

/// A municipality's code as it stands in a column.
pub(crate) fn municipality(code: MunicipalityCode) -> i16 {
    i16::try_from(code.number()).unwrap_or(i16::MAX)
}

async fn write_applications(
    tx: &mut PgConnection,
    of: Of,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    if changes.applications.is_empty() {
        return Ok(());
    }
    let rows = &changes.applications;
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let municipalities: Vec<i16> = rows.iter().map(|row| municipality(row.municipality)).collect();
    let decided: Vec<Date> = rows.iter().map(|row| row.decided_on).collect();
    let days: Vec<i32> = rows.iter().map(|row| row.days).collect();
    sqlx::query!(
        "INSERT INTO projection.application
             (partition, generation, position, municipality, decided_on, days)
         SELECT $1, $2, * FROM unnest($3::bigint[], $4::smallint[], $5::date[], $6::integer[])",
        of.partition,
        of.generation,
        &positions,
        &municipalities,
        &decided,
        &days
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_limits(tx: &mut PgConnection, of: Of, changes: &Changes) -> Result<(), sqlx::Error> {
    for (entry, position) in &changes.limits {
        sqlx::query!(
            "INSERT INTO projection.annual_limit
                 (partition, generation, year, in_force_from, amount, citation, position)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT ON CONSTRAINT annual_limit_pkey DO UPDATE
             SET amount = excluded.amount, citation = excluded.citation,
                 position = excluded.position",
            of.partition,
            of.generation,
            entry.year,
            entry.in_force_from,
            entry.limit.decimal(),
            entry.citation,
            position
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// What the projection knows of one person's years, at one position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Years {
    /// Tags of the Frikort-IDs granted; empty for somebody without a card.
    pub(crate) tags: Vec<FrikortTag>,
    /// Year, sum and number of payments; few, so a list.
    pub(crate) totals: Vec<(i32, Amount, u32)>,
}

impl Years {
    /// Notes a year's new sum.
    pub(crate) fn set(&mut self, year: i32, total: Amount, payments: u32) {
        match self.totals.iter_mut().find(|(of, ..)| *of == year) {
            Some(entry) => *entry = (year, total, payments),
            None => self.totals.push((year, total, payments)),
        }
    }

    /// Sum and number of the payments of a year.
    pub(crate) fn of(&self, year: i32) -> (Amount, u32) {
        let found = self.totals.iter().find(|(of, ..)| *of == year);
        found.map_or((Amount::ZERO, 0), |(_, total, payments)| (*total, *payments))
    }

    /// Whether this is somebody with a card, and with this Frikort-ID where one is given (N4).
    pub(crate) fn knows(&self, frikort: Option<FrikortTag>) -> bool {
        match frikort {
            None => !self.tags.is_empty(),
            Some(tag) => self.tags.contains(&tag),
        }
    }
}

/// Reads a partition's limits.
pub(crate) async fn limits(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<LimitSchedule, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT year, in_force_from, amount, citation FROM projection.annual_limit
         WHERE partition = $1
           AND generation = (SELECT generation FROM projection.checkpoint
                             WHERE partition = $1 AND state = 'serving')",
        partition
    )
    .fetch_all(connection)
    .await?;
    let mut schedule = LimitSchedule::default();
    for row in rows {
        let limit = amount(row.amount)?;
        let (year, in_force_from) = (row.year, row.in_force_from);
        schedule.set(LimitEntry { year, limit, in_force_from, citation: row.citation });
    }
    Ok(schedule)
}

/// Position and instant of the event that last settled each of a person's years.
pub(crate) async fn settled(
    connection: &mut PgConnection,
    partition: i32,
    person: PersonId,
) -> Result<BTreeMap<i32, (i64, OffsetDateTime)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT t.year, t.position, e.recorded_at
         FROM projection.annual_total AS t
         JOIN ledger.event AS e ON e.partition = t.partition AND e.position = t.position
         WHERE t.partition = $1 AND t.person_id = $2
           AND t.generation = (SELECT generation FROM projection.checkpoint
                               WHERE partition = $1 AND state = 'serving')",
        partition,
        person.0
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.year, (row.position, row.recorded_at))).collect())
}

/// Reads some persons' years and where the projection stands, in one statement and so in one
/// snapshot. Persons whom the projection does not know are left out.
///
/// Person by person, whatever the statistics say: of a generation that has just been built they know
/// nothing, and a join planned by them would read everybody's rows for the few that are asked for.
pub(crate) async fn years(
    connection: &mut PgConnection,
    partition: i32,
    persons: &[PersonId],
) -> Result<(Checkpoint, HashMap<PersonId, Years>), sqlx::Error> {
    let ids: Vec<Uuid> = persons.iter().map(|person| person.0).collect();
    let rows = sqlx::query!(
        r#"SELECT c.generation, c.position, c.recorded_at, c.serve_from,
                  c.event_hash AS "event_hash: EventHash",
                  ledger.event_hash(c.partition, c.position) IS NOT DISTINCT FROM c.event_hash
                      AS "is_in_history!", known.person_id AS "person_id?",
                  known.frikort_tags AS "tags?: Vec<Uuid>",
                  known.year AS "year?", known.total AS "total?", known.payments AS "payments?"
           FROM projection.checkpoint AS c
           LEFT JOIN LATERAL (
               SELECT card.person_id, card.frikort_tags, t.year, t.total, t.payments
               FROM (SELECT DISTINCT unnest($2::uuid[])) AS asked (person_id)
               CROSS JOIN LATERAL (
                   SELECT person_id, frikort_tags FROM projection.card
                   WHERE partition = $1 AND generation = c.generation
                     AND person_id = asked.person_id OFFSET 0) AS card
               LEFT JOIN LATERAL (
                   SELECT year, total, payments FROM projection.annual_total
                   WHERE partition = $1 AND generation = c.generation
                     AND person_id = card.person_id OFFSET 0) AS t ON true
           ) AS known ON true
           WHERE c.partition = $1 AND c.state = 'serving'"#,
        partition,
        &ids
    )
    .fetch_all(connection)
    .await?;
    let mut checkpoint = Checkpoint::default();
    let mut found: HashMap<PersonId, Years> = HashMap::new();
    for row in rows {
        if !row.is_in_history {
            return Err(other_history());
        }
        let (generation, position) = (row.generation, row.position);
        checkpoint = Checkpoint {
            generation,
            position,
            recorded_at: row.recorded_at,
            event_hash: row.event_hash,
            serve_from: row.serve_from,
        };
        let (Some(person), Some(tags)) = (row.person_id, row.tags) else { continue };
        let years = found.entry(PersonId(person)).or_insert_with(|| {
            let tags = tags.iter().map(|tag| FrikortTag(tag.into_bytes())).collect();
            Years { tags, totals: Vec::new() }
        });
        if let (Some(year), Some(total), Some(payments)) = (row.year, row.total, row.payments) {
            let payments = u32::try_from(payments).unwrap_or_default();
            years.totals.push((year, amount(total)?, payments));
        }
    }
    Ok((checkpoint, found))
}

/// An amount from a column; one that is none was not written by us.
pub(crate) fn amount(column: Decimal) -> Result<Amount, sqlx::Error> {
    Amount::from_decimal(column).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
