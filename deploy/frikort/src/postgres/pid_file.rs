//! What a cluster's pid file says, and whether it is true. After a crash it is left behind, and
//! its number may by then belong to another program, or to a process that is dead and not yet
//! collected; Postgres would refuse to start because of it.

use std::{fs, os::unix::net::UnixStream, path::PathBuf};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

/// What a cluster is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Down,
    /// Starting or stopping.
    Changing,
    Ready,
}

/// The pid file of one cluster.
pub(super) struct PidFile {
    pub(super) data: PathBuf,
    pub(super) socket: PathBuf,
}

impl PidFile {
    /// Process id and status; `None` when there is no file, or half of one.
    fn read(&self) -> Option<(i32, String)> {
        let text = fs::read_to_string(self.path()).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        Some((pid, text.lines().nth(7).unwrap_or_default().trim().to_owned()))
    }

    /// The server's process id.
    pub(super) fn pid(&self) -> Option<u32> {
        u32::try_from(self.read()?.0).ok()
    }

    /// What the cluster is doing, by the file and by its process.
    pub(super) fn state(&self) -> State {
        let Some((pid, status)) = self.read() else { return State::Down };
        if !is_alive(pid) || self.is_somebody_else(pid) {
            return State::Down;
        }
        if status != "ready" {
            return State::Changing;
        }
        if UnixStream::connect(&self.socket).is_ok() { State::Ready } else { State::Down }
    }

    /// Takes a number that is somebody else's out of the way of a start, by one that no process
    /// has. The file itself stays: with the rest of it Postgres still makes sure that no child
    /// of the crashed server is left.
    pub(super) fn disown(&self) -> anyhow::Result<()> {
        let Some((pid, _)) = self.read() else { return Ok(()) };
        if is_alive(pid) && self.is_somebody_else(pid) {
            let text = fs::read_to_string(self.path())?;
            let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
            fs::write(self.path(), format!("{}\n{rest}", i32::MAX))?;
        }
        Ok(())
    }

    /// A server has the cluster's directory in its command line. Where the system does not tell,
    /// Postgres has to judge.
    fn is_somebody_else(&self, pid: i32) -> bool {
        let data = self.data.to_string_lossy();
        let command_line = fs::read(format!("/proc/{pid}/cmdline"));
        command_line.is_ok_and(|line| !String::from_utf8_lossy(&line).contains(&*data))
    }

    fn path(&self) -> PathBuf {
        self.data.join("postmaster.pid")
    }
}

fn is_alive(pid: i32) -> bool {
    let signalled = Pid::from_raw(pid).map(test_kill_process);
    matches!(signalled, Some(Ok(()) | Err(Errno::PERM)))
}
