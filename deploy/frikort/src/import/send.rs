//! One row as one call, and its answer. What must stay out: repeating (the client does that) and
//! order.

use frikort_proto::{
    error::Failure,
    v1::{
        CancelPaymentRequest, Card, CorrectPaymentRequest, DeactivateCardRequest, ErrorReason,
        GrantCardRequest, LedgerPosition, Payment, ReactivateCardRequest, RecordControlRequest,
        ReissueCardRequest, RejectApplicationRequest, ReportPaymentRequest, ReportPaymentResponse,
        ReverseDecisionRequest, TransferCardRequest, payment_service_client::PaymentServiceClient,
        visitation_service_client::VisitationServiceClient,
    },
};

use super::{Entry, rows::Fault};
use crate::client::{CallError, Service};

/// The call that a row stands for.
pub(super) enum Command {
    Grant(GrantCardRequest),
    Reject(RejectApplicationRequest),
    Deactivate(DeactivateCardRequest),
    Reactivate(ReactivateCardRequest),
    Reissue(ReissueCardRequest),
    Reverse(ReverseDecisionRequest),
    Transfer(TransferCardRequest),
    Control(RecordControlRequest),
    Report(ReportPaymentRequest),
    Correct(CorrectPaymentRequest),
    Cancel(CancelPaymentRequest),
}

/// What became of a row.
pub(super) struct Answer {
    /// `recorded`, `replayed`, `planned` (would be recorded), or the reason of a refusal.
    pub(super) result: &'static str,
    /// Exempt and taxable part, in øre.
    pub(super) split: Option<(i64, i64)>,
    /// What is wrong with the row, when it is malformed.
    pub(super) faults: Vec<Fault>,
    /// Person and position, when it is on record.
    pub(super) recorded: Option<(String, LedgerPosition)>,
}

impl Answer {
    pub(super) fn refused(result: &'static str) -> Self {
        Self { result, split: None, faults: Vec::new(), recorded: None }
    }

    /// What became of a reported payment.
    pub(super) fn reported(answer: ReportPaymentResponse) -> Self {
        let split = split(answer.payment.as_ref());
        let recorded = Self::recorded(answer.replayed, payee(answer.payment), answer.position);
        Self { split, ..recorded }
    }

    fn recorded(
        replayed: bool,
        person_id: Option<String>,
        position: Option<LedgerPosition>,
    ) -> Self {
        let result = if replayed { "replayed" } else { "recorded" };
        Self { recorded: person_id.zip(position), ..Self::refused(result) }
    }
}

/// Makes the row's call.
pub(super) async fn send(ledger: &Service, entry: &Entry) -> Result<Answer, CallError> {
    let answer = match &entry.command {
        Ok(command) => call(ledger, command).await,
        // Rows with faults are answered before they come here.
        Err(_) => return Ok(Answer::refused("INVALID_FIELD")),
    };
    match answer {
        Err(CallError::Refused(failure)) => Ok(refusal(&failure)),
        other => other,
    }
}

macro_rules! call {
    ($ledger:expr, $request:expr, $client:ident, $method:ident) => {
        $ledger
            .call($request.clone(), |channel, request| async move {
                $client::new(channel).$method(request).await
            })
            .await?
    };
}

async fn call(ledger: &Service, command: &Command) -> Result<Answer, CallError> {
    Ok(match command {
        Command::Grant(request) => {
            let a = call!(ledger, request, VisitationServiceClient, grant_card);
            Answer::recorded(a.replayed, holder(a.card), a.position)
        }
        Command::Reject(request) => {
            let a = call!(ledger, request, VisitationServiceClient, reject_application);
            Answer::recorded(a.replayed, Some(a.person_id), a.position)
        }
        Command::Deactivate(request) => {
            let a = call!(ledger, request, VisitationServiceClient, deactivate_card);
            Answer::recorded(a.replayed, holder(a.card), a.position)
        }
        Command::Reactivate(request) => {
            let a = call!(ledger, request, VisitationServiceClient, reactivate_card);
            Answer::recorded(a.replayed, holder(a.card), a.position)
        }
        Command::Reissue(request) => {
            let a = call!(ledger, request, VisitationServiceClient, reissue_card);
            Answer::recorded(a.replayed, holder(a.card), a.position)
        }
        Command::Reverse(request) => {
            let a = call!(ledger, request, VisitationServiceClient, reverse_decision);
            Answer::recorded(a.replayed, holder(a.card), a.position)
        }
        Command::Transfer(request) => {
            let a = call!(ledger, request, VisitationServiceClient, transfer_card);
            Answer::recorded(a.replayed, holder(a.card), a.position)
        }
        Command::Control(request) => {
            let a = call!(ledger, request, VisitationServiceClient, record_control);
            Answer::recorded(a.replayed, holder(a.card), a.position)
        }
        Command::Report(request) => {
            let a = call!(ledger, request, PaymentServiceClient, report_payment);
            Answer::reported(a)
        }
        Command::Correct(request) => {
            let a = call!(ledger, request, PaymentServiceClient, correct_payment);
            let split = split(a.payment.as_ref());
            Answer { split, ..Answer::recorded(a.replayed, payee(a.payment), a.position) }
        }
        Command::Cancel(request) => {
            let a = call!(ledger, request, PaymentServiceClient, cancel_payment);
            Answer::recorded(a.replayed, payee(a.payment), a.position)
        }
    })
}

fn holder(card: Option<Card>) -> Option<String> {
    card.map(|card| card.person_id)
}

fn payee(payment: Option<Payment>) -> Option<String> {
    payment.map(|payment| payment.person_id)
}

fn split(payment: Option<&Payment>) -> Option<(i64, i64)> {
    payment.map(|payment| (payment.exempt_oere, payment.taxable_oere))
}

/// A refusal is a normal result; a field that the ledger calls bad makes the row malformed.
pub(super) fn refusal(failure: &Failure) -> Answer {
    let mut answer = Answer::refused(failure.reason_name());
    if matches!(failure.reason, ErrorReason::InvalidField) {
        let fault = |(field, what): &(String, String)| Fault {
            column: column_of(field).unwrap_or(field).to_owned(),
            what: what.clone(),
        };
        answer.faults = failure.fields.iter().map(fault).collect();
    }
    if matches!(failure.reason, ErrorReason::Internal) {
        answer.faults = vec![Fault { column: String::new(), what: failure.message.clone() }];
    }
    answer
}

/// The column that a field of a request was taken from.
fn column_of(field: &str) -> Option<&'static str> {
    const COLUMNS: [(&str, &str); 17] = [
        ("person.cpr_number", "cpr"),
        ("person.frikort_id", "frikort_id"),
        ("frikort_id", "frikort_id"),
        ("municipality_code", "municipality"),
        ("application_date", "applied_on"),
        ("reversed_reference", "reversed_reference"),
        ("reversed_municipality_code", "reversed_municipality"),
        ("decision_date", "decided_on"),
        ("effective_date", "effective_from"),
        ("employer_cvr", "employer_cvr"),
        ("reference", "reference"),
        ("facts.amount_oere", "amount"),
        ("facts.payment_date", "paid_on"),
        ("facts.work_period.first_day", "work_first"),
        ("facts.work_period", "work_last"),
        ("facts.hours_hundredths", "hours"),
        ("expected_revision", "expected_revision"),
    ];
    COLUMNS.into_iter().find(|(path, _)| field.starts_with(path)).map(|(_, column)| column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_by_its_column() {
        let bad = |field: &str| (field.to_owned(), "is bad".to_owned());
        let fields =
            ["person.cpr_number", "facts.work_period.last_day", "facts.amount_oere", "odd"];
        let answer = refusal(&Failure::invalid(fields.map(bad).to_vec()));
        let columns: Vec<_> = answer.faults.iter().map(|fault| fault.column.as_str()).collect();
        assert_eq!(
            (answer.result, columns),
            ("INVALID_FIELD", vec!["cpr", "work_last", "amount", "odd"])
        );
    }

    #[test]
    fn a_refusal_is_a_result_and_no_fault() {
        let answer = refusal(&Failure::new(ErrorReason::NotCovered, "not covered"));
        assert!(answer.result == "NOT_COVERED" && answer.faults.is_empty());
    }
}
