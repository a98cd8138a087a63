//! Calling the services: one channel, and calls that are repeated while that can help. A repeat
//! is safe: every write carries a reference that is recorded once.
//!
//! What must stay out: what is called, and what people are shown.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use frikort_proto::error::Failure;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::profile::Credentials;

/// How long a query is tried before the program says that nobody answers.
pub(crate) const QUERY_PATIENCE: Duration = Duration::from_secs(5);

/// How long one attempt may take; a service that hangs must not hang us.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Delays where the answer names none: doubled with each attempt.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(2);

/// The largest answer that is read: a statement of some 100 000 payments.
pub(crate) const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// A service, by its address.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// As the user named it, for messages.
    pub(crate) address: String,
    pub(crate) credentials: Credentials,
    channel: Channel,
    patience: Duration,
    /// How many calls are between two attempts now.
    repeating: Arc<AtomicUsize>,
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The service answered no; the same call will not succeed.
    Refused(Failure),
    /// Something else than our service answered no (a proxy, another program).
    Foreign(Status),
    /// What we have to say of ourselves could not be read.
    Unsaid(anyhow::Error),
    /// Repeated until patience ran out.
    GaveUp(GaveUp),
}

/// The service could not be reached, or kept saying "later". The program ends with code 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GaveUp {
    /// Nobody is there, or something in between.
    #[error(
        "{address} does not answer: {last}; is `frikort up` running, and is the address right?"
    )]
    NoAnswer {
        /// As the user named it.
        address: String,
        /// What was wrong the last time.
        last: String,
    },
    /// The service keeps saying that it cannot yet.
    #[error("{address} still answers: {last}")]
    Later {
        /// As the user named it.
        address: String,
        /// The answer, as people are told.
        last: String,
    },
}

impl Service {
    /// Connects when first called. `address` is `HOST:PORT` or a URL.
    pub(crate) fn new(
        address: &str,
        patience: Duration,
        credentials: &Credentials,
    ) -> anyhow::Result<Self> {
        let channel = credentials
            .endpoint(address)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        let repeating = Arc::default();
        let (address, credentials) = (address.to_owned(), credentials.clone());
        Ok(Self { address, credentials, channel, patience, repeating })
    }

    /// How many calls are being repeated now.
    pub(crate) fn repeating(&self) -> usize {
        self.repeating.load(Ordering::Relaxed)
    }

    /// Makes a call, and repeats it while the failure can pass.
    pub(crate) async fn call<Q, A, F>(
        &self,
        request: Q,
        attempt: impl FnMut(Channel, Request<Q>) -> F,
    ) -> Result<A, CallError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.repeat(request, Some(CALL_TIMEOUT), attempt).await
    }

    /// Opens a stream of any length, and repeats that while the failure can pass.
    pub(crate) async fn stream<Q, A, F>(
        &self,
        request: Q,
        attempt: impl FnMut(Channel, Request<Q>) -> F,
    ) -> Result<A, CallError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.repeat(request, None, attempt).await
    }

    async fn repeat<Q, A, F>(
        &self,
        request: Q,
        timeout: Option<Duration>,
        mut attempt: impl FnMut(Channel, Request<Q>) -> F,
    ) -> Result<A, CallError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + self.patience;
        let mut backoff = FIRST_DELAY;
        loop {
            let mut request = Request::new(request.clone());
            if let Some(timeout) = timeout {
                request.set_timeout(timeout);
            }
            self.credentials.said.say(request.metadata_mut()).map_err(CallError::Unsaid)?;
            let status = match attempt(self.channel.clone(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            if !can_pass(&status) {
                return Err(Failure::from_status(&status)
                    .map_or(CallError::Foreign(status), CallError::Refused));
            }
            let delay = named_delay(&status).unwrap_or(backoff);
            if Instant::now() + delay > deadline {
                let address = self.address.clone();
                return Err(CallError::GaveUp(match Failure::from_status(&status) {
                    Some(failure) => {
                        GaveUp::Later { address, last: Explained(&failure).to_string() }
                    }
                    None => GaveUp::NoAnswer { address, last: innermost(&status) },
                }));
            }
            let _repeating = Count::one_more(&self.repeating);
            tokio::time::sleep(delay).await;
            backoff = LAST_DELAY.min(backoff * 2);
        }
    }
}

/// Whether the same call can succeed later. A status that is not of our making is the
/// transport's: the connection was cut, and what became of the call is unknown.
fn can_pass(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => true,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::Aborted => {
            Failure::from_status(status).is_none()
        }
        _ => false,
    }
}

fn named_delay(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info()?.retry_delay
}

/// The innermost cause says most: "Connection refused" rather than "tcp connect error".
fn innermost(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

impl From<CallError> for anyhow::Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(failure) => anyhow::anyhow!("{}", Explained(&failure)),
            CallError::Foreign(status) => {
                anyhow::anyhow!("{}: {}", status.code(), innermost(&status))
            }
            CallError::Unsaid(error) => error,
            CallError::GaveUp(gave_up) => gave_up.into(),
        }
    }
}

/// A failure for people: the reason's name, the sentence, and each bad field on a line.
pub(crate) struct Explained<'a>(pub(crate) &'a Failure);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason_name(), self.0.message)?;
        for (field, fault) in &self.0.fields {
            write!(f, "\n  {field} {fault}")?;
        }
        Ok(())
    }
}

/// Counts one as long as it lives, also when the future that holds it is dropped.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frikort_proto::v1::ErrorReason;

    #[test]
    fn what_can_pass_is_repeated_and_what_cannot_is_not() {
        let ours = |reason| Status::from(Failure::new(reason, "x"));
        assert!(can_pass(&ours(ErrorReason::Overloaded)));
        assert!(can_pass(&ours(ErrorReason::StoreUnavailable)));
        assert!(can_pass(&Status::unknown("transport error")));
        assert!(!can_pass(&ours(ErrorReason::Internal)));
        assert!(!can_pass(&ours(ErrorReason::NotCovered)));
        assert!(!can_pass(&Status::unimplemented("not our service")));
    }

    #[test]
    fn the_answer_names_the_delay() {
        let status = Status::from(Failure::new(ErrorReason::Overloaded, "x"));
        assert_eq!(named_delay(&status), Some(frikort_proto::error::RETRY_DELAY));
        assert_eq!(named_delay(&Status::unavailable("x")), None);
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_given_up_with_code_2() {
        let service =
            Service::new("127.0.0.1:1", Duration::from_millis(200), &Credentials::default());
        let service = service.unwrap();
        let health = service
            .call(tonic_health::pb::HealthCheckRequest::default(), |channel, request| async move {
                tonic_health::pb::health_client::HealthClient::new(channel).check(request).await
            })
            .await;
        let Err(CallError::GaveUp(gave_up)) = health else { panic!("answered?") };
        assert!(gave_up.to_string().contains("Connection refused"), "{gave_up}");
    }
}
