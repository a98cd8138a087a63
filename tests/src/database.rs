//! A database for each test: copied from a template that holds the migrated schema, in one
//! cluster that all test processes share and that is kept between runs (fsync off).
//!
//! Whatever a test does, its tables outside the register are looked through when it is dropped, and
//! the test fails where a CPR number or a key stands in them (W5).

use std::{
    env,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use anyhow::{Context, bail, ensure};
use frikort::postgres::{Cluster, OWNER, Options};
use futures::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool, migrate::Migrator,
    postgres::PgPoolOptions,
};

use crate::privacy::find_in_row;

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
    /// Looked through, and its server then stopped.
    is_done: AtomicBool,
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
        let database = Self { cluster, name, is_done: AtomicBool::new(false) };
        let pool = database.pool().await?;
        frikort_event_store::migrate(&pool.clone().into(), partitions).await?;
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
        let name = "frikort".to_owned();
        let database = Self { cluster, name, is_done: AtomicBool::new(false) };
        let pool = database.pool().await?;
        frikort_event_store::migrate(&pool.clone().into(), partitions).await?;
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
        let (cluster, is_done) = (self.cluster.clone(), AtomicBool::new(false));
        Ok(Self { cluster, name, is_done })
    }

    /// Stops the server of a database that is alone, whose tables are looked through before.
    pub async fn stop_cluster(&self) -> anyhow::Result<()> {
        self.look_through().await?;
        self.is_done.store(true, Ordering::Relaxed);
        let cluster = self.cluster.clone();
        tokio::task::spawn_blocking(move || cluster.stop()).await?
    }

    /// Fails where a CPR number, a key or a token stands in a table outside the register.
    pub async fn look_through(&self) -> anyhow::Result<()> {
        look_through(&self.url(OWNER)).await.with_context(|| format!("the database {}", self.name))
    }

    /// The URL for one of the roles: `frikort_ledger`, `frikort_projector`, the superuser.
    pub fn url(&self, user: &str) -> String {
        self.cluster.url(user, &self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
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

impl Drop for Database {
    fn drop(&mut self) {
        // A test that fails is not to fail twice, which would end the whole process.
        if thread::panicking() || (self.is_done.load(Ordering::Relaxed) && !self.cluster.is_ready())
        {
            return;
        }
        // Whoever drops it may be within a runtime, which cannot be waited in.
        let looking = thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(self.look_through())
            });
            looking.join().expect("it does not panic")
        });
        if let Err(error) = looking {
            panic!("{error:#}");
        }
    }
}

/// Every row of every table outside the register, as `COPY` gives it.
async fn look_through(url: &str) -> anyhow::Result<()> {
    let mut owner = PgConnection::connect(url).await?;
    // A lock that a test has left is told, rather than waited for.
    owner.execute("SET lock_timeout = '10s'").await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', nspname, relname)
           FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
          WHERE relkind IN ('r', 'm') AND nspname NOT LIKE 'pg\\_%'
            AND nspname NOT IN ('information_schema', 'register')",
    )
    .fetch_all(&mut owner)
    .await?;
    ensure!(!tables.is_empty(), "there are no tables");
    for table in tables {
        let copy = format!("COPY {table} TO STDOUT");
        // The server sends a row at a time.
        let mut rows = owner.copy_out_raw(&copy).await?;
        while let Some(row) = rows.try_next().await? {
            if let Some(found) = find_in_row(std::str::from_utf8(&row)?) {
                bail!("{table} holds {found}");
            }
        }
    }
    owner.close().await?;
    Ok(())
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
        frikort_event_store::migrate(&pool.clone().into(), 1).await?;
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
