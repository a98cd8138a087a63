//! `frikort up` as whoever tries it out meets it: nothing to make by hand, TLS all the same, and a
//! profile for each role.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use frikort_tests::process::{program, signal};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running stack.
struct Up {
    child: Child,
    dir: PathBuf,
}

impl Up {
    /// Starts it and waits until it is ready.
    fn start(room: &TempDir, ports: &[String; 2]) -> Self {
        let (dir, log) = (room.path().join("data"), room.path().join("up.log"));
        let mut command = Command::new(program("frikort").unwrap());
        command.args(["up", "--ledger", &ports[0], "--projector", &ports[1], "--data-dir"]);
        command.arg(&dir).stdin(Stdio::null()).env_remove("DATABASE_URL");
        let output = File::create(&log).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let mut up = Self { child: command.spawn().unwrap(), dir };
        let until = Instant::now() + PATIENCE;
        while !fs::read_to_string(&log).unwrap().contains("ready: ") {
            let said = fs::read_to_string(&log).unwrap();
            assert!(up.child.try_wait().unwrap().is_none() && Instant::now() < until, "{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        up
    }

    /// Runs a command as one of the roles; its exit code and what it said.
    fn run(&self, role: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(program("frikort").unwrap());
        command.arg("--profiles").arg(self.dir.join("profiles.toml")).args(["--profile", role]);
        let output = command.args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    fn stop(mut self) {
        signal(self.child.id(), "TERM").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Its children end with it.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = signal(self.child.id(), "TERM");
            let _ = self.child.wait();
        }
    }
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn read(dir: &Path, file: &str) -> Vec<u8> {
    fs::read(dir.join("tls").join(file)).unwrap()
}

#[test]
fn the_local_stack_needs_no_certificate_step_and_keeps_roles_apart() {
    let room = tempfile::tempdir_in("/var/tmp").unwrap();
    let ports = [free_port(), free_port()];
    let up = Up::start(&room, &ports);
    let limits = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/annual-limits.csv");
    let load = ["limits", "--load", limits];
    let (code, said) = up.run("operator", &load);
    assert_eq!(code, Some(0), "{said}");
    for role in ["employer", "municipality", "benefit", "tax", "auditor"] {
        let (code, said) = up.run(role, &load);
        assert!(code == Some(1) && said.contains("NOT_ALLOWED"), "{role}: {said}");
        let (code, said) = up.run(role, &["limits"]);
        assert!(code == Some(0) && said.contains("20.000,00 kr."), "{role}: {said}");
    }
    let (code, said) = up.run("auditor", &["audit", "totals"]);
    assert_eq!(code, Some(0), "{said}");
    let plain = ["limits", "--ledger", &format!("http://{}", ports[0])];
    assert_eq!(up.run("operator", &plain).0, Some(2), "it is not spoken to without TLS");
    let log = fs::read_to_string(up.dir.join("log/ledger.log")).unwrap();
    assert!(!log.contains("INSECURE"), "{log}");
    let (dir, before) = (up.dir.clone(), read(&up.dir, "ca.crt"));
    assert!(!dir.join("tls/ca.key").exists(), "the authority's key was to be thrown away");
    up.stop();
    let up = Up::start(&room, &ports);
    assert_eq!(read(&dir, "ca.crt"), before, "certificates are made once");
    assert_eq!(up.run("tax", &["limits"]).0, Some(0));
    up.stop();
}
