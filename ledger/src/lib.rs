//! The ledger: decides and appends. The only writer of events.
//!
//! ```text
//!   services ──parse──▶ register (who?) ──▶ sequencer of the person's partition ──▶ event store
//!      ▲                                             │
//!      └────────────── render ◀── answer ────────────┘
//! ```
//!
//! Absences that hold: the ledger keeps no totals (the projector does, and is asked for one thing:
//! whom a changed limit may reach), decides nothing outside `frikort-domain`, and writes no CPR
//! number anywhere but into the register.

mod cache;
pub mod cli;
mod complete_limits;
mod fail;
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod ledger;
mod limits;
mod parse;
mod pay_run;
mod plan;
mod proof;
mod recalculate;
mod render;
mod sequencer;
mod services;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, thread, time::Duration};

use frikort_access::{Access, Guard, Lookups};
use frikort_event_store::{
    Appender, DatabaseSessions, Durability, EventStore, SessionPurpose, connect, listen, notify,
};
use frikort_process::{clock::Clock, database, reachable::WhileReachable, secret::Secret, serve};
use frikort_register::{InUse, Register};
use futures::future::join_all;
use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::{
    runtime::Builder,
    sync::{oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    complete_limits::LimitCompletion,
    ledger::Ledger,
    proof::Log,
    recalculate::Recalculation,
    sequencer::{Bounds, Handle, Sequencer},
    services::{check::Checking, result_budget::ResultBudgets, stream::MAX_RUNS},
};

pub use proof::{Signer, SigningKeys, SigningKeysError};

/// Connections for look-ups and reads; each partition's sequencer has two of its own besides.
const CONNECTIONS: u32 = 16;

/// Connections of what must not wait behind questions: noting look-ups, and learning that a person
/// was forgotten.
const ALONE: u32 = 1;

/// Connections of what must not be in the way of calls: recalculation, and reading persons with very
/// many events.
const BACKGROUND_CONNECTIONS: u32 = 4;

/// Notifications are at least so far apart: one in every transaction would cost most of the
/// throughput, and readers look without them too.
const NOTIFY_PAUSE: Duration = Duration::from_millis(5);

/// What the service is started with.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Who may call.
    pub access: Access,
    /// The database.
    pub database_url: Secret,
    /// Whether its server must keep what it has acknowledged.
    pub durability: Durability,
    /// The register's keys; one that seals is required.
    pub keys: InUse,
    /// Who signs checkpoints of the history; without it this process signs none.
    pub signer: Option<Signer>,
    /// Payments whose accounts are kept in memory, over all partitions.
    pub cached_payments: usize,
    /// How many payments a person may have recorded in one calendar year (P10), 1 or more. Every
    /// ledger of one database should have the same.
    pub payments_per_year: u32,
}

impl Settings {
    /// What bounds each of so many sequencers.
    fn bounds(&self, partitions: usize) -> Bounds {
        Bounds {
            cached_payments: self.cached_payments / partitions.max(1),
            payments_per_year: self.payments_per_year,
        }
    }
}

/// Serves until `stop`: then takes no more, answers everybody, and returns.
pub async fn serve(
    settings: Settings,
    clock: Clock,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = serve::bind(settings.listen, settings.access.tls()).await?;
    let options = database::service(settings.database_url.expose(), "frikort-ledger")?;
    let sessions = DatabaseSessions::new(options.clone());
    let pool = sessions.pool(CONNECTIONS, SessionPurpose::Calls);
    let store = EventStore::open_when_there(pool.clone(), settings.durability).await?;
    let partitions = store.partitions().await?;
    let bounds = settings.bounds(partitions.len());

    // What works beside the calls, and stops with them.
    let (mut tasks, mut beside) = (JoinSet::new(), JoinSet::new());
    beside.spawn(sessions.clone().monitor());
    let logs = proof_logs(&partitions, &store, &sessions, settings.signer, &stop, &mut tasks)?;
    let mut proved: Vec<_> = logs.values().filter_map(Log::sound).collect();
    let (sequencers, mut sound) =
        start_sequencers(&sessions, &clock, &logs, bounds, &mut tasks, &mut beside).await?;
    let alone = || sessions.pool(ALONE, SessionPurpose::Calls);
    let lookups = Lookups::start(settings.access.lookup_journal(), alone(), clock.clone())?;
    let (signal, appended) = watch::channel(0);
    let listening = tokio::spawn(listen(sessions.clone(), signal));

    let register = Register::start(sessions.clone(), pool, alone(), settings.keys);
    sound.push(register.sound());
    sound.push(sessions.answers());
    let limits = LimitCompletion::start(store.clone(), sequencers.clone(), &mut beside);
    sound.push(limits.is_complete());
    let ledger = Ledger {
        sessions: sessions.clone(),
        store,
        register,
        lookups: lookups.clone(),
        sequencers,
        limits,
        logs,
        clock,
        payments_per_year: settings.payments_per_year,
        appended,
        checking: Checking::new(options, &settings.access),
        runs: settings.access.places("planned or committed pay runs", MAX_RUNS),
        result_budgets: ResultBudgets::default(),
        stop: stop.clone(),
    };
    let ledger = Arc::new(ledger);
    let (mut routes, health) = serve::routes().await?;
    services::add(&mut routes, &ledger);
    tokio::spawn(serve::tell_health(health.clone(), services::NAMES.to_vec(), sound.clone()));
    proved.extend(sound);
    tokio::spawn(serve::tell_health(health, vec![services::AUDIT], proved));
    tracing::info!(listen = %listener.local_addr()?, "the ledger listens");
    let (tls, limits) = (settings.access.tls().cloned(), settings.access.connections());
    let routes = routes.routes().into_axum_router().merge(services::files::routes(ledger.clone()));
    let bound = WhileReachable::new(sessions.answers(), fail::store_unavailable);
    // As one layer, the guard around the bound: each layer of a router boxes every call.
    let guarded = routes.layer((Guard::new(settings.access), bound)).into();
    serve::serve(listener, tls, limits, guarded, stop).await?;

    // The last handle goes with the services; the sequencers finish their queues and end.
    drop(ledger);
    beside.shutdown().await;
    listening.abort();
    drain(tasks).await?;
    lookups.close().await;
    tracing::info!("the ledger has stopped");
    Ok(())
}

/// Starts the sequencer of each partition that has a log, and what works with it. Returns the ways to
/// them, and whether each partition can be written.
async fn start_sequencers(
    sessions: &DatabaseSessions,
    clock: &Clock,
    logs: &BTreeMap<i32, Log>,
    bounds: Bounds,
    tasks: &mut JoinSet<()>,
    beside: &mut JoinSet<()>,
) -> anyhow::Result<(BTreeMap<i32, Handle>, Vec<watch::Receiver<bool>>)> {
    let (mut sequencers, mut sound) = (BTreeMap::new(), Vec::new());
    let background_store =
        EventStore::open(sessions.pool(BACKGROUND_CONNECTIONS, SessionPurpose::Background)).await?;
    for (&partition, log) in logs {
        let appender = Appender::new(sessions.clone(), partition);
        // Its own connection: it must not wait for one behind the callers' lookups.
        let own_store = EventStore::open(sessions.pool(1, SessionPurpose::Calls)).await?;
        let stores = (own_store, background_store.clone());
        let (sequencer, told) =
            Sequencer::new(partition, stores, appender, clock.clone(), log.evidence(), bounds);
        let name = format!("sequencer-{partition}");
        tasks.spawn(on_its_own_thread(name, sequencer.run())?);
        tokio::spawn(notify_of(sessions.options().clone(), partition, told.commits));
        let recalculation = Recalculation {
            partition,
            sessions: sessions.clone(),
            store: background_store.clone(),
            sequencer: told.handle.clone(),
            clock: clock.clone(),
            limits: told.limits,
        };
        beside.spawn(recalculation.run());
        sequencers.insert(partition, told.handle);
        sound.push(told.sound);
    }
    Ok((sequencers, sound))
}

/// Waits until the sequencers have finished their queues.
async fn drain(mut sequencers: JoinSet<()>) -> anyhow::Result<()> {
    let finished = async { while sequencers.join_next().await.is_some() {} };
    if tokio::time::timeout(frikort_process::stop::DRAIN, finished).await.is_err() {
        anyhow::bail!("requests were still waiting at the end of the drain time");
    }
    Ok(())
}

/// The proof logs; their followers are set to work on a thread of their own, where this process signs.
fn proof_logs(
    partitions: &[i32],
    store: &EventStore,
    sessions: &DatabaseSessions,
    signer: Option<Signer>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<BTreeMap<i32, Log>> {
    let Some(signer) = signer else {
        let log = |partition: &i32| {
            (*partition, Log::read_only(sessions.clone(), *partition, store.clone()))
        };
        return Ok(partitions.iter().map(log).collect());
    };
    signer.write_verifiers(partitions)?;
    let (mut logs, mut followers) = (BTreeMap::new(), Vec::new());
    for partition in partitions {
        let appender = Appender::new(sessions.clone(), *partition);
        let (log, follow) = Log::signed(appender, *partition, store.clone(), &signer)?;
        followers.push(follow);
        logs.insert(*partition, log);
    }
    let stopped = stop.clone().cancelled_owned();
    let following = async {
        tokio::select! {
            _ = join_all(followers) => {}
            () = stopped => {}
        }
    };
    tasks.spawn(on_its_own_thread("signer".to_owned(), following)?);
    Ok(logs)
}

/// Runs on a thread of its own: each step of a sequencer is waited for by everybody, so it must not
/// queue behind the tasks that serve callers; and the warnings of a commit are counted by thread. Ready
/// when it has ended.
fn on_its_own_thread(
    name: String,
    work: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (end, ended) = oneshot::channel::<()>();
    thread::Builder::new().name(name).spawn(move || {
        runtime.block_on(work);
        drop(end);
    })?;
    Ok(async { drop(ended.await) })
}

/// Sends one notification for all the commits since the last one. A hint, so it need not be
/// durable, and a failure is only a delay.
async fn notify_of(options: PgConnectOptions, partition: i32, mut commits: watch::Receiver<i64>) {
    let options = options.options([("synchronous_commit", "off")]);
    let mut connection: Option<PgConnection> = None;
    while commits.changed().await.is_ok() {
        commits.borrow_and_update();
        if connection.is_none() {
            connection = connect(&options).await.ok();
        }
        if let Some(open) = &mut connection
            && notify(open, partition).await.is_err()
        {
            connection = None;
        }
        tokio::time::sleep(NOTIFY_PAUSE).await;
    }
}
