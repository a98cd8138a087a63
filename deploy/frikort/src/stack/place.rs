//! Where the stack lives: the data directory with its lock, its files, and the ports. What must
//! stay out: what is run there.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::geteuid;
use tokio::time::Instant;

/// A data directory that is ours as long as this lives.
pub(crate) struct Place {
    dir: PathBuf,
    _lock: File,
}

impl Place {
    /// Takes the data directory, making it first where there is none.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        // As root, the database's user has to come through.
        let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
        let name = dir.display().to_string();
        let made = DirBuilder::new().recursive(true).mode(mode).create(dir);
        made.with_context(|| format!("cannot create {name}"))?;
        let dir = fs::canonicalize(dir)?;
        fs::create_dir_all(dir.join("log"))?;
        let lock = File::create(dir.join("lock")).with_context(|| format!("cannot use {name}"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                bail!("another frikort runs on {name}; choose another --data-dir or stop that one")
            }
            Err(fs::TryLockError::Error(error)) => Err(error).context("cannot lock"),
        }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The keys of the identity register.
    pub(super) fn keys(&self) -> PathBuf {
        self.dir.join("register.keys")
    }

    /// The key that signs checkpoints; the last ones are kept beside it.
    pub(super) fn signing_key(&self) -> PathBuf {
        self.dir.join("signing.key")
    }

    /// The keys that check what was signed, as the ledger writes them.
    pub(super) fn verifier_keys(&self) -> PathBuf {
        self.dir.join("signing.key.verifiers")
    }

    /// Look-ups on their way to the access log.
    pub(super) fn lookups(&self) -> PathBuf {
        self.dir.join("lookups")
    }

    /// Certificates, and who may call.
    pub(super) fn tls(&self) -> PathBuf {
        self.dir.join("tls")
    }

    /// The log of one part.
    pub(super) fn log(&self, part: &str) -> PathBuf {
        self.dir.join("log").join(format!("{part}.log"))
    }
}

/// Where the data are kept when nobody says otherwise.
pub(crate) fn default_dir() -> anyhow::Result<PathBuf> {
    if geteuid().is_root() {
        return Ok("/var/lib/frikort".into());
    }
    let base = env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| Some(env::home_dir()?.join(".local/share")));
    Ok(base.context("HOME is not set; choose a --data-dir")?.join("frikort"))
}

/// Fails when somebody else listens there; a predecessor that is going gets a moment.
pub(super) async fn check_port(
    address: SocketAddr,
    option: &str,
    patience: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(error).with_context(|| format!("cannot listen on {address}"));
            }
            Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(_) => bail!("{address} is in use by another program; choose another {option} ADDR"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_owner_at_a_time() {
        let room = tempfile::tempdir().unwrap();
        let first = Place::open(&room.path().join("data")).unwrap();
        let second = Place::open(&room.path().join("data")).err().unwrap();
        assert!(second.to_string().starts_with("another frikort runs on"), "{second}");
        drop(first);
        Place::open(&room.path().join("data")).unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_option() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error =
            check_port(taken.local_addr().unwrap(), "--ledger", Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().ends_with("choose another --ledger ADDR"), "{error}");
    }
}
