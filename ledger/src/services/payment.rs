//! PaymentService: one call, one payment; and a stream of them.
//!
//! The stream takes items in chunks of what has arrived, so that a chunk's persons are looked up
//! with one query, and hands them to the sequencers in order. Results wait in a bounded queue in
//! the order of the items; while it is full nothing more is read, and the sender is slowed down.

use std::{pin::Pin, sync::Arc};

use frikort_domain::{Amount, Command, FrikortTag, PaymentKey};
use frikort_proto::{
    error::{Failure, Faults},
    v1::{
        self, CancelPaymentRequest, CancelPaymentResponse, CorrectPaymentRequest,
        CorrectPaymentResponse, ReportPaymentRequest, ReportPaymentResponse, ReportPaymentsRequest,
        ReportPaymentsResponse, payment_service_server::PaymentService, report_payments_response,
    },
};
use frikort_register::Person;
use futures::{Stream, StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    fail::internal,
    ledger::{Caller, Ledger, Told},
    parse::{self, Parsed},
    render,
    sequencer::{Ask, Body, Refused, Reply, ReplyTo, Request as Question},
};

/// Items of one stream that may be under way.
const WINDOW: usize = 2048;

/// Items looked up together.
const CHUNK: usize = 256;

pub(crate) struct Payments(pub(crate) Arc<Ledger>);

#[tonic::async_trait]
impl PaymentService for Payments {
    async fn report_payment(
        &self,
        request: Request<ReportPaymentRequest>,
    ) -> Result<Response<ReportPaymentResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let parsed = parse::report(request, self.0.today())?;
        let recorded = self.decide(parsed, validate_only, caller).await?;
        Ok(Response::new(recorded.report_response()?))
    }

    type ReportPaymentsStream =
        Pin<Box<dyn Stream<Item = Result<ReportPaymentsResponse, Status>> + Send>>;

    async fn report_payments(
        &self,
        request: Request<Streaming<ReportPaymentsRequest>>,
    ) -> Result<Response<Self::ReportPaymentsStream>, Status> {
        let caller = Caller::of(&request);
        let (sender, pending) = mpsc::channel::<Pending>(WINDOW);
        tokio::spawn(take_in(self.0.clone(), caller, request.into_inner(), sender));
        let results = ReceiverStream::new(pending).then(Pending::result);
        let numbered = results.zip(stream::iter(0_i64..)).map(|(result, index)| {
            let result = result?;
            Ok(ReportPaymentsResponse { index, result: Some(result) })
        });
        Ok(Response::new(Box::pin(numbered)))
    }

    async fn correct_payment(
        &self,
        request: Request<CorrectPaymentRequest>,
    ) -> Result<Response<CorrectPaymentResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let parsed = parse::correct(request, self.0.today())?;
        let recorded = self.decide(parsed, validate_only, caller).await?;
        let (payment, allowance) = recorded.payment()?;
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
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let parsed = parse::cancel(request)?;
        let recorded = self.decide(parsed, validate_only, caller).await?;
        let (payment, allowance) = recorded.payment()?;
        Ok(Response::new(CancelPaymentResponse {
            payment: Some(payment),
            allowance: Some(allowance),
            position: Some(recorded.told.place()),
            replayed: recorded.told.answer.replayed,
        }))
    }
}

impl Payments {
    async fn decide(
        &self,
        parsed: Parsed,
        validate_only: bool,
        caller: Caller,
    ) -> Result<Recorded, Failure> {
        let (key, amount) = subject(&parsed.command).ok_or_else(internal)?;
        let told = self.0.decide(parsed, validate_only, caller).await?;
        Ok(Recorded { told, key, amount })
    }
}

/// The payment that a command is about, and the amount it will have.
fn subject(command: &Command) -> Option<(PaymentKey, Amount)> {
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
        | Command::RejectApplication(_)
        | Command::ReverseDecision(_)
        | Command::Recalculate { .. } => None,
    }
}

/// An answer about a payment, with what it needs to be rendered.
struct Recorded {
    told: Told,
    key: PaymentKey,
    amount: Amount,
}

impl Recorded {
    fn payment(&self) -> Result<(v1::Payment, v1::Allowance), Failure> {
        let Told { person, answer, .. } = &self.told;
        let Body::Payment(outcome) = &answer.body else { return Err(internal()) };
        let payment = render::payment(*person, &self.key, self.amount, outcome, answer.position);
        Ok((payment, render::allowance(*person, &outcome.year)))
    }

    fn report_response(&self) -> Result<ReportPaymentResponse, Failure> {
        let Body::Payment(outcome) = &self.told.answer.body else { return Err(internal()) };
        let twin = outcome.possible_duplicate;
        let (payment, allowance) = self.payment()?;
        Ok(ReportPaymentResponse {
            payment: Some(payment),
            allowance: Some(allowance),
            position: Some(self.told.place()),
            replayed: self.told.answer.replayed,
            warnings: twin.then_some(v1::Warning::PossibleDuplicate.into()).into_iter().collect(),
        })
    }
}

/// The result of one item, or what it waits for.
enum Pending {
    Refused(Failure),
    Asked {
        person: Person,
        key: PaymentKey,
        amount: Amount,
        reply: oneshot::Receiver<Reply>,
    },
    /// The stream ends here, with an error of its own.
    Broken(Status),
}

impl Pending {
    async fn result(self) -> Result<report_payments_response::Result, Status> {
        let result = match self {
            Self::Refused(failure) => Err(failure),
            Self::Asked { person, key, amount, reply } => {
                let reply = reply.await.unwrap_or(Err(Refused::Internal));
                reply.map_err(Failure::from).and_then(|answer| {
                    Recorded { told: Told::new(&person, answer), key, amount }.report_response()
                })
            }
            Self::Broken(status) => return Err(status),
        };
        Ok(match result {
            Ok(recorded) => report_payments_response::Result::Recorded(recorded),
            Err(failure) => report_payments_response::Result::Refused(failure.into()),
        })
    }
}

/// Reads a stream to its end, or until the process stops or the caller goes.
async fn take_in(
    ledger: Arc<Ledger>,
    caller: Caller,
    items: Streaming<ReportPaymentsRequest>,
    results: mpsc::Sender<Pending>,
) {
    let mut chunks = items.ready_chunks(CHUNK);
    loop {
        let chunk = tokio::select! {
            chunk = chunks.next() => chunk,
            () = ledger.stop.cancelled() => {
                let stopping = Failure::from(Refused::ShuttingDown);
                let _ = results.send(Pending::Broken(stopping.into())).await;
                return;
            }
        };
        let Some(chunk) = chunk else { return };
        let mut parsed = Vec::with_capacity(chunk.len());
        let mut broken = None;
        for item in chunk {
            match item {
                Ok(item) => parsed.push(parse_item(item, &ledger)),
                Err(status) => {
                    broken = Some(stream_error(status));
                    break;
                }
            }
        }
        if ask_all(&ledger, &caller, parsed, &results).await.is_err() {
            // Nobody takes the results any more.
            return;
        }
        if let Some(status) = broken {
            let _ = results.send(Pending::Broken(status)).await;
            return;
        }
    }
}

fn parse_item(item: ReportPaymentsRequest, ledger: &Ledger) -> Result<(Parsed, bool), Failure> {
    let mut faults = Faults::default();
    let payment = faults.required("payment", item.payment);
    let payment = faults.finish(payment)?;
    let validate_only = payment.validate_only;
    Ok((parse::report(payment, ledger.today())?, validate_only))
}

/// Looks up a chunk's persons with one query, and asks for each item in order.
async fn ask_all(
    ledger: &Ledger,
    caller: &Caller,
    items: Vec<Result<(Parsed, bool), Failure>>,
    results: &mpsc::Sender<Pending>,
) -> Result<(), mpsc::error::SendError<Pending>> {
    let named: Vec<_> =
        items.iter().filter_map(|item| item.as_ref().ok()).map(|(p, _)| &p.named).collect();
    let found = ledger.register.find_named(&named).await.map_err(|error| ledger.read_failed(error));
    let mut found = found.map(Vec::into_iter);
    for item in items {
        let pending = match (item, &mut found) {
            (Err(failure), _) => Pending::Refused(failure),
            (Ok(_), Err(failure)) => Pending::Refused(failure.clone()),
            (Ok((parsed, validate_only)), Ok(found)) => {
                let person = found.next().flatten();
                ask_one(ledger, caller, parsed.command, person, validate_only).await
            }
        };
        results.send(pending).await?;
    }
    Ok(())
}

async fn ask_one(
    ledger: &Ledger,
    caller: &Caller,
    mut command: Command,
    person: Option<(Person, Option<FrikortTag>)>,
    validate_only: bool,
) -> Pending {
    let Some((key, amount)) = subject(&command) else { return Pending::Refused(internal()) };
    let Some((person, frikort)) = person else {
        let refused = ledger.decide_unknown(&command);
        return Pending::Refused(refused.err().unwrap_or_else(internal));
    };
    command.name_frikort(frikort);
    let handle = match ledger.sequencer(person.partition) {
        Ok(handle) => handle,
        Err(failure) => return Pending::Refused(failure),
    };
    let (reply_to, reply) = ReplyTo::here();
    let ask = Ask::Command(person.id, command);
    let Caller { actor, trace_id } = caller.clone();
    handle.hand_in(Question { ask, validate_only, actor, trace_id, reply: reply_to }).await;
    Pending::Asked { person, key, amount, reply }
}

/// What breaks a stream: a message that cannot be read is the sender's fault, anything else the
/// transport's.
fn stream_error(status: Status) -> Status {
    frikort_process::serve::unreadable(&status).map_or(status, Status::from)
}
