//! The continuous check: reads the whole ledger again and again with the engine of
//! `frikort-check`, and keeps what it came to.
//!
//! Every round reads everything from the first record on. What an earlier round has seen may have
//! been changed since, so that nothing less is a check; and as long as a round takes it costs a
//! twentieth of one processor. From round to round it remembers the root that it has verified, and
//! holds the next round against it: a history that is cut short or written anew while it runs is
//! found though everything in the tables fits.
//!
//! Findings change no answer and no health; they are loud in the log and in the metrics. What must
//! stay out: what is right and wrong, and how it is shown.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use frikort_check::{Check, Concluded, Finding, Log, Progress, Running, Seen, VerifierKey};
use frikort_process::clock::Clock;
use sqlx::postgres::PgConnectOptions;
use time::OffsetDateTime;
use tokio::time::sleep;

/// How many times as long as a page took a check rests after it.
const REST: u32 = 39;

/// How often the state is told how far a round is.
const PROGRESS: Duration = Duration::from_millis(500);

/// The loop.
pub(crate) struct Verifier {
    database: PgConnectOptions,
    /// Those that this process follows.
    partitions: Vec<i32>,
    /// The logs' verifier keys; without, signatures cannot be checked.
    keys_file: Option<PathBuf>,
    /// Between two rounds; zero turns it off.
    pause: Duration,
    clock: Clock,
    pub(crate) verified: Arc<Verified>,
}

/// What the loop has come to.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<Inner>);

/// The state as somebody sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inner {
    /// It will never check.
    pub(crate) turned_off: bool,
    /// Of each partition that was verified.
    pub(crate) partitions: BTreeMap<i32, Position>,
    pub(crate) last_round: Option<Round>,
    pub(crate) current: Option<Progress>,
    /// Rounds that came to an end, by how.
    pub(crate) passed: u64,
    pub(crate) contradicted: u64,
    pub(crate) incomplete: u64,
}

/// Up to where a partition is verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) seen: Seen,
    /// When the round began that verified it.
    pub(crate) since: OffsetDateTime,
}

/// One round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) started: OffsetDateTime,
    pub(crate) ended: OffsetDateTime,
    pub(crate) told: Vec<Finding>,
    pub(crate) concluded: Concluded,
}

impl Verified {
    /// As it is now.
    pub(crate) fn now(&self) -> Inner {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, round: Round) {
        let mut inner = self.lock();
        inner.current = None;
        if round.concluded.passed() {
            inner.passed += 1;
            for checked in &round.concluded.checked {
                let seen = checked.root.map(|root| Seen { position: checked.position, root });
                if let Some(seen) = seen {
                    let position = Position { seen, since: round.started };
                    inner.partitions.insert(checked.partition, position);
                }
            }
        } else if round.concluded.findings > 0 {
            inner.contradicted += 1;
        } else {
            inner.incomplete += 1;
        }
        inner.last_round = Some(round);
    }
}

impl Verifier {
    /// One with a connection of its own; fails where the keys cannot be read.
    pub(crate) fn new(
        database: PgConnectOptions,
        keys_file: Option<PathBuf>,
        pause: Duration,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        if let Some(file) = &keys_file {
            keys(file)?;
        }
        let turned_off = pause.is_zero();
        let verified = Arc::new(Verified(Mutex::new(Inner { turned_off, ..Inner::default() })));
        let partitions = Vec::new();
        Ok(Self { database, partitions, keys_file, pause, clock, verified })
    }

    /// Checks for ever, unless it is turned off by a pause of zero.
    pub(crate) async fn run(mut self, partitions: Vec<i32>) {
        self.partitions = partitions;
        while !self.pause.is_zero() {
            sleep(self.pause).await;
            let started = self.clock.now();
            let before = self.verified.now().last_round.map(|round| round.told);
            let (told, concluded) = self.round(&before.unwrap_or_default()).await;
            let ended = self.clock.now();
            let seconds = (ended - started).as_seconds_f64();
            let (findings, left_out) = (concluded.findings, concluded.not_checked.len());
            tracing::info!(findings, left_out, seconds, "a round of the check has ended");
            self.verified.end(Round { started, ended, told, concluded });
        }
    }

    /// Reads everything once; what it found, and what it came to.
    async fn round(&self, before: &[Finding]) -> (Vec<Finding>, Concluded) {
        let mut told = Vec::new();
        let running = match self.start() {
            Ok(running) => running,
            Err(error) => return (told, cut_off(&error)),
        };
        let concluded = self.follow(running, before, &mut told).await;
        (told, concluded)
    }

    fn start(&self) -> anyhow::Result<Running> {
        let followed = self.partitions.iter().map(|partition| (*partition, Log::default()));
        let mut logs: BTreeMap<i32, Log> = followed.collect();
        if let Some(file) = &self.keys_file {
            // Each time: keys are added when the signer's is changed.
            for (partition, keys) in keys(file)? {
                logs.entry(partition).or_default().keys = keys;
            }
        }
        for (partition, position) in self.verified.now().partitions {
            logs.entry(partition).or_default().seen = Some(position.seen);
        }
        let database = self.database.clone();
        let check = Check { database, partition: None, logs, rest: REST };
        Ok(check.start()?)
    }

    async fn follow(
        &self,
        mut running: Running,
        before: &[Finding],
        told: &mut Vec<Finding>,
    ) -> Concluded {
        let mut tick = tokio::time::interval(PROGRESS);
        loop {
            tokio::select! {
                finding = running.findings.recv() => match finding {
                    Some(finding) => {
                        if !before.contains(&finding) {
                            log(&finding);
                        }
                        told.push(finding);
                    }
                    None => break,
                },
                _ = tick.tick() => {
                    let progress = *running.progress.borrow();
                    self.verified.lock().current = Some(progress);
                }
            }
        }
        match running.concluded().await {
            Ok(concluded) => concluded,
            Err(error) => {
                let counted = u64::try_from(told.len()).unwrap_or(u64::MAX);
                Concluded { findings: counted, ..cut_off(&error.into()) }
            }
        }
    }
}

/// What a round came to that has no end.
fn cut_off(error: &anyhow::Error) -> Concluded {
    tracing::warn!(error = format!("{error:#}"), "a round of the check was cut off");
    // The cause is the log's: it may name what is nobody's business.
    let not_checked = vec!["the round was cut off; the log has the cause".to_owned()];
    Concluded { not_checked, ..Concluded::default() }
}

fn log(finding: &Finding) {
    let Finding { partition, position, kind, person_id, description } = finding;
    let (kind, person) = (kind.name(), person_id.map(tracing::field::display));
    tracing::error!(partition, position, kind, person, "the check has found: {description}");
}

/// The verifier keys of a file: one a line, of any of the partitions' logs.
fn keys(file: &Path) -> anyhow::Result<BTreeMap<i32, Vec<VerifierKey>>> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("the verifier keys {}", file.display()))?;
    frikort_check::keys(&text).with_context(|| format!("in the verifier keys {}", file.display()))
}
