//! Connections of one process that take turns.
//!
//! sqlx's pool asks a connection that comes back whether it still answers, and waits for that without a
//! bound: a connection whose answers are lost on the way keeps its place for ever, and a pool of one never
//! gives another. Here a connection that does not answer in time is dropped, and another one takes its place.
//!
//! Not here: how connections are opened and tested (`sessions.rs`).

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{
    Executor, PgConnection, PgPool, Postgres, pool::PoolConnection, postgres::PgConnectOptions,
};
use tokio::{runtime::Handle, time::timeout};

/// How long a connection that comes back may take to answer. One that was given up in the middle of a
/// statement answers when that has ended.
const RETURN_TIMEOUT: Duration = Duration::from_millis(900);

/// Why there is a connection: only dropping and detaching take it.
const DROPPED: &str = "a connection is there until it is dropped";

/// Begins a transaction that sees one state of the database throughout.
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConnectionPool(PgPool);

/// A connection of a pool, which goes back when it is dropped.
#[derive(Debug)]
pub struct PooledConnection {
    /// There until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    /// Whether a [`PooledTransaction`] on it was not committed.
    in_transaction: bool,
}

/// A transaction on a connection of a pool. One that is dropped is rolled back.
#[derive(Debug)]
pub struct PooledTransaction(PooledConnection);

impl From<PgPool> for ConnectionPool {
    fn from(pool: PgPool) -> Self {
        Self(pool)
    }
}

impl ConnectionPool {
    /// A connection; waits for one as long as the pool allows.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] where none was free in time; those of opening one.
    pub async fn acquire(&self) -> Result<PooledConnection, sqlx::Error> {
        Ok(PooledConnection { connection: Some(self.0.acquire().await?), in_transaction: false })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// Those of [`Self::acquire`], and those of the server.
    pub async fn begin(&self) -> Result<PooledTransaction, sqlx::Error> {
        self.begin_with("BEGIN").await
    }

    /// Begins a transaction that only reads, and sees one state of the database throughout.
    ///
    /// # Errors
    /// Those of [`Self::acquire`], and those of the server.
    pub async fn begin_snapshot(&self) -> Result<PooledTransaction, sqlx::Error> {
        self.begin_with(BEGIN_SNAPSHOT).await
    }

    async fn begin_with(&self, begin: &'static str) -> Result<PooledTransaction, sqlx::Error> {
        let mut connection = self.acquire().await?;
        // Set first: one that is given up while it begins may have begun.
        connection.in_transaction = true;
        connection.execute(begin).await?;
        Ok(PooledTransaction(connection))
    }

    /// Whether every connection is in use: a caller that has not had one in time has met a crowd, not an
    /// outage.
    pub fn is_busy(&self) -> bool {
        self.0.size() >= self.0.options().get_max_connections() && self.0.num_idle() == 0
    }

    /// What connections are opened with.
    pub fn connect_options(&self) -> PgConnectOptions {
        (*self.0.connect_options()).clone()
    }
}

impl PooledConnection {
    /// Takes it out of the pool for good.
    pub(crate) fn detach(mut self) -> PgConnection {
        self.connection.take().expect(DROPPED).detach()
    }
}

impl Deref for PooledConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect(DROPPED)
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(DROPPED)
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(give_back(connection, self.in_transaction))),
            // Nothing can wait for its answer, and sqlx panics when it tries to.
            Err(_) => drop(connection.detach()),
        }
    }
}

/// Gives a connection back to its pool, which asks whether it still answers. One that does not answer in time
/// is dropped, and leaves its place to another.
async fn give_back(mut connection: PoolConnection<Postgres>, in_transaction: bool) {
    if in_transaction {
        let rolled_back = timeout(RETURN_TIMEOUT, connection.execute("ROLLBACK")).await;
        if !matches!(rolled_back, Ok(Ok(_))) {
            drop(connection.detach());
            return;
        }
    }
    let _ = timeout(RETURN_TIMEOUT, connection.return_to_pool()).await;
}

impl PooledTransaction {
    /// Commits it.
    ///
    /// # Errors
    /// Those of the server. Whether it was committed is then unknown.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.0.execute("COMMIT").await?;
        self.0.in_transaction = false;
        Ok(())
    }

    /// Rolls it back, and returns when its locks are released.
    ///
    /// # Errors
    /// Those of the server. It is rolled back then as well, when the server ends the session.
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.0.execute("ROLLBACK").await?;
        self.0.in_transaction = false;
        Ok(())
    }
}

impl Deref for PooledTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for PooledTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
