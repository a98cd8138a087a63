//! Every answer that the clients were given, in the order in which they came.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use frikort_proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{site::Epoch, streams::Watched};

/// What an answer claims.
#[derive(Clone, Debug)]
pub enum Claim {
    /// A payment is recorded.
    Reported(Box<(v1::ReportPaymentRequest, v1::ReportPaymentResponse)>),
    /// A payment is corrected.
    Corrected(Box<(v1::CorrectPaymentRequest, v1::CorrectPaymentResponse)>),
    /// A payment is cancelled.
    Cancelled(Box<(v1::CancelPaymentRequest, v1::CancelPaymentResponse)>),
    /// A decision is recorded: its reference, the type of its event, the person, the place.
    Decided {
        /// The municipality's reference.
        reference: String,
        /// The event's type.
        kind: &'static str,
        /// The person's id.
        person_id: String,
        /// Where.
        place: v1::LedgerPosition,
    },
    /// A limit is recorded in every partition.
    LimitSet(v1::SetAnnualLimitResponse),
    /// One person's allowance.
    Allowance(Box<v1::GetAllowanceResponse>),
    /// Several persons' allowances.
    Allowances(Box<v1::BatchGetAllowancesResponse>),
    /// One person's payments.
    Statement(Box<v1::GetStatementResponse>),
    /// A page of payments of an employer.
    Listed(Box<(v1::ListPaymentsRequest, v1::ListPaymentsResponse)>),
    /// A signed checkpoint.
    Checkpoint(v1::GetCheckpointResponse),
    /// What a stream was told from its beginning to its end.
    Watched(Box<Watched>),
    /// Nothing: a refusal, or no answer at all.
    Refused {
        /// The reason's name without its prefix, or the gRPC status where none was given.
        reason: String,
        /// The status's text.
        message: String,
    },
}

/// When something is asked for.
#[derive(Clone, Copy, Debug)]
pub struct RequestTime {
    epoch: usize,
    at: Instant,
}

/// An answer, and when it was given.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The epoch in which it was asked for.
    pub asked: usize,
    /// The epoch in which it came.
    pub answered: usize,
    /// When it was asked for.
    pub asked_at: Instant,
    /// How long it took.
    pub took: Duration,
    /// The service that gave it: `ledger 0`, `projector 1`.
    pub service: String,
    /// The method's name.
    pub method: &'static str,
    /// What it claims.
    pub claim: Claim,
}

/// All answers so far.
#[derive(Debug, Default)]
pub struct Journal {
    answers: Mutex<Vec<Answer>>,
    epoch: Epoch,
}

impl Journal {
    /// An empty one, which counts epochs as `epoch` does.
    pub fn new(epoch: Epoch) -> Self {
        Self { answers: Mutex::default(), epoch }
    }

    /// The present epoch.
    pub fn epoch(&self) -> usize {
        self.epoch.now()
    }

    /// Something is asked for now.
    pub fn ask(&self) -> RequestTime {
        RequestTime { epoch: self.epoch(), at: Instant::now() }
    }

    /// Adds one that has come now.
    pub fn add(&self, asked: RequestTime, service: &str, method: &'static str, claim: Claim) {
        let answer = Answer {
            asked: asked.epoch,
            answered: self.epoch(),
            asked_at: asked.at,
            took: asked.at.elapsed(),
            service: service.to_owned(),
            method,
            claim,
        };
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }

    /// Those so far.
    pub fn all(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many there are so far for which `is_counted` holds.
    pub fn count(&self, is_counted: impl Fn(&Answer) -> bool) -> usize {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().filter(|answer| is_counted(answer)).count()
    }
}

impl Answer {
    /// Whether it was asked for and came in this epoch.
    pub fn is_within(&self, epoch: usize) -> bool {
        self.asked == epoch && self.answered == epoch
    }

    /// Whether it is the refusal with this reason.
    pub fn is_refused_with(&self, wanted: &str) -> bool {
        matches!(&self.claim, Claim::Refused { reason, .. } if reason == wanted)
    }

    /// Whether it is more than a refusal.
    pub fn is_claim(&self) -> bool {
        !matches!(self.claim, Claim::Refused { .. })
    }
}

/// The name of a refusal's reason without its prefix; that of the gRPC status in brackets where no
/// reason was given.
pub fn reason_of(status: &Status) -> String {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => info.reason.clone(),
        None => format!("({:?})", status.code()),
    }
}

/// A refusal as a claim.
pub(super) fn refused(status: &Status) -> Claim {
    let message = status.message().to_owned();
    Claim::Refused { reason: reason_of(status), message }
}

/// A call that was given up.
pub(super) fn silence() -> Status {
    Status::new(Code::DeadlineExceeded, "no answer in time")
}
