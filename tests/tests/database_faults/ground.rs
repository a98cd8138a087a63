//! Two ledgers and two projectors under load, whose way to the database leads through a proxy, and
//! one fault from its beginning until all goes on.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use frikort::postgres::{Cluster, OWNER, Options};
use frikort_proto::v1::{GetAllowanceRequest, LedgerPosition};
use frikort_tests::{
    audit::{assert_projection_is_the_fold, assert_sound, is_at_rest},
    chance::Chance,
    client::by_cpr,
    database::Database,
    history::{
        Caller, Epoch, Histories, History, Journal, Load, Payroll, Services, Streams, cpr_of,
        eventually, judge, settled,
    },
    proxy::Proxy,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    health::HealthWatch,
    measured::{Log, Measured, Recovery},
};

/// Persons who have a card, by number.
const PERSONS: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// The year of their payments.
const YEAR: i32 = 2022;

const PARTITIONS: i32 = 2;

/// How often what must go on after a fault is tried.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// How long it may take to go on before the test is given up.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers of each kind of service before a fault begins, and after it.
const ENOUGH: usize = 100;

/// How long a fault lasts, and whether times are judged.
fn lasting() -> (Duration, bool) {
    let set = env::var("FRIKORT_FAULT_SECONDS").ok().and_then(|text| text.parse().ok());
    (Duration::from_secs(set.unwrap_or(6)), set.is_some())
}

/// A cluster behind a proxy, and the services on it. Declared in the order in which they end.
pub(crate) struct Site {
    services: Services,
    pub(crate) proxy: Proxy,
    pub(crate) database: Database,
    journal: Arc<Journal>,
    payroll: Arc<Payroll>,
    callers: Vec<Caller>,
    dir: TempDir,
}

/// Something that is wrong with the database for a while.
pub(crate) trait DatabaseFault {
    /// What is done to begin it.
    async fn begin(&mut self, site: &Site);
    /// What is done to end it.
    async fn end(&mut self, site: &Site);
}

/// A new directory for a site.
pub(crate) fn new_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("frikort-faults-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// The directory of the cluster of a site in `dir`.
pub(crate) fn cluster_dir(dir: &Path) -> PathBuf {
    dir.join("cluster")
}

impl Site {
    /// Services that serve, with persons who have cards.
    pub(crate) async fn start(dir: TempDir) -> Self {
        let database = Database::create_alone(cluster_dir(dir.path()), PARTITIONS).await.unwrap();
        let [services_dir, socket_dir] = ["services", "proxy"].map(|name| dir.path().join(name));
        fs::create_dir(&services_dir).unwrap();
        fs::create_dir(&socket_dir).unwrap();
        let proxy = Proxy::start(&socket_dir, database.cluster().socket_dir()).unwrap();
        let url = |role: &str| proxy.url(&database.url(role));
        let services = Services::start_at(url, &services_dir).await.unwrap();
        let journal = Arc::new(Journal::new(Epoch::default()));
        let pairs = [(0, 0), (1, 1), (0, 1), (1, 0)];
        let callers = pairs.map(|(one, other)| services.caller(one, other, &journal).unwrap());
        callers[0].set_limit(YEAR, 2_000).await.unwrap();
        let payroll = Arc::new(Payroll::default());
        for person in PERSONS {
            callers[0].grant(person).await.unwrap();
            callers[1].report(&payroll.next(person, YEAR)).await.unwrap();
        }
        let callers = callers.to_vec();
        Self { services, proxy, database, journal, payroll, callers, dir }
    }

    /// Starts the server again.
    pub(crate) async fn start_server(&self) {
        let dir = cluster_dir(self.dir.path());
        let start = move || Cluster::start(&dir, &Options::default());
        tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    }

    /// A session of the superuser, past the proxy.
    pub(crate) async fn owner(&self) -> PgConnection {
        PgConnection::connect(&self.database.url(OWNER)).await.unwrap()
    }

    /// Statements of the superuser, each in a transaction of its own.
    pub(crate) async fn execute(&self, statements: &[&str]) {
        let mut owner = self.owner().await;
        for statement in statements {
            owner.execute(AssertSqlSafe((*statement).to_owned())).await.unwrap();
        }
        owner.close().await.unwrap();
    }

    /// Has the fault under load. Nothing may come of it that is lost, recorded twice or false; what
    /// callers, health and log have seen of it is for the caller to judge.
    pub(crate) async fn go_through(mut self, fault: &mut impl DatabaseFault) -> Measured {
        let mut chance = Chance::printed();
        let load = Load::start(self.callers.clone(), &PERSONS, &self.payroll, &mut chance);
        let mut streams = Streams::default();
        for caller in &self.callers[..2] {
            streams.watch(caller.clone());
            streams.read(caller.clone(), 0);
        }
        self.until_answered().await;
        let health = HealthWatch::start(&self.services).await;

        let (lasting, is_judged) = lasting();
        let logs_before = self.logs();
        let began = Instant::now();
        fault.begin(&self).await;
        let established = Instant::now();
        sleep(lasting).await;
        let ending = Instant::now();
        let logs_during = self.logs();
        fault.end(&self).await;
        let ended = Instant::now();
        let recovery = self.recover(ended, &health).await;

        self.until_answered().await;
        let health = health.end().await;
        load.end().await;
        self.assert_whole(&mut streams).await;
        let logs_after = self.logs();
        let logs = (0..logs_after.len()).map(|number| Log {
            during: logs_during[number][logs_before[number].len()..].to_owned(),
            after: logs_after[number][logs_during[number].len()..].to_owned(),
        });
        let logs = logs.collect();
        self.services.stop().await.unwrap();
        self.database.stop_cluster().await.unwrap();
        Measured {
            is_judged,
            began,
            established,
            ending,
            ended,
            answers: self.journal.all(),
            health,
            recovery,
            logs,
        }
    }

    /// What each service has logged so far.
    fn logs(&self) -> Vec<String> {
        self.services.all().map(|service| service.logged().unwrap()).collect()
    }

    /// Until each kind of service has given some more answers that are not refusals.
    async fn until_answered(&self) {
        let count = |kind| {
            self.journal.count(|answer| answer.service.starts_with(kind) && answer.is_claim())
        };
        let before = ["ledger", "projector"].map(count);
        eventually("calls are answered", async || {
            let now = ["ledger", "projector"].map(count);
            Ok(now.iter().zip(before).all(|(now, before)| *now >= before + ENOUGH))
        })
        .await
        .unwrap();
    }

    /// When everything goes on: each ledger records a new payment in each partition, each projector
    /// has it, and all are healthy.
    async fn recover(&self, ended: Instant, health: &HealthWatch) -> Recovery {
        let records = self.callers[..2].iter().map(|caller| self.until_recorded(caller, ended));
        let recorded = futures::future::join_all(records).await;
        let last = recorded.last().and_then(|(_, places)| places.last().cloned()).unwrap();
        let asks =
            self.callers[..2].iter().map(|caller| self.until_projected(caller, &last, ended));
        let projected = futures::future::join_all(asks).await;
        let healthy = health.until_all_serve(ended, RECOVERY_TIMEOUT).await;
        Recovery {
            recorded: recorded.into_iter().map(|(took, _)| took).collect(),
            projected,
            healthy,
        }
    }

    /// Until a ledger has recorded a payment of each person at the first attempt that is not refused.
    async fn until_recorded(
        &self,
        caller: &Caller,
        ended: Instant,
    ) -> (Duration, Vec<(u32, LedgerPosition)>) {
        let mut places = Vec::new();
        for person in PERSONS {
            let planned = self.payroll.next(person, YEAR);
            loop {
                match caller.report(&planned).await {
                    Ok(answer) => break places.push((person, answer.position.unwrap())),
                    Err(status) => {
                        assert!(ended.elapsed() < RECOVERY_TIMEOUT, "not recorded: {status:?}");
                        sleep(RETRY_INTERVAL).await;
                    }
                }
            }
        }
        (ended.elapsed(), places)
    }

    /// Until a projector answers with what was recorded there.
    async fn until_projected(
        &self,
        caller: &Caller,
        (person, place): &(u32, LedgerPosition),
        ended: Instant,
    ) -> Duration {
        let request = GetAllowanceRequest {
            person: by_cpr(&cpr_of(*person)),
            year: YEAR,
            min_position: place.position,
            ..GetAllowanceRequest::default()
        };
        while let Err(status) = caller.allowances().get_allowance(request.clone()).await {
            assert!(ended.elapsed() < RECOVERY_TIMEOUT, "not projected: {status:?}");
            sleep(RETRY_INTERVAL).await;
        }
        ended.elapsed()
    }

    /// Every payment of the payroll is recorded once, the tables are consistent, and no answer was
    /// false.
    async fn assert_whole(&self, streams: &mut Streams) {
        let all = self.payroll.all();
        for planned in &all {
            settled(async || self.callers[0].report(planned).await).await.unwrap();
        }
        let pool = self.database.pool().await.unwrap();
        eventually("the projection is at the head", async || Ok(is_at_rest(&pool).await))
            .await
            .unwrap();
        streams.end().await;
        let events = usize::try_from(assert_sound(&pool).await).unwrap();
        let others = PERSONS.len() + usize::try_from(PARTITIONS).unwrap();
        assert_eq!(events, all.len() + others, "not one event for each payment");
        assert_projection_is_the_fold(&pool).await;
        pool.close().await;
        let mut owner = self.owner().await;
        let history = Arc::new(History::read(&mut owner).await.unwrap());
        let found = judge(&self.journal.all(), &Histories::new(vec![history]));
        let shown: Vec<String> = found.iter().take(12).map(ToString::to_string).collect();
        assert!(found.is_empty(), "{} false answers:\n{}", found.len(), shown.join("\n"));
    }
}
