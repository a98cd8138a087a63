//! The faults.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use frikort_tests::{
    process::{server_processes, signal},
    proxy::Traffic,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    ground::{DatabaseFault, Site, cluster_dir, new_dir},
    measured::ExpectedHealth,
};

/// What each service logs of a server that does not answer.
const UNREACHABLE: Option<(&str, &str)> =
    Some(("the database does not answer; retrying", "the database answers again"));

/// What a ledger logs while it cannot write.
const NOT_WRITTEN: Option<(&str, &str)> =
    Some(("the partition cannot be written; retrying", "the partition can be written"));

/// What a projector logs while it cannot note look-ups.
const NOT_NOTED: Option<(&str, &str)> =
    Some(("look-ups cannot be noted", "look-ups can be noted again"));

/// Ends the sessions of the services, so that settings of roles hold.
const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE usename LIKE 'frikort\\_%' AND usename <> 'frikort_owner'";

struct Silent(Vec<u32>);

impl DatabaseFault for Silent {
    async fn begin(&mut self, site: &Site) {
        self.0 = server_processes(&site.database).unwrap();
        self.0.iter().for_each(|process| signal(*process, "STOP").unwrap());
    }

    async fn end(&mut self, _: &Site) {
        self.0.iter().for_each(|process| signal(*process, "CONT").unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_by_a_signal() {
    let site = Site::start(new_dir()).await;
    let measured = site.go_through(&mut Silent(Vec::new())).await;
    let both = (ExpectedHealth::NotServing, UNREACHABLE);
    measured.assert_bounds("SIGSTOP", both, both);
}

struct OnTheWay(Traffic);

impl DatabaseFault for OnTheWay {
    async fn begin(&mut self, site: &Site) {
        site.proxy.set_traffic(self.0);
    }

    async fn end(&mut self, site: &Site) {
        site.proxy.set_traffic(Traffic::Flows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_swallows() {
    let site = Site::start(new_dir()).await;
    let measured = site.go_through(&mut OnTheWay(Traffic::Swallowed)).await;
    let both = (ExpectedHealth::NotServing, UNREACHABLE);
    measured.assert_bounds("swallowed", both, both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_delays_by_a_second() {
    let site = Site::start(new_dir()).await;
    let delay = Traffic::Delayed(Duration::from_secs(1));
    let measured = site.go_through(&mut OnTheWay(delay)).await;
    let both = (ExpectedHealth::NotServing, UNREACHABLE);
    measured.assert_bounds("delayed by 1 s", both, both);
}

/// A setting of the services' roles, and sometimes locks that others wait for.
struct Setting {
    name: &'static str,
    value: &'static str,
    /// Locks the heads of the partitions for 2 seconds, time and again.
    locks: bool,
    locking: Option<JoinHandle<()>>,
}

impl Setting {
    fn new(name: &'static str, value: &'static str) -> Self {
        Self { name, value, locks: false, locking: None }
    }

    fn with_locks(self) -> Self {
        Self { locks: true, ..self }
    }

    async fn alter(&self, site: &Site, what: &str) {
        let alter = |role: &str| format!("ALTER ROLE {role} {what}");
        let (ledger, projector) = (alter("frikort_ledger"), alter("frikort_projector"));
        site.execute(&[&ledger, &projector, END_SESSIONS]).await;
    }
}

impl DatabaseFault for Setting {
    async fn begin(&mut self, site: &Site) {
        self.alter(site, &format!("SET {} = '{}'", self.name, self.value)).await;
        if self.locks {
            self.locking = Some(tokio::spawn(lock_heads(site.owner().await)));
        }
    }

    async fn end(&mut self, site: &Site) {
        if let Some(locking) = self.locking.take() {
            // Its session ends with it.
            locking.abort();
        }
        self.alter(site, &format!("RESET {}", self.name)).await;
    }
}

async fn lock_heads(mut owner: PgConnection) {
    loop {
        let mut transaction = owner.begin().await.unwrap();
        transaction.execute("SELECT 1 FROM ledger.partition_head FOR UPDATE").await.unwrap();
        sleep(Duration::from_secs(2)).await;
        transaction.rollback().await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_timeout_beside_a_lock() {
    let site = Site::start(new_dir()).await;
    let measured = site.go_through(&mut Setting::new("lock_timeout", "5ms").with_locks()).await;
    let ledgers = (ExpectedHealth::Any, NOT_WRITTEN);
    measured.assert_bounds("lock_timeout", ledgers, (ExpectedHealth::Any, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_beside_a_lock() {
    let site = Site::start(new_dir()).await;
    let measured =
        site.go_through(&mut Setting::new("statement_timeout", "50ms").with_locks()).await;
    let ledgers = (ExpectedHealth::Any, NOT_WRITTEN);
    measured.assert_bounds("statement_timeout", ledgers, (ExpectedHealth::Any, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_ended_when_idle() {
    let site = Site::start(new_dir()).await;
    let measured = site.go_through(&mut Setting::new("idle_session_timeout", "500ms")).await;
    let both = (ExpectedHealth::Any, None);
    measured.assert_bounds("idle_session_timeout", both, both);
    // A session that is ended while it is idle costs no call.
    let refused = measured.refused_meanwhile();
    assert!(
        !measured.is_judged || refused.is_empty(),
        "{} calls are refused: {:?}",
        refused.len(),
        refused.first()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_reads() {
    let site = Site::start(new_dir()).await;
    let measured = site.go_through(&mut Setting::new("default_transaction_read_only", "on")).await;
    // Nothing is appended, so nothing is to be folded; but no look-up can be noted.
    let (ledgers, projectors) =
        ((ExpectedHealth::NotServing, NOT_WRITTEN), (ExpectedHealth::NotServing, NOT_NOTED));
    measured.assert_bounds("read-only", ledgers, projectors);
}

/// Locks a table against everybody.
struct Locked {
    table: &'static str,
    owner: Option<PgConnection>,
}

impl DatabaseFault for Locked {
    async fn begin(&mut self, site: &Site) {
        let mut owner = site.owner().await;
        let lock = format!("BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.table);
        owner.execute(AssertSqlSafe(lock)).await.unwrap();
        self.owner = Some(owner);
    }

    async fn end(&mut self, _: &Site) {
        self.owner.take().unwrap().close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_of_events() {
    let site = Site::start(new_dir()).await;
    let measured = site.go_through(&mut Locked { table: "ledger.event", owner: None }).await;
    let (ledgers, projectors) =
        ((ExpectedHealth::NotServing, NOT_WRITTEN), (ExpectedHealth::Any, None));
    measured.assert_bounds("ledger.event locked", ledgers, projectors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_of_the_register() {
    let site = Site::start(new_dir()).await;
    let measured = site.go_through(&mut Locked { table: "register.person", owner: None }).await;
    let both = (ExpectedHealth::Any, None);
    measured.assert_bounds("register.person locked", both, both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_of_the_projection() {
    let site = Site::start(new_dir()).await;
    let table = "projection.annual_total";
    let measured = site.go_through(&mut Locked { table, owner: None }).await;
    let (ledgers, projectors) = ((ExpectedHealth::Serving, None), (ExpectedHealth::Any, None));
    measured.assert_bounds("projection.annual_total locked", ledgers, projectors);
}

/// Takes every session that the server has to give.
struct ExhaustedSessions {
    crowding: Option<JoinHandle<()>>,
}

impl DatabaseFault for ExhaustedSessions {
    async fn begin(&mut self, site: &Site) {
        let url = site.database.url(frikort::postgres::OWNER);
        let mut owner = site.owner().await;
        let (crowded, is_crowded) = tokio::sync::oneshot::channel();
        self.crowding = Some(tokio::spawn(async move {
            let (mut all, mut crowded) = (Vec::new(), Some(crowded));
            loop {
                match PgConnection::connect(&url).await {
                    Ok(one) => all.push(one),
                    Err(_) => {
                        if let Some(crowded) = crowded.take() {
                            let _ = crowded.send(());
                        }
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        }));
        is_crowded.await.unwrap();
        owner.execute(AssertSqlSafe(END_SESSIONS.to_owned())).await.unwrap();
    }

    async fn end(&mut self, _: &Site) {
        let crowding = self.crowding.take().unwrap();
        crowding.abort();
        // When it has ended, its sessions are closed.
        let _ = crowding.await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections() {
    let site = Site::start(new_dir()).await;
    let measured = site.go_through(&mut ExhaustedSessions { crowding: None }).await;
    let both = (ExpectedHealth::Any, None);
    measured.assert_bounds("too many connections", both, both);
}

/// A file system of its own that is too small, and a file that leaves nothing of it.
struct FullDisk {
    mount: PathBuf,
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // Lazily: what a failed test has left running may still use it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.mount).status();
    }
}

impl FullDisk {
    fn mount(mount: PathBuf) -> Self {
        fs::create_dir(&mount).unwrap();
        let mut command = Command::new("mount");
        let status = command.args(["-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs"]).arg(&mount);
        assert!(status.status().unwrap().success(), "a tmpfs cannot be mounted");
        Self { mount }
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }
}

impl DatabaseFault for FullDisk {
    async fn begin(&mut self, _: &Site) {
        // It ends when nothing is left.
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    async fn end(&mut self, site: &Site) {
        fs::remove_file(self.filler()).unwrap();
        // A server that cannot write its log of changes has ended, as an operator finds it.
        if site.database.cluster().pid().is_err() {
            site.start_server().await;
        }
    }
}

/// Needs the right to mount.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a file system: .ci/long"]
async fn a_full_disk() {
    let dir = new_dir();
    let mut full = FullDisk::mount(cluster_dir(dir.path()));
    let site = Site::start(dir).await;
    let measured = site.go_through(&mut full).await;
    let (ledgers, projectors) =
        ((ExpectedHealth::NotServing, NOT_WRITTEN), (ExpectedHealth::Any, None));
    measured.assert_bounds("disk full", ledgers, projectors);
}
