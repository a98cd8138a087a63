//! What a refusal must look like, and requests that many tests here make.

use std::{collections::HashMap, fmt::Debug};

use frikort_proto::{
    error::DOMAIN,
    v1::{
        CancelPaymentRequest, CancelReason, CorrectPaymentRequest, PaymentFacts,
        ReportPaymentRequest,
    },
};
use frikort_tests::client::{CVR, by_cpr, date, facts, report};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A refusal, as errors.proto documents it.
pub(crate) struct Refused<'a> {
    pub(crate) code: Code,
    pub(crate) reason: &'a str,
    pub(crate) metadata: &'a [(&'a str, &'a str)],
    pub(crate) fields: &'a [&'a str],
}

/// A refusal without metadata or fields.
pub(crate) fn refused(code: Code, reason: &str) -> Refused<'_> {
    Refused { code, reason, metadata: &[], fields: &[] }
}

impl Refused<'_> {
    /// Fails unless the answer is this refusal, with all of its details and no other.
    #[track_caller]
    pub(crate) fn check<T: Debug>(&self, what: &str, answer: Result<T, Status>) {
        let status = answer.expect_err(what);
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("{what}: {status:?}"));
        assert_eq!((status.code(), info.reason.as_str()), (self.code, self.reason), "{what}");
        assert_eq!(info.domain, DOMAIN, "{what}");
        let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let metadata: HashMap<String, String> = self.metadata.iter().map(text).collect();
        assert_eq!(info.metadata, metadata, "{what}");

        let violations = details.bad_request().map(|bad| &bad.field_violations);
        let fields: Option<Vec<&str>> =
            violations.map(|all| all.iter().map(|violation| violation.field.as_str()).collect());
        assert_eq!(fields.as_deref().unwrap_or_default(), self.fields, "{what}");

        let precondition = details.precondition_failure().map(|failure| &failure.violations[..]);
        match precondition {
            Some([violation]) => {
                assert_eq!(self.code, Code::FailedPrecondition, "{what}: PreconditionFailure");
                assert_eq!(violation.r#type, self.reason, "{what}");
            }
            Some(other) => panic!("{what}: {other:?}"),
            None => assert_ne!(self.code, Code::FailedPrecondition, "{what}: no violation"),
        }
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        let retriable = matches!(self.code, Code::Unavailable | Code::ResourceExhausted);
        assert_eq!(delay.is_some_and(|delay| !delay.is_zero()), retriable, "{what}: RetryInfo");
    }
}

/// A payment for work on one day, paid on it.
pub(crate) fn paid_on(
    cpr: &str,
    reference: &str,
    (year, month, day): (i32, i32, i32),
) -> ReportPaymentRequest {
    let payment_date = Some(date(year, month, day));
    let facts = PaymentFacts { amount_oere: 50_000, payment_date, ..PaymentFacts::default() };
    ReportPaymentRequest { facts: Some(facts), ..report(cpr, reference, 50_000) }
}

pub(crate) fn correct(
    cpr: &str,
    reference: &str,
    expected_revision: i32,
    oere: i64,
) -> CorrectPaymentRequest {
    CorrectPaymentRequest {
        person: by_cpr(cpr),
        employer_cvr: CVR.to_owned(),
        reference: reference.to_owned(),
        expected_revision,
        facts: Some(facts(oere)),
        validate_only: false,
    }
}

pub(crate) fn cancel(cpr: &str, reference: &str, expected_revision: i32) -> CancelPaymentRequest {
    CancelPaymentRequest {
        person: by_cpr(cpr),
        employer_cvr: CVR.to_owned(),
        reference: reference.to_owned(),
        expected_revision,
        reason: CancelReason::NotPaid.into(),
        validate_only: false,
    }
}
