//! Real service processes, started, asked whether they are ready, killed and stopped.

use std::{
    env, fs,
    fs::File,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use sqlx::PgPool;
use tokio::time::sleep;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracing_subscriber::layer::SubscriberExt;

use crate::{database::Database, pki, privacy};

/// How long a process may take to become ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Loopback, at a port that is free.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How long an answer to a plain GET may take.
const GET_PATIENCE: Duration = Duration::from_secs(2);

/// The variable that says what services log in tests which do not say so themselves.
const LOG: &str = "FRIKORT_TEST_LOG";

/// What they log without it.
const USUAL_LOG: &str = "debug,h2=info,hyper=info,tower=info";

/// Whether they log what they log without it. Where they log more, how long something takes says nothing:
/// at `trace`, each frame of HTTP/2 is some lines.
#[must_use]
pub fn logs_as_usual() -> bool {
    env::var_os(LOG).is_none()
}

/// Where they note look-ups, beside their logs: a directory of all services of one directory.
pub const LOOKUPS: &str = "lookups";

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The program `ledger`.
    Ledger,
    /// The program `projector`.
    Projector,
}

impl Kind {
    /// The database role that it runs as.
    fn role(self) -> &'static str {
        match self {
            Self::Ledger => "frikort_ledger",
            Self::Projector => "frikort_projector",
        }
    }
}

/// A running service; killed when dropped.
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    keys: PathBuf,
    url: String,
    /// Settings beside the usual ones, as its environment; an empty one takes a usual one away.
    settings: Vec<(&'static str, String)>,
}

/// A program of this workspace, as cargo has built it for this run: of a test, which lies in
/// `deps`, or of a program beside it.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = env::current_exe()?;
    let dir = own.ancestors().skip(1).find(|dir| !dir.ends_with("deps"));
    let built = dir.context("no target directory")?.join(name);
    if !built.exists() {
        bail!("{} is not built: run `cargo test --workspace`", built.display());
    }
    Ok(built)
}

/// Has the notices of databases received in this process, as a ledger has: its writers need that.
pub fn receive_notices() {
    let counting = tracing_subscriber::registry().with(frikort_event_store::warning_counter());
    // Another test of this process may have done it.
    let _ = tracing::subscriber::set_global_default(counting);
}

/// The signing key of the ledgers of a directory.
pub fn signing_key(dir: &Path) -> PathBuf {
    dir.join("signing.key")
}

impl Service {
    /// Starts a service on `database` and waits until it serves; logs and keys lie in `dir`.
    pub async fn start(kind: Kind, database: &Database, dir: &Path) -> anyhow::Result<Self> {
        Self::start_with(kind, database, dir, Vec::new()).await
    }

    /// The same, with settings as its environment.
    pub async fn start_with(
        kind: Kind,
        database: &Database,
        dir: &Path,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let mut service = Self::spawn(kind, &database.url(kind.role()), dir, ANYWHERE, settings)?;
        service.wait_until_ready().await?;
        Ok(service)
    }

    /// The same, with any database URL.
    pub async fn start_on(
        kind: Kind,
        url: &str,
        dir: &Path,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let mut service = Self::spawn(kind, url, dir, ANYWHERE, settings)?;
        service.wait_until_ready().await?;
        Ok(service)
    }

    /// The same, at an address, with any database URL.
    pub async fn start_at(
        kind: Kind,
        url: &str,
        dir: &Path,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let mut service = Self::spawn(kind, url, dir, address, Vec::new())?;
        service.wait_until_ready().await?;
        Ok(service)
    }

    /// Starts a service and waits until it answers, whether it serves or not.
    pub async fn start_answering(
        kind: Kind,
        database: &Database,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let url = database.url(kind.role());
        let mut service = Self::spawn(kind, &url, dir, ANYWHERE, Vec::new())?;
        service.wait_until(async |service| service.channel().await.is_ok()).await?;
        Ok(service)
    }

    /// Starts it without waiting for more than its address.
    fn spawn(
        kind: Kind,
        url: &str,
        dir: &Path,
        address: SocketAddr,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = match kind {
            Kind::Ledger => "ledger",
            Kind::Projector => "projector",
        };
        let log = dir.join(format!("{name}-{number}.log"));
        let keys = dir.join("register.keys");
        let mut command = Command::new(program(name)?);
        command
            .args(["serve", "--listen", &address.to_string(), "--keys-file"])
            .arg(&keys)
            .env("FRIKORT_SIGNING_KEY_FILE", signing_key(dir))
            .env("FRIKORT_INSECURE_ON_LOOPBACK", "true")
            // The cluster that tests share has fsync off.
            .env("FRIKORT_ALLOW_UNSAFE_DATABASE", "true")
            .env("FRIKORT_LOOKUP_JOURNAL", dir.join(LOOKUPS))
            .env("FRIKORT_LOG", env::var(LOG).as_deref().unwrap_or(USUAL_LOG))
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .env("DATABASE_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // What a test writes there besides is not written over.
            .stderr(File::options().create(true).append(true).open(&log)?);
        for (name, _) in settings.iter().filter(|(_, value)| value.is_empty()) {
            command.env_remove(name);
        }
        if kind == Kind::Ledger {
            command.args(["--create-keys", "--create-signing-key"]);
        }
        let child = command.spawn()?;
        Ok(Self { kind, child, address, log, keys, url: url.to_owned(), settings })
    }

    /// Waits until health says SERVING; fails when the process ends before.
    pub async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        self.wait_until(async |service| service.is_serving().await).await
    }

    async fn wait_until(&mut self, is_reached: impl AsyncFn(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", fs::read_to_string(&self.log)?);
            }
            if let Some(address) = self.logged_address()? {
                self.address = address;
                if is_reached(self).await {
                    self.learn_keys();
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                bail!("not ready in time:\n{}", fs::read_to_string(&self.log)?);
            }
            sleep(LOOK).await;
        }
    }

    /// The address in the log line `… listens listen=127.0.0.1:PORT`.
    fn logged_address(&self) -> anyhow::Result<Option<SocketAddr>> {
        let log = fs::read_to_string(&self.log)?;
        let address = log.split("listen=").nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(address.and_then(|address| address.parse().ok()))
    }

    /// Whether health says SERVING now.
    pub async fn is_serving(&self) -> bool {
        let Ok(channel) = self.channel().await else { return false };
        let mut health = HealthClient::new(channel);
        let answer = health.check(HealthCheckRequest::default()).await;
        answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As a client names it.
    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A connection; to a service with TLS one that shows no certificate.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        let secured = self.settings.iter().find(|(name, _)| *name == "FRIKORT_TLS_CLIENT_CA");
        let Some((_, authority)) = secured else {
            let endpoint = Channel::from_shared(self.uri())?;
            return Ok(endpoint.connect().await?);
        };
        Ok(pki::connect(&fs::read_to_string(authority)?, self.address, None).await?)
    }

    /// What it tells its watchers; `None` where it does not answer, or asks who they are.
    fn metrics(&self) -> Option<String> {
        let (status, told) = get(self.address, "/metrics").ok()?;
        (status == 200).then(|| String::from_utf8_lossy(&told).into_owned())
    }

    /// Everything it has logged.
    pub fn logged(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and the same service again at the same address, without waiting.
    pub fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        let dir = self.log.parent().context("a log has a directory")?.to_owned();
        let again = Self::spawn(self.kind, &self.url, &dir, self.address, self.settings.clone())?;
        *self = again;
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// SIGTERM, and how it ended.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        signal(self.id(), "TERM")?;
        self.wait().await
    }

    /// How it ends.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("it did not end in time");
            }
            sleep(LOOK).await;
        }
    }

    /// From now on its keys are looked for in whatever is looked through.
    fn learn_keys(&self) {
        let dir = self.log.parent().expect("a log has a directory");
        privacy::learn_keys(dir).expect("the directory of a service can be read");
    }

    /// The register's keys, for another service on the same database.
    pub fn keys(&self) -> &Path {
        &self.keys
    }
}

/// Status and body of what is read by plain GET, without TLS.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(GET_PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: log\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.context("no answer")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, answer[end + 4..].to_vec()))
}

impl Drop for Service {
    fn drop(&mut self) {
        let metrics = self.metrics();
        // Ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // W5: whatever a test does, what its services have told is looked through. A directory that is
        // gone is nobody's.
        let dir = self.log.parent().expect("a log has a directory");
        if dir.exists() && !std::thread::panicking() {
            self.learn_keys();
            assert_eq!(metrics.as_deref().and_then(privacy::find), None, "metrics");
            let found = privacy::find_in_files(dir).expect("the files of a service can be read");
            assert_eq!(found, None, "a log, or what was written beside it");
        }
    }
}

/// Stops a process (SIGSTOP) while one of its transactions has written and is open: where it holds
/// what others wait for. `application` is what its connections to the database of `pool` are called.
pub async fn stop_in_transaction(
    process: u32,
    pool: &PgPool,
    application: &str,
) -> anyhow::Result<()> {
    // A server that waits for the stopped process to take an answer works on nothing.
    let states = "SELECT state = 'idle in transaction' AND backend_xid IS NOT NULL,
                         state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
                  FROM pg_stat_activity
                  WHERE datname = current_database() AND application_name = $1";
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        signal(process, "STOP")?;
        loop {
            let found: Vec<(bool, bool)> =
                sqlx::query_as(states).bind(application).fetch_all(pool).await?;
            if found.iter().any(|(holds, _)| *holds) {
                return Ok(());
            }
            // What the server still works on may leave a transaction open.
            let works = found.iter().any(|(_, is_active)| *is_active);
            if !works || Instant::now() > deadline {
                break;
            }
        }
        signal(process, "CONT")?;
        sleep(LOOK).await;
    }
    bail!("{application} was in no transaction in time")
}

/// Waits until all look-ups that the services of a directory have noted are in the access log.
pub async fn until_noted(dir: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut waiting = 0;
        for entry in fs::read_dir(dir.join(LOOKUPS))? {
            // It is gone when its look-ups are in the log.
            waiting += entry?.metadata().map_or(0, |file| file.len());
        }
        if waiting == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("look-ups are still not in the access log");
        }
        sleep(LOOK).await;
    }
}

/// The first process of a database's server, and its children.
pub fn server_processes(database: &Database) -> anyhow::Result<Vec<u32>> {
    let first = database.cluster().pid()?;
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
        after_name.and_then(|rest| rest.split(' ').nth(1)?.parse().ok()) == Some(first)
    };
    let all = fs::read_dir("/proc")?.flatten();
    let all = all.filter_map(|entry| entry.file_name().into_string().ok()?.parse().ok());
    Ok([first].into_iter().chain(all.filter(is_child)).collect())
}

/// Sends a signal by name.
pub fn signal(process: u32, name: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status()?;
    if !status.success() {
        bail!("cannot send {name} to {process}");
    }
    Ok(())
}
