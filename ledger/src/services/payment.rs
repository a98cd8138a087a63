//! PaymentService: one call, one payment. The stream of them is in `stream`.

use std::{pin::Pin, sync::Arc};

use frikort_access::Caller as Who;
use frikort_domain::{Amount, Command, PaymentKey};
use frikort_proto::{
    error::Failure,
    v1::{
        self, CancelPaymentRequest, CancelPaymentResponse, CorrectPaymentRequest,
        CorrectPaymentResponse, ReportPaymentRequest, ReportPaymentResponse, ReportPaymentsRequest,
        ReportPaymentsResponse, payment_service_server::PaymentService,
    },
};
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    fail::internal,
    ledger::{Acting, Caller, Ledger, Told},
    parse, render,
    sequencer::Body,
    services::stream,
};

pub(crate) struct Payments(pub(crate) Arc<Ledger>);

#[tonic::async_trait]
impl PaymentService for Payments {
    async fn report_payment(
        &self,
        request: Request<ReportPaymentRequest>,
    ) -> Result<Response<ReportPaymentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let acting = caller.acting(parse::report(request, self.0.today())?)?;
        let who = acting.looking.who.clone();
        let recorded = self.decide(acting, validate_only).await?;
        Ok(Response::new(recorded.report_response(&who)?))
    }

    type ReportPaymentsStream =
        Pin<Box<dyn Stream<Item = Result<ReportPaymentsResponse, Status>> + Send>>;

    async fn report_payments(
        &self,
        request: Request<Streaming<ReportPaymentsRequest>>,
    ) -> Result<Response<Self::ReportPaymentsStream>, Status> {
        let caller = Caller::of(&request)?;
        let results = stream::report_payments(self.0.clone(), caller, request.into_inner());
        Ok(Response::new(Box::pin(results)))
    }

    async fn correct_payment(
        &self,
        request: Request<CorrectPaymentRequest>,
    ) -> Result<Response<CorrectPaymentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let acting = caller.acting(parse::correct(request, self.0.today())?)?;
        let who = acting.looking.who.clone();
        let recorded = self.decide(acting, validate_only).await?;
        let (payment, allowance) = recorded.payment(&who)?;
        Ok(Response::new(CorrectPaymentResponse {
            payment: Some(payment),
            allowance: Some(allowance),
            position: Some(recorded.told.place()),
            replayed: recorded.told.answer.replayed,
        }))
    }

    async fn cancel_payment(
        &self,
        request: Request<CancelPaymentRequest>,
    ) -> Result<Response<CancelPaymentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let acting = caller.acting(parse::cancel(request)?)?;
        let who = acting.looking.who.clone();
        let recorded = self.decide(acting, validate_only).await?;
        let (payment, allowance) = recorded.payment(&who)?;
        Ok(Response::new(CancelPaymentResponse {
            payment: Some(payment),
            allowance: Some(allowance),
            position: Some(recorded.told.place()),
            replayed: recorded.told.answer.replayed,
        }))
    }
}

impl Payments {
    async fn decide(&self, acting: Acting, validate_only: bool) -> Result<Recorded, Failure> {
        let (key, amount) = subject(&acting.parsed.command).ok_or_else(internal)?;
        let told = self.0.decide(acting, validate_only).await?;
        Ok(Recorded { told, key, amount })
    }
}

/// The payment that a command is about, and the amount it will have.
pub(super) fn subject(command: &Command) -> Option<(PaymentKey, Amount)> {
    match command {
        Command::ReportPayment(report) => Some((report.key.clone(), report.facts.amount)),
        Command::CorrectPayment(correct) => Some((correct.key.clone(), correct.facts.amount)),
        Command::CancelPayment(cancel) => Some((cancel.key.clone(), Amount::ZERO)),
        Command::GrantCard(_)
        | Command::DeactivateCard(_)
        | Command::ReactivateCard(_)
        | Command::TransferCard(_)
        | Command::RecordControl(_)
        | Command::ChangeCprNumber(_)
        | Command::ReissueCard(_)
        | Command::RejectApplication(_)
        | Command::ReverseDecision(_)
        | Command::Recalculate { .. } => None,
    }
}

/// An answer about a payment, with what it needs to be rendered.
pub(super) struct Recorded {
    pub(super) told: Told,
    pub(super) key: PaymentKey,
    pub(super) amount: Amount,
}

impl Recorded {
    /// The payment, and the allowance as far as the caller sees it (W1).
    fn payment(&self, who: &Who) -> Result<(v1::Payment, v1::Allowance), Failure> {
        let Told { person, answer, .. } = &self.told;
        let Body::Payment(outcome, _) = &answer.body else { return Err(internal()) };
        let payment = render::payment(*person, &self.key, self.amount, outcome, answer.position);
        let allowance = render::allowance(*person, &outcome.year);
        Ok((payment, if who.sees_totals() { allowance } else { allowance.balance() }))
    }

    pub(super) fn report_response(&self, who: &Who) -> Result<ReportPaymentResponse, Failure> {
        let Body::Payment(outcome, changed_since) = &self.told.answer.body else {
            return Err(internal());
        };
        let twin = outcome.possible_duplicate.then_some(v1::Warning::PossibleDuplicate);
        let changed = changed_since.map(|_| v1::Warning::ChangedSince);
        let (payment, allowance) = self.payment(who)?;
        Ok(ReportPaymentResponse {
            payment: Some(payment),
            allowance: Some(allowance),
            position: Some(self.told.place()),
            replayed: self.told.answer.replayed,
            warnings: twin.into_iter().chain(changed).map(Into::into).collect(),
            present_revision: changed_since.map_or(0, |now| i32::try_from(now).unwrap_or(i32::MAX)),
        })
    }
}
