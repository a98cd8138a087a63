//! A call that goes on is judged again and again, as if it came now: meanwhile its certificate or token
//! may have run out, or the directory have changed. Whom it would be refused to, it ends for.
//!
//! ```text
//!   answers to one request ──▶ end with the refusal, whatever waits
//!   requests on a stream   ──▶ break off with the refusal; what came before is answered, then it
//! ```
//!
//! What must stay out: a call that was sent whole and is answered once. It was judged when it came.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, HeaderValue, header::AUTHORIZATION},
};
use frikort_process::tls::Shown;
use frikort_proto::{error::Failure, v1::ErrorReason};
use hyper::body::Frame;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use crate::{Access, Caller, guard::unknown};

/// How often a call is judged.
const AGAIN: Duration = Duration::from_millis(500);

/// Judges one call.
pub(crate) struct Judge {
    access: Access,
    certificate: Option<Arc<Shown>>,
    /// The token that was shown. It is kept as long as the call goes on, since it may be judged by
    /// other keys then.
    shown: HeaderMap,
    /// Who called.
    caller: Arc<Caller>,
    next: Pin<Box<Sleep>>,
}

impl Judge {
    /// Of a call that was let through now, with what was shown.
    pub(crate) fn new(
        access: Access,
        certificate: Option<Arc<Shown>>,
        token: Option<HeaderValue>,
        caller: Arc<Caller>,
    ) -> Self {
        let shown = token.into_iter().map(|mut token| {
            token.set_sensitive(true);
            (AUTHORIZATION, token)
        });
        let (shown, next) = (shown.collect(), Box::pin(sleep(AGAIN)));
        Self { access, certificate, shown, caller, next }
    }

    /// Ready when the call has to end, with what it is told: what it would be told if it came now.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            ready!(self.next.as_mut().poll(cx));
            let failure = match self.access.caller(self.certificate.as_ref(), &self.shown) {
                Ok(caller) if caller == self.caller => {
                    self.next.as_mut().reset(Instant::now() + AGAIN);
                    continue;
                }
                Ok(_) => {
                    let message = "the caller's role or scope has changed since the call began";
                    Failure::new(ErrorReason::NotAllowed, message)
                }
                Err(_) => unknown(),
            };
            let (caller, why) = (&self.caller.name, &failure.message);
            tracing::info!(caller, why, "a call that went on is ended");
            return Poll::Ready(failure);
        }
    }
}

/// Requests or answers of a call, for as long as it may go on.
pub(crate) struct Judged {
    body: Body,
    /// `None` when it has ended.
    judge: Option<Judge>,
    /// How the refusal stands in it.
    last: fn(Status) -> Result<Frame<Bytes>, axum::Error>,
}

impl Judged {
    /// Requests: their reader takes the refusal for what broke them off.
    pub(crate) fn requests(body: Body, judge: Judge) -> Body {
        let last = |status| Err(axum::Error::new(status));
        Body::new(Self { body, judge: Some(judge), last })
    }

    /// Answers: the refusal is the last of them.
    pub(crate) fn answers(body: Body, judge: Judge) -> Body {
        let last = |status: Status| {
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers).map_err(axum::Error::new)?;
            Ok(Frame::trailers(trailers))
        };
        Body::new(Self { body, judge: Some(judge), last })
    }
}

impl HttpBody for Judged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(judge) = &mut self.judge else { return Poll::Ready(None) };
        if let Poll::Ready(failure) = judge.poll(cx) {
            self.judge = None;
            // Whoever feeds it learns that nobody takes any more.
            self.body = Body::empty();
            return Poll::Ready(Some((self.last)(failure.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}
