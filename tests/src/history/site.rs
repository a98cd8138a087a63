//! A real cluster whose data directory is copied, taken away and put back while it is stopped.
//!
//! Not here: the services that run meanwhile.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use frikort::postgres::{Cluster, OWNER, Options};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::events::{Histories, History};
use crate::{client, database::Database, process::signal};

/// How long a killed server may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Which history the database has, counted from 0. Shared with the clients.
#[derive(Clone, Debug, Default)]
pub struct Epoch(Arc<AtomicUsize>);

impl Epoch {
    /// The present one.
    pub fn now(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn begin_next(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The CPR number of a test's person, the same for the same number.
pub fn cpr_of(person: u32) -> String {
    client::cpr(person)
}

/// Stops a server when dropped.
#[derive(Debug)]
pub(super) struct RunningServer(pub(super) Cluster);

impl Drop for RunningServer {
    fn drop(&mut self) {
        // A test may have stopped it, and its directory is removed either way.
        let _ = self.0.stop();
    }
}

/// A cluster of its own, with copies of its data directory.
#[derive(Debug)]
pub struct Site {
    /// The database; its URL stays the same whatever directory is served.
    pub database: Database,
    /// Which history it has.
    pub epoch: Epoch,
    /// Ends the server before its directory is removed.
    _server: RunningServer,
    services_dir: PathBuf,
    /// All directories; removed last.
    dir: TempDir,
    options: Options,
    /// The event tables of past epochs that were read.
    past: Mutex<Vec<Arc<History>>>,
}

impl Site {
    /// Starts a new cluster with an empty, migrated database.
    pub async fn start(partitions: i32) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("frikort-history-").tempdir_in("/var/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let database = Database::create_alone(dir.path().join("cluster"), partitions).await?;
        let server = RunningServer(database.cluster().clone());
        let (epoch, options) = (Epoch::default(), Options::default());
        let past = Mutex::default();
        let services_dir = dir.path().join("services");
        fs::create_dir(&services_dir)?;
        Ok(Self { database, epoch, _server: server, services_dir, dir, options, past })
    }

    /// The directory of logs and keys, apart from those of the cluster: all in it is searched for
    /// CPR numbers whenever a service ends.
    pub fn dir(&self) -> &Path {
        &self.services_dir
    }

    fn cluster_dir(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    fn data(&self) -> PathBuf {
        self.cluster_dir().join("data")
    }

    fn copy_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join("copies").join(name)
    }

    /// The cluster directory that holds the data directory of a past epoch.
    fn past_dir(&self, epoch: usize) -> PathBuf {
        self.dir.path().join("past").join(epoch.to_string())
    }

    /// Stops the server: what was committed is kept.
    pub async fn stop_server(&self) -> anyhow::Result<()> {
        let cluster = self.database.cluster().clone();
        tokio::task::spawn_blocking(move || cluster.stop()).await?
    }

    /// Stops the server without a last checkpoint, as a crash does, and waits until it has ended.
    pub async fn crash_server(&self) -> anyhow::Result<()> {
        crash(self.database.cluster()).await
    }

    /// Starts the server on the directory that is in place.
    pub async fn start_server(&self) -> anyhow::Result<()> {
        let (dir, options) = (self.cluster_dir(), self.options.clone());
        tokio::task::spawn_blocking(move || Cluster::start(&dir, &options)).await??;
        Ok(())
    }

    /// Copies the data directory of the stopped server.
    pub fn copy(&self, name: &str) -> anyhow::Result<()> {
        fs::create_dir_all(self.dir.path().join("copies"))?;
        copy_directory(&self.data(), &self.copy_dir(name))
    }

    /// Removes a copy.
    pub fn remove_copy(&self, name: &str) -> anyhow::Result<()> {
        Ok(fs::remove_dir_all(self.copy_dir(name))?)
    }

    /// Puts a copy in the place of the stopped server's data directory, which is kept. From now on
    /// it is another epoch.
    pub fn put_back(&self, name: &str) -> anyhow::Result<()> {
        let past = self.past_dir(self.epoch.now());
        fs::create_dir_all(&past)?;
        fs::rename(self.data(), past.join("data"))?;
        copy_directory(&self.copy_dir(name), &self.data())?;
        self.epoch.begin_next();
        Ok(())
    }

    /// The event tables of all epochs so far. The server must be running.
    pub async fn histories(&self) -> anyhow::Result<Histories> {
        let mut past = self.past.lock().await;
        for epoch in past.len()..self.epoch.now() {
            let dir = self.past_dir(epoch);
            past.push(Arc::new(History::read_stopped(&dir).await?));
            fs::remove_dir_all(dir)?;
        }
        let present = Arc::new(self.history().await?);
        Ok(Histories::new(past.iter().cloned().chain([present]).collect()))
    }

    /// The event table as it is now.
    pub async fn history(&self) -> anyhow::Result<History> {
        let mut owner = PgConnection::connect(&self.database.url(OWNER)).await?;
        let history = History::read(&mut owner).await?;
        owner.close().await?;
        Ok(history)
    }
}

/// Ends a server immediately (SIGQUIT), and waits until nothing of it runs any more.
pub(super) async fn crash(cluster: &Cluster) -> anyhow::Result<()> {
    let pid = cluster.pid()?;
    signal(pid, "QUIT")?;
    let deadline = tokio::time::Instant::now() + END_TIMEOUT;
    while Path::new(&format!("/proc/{pid}")).exists() && cluster.pid().is_ok() {
        ensure!(tokio::time::Instant::now() < deadline, "the server does not end");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

pub(super) fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto", "-T"]).arg(from).arg(to);
    let status = command.status().context("cannot run cp")?;
    ensure!(status.success(), "cp of {} ended with {status}", from.display());
    Ok(())
}
