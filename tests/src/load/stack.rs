//! The processes that are driven: a private durable Postgres, the ledger, the projector, and the
//! echo; or a ledger that somebody else started, and the echo.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use frikort::postgres::{self, Cluster, OWNER};
use tempfile::TempDir;

use super::{
    options::Options,
    process::{Process, free_address, is_serving},
};

/// The server settings that `performance.md` compares with.
const SETTINGS: [(&str, &str); 2] = [("shared_buffers", "1GB"), ("max_wal_size", "4GB")];

/// What is running.
#[derive(Debug)]
pub(super) struct Stack {
    dir: PathBuf,
    _removed_at_the_end: Option<TempDir>,
    bin: PathBuf,
    cluster: Option<Cluster>,
    ledger: Option<Process>,
    projector: Option<Process>,
    echo: Option<Process>,
    pub(super) ledger_at: SocketAddr,
    pub(super) projector_at: SocketAddr,
    pub(super) echo_at: SocketAddr,
    /// The database, as its owner.
    pub(super) database_url: String,
}

impl Stack {
    /// Makes the place, and the database server in it. Not to be cut off half-way.
    pub(super) async fn open(options: &Options) -> anyhow::Result<Self> {
        let (dir, temporary) = room(options.data_dir.as_deref())?;
        let beside = std::env::current_exe()?.parent().map(Path::to_owned);
        let bin = options.bin_dir.clone().or(beside).context("where are the programs?")?;
        let cluster = match options.ledger {
            Some(_) => None,
            None => Some(
                tokio::task::spawn_blocking({
                    let dir = dir.join("pg");
                    move || Cluster::start(&dir, &durable())
                })
                .await??,
            ),
        };
        let owned = cluster.as_ref().map(|cluster| cluster.url(OWNER, "postgres"));
        Ok(Self {
            dir,
            _removed_at_the_end: temporary,
            bin,
            database_url: owned.or(options.database_url.clone()).context("no database")?,
            cluster,
            ledger: None,
            projector: None,
            echo: None,
            ledger_at: options.ledger.map_or_else(free_address, Ok)?,
            projector_at: options.projector.map_or_else(free_address, Ok)?,
            echo_at: free_address()?,
        })
    }

    /// Starts the services.
    pub(super) async fn start(&mut self, options: &Options) -> anyhow::Result<()> {
        let (at, itself) = (self.echo_at.to_string(), std::env::current_exe()?);
        let echo = Process::spawn("echo", &itself, &self.log("echo"), |echo| {
            echo.args(["echo", "--listen", &at])
        })?;
        self.echo.insert(echo).serving(self.echo_at).await?;
        let Some(cluster) = &self.cluster else {
            let both = is_serving(self.ledger_at).await && is_serving(self.projector_at).await;
            ensure!(both, "ledger or projector does not serve");
            return Ok(());
        };
        let program = self.bin.join("ledger");
        let partitions = options.partitions.to_string();
        let migrate = Process::spawn("ledger migrate", &program, &self.log("ledger"), |ledger| {
            ledger.args(["migrate", "--partitions", &partitions]);
            ledger.env("DATABASE_URL", &self.database_url)
        })?;
        migrate.finish().await?;
        let url = cluster.url("frikort_ledger", "postgres");
        let ledger = Process::spawn("ledger", &program, &self.log("ledger"), |ledger| {
            ledger.args([
                "serve",
                "--insecure-on-loopback",
                "--create-keys",
                "--listen",
                &self.ledger_at.to_string(),
            ]);
            if let Some(payments) = options.cached_payments {
                ledger.args(["--cached-payments", &payments.to_string()]);
            }
            if !options.without_proofs {
                let key_file = self.dir.join("signing.key");
                ledger.arg("--create-signing-key").arg("--signing-key-file").arg(key_file);
            }
            ledger.arg("--lookup-journal").arg(self.dir.join("lookups"));
            ledger.arg("--keys-file").arg(self.dir.join("keys")).env("DATABASE_URL", url)
        })?;
        self.ledger.insert(ledger).serving(self.ledger_at).await?;
        self.start_projector().await
    }

    /// Whether the projector is ours to stop and start.
    pub(super) fn owns_projector(&self) -> bool {
        self.cluster.is_some()
    }

    /// Starts the projector, if it is ours and does not run.
    pub(super) async fn start_projector(&mut self) -> anyhow::Result<()> {
        self.spawn_projector()?;
        match &mut self.projector {
            Some(projector) => projector.serving(self.projector_at).await,
            None => Ok(()),
        }
    }

    /// The same without waiting until it serves, which it does when it has caught up.
    pub(super) fn spawn_projector(&mut self) -> anyhow::Result<()> {
        let (Some(cluster), None) = (&self.cluster, &self.projector) else { return Ok(()) };
        let url = cluster.url("frikort_projector", "postgres");
        let program = self.bin.join("projector");
        let log = self.log("projector");
        self.projector = Some(Process::spawn("projector", &program, &log, |projector| {
            projector.args([
                "serve",
                "--insecure-on-loopback",
                "--listen",
                &self.projector_at.to_string(),
            ]);
            projector.arg("--lookup-journal").arg(self.dir.join("lookups"));
            projector.arg("--keys-file").arg(self.dir.join("keys")).env("DATABASE_URL", url)
        })?);
        Ok(())
    }

    /// Stops the projector, if it is ours.
    pub(super) async fn stop_projector(&mut self) -> anyhow::Result<()> {
        match self.projector.take() {
            Some(projector) => projector.stop().await,
            None => Ok(()),
        }
    }

    /// Rebuilds the projection, which must be ours, and gives what is told of it.
    pub(super) async fn rebuild(&mut self) -> anyhow::Result<serde_json::Value> {
        let cluster = self.cluster.as_ref().context("not our database")?;
        let mut command = tokio::process::Command::new(self.bin.join("projector"));
        command.args(["rebuild", "--json"]).kill_on_drop(true);
        command.env("DATABASE_URL", cluster.url("frikort_projector", "postgres"));
        let output = command.output().await?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the rebuild ended with {}:\n{log}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The processes whose time is counted, each with its name.
    pub(super) fn pids(&self) -> Vec<(&'static str, u32)> {
        let postgres = self.cluster.as_ref().and_then(|cluster| cluster.pid().ok());
        let pid = |process: &Option<Process>| process.as_ref().and_then(Process::pid);
        let all = [
            ("load", Some(std::process::id())),
            ("echo", pid(&self.echo)),
            ("ledger", pid(&self.ledger)),
            ("projector", pid(&self.projector)),
            ("postgres", postgres),
        ];
        all.into_iter().filter_map(|(name, pid)| Some((name, pid?))).collect()
    }

    /// Where the journal is kept.
    pub(super) fn journal(&self) -> PathBuf {
        self.dir.join("journal.csv")
    }

    /// Stops everything that was started, in the order in which it depends on each other.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        let services = [self.projector.take(), self.ledger.take(), self.echo.take()];
        for process in services.into_iter().flatten() {
            outcome = outcome.and(process.stop().await);
        }
        if let Some(cluster) = self.cluster.take() {
            let stopped = tokio::task::spawn_blocking(move || cluster.stop()).await;
            outcome = outcome.and(stopped?);
        }
        outcome
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }
}

fn durable() -> postgres::Options {
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    postgres::Options { durable: true, settings: settings.into() }
}

/// The directory; below /var/tmp, which is on a disk, and which root's stand-in can enter.
fn room(wanted: Option<&Path>) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
    if let Some(dir) = wanted {
        fs::create_dir_all(dir)?;
        return Ok((fs::canonicalize(dir)?, None));
    }
    let dir = tempfile::Builder::new().prefix("frikort-load-").tempdir_in("/var/tmp")?;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
    Ok((dir.path().to_owned(), Some(dir)))
}
