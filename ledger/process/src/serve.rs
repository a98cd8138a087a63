//! Serving gRPC: health, reflection, limits, and a bounded stop, the same for every service.

use std::{
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail};
use frikort_proto::error::Failure;
use futures::future::select_all;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    codegen::{BoxFuture, Service, http},
    service::{Routes, RoutesBuilder},
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Layer;

use crate::stop::DRAIN;

/// The largest message that is read, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// Calls that one connection may have under way.
const CALLS_PER_CONNECTION: usize = 4096;

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

/// Binds the address that a service listens on. Callers are not authenticated yet, so anything
/// but loopback must be asked for.
pub async fn bind(listen: SocketAddr, allow_remote: bool) -> anyhow::Result<TcpListener> {
    if !listen.ip().is_loopback() && !allow_remote {
        bail!(
            "{listen} is not a loopback address, and callers are not authenticated; \
             --allow-remote-without-authentication if a proxy in front does that"
        );
    }
    TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))
}

/// Serves until `stop`, then finishes what is under way, within [`DRAIN`].
pub async fn serve(
    listener: TcpListener,
    routes: RoutesBuilder,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stopping = stop.clone();
    let server = Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
        .max_concurrent_streams(u32::try_from(CALLS_PER_CONNECTION).ok())
        .initial_stream_window_size(512 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .layer(UnreadableLayer)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming, async move { stopping.cancelled().await });
    tokio::select! {
        served = server => served.context("the server failed"),
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("calls were still under way at the end of the drain time");
            Ok(())
        }
    }
}

/// Tells health: serving while every one of `sound` is true, overall and under each name.
pub async fn tell_health(
    health: HealthReporter,
    names: Vec<&'static str>,
    mut sound: Vec<watch::Receiver<bool>>,
) {
    loop {
        let all = sound.iter_mut().all(|is_sound| *is_sound.borrow_and_update());
        let status = if all { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
        for name in &names {
            health.set_service_status(name, status).await;
        }
        let changes = sound.iter_mut().map(|is_sound| Box::pin(is_sound.changed()));
        if select_all(changes).await.0.is_err() {
            return;
        }
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

/// Puts what [`unreadable`] says in the place of tonic's own answer.
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
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await?;
            let status = Status::from_header_map(response.headers());
            match status.as_ref().and_then(unreadable) {
                Some(failure) => Ok(Status::from(failure).into_http()),
                None => Ok(response),
            }
        })
    }
}
