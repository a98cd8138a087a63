//! An append-only event store on Postgres, in the manner of a client of EventStoreDB: append with
//! an expected position, read a stream forwards and backwards, read all from a position,
//! subscribe with catch-up.
//!
//! ```text
//!   Appender ──append(head, batch)──▶ ledger.append() ──▶ partition_head (compare-and-swap)
//!                                                   └──▶ event (positions head+1, head+2, …)
//!   EventStore ──read_all / read_stream / subscribe──▶ event
//! ```
//!
//! Why its own crate: it knows partitions, positions, streams and bytes, and must never know
//! what a payment is. It also embeds the migrations of the whole database, since there is one
//! database and one line of migrations; the tables of other rooms are used in those rooms.

mod append;
mod durability;
mod hash;
mod incident;
mod migrate;
mod notices;
mod pool;
mod read;
mod session;
mod sessions;
pub mod sqlstate;
mod subscribe;
mod user;

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use time::OffsetDateTime;

pub use append::{Appended, Appender, Batch, PartitionStatus, notify};
pub use durability::Durability;
pub use hash::EventHash;
pub use incident::{AcceptedLoss, Incident, accept_incidents, accepted_incidents};
pub use migrate::migrate;
pub use notices::warning_counter;
pub use pool::{ConnectionPool, PooledConnection, PooledTransaction};
pub use read::{Direction, StoredEvent};
pub use session::{apply_settings, connect};
pub use sessions::{CurrentRun, DatabaseSessions, Reachability, ServerRun, SessionPurpose};
pub use subscribe::{Signal, Subscription, listen};

/// Events of a partition itself, which are no person's, stand in this stream.
pub const PARTITION_STREAM: uuid::Uuid = uuid::Uuid::nil();

/// The schema that this program reads and writes; `ledger.schema_version()` must say the same.
pub const SCHEMA_VERSION: i32 = 8;

/// How long a service waits for its database when it starts.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two tries.
const START_PAUSE: Duration = Duration::from_millis(500);

/// What can go wrong between us and the database, by what the caller must do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or refused for a passing reason. Try again.
    #[error("the database cannot be reached, or cannot answer now")]
    Unavailable(#[source] sqlx::Error),
    /// The database answered that something is wrong with our request or with its contents.
    #[error("the database refused")]
    Refused(#[source] sqlx::Error),
    /// The database acknowledged a commit with a warning: a synchronous standby may lack it. Try again.
    #[error("the database acknowledged a commit with a warning, so its outcome is unknown")]
    UncertainCommit,
    /// An event that was read before is not in the history any more: the database has gone back.
    #[error(
        "the history has changed: the event at position {position} of partition {partition} is not the one that was read"
    )]
    HistoryChanged {
        /// The partition.
        partition: i32,
        /// Where the event was.
        position: i64,
    },
    /// The head names a position at which there is no event.
    #[error(
        "the head of partition {partition} is at position {position}, and there is no event there"
    )]
    NoEventAtHead {
        /// The partition.
        partition: i32,
        /// The head.
        position: i64,
    },
    /// The notices of the database do not reach the writer, so it could not tell an uncertain commit.
    #[error(
        "notices of the database are not received: the process has installed no warning counter"
    )]
    NoticesNotReceived,
    /// The schema is not the one this program was built for.
    #[error("the database has schema {found}, this program needs {SCHEMA_VERSION}: {advice}")]
    WrongSchema {
        /// `ledger.schema_version()`; 0 when there is none.
        found: i32,
        /// What to do.
        advice: &'static str,
    },
    /// The database has the tables, and not the rights to them.
    #[error(
        "the rights to the tables are missing, as after a restore without them, or the user is not \
         frikort_ledger or frikort_projector: run `ledger migrate`, which gives each role its rights"
    )]
    MissingRights(#[source] sqlx::Error),
    /// The database would let this user change the past.
    #[error(
        "the database user {user} is {why}: connect as frikort_ledger or frikort_projector, which \
         `ledger migrate` makes, or as a role with the same rights"
    )]
    TooPowerful {
        /// The session's user.
        user: String,
        /// What it is that a service must not be.
        why: String,
    },
    /// The server may lose or damage what it has acknowledged.
    #[error(
        "the database server runs with {settings}, so a crash of its machine can lose or damage \
         what was acknowledged: set it to on in postgresql.conf and reload the server, or start \
         with --allow-unsafe-database (FRIKORT_ALLOW_UNSAFE_DATABASE=true) where data may be lost"
    )]
    UnsafeServer {
        /// `fsync = off`, `full_page_writes = off`, or both.
        settings: String,
    },
    /// The connections of this process have no sessions of their own.
    #[error(
        "the database keeps no session for a connection, as behind a pooler in transaction mode; \
         what is missing: {missing}. Connect to the server directly, or through a pooler in \
         session mode (PgBouncer: pool_mode = session)"
    )]
    SharedSessions {
        /// What is lost between two statements.
        missing: String,
    },
    /// Something between this process and the server refuses what each session begins with.
    #[error(
        "a pooler refuses the startup options of a session: connect to the server directly, or \
         through a pooler in session mode that leaves them out (PgBouncer: pool_mode = session, \
         ignore_startup_parameters = extra_float_digits, options)"
    )]
    StartupRefused(#[source] sqlx::Error),
    /// A migration failed.
    #[error("the migration failed")]
    Migration(#[source] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match sqlstate::meaning_of(&error) {
            sqlstate::Meaning::Passing => Self::Unavailable(error),
            sqlstate::Meaning::Contradiction => Self::Refused(error),
        }
    }
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Position of the last event; 0 when there is none.
    pub position: i64,
    /// Rises when a writer shuts out calls that may still be under way.
    pub fence: i64,
    /// When the last event was recorded.
    pub recorded_at: Option<OffsetDateTime>,
    /// The hash of the last event.
    pub event_hash: EventHash,
}

impl Head {
    /// Before the first event.
    pub const EMPTY: Self =
        Self { position: 0, fence: 0, recorded_at: None, event_hash: EventHash([0; 32]) };
}

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventStore {
    pool: ConnectionPool,
}

impl EventStore {
    /// Uses `pool`, after making sure that the schema is ours, and that its user is not the owner.
    pub async fn open(pool: impl Into<ConnectionPool>) -> Result<Self, StoreError> {
        let pool = pool.into();
        let found = match sqlx::query_scalar!(r#"SELECT ledger.schema_version() AS "version!""#)
            .fetch_one(&mut *pool.acquire().await?)
            .await
        {
            Ok(version) => version,
            // 3F000 no such schema, 42883 no such function.
            Err(sqlx::Error::Database(e))
                if matches!(e.code().as_deref(), Some("3F000" | "42883")) =>
            {
                0
            }
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("42501") => {
                return Err(StoreError::MissingRights(sqlx::Error::Database(e)));
            }
            Err(error) => return Err(error.into()),
        };
        match found.cmp(&SCHEMA_VERSION) {
            std::cmp::Ordering::Equal => {
                user::refuse_owner(&pool).await?;
                Ok(Self { pool })
            }
            std::cmp::Ordering::Less => {
                Err(StoreError::WrongSchema { found, advice: "run `ledger migrate`" })
            }
            std::cmp::Ordering::Greater => {
                Err(StoreError::WrongSchema { found, advice: "run a newer program" })
            }
        }
    }

    /// The same, waiting for a database that is not there yet: services and their database are
    /// often started together.
    pub async fn open_when_there(
        pool: ConnectionPool,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match Self::open_checked(&pool, durability).await {
                Err(StoreError::Unavailable(error)) if Instant::now() < deadline => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "waiting for the database");
                    tokio::time::sleep(START_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn open_checked(
        pool: &ConnectionPool,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        session::require_own_sessions(&pool.connect_options()).await?;
        let store = Self::open(pool.clone()).await.map_err(|error| match error {
            StoreError::Unavailable(error) => session::lasting(error),
            other => other,
        })?;
        durability::require(pool, durability).await?;
        Ok(store)
    }

    /// The pool, for the other rooms' own tables.
    pub fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    /// Whether every connection is in use; whoever then cannot have one in time has met a crowd,
    /// not an outage.
    pub fn is_busy(&self) -> bool {
        self.pool.is_busy()
    }

    /// The partitions, ascending.
    pub async fn partitions(&self) -> Result<Vec<i32>, StoreError> {
        let query = sqlx::query_scalar!("SELECT partition FROM ledger.partition_head ORDER BY 1");
        Ok(query.fetch_all(&mut *self.pool.acquire().await?).await?)
    }

    /// Where a partition stands.
    pub async fn head(&self, partition: i32) -> Result<Head, StoreError> {
        let row = sqlx::query!(
            r#"SELECT position, fence, recorded_at,
                      ledger.event_hash(partition, position) AS "event_hash: EventHash"
               FROM ledger.partition_head WHERE partition = $1"#,
            partition
        )
        .fetch_one(&mut *self.pool.acquire().await?)
        .await?;
        let (position, fence, recorded_at) = (row.position, row.fence, row.recorded_at);
        let no_event = StoreError::NoEventAtHead { partition, position };
        Ok(Head { position, fence, recorded_at, event_hash: row.event_hash.ok_or(no_event)? })
    }
}

/// A pool of a tool's own.
pub fn pool(options: PgConnectOptions, connections: u32) -> ConnectionPool {
    DatabaseSessions::new(options).pool(connections, SessionPurpose::Operations)
}
