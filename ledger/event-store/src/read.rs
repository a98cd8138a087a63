//! Reading: by stream, by position.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{EventHash, EventStore, StoreError};

/// One event as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Position in its partition.
    pub position: i64,
    /// Its stream.
    pub person_id: Uuid,
    /// The bytes, as appended.
    pub record: String,
}

/// Which way a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forwards,
    /// Newest first.
    Backwards,
}

impl EventStore {
    /// The events of a partition from `from` on, `limit` of them at most, in order of position.
    ///
    /// Positions have no gaps, so the page is a range of them. With `LIMIT` a table that was never
    /// analyzed was read from `from` to its end, and sorted, for each page.
    pub async fn read_all(
        &self,
        partition: i32,
        from: i64,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let query = sqlx::query_as!(
            StoredEvent,
            "SELECT position, person_id, record FROM ledger.event
             WHERE partition = $1 AND position >= $2 AND position < $3 ORDER BY position",
            partition,
            from,
            from.saturating_add(limit)
        );
        Ok(query.fetch_all(&mut *self.pool().acquire().await?).await?)
    }

    /// The events of a partition after an event that was read before, `limit` of them at most, in
    /// order of position.
    ///
    /// # Errors
    /// [`StoreError::HistoryChanged`] where that event is not in the history any more.
    pub async fn read_all_after(
        &self,
        partition: i32,
        (position, hash): (i64, EventHash),
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if position == 0 {
            return self.read_all(partition, 1, limit).await;
        }
        // One statement, and so one session: both are of the same history.
        let mut events = self.read_all(partition, position, limit.saturating_add(1)).await?;
        match events.first() {
            Some(first) if first.position == position && first.hash() == hash => {
                events.remove(0);
                Ok(events)
            }
            _ => Err(StoreError::HistoryChanged { partition, position }),
        }
    }

    /// The hash of the event at `position`; `None` where there is no such event.
    pub async fn event_hash(
        &self,
        partition: i32,
        position: i64,
    ) -> Result<Option<EventHash>, StoreError> {
        let query = sqlx::query_scalar!(
            r#"SELECT ledger.event_hash($1, $2) AS "hash: EventHash""#,
            partition,
            position
        );
        Ok(query.fetch_one(&mut *self.pool().acquire().await?).await?)
    }

    /// Makes sure that the event at `position` has this hash.
    ///
    /// # Errors
    /// [`StoreError::HistoryChanged`] where it has not, or there is none.
    pub async fn require_event(
        &self,
        partition: i32,
        position: i64,
        hash: EventHash,
    ) -> Result<(), StoreError> {
        match self.event_hash(partition, position).await? {
            Some(found) if found == hash => Ok(()),
            _ => Err(StoreError::HistoryChanged { partition, position }),
        }
    }

    /// Up to `limit` events of one stream from version `from` on, in the direction asked.
    pub async fn read_stream(
        &self,
        partition: i32,
        stream: Uuid,
        from: i64,
        direction: Direction,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let pool = self.pool();
        let events = match direction {
            Direction::Forwards => {
                sqlx::query_as!(
                    StoredEvent,
                    "SELECT position, person_id, record FROM ledger.event
                     WHERE partition = $1 AND person_id = $2 AND version >= $3
                     ORDER BY version LIMIT $4",
                    partition,
                    stream,
                    from,
                    limit
                )
                .fetch_all(&mut *pool.acquire().await?)
                .await?
            }
            Direction::Backwards => {
                sqlx::query_as!(
                    StoredEvent,
                    "SELECT position, person_id, record FROM ledger.event
                     WHERE partition = $1 AND person_id = $2 AND version <= $3
                     ORDER BY version DESC LIMIT $4",
                    partition,
                    stream,
                    from,
                    limit
                )
                .fetch_all(&mut *pool.acquire().await?)
                .await?
            }
        };
        Ok(events)
    }

    /// Up to `limit` events of one stream from position `from` on, oldest first.
    pub async fn read_stream_at(
        &self,
        partition: i32,
        stream: Uuid,
        from: i64,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let query = sqlx::query_as!(
            StoredEvent,
            "SELECT position, person_id, record FROM ledger.event
             WHERE partition = $1 AND person_id = $2 AND position >= $3
             ORDER BY version LIMIT $4",
            partition,
            stream,
            from,
            limit
        );
        Ok(query.fetch_all(&mut *self.pool().acquire().await?).await?)
    }

    /// All events of some streams, each stream in order of version, up to position `until`.
    /// Stream by stream, whatever the statistics say: a planner that knows nothing of the table may
    /// else read all of it.
    pub async fn read_streams(
        &self,
        partition: i32,
        streams: &[Uuid],
        until: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(self.read_streams_with_hash(partition, streams, until, (1, i64::MAX)).await?.1)
    }

    /// Up to `limit` events of each stream from version `from` on, for a writer that decides at a head.
    ///
    /// # Errors
    /// [`StoreError::HistoryChanged`] where the head's event is not in the history any more.
    pub async fn read_streams_at(
        &self,
        partition: i32,
        streams: &[Uuid],
        (position, hash): (i64, EventHash),
        (from, limit): (i64, i64),
    ) -> Result<Vec<StoredEvent>, StoreError> {
        match self.read_streams_with_hash(partition, streams, position, (from, limit)).await? {
            (Some(found), events) if found == hash => Ok(events),
            _ => Err(StoreError::HistoryChanged { partition, position }),
        }
    }

    /// The events, and the hash of the event at `until`, in one statement: both are of one history.
    async fn read_streams_with_hash(
        &self,
        partition: i32,
        streams: &[Uuid],
        until: i64,
        (from, limit): (i64, i64),
    ) -> Result<(Option<EventHash>, Vec<StoredEvent>), StoreError> {
        // The hash is a query of its own within this one, so that it is asked for once and not for each
        // row.
        let rows = sqlx::query!(
            r#"SELECT (SELECT ledger.event_hash($1, $3)) AS "hash: EventHash",
                      e.position AS "position?", e.person_id AS "person_id?",
                      e.record AS "record?"
             FROM (VALUES (1)) AS one
             LEFT JOIN (
                 SELECT e.* FROM (SELECT DISTINCT unnest($2::uuid[])) AS s (person_id)
                 CROSS JOIN LATERAL (
                     SELECT position, person_id, version, record FROM ledger.event
                     WHERE partition = $1 AND person_id = s.person_id AND position <= $3
                       AND version >= $5
                     ORDER BY person_id, version LIMIT $4) AS e
             ) AS e ON true
             ORDER BY e.person_id, e.version"#,
            partition,
            streams,
            until,
            limit,
            from
        )
        .fetch_all(&mut *self.pool().acquire().await?)
        .await?;
        let hash = rows.first().and_then(|row| row.hash);
        let events = rows.into_iter().filter_map(|row| {
            let (position, person_id) = (row.position?, row.person_id?);
            Some(StoredEvent { position, person_id, record: row.record? })
        });
        Ok((hash, events.collect()))
    }

    /// When the event at `position` was recorded, and its hash; `None` where there is none.
    pub async fn event_at(
        &self,
        partition: i32,
        position: i64,
    ) -> Result<Option<(OffsetDateTime, EventHash)>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT recorded_at, ledger.event_hash(partition, position) AS "hash!: EventHash"
               FROM ledger.event WHERE partition = $1 AND position = $2"#,
            partition,
            position
        );
        Ok(row
            .fetch_optional(&mut *self.pool().acquire().await?)
            .await?
            .map(|row| (row.recorded_at, row.hash)))
    }

    /// When the event at `position` was recorded; `None` where there is none.
    pub async fn recorded_at(
        &self,
        partition: i32,
        position: i64,
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        let query = sqlx::query_scalar!(
            "SELECT recorded_at FROM ledger.event WHERE partition = $1 AND position = $2",
            partition,
            position
        );
        Ok(query.fetch_optional(&mut *self.pool().acquire().await?).await?)
    }

    /// Position of the last event that was recorded at or before `instant`; 0 where there is none.
    ///
    /// Instants increase with the positions, which have no gaps: halving the range finds it, by
    /// the primary key, in one round trip.
    pub async fn position_at(
        &self,
        partition: i32,
        instant: OffsetDateTime,
    ) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar!(
            r#"WITH RECURSIVE search (low, high) AS (
                   SELECT 0::bigint, position FROM ledger.partition_head WHERE partition = $1
                   UNION ALL
                   SELECT CASE WHEN known THEN middle ELSE low END,
                          CASE WHEN known THEN high ELSE middle - 1 END
                   FROM (SELECT low, high, (low + high + 1) / 2 AS middle,
                                (SELECT recorded_at <= $2 FROM ledger.event
                                 WHERE partition = $1 AND position = (low + high + 1) / 2) AS known
                         FROM search WHERE low < high) AS half
               )
               SELECT low AS "low!" FROM search WHERE low = high"#,
            partition,
            instant
        );
        Ok(query.fetch_one(&mut *self.pool().acquire().await?).await?)
    }
}

/// The bytes at `count` positions from `from` on.
pub(crate) async fn read_records(
    connection: &mut PgConnection,
    partition: i32,
    from: i64,
    count: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT record FROM ledger.event
         WHERE partition = $1 AND position >= $2 ORDER BY position LIMIT $3",
        partition,
        from,
        count
    )
    .fetch_all(connection)
    .await
}
