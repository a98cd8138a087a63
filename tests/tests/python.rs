//! A client in another language, made from our .proto files by somebody else's tools: what it
//! needs of the contract is what everybody needs.
//!
//! The virtual environment is made once below the target directory and named by its pinned
//! requirements; the first run needs a network that reaches the Python package registry.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, bail};
use frikort_tests::stack::Stack;
use sha2::{Digest, Sha256};

/// Where the client, its requirements and our .proto files lie.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a command and gives what it says; fails with it when the command does.
fn run(command: &mut Command) -> anyhow::Result<String> {
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
            "this test runs a Python client, and there is no python3: \
             on Debian, apt-get install python3-venv"
        ),
        Err(error) => Err(error).context("python3 cannot be started"),
    }
}

/// The environment for these requirements, made if it is not there: the path of its python.
fn environment() -> anyhow::Result<PathBuf> {
    let requirements = source("python/requirements.txt");
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
            .context("the client's packages cannot be installed")?;
        File::create(&whole)?;
    }
    Ok(python)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_made_from_our_protos_gets_every_value_right() {
    let python = tokio::task::spawn_blocking(environment).await.unwrap().unwrap();
    let stack = Stack::start(1).await.unwrap();
    let mut client = Command::new(python);
    let (ledger, projector) = (stack.ledger.address(), stack.projector.address());
    client
        .arg(source("python/client.py"))
        .args([OsStr::new("--protos"), source("../proto").as_os_str()])
        .args(["--ledger", &ledger.to_string(), "--projector", &projector.to_string()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONIOENCODING", "utf-8")
        // A proxy for the network has no say over loopback.
        .env("no_grpc_proxy", "127.0.0.1");
    let said = tokio::task::spawn_blocking(move || run(&mut client)).await.unwrap().unwrap();
    assert!(said.contains("refused: ALREADY_EXISTS REFERENCE_REUSED"), "{said}");
    assert!(said.contains("refused: FAILED_PRECONDITION LIMIT_EXCEEDED"), "{said}");
    assert!(said.ends_with("every value is as it must be\n"), "{said}");
    assert_eq!(stack.recorded().await.unwrap().events, 5);
}
