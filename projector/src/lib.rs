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
//! ledger. Its tables can be dropped and folded again from the events.

mod as_of;
pub mod cli;
mod effect;
mod fold;
mod follow;
mod overview;
mod page;
mod past;
mod query;
mod state;
mod statement;
mod summary;
mod tables;
mod verification;
mod verify;
mod watch;
mod wire;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{http::header::CONTENT_TYPE, routing::get};

use frikort_event_store::{EventStore, listen};
use frikort_process::{clock::Clock, database, serve};
use frikort_proto::v1::{
    allowance_service_server::AllowanceServiceServer,
    overview_service_server::OverviewServiceServer,
    verification_service_server::VerificationServiceServer,
};
use frikort_register::{Keys, Register};
use tokio::sync;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;

use crate::{
    follow::Follower, overview::Overviews, query::Allowances, state::State,
    verification::Verifications, verify::Verifier,
};

/// Connections for queries and for folding.
const CONNECTIONS: u32 = 16;

/// What the service is started with.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Listen beyond loopback although callers are not authenticated.
    pub allow_remote: bool,
    /// The database.
    pub database_url: String,
    /// The register's keys; the one that finds is enough.
    pub keys: Keys,
    /// The pause between two rounds of the continuous check; zero for none at all.
    pub check_pause: Duration,
    /// The proof logs' verifier keys, one a line, as the ledger publishes them; without them the
    /// check cannot tell who signed.
    pub verifier_keys_file: Option<PathBuf>,
}

/// The form of what GET /metrics answers.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Follows and serves until `stop`.
pub async fn serve(
    settings: Settings,
    clock: Clock,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = serve::bind(settings.listen, settings.allow_remote).await?;
    let options = database::options(&settings.database_url, "frikort-projector")?;
    let (pause, keys_file) = (settings.check_pause, settings.verifier_keys_file);
    let verifier = Verifier::new(options.clone(), keys_file, pause, clock.clone())?;
    let pool = frikort_event_store::pool(options, CONNECTIONS);
    let store = EventStore::open_when_there(pool.clone()).await?;

    let (signal, appended) = sync::watch::channel(0);
    let mut tasks = vec![tokio::spawn(listen(pool.clone(), signal))];
    let mut states = BTreeMap::new();
    let mut sound = Vec::new();
    for partition in store.partitions().await? {
        let state = Arc::new(State::new());
        let (is_sound, watched) = sync::watch::channel(false);
        let follower = Follower {
            partition,
            store: store.clone(),
            state: state.clone(),
            signal: appended.clone(),
            sound: is_sound,
        };
        tasks.push(tokio::spawn(follower.run()));
        states.insert(partition, state);
        sound.push(watched);
    }
    let verifications = Verifications {
        verified: verifier.verified.clone(),
        states: states.clone(),
        store: store.clone(),
        clock: clock.clone(),
    };
    tasks.push(tokio::spawn(verifier.run(states.keys().copied().collect())));
    let register = Register::new(pool, settings.keys.find);
    let watching = watch::Watching::new();
    let stopping = stop.clone();
    let allowances =
        Arc::new(Allowances { store, register, states, clock, watching, stop: stopping });
    let (mut routes, health) = serve::routes().await?;
    let overviews = Overviews(allowances.clone());
    routes.add_service(
        AllowanceServiceServer::from_arc(allowances).max_decoding_message_size(serve::MAX_MESSAGE),
    );
    routes.add_service(
        OverviewServiceServer::new(overviews).max_decoding_message_size(serve::MAX_MESSAGE),
    );
    routes.add_service(
        VerificationServiceServer::new(verifications.clone())
            .max_decoding_message_size(serve::MAX_MESSAGE),
    );
    let names = vec![
        "",
        AllowanceServiceServer::<Allowances>::NAME,
        OverviewServiceServer::<Overviews>::NAME,
        VerificationServiceServer::<Verifications>::NAME,
    ];
    tokio::spawn(serve::tell_health(health, names, sound));
    tracing::info!(listen = %listener.local_addr()?, "the projector listens");
    let metrics = || async move { ([(CONTENT_TYPE, METRICS)], verifications.metrics().await) };
    let routes = routes.routes().into_axum_router().route("/metrics", get(metrics));
    serve::serve(listener, routes.into(), stop).await?;
    // A fold that is cut off here is rolled back, and done again from the checkpoint.
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!("the projector has stopped");
    Ok(())
}
