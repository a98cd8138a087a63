//! The services on a site: two ledgers and two projectors. Not here: calls to them.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::{
    calls::Caller,
    journal::{Journal, reason_of},
    site::Site,
};
use crate::process::{Kind, Service, signal};

/// How long a condition may take to hold.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(90);

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The setting without which a ledger signs nothing.
const SIGNING_KEY: &str = "FRIKORT_SIGNING_KEY_FILE";

/// Services that share a database, a register key and one signing key.
#[derive(Debug)]
pub struct Services {
    /// The ledgers.
    pub ledgers: Vec<Service>,
    /// The projectors.
    pub projectors: Vec<Service>,
}

impl Services {
    /// Starts two ledgers and two projectors. The second ledger signs only if it `shares` the key.
    pub async fn start(site: &Site, shares: bool) -> anyhow::Result<Self> {
        let unsigned = if shares { Vec::new() } else { vec![(SIGNING_KEY, String::new())] };
        let start =
            |kind, settings| Service::start_with(kind, &site.database, site.dir(), settings);
        let first = start(Kind::Ledger, Vec::new()).await?;
        let second = start(Kind::Ledger, unsigned).await?;
        let projectors = vec![
            start(Kind::Projector, Vec::new()).await?,
            start(Kind::Projector, Vec::new()).await?,
        ];
        Ok(Self { ledgers: vec![first, second], projectors })
    }

    /// One more ledger, which shares the database and the register's keys and nothing else: it
    /// neither remembers nor signs anything.
    pub async fn stranger(site: &Site) -> anyhow::Result<Service> {
        let dir = site.dir().join("stranger");
        fs::create_dir_all(&dir)?;
        let keys = "register.keys";
        fs::copy(site.dir().join(keys), dir.join(keys)).context("the register's keys")?;
        let unsigned = vec![(SIGNING_KEY, String::new())];
        Service::start_with(Kind::Ledger, &site.database, &dir, unsigned).await
    }

    /// The same on a database URL for each role.
    pub async fn start_at(url: impl Fn(&str) -> String, dir: &Path) -> anyhow::Result<Self> {
        let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let (mut ledgers, mut projectors) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let url = url("frikort_ledger");
            ledgers.push(Service::start_at(Kind::Ledger, &url, dir, anywhere).await?);
        }
        for _ in 0..2 {
            let url = url("frikort_projector");
            projectors.push(Service::start_at(Kind::Projector, &url, dir, anywhere).await?);
        }
        Ok(Self { ledgers, projectors })
    }

    /// A client of one ledger and one projector.
    pub fn caller(
        &self,
        ledger: usize,
        projector: usize,
        journal: &Arc<Journal>,
    ) -> anyhow::Result<Caller> {
        let ledger = (ledger, &self.ledgers[ledger]);
        let projector = (projector, &self.projectors[projector]);
        Caller::new(ledger, projector, journal.clone())
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Service> {
        self.ledgers.iter().chain(&self.projectors)
    }

    /// Sends a signal to all of them.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        self.all().try_for_each(|service| signal(service.id(), name))
    }

    /// `kill -9` of one, and the same again at the same address, without waiting: ledgers are
    /// counted first.
    pub fn kill_and_restart(&mut self, number: usize) -> anyhow::Result<()> {
        let mut all: Vec<&mut Service> =
            self.ledgers.iter_mut().chain(&mut self.projectors).collect();
        let number = number % all.len();
        all[number].kill_and_restart()
    }

    /// Starts those again that have ended, without waiting: a service may end when it is started
    /// without a database.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        for service in self.ledgers.iter_mut().chain(&mut self.projectors) {
            if service.has_ended()? {
                service.kill_and_restart()?;
            }
        }
        Ok(())
    }

    /// Waits until all of them serve.
    pub async fn serve(&mut self) -> anyhow::Result<()> {
        for service in self.ledgers.iter_mut().chain(&mut self.projectors) {
            service.wait_until_ready().await?;
        }
        Ok(())
    }

    /// Stops all of them; each must end well.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for service in self.ledgers.iter_mut().chain(&mut self.projectors) {
            let ended = service.stop().await?;
            ensure!(ended.success(), "a service was stopped and {ended}");
        }
        Ok(())
    }

    /// The end of every log, for a test that fails.
    pub fn log_tails(&self, lines: usize) -> String {
        let tail = |service: &Service| {
            let log = service.logged().unwrap_or_default();
            let notable: Vec<&str> =
                log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).collect();
            let from = notable.len().saturating_sub(lines);
            format!("--- {}\n{}\n", service.address(), notable[from..].join("\n"))
        };
        self.all().map(tail).collect()
    }
}

/// Waits until a condition holds.
pub async fn eventually(
    what: &str,
    mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONDITION_TIMEOUT;
    loop {
        let error = match holds().await {
            Ok(true) => return Ok(()),
            Ok(false) => String::new(),
            Err(error) => format!(": {error:#}"),
        };
        ensure!(Instant::now() < deadline, "not in time: {what}{error}");
        sleep(POLL_INTERVAL).await;
    }
}

/// Calls again while the refusal is one that passes by itself; any other answer is the result.
pub async fn settled<T>(call: impl AsyncFn() -> Result<T, Status>) -> Result<T, Status> {
    let deadline = Instant::now() + CONDITION_TIMEOUT;
    loop {
        let answer = call().await;
        let passes = answer.as_ref().err().is_some_and(|status| {
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
                && reason_of(status) != "HISTORY_CHANGED"
        });
        if !passes || Instant::now() > deadline {
            return answer;
        }
        sleep(POLL_INTERVAL).await;
    }
}
