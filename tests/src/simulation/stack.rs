//! The processes of a run, and asking them until they answer.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use frikort_proto::v1::allowance_service_client::AllowanceServiceClient;
use tempfile::TempDir;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{Difference, list::Who};
use crate::{
    client::{Ledger, allowances},
    database::Database,
    model::PAYMENTS_PER_YEAR,
    process::{Kind, Service},
};

/// How long somebody asks again before the silence is a difference.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one try may take.
const TRY: Duration = Duration::from_secs(10);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// Real processes on a database of their own.
pub(super) struct Stack {
    ledgers: Vec<Mutex<Service>>,
    projector: Mutex<Service>,
    clients: Vec<Ledger>,
    pub(super) allowances: AllowanceServiceClient<Channel>,
    pub(super) database: Database,
    /// Calls that were sent again, since no answer came.
    pub(super) lost: AtomicUsize,
    /// Logs and keys; removed last.
    _dir: TempDir,
}

impl Stack {
    pub(super) async fn start(ledgers: usize, partitions: i32) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let path: PathBuf = dir.path().to_owned();
        let database = Database::create(partitions).await?;
        let (mut services, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..ledgers.max(1) {
            let most = vec![("FRIKORT_PAYMENTS_PER_YEAR", PAYMENTS_PER_YEAR.to_string())];
            let ledger = Service::start_with(Kind::Ledger, &database, &path, most).await?;
            clients.push(Ledger::new(lazy(&ledger)?));
            services.push(Mutex::new(ledger));
        }
        let projector = Service::start(Kind::Projector, &database, &path).await?;
        let allowances = allowances(lazy(&projector)?);
        let (ledgers, projector, lost) = (services, Mutex::new(projector), AtomicUsize::new(0));
        Ok(Self { ledgers, projector, clients, allowances, database, lost, _dir: dir })
    }

    /// The client of one ledger, counted round.
    pub(super) fn ledger(&self, via: usize) -> Ledger {
        self.clients[via % self.clients.len()].clone()
    }

    /// Asks until there is an answer, each time through the next ledger; and whether an answer was
    /// lost before, so that the call may have been recorded then.
    pub(super) async fn insist<T>(
        &self,
        mut via: usize,
        ask: impl AsyncFn(usize) -> Result<T, Status>,
    ) -> anyhow::Result<(T, bool)> {
        let deadline = Instant::now() + PATIENCE;
        let mut lost = false;
        loop {
            let silence = match timeout(TRY, ask(via)).await {
                Ok(Ok(answer)) => return Ok((answer, lost)),
                Ok(Err(status)) => format!("{status:?}"),
                Err(_) => "no answer in time".to_owned(),
            };
            lost = true;
            self.lost.fetch_add(1, Ordering::Relaxed);
            if Instant::now() > deadline {
                return Err(Difference::new(format!("no answer at all: {silence}")).into());
            }
            via += 1;
            sleep(PAUSE).await;
        }
    }

    /// Kills or stops a process, and starts it again at the same address.
    pub(super) async fn restart(&self, who: Who, gently: bool) -> anyhow::Result<()> {
        let service = match who {
            Who::Ledger(number) => &self.ledgers[number % self.ledgers.len()],
            Who::Projector => &self.projector,
        };
        let mut service = service.lock().await;
        if gently {
            let ended = service.stop().await?;
            if !ended.success() {
                return Err(Difference::new(format!("{who:?} was stopped and {ended}")).into());
            }
        }
        service.kill_and_restart()?;
        service.wait_until_ready().await
    }

    /// Stops everything; all of it must end well.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for service in self.ledgers.iter().chain([&self.projector]) {
            let ended = service.lock().await.stop().await?;
            if !ended.success() {
                return Err(Difference::new(format!("a process was stopped and {ended}")).into());
            }
        }
        Ok(())
    }
}

/// A connection that is made again whenever it breaks.
fn lazy(service: &Service) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(service.uri())?.connect_lazy())
}
