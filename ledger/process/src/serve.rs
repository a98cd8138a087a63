//! Serving gRPC: health, reflection, limits, and a bounded stop, the same for every service.

use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use frikort_proto::error::Failure;
use futures::{
    StreamExt,
    future::{ready, select_all},
    stream,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    codegen::{BoxFuture, Service, http},
    metadata::MetadataMap,
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Layer;

pub use crate::door::Limits;
use crate::{
    connection::Connection,
    door::{Door, Place, STRANGERS},
    lane::Lane,
    stop::DRAIN,
    tls::{Peer, Tls},
};

/// The largest message that is read, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// Calls that one connection may have under way; and one without TLS, whose caller is believed. When
/// the connection ends, all of them end at once, and who shares the lane waits for that.
const CALLS_PER_CONNECTION: usize = 256;
const CALLS_PER_BELIEVED: usize = 4096;

/// The longest wait of a call that waits for something, and that of a caller without a deadline.
const WAIT: Duration = Duration::from_secs(5);

/// Connections that may wait for a lane.
const ACCEPTED: usize = 64;

/// A lane begins to agree on one connection in this time: a flood of new ones leaves time for calls.
const HANDSHAKE_PACE: Duration = Duration::from_millis(1);

/// The headers of one request, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;

/// Streams of one connection that were reset before they were looked at, and that were reset for
/// the caller's errors: whoever has more is cut off.
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 1024;

/// Open files that are not connections: the database, the log, keys.
const OTHER_FILES: u64 = 256;

/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Routes with health and reflection in place, and the handle that says what is serving.
pub async fn routes() -> anyhow::Result<(RoutesBuilder, HealthReporter)> {
    let (reporter, health) = tonic_health::server::health_reporter();
    // Nothing serves until it says so.
    reporter.set_service_status("", ServingStatus::NotServing).await;
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(frikort_proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::builder();
    routes.add_service(health);
    routes.add_service(builder().build_v1()?);
    routes.add_service(builder().build_v1alpha()?);
    Ok((routes, reporter))
}

/// Binds the address that a service listens on. Without TLS, whoever calls is believed, so that is
/// for callers on this machine alone.
pub async fn bind(listen: SocketAddr, tls: Option<&Tls>) -> anyhow::Result<TcpListener> {
    if tls.is_none() && !listen.ip().is_loopback() {
        bail!("{listen} is not a loopback address: --insecure-on-loopback is for those alone");
    }
    TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))
}

/// Serves until `stop`, then finishes what is under way, within [`DRAIN`]. Connections are dealt
/// out in turn to as many lanes as there are processors, and stay there. HTTP/1.1 is served too, for
/// what is read with plain GET.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
    routes: Routes,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let door = Door::new(within_open_files(limits));
    // Without TLS whoever calls is believed.
    let is_known = tls.is_none();
    let lanes = thread::available_parallelism().map_or(1, usize::from);
    let mut feeds = Vec::with_capacity(lanes);
    let mut serving = JoinSet::new();
    for number in 0..lanes {
        let (feed, connections) = mpsc::channel(ACCEPTED);
        let (tls, routes, stop) = (tls.clone(), routes.clone(), stop.clone());
        serving.spawn(Lane::start(number, move || serve_lane(connections, tls, routes, stop))?);
        feeds.push(feed);
    }
    let ended = async {
        while let Some(served) = serving.join_next().await {
            served?.context("a lane failed")?.context("the server failed")?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        served = ended => served,
        never = accept(listener, door, is_known, feeds, &stop) => match never {},
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("calls were still under way at the end of the drain time");
            Ok(())
        }
    }
}

/// As many open files as the process may have, and not more connections than that leaves room for:
/// who has none left for the database stands still.
fn within_open_files(limits: Limits) -> Limits {
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: files.maximum, maximum: files.maximum };
    let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
    let Some(files) = (if is_raised { files.maximum } else { files.current }) else {
        return limits;
    };
    let room = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX).max(8);
    if room < limits.connections {
        tracing::warn!(files, connections = room, "fewer connections: too few files may be open");
    }
    Limits { connections: limits.connections.min(room), ..limits }
}

/// A connection, and its place.
type Accepted = (std::net::TcpStream, Arc<Place>);

/// Accepts connections until `stop`, and then never ends.
async fn accept(
    listener: TcpListener,
    door: Door,
    is_known: bool,
    feeds: Vec<mpsc::Sender<Accepted>>,
    stop: &CancellationToken,
) -> Infallible {
    let accepting = async move {
        for feed in feeds.iter().cycle() {
            // A lane that has ended ends the others too.
            let _ = feed.send(accepted(&listener, &door, is_known).await).await;
        }
    };
    stop.run_until_cancelled(accepting).await;
    std::future::pending().await
}

/// The next connection that finds a place, free of this thread's scheduler.
async fn accepted(listener: &TcpListener, door: &Door, is_known: bool) -> Accepted {
    loop {
        let connection = listener.accept().await.and_then(|(connection, from)| {
            let Some(place) = door.enter(from.ip(), is_known) else {
                return Ok(None);
            };
            connection.set_nodelay(true)?;
            Ok(Some((connection.into_std()?, place)))
        });
        match connection {
            Ok(Some(accepted)) => return accepted,
            // No place: closed at once.
            Ok(None) => {}
            // The caller has gone already, or there are too many open files; the latter passes
            // only with time.
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "a connection is lost");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_lane(
    connections: mpsc::Receiver<Accepted>,
    tls: Option<Tls>,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let is_known = tls.is_none();
    let mut pace = interval(HANDSHAKE_PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let paced = stream::unfold((connections, pace), async |(mut connections, mut pace)| {
        loop {
            let (io, place) = connections.recv().await?;
            if !place.has_to_go() {
                pace.tick().await;
                return Some(((io, place), (connections, pace)));
            }
        }
    });
    // Callers who are slow to agree on a connection keep nobody else waiting.
    let incoming = paced
        .map(move |accepted| Connection::accept(accepted, tls.clone()))
        .buffer_unordered(STRANGERS)
        .filter_map(|agreed| ready(agreed.inspect_err(tell_lost).ok()))
        .map(Ok::<_, Infallible>);
    let calls = if is_known { CALLS_PER_BELIEVED } else { CALLS_PER_CONNECTION };
    // Slow headers over HTTP/1.1 have the 30 seconds of hyper, and of a stranger what the door
    // gives.
    Server::builder()
        .accept_http1(true)
        .concurrency_limit_per_connection(calls)
        .max_concurrent_streams(u32::try_from(calls).ok())
        .initial_stream_window_size(512 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .layer(UnreadableLayer)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

/// One caller with whom no connection came about; the others go on.
fn tell_lost(error: &std::io::Error) {
    tracing::debug!(error = error as &dyn Error, "no connection was agreed on");
}

/// Until when this caller waits: nine tenths of its deadline, so that it gets our answer and not
/// its own time-out. gRPC over HTTP/2: `grpc-timeout: <digits><unit>`.
pub fn deadline(metadata: &MetadataMap) -> Instant {
    let given = metadata.get("grpc-timeout").and_then(|value| {
        let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
        let amount: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(amount.saturating_mul(3600)),
            "M" => Duration::from_secs(amount.saturating_mul(60)),
            "S" => Duration::from_secs(amount),
            "m" => Duration::from_millis(amount),
            "u" => Duration::from_micros(amount),
            "n" => Duration::from_nanos(amount),
            _ => return None,
        })
    });
    Instant::now() + given.map_or(WAIT, |given| (given / 10 * 9).min(WAIT))
}

/// Tells health: serving while every one of `sound` is true, under each name; the empty one is the
/// process over all. Ends, not serving, with the first of them that ends.
pub async fn tell_health(
    health: HealthReporter,
    names: Vec<&'static str>,
    mut sound: Vec<watch::Receiver<bool>>,
) {
    let mut ended = false;
    loop {
        let all = !ended && sound.iter_mut().all(|is_sound| *is_sound.borrow_and_update());
        let status = if all { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in &names {
            health.set_service_status(name, status).await;
        }
        if ended {
            return;
        }
        let changes = sound.iter_mut().map(|is_sound| Box::pin(is_sound.changed()));
        ended = select_all(changes).await.0.is_err();
    }
}

/// The refusal, in our error model, of a message that tonic could not read: it answers one above
/// [`MAX_MESSAGE`] with OUT_OF_RANGE, and bytes that are no such message, or text that is no
/// UTF-8, with INTERNAL, both without details. No status of ours looks like that, so `None` means
/// that the status is another one.
pub fn unreadable(status: &Status) -> Option<Failure> {
    let allowed = match status.code() {
        Code::OutOfRange => format!("at most {MAX_MESSAGE} bytes"),
        Code::Internal => "must be a message of this method, with text in UTF-8".to_owned(),
        _ => return None,
    };
    let failure = Failure::invalid(vec![("(message)".to_owned(), allowed)]);
    status.details().is_empty().then_some(failure)
}

/// Says in the log what a caller is told that is refused, for whoever helps it; it names fields, and no
/// persons (W5).
pub fn tell_refused(failure: &Failure) {
    let (reason, message) = (failure.reason_name(), &failure.message);
    let (fields, metadata) = (&failure.fields, &failure.metadata);
    tracing::debug!(reason, message, ?fields, ?metadata, "refused");
}

/// The same of a call; its status may be one that is not ours.
fn tell_refused_call(status: &Status) {
    if status.code() == Code::Ok || !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    match Failure::from_status(status) {
        Some(failure) => tell_refused(&failure),
        None => tracing::debug!(code = ?status.code(), message = status.message(), "refused"),
    }
}

/// Puts what [`unreadable`] says in the place of tonic's own answer, and says in the log what is refused;
/// and tells the connection that a request has come.
#[derive(Clone, Copy, Debug)]
struct UnreadableLayer;

#[derive(Clone, Debug)]
struct Unreadable<S>(S);

impl<S> Layer<S> for UnreadableLayer {
    type Service = Unreadable<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Unreadable(inner)
    }
}

impl<S, Q, B> Service<http::Request<Q>> for Unreadable<S>
where
    S: Service<http::Request<Q>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        request.extensions().get::<Peer>().into_iter().for_each(Peer::ask);
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await?;
            let status = Status::from_header_map(response.headers());
            let Some(status) = status else { return Ok(response) };
            let unreadable = unreadable(&status).map(Status::from);
            tell_refused_call(unreadable.as_ref().unwrap_or(&status));
            Ok(unreadable.map_or(response, Status::into_http))
        })
    }
}
