//! Generations of the projection: which there are, who builds the one that is being built, and
//! dropping those that are no longer served.
//!
//! ```text
//!   building ──proved, in one transaction──▶ serving ──by the next one──▶ retired ──on command──▶ gone
//! ```
//!
//! A generation that is being built has one builder. Every step of its is a compare-and-swap that
//! names it, so one that was thought dead, and lives, finds out at its next step and has done no
//! harm. What must stay out: what the rows mean.

use std::time::Duration;

use frikort_event_store::{ConnectionPool, EventHash};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    PROJECTION_VERSION,
    fold::Changes,
    tables::{self, WriteError, Written},
};

/// How often a builder says that it lives.
const BEAT: Duration = Duration::from_millis(500);

/// A builder that has said nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(3);

/// Persons, or places, whose rows are dropped together.
const BATCH: i64 = 1000;

/// One generation of one partition.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Generation {
    pub(crate) partition: i32,
    pub(crate) generation: i32,
    /// `building`, `serving` or `retired`.
    pub(crate) state: String,
    /// Version of the fold that began it; 0 where nothing is folded yet.
    pub(crate) version: i32,
    pub(crate) position: i64,
    /// Since when it is in that state.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) since: OffsetDateTime,
    #[serde(skip)]
    event_hash: EventHash,
    #[serde(skip)]
    builder: Option<Uuid>,
    #[serde(skip)]
    beat: i64,
}

/// All of them, by partition and number.
pub(crate) async fn list(pool: &ConnectionPool) -> Result<Vec<Generation>, sqlx::Error> {
    sqlx::query_as!(
        Generation,
        r#"SELECT partition, generation, state, version, position, since,
                  event_hash AS "event_hash: EventHash", builder, beat
           FROM projection.checkpoint ORDER BY partition, generation"#
    )
    .fetch_all(&mut *pool.acquire().await?)
    .await
}

async fn building(pool: &ConnectionPool) -> Result<Vec<Generation>, sqlx::Error> {
    let mut all = list(pool).await?;
    all.retain(|generation| generation.state == "building");
    Ok(all)
}

/// Whose a generation that is being built is.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Of who asked; nobody else touches it.
    Ours(Building),
    /// Of another run, which lives.
    Theirs(Generation),
}

/// The right to build a generation.
#[derive(Clone, Debug)]
pub(crate) struct Building {
    pub(crate) generation: i32,
    builder: Uuid,
    pub(crate) places: Vec<Place>,
}

/// How far a partition is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) position: i64,
    /// The hash of the event there.
    pub(crate) event_hash: EventHash,
}

/// Begins a generation, or takes over one whose builder has gone; a new one in its place, where
/// `fresh`, or where another version of the fold began it.
pub(crate) async fn claim(pool: &ConnectionPool, fresh: bool) -> Result<Claim, sqlx::Error> {
    loop {
        let found = building(pool).await?;
        let Some(first) = found.first() else {
            match begin(pool).await {
                Ok(begun) => return Ok(Claim::Ours(begun)),
                // Somebody else has just begun one.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => continue,
                Err(error) => return Err(error),
            }
        };
        let usable = !fresh && found.iter().all(|of| of.version == PROJECTION_VERSION);
        sleep(SILENCE).await;
        let now = building(pool).await?;
        if now == found {
            let generation = first.generation;
            if let Some(builder) = take_over(pool, &found, usable).await? {
                let place = |of: &Generation| Place {
                    partition: of.partition,
                    position: of.position,
                    event_hash: of.event_hash,
                };
                let places = found.iter().map(place).collect();
                tracing::info!(generation, "nobody builds it any more; going on with it");
                return Ok(Claim::Ours(Building { generation, builder, places }));
            }
        } else if let Some(theirs) = now.into_iter().next() {
            return Ok(Claim::Theirs(theirs));
        }
    }
}

/// A new generation of every partition.
async fn begin(pool: &ConnectionPool) -> Result<Building, sqlx::Error> {
    let rows = sqlx::query!(
        r#"WITH new AS MATERIALIZED (SELECT gen_random_uuid() AS builder),
                last AS (SELECT coalesce(max(generation), 0) AS number FROM projection.checkpoint)
           INSERT INTO projection.checkpoint (partition, generation, version, state, builder)
           SELECT h.partition, last.number + 1, $1, 'building', new.builder
           FROM ledger.partition_head AS h, new, last ORDER BY h.partition
           RETURNING partition, generation, builder AS "builder!""#,
        PROJECTION_VERSION
    )
    .fetch_all(&mut *pool.acquire().await?)
    .await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (generation, builder) = (first.generation, first.builder);
    let place = |partition| Place { partition, position: 0, event_hash: EventHash::default() };
    let places = rows.iter().map(|row| place(row.partition)).collect();
    Ok(Building { generation, builder, places })
}

/// Takes `found` over if they still are as they were found; retires them if they are of no use. The
/// new builder, where there is one.
async fn take_over(
    pool: &ConnectionPool,
    found: &[Generation],
    usable: bool,
) -> Result<Option<Uuid>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let builder = sqlx::query_scalar!(r#"SELECT gen_random_uuid() AS "builder!""#);
    let builder = builder.fetch_one(&mut *tx).await?;
    for of in found {
        let taken = sqlx::query!(
            "UPDATE projection.checkpoint
             SET builder = $5, beat = beat + 1,
                 state = CASE WHEN $6 THEN state ELSE 'retired' END
             WHERE partition = $1 AND generation = $2 AND state = 'building' AND beat = $3
               AND builder IS NOT DISTINCT FROM $4",
            of.partition,
            of.generation,
            of.beat,
            of.builder,
            builder,
            usable
        )
        .execute(&mut *tx)
        .await?;
        if taken.rows_affected() != 1 {
            return Ok(None);
        }
    }
    tx.commit().await?;
    Ok(usable.then_some(builder))
}

impl Building {
    /// Says that the builder lives, until it is told that it has been replaced.
    pub(crate) async fn live(&self, pool: &ConnectionPool) -> Result<(), sqlx::Error> {
        loop {
            sleep(BEAT).await;
            for place in &self.places {
                let beaten = sqlx::query!(
                    "UPDATE projection.checkpoint SET beat = beat + 1
                     WHERE partition = $1 AND generation = $2 AND state = 'building'
                       AND builder = $3",
                    place.partition,
                    self.generation,
                    self.builder
                )
                .execute(&mut *pool.acquire().await?)
                .await?;
                if beaten.rows_affected() != 1 {
                    return Ok(());
                }
            }
        }
    }

    /// Whether another run has taken the generation over.
    pub(crate) async fn is_replaced(&self, pool: &ConnectionPool) -> Result<bool, sqlx::Error> {
        let ours = building(pool).await?;
        Ok(!ours.iter().any(|of| of.builder == Some(self.builder)))
    }

    /// Writes a page's changes; nothing, where another run has taken the generation over, or the page
    /// is of another history.
    pub(crate) async fn write(
        &self,
        pool: &ConnectionPool,
        from: Place,
        changes: &Changes,
    ) -> Result<Written, WriteError> {
        let mut tx = pool.begin().await?;
        let moved = sqlx::query!(
            "UPDATE projection.checkpoint
             SET position = $5, recorded_at = $6, event_hash = $8, beat = beat + 1
             WHERE partition = $1 AND generation = $2 AND builder = $3 AND position = $4
               AND event_hash = $7 AND state = 'building' AND ledger.event_hash($1, $5) = $8",
            from.partition,
            self.generation,
            self.builder,
            from.position,
            changes.position,
            changes.recorded_at,
            from.event_hash as EventHash,
            changes.event_hash as EventHash
        )
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() != 1 {
            return Ok(Written::CheckpointMoved);
        }
        tables::write_rows(&mut tx, self.of(from.partition), changes).await?;
        tx.commit().await?;
        Ok(Written::Yes)
    }

    /// Locks a partition's row; false where this is not our generation any more.
    pub(crate) async fn lock(
        &self,
        tx: &mut PgConnection,
        place: Place,
    ) -> Result<bool, sqlx::Error> {
        let row = sqlx::query!(
            "SELECT position FROM projection.checkpoint
             WHERE partition = $1 AND generation = $2 AND builder = $3 AND state = 'building'
             FOR UPDATE",
            place.partition,
            self.generation,
            self.builder
        );
        Ok(row.fetch_optional(tx).await?.is_some())
    }

    /// Puts a partition's generation in the place of the one that is served, whose checkpoint the
    /// caller has locked in the same transaction; false where this is not our generation any more.
    pub(crate) async fn serve(
        &self,
        tx: &mut PgConnection,
        from: Place,
        (position, event_hash, recorded_at): (i64, EventHash, Option<OffsetDateTime>),
    ) -> Result<bool, sqlx::Error> {
        sqlx::query!(
            "UPDATE projection.checkpoint SET state = 'retired', since = now()
             WHERE partition = $1 AND state = 'serving'",
            from.partition
        )
        .execute(&mut *tx)
        .await?;
        let served = sqlx::query!(
            "UPDATE projection.checkpoint
             SET state = 'serving', since = now(), builder = NULL, position = $5,
                 recorded_at = coalesce($6, recorded_at), event_hash = $8
             WHERE partition = $1 AND generation = $2 AND builder = $3 AND position = $4
               AND event_hash = $7 AND state = 'building' AND ledger.event_hash($1, $5) = $8",
            from.partition,
            self.generation,
            self.builder,
            from.position,
            position,
            recorded_at,
            from.event_hash as EventHash,
            event_hash as EventHash
        )
        .execute(&mut *tx)
        .await?;
        Ok(served.rows_affected() == 1)
    }

    pub(crate) fn of(&self, partition: i32) -> tables::Of {
        tables::Of { partition, generation: self.generation }
    }
}

/// Drops what was retired, and what nobody builds any more, batch by batch; gives what was dropped.
/// Whoever is cut off drops the rest the next time.
pub(crate) async fn drop_old(pool: &ConnectionPool) -> Result<Vec<Generation>, sqlx::Error> {
    let found = building(pool).await?;
    if !found.is_empty() {
        sleep(SILENCE).await;
        if building(pool).await? == found {
            take_over(pool, &found, false).await?;
        }
    }
    let mut dropped = list(pool).await?;
    dropped.retain(|generation| generation.state == "retired");
    for old in &dropped {
        drop_rows(pool, old.partition, old.generation).await?;
        sqlx::query!(
            "DELETE FROM projection.checkpoint
             WHERE partition = $1 AND generation = $2 AND state = 'retired'",
            old.partition,
            old.generation
        )
        .execute(&mut *pool.acquire().await?)
        .await?;
    }
    Ok(dropped)
}

/// Drops the rows of a generation that nobody reads or writes any more, each batch a transaction.
async fn drop_rows(
    pool: &ConnectionPool,
    partition: i32,
    generation: i32,
) -> Result<(), sqlx::Error> {
    let mut after = Uuid::nil();
    loop {
        // Persons with payments have totals, and those have cards.
        let last = sqlx::query_scalar!(
            "SELECT person_id FROM projection.card
             WHERE partition = $1 AND generation = $2 AND person_id > $3
             ORDER BY person_id OFFSET $4 LIMIT 1",
            partition,
            generation,
            after,
            BATCH - 1
        )
        .fetch_optional(&mut *pool.acquire().await?)
        .await?;
        let until = last.unwrap_or(Uuid::max());
        let mut tx = pool.begin().await?;
        sqlx::query!(
            "DELETE FROM projection.payment
             WHERE partition = $1 AND generation = $2 AND person_id >= $3 AND person_id <= $4",
            partition,
            generation,
            after,
            until
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "DELETE FROM projection.annual_total
             WHERE partition = $1 AND generation = $2 AND person_id >= $3 AND person_id <= $4",
            partition,
            generation,
            after,
            until
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "DELETE FROM projection.card
             WHERE partition = $1 AND generation = $2 AND person_id >= $3 AND person_id <= $4",
            partition,
            generation,
            after,
            until
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if last.is_none() {
            break;
        }
        after = until;
    }
    // One row a decision on an application, and one a limit: few.
    sqlx::query!(
        "DELETE FROM projection.application WHERE partition = $1 AND generation = $2",
        partition,
        generation
    )
    .execute(&mut *pool.acquire().await?)
    .await?;
    sqlx::query!(
        "DELETE FROM projection.annual_limit WHERE partition = $1 AND generation = $2",
        partition,
        generation
    )
    .execute(&mut *pool.acquire().await?)
    .await?;
    Ok(())
}
