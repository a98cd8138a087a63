//! One service of the stack as a process of its own: this program again, in another role.
//!
//! A child stands in its own process group, so that Ctrl-C reaches only us and the stop is ours
//! to order; and it ends when we are gone, since its stdin then ends.

use std::{
    env,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::{
    process::{ChildStdin, Command},
    time::Instant,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Place, restarts::Restarts};
use crate::{log, output, profile::Credentials};

/// Set for a child: stop when stdin ends.
const STOP_AT_EOF: &str = "FRIKORT_STOP_AT_EOF";

/// How long a service may take until it serves; recovering and migrating are part of it.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a service may take to stop; longer than its own time to finish what it accepted.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// What a child is.
pub(super) struct Role {
    name: &'static str,
    arguments: &'static [&'static str],
    listen: SocketAddr,
    listen_variable: &'static str,
    database_url: String,
}

impl Role {
    pub(super) fn ledger(listen: SocketAddr, database_url: String) -> Self {
        Self {
            name: "ledger",
            arguments: &["ledger", "serve", "--create-keys", "--create-signing-key"],
            listen,
            listen_variable: "FRIKORT_LEDGER_LISTEN",
            database_url,
        }
    }

    pub(super) fn projector(listen: SocketAddr, database_url: String) -> Self {
        Self {
            name: "projector",
            arguments: &["projector", "serve"],
            listen,
            listen_variable: "FRIKORT_PROJECTOR_LISTEN",
            database_url,
        }
    }
}

/// A running service.
pub(super) struct Child {
    role: Role,
    files: Files,
    log: PathBuf,
    process: Process,
}

/// Where a service finds its keys and certificates, and notes look-ups.
struct Files {
    register: PathBuf,
    signing: PathBuf,
    /// What the ledger writes, so that the projector can check what was signed.
    verifiers: PathBuf,
    /// Look-ups on their way to the access log, of both.
    lookups: PathBuf,
    tls: PathBuf,
}

/// A process, and the end of its stdin that tells it that we are there. Held apart, since waiting
/// for the process would close it.
struct Process {
    child: tokio::process::Child,
    _lifeline: Option<ChildStdin>,
}

impl Child {
    /// Starts a service.
    pub(super) fn spawn(place: &Place, role: Role) -> anyhow::Result<Self> {
        let files = Files {
            register: place.keys(),
            signing: place.signing_key(),
            verifiers: place.verifier_keys(),
            lookups: place.lookups(),
            tls: place.tls(),
        };
        let log = place.log(role.name);
        let process = spawn(&role, &files, &log)?;
        Ok(Self { role, files, log, process })
    }

    /// Starts it again whenever it ends, until that has to be given up; answers why.
    pub(super) async fn watch(&mut self) -> anyhow::Error {
        let name = self.role.name;
        let mut restarts = Restarts::default();
        loop {
            let started = Instant::now();
            let ended = match self.process.child.wait().await {
                Ok(status) => format!("the {name} ended ({status})"),
                Err(error) => return anyhow::Error::new(error).context("cannot watch a process"),
            };
            let Some(delay) = restarts.after_death(started.elapsed()) else {
                let tail = log::tail(&self.log);
                return anyhow!("{ended}, again and again; its log ends:\n{tail}");
            };
            output::note(&format!("{ended}; starting it again"));
            tokio::time::sleep(delay).await;
            match spawn(&self.role, &self.files, &self.log) {
                Ok(process) => self.process = process,
                Err(error) => return error,
            }
        }
    }

    /// Asks it to finish and go, and waits for that, but not for ever.
    pub(super) async fn stop(mut self) {
        let pid = self.process.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        // Gone already is as good as told.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        if tokio::time::timeout(STOP_TIMEOUT, self.process.child.wait()).await.is_err() {
            output::note(&format!("the {} does not stop; killing it", self.role.name));
            let _ = self.process.child.kill().await;
        }
    }

    /// Waits until it serves.
    pub(super) async fn wait_ready(&mut self, operator: &Credentials) -> anyhow::Result<()> {
        let name = self.role.name;
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.process.child.try_wait()? {
                bail!("the {name} ended ({status}); its log ends:\n{}", log::tail(&self.log));
            }
            if serves(self.role.listen, operator).await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the {name} does not get ready; its log ends:\n{}", log::tail(&self.log));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// Creates or updates the schema, as a process of its own like everything else of the services.
pub(super) async fn migrate(
    place: &Place,
    database_url: &str,
    partitions: i32,
) -> anyhow::Result<()> {
    let log = place.log("migrate");
    let status = command(&log)?
        .args(["ledger", "migrate", "--partitions", &partitions.to_string()])
        .env("DATABASE_URL", database_url)
        .status()
        .await?;
    if !status.success() {
        bail!("the database cannot be brought up to date; the log ends:\n{}", log::tail(&log));
    }
    Ok(())
}

/// For a child: makes this process stop, as by SIGTERM, when its parent is gone.
pub(crate) fn stop_with_parent() {
    if env::var_os(STOP_AT_EOF).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock().take(u64::MAX), &mut io::sink());
        let _ = kill_process(getpid(), Signal::TERM);
    });
}

fn spawn(role: &Role, files: &Files, log: &Path) -> anyhow::Result<Process> {
    // By environment and not by arguments: these are there for every user to see.
    let mut child = command(log)?
        .args(role.arguments)
        .env("DATABASE_URL", &role.database_url)
        .env(role.listen_variable, role.listen.to_string())
        .env("FRIKORT_KEYS_FILE", &files.register)
        .env("FRIKORT_SIGNING_KEY_FILE", &files.signing)
        .env("FRIKORT_VERIFIER_KEYS_FILE", &files.verifiers)
        .env("FRIKORT_LOOKUP_JOURNAL", &files.lookups)
        .env("FRIKORT_TLS_CERTIFICATE", files.tls.join("server.crt"))
        .env("FRIKORT_TLS_KEY", files.tls.join("server.key"))
        .env("FRIKORT_TLS_CLIENT_CA", files.tls.join("ca.crt"))
        .env("FRIKORT_CALLERS", files.tls.join("callers.toml"))
        .env_remove("FRIKORT_INSECURE_ON_LOOPBACK")
        .env(STOP_AT_EOF, "1")
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start the {}", role.name))?;
    let _lifeline = child.stdin.take();
    Ok(Process { child, _lifeline })
}

fn command(log: &Path) -> anyhow::Result<Command> {
    let log = log::append(log)?;
    let mut command = Command::new(env::current_exe()?);
    command
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

async fn serves(address: SocketAddr, operator: &Credentials) -> bool {
    let Ok(endpoint) = operator.endpoint(&address.to_string()) else { return false };
    let endpoint = endpoint.connect_timeout(Duration::from_secs(1)).timeout(Duration::from_secs(2));
    let Ok(channel) = endpoint.connect().await else { return false };
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await;
    answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
}
