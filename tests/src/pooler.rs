//! A real PgBouncer between a service and its database, on loopback.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::database::Database;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The database roles that log in through it.
const USERS: [&str; 3] = ["frikort_ledger", "frikort_projector", "frikort_owner"];

/// A running pooler; stopped when dropped.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    port: u16,
    database: String,
}

impl Pooler {
    /// Starts one in front of `database`, with its files in `dir`, as the account that runs the
    /// database server: like that, it refuses to run as root. `settings` are lines of its
    /// configuration.
    pub fn start(database: &Database, dir: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        let sockets = database.cluster().socket_dir();
        let account = fs::metadata(sockets)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let home = dir.join(format!("pooler-{port}"));
        fs::create_dir(&home)?;
        let users: String = USERS.iter().map(|user| format!("\"{user}\" \"\"\n")).collect();
        fs::write(home.join("users"), users)?;
        let configuration = format!(
            "[databases]\n* = host={} port=5432\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n{}\n",
            sockets.display(),
            home.join("users").display(),
            settings.join("\n")
        );
        let file = home.join("pgbouncer.ini");
        fs::write(&file, configuration)?;
        let log = File::create(home.join("log"))?;
        let mut command = Command::new(program()?);
        command.arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if rustix::process::geteuid().is_root() {
            for path in [home.clone(), file, home.join("users")] {
                chown(path, Some(account.uid()), Some(account.gid()))?;
            }
            command.uid(account.uid()).gid(account.gid());
        }
        let child = command.spawn()?;
        let mut pooler = Self { child, port, database: database.name().to_owned() };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = pooler.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("it does not listen: {}", fs::read_to_string(home.join("log"))?);
            }
            sleep(Duration::from_millis(10));
        }
        Ok(pooler)
    }

    /// The URL of the database through it.
    pub fn url(&self, user: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{}", self.port, self.database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> anyhow::Result<PathBuf> {
    let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
    let found = places.iter().map(PathBuf::from).find(|path| path.is_file());
    found.context("PgBouncer is not installed: apt-get install pgbouncer")
}
