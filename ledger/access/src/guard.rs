//! The guard before every handler: finds out who calls, looks the method up, and lets it through
//! with the caller in its extensions, or refuses before anything of the request is read.
//!
//! What must stay out: for whom a caller acts, which is in the request.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode, header::CONTENT_TYPE},
};
use frikort_process::tls::Peer;
use frikort_proto::{error::Failure, v1::ErrorReason};
use tonic::{Extensions, Status};
use tower::{Layer, Service};

use crate::{Access, Caller, Method, Who, methods};

/// Stands before all routes of a service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard(Access);

impl Guard {
    /// The guard of a service whose callers are known so.
    pub fn new(access: Access) -> Self {
        Self(access)
    }

    /// Lets a request through, with its caller.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), Failure> {
        let method = methods::method(request.uri().path());
        let roles = match method.map(|method| method.who) {
            Some(Who::Everybody) => return Ok(()),
            Some(Who::Roles(roles)) => roles,
            // Whether there is such a method is nobody's business either.
            None => &[],
        };
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        let caller = self.0.caller(certificate).ok_or_else(unknown)?;
        if !roles.contains(&caller.role) {
            let role = caller.role.name();
            let message = format!("the role {role} does not open this method");
            return Err(Failure::new(ErrorReason::NotAllowed, message));
        }
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(method);
        Ok(())
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
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Admitted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.guard.admit(&mut request) {
            Ok(()) => Admitted::Left(self.inner.call(request)),
            Err(failure) => {
                let is_grpc = request
                    .headers()
                    .get(CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
                Admitted::Right(std::future::ready(Ok(refusal(failure, is_grpc))))
            }
        }
    }
}

/// What the handler answers, or a refusal.
type Admitted<F> = futures::future::Either<F, std::future::Ready<<F as Future>::Output>>;

/// The refusal, as gRPC or, to a plain GET, as HTTP.
fn refusal(failure: Failure, is_grpc: bool) -> Response<Body> {
    let status = match failure.reason {
        ErrorReason::Unauthenticated => StatusCode::UNAUTHORIZED,
        _ => StatusCode::FORBIDDEN,
    };
    if is_grpc {
        return Status::from(failure).into_http();
    }
    let mut response = Response::new(Body::from(failure.message + "\n"));
    *response.status_mut() = status;
    response
}
