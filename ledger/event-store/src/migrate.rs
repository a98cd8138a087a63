//! Brings the database to the schema of this program, as the role that owns it.
//!
//! The first migrations run as whoever calls; the one that makes the roles hands everything over to
//! `frikort_migrator`, and what comes later is done as that role, so that whatever is made is its
//! own whoever calls. Rights are in no migration that comes later: they are in `rights/`, and are given
//! anew each time, so that a restored database gets them too.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, migrate::Migrator};

use crate::{ConnectionPool, StoreError, session};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The migration that makes the roles and hands everything over.
const ROLES: i64 = 5;

/// Months of the access log that have a table of their own before they begin.
const MONTHS_AHEAD: i32 = 24;

/// Roles, owners and rights, which a dump or a restore may lack: made again each time.
const ROLE_SQL: &str = include_str!("../rights/roles.sql");
const OWNER_SQL: &str = include_str!("../rights/owner.sql");
const DATABASE_SQL: &str = include_str!("../rights/database.sql");
const OBJECT_SQL: &str = include_str!("../rights/objects.sql");

/// Creates or updates the schema, restores roles and rights, and makes sure that there are at least
/// `partitions`.
pub async fn migrate(pool: &ConnectionPool, partitions: i32) -> Result<(), StoreError> {
    session::require_own_sessions(&pool.connect_options()).await?;
    // A connection of its own, since it changes its role.
    let mut connection = pool.acquire().await?.detach();
    connection.execute(ROLE_SQL).await?;
    become_owner(&mut connection).await?;
    run(&mut connection, Some(ROLES)).await?;
    connection.execute("RESET ROLE").await?;
    connection.execute(DATABASE_SQL).await?;
    connection.execute(OWNER_SQL).await?;
    become_owner(&mut connection).await?;
    run(&mut connection, None).await?;
    add_partitions(&mut connection, partitions).await?;
    add_months(&mut connection).await?;
    connection.execute(OBJECT_SQL).await?;
    Ok(connection.close().await?)
}

async fn run(connection: &mut PgConnection, until: Option<i64>) -> Result<(), StoreError> {
    let result = match until {
        Some(version) => MIGRATIONS.run_to(version, connection).await,
        None => MIGRATIONS.run(connection).await,
    };
    result.map_err(StoreError::Migration)
}

/// Takes the role that owns the events, where there is one and it is another than ours.
async fn become_owner(connection: &mut PgConnection) -> Result<(), StoreError> {
    let owner = sqlx::query_scalar!(
        r#"SELECT quote_ident(o.rolname) AS "owner!"
           FROM pg_class AS c
           JOIN pg_namespace AS n ON n.oid = c.relnamespace
           JOIN pg_roles AS o ON o.oid = c.relowner
           WHERE n.nspname = 'ledger' AND c.relname = 'event' AND o.rolname <> current_user
             AND pg_has_role(o.oid, 'MEMBER')"#
    );
    if let Some(owner) = owner.fetch_optional(&mut *connection).await? {
        // The server has quoted it.
        connection.execute(AssertSqlSafe(format!("SET ROLE {owner}"))).await?;
    }
    Ok(())
}

/// Makes the access log's tables for the months to come.
async fn add_months(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!(
        "SELECT access.add_months(current_date, (current_date + make_interval(months => $1))::date)",
        MONTHS_AHEAD
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

async fn add_partitions(connection: &mut PgConnection, partitions: i32) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO ledger.partition_head (partition) SELECT generate_series(0, $1 - 1)
         ON CONFLICT ON CONSTRAINT partition_head_pkey DO NOTHING",
        partitions
    )
    .execute(&mut *connection)
    .await?;
    // A partition that is new begins in the generation that the others are served from.
    sqlx::query!(
        "INSERT INTO projection.checkpoint (partition, generation, state)
         SELECT h.partition,
                coalesce((SELECT max(generation) FROM projection.checkpoint
                          WHERE state = 'serving'), 1), 'serving'
         FROM ledger.partition_head AS h
         WHERE NOT EXISTS (SELECT FROM projection.checkpoint AS c
                           WHERE c.partition = h.partition AND c.state = 'serving')
         ON CONFLICT DO NOTHING"
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}
