//! Sending a run, and what it was answered.

use frikort_proto::{
    error::Failure,
    v1::{
        ReportPaymentRequest, ReportPaymentResponse, ReportPaymentsRequest, RunOptions, RunTotals,
        report_payments_response::Result as Became,
    },
};
use frikort_tests::client::Ledger;
use tokio_stream::{StreamExt, iter};

/// What a stream was answered.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) lines: Vec<Became>,
    pub(crate) totals: Option<RunTotals>,
    /// The error that ended it.
    pub(crate) failure: Option<Failure>,
}

impl Ran {
    /// The totals of a run that went to its end, one result a line.
    pub(crate) fn totals(&self) -> &RunTotals {
        assert!(self.failure.is_none(), "{:?}", self.failure);
        let totals = self.totals.as_ref().expect("a run has totals");
        assert_eq!(usize::try_from(totals.lines).unwrap(), self.lines.len());
        let counted = totals.recorded + totals.already_there + totals.changed + totals.refused;
        assert_eq!(counted, totals.lines, "{totals:?}");
        totals
    }

    pub(crate) fn failure(&self) -> &Failure {
        assert!(self.totals.is_none(), "{:?}", self.totals);
        self.failure.as_ref().expect("an error")
    }

    /// Exempt and taxable part of the lines that were not refused.
    pub(crate) fn splits(&self) -> Vec<(i64, i64)> {
        let split = |answer: &ReportPaymentResponse| {
            answer.payment.as_ref().map(|p| (p.exempt_oere, p.taxable_oere))
        };
        self.answers().filter_map(split).collect()
    }

    pub(crate) fn answers(&self) -> impl Iterator<Item = &ReportPaymentResponse> {
        self.lines.iter().filter_map(|line| match line {
            Became::Recorded(answer) => Some(answer),
            _ => None,
        })
    }

    /// The reason of each line that was refused.
    pub(crate) fn refusals(&self) -> Vec<&'static str> {
        let reason = |line: &Became| match line {
            Became::Refused(refusal) => Some(Failure::from(refusal.clone()).reason_name()),
            _ => None,
        };
        self.lines.iter().filter_map(reason).collect()
    }
}

pub(crate) fn item(payment: ReportPaymentRequest) -> ReportPaymentsRequest {
    ReportPaymentsRequest { payment: Some(payment), ..ReportPaymentsRequest::default() }
}

pub(crate) fn options(validate_only: bool, plan_token: &str) -> ReportPaymentsRequest {
    let run = RunOptions { validate_only, plan_token: plan_token.to_owned() };
    ReportPaymentsRequest { run: Some(run), ..ReportPaymentsRequest::default() }
}

/// Sends messages as they are.
pub(crate) async fn send(ledger: &Ledger, messages: Vec<ReportPaymentsRequest>) -> Ran {
    let mut payments = ledger.payments.clone();
    let mut results = payments.report_payments(iter(messages)).await.unwrap().into_inner();
    let mut ran = Ran::default();
    while let Some(result) = results.next().await {
        assert!(ran.totals.is_none() && ran.failure.is_none(), "something after the end");
        match result {
            Ok(result) => {
                assert_eq!(usize::try_from(result.index).unwrap(), ran.lines.len(), "out of order");
                match result.result.unwrap() {
                    Became::Totals(totals) => ran.totals = Some(totals),
                    line => ran.lines.push(line),
                }
            }
            Err(status) => {
                ran.failure = Some(Failure::from_status(&status).expect("an error of our model"));
            }
        }
    }
    ran
}

async fn send_run(
    ledger: &Ledger,
    options: ReportPaymentsRequest,
    payments: &[ReportPaymentRequest],
) -> Ran {
    let items = payments.iter().cloned().map(item);
    send(ledger, std::iter::once(options).chain(items).collect()).await
}

pub(crate) async fn plan(ledger: &Ledger, payments: &[ReportPaymentRequest]) -> Ran {
    send_run(ledger, options(true, ""), payments).await
}

pub(crate) async fn commit(ledger: &Ledger, token: &str, payments: &[ReportPaymentRequest]) -> Ran {
    send_run(ledger, options(false, token), payments).await
}

/// With totals, and no more.
pub(crate) async fn record(ledger: &Ledger, payments: &[ReportPaymentRequest]) -> Ran {
    send_run(ledger, options(false, ""), payments).await
}
