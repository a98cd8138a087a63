//! The launcher against a real server: first start, adoption, a crash, a stale pid file.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// Below /var/tmp, where root's stand-in account can enter; removed when it goes.
fn room() -> tempfile::TempDir {
    let room = tempfile::Builder::new().prefix("frikort-test-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    room
}

fn throw_away() -> Options {
    Options { durable: false, settings: vec![("shared_buffers".into(), "16MB".into())] }
}

fn wait_dead(pid: u32) {
    let alive = || {
        Path::new(&format!("/proc/{pid}/cmdline")).exists() && {
            !fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()
        }
    };
    while alive() {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_cluster_is_made_adopted_killed_recovered_and_stopped() {
    let room = room();
    let dir = room.path().join("pg");
    let first = Cluster::start(&dir, &throw_away()).unwrap();
    let pid = first.pid().unwrap();
    let second = Cluster::start(&dir, &throw_away()).unwrap();
    assert_eq!(second.pid().unwrap(), pid, "a running cluster is adopted");
    assert_eq!(fs::metadata(first.socket_dir()).unwrap().mode() & 0o777, 0o700);

    let raw = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(raw, Signal::KILL).unwrap();
    wait_dead(pid);
    let third = Cluster::start(&dir, &throw_away()).unwrap();
    assert_ne!(third.pid().unwrap(), pid, "a killed cluster is started again");

    third.stop().unwrap();
    third.stop().unwrap();
    assert!(third.pid().is_err() && !third.is_ready());
}

#[test]
fn a_stale_pid_file_that_names_another_process_is_no_obstacle() {
    let room = room();
    let cluster = Cluster::start(room.path(), &throw_away()).unwrap();
    let pid_file = cluster.data().join("postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    let raw = Pid::from_raw(i32::try_from(cluster.pid().unwrap()).unwrap()).unwrap();
    kill_process(raw, Signal::KILL).unwrap();
    wait_dead(cluster.pid().unwrap());

    let mut sleeper = Command::new("sleep");
    cluster.account.apply(sleeper.arg("60").stdin(Stdio::null()));
    let mut sleeper = sleeper.spawn().unwrap();
    let rest = text.split_once('\n').unwrap().1;
    fs::write(&pid_file, format!("{}\n{rest}", sleeper.id())).unwrap();
    let again = Cluster::start(room.path(), &throw_away());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    again.unwrap().stop().unwrap();
}

#[test]
fn a_long_path_gets_its_socket_elsewhere_and_the_url_is_escaped() {
    let room = room();
    let dir = room.path().join("ø x".repeat(40));
    let cluster = Cluster::start(&dir, &throw_away()).unwrap();
    assert!(cluster.socket_dir().starts_with("/tmp"));
    cluster.stop().unwrap();
    fs::remove_dir_all(cluster.socket_dir()).unwrap();

    let cluster = Cluster { socket_dir: "/a b/sock".into(), ..cluster };
    let url = "postgresql://me@localhost/db?host=/a%20b/sock&sslmode=disable";
    assert_eq!(cluster.url("me", "db"), url);
}
