//! The check of a ledger: everything that can be derived again from the tables is, and is held
//! against what stands there.
//!
//! ```text
//!   events in order of position ──▶ order (form, place, instant) ──▶ tree (tiles, checkpoints)
//!   events stream by stream ──▶ streams (versions, decided anew) ──▶ rows ◀── projection
//! ```
//!
//! Each partition is read twice, up to the head as it was at the beginning: a page of records, some
//! persons' accounts and the edge of the tree are in memory, however long the history is. Nothing
//! found stops the rest, and what could not be checked is said. It is slow on purpose: it works on a
//! thread of its own, and rests after each page for a multiple of the time that the page took. Waiting
//! for a connection is not counted, and the rest has a limit, so an outage does not slow it down.
//!
//! Why its own crate: two processes run it, and neither's own code is what is checked with. What
//! must stay out: the ledger's and the projector's code, signing, and anything that writes.

mod finding;
mod order;
mod projection;
mod read;
mod rows;
mod run;
mod streams;
mod tree;
mod wire;

use std::{
    collections::BTreeMap,
    io, thread,
    time::{Duration, Instant},
};

use frikort_event_store::{ConnectionPool, apply_settings};
use frikort_proof::{Checkpoint, Hash, KeyName, NoteError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
};

pub use finding::{Checked, Concluded, Finding, Kind, Progress};
pub use frikort_proof::VerifierKey;

/// At most so many findings are told; all are counted.
pub const MOST_FINDINGS: u64 = 1000;

/// Findings that wait for whoever asked.
const AHEAD: usize = 100;

/// How long a check waits for its one connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a check rests after a page at most. A page that took so long that it would rest longer has
/// waited for the database.
const MAX_REST: Duration = Duration::from_secs(5);

/// By how much the check's thread stands back for others, as `nice` counts it.
const NICENESS: i32 = 10;

/// What is known of one partition's log from outside of the tables.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The keys that sign its checkpoints, or signed them before. Without any, signatures are not
    /// checked, which is said.
    pub keys: Vec<VerifierKey>,
    /// Checkpoints that were kept elsewhere, before the check began.
    pub kept: Vec<Kept>,
    /// What an earlier check has verified.
    pub seen: Option<Seen>,
}

/// What a check has verified: so many records, and the root of the tree over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of records: the position of the last of them.
    pub position: i64,
    /// The root.
    pub root: Hash,
}

/// A checkpoint that somebody kept outside of the tables.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What findings call it.
    pub name: String,
    /// The signed note.
    pub note: String,
}

/// What to check.
#[derive(Clone)]
pub struct Check {
    /// The database; one connection is made, and held for as long as the check takes.
    pub database: PgConnectOptions,
    /// Only this partition; all when absent.
    pub partition: Option<i32>,
    /// What is known of each partition's log. Each of them is checked, also when the tables do not
    /// know of it any more.
    pub logs: BTreeMap<i32, Log>,
    /// How many times as long as a page took it rests after it, up to [`MAX_REST`].
    pub rest: u32,
}

/// Why a check came to no end. What was found until then stands.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The tables cannot be read.
    #[error("the tables cannot be read")]
    Tables(#[from] sqlx::Error),
    /// The thread is gone.
    #[error("the check was ended")]
    Ended,
}

/// A check under way; ends when dropped.
#[derive(Debug)]
pub struct Running {
    /// Up to [`MOST_FINDINGS`], as they are found.
    pub findings: mpsc::Receiver<Finding>,
    /// How far it is.
    pub progress: watch::Receiver<Progress>,
    ended: oneshot::Receiver<Result<Concluded, CheckError>>,
}

impl Running {
    /// What it came to; ready once the last finding was taken.
    pub async fn concluded(self) -> Result<Concluded, CheckError> {
        drop(self.findings);
        self.ended.await.unwrap_or(Err(CheckError::Ended))
    }
}

/// One connection for a check alone: it belongs to the check's own runtime, and ends with it. Every
/// query reads a range of a key in the key's order, and is to be read by it; none takes longer than
/// moments, unless something is wrong.
fn pool(options: PgConnectOptions) -> ConnectionPool {
    let options = options.options([("enable_sort", "off"), ("statement_timeout", "60s")]);
    let settings = options.clone();
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIMEOUT)
        .after_connect(move |connection, _| {
            let settings = settings.clone();
            Box::pin(async move { apply_settings(connection, &settings).await })
        })
        .connect_lazy_with(options)
        .into()
}

/// The partition whose log has this origin: `<operator>/frikort/partition/<N>`.
pub fn partition_of(origin: &KeyName) -> Option<i32> {
    let (_, number) = origin.as_str().rsplit_once("/frikort/partition/")?;
    let partition = number.parse::<i32>().ok()?;
    (partition >= 0 && partition.to_string() == number).then_some(partition)
}

/// Verifier keys, one a line, by the partition of whose log each is; empty lines count for nothing.
pub fn keys(text: &str) -> Result<BTreeMap<i32, Vec<VerifierKey>>, NoteError> {
    let mut keys: BTreeMap<i32, Vec<VerifierKey>> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let key = line.parse()?;
        let name = line.split('+').next().unwrap_or_default().parse()?;
        let partition = partition_of(&name).ok_or(NoteError::OtherOrigin)?;
        keys.entry(partition).or_default().push(key);
    }
    Ok(keys)
}

/// The partition that a checkpoint's note is about, whoever signed it; `None` where it is no
/// checkpoint of such a log.
pub fn partition_of_note(note: &str) -> Option<i32> {
    partition_of(&Checkpoint::parse_unverified(note).ok()?.origin)
}

impl Check {
    /// Starts it on a thread of its own, which stands back for others.
    pub fn start(self) -> io::Result<Running> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (to, findings) = mpsc::channel(AHEAD);
        let (far, progress) = watch::channel(Progress::default());
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("check".to_owned()).spawn(move || {
            // Only this thread's; where it is refused, the rests are what is left.
            let _ = rustix::process::nice(NICENESS);
            let gone = to.clone();
            let concluded = runtime.block_on(async {
                // Made here: its connections belong to this runtime.
                let pool = pool(self.database.clone());
                let (rest, since) = (self.rest, Instant::now());
                let teller = Teller { to, far, until: 0, told: 0, rest, since, pool: pool.clone() };
                tokio::select! {
                    concluded = run::run(self, pool, teller) => Some(concluded),
                    () = gone.closed() => None,
                }
            });
            if let Some(concluded) = concluded {
                let _ = end.send(concluded);
            }
        })?;
        Ok(Running { findings, progress, ended })
    }
}

/// The way to whoever asked, and the rests on it.
#[derive(Debug)]
struct Teller {
    to: mpsc::Sender<Finding>,
    far: watch::Sender<Progress>,
    /// Steps up to the end of the partition.
    until: i64,
    told: u64,
    rest: u32,
    /// When the page under way began.
    since: Instant,
    pool: ConnectionPool,
}

impl Teller {
    /// Tells what a page came to, then rests.
    async fn tell(&mut self, findings: Vec<Finding>, done: i64) {
        let worked = self.since.elapsed();
        // Whoever is begun with again is counted again, but not beyond the partition's end.
        self.far.send_modify(|far| far.done = (far.done + done).min(self.until));
        for finding in findings {
            self.told += 1;
            if self.told <= MOST_FINDINGS {
                let _ = self.to.send(finding).await;
            }
        }
        tokio::time::sleep(worked.saturating_mul(self.rest).min(MAX_REST)).await;
        self.begin().await;
    }

    /// Begins a page once there is a connection: waiting for one is not work.
    async fn begin(&mut self) {
        // What is read next fails for the same reason.
        let _ = self.pool.acquire().await;
        self.since = Instant::now();
    }
}
