//! A database for each test: copied from a template that holds the migrated schema, in one
//! cluster that all test processes share and that is kept between runs (fsync off).

use std::{
    env,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context;
use frikort::postgres::{Cluster, OWNER, Options};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool, migrate::Migrator,
    postgres::PgPoolOptions,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../ledger/event-store/migrations");

/// Numbers the databases of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Held while the template is made and copied, so that test processes take turns.
const TEMPLATE_LOCK: i64 = 0x_f71c_0a7e;

/// A migrated, empty database.
#[derive(Debug)]
pub struct Database {
    cluster: Cluster,
    name: String,
}

/// Where test clusters live: reachable for the user that Postgres runs as.
fn home() -> PathBuf {
    let user = env::var("USER").unwrap_or_else(|_| "frikort".to_owned());
    PathBuf::from(format!("/var/tmp/frikort-tests-{user}"))
}

impl Database {
    /// A new database in the shared cluster, with so many partitions.
    pub async fn create(partitions: i32) -> anyhow::Result<Self> {
        let options = Options { durable: false, ..Options::default() };
        let cluster =
            tokio::task::spawn_blocking(move || Cluster::start(&home(), &options)).await??;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let mut owner = PgConnection::connect(&cluster.url(OWNER, "postgres")).await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut owner).await?;
        drop_leftovers(&mut owner).await?;
        let template = template(&cluster, &mut owner).await?;
        run(&mut owner, format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
        owner.close().await?;
        let database = Self { cluster, name };
        let pool = database.pool().await?;
        frikort_event_store::migrate(&pool, partitions).await?;
        pool.close().await;
        Ok(database)
    }

    /// The same in a cluster of its own, durable, for tests that kill the server.
    pub async fn create_alone(dir: PathBuf, partitions: i32) -> anyhow::Result<Self> {
        let cluster =
            tokio::task::spawn_blocking(move || Cluster::start(&dir, &Options::default()))
                .await??;
        let mut owner = PgConnection::connect(&cluster.url(OWNER, "postgres")).await?;
        run(&mut owner, "CREATE DATABASE frikort".to_owned()).await?;
        owner.close().await?;
        let database = Self { cluster, name: "frikort".to_owned() };
        let pool = database.pool().await?;
        frikort_event_store::migrate(&pool, partitions).await?;
        pool.close().await;
        Ok(database)
    }

    /// A copy of it as it is now. Nobody may be connected to it meanwhile.
    pub async fn copy(&self) -> anyhow::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let mut owner = PgConnection::connect(&self.cluster.url(OWNER, "postgres")).await?;
        run(&mut owner, format!("CREATE DATABASE {name} TEMPLATE {}", self.name)).await?;
        owner.close().await?;
        Ok(Self { cluster: self.cluster.clone(), name })
    }

    /// The URL for one of the roles: `frikort_ledger`, `frikort_projector`, the superuser.
    pub fn url(&self, user: &str) -> String {
        self.cluster.url(user, &self.name)
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A pool as the superuser.
    pub async fn pool(&self) -> anyhow::Result<PgPool> {
        self.pool_as(OWNER).await
    }

    /// A pool as one of the roles.
    pub async fn pool_as(&self, user: &str) -> anyhow::Result<PgPool> {
        let pool = PgPoolOptions::new().max_connections(4).connect(&self.url(user)).await;
        pool.with_context(|| format!("cannot connect to {} as {user}", self.name))
    }
}

/// Runs a statement in a transaction of its own that is rolled back; the code of its error, where
/// the database refuses it.
///
/// # Panics
/// At an error that is not the database's answer.
pub async fn refusal(pool: &PgPool, statement: &str) -> Option<String> {
    let mut transaction = pool.begin().await.expect("a connection");
    let result = sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await;
    let error = result.err()?;
    let database = error.as_database_error().unwrap_or_else(|| panic!("{statement}: {error}"));
    Some(database.code().expect("Postgres gives a code").into_owned())
}

/// Makes the template for this schema, where there is none.
async fn template(cluster: &Cluster, owner: &mut PgConnection) -> anyhow::Result<String> {
    let mut sums = MIGRATIONS.iter().flat_map(|migration| migration.checksum.iter());
    let hash = sums.by_ref().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let name = format!("template_{hash:016x}");
    let known: Option<i32> = sqlx::query_scalar("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(&name)
        .fetch_optional(&mut *owner)
        .await?;
    if known.is_none() {
        // Made under another name, so that a half-made one is never copied.
        run(owner, format!("DROP DATABASE IF EXISTS {name}_new")).await?;
        run(owner, format!("CREATE DATABASE {name}_new")).await?;
        let pool = PgPool::connect(&cluster.url(OWNER, &format!("{name}_new"))).await?;
        frikort_event_store::migrate(&pool, 1).await?;
        pool.close().await;
        run(owner, format!("ALTER DATABASE {name}_new RENAME TO {name}")).await?;
    }
    Ok(name)
}

/// Drops the databases of test processes that are gone.
async fn drop_leftovers(owner: &mut PgConnection) -> anyhow::Result<()> {
    let query = "SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'";
    let names: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut *owner).await?;
    for name in names {
        let process = name.split('_').nth(1).unwrap_or_default();
        if !PathBuf::from(format!("/proc/{process}")).exists() {
            run(owner, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        }
    }
    Ok(())
}

async fn run(connection: &mut PgConnection, statement: String) -> anyhow::Result<()> {
    // Names are made in this file.
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}
