//! Programs in Python, run in a virtual environment of their own.
//!
//! The environment is made once below the target directory and named by its pinned requirements; the
//! first run needs a network that reaches the Python package registry.

use std::{
    env,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

/// A file of this crate.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a command and gives what it says; fails with it when the command does.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let told = format!("{command:?}");
    let Output { status, stdout, stderr } = command.output().with_context(|| told.clone())?;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if !status.success() {
        bail!("{told} ended with {status}:\n{said}");
    }
    Ok(said)
}

/// The interpreter that everything starts from.
fn python3() -> anyhow::Result<()> {
    let check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))";
    match Command::new("python3").args(["-c", check]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => bail!(
            "this test needs python3, 3.10 or later, with the module venv: \
             on Debian, apt-get install python3-venv"
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "this test runs a program in Python, and there is no python3: \
             on Debian, apt-get install python3-venv"
        ),
        Err(error) => Err(error).context("python3 cannot be started"),
    }
}

/// The environment for these requirements, made if it is not there: the path of its python.
pub fn environment(requirements: &str) -> anyhow::Result<PathBuf> {
    let requirements = source("python").join(requirements);
    let hash = Sha256::digest(fs::read(&requirements)?);
    let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let program = env::current_exe()?;
    // target/debug/deps/python-… → target
    let target = program.ancestors().nth(3).context("no target directory")?;
    let home = target.join("python").join(name);
    fs::create_dir_all(home.parent().context("no parent")?)?;
    // One test process makes it; the others wait for it.
    let lock = File::create(home.with_extension("lock"))?;
    lock.lock()?;
    let (python, whole) = (home.join("bin/python"), home.join("whole"));
    if !whole.exists() {
        python3()?;
        // What a run that was cut off has left is of no use.
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(&python).args(pip).arg(&requirements))
            .context("the packages cannot be installed")?;
        File::create(&whole)?;
    }
    Ok(python)
}
