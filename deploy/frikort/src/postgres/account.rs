//! The operating system account that the database server runs as. Postgres refuses to run as
//! root, so root starts it as `postgres` or `nobody` and hands over the directories.

use std::{
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use anyhow::{Context, bail};
use rustix::process::geteuid;

/// An account; without `other` it is the one that we run as.
#[derive(Clone, Debug)]
pub(super) struct Account {
    other: Option<Other>,
}

#[derive(Clone, Debug)]
struct Other {
    name: &'static str,
    uid: u32,
    gid: u32,
}

impl Account {
    pub(super) fn for_servers() -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { other: None });
        }
        let find = |name| {
            Some(Other { name, uid: number("-u", name)?, gid: number("-g", name)? })
                .filter(|other| other.uid != 0)
        };
        let other = find("postgres").or_else(|| find("nobody"));
        let other = other.context("root cannot run a database, and there is no user `nobody`")?;
        Ok(Self { other: Some(other) })
    }

    /// Makes a command run as this account.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Some(other) = &self.other {
            command.uid(other.uid).gid(other.gid);
        }
    }

    /// Hands a file or directory over to this account.
    pub(super) fn own(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(other) = &self.other {
            chown(path, Some(other.uid), Some(other.gid))
                .with_context(|| format!("cannot hand {} to {}", path.display(), other.name))?;
        }
        Ok(())
    }

    /// Whether a directory of this owner is ours to use.
    pub(super) fn may_take(&self, uid: u32) -> bool {
        uid == geteuid().as_raw() || self.other.as_ref().is_some_and(|other| other.uid == uid)
    }

    /// Fails when this account cannot enter a directory above `dir`, such as /root.
    pub(super) fn check_reach(&self, dir: &Path) -> anyhow::Result<()> {
        let Some(other) = &self.other else { return Ok(()) };
        for above in dir.ancestors().skip(1) {
            let meta = above.metadata()?;
            let entered = match () {
                () if meta.uid() == other.uid => 0o100,
                () if meta.gid() == other.gid => 0o010,
                () => 0o001,
            };
            if meta.mode() & entered == 0 {
                bail!(
                    "root starts the database as user {}, who cannot enter {}; choose another \
                     directory than {}, such as one below /var/lib",
                    other.name,
                    above.display(),
                    dir.display()
                );
            }
        }
        Ok(())
    }
}

fn number(flag: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([flag, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
