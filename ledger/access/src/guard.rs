//! The guard before every handler: finds out who calls, looks the method up, and lets it through
//! with the caller in its extensions, or refuses before anything of the request is read. What a caller
//! has had is counted here, and a call that goes on is judged again (`again.rs`).
//!
//! What must stay out: for whom a caller acts, which is in the request.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{
        Request, Response, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
};
use frikort_process::tls::Peer;
use frikort_proto::{error::Failure, v1::ErrorReason};
use futures::{
    StreamExt,
    future::{BoxFuture, Either},
};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Extensions, Status};
use tower::{Layer, Service};

use crate::{
    Access, Caller, Flow, Method, Misses, Who,
    again::{Judge, Judged},
    limits::{Share, UnderWay},
    methods,
    token::Unknown,
};

/// What of a call that is refused is taken all the same, and how long it may take.
const REST: usize = 16 * 1024;
const REST_TIME: Duration = Duration::from_millis(200);

/// That somebody is not there is told at a multiple of this after the call came: who is unknown, has no
/// card, or is not seen by the caller, is not told apart by time (W3).
const EVEN: Duration = Duration::from_millis(20);

/// Stands before all routes of a service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard(Access);

/// Why a request is not let through.
enum Refused {
    Now(Failure),
    /// Unless newer keys have been asked for, and its token's is among them.
    WithoutNewerKeys,
}

impl Guard {
    /// The guard of a service whose callers are known so.
    pub fn new(access: Access) -> Self {
        Self(access)
    }

    /// Lets a request through, with its caller.
    fn admit(&self, request: &mut Request<Body>) -> Result<Admitted, Refused> {
        let method = methods::method(request.uri().path());
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let roles = match method.map(|method| method.who) {
            Some(Who::Everybody) => return open(peer).map_err(Refused::Now),
            Some(Who::Roles(roles)) => roles,
            // Whether there is such a method is nobody's business either.
            None => &[],
        };
        let caller = match self.0.caller(peer.certificate.as_ref(), request.headers()) {
            Ok(caller) => caller,
            Err(Unknown::KeyNotAmongOurs) => return Err(Refused::WithoutNewerKeys),
            Err(Unknown::Since(why)) => {
                tracing::debug!(why, "a caller is not known");
                peer.refuse();
                return Err(Refused::Now(unknown()));
            }
        };
        let mut counted = match self.0.share(&caller) {
            Some(share) => Some(Counted::new(&peer, &caller, &share).map_err(Refused::Now)?),
            None => None,
        };
        if !roles.contains(&caller.role) {
            let role = caller.role.name();
            let message = format!("the role {role} does not open this method");
            return Err(Refused::Now(Failure::new(ErrorReason::NotAllowed, message)));
        }
        // Nothing behind the guard has a use for it, so nothing can show it.
        let token = request.headers_mut().remove(AUTHORIZATION);
        if let Some(counted) = &mut counted {
            request.extensions_mut().insert(counted.misses.clone());
            let judge = || Judge::new(self.0.clone(), peer.certificate, token, caller.clone());
            match method.map_or(Flow::Once, |method| method.flow) {
                Flow::Once => {}
                Flow::Told => counted.judge = Some(Box::new(judge())),
                Flow::Fed => {
                    let requests = mem::take(request.body_mut());
                    *request.body_mut() = Judged::requests(requests, judge());
                }
            }
        }
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(method);
        Ok(counted.map_or(Admitted::Believed, Admitted::Counted))
    }

    /// The same after newer keys have been asked for.
    async fn admit_by_newer_keys(&self, request: &mut Request<Body>) -> Result<Admitted, Failure> {
        self.0.renew_keys().await;
        self.admit(request).map_err(|refused| match refused {
            Refused::Now(failure) => failure,
            Refused::WithoutNewerKeys => {
                tracing::debug!("a caller is not known: the token's key is not among ours");
                request.extensions().get::<Peer>().inspect(|peer| peer.refuse());
                unknown()
            }
        })
    }
}

/// A request that was let through.
enum Admitted {
    /// Of whoever calls: nothing is counted.
    Believed,
    Counted(Counted),
    /// One that everybody may make.
    Open(Peer),
}

/// Lets through what everybody may ask, but not without end.
fn open(peer: Peer) -> Result<Admitted, Failure> {
    match peer.ask_openly() {
        Ok(()) => Ok(Admitted::Open(peer)),
        Err(wait) => {
            let message = "the connection has had as many answers as everybody may have";
            Err(Failure::new(ErrorReason::Overloaded, message).after(wait))
        }
    }
}

impl Admitted {
    /// The answer as it goes to the caller.
    async fn answer(self, response: Response<Body>) -> Response<Body> {
        match self {
            Self::Believed => response,
            Self::Counted(counted) => counted.answer(response).await,
            Self::Open(peer) => response.map(|body| paced(body, peer)),
        }
    }
}

/// Answers to questions that follow each other on one call: each counts as a call does, and those
/// beyond what is allowed wait.
fn paced(body: Body, peer: Peer) -> Body {
    let frames = BodyStream::new(body).enumerate().then(move |(number, frame)| {
        let peer = peer.clone();
        async move {
            // The call itself has been counted.
            if number > 0 && frame.as_ref().is_ok_and(Frame::is_data) {
                while let Err(wait) = peer.ask_openly() {
                    sleep(wait).await;
                }
            }
            frame
        }
    });
    Body::new(StreamBody::new(frames))
}

/// A call of a caller whose calls are counted.
struct Counted {
    begun: Instant,
    misses: Misses,
    under_way: UnderWay,
    /// Where its answers go on; boxed, since most calls have none.
    judge: Option<Box<Judge>>,
}

impl Counted {
    fn new(peer: &Peer, caller: &Caller, share: &Arc<Share>) -> Result<Self, Failure> {
        if !peer.is_of(&caller.name) {
            peer.refuse();
            let message =
                "the caller has as many connections as it may have; use those, or close one";
            return Err(Failure::new(ErrorReason::Overloaded, message));
        }
        let under_way = share.call().inspect_err(|_| peer.pause())?;
        let misses = Misses::of(caller.role, share);
        misses.allowed()?;
        Ok(Self { begun: Instant::now(), misses, under_way, judge: None })
    }

    /// Counts how the call ended. What a stream goes on to answer is under way with it.
    async fn answer(self, response: Response<Body>) -> Response<Body> {
        let status = Status::from_header_map(response.headers());
        if status.is_some_and(|status| status.code() == Code::NotFound) {
            self.misses.count(1);
            let times = self.begun.elapsed().as_millis() / EVEN.as_millis() + 1;
            sleep_until(self.begun + EVEN * u32::try_from(times).unwrap_or(u32::MAX)).await;
        }
        let Self { under_way, judge, .. } = self;
        response.map(|body| {
            let body = Body::new(body.map_frame(move |frame| {
                let _ = &under_way;
                frame
            }));
            match judge {
                Some(judge) => Judged::answers(body, *judge),
                None => body,
            }
        })
    }
}

/// One answer, whatever is wrong: who guesses learns nothing.
pub(crate) fn unknown() -> Failure {
    let message = "the caller is not known: show a certificate or token that the server knows";
    Failure::new(ErrorReason::Unauthenticated, message)
}

/// Who calls, as the guard has let it through. Without a guard there is nobody.
pub fn caller(extensions: &Extensions) -> Result<&Arc<Caller>, Failure> {
    extensions.get().ok_or_else(unknown)
}

/// The method that is called, as the table names it.
pub(crate) fn method(extensions: &Extensions) -> Result<&'static str, Failure> {
    let method = extensions.get::<Option<&'static Method>>().copied().flatten();
    Ok(method.ok_or_else(unknown)?.name())
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.clone() }
    }
}

/// A service behind the guard.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.guard.admit(&mut request) {
            Ok(Admitted::Believed) => Either::Left(self.inner.call(request)),
            Ok(admitted) => {
                let response = self.inner.call(request);
                Either::Right(Box::pin(async move { Ok(admitted.answer(response.await?).await) }))
            }
            Err(Refused::Now(failure)) => {
                Either::Right(Box::pin(async move { Ok(refuse(failure, request).await) }))
            }
            Err(Refused::WithoutNewerKeys) => {
                let guard = self.guard.clone();
                // The one that is ready is the one to be called; the next makes itself ready.
                let next = self.inner.clone();
                let mut inner = mem::replace(&mut self.inner, next);
                Either::Right(Box::pin(async move {
                    match guard.admit_by_newer_keys(&mut request).await {
                        Ok(admitted) => Ok(admitted.answer(inner.call(request).await?).await),
                        Err(failure) => Ok(refuse(failure, request).await),
                    }
                }))
            }
        }
    }
}

/// Refuses a call.
async fn refuse(failure: Failure, request: Request<Body>) -> Response<Body> {
    let refusal = refusal(failure, &request);
    take_rest(request.into_body()).await;
    refusal
}

/// Takes the little that follows a call's headers, and forgets it. HTTP/2 would count what comes
/// after a refusal as a fault, and after some of those end the connection, with all calls on it.
async fn take_rest(mut body: Body) {
    let rest = async {
        let mut taken = 0;
        while taken < REST
            && let Some(Ok(frame)) = body.frame().await
        {
            taken += frame.data_ref().map_or(1, |data| data.len().max(1));
        }
    };
    let _ = timeout(REST_TIME, rest).await;
}

/// The refusal of a request, as gRPC or, to a plain GET, as HTTP.
fn refusal(failure: Failure, request: &Request<Body>) -> Response<Body> {
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Status::from(failure).into_http();
    }
    let status = match failure.reason {
        ErrorReason::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorReason::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    };
    let mut response = Response::new(Body::from(failure.message + "\n"));
    *response.status_mut() = status;
    response
}
