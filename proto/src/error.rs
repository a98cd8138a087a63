//! The error model: one type that becomes a `tonic::Status` with full details, or the refusal of
//! one item of a stream, and that a client reads back from a `Status`.
//!
//! Why here: servers and clients must agree on it to the letter. What must stay out: deciding
//! which reason applies. Texts in a [`Failure`] are shown to callers; nothing internal belongs
//! in them.

use std::{collections::HashMap, fmt::Display, str::FromStr, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use crate::v1::{ErrorReason, FieldFault, Refusal};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "frikort.v1";

/// How long a caller should wait before it repeats a call that can succeed later.
pub const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Why a call failed, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What a program acts on.
    pub reason: ErrorReason,
    /// One sentence for a person, without internals and without a CPR number.
    pub message: String,
    /// Bad or differing fields: path in the request, and what is wrong and allowed.
    pub fields: Vec<(String, String)>,
    /// `ErrorInfo.metadata`, as documented at each reason.
    pub metadata: HashMap<String, String>,
    /// How long to wait, where it is not [`RETRY_DELAY`].
    pub wait: Option<Duration>,
}

impl Failure {
    /// A failure without fields or metadata.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, message, fields: Vec::new(), metadata: HashMap::new(), wait: None }
    }

    /// Says how long to wait before the call is repeated.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// Adds one entry of `ErrorInfo.metadata`.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers give numbers, dates and texts alike"
    )]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// `INVALID_FIELD` naming every bad field, in the order given.
    pub fn invalid(fields: Vec<(String, String)>) -> Self {
        let names = fields.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>().join(", ");
        let message = format!("bad fields: {names}");
        Self { fields, ..Self::new(ErrorReason::InvalidField, message) }
    }

    /// The reason as it stands in `ErrorInfo.reason` and in answers files: `NOT_COVERED`.
    pub fn reason_name(&self) -> &'static str {
        reason_name(self.reason)
    }

    /// When repeating the same call can succeed: how long to wait first.
    pub fn retry_delay(&self) -> Option<Duration> {
        retriable(self.reason).then_some(self.wait.unwrap_or(RETRY_DELAY))
    }

    /// Reads a failure back from a status that a frikort service answered; `None` when the
    /// status comes from elsewhere (a proxy, the transport).
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = status.get_error_details();
        let info = details.error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))?;
        let fields = details
            .bad_request()
            .map(|bad| {
                bad.field_violations.iter().map(|v| (v.field.clone(), v.description.clone()))
            })
            .into_iter()
            .flatten()
            .collect();
        Some(Self {
            reason,
            message: status.message().to_owned(),
            fields,
            metadata: info.metadata.clone(),
            wait: details.retry_info().and_then(|info| info.retry_delay).filter(is_unusual),
        })
    }
}

fn is_unusual(wait: &Duration) -> bool {
    *wait != RETRY_DELAY
}

/// Collects the bad fields of one request, so that all of them are named at once.
#[derive(Debug, Default)]
pub struct Faults(Vec<(String, String)>);

impl Faults {
    /// Notes a bad field: its path in the request, and what is allowed.
    #[expect(clippy::needless_pass_by_value, reason = "callers give literals and texts alike")]
    pub fn note(&mut self, field: &str, allowed: impl ToString) {
        self.0.push((field.to_owned(), allowed.to_string()));
    }

    /// Reads a text field; notes it when it is empty or malformed.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, field: &str, text: &str) -> Option<T> {
        text.parse().map_err(|allowed| self.note(field, allowed)).ok()
    }

    /// Reads a text field that may be left out.
    pub fn parse_optional<T: FromStr<Err: Display>>(
        &mut self,
        field: &str,
        text: &str,
    ) -> Option<T> {
        if text.is_empty() { None } else { self.parse(field, text) }
    }

    /// Notes a message field that is missing.
    pub fn required<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.note(field, "is required");
        }
        value
    }

    /// How many faults were noted.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The parsed request, if every part was sound; otherwise `INVALID_FIELD` with all faults.
    pub fn finish<T>(self, parsed: Option<T>) -> Result<T, Failure> {
        match parsed {
            Some(parsed) if self.0.is_empty() => Ok(parsed),
            _ => Err(Failure::invalid(self.0)),
        }
    }
}

/// A reason's name without the enum's prefix.
pub fn reason_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::InvalidField => Code::InvalidArgument,
        ErrorReason::NoCard
        | ErrorReason::PaymentNotFound
        | ErrorReason::DecisionNotFound
        | ErrorReason::ForgettingNotFound => Code::NotFound,
        ErrorReason::ReferenceReused => Code::AlreadyExists,
        ErrorReason::NoActiveCard
        | ErrorReason::CardAlreadyActive
        | ErrorReason::CardNotDeactivated
        | ErrorReason::NotCovered
        | ErrorReason::SupportedWork
        | ErrorReason::LimitNotSet
        | ErrorReason::LimitExceeded
        | ErrorReason::TooManyPayments
        | ErrorReason::PaymentCancelled
        | ErrorReason::RevisionMismatch
        | ErrorReason::NotResponsible
        | ErrorReason::DecisionAlreadyReversed
        | ErrorReason::UnderAge
        | ErrorReason::PlanMismatch
        | ErrorReason::SecondCallerRequired
        | ErrorReason::ResumePositionLost
        | ErrorReason::NotSigning => Code::FailedPrecondition,
        ErrorReason::Unauthenticated => Code::Unauthenticated,
        ErrorReason::NotAllowed => Code::PermissionDenied,
        ErrorReason::Overloaded => Code::ResourceExhausted,
        ErrorReason::ProjectionBehind
        | ErrorReason::ProofBehind
        | ErrorReason::StoreUnavailable
        | ErrorReason::HistoryChanged
        | ErrorReason::ShuttingDown => Code::Unavailable,
        ErrorReason::Internal | ErrorReason::Unspecified => Code::Internal,
    }
}

fn retriable(reason: ErrorReason) -> bool {
    matches!(code(reason), Code::Unavailable | Code::ResourceExhausted)
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = code(failure.reason);
        let mut details = ErrorDetails::new();
        details.set_error_info(failure.reason_name(), DOMAIN, failure.metadata.clone());
        if !failure.fields.is_empty() {
            let violations =
                failure.fields.iter().map(|(f, d)| FieldViolation::new(f, d)).collect::<Vec<_>>();
            details.set_bad_request(violations);
        }
        if code == Code::FailedPrecondition {
            let violation = PreconditionViolation::new(failure.reason_name(), "", &failure.message);
            details.set_precondition_failure(vec![violation]);
        }
        if let Some(delay) = failure.retry_delay() {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(code, failure.message, details)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let delay = failure.retry_delay().unwrap_or_default();
        Refusal {
            reason: failure.reason.into(),
            message: failure.message,
            fields: failure
                .fields
                .into_iter()
                .map(|(field, description)| FieldFault { field, description })
                .collect(),
            metadata: failure.metadata,
            retry_delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let reason = refusal.reason();
        let fields = refusal.fields.into_iter().map(|fault| (fault.field, fault.description));
        Self {
            reason,
            message: refusal.message,
            fields: fields.collect(),
            metadata: refusal.metadata,
            wait: u64::try_from(refusal.retry_delay_ms)
                .ok()
                .filter(|delay| *delay > 0)
                .map(Duration::from_millis)
                .filter(is_unusual),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire_whole() {
        let failure = Failure::new(ErrorReason::NotCovered, "not covered")
            .with("first_uncovered_day", "2023-07-01");
        let status = Status::from(failure.clone());
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(Failure::from_status(&status), Some(failure));

        let invalid = Failure::invalid(vec![("year".into(), "from 2019 to 9999".into())]);
        assert_eq!(Failure::from_status(&Status::from(invalid.clone())), Some(invalid.clone()));
        assert_eq!(Failure::from(Refusal::from(invalid.clone())), invalid);

        let usual = Failure::new(ErrorReason::Overloaded, "too much");
        for failure in [usual.clone(), usual.after(Duration::from_millis(1500))] {
            let status = Status::from(failure.clone());
            assert_eq!(Failure::from_status(&status), Some(failure.clone()));
            assert_eq!(Failure::from(Refusal::from(failure.clone())), failure);
        }
    }

    #[test]
    fn every_unavailable_answer_says_when_to_retry() {
        // Numbers may be left out; there are none beyond.
        for reason in (1..100).filter_map(|number| ErrorReason::try_from(number).ok()) {
            let status = Status::from(Failure::new(reason, "x"));
            let delay = status.get_error_details().retry_info().and_then(|r| r.retry_delay);
            assert_eq!(delay.is_some(), retriable(reason), "{reason:?}");
        }
    }

    #[test]
    fn a_foreign_status_is_not_taken_for_ours() {
        assert_eq!(Failure::from_status(&Status::unavailable("connection refused")), None);
    }
}
