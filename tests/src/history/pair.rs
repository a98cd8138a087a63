//! A primary and a streaming standby, and the failover from one to the other. The services reach
//! whichever is served through one directory, a symbolic link to its socket.
//!
//! Receiving is paused by taking the connection to the primary out of the standby's settings, so
//! what was not received is not there: neither applied nor on its disk.
//!
//! Not here: services, and what is called.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, ensure};
use frikort::postgres::{Cluster, OWNER, Options};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;

use super::{
    events::{Histories, History},
    site::{Epoch, RunningServer, crash},
    stack::eventually,
};

/// The database on both.
const DATABASE: &str = "frikort";

/// Whether the primary waits for the standby before it acknowledges a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// It waits (`synchronous_standby_names`).
    Synchronous,
    /// It does not.
    Asynchronous,
}

/// A primary with its standby.
#[derive(Debug)]
pub struct Pair {
    /// Which history is served.
    pub epoch: Epoch,
    replication: Replication,
    primary: Node,
    /// None after a failover, until there is a new one.
    standby: Option<Node>,
    /// The event tables of past epochs.
    past: Vec<Arc<History>>,
    nodes: usize,
    services_dir: PathBuf,
    /// All directories; removed last.
    dir: TempDir,
}

/// One server.
#[derive(Debug)]
struct Node {
    dir: PathBuf,
    cluster: Cluster,
    _server: RunningServer,
}

impl Node {
    async fn start(dir: PathBuf, settings: Vec<(String, String)>) -> anyhow::Result<Self> {
        let (place, options) = (dir.clone(), Options { settings, ..Options::default() });
        let cluster =
            tokio::task::spawn_blocking(move || Cluster::start(&place, &options)).await??;
        let server = RunningServer(cluster.clone());
        Ok(Self { dir, cluster, _server: server })
    }

    async fn connect(&self, database: &str) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.cluster.url(OWNER, database)).await?)
    }

    /// Changes a setting, and has the server read it.
    async fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let mut owner = self.connect("postgres").await?;
        // Both are texts of this file.
        let statement = format!("ALTER SYSTEM SET {name} = '{value}'");
        owner.execute(AssertSqlSafe(statement)).await?;
        owner.execute("SELECT pg_reload_conf()").await?;
        Ok(owner.close().await?)
    }

    /// The one value of a query as the superuser.
    async fn ask<T>(&self, query: &'static str) -> anyhow::Result<T>
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
    {
        let mut owner = self.connect("postgres").await?;
        let value = sqlx::query_scalar(query).fetch_one(&mut owner).await?;
        owner.close().await?;
        Ok(value)
    }
}

impl Pair {
    /// A primary with an empty, migrated database, and a standby that has received all of it.
    pub async fn start(replication: Replication, partitions: i32) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("frikort-pair-").tempdir_in("/var/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let primary = Node::start(dir.path().join("node-0"), Vec::new()).await?;
        let mut owner = primary.connect("postgres").await?;
        owner.execute("CREATE DATABASE frikort").await?;
        owner.close().await?;
        let pool = PgPool::connect(&primary.cluster.url(OWNER, DATABASE)).await?;
        frikort_event_store::migrate(&pool.clone().into(), partitions).await?;
        pool.close().await;
        symlink(primary.cluster.socket_dir(), dir.path().join("served"))?;
        let services_dir = dir.path().join("services");
        fs::create_dir(&services_dir)?;
        let mut pair = Self {
            epoch: Epoch::default(),
            replication,
            primary,
            standby: None,
            past: Vec::new(),
            nodes: 1,
            services_dir,
            dir,
        };
        pair.add_standby().await?;
        Ok(pair)
    }

    /// The directory of logs and keys, apart from those of the servers: all in it is searched for
    /// CPR numbers whenever a service ends.
    pub fn dir(&self) -> &Path {
        &self.services_dir
    }

    /// The URL for a user, of whichever server is served.
    pub fn url(&self, user: &str) -> String {
        let socket_dir = self.dir.path().join("served");
        let host = socket_dir.display();
        format!("postgresql://{user}@localhost/{DATABASE}?host={host}&sslmode=disable")
    }

    /// The URL of the served database as its owner.
    pub fn owner_url(&self) -> String {
        self.url(OWNER)
    }

    /// A pool as the superuser.
    pub async fn pool(&self) -> anyhow::Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(4).connect(&self.owner_url()).await?)
    }

    /// Copies the primary as a new standby, which streams from it; returns when it does.
    pub async fn add_standby(&mut self) -> anyhow::Result<()> {
        let name = format!("node_{}", self.nodes);
        let dir = self.dir.path().join(&name);
        self.nodes += 1;
        let primary = self.primary.cluster.socket_dir().display();
        let connection = format!("host={primary} user={OWNER} application_name={name}");
        self.base_backup(&dir).await?;
        let standby = Node::start(dir, vec![("primary_conninfo".to_owned(), connection)]).await?;
        self.standby = Some(standby);
        self.until_received().await?;
        if self.replication == Replication::Synchronous {
            self.primary.set("synchronous_standby_names", "*").await?;
            eventually("the standby is synchronous", async || {
                let states =
                    "SELECT coalesce(string_agg(sync_state, ','), '') FROM pg_stat_replication";
                Ok(self.primary.ask::<String>(states).await? == "sync")
            })
            .await?;
        }
        Ok(())
    }

    async fn base_backup(&self, dir: &Path) -> anyhow::Result<()> {
        let query = "SELECT setting FROM pg_config WHERE name = 'BINDIR'";
        let programs: String = self.primary.ask(query).await?;
        fs::create_dir(dir)?;
        let owner = fs::metadata(self.primary.cluster.socket_dir())?;
        chown(dir, Some(owner.uid()), Some(owner.gid()))?;
        let data = dir.join("data");
        let mut command = Command::new(Path::new(&programs).join("pg_basebackup"));
        command.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"]);
        command.args(["--username", OWNER, "--host"]).arg(self.primary.cluster.socket_dir());
        command.arg("--pgdata").arg(&data);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pg_basebackup: {said}");
        fs::write(data.join("standby.signal"), "")?;
        // What was set on the primary alone.
        fs::write(data.join("postgresql.auto.conf"), "")?;
        hand_over(&data, owner.uid(), owner.gid())
    }

    /// Returns when the standby has received all that the primary has written so far.
    pub async fn until_received(&self) -> anyhow::Result<()> {
        let primary = &self.primary;
        let written: String = primary.ask("SELECT pg_current_wal_lsn()::text").await?;
        eventually("the standby has received everything", async || {
            let mut owner = primary.connect("postgres").await?;
            let received = sqlx::query_scalar(
                "SELECT coalesce(bool_or(flush_lsn >= $1::pg_lsn AND replay_lsn >= $1::pg_lsn), false)
                 FROM pg_stat_replication",
            );
            let is_received = received.bind(&written).fetch_one(&mut owner).await?;
            owner.close().await?;
            Ok(is_received)
        })
        .await
    }

    /// The standby receives nothing more; returns when it has ended its connection.
    pub async fn pause(&self) -> anyhow::Result<()> {
        let standby = self.standby.as_ref().context("there is no standby")?;
        standby.set("primary_conninfo", "").await?;
        eventually("receiving has ended", async || {
            let ended = "SELECT count(*) = 0 FROM pg_stat_replication";
            self.primary.ask::<bool>(ended).await
        })
        .await
    }

    /// The standby receives again, from where it was.
    pub async fn resume(&self) -> anyhow::Result<()> {
        let standby = self.standby.as_ref().context("there is no standby")?;
        let mut owner = standby.connect("postgres").await?;
        owner.execute("ALTER SYSTEM RESET primary_conninfo").await?;
        owner.execute("SELECT pg_reload_conf()").await?;
        owner.close().await?;
        self.until_received().await
    }

    /// Ends the waits for the standby that are under way, by cancelling or terminating; how many.
    pub async fn end_waits(&self, terminate: bool) -> anyhow::Result<i64> {
        let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                      WHERE wait_event = 'SyncRep'";
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE wait_event = 'SyncRep'";
        self.primary.ask(if terminate { end } else { cancel }).await
    }

    /// How many commits wait for the standby now.
    pub async fn waits(&self) -> anyhow::Result<i64> {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        self.primary.ask(waits).await
    }

    /// The primary ends as in a crash; the standby is promoted and served. Another epoch.
    pub async fn fail_over(&mut self) -> anyhow::Result<()> {
        crash(&self.primary.cluster).await?;
        self.promote().await
    }

    /// Ends the primary without promoting the standby yet.
    pub async fn crash_primary(&self) -> anyhow::Result<()> {
        crash(&self.primary.cluster).await
    }

    /// Promotes the standby and serves it; the primary must have ended.
    pub async fn promote(&mut self) -> anyhow::Result<()> {
        let standby = self.standby.take().context("there is no standby")?;
        let promoted: bool = standby.ask("SELECT pg_promote()").await?;
        ensure!(promoted, "the standby is not promoted in time");
        let old = std::mem::replace(&mut self.primary, standby);
        self.past.push(Arc::new(History::read_stopped(&old.dir).await?));
        let dir = old.dir.clone();
        drop(old);
        fs::remove_dir_all(dir)?;
        self.epoch.begin_next();
        let (link, new) = (self.dir.path().join("served"), self.dir.path().join("served.new"));
        symlink(self.primary.cluster.socket_dir(), &new)?;
        fs::rename(new, link)?;
        Ok(())
    }

    /// The event tables of all epochs so far.
    pub async fn histories(&self) -> anyhow::Result<Histories> {
        let mut owner = self.primary.connect(DATABASE).await?;
        let present = Arc::new(History::read(&mut owner).await?);
        owner.close().await?;
        Ok(Histories::new(self.past.iter().cloned().chain([present]).collect()))
    }
}

/// Gives a directory and all in it to the account of the servers.
fn hand_over(path: &Path, user: u32, group: u32) -> anyhow::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), user, group)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(user), Some(group))
        .with_context(|| format!("cannot hand over {}", path.display()))
}
