//! Appending: one batch, one round trip, one commit; and finding out what became of a call whose
//! answer was lost.

use std::fmt;

use sqlx::{PgConnection, postgres::PgConnectOptions};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Head, StoreError, connect, read::read_records};

/// Events to append, column by column as the append function takes them.
#[derive(Debug, Default)]
pub struct Batch {
    person_ids: Vec<Uuid>,
    versions: Vec<i64>,
    recorded_at: Vec<OffsetDateTime>,
    records: Vec<String>,
}

impl Batch {
    /// Adds an event: its stream, the version it becomes there, when, and its bytes.
    pub fn push(
        &mut self,
        stream: Uuid,
        version: i64,
        recorded_at: OffsetDateTime,
        record: String,
    ) {
        self.person_ids.push(stream);
        self.versions.push(version);
        self.recorded_at.push(recorded_at);
        self.records.push(record);
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The head after this batch has been appended to `head`.
    pub fn head_after(&self, head: Head) -> Head {
        Head {
            position: head.position + i64::try_from(self.len()).unwrap_or(i64::MAX),
            fence: head.fence,
            recorded_at: self.recorded_at.last().copied().or(head.recorded_at),
        }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is committed.
    Yes,
    /// It is not, and never will be: the head stands elsewhere. Read on, decide again.
    HeadMoved,
}

/// The writer of one partition: one connection, held for as long as it works.
pub struct Appender {
    options: PgConnectOptions,
    partition: i32,
    connection: Option<PgConnection>,
}

/// Without the options, which may hold a password.
impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl Appender {
    /// For one partition. Connects when first needed.
    pub fn new(options: PgConnectOptions, partition: i32) -> Self {
        Self { options, partition, connection: None }
    }

    /// Appends `batch` if the partition still stands at `head`.
    ///
    /// After an error, or when this is dropped half-way, the outcome is unknown: call
    /// [`Appender::resolve`] before anything else.
    pub async fn append(&mut self, head: Head, batch: &Batch) -> Result<Appended, StoreError> {
        let mut connection = self.connection().await?;
        let appended = sqlx::query_scalar!(
            r#"SELECT ledger.append($1, $2, $3, $4, $5, $6, $7) AS "appended!""#,
            self.partition,
            head.position,
            head.fence,
            &batch.person_ids,
            &batch.versions,
            &batch.recorded_at,
            &batch.records,
        )
        .fetch_one(&mut connection)
        .await?;
        self.connection = Some(connection);
        Ok(if appended { Appended::Yes } else { Appended::HeadMoved })
    }

    /// Finds out what became of an append of `batch` at `head` whose answer was an error.
    ///
    /// Raises the fence first: a call of ours that still waits somewhere in the server finds it
    /// raised and does nothing, so what is read then stays true. Repeat until it succeeds.
    pub async fn resolve(&mut self, head: Head, batch: &Batch) -> Result<Appended, StoreError> {
        let now = self.raise_fence().await?;
        if now.position < batch.head_after(head).position {
            return Ok(Appended::HeadMoved);
        }
        let mut connection = self.connection().await?;
        let count = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        let stored =
            read_records(&mut connection, self.partition, head.position + 1, count).await?;
        self.connection = Some(connection);
        Ok(if stored == batch.records { Appended::Yes } else { Appended::HeadMoved })
    }

    /// Shuts out every call made with an older fence, and answers where the partition stands.
    pub async fn raise_fence(&mut self) -> Result<Head, StoreError> {
        let mut connection = self.connection().await?;
        let head = sqlx::query_as!(
            Head,
            "UPDATE ledger.partition_head SET fence = fence + 1 WHERE partition = $1
             RETURNING position, fence, recorded_at",
            self.partition
        )
        .fetch_one(&mut connection)
        .await?;
        self.connection = Some(connection);
        Ok(head)
    }

    /// Where the partition stands.
    pub async fn head(&mut self) -> Result<Head, StoreError> {
        let mut connection = self.connection().await?;
        let head = sqlx::query_as!(
            Head,
            "SELECT position, fence, recorded_at FROM ledger.partition_head WHERE partition = $1",
            self.partition
        )
        .fetch_one(&mut connection)
        .await?;
        self.connection = Some(connection);
        Ok(head)
    }

    /// The connection, taken out for one call: only a call that went well puts it back, so one
    /// that failed or was given up is never used again.
    async fn connection(&mut self) -> Result<PgConnection, StoreError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Ok(connect(&self.options).await?),
        }
    }
}

/// Tells subscribers to look again. A hint: they look without it too, only later.
pub async fn notify(connection: &mut PgConnection, partition: i32) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_notify('ledger_appended', $1)", partition.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let options = PgConnectOptions::new_without_pgpass().password("a-password");
        let shown = format!("{:?}", Appender::new(options, 3));
        assert!(shown.contains("partition: 3") && !shown.contains("a-password"), "{shown}");
    }
}
