//! The commands that an operator and an auditor use. Not here: what they must print.

use std::{
    path::Path,
    process::{Command as Process, Output, Stdio},
};

use frikort::postgres::OWNER;

use super::{site::Site, stack::Services};
use crate::{
    files::{frikort, frikort_alone},
    process::{program, signing_key},
};

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// What it printed, on both outputs.
    pub text: String,
}

impl Command {
    fn run(command: &mut Process) -> anyhow::Result<Self> {
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
        Ok(Self { code: status.code().unwrap_or(-1), text: text.into_owned() })
    }
}

/// `ledger accept-history` for one partition, as the owner of the database.
pub fn accept_history(url: &str, partition: i32, reason: &str) -> anyhow::Result<Command> {
    let mut command = Process::new(program("ledger")?);
    command.args(["accept-history", "--database-url", url]);
    command.args(["--partition", &partition.to_string(), "--reason", reason]);
    Command::run(&mut command)
}

impl Site {
    /// `ledger accept-history` for one partition.
    pub fn accept_history(&self, partition: i32, reason: &str) -> anyhow::Result<Command> {
        accept_history(&self.database.url(OWNER), partition, reason)
    }
}

/// What each of an auditor's commands came to.
#[derive(Clone, Debug)]
pub struct AuditReport {
    /// `frikort audit check`.
    pub check: Command,
    /// `frikort audit totals`.
    pub totals: Command,
    /// `frikort audit export`.
    pub export: Command,
    /// `frikort audit verify` of that export, with the signer's public keys.
    pub verify: Command,
}

impl AuditReport {
    /// Each command's name with what it came to.
    pub fn all(&self) -> [(&'static str, &Command); 4] {
        let Self { check, totals, export, verify } = self;
        [("check", check), ("totals", totals), ("export", export), ("verify", verify)]
    }
}

/// Runs all that an auditor runs. `dir` is that of the services; the export lies below `to`.
pub fn audit_everything(
    services: &Services,
    dir: &Path,
    partitions: i32,
    to: &Path,
) -> anyhow::Result<AuditReport> {
    let (ledger, projector) = (&services.ledgers[0], &services.projectors[0]);
    let online =
        |arguments: &[&str]| Command::run(frikort(ledger, projector)?.arg("audit").args(arguments));
    let mut show = Process::new(program("ledger")?);
    show.args(["signing-key", "show", "--partitions", &partitions.to_string()]);
    let keys = to.with_extension("published");
    std::fs::write(&keys, show.arg("--signing-key-file").arg(signing_key(dir)).output()?.stdout)?;
    let (export_dir, keys) = (to.display().to_string(), keys.display().to_string());
    let export = online(&["export", &export_dir])?;
    let verify = ["audit", "verify", &export_dir, "--key", &keys];
    Ok(AuditReport {
        check: online(&["check"])?,
        totals: online(&["totals"])?,
        export,
        verify: Command::run(frikort_alone()?.args(verify))?,
    })
}
