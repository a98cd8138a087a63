//! Appending: one batch, one round trip, one commit; and finding out what became of a call whose
//! answer was lost.

use std::{fmt, time::Instant};

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    DatabaseSessions, EventHash, Head, ServerRun, SessionPurpose, StoreError, notices,
    read::read_records,
};

/// Events to append, column by column as the append function takes them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    person_ids: Vec<Uuid>,
    versions: Vec<i64>,
    recorded_at: Vec<OffsetDateTime>,
    records: Vec<String>,
}

impl Batch {
    /// The first event alone.
    #[must_use]
    pub fn first(&self) -> Self {
        Self {
            person_ids: self.person_ids.iter().take(1).copied().collect(),
            versions: self.versions.iter().take(1).copied().collect(),
            recorded_at: self.recorded_at.iter().take(1).copied().collect(),
            records: self.records.iter().take(1).cloned().collect(),
        }
    }

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
            event_hash: self.records.last().map_or(head.event_hash, |last| EventHash::of(last)),
        }
    }

    /// When the last event of this batch is recorded; that of `head` where there is none.
    pub fn last_recorded_at(&self, head: Head) -> Option<OffsetDateTime> {
        self.recorded_at.last().copied().or(head.recorded_at)
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is committed.
    Yes,
    /// It is not, and never will be: the head is elsewhere, or an incident is open. Read on, decide
    /// again.
    HeadMoved,
    /// It is not, and never will be: what had to be committed with it was refused; the index says
    /// what of it. Decide again without that.
    Refused(usize),
}

/// Where a partition is, and what its database still has of what a writer remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The head.
    pub head: Head,
    /// The hash of the event at the remembered position; `None` where there is no such event.
    pub remembered_hash: Option<EventHash>,
    /// Whether an incident is open: acknowledged events are lost, and no operator has accepted that.
    pub has_open_incident: bool,
    /// Whether a standby is synchronous, so that an event may be visible and still be lost.
    pub is_synchronous: bool,
}

/// The writer of one partition: one connection, held for as long as it works.
///
/// A commit counts only when it was acknowledged without a warning. Where a standby is synchronous, a
/// commit whose wait for the standby was cancelled is acknowledged with a warning, and is lost when
/// the standby is promoted; so it is an error here, and its outcome unknown.
pub struct Appender {
    sessions: DatabaseSessions,
    partition: i32,
    connection: Option<PgConnection>,
    run: ServerRun,
    /// When the connection was used last.
    used: Instant,
}

/// Without the sessions, whose options may hold a password.
impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl Appender {
    /// For one partition. Connects when first needed. Must be used on one thread, whose runtime runs
    /// on that thread alone: the warnings of a commit are counted by thread.
    pub fn new(sessions: DatabaseSessions, partition: i32) -> Self {
        let (connection, run, used) = (None, ServerRun::NONE, Instant::now());
        Self { sessions, partition, connection, run, used }
    }

    /// The sessions of the process.
    pub fn sessions(&self) -> &DatabaseSessions {
        &self.sessions
    }

    /// The server run that its newest session is with.
    pub fn server_run(&self) -> ServerRun {
        self.run
    }

    /// Appends `batch` if the partition is still at `head`.
    ///
    /// After an error, or when this is dropped half-way, the outcome is unknown: call
    /// [`Appender::resolve`] before anything else.
    pub async fn append(&mut self, head: Head, batch: &Batch) -> Result<Appended, StoreError> {
        let mut connection = self.connection().await?;
        let warnings = notices::warnings();
        let appended = call_append(&mut connection, self.partition, head, batch).await?;
        notices::require_none_since(warnings)?;
        self.connection = Some(connection);
        Ok(appended)
    }

    /// The same, in one transaction with what `companion` does before. Where that answers an index,
    /// nothing is committed.
    ///
    /// It takes three round trips more, so it is for what is seldom.
    pub async fn append_with(
        &mut self,
        head: Head,
        batch: &Batch,
        companion: impl AsyncFnOnce(&mut PgConnection) -> Result<Option<usize>, sqlx::Error>,
    ) -> Result<Appended, StoreError> {
        let mut connection = self.connection().await?;
        let warnings = notices::warnings();
        let mut transaction = connection.begin().await?;
        let appended = match companion(&mut transaction).await? {
            Some(refused) => Appended::Refused(refused),
            None => call_append(&mut transaction, self.partition, head, batch).await?,
        };
        match appended {
            Appended::Yes => transaction.commit().await?,
            Appended::HeadMoved | Appended::Refused(_) => transaction.rollback().await?,
        }
        notices::require_none_since(warnings)?;
        self.connection = Some(connection);
        Ok(appended)
    }

    /// Appends and takes it back, to find out whether the server can write. An error that does not pass,
    /// or a head that has moved, says nothing about that, and counts as success.
    pub async fn try_append(&mut self, head: Head, batch: &Batch) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let tried = call_append(&mut transaction, self.partition, head, batch).await;
        if let Err(unavailable @ StoreError::Unavailable(_)) = tried {
            return Err(unavailable);
        }
        transaction.rollback().await?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Finds out what became of an append of `batch` at `head` whose answer was an error.
    ///
    /// Raises the fence first: a call of ours that still waits somewhere in the server finds it
    /// raised and does nothing, so what is read then stays true. And the commit of that covers
    /// whatever was committed before it, also on a synchronous standby. Repeat until it succeeds.
    pub async fn resolve(&mut self, head: Head, batch: &Batch) -> Result<Appended, StoreError> {
        let now = self.raise_fence(head.position).await?;
        if now.head.position < batch.head_after(head).position
            || now.remembered_hash != Some(head.event_hash)
        {
            return Ok(Appended::HeadMoved);
        }
        let mut connection = self.connection().await?;
        let count = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        let stored =
            read_records(&mut connection, self.partition, head.position + 1, count).await?;
        self.connection = Some(connection);
        Ok(if stored == batch.records { Appended::Yes } else { Appended::HeadMoved })
    }

    /// Shuts out every call made with an older fence, and returns where the partition is; and the
    /// hash of the event at the position that the caller remembers.
    pub async fn raise_fence(&mut self, remembered: i64) -> Result<PartitionStatus, StoreError> {
        let mut connection = self.connection().await?;
        let warnings = notices::warnings();
        let mut transaction = connection.begin().await?;
        sqlx::query!(
            "UPDATE ledger.partition_head SET fence = fence + 1 WHERE partition = $1",
            self.partition
        )
        .execute(&mut *transaction)
        .await?;
        // A statement of its own, which sees what was committed while the first one waited for the head.
        let status = read_status(&mut transaction, self.partition, remembered).await;
        transaction.commit().await?;
        notices::require_none_since(warnings)?;
        self.connection = Some(connection);
        status
    }

    /// Where the partition is; and the hash of the event at the position that the caller remembers.
    pub async fn status(&mut self, remembered: i64) -> Result<PartitionStatus, StoreError> {
        let mut connection = self.connection().await?;
        let status = read_status(&mut connection, self.partition, remembered).await?;
        self.connection = Some(connection);
        Ok(status)
    }

    /// Commits something without a meaning. What was visible before is then durable on whatever would be
    /// promoted, as it is after every commit of ours.
    pub async fn cover(&mut self) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let warnings = notices::warnings();
        // A message in the log of the server that nobody reads: it takes no lock.
        sqlx::query!("SELECT pg_logical_emit_message(true, 'frikort', '')::text AS position")
            .fetch_one(&mut connection)
            .await?;
        notices::require_none_since(warnings)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// The hash of the event at a position; `None` where there is no such event.
    pub async fn event_hash(&mut self, position: i64) -> Result<Option<EventHash>, StoreError> {
        let mut connection = self.connection().await?;
        let hash = sqlx::query_scalar!(
            r#"SELECT ledger.event_hash($1, $2) AS "hash: EventHash""#,
            self.partition,
            position
        )
        .fetch_one(&mut connection)
        .await?;
        self.connection = Some(connection);
        Ok(hash)
    }

    /// Of events that were read or written before, by position and hash, the last position whose
    /// event is in the history still; `None` where none is.
    pub async fn last_common_position(
        &mut self,
        events: &[(i64, EventHash)],
    ) -> Result<Option<i64>, StoreError> {
        let mut connection = self.connection().await?;
        let (positions, hashes): (Vec<i64>, Vec<Vec<u8>>) =
            events.iter().map(|(position, hash)| (*position, hash.0.to_vec())).unzip();
        let position = sqlx::query_scalar!(
            "SELECT max(position) FROM unnest($2::bigint[], $3::bytea[]) AS e (position, hash)
             WHERE ledger.event_hash($1, e.position) = e.hash",
            self.partition,
            &positions,
            &hashes
        )
        .fetch_one(&mut connection)
        .await?;
        self.connection = Some(connection);
        Ok(position)
    }

    /// The connection, taken out for one call: only a call that went well puts it back, so one
    /// that failed or was given up is never used again.
    pub(crate) async fn connection(&mut self) -> Result<PgConnection, StoreError> {
        let idle = self.used.elapsed();
        self.used = Instant::now();
        if let Some(mut connection) = self.connection.take()
            && (!self.sessions.must_test(idle) || connection.ping().await.is_ok())
        {
            return Ok(connection);
        }
        let (mut connection, run) = self.sessions.connect(SessionPurpose::Calls).await?;
        self.run = run;
        notices::require_received(&mut connection).await?;
        Ok(connection)
    }

    /// Keeps a connection for the next call.
    pub(crate) fn keep(&mut self, connection: PgConnection) {
        self.connection = Some(connection);
    }

    pub(crate) fn partition(&self) -> i32 {
        self.partition
    }
}

async fn read_status(
    connection: &mut PgConnection,
    partition: i32,
    remembered: i64,
) -> Result<PartitionStatus, StoreError> {
    let row = sqlx::query_as!(
        PartitionStatusRow,
        r#"SELECT position, fence, recorded_at,
                  ledger.event_hash(partition, position) AS "event_hash: EventHash",
                  ledger.event_hash(partition, $2) AS "remembered_hash: EventHash",
                  EXISTS (SELECT FROM ledger.history_incident AS i
                           WHERE i.partition = $1 AND accepted_at IS NULL
                             AND withdrawn_at IS NULL) AS "has_open_incident!",
                  current_setting('synchronous_standby_names') <> '' AS "is_synchronous!"
           FROM ledger.partition_head WHERE partition = $1"#,
        partition,
        remembered
    )
    .fetch_one(connection)
    .await?;
    row.status(partition)
}

struct PartitionStatusRow {
    position: i64,
    fence: i64,
    recorded_at: Option<OffsetDateTime>,
    event_hash: Option<EventHash>,
    remembered_hash: Option<EventHash>,
    has_open_incident: bool,
    is_synchronous: bool,
}

impl PartitionStatusRow {
    /// The head must be the position of an event that is there; a writer would leave a gap behind one
    /// that is not.
    fn status(self, partition: i32) -> Result<PartitionStatus, StoreError> {
        let Self { position, fence, recorded_at, .. } = self;
        let no_event = StoreError::NoEventAtHead { partition, position };
        let event_hash = self.event_hash.ok_or(no_event)?;
        Ok(PartitionStatus {
            head: Head { position, fence, recorded_at, event_hash },
            remembered_hash: self.remembered_hash,
            has_open_incident: self.has_open_incident,
            is_synchronous: self.is_synchronous,
        })
    }
}

async fn call_append(
    connection: &mut PgConnection,
    partition: i32,
    head: Head,
    batch: &Batch,
) -> Result<Appended, StoreError> {
    let appended = sqlx::query_scalar!(
        r#"SELECT ledger.append($1, $2, $3, $4, $5, $6, $7, $8) AS "appended!""#,
        partition,
        head.position,
        head.fence,
        head.event_hash as EventHash,
        &batch.person_ids,
        &batch.versions,
        &batch.recorded_at,
        &batch.records,
    )
    .fetch_one(connection)
    .await?;
    Ok(if appended { Appended::Yes } else { Appended::HeadMoved })
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
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let options = PgConnectOptions::new_without_pgpass().password("a-password");
        let shown = format!("{:?}", Appender::new(DatabaseSessions::new(options), 3));
        assert!(shown.contains("partition: 3") && !shown.contains("a-password"), "{shown}");
    }
}
