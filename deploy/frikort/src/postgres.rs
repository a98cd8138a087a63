//! A private Postgres cluster in a directory of our own, so that trying the ledger and testing
//! it need no server that somebody set up by hand.
//!
//! Listens on a Unix socket in a directory that only its owner enters, and nowhere else; that is
//! why `trust` is enough. Blocking on purpose: it runs before there is anything to wait for
//! beside it; async callers use `spawn_blocking`. What must stay out: databases, roles and
//! schemas, which belong to whoever uses the cluster.
//!
//! ```text
//! DIR/lock            taken while starting or stopping, so that parallel callers share a cluster
//! DIR/data            the cluster; DIR/data.new while it is being made
//! DIR/sock            the socket (below /tmp when the path would be too long for one)
//! DIR/postgres.log    the server's log
//! ```

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::log;

mod account;
mod pid_file;
mod server;
mod settings;

use account::Account;
use pid_file::{PidFile, State};
use server::Server;
pub use settings::Options;

/// The cluster's superuser, who brings the schema up to date.
pub const OWNER: &str = "frikort_owner";

/// The name that Postgres gives the socket of port 5432.
const SOCKET: &str = ".s.PGSQL.5432";

/// A socket's path has room for 107 bytes; the socket's own name takes 14 of them.
const MAX_SOCKET_DIR_BYTES: usize = 85;

/// How long a start may take; replaying the log after a crash is part of it.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A running cluster. Dropping it leaves the server running, for the next start to adopt.
#[derive(Clone, Debug)]
pub struct Cluster {
    dir: PathBuf,
    socket_dir: PathBuf,
    server: Server,
    account: Account,
}

impl Cluster {
    /// Starts the cluster in `dir`, makes it first where there is none, and waits until it takes
    /// connections. One that runs already is adopted as it is; one that crashed recovers.
    pub fn start(dir: &Path, options: &Options) -> anyhow::Result<Self> {
        let account = Account::for_servers()?;
        private_dir(dir, &account)?;
        let dir =
            fs::canonicalize(dir).with_context(|| format!("cannot open {}", dir.display()))?;
        account.check_reach(&dir)?;
        let _lock = lock(&dir)?;
        let server = server::find(existing_major(&dir.join("data"))?)?;
        let socket_dir = socket_dir(&dir, &account)?;
        let cluster = Self { dir, socket_dir, server, account };
        if !cluster.data().exists() {
            cluster.init(options)?;
        }
        cluster.bring_up(options)?;
        Ok(cluster)
    }

    /// The URL of a database of this cluster, as one of its users.
    pub fn url(&self, user: &str, database: &str) -> String {
        let host: String = self
            .socket_dir
            .to_string_lossy()
            .bytes()
            .map(|byte| match byte {
                b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        format!("postgresql://{user}@localhost/{database}?host={host}&sslmode=disable")
    }

    /// The directory of the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The server's process id.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.pid_file().pid().context("the cluster is not running")
    }

    /// Stops the server: open connections are cut, what was committed is kept.
    pub fn stop(&self) -> anyhow::Result<()> {
        let _lock = lock(&self.dir)?;
        if self.pid_file().state() == State::Down {
            return Ok(());
        }
        let args = ["stop", "--mode=fast", "--wait", "--timeout=60", "--pgdata"];
        self.run("pg_ctl", |c| c.args(args).arg(self.data()))
            .with_context(|| format!("cannot stop the database in {}", self.dir.display()))
    }

    /// Whether the server runs and takes connections.
    pub fn is_ready(&self) -> bool {
        self.pid_file().state() == State::Ready
    }

    fn pid_file(&self) -> PidFile {
        PidFile { data: self.data(), socket: self.socket_dir.join(SOCKET) }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// Makes the cluster beside its place and moves it there, so that a half-made one is never
    /// taken for a cluster.
    fn init(&self, options: &Options) -> anyhow::Result<()> {
        let fresh = self.dir.join("data.new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        self.run("initdb", |command| {
            command
                .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"])
                .args(["--no-instructions", "--username", OWNER])
                .args((!options.durable).then_some("--no-sync"))
                .arg("--pgdata")
                .arg(&fresh)
        })?;
        let config = fresh.join("postgresql.conf");
        let text = fs::read_to_string(&config)? + "\ninclude_if_exists = 'frikort.conf'\n";
        fs::write(&config, text)?;
        fs::rename(&fresh, self.data())?;
        Ok(())
    }

    fn bring_up(&self, options: &Options) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.pid_file().state() {
                State::Ready => return Ok(()),
                State::Down => match self.launch(options) {
                    Ok(()) => return Ok(()),
                    // A killed server's children hold its memory until they notice, for moments.
                    Err(_) if self.memory_still_held() && Instant::now() < deadline => {}
                    Err(error) => return Err(error),
                },
                State::Changing if Instant::now() < deadline => {}
                State::Changing => bail!("the database in {} hangs", self.dir.display()),
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn launch(&self, options: &Options) -> anyhow::Result<()> {
        let settings = self.data().join("frikort.conf");
        fs::write(&settings, options.settings_file(&self.socket_dir))?;
        self.account.own(&settings)?;
        self.pid_file().disown()?;
        // The socket directory is this cluster's alone, and the cluster is down: what lies there
        // is of a crashed server, whose number may belong to somebody else by now.
        let _ = fs::remove_file(self.socket_dir.join(SOCKET));
        let _ = fs::remove_file(self.socket_dir.join(format!("{SOCKET}.lock")));
        log::begin_anew_when_large(&self.log())?;
        let timeout = format!("--timeout={}", START_TIMEOUT.as_secs());
        self.run("pg_ctl", |command| {
            command.args(["start", "--silent", "--wait", &timeout]);
            command.arg("--pgdata").arg(self.data()).arg("--log").arg(self.log())
        })
        .with_context(|| {
            let (dir, tail) = (self.dir.display(), log::tail(&self.log()));
            format!("the database in {dir} does not start; its log ends:\n{tail}")
        })
    }

    fn memory_still_held(&self) -> bool {
        log::tail(&self.log()).contains("pre-existing shared memory block")
    }

    /// Runs a program of the server as the server's account, apart from our terminal.
    fn run(
        &self,
        program: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> anyhow::Result<()> {
        let mut command = Command::new(self.server.bin.join(program));
        self.account.apply(arguments(&mut command));
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("PG"))
        {
            command.env_remove(name);
        }
        // The output goes to a file: a pipe would stay open as long as the server runs.
        let output = self.dir.join(format!("{program}.out"));
        let file = File::create(&output)?;
        command
            .env("LC_ALL", "C")
            .current_dir(&self.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let status = command.status().with_context(|| format!("cannot run {program}"))?;
        let said = fs::read_to_string(&output).unwrap_or_default();
        ensure!(status.success(), "{program} failed: {}", said.trim());
        Ok(())
    }
}

/// The major version of an existing cluster.
fn existing_major(data: &Path) -> anyhow::Result<Option<u32>> {
    match fs::read_to_string(data.join("PG_VERSION")) {
        Ok(text) => Ok(Some(text.trim().parse().context("PG_VERSION is not a number")?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read PG_VERSION"),
    }
}

fn socket_dir(dir: &Path, account: &Account) -> anyhow::Result<PathBuf> {
    let mut path = dir.join("sock");
    if path.as_os_str().len() > MAX_SOCKET_DIR_BYTES {
        let meta = fs::metadata(dir)?;
        path = PathBuf::from(format!("/tmp/frikort-pg-{:x}-{:x}", meta.dev(), meta.ino()));
    }
    private_dir(&path, account)?;
    Ok(path)
}

/// Makes a directory that only `account` (and root) enters, or takes one that is so already.
fn private_dir(path: &Path, account: &Account) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.with_context(|| format!("cannot create {}", path.display()))?;
    let meta = fs::symlink_metadata(path)?;
    ensure!(
        meta.is_dir() && account.may_take(meta.uid()),
        "{} belongs to somebody else",
        path.display()
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    account.own(path)
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let file = File::create(dir.join("lock"))?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
#[path = "postgres/tests.rs"]
mod tests;
