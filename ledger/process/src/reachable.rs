//! Calls end when the database is known not to answer: no caller waits for its own deadline.
//!
//! Not here: finding out whether the database answers.

use std::{
    future::pending,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use frikort_proto::error::Failure;
use tokio::{sync::watch, time::sleep};
use tonic::{
    Status,
    codegen::{BoxFuture, Service, http},
};
use tower::Layer;

/// How long a call may still take when the database is unreachable: most end with an error of their
/// own, which says more.
const GRACE: Duration = Duration::from_millis(250);

/// What the paths of our methods begin with. Health and reflection are answered without the database.
const OUR_METHODS: &str = "/frikort.v1.";

/// Ends calls while the database is unreachable.
#[derive(Clone, Debug)]
pub struct WhileReachable {
    answers: watch::Receiver<bool>,
    failure: fn() -> Failure,
}

impl WhileReachable {
    /// `answers` says whether the database answers; `failure` is what callers get while it does not.
    pub fn new(answers: watch::Receiver<bool>, failure: fn() -> Failure) -> Self {
        Self { answers, failure }
    }
}

impl<S> Layer<S> for WhileReachable {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, bound: Arc::new(self.clone()) }
    }
}

/// A service whose calls end while the database is unreachable.
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    bound: Arc<WhileReachable>,
}

impl<S, B, R> Service<http::Request<B>> for Bounded<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let is_ours = request.uri().path().starts_with(OUR_METHODS);
        let response = self.inner.call(request);
        let bound = self.bound.clone();
        Box::pin(async move {
            if !is_ours {
                return response.await;
            }
            // Not before a call waits for something: most do not.
            let unreachable = async {
                let mut answers = bound.answers.clone();
                if answers.wait_for(|answers| !answers).await.is_err() {
                    // The process stops, and answers whoever waits.
                    pending::<()>().await;
                }
                sleep(GRACE).await;
            };
            tokio::select! {
                biased;
                response = response => response,
                () = unreachable => Ok(Status::from((bound.failure)()).into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use frikort_proto::v1::ErrorReason;
    use tokio::time::timeout;
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn failure() -> Failure {
        Failure::new(ErrorReason::StoreUnavailable, "away")
    }

    /// The status of a call of `path` whose answer never comes.
    async fn status(answers: watch::Receiver<bool>, path: &str) -> Option<String> {
        let never = service_fn(|_: http::Request<()>| async {
            pending::<Result<http::Response<()>, Infallible>>().await
        });
        let bounded = WhileReachable::new(answers, failure).layer(never);
        let request = http::Request::builder().uri(path).body(()).unwrap();
        let response = timeout(2 * GRACE, bounded.oneshot(request)).await.ok()?.unwrap();
        Some(response.headers()["grpc-status"].to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_call_ends_when_the_database_stops_answering_and_not_before() {
        let (reports, answers) = watch::channel(true);
        let path = "/frikort.v1.PaymentService/ReportPayment";
        assert_eq!(status(answers.clone(), path).await, None);
        let call = tokio::spawn(async move { status(answers, path).await });
        tokio::task::yield_now().await;
        reports.send_replace(false);
        assert_eq!(call.await.unwrap().as_deref(), Some("14"));
    }

    #[tokio::test]
    async fn health_is_answered_whatever_the_database_does() {
        let (_reports, answers) = watch::channel(false);
        assert_eq!(status(answers, "/grpc.health.v1.Health/Check").await, None);
    }
}
