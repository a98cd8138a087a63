//! From what the rules and the sequencer refuse to what a caller sees: one exhaustive match each.

use std::time::Duration;

use frikort_domain::{Rejection, format_date};
use frikort_proto::{error::Failure, v1::ErrorReason};

use crate::sequencer::Refused;

/// How long to wait for an operator's decision before a call is repeated.
const HISTORY_RETRY_DELAY: Duration = Duration::from_secs(60);

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Rejected(rejection) => rejected(rejection),
            Refused::NumberTaken => {
                let taken = "is another person's in the register".to_owned();
                Failure::invalid(vec![("new_cpr_number".to_owned(), taken)])
            }
            Refused::Overloaded => {
                Failure::new(ErrorReason::Overloaded, "too many requests are waiting; repeat")
            }
            Refused::StoreUnavailable => store_unavailable(),
            Refused::ClockOff => Failure::new(
                ErrorReason::StoreUnavailable,
                "the server's clock is not right, so nothing is recorded; repeat the call later",
            ),
            Refused::HistoryChanged => Failure::new(
                ErrorReason::HistoryChanged,
                "recorded payments are missing from the database; nothing is recorded until an \
                 operator has decided; repeat the call later",
            )
            .after(HISTORY_RETRY_DELAY),
            Refused::ShuttingDown => {
                Failure::new(ErrorReason::ShuttingDown, "the server is stopping; repeat")
            }
            Refused::Internal => internal(),
        }
    }
}

/// The database is away.
pub(crate) fn store_unavailable() -> Failure {
    Failure::new(
        ErrorReason::StoreUnavailable,
        "the database cannot be reached; repeat the call, a reference is recorded once",
    )
}

/// A fault of ours; what it is stands in the log.
pub(crate) fn internal() -> Failure {
    Failure::new(ErrorReason::Internal, "a fault of the server; its log has the cause")
}

fn rejected(rejection: Rejection) -> Failure {
    let message = rejection.to_string();
    let failure = |reason| Failure::new(reason, message.clone());
    match rejection {
        Rejection::SupportedWork => failure(ErrorReason::SupportedWork),
        Rejection::NoCard => failure(ErrorReason::NoCard),
        Rejection::NotCovered { first_uncovered_day, split_at } => {
            let failure = failure(ErrorReason::NotCovered)
                .with("first_uncovered_day", format_date(first_uncovered_day));
            match split_at {
                Some(day) => failure.with("split_at", format_date(day)),
                None => failure,
            }
        }
        Rejection::LimitNotSet { year } => failure(ErrorReason::LimitNotSet).with("year", year),
        Rejection::TooManyPayments { year, payments_per_year } => {
            failure(ErrorReason::TooManyPayments)
                .with("year", year)
                .with("payments_per_year", payments_per_year)
        }
        Rejection::LimitExceeded { exempt, taxable } => failure(ErrorReason::LimitExceeded)
            .with("exempt_oere", exempt.oere())
            .with("taxable_oere", taxable.oere()),
        Rejection::TotalTooLarge => {
            Failure::invalid(vec![("facts.amount_oere".to_owned(), message)])
        }
        Rejection::ReferenceReused { fields } => {
            let differs = |field: &str| (field.to_owned(), "differs from what is on record".into());
            Failure {
                fields: fields.into_iter().map(differs).collect(),
                ..failure(ErrorReason::ReferenceReused)
            }
        }
        Rejection::PaymentNotFound => failure(ErrorReason::PaymentNotFound),
        Rejection::PaymentCancelled => failure(ErrorReason::PaymentCancelled),
        Rejection::RevisionMismatch { revision } => {
            failure(ErrorReason::RevisionMismatch).with("revision", revision)
        }
        Rejection::CardAlreadyActive { effective_from } => {
            let failure = failure(ErrorReason::CardAlreadyActive);
            match effective_from {
                Some(day) => failure.with("effective_from", format_date(day)),
                None => failure,
            }
        }
        Rejection::NoActiveCard => failure(ErrorReason::NoActiveCard),
        Rejection::CardNotDeactivated { effective_from } => {
            failure(ErrorReason::CardNotDeactivated)
                .with("effective_from", format_date(effective_from))
        }
        Rejection::DecisionNotFound => failure(ErrorReason::DecisionNotFound),
        Rejection::DecisionAlreadyReversed => failure(ErrorReason::DecisionAlreadyReversed),
        Rejection::UnderAge => failure(ErrorReason::UnderAge),
        Rejection::NotResponsible => failure(ErrorReason::NotResponsible),
    }
}
