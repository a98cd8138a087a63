//! The guard before every handler: finds out who calls, looks the method up, and lets it through
//! with the caller in its extensions, or refuses before anything of the request is read.
//!
//! What must stay out: for whom a caller acts, which is in the request.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
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
use futures::future::{BoxFuture, Either, Ready, ready};
use tonic::{Extensions, Status};
use tower::{Layer, Service};

use crate::{Access, Caller, Method, Who, methods, token::Unknown};

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
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), Refused> {
        let method = methods::method(request.uri().path());
        let roles = match method.map(|method| method.who) {
            Some(Who::Everybody) => return Ok(()),
            Some(Who::Roles(roles)) => roles,
            // Whether there is such a method is nobody's business either.
            None => &[],
        };
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        let caller = match self.0.caller(certificate, request.headers()) {
            Ok(caller) => caller,
            Err(Unknown::KeyNotAmongOurs) => return Err(Refused::WithoutNewerKeys),
            Err(Unknown::Since(why)) => {
                tracing::debug!(why, "a caller is not known");
                return Err(Refused::Now(unknown()));
            }
        };
        if !roles.contains(&caller.role) {
            let role = caller.role.name();
            let message = format!("the role {role} does not open this method");
            return Err(Refused::Now(Failure::new(ErrorReason::NotAllowed, message)));
        }
        // Nothing behind the guard has a use for it, so nothing can show it.
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(method);
        Ok(())
    }

    /// The same after newer keys have been asked for.
    async fn admit_by_newer_keys<B>(&self, request: &mut Request<B>) -> Result<(), Failure> {
        self.0.renew_keys().await;
        self.admit(request).map_err(|refused| match refused {
            Refused::Now(failure) => failure,
            Refused::WithoutNewerKeys => {
                tracing::debug!("a caller is not known: the token's key is not among ours");
                unknown()
            }
        })
    }
}

/// One answer, whatever is wrong: who guesses learns nothing.
fn unknown() -> Failure {
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
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Admitted<S::Future, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.guard.admit(&mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(Refused::Now(failure)) => {
                Either::Right(Either::Left(ready(Ok(refusal(failure, &request)))))
            }
            Err(Refused::WithoutNewerKeys) => {
                let guard = self.guard.clone();
                // The one that is ready is the one to be called; the next makes itself ready.
                let next = self.inner.clone();
                let mut inner = mem::replace(&mut self.inner, next);
                Either::Right(Either::Right(Box::pin(async move {
                    match guard.admit_by_newer_keys(&mut request).await {
                        Ok(()) => inner.call(request).await,
                        Err(failure) => Ok(refusal(failure, &request)),
                    }
                })))
            }
        }
    }
}

/// What the handler answers, or a refusal, or either of them after a while.
type Admitted<F, R> = Either<F, Either<Ready<R>, BoxFuture<'static, R>>>;

/// The refusal of a request, as gRPC or, to a plain GET, as HTTP.
fn refusal(failure: Failure, request: &Request<Body>) -> Response<Body> {
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Status::from(failure).into_http();
    }
    let status = match failure.reason {
        ErrorReason::Unauthenticated => StatusCode::UNAUTHORIZED,
        _ => StatusCode::FORBIDDEN,
    };
    let mut response = Response::new(Body::from(failure.message + "\n"));
    *response.status_mut() = status;
    response
}
