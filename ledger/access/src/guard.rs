//! The guard before every handler: finds out who calls, looks the method up, and lets it through
//! with the caller in its extensions, or refuses before anything of the request is read. What a caller
//! has had is counted here.
//!
//! What must stay out: for whom a caller acts, which is in the request.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode, header::CONTENT_TYPE},
};
use frikort_process::tls::Peer;
use frikort_proto::{error::Failure, v1::ErrorReason};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use tokio::time::timeout;
use tonic::{Code, Extensions, Status};
use tower::{Layer, Service};

use crate::{
    Access, Caller, Misses, Who,
    limits::{Share, UnderWay},
    methods,
};

/// What of a call that is refused is taken all the same, and how long it may take.
const REST: usize = 16 * 1024;
const REST_TIME: Duration = Duration::from_millis(200);

/// Stands before all routes of a service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard(Access);

impl Guard {
    /// The guard of a service whose callers are known so.
    pub fn new(access: Access) -> Self {
        Self(access)
    }

    /// Lets a request through, with its caller; and gives what counts it, where calls are counted.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Option<Counted>, Failure> {
        let roles = match methods::who(request.uri().path()) {
            Some(Who::Everybody) => return Ok(None),
            Some(Who::Roles(roles)) => roles,
            // Whether there is such a method is nobody's business either.
            None => &[],
        };
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let Some(caller) = self.0.caller(peer.certificate.as_ref()) else {
            peer.refuse();
            return Err(unknown());
        };
        let counted = match self.0.share(&caller) {
            Some(share) => Some(Counted::new(&peer, &caller, &share)?),
            None => None,
        };
        if !roles.contains(&caller.role) {
            let role = caller.role.name();
            let message = format!("the role {role} does not open this method");
            return Err(Failure::new(ErrorReason::NotAllowed, message));
        }
        if let Some(counted) = &counted {
            request.extensions_mut().insert(counted.misses.clone());
        }
        request.extensions_mut().insert(caller);
        Ok(counted)
    }
}

/// A call of a caller whose calls are counted.
struct Counted {
    misses: Misses,
    under_way: UnderWay,
}

impl Counted {
    fn new(peer: &Peer, caller: &Caller, share: &Arc<Share>) -> Result<Self, Failure> {
        if !peer.is_of(&caller.name) {
            peer.refuse();
            let message =
                "the caller has as many connections as it may have; use those, or close one";
            return Err(Failure::new(ErrorReason::Overloaded, message));
        }
        let under_way = share.call(caller.role)?;
        Ok(Self { misses: Misses::of(caller, share), under_way })
    }

    /// Counts how the call ended. What a stream goes on to answer is under way with it.
    fn answer(self, response: Response<Body>) -> Response<Body> {
        let status = Status::from_header_map(response.headers());
        if status.is_some_and(|status| status.code() == Code::NotFound) {
            self.misses.count(1);
        }
        let under_way = self.under_way;
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _ = &under_way;
                frame
            }))
        })
    }
}

/// One answer, whatever is wrong: who guesses learns nothing.
fn unknown() -> Failure {
    let message = "the caller is not known: show a certificate that the server knows";
    Failure::new(ErrorReason::Unauthenticated, message)
}

/// Who calls, as the guard has let it through. Without a guard there is nobody.
pub fn caller(extensions: &Extensions) -> Result<&Arc<Caller>, Failure> {
    extensions.get().ok_or_else(unknown)
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
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Admitted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.guard.admit(&mut request) {
            Ok(None) => Admitted::Left(self.inner.call(request)),
            Ok(Some(counted)) => {
                let response = self.inner.call(request);
                Admitted::Right(Box::pin(async move { Ok(counted.answer(response.await?)) }))
            }
            Err(failure) => {
                let is_grpc = request
                    .headers()
                    .get(CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
                Admitted::Right(Box::pin(async move {
                    take_rest(request.into_body()).await;
                    Ok(refusal(failure, is_grpc))
                }))
            }
        }
    }
}

/// What the handler answers, or a refusal, or what was counted.
type Admitted<F> = futures::future::Either<F, BoxFuture<'static, <F as Future>::Output>>;

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

/// The refusal, as gRPC or, to a plain GET, as HTTP.
fn refusal(failure: Failure, is_grpc: bool) -> Response<Body> {
    let status = match failure.reason {
        ErrorReason::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorReason::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    };
    if is_grpc {
        return Status::from(failure).into_http();
    }
    let mut response = Response::new(Body::from(failure.message + "\n"));
    *response.status_mut() = status;
    response
}
