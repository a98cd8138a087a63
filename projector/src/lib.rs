//! The projector: folds events into per-person annual totals, and answers queries from them.
//!
//! ```text
//!   event store ──page──▶ fold (pure) ──changes──▶ tables + checkpoint, one transaction
//!                                        └──────▶ state (memory) ──▶ AllowanceService
//!   event store ──streams up to a position──▶ the past, histories ──────────▶ │
//!   event store ──page up to the state──▶ changes, to watchers ─────────────▶ │
//!   everything ──▶ frikort-check, again and again ──▶ VerificationService, GET /metrics
//! ```
//!
//! Absences that hold: the projector never writes an event, never decides, and never calls the
//! ledger. Its tables can be folded again from the events (`rebuild.rs`), as a generation beside the
//! one that is served (`generations.rs`).

mod annual_totals;
mod as_of;
mod asked;
pub mod cli;
mod effect;
mod fold;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod generations;
mod isolate;
mod overview;
mod page;
mod past;
mod query;
mod rebuild;
mod sight;
mod state;
mod statement;
mod statement_page;
mod summary;
mod tables;
mod verification;
mod verify;
mod watch;
mod wire;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{http::header::CONTENT_TYPE, response::IntoResponse, routing::get};

use frikort_access::{Access, Guard, Lookups};
use frikort_event_store::{
    DatabaseSessions, Durability, EventStore, SessionPurpose, Signal, listen,
};
use frikort_process::{clock::Clock, database, reachable::WhileReachable, secret::Secret, serve};
use frikort_proto::v1::{
    allowance_service_server::AllowanceServiceServer,
    overview_service_server::OverviewServiceServer,
    verification_service_server::VerificationServiceServer,
};
use frikort_register::{InUse, Register};
use tokio::{sync, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService, service::RoutesBuilder};

use crate::{
    follow::Follower, overview::Overviews, query::Allowances, state::State,
    verification::Verifications, verify::Verifier,
};

/// The version of the fold: raised with every change of what the events become in the tables. A
/// projector that finds an older one served folds a new generation beside it and switches; one
/// that finds a newer one leaves it alone.
pub(crate) const PROJECTION_VERSION: i32 = 1;

/// Pause before an outdated projection is looked at again.
const RENEW_PAUSE: Duration = Duration::from_secs(5);

/// Connections for rebuilding.
const REBUILD_CONNECTIONS: u32 = 4;

/// Connections of what must not wait behind questions: noting look-ups, and learning that a person
/// was forgotten.
const ALONE: u32 = 1;

/// Connections for questions.
const CONNECTIONS: u32 = 16;

/// Connections for folding, by partition: a page is written while the next one is read.
const FOLD_CONNECTIONS: u32 = 2;

/// Connections for questions about the past, which read whole streams.
const PAST_CONNECTIONS: u32 = 4;

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
    /// The register's keys; those that find, and the one of what stands in events, are enough.
    pub keys: InUse,
    /// The pause between two rounds of the continuous check; zero for none at all.
    pub check_pause: Duration,
    /// The proof logs' verifier keys, one a line, as the ledger publishes them; without them the
    /// check cannot tell who signed.
    pub verifier_keys_file: Option<PathBuf>,
}

/// The form of what GET /metrics answers.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn metrics(verifications: Verifications, callers: Access) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS)], verifications.metrics().await + &callers.metrics())
}

/// The names under which health is told.
const NAMES: [&str; 4] = [
    "",
    AllowanceServiceServer::<Allowances>::NAME,
    OverviewServiceServer::<Overviews>::NAME,
    VerificationServiceServer::<Verifications>::NAME,
];

fn add_services(
    routes: &mut RoutesBuilder,
    allowances: Arc<Allowances>,
    verifications: Verifications,
) {
    let overviews = Overviews(allowances.clone());
    routes
        .add_service(
            AllowanceServiceServer::from_arc(allowances)
                .max_decoding_message_size(serve::MAX_MESSAGE),
        )
        .add_service(
            OverviewServiceServer::new(overviews).max_decoding_message_size(serve::MAX_MESSAGE),
        )
        .add_service(
            VerificationServiceServer::new(verifications)
                .max_decoding_message_size(serve::MAX_MESSAGE),
        );
}

/// Starts the follower of each partition; gives their states, and whether each is followed.
async fn start_followers(
    sessions: &DatabaseSessions,
    store: &EventStore,
    appended: &Signal,
    tasks: &mut Vec<JoinHandle<()>>,
) -> anyhow::Result<(BTreeMap<i32, Arc<State>>, Vec<sync::watch::Receiver<bool>>)> {
    let partitions = store.partitions().await?;
    let connections = FOLD_CONNECTIONS * u32::try_from(partitions.len())?;
    let pool = sessions.pool(connections, SessionPurpose::Background);
    let store = EventStore::open(pool).await?;
    let (mut states, mut sound) = (BTreeMap::new(), Vec::new());
    for partition in partitions {
        let (sessions, store, signal) = (sessions.clone(), store.clone(), appended.clone());
        let (state, (is_sound, watched)) =
            (Arc::new(State::new(sessions.clone())), sync::watch::channel(false));
        states.insert(partition, state.clone());
        sound.push(watched);
        let follower = Follower { partition, sessions, store, state, signal, sound: is_sound };
        tasks.push(tokio::spawn(follower.run()));
    }
    Ok((states, sound))
}

/// Follows and serves until `stop`.
pub async fn serve(
    settings: Settings,
    clock: Clock,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = serve::bind(settings.listen, settings.access.tls()).await?;
    let options = database::service(settings.database_url.expose(), "frikort-projector")?;
    let (pause, keys_file) = (settings.check_pause, settings.verifier_keys_file);
    let verifier = Verifier::new(options.clone(), keys_file, pause, clock.clone())?;
    let sessions = DatabaseSessions::new(options);
    let pool = sessions.pool(CONNECTIONS, SessionPurpose::Calls);
    let store = EventStore::open_when_there(pool.clone(), settings.durability).await?;

    let (signal, appended) = sync::watch::channel(0);
    let mut tasks = vec![
        tokio::spawn(sessions.clone().monitor()),
        tokio::spawn(listen(sessions.clone(), signal)),
    ];
    let (states, mut sound) = start_followers(&sessions, &store, &appended, &mut tasks).await?;
    let alone = || sessions.pool(ALONE, SessionPurpose::Calls);
    let lookups = Lookups::start(settings.access.lookup_journal(), alone(), clock.clone())?;
    let register = Arc::new(Register::start(sessions.clone(), pool, alone(), settings.keys));
    sound.push(sessions.answers());
    sound.push(lookups.sound());
    // With connections of its own, so that questions never wait for it.
    let beside = sessions.pool(REBUILD_CONNECTIONS, SessionPurpose::Background);
    let beside = EventStore::open_when_there(beside, settings.durability).await?;
    tasks.push(tokio::spawn(rebuild::renew(beside)));
    let verifications = Verifications {
        verified: verifier.verified.clone(),
        states: states.clone(),
        store: store.clone(),
        clock: clock.clone(),
        started: clock.now(),
    };
    tasks.push(tokio::spawn(verifier.run(states.keys().copied().collect())));
    let allowances = Arc::new(Allowances {
        sessions: sessions.clone(),
        store,
        past: EventStore::open(sessions.pool(PAST_CONNECTIONS, SessionPurpose::Background)).await?,
        register,
        lookups: lookups.clone(),
        states,
        clock,
        watching: watch::Watching::new(&settings.access),
        listings: annual_totals::Listings::new(&settings.access),
        stop: stop.clone(),
    });
    let (mut routes, health) = serve::routes().await?;
    add_services(&mut routes, allowances, verifications.clone());
    tokio::spawn(serve::tell_health(health, NAMES.to_vec(), sound));
    tracing::info!(listen = %listener.local_addr()?, "the projector listens");
    let callers = settings.access.clone();
    let metrics = || metrics(verifications, callers);
    let (tls, limits) = (settings.access.tls().cloned(), settings.access.connections());
    let guard = Guard::new(settings.access);
    let bound = WhileReachable::new(sessions.answers(), wire::store_unavailable);
    let routes = routes.routes().into_axum_router().route("/metrics", get(metrics));
    // As one layer, the guard around the bound: each layer of a router boxes every call.
    let routes = routes.layer((guard, bound));
    serve::serve(listener, tls, limits, routes.into(), stop).await?;
    // A fold that is cut off here is rolled back, and done again from the checkpoint.
    tasks.iter().for_each(JoinHandle::abort);
    lookups.close().await;
    tracing::info!("the projector has stopped");
    Ok(())
}
