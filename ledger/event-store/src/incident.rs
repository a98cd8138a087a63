//! Incidents: acknowledged or signed events that are not in the history any more (H1).
//!
//! A writer that finds a loss puts it on record here, and from then on nothing is appended to the
//! partition by anybody, until the evidence is in the history again or an operator accepts the
//! loss.
//!
//! Not here: what counts as evidence; that is the writer's.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Appender, ConnectionPool, EventHash, EventStore, StoreError, notices};

/// Acknowledged or signed events that are not in the history any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Position of the last event that is known to have been acknowledged or signed.
    pub evidence_position: i64,
    /// Its hash then.
    pub evidence_hash: EventHash,
    /// The first position that is lost, as exactly as it is known: never after the true one.
    pub first_lost_position: i64,
    /// The head when the loss was found.
    pub head_position: i64,
    /// The signed checkpoint that covers what is lost, where there is one.
    pub checkpoint: Option<String>,
}

impl Incident {
    /// How many acknowledged or signed events are lost, as far as this evidence tells.
    pub fn lost_events(&self) -> i64 {
        self.evidence_position - self.first_lost_position + 1
    }
}

/// A loss that an operator has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// The partition.
    pub partition: i32,
    /// The first position that is lost.
    pub first_lost_position: i64,
    /// The last one.
    pub last_lost_position: i64,
    /// The hash of the event there, before it was lost.
    pub evidence_hash: EventHash,
    /// The signed checkpoint that covers what is lost, where there is one.
    pub checkpoint: Option<String>,
    /// When the loss was accepted.
    pub accepted_at: OffsetDateTime,
    /// By which database user.
    pub accepted_by: String,
    /// Why.
    pub reason: String,
}

impl Appender {
    /// Puts an incident on record, unless it is: open again where it was withdrawn, and left alone
    /// where it was accepted. Returns whether it is accepted.
    pub async fn record_incident(
        &mut self,
        incident: &Incident,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        let warnings = notices::warnings();
        let is_accepted = sqlx::query_scalar!(
            r#"WITH recorded AS (
                   INSERT INTO ledger.history_incident (partition, evidence_position,
                       evidence_hash, first_lost_position, last_lost_position, head_position,
                       found_at, checkpoint)
                   VALUES ($1, $2, $3, $4, $2, $5, $6, $7)
                   ON CONFLICT ON CONSTRAINT history_incident_pkey DO UPDATE
                   SET found_at = excluded.found_at, head_position = excluded.head_position,
                       withdrawn_at = NULL
                   WHERE history_incident.accepted_at IS NULL
                     AND history_incident.withdrawn_at IS NOT NULL
                   RETURNING 1)
               SELECT coalesce((SELECT accepted_at IS NOT NULL FROM ledger.history_incident
                                WHERE partition = $1 AND evidence_position = $2
                                  AND evidence_hash = $3), false) AS "is_accepted!"
               FROM (SELECT count(*) FROM recorded) AS done"#,
            self.partition(),
            incident.evidence_position,
            incident.evidence_hash as EventHash,
            incident.first_lost_position,
            incident.head_position,
            now,
            incident.checkpoint.as_deref()
        )
        .fetch_one(&mut connection)
        .await?;
        notices::require_none_since(warnings)?;
        self.keep(connection);
        Ok(is_accepted)
    }

    /// Withdraws the open incidents whose evidence is in the history again. Returns whether any
    /// stay open.
    pub async fn withdraw_incidents(&mut self, now: OffsetDateTime) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        sqlx::query!(
            "UPDATE ledger.history_incident SET withdrawn_at = $2
             WHERE partition = $1 AND accepted_at IS NULL AND withdrawn_at IS NULL
               AND ledger.event_hash(partition, evidence_position) = evidence_hash",
            self.partition(),
            now
        )
        .execute(&mut connection)
        .await?;
        let is_open = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM ledger.history_incident
                              WHERE partition = $1 AND accepted_at IS NULL
                                AND withdrawn_at IS NULL) AS "is_open!""#,
            self.partition()
        )
        .fetch_one(&mut connection)
        .await?;
        self.keep(connection);
        Ok(is_open)
    }
}

impl EventStore {
    /// Whether the loss of what this evidence names was accepted.
    pub async fn is_loss_accepted(
        &self,
        partition: i32,
        position: i64,
        hash: EventHash,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM ledger.history_incident
                              WHERE partition = $1 AND evidence_position = $2
                                AND evidence_hash = $3 AND accepted_at IS NOT NULL) AS "is_accepted!""#,
            partition,
            position,
            hash as EventHash
        );
        Ok(query.fetch_one(&mut *self.pool().acquire().await?).await?)
    }
}

/// Accepts every open incident of a partition, for a reason, as the database's owner. Returns what was
/// accepted; nothing where no incident is open.
pub async fn accept_incidents(
    pool: &ConnectionPool,
    partition: i32,
    reason: &str,
    now: OffsetDateTime,
) -> Result<Vec<AcceptedLoss>, StoreError> {
    let query = sqlx::query_as!(
        AcceptedLoss,
        r#"UPDATE ledger.history_incident
           SET accepted_at = $2, accepted_by = session_user, reason = $3
           WHERE partition = $1 AND accepted_at IS NULL AND withdrawn_at IS NULL
           RETURNING partition, first_lost_position, last_lost_position,
                     evidence_hash AS "evidence_hash: EventHash", checkpoint,
                     accepted_at AS "accepted_at!", accepted_by AS "accepted_by!",
                     reason AS "reason!""#,
        partition,
        now,
        reason
    );
    Ok(query.fetch_all(&mut *pool.acquire().await?).await?)
}

/// The losses that were accepted, by partition and position.
pub async fn accepted_incidents(
    connection: &mut PgConnection,
) -> Result<Vec<AcceptedLoss>, sqlx::Error> {
    sqlx::query_as!(
        AcceptedLoss,
        r#"SELECT partition, first_lost_position, last_lost_position,
                  evidence_hash AS "evidence_hash: EventHash", checkpoint,
                  accepted_at AS "accepted_at!", accepted_by AS "accepted_by!", reason AS "reason!"
           FROM ledger.history_incident WHERE accepted_at IS NOT NULL
           ORDER BY partition, first_lost_position, last_lost_position"#
    )
    .fetch_all(connection)
    .await
}
