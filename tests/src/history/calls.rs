//! One client of a ledger and a projector: each call is journaled with what came of it.
//!
//! Not here: which calls are made when.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use frikort_proto::v1::{
    self, AnnualLimit, BatchGetAllowancesRequest, CorrectPaymentRequest, GetAllowanceRequest,
    GetCheckpointRequest, GetStatementRequest, ListPaymentsRequest, ReportPaymentRequest,
    ReportPaymentsRequest, SetAnnualLimitRequest, allowance_service_client::AllowanceServiceClient,
    audit_service_client::AuditServiceClient, overview_service_client::OverviewServiceClient,
    report_payments_response,
};
use futures::stream;
use tokio::time::timeout;
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

use super::{
    journal::{Claim, Journal, refused, silence},
    site::cpr_of,
};
use crate::{
    client::{self, CVR, Ledger, by_cpr, date},
    decisions,
    process::Service,
};

/// How long a call may take before its client gives it up.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A payment of the plan. Its reference says all about it, so that a repeat has the same content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planned {
    /// The person's number.
    pub person: u32,
    /// The payment's number.
    pub number: u32,
    /// The calendar year.
    pub year: i32,
}

impl Planned {
    /// The employer's reference.
    pub fn reference(&self) -> String {
        format!("p{}-{}-{}", self.person, self.year, self.number)
    }

    /// In øre; each payment of a person another amount.
    pub fn oere(&self) -> i64 {
        10_000 + i64::from(self.number) * 100 + i64::from(self.person)
    }

    /// The report of it.
    pub fn request(&self) -> ReportPaymentRequest {
        let facts = client::paid_on(date(self.year, 3, 1), self.oere());
        let request = client::report(&cpr_of(self.person), &self.reference(), self.oere());
        ReportPaymentRequest { facts: Some(facts), ..request }
    }
}

/// The payments that were reported so far, answered or not.
#[derive(Debug, Default)]
pub struct Payroll {
    reported: Mutex<BTreeMap<u32, Vec<Planned>>>,
}

impl Payroll {
    /// A payment that was not reported before.
    pub fn next(&self, person: u32, year: i32) -> Planned {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let of_person = reported.entry(person).or_default();
        let number = u32::try_from(of_person.len()).unwrap_or(u32::MAX);
        let planned = Planned { person, number, year };
        of_person.push(planned.clone());
        planned
    }

    /// All so far.
    pub fn all(&self) -> Vec<Planned> {
        let reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.values().flatten().cloned().collect()
    }
}

/// A client of one ledger and one projector, over a connection to each that is made again
/// whenever it breaks.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) ledger: (String, Ledger),
    pub(super) projector: (String, AllowanceServiceClient<Channel>, OverviewServiceClient<Channel>),
    pub(super) journal: Arc<Journal>,
}

impl Caller {
    /// Named after the numbers of its ledger and projector.
    pub fn new(
        ledger: (usize, &Service),
        projector: (usize, &Service),
        journal: Arc<Journal>,
    ) -> anyhow::Result<Self> {
        let to_projector = lazy(projector.1)?;
        let allowances = client::allowances(to_projector.clone());
        let overviews = OverviewServiceClient::new(to_projector);
        Ok(Self {
            ledger: (format!("ledger {}", ledger.0), Ledger::new(lazy(ledger.1)?)),
            projector: (format!("projector {}", projector.0), allowances, overviews),
            journal,
        })
    }

    /// A client of the projector, whose answers are not journaled.
    pub fn allowances(&self) -> AllowanceServiceClient<Channel> {
        self.projector.1.clone()
    }

    /// A client of the ledger for auditors, whose answers are not journaled.
    pub fn audits(&self) -> AuditServiceClient<Channel> {
        self.ledger.1.audits.clone()
    }

    /// Makes a call and journals what came of it; the answer, unless it was refused.
    async fn note<T: Clone>(
        &self,
        service: &str,
        method: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
        claim: impl FnOnce(T) -> Claim,
    ) -> Result<T, Status> {
        let asked = self.journal.ask();
        let answer = timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(silence()));
        let answer = answer.map(Response::into_inner);
        let told = match &answer {
            Ok(answer) => claim(answer.clone()),
            Err(status) => refused(status),
        };
        self.journal.add(asked, service, method, told);
        answer
    }

    /// Reports a payment.
    pub async fn report(&self, planned: &Planned) -> Result<v1::ReportPaymentResponse, Status> {
        let (name, mut ledger) = self.ledger.clone();
        let request = planned.request();
        let call = ledger.payments.report_payment(request.clone());
        let claim = |answer| Claim::Reported(Box::new((request, answer)));
        self.note(&name, "ReportPayment", call, claim).await
    }

    /// Reports payments on one stream; each answer is journaled.
    pub async fn report_streamed(&self, all: &[Planned]) {
        let (name, mut ledger) = self.ledger.clone();
        let requests: Vec<ReportPaymentRequest> = all.iter().map(Planned::request).collect();
        let items = requests.clone().into_iter().map(|payment| ReportPaymentsRequest {
            payment: Some(payment),
            ..ReportPaymentsRequest::default()
        });
        let asked = self.journal.ask();
        let read = async {
            let sent = ledger.payments.report_payments(stream::iter(items)).await?;
            let mut answers = sent.into_inner();
            while let Some(answer) = answers.message().await? {
                let request = usize::try_from(answer.index).ok().and_then(|at| requests.get(at));
                let claim = match (answer.result, request) {
                    (Some(report_payments_response::Result::Recorded(told)), Some(request)) => {
                        Claim::Reported(Box::new((request.clone(), told)))
                    }
                    (Some(report_payments_response::Result::Refused(told)), _) => {
                        let reason = told.reason().as_str_name();
                        let reason = reason.trim_start_matches("ERROR_REASON_").to_owned();
                        Claim::Refused { reason, message: told.message }
                    }
                    _ => continue,
                };
                self.journal.add(asked, &name, "ReportPayments", claim);
            }
            Ok::<_, Status>(())
        };
        let ended = timeout(CALL_TIMEOUT, read).await.unwrap_or_else(|_| Err(silence()));
        if let Err(status) = ended {
            self.journal.add(asked, &name, "ReportPayments", refused(&status));
        }
    }

    /// Corrects a payment that is at its first revision.
    pub async fn correct(&self, planned: &Planned) -> Result<v1::CorrectPaymentResponse, Status> {
        let (name, mut ledger) = self.ledger.clone();
        let facts = client::paid_on(date(planned.year, 3, 1), planned.oere() + 50);
        let (cpr, reference) = (cpr_of(planned.person), planned.reference());
        let request: CorrectPaymentRequest = client::correct(&cpr, &reference, 1, facts);
        let call = ledger.payments.correct_payment(request.clone());
        let claim = |answer| Claim::Corrected(Box::new((request, answer)));
        self.note(&name, "CorrectPayment", call, claim).await
    }

    /// Cancels a payment that is at its first revision.
    pub async fn cancel(&self, planned: &Planned) -> Result<v1::CancelPaymentResponse, Status> {
        let (name, mut ledger) = self.ledger.clone();
        let request = client::cancel(&cpr_of(planned.person), &planned.reference(), 1);
        let call = ledger.payments.cancel_payment(request.clone());
        let claim = |answer| Claim::Cancelled(Box::new((request, answer)));
        self.note(&name, "CancelPayment", call, claim).await
    }

    /// Grants a card; gives the person's id.
    pub async fn grant(&self, person: u32) -> Result<String, Status> {
        let (name, mut ledger) = self.ledger.clone();
        let request = client::grant(&cpr_of(person));
        let reference = request.reference.clone();
        let call = ledger.visitations.grant_card(request);
        let claim = |answer: v1::GrantCardResponse| {
            decided(reference, "card_granted", answer.card, answer.position)
        };
        let answer = self.note(&name, "GrantCard", call, claim).await?;
        Ok(answer.card.unwrap_or_default().person_id)
    }

    /// Gives a person another CPR number.
    pub async fn renumber(&self, person: u32, to: u32) -> Result<(), Status> {
        let (name, mut ledger) = self.ledger.clone();
        let request = decisions::renumber(&cpr_of(person), "S-2", &cpr_of(to));
        let reference = request.reference.clone();
        let call = ledger.visitations.change_cpr_number(request);
        let claim = |answer: v1::ChangeCprNumberResponse| {
            decided(reference, "cpr_number_changed", answer.card, answer.position)
        };
        self.note(&name, "ChangeCprNumber", call, claim).await?;
        Ok(())
    }

    /// Records a limit in kroner, in force from the year's first day.
    pub async fn set_limit(&self, year: i32, kroner: i64) -> Result<(), Status> {
        let (name, mut ledger) = self.ledger.clone();
        let limit = AnnualLimit {
            year,
            limit_oere: kroner * 100,
            in_force_date: Some(date(year, 1, 1)),
            citation: format!("for a test: {kroner}"),
        };
        let request = SetAnnualLimitRequest { limit: Some(limit), validate_only: false };
        let call = ledger.policies.set_annual_limit(request);
        self.note(&name, "SetAnnualLimit", call, Claim::LimitSet).await?;
        Ok(())
    }

    /// The last signed checkpoint.
    pub async fn checkpoint(&self, partition: i32) -> Result<v1::GetCheckpointResponse, Status> {
        let (name, mut ledger) = self.ledger.clone();
        let call = ledger.audits.get_checkpoint(GetCheckpointRequest { partition });
        self.note(&name, "GetCheckpoint", call, Claim::Checkpoint).await
    }

    /// A person's allowance of a year.
    pub async fn allowance(
        &self,
        person: u32,
        year: i32,
    ) -> Result<v1::GetAllowanceResponse, Status> {
        let (name, mut allowances, _) = self.projector.clone();
        let person = by_cpr(&cpr_of(person));
        let request = GetAllowanceRequest { person, year, ..GetAllowanceRequest::default() };
        let call = allowances.get_allowance(request);
        let claim = |answer| Claim::Allowance(Box::new(answer));
        self.note(&name, "GetAllowance", call, claim).await
    }

    /// Several persons' allowances of a year.
    pub async fn batch(&self, persons: &[u32], year: i32) {
        let (name, mut allowances, _) = self.projector.clone();
        let persons = persons.iter().filter_map(|person| by_cpr(&cpr_of(*person))).collect();
        let request =
            BatchGetAllowancesRequest { persons, year, ..BatchGetAllowancesRequest::default() };
        let call = allowances.batch_get_allowances(request);
        let claim = |answer| Claim::Allowances(Box::new(answer));
        // What came of it is in the journal.
        let _ = self.note(&name, "BatchGetAllowances", call, claim).await;
    }

    /// A person's payments of a year.
    pub async fn statement(&self, person: u32, year: i32) {
        let (name, mut allowances, _) = self.projector.clone();
        let person = by_cpr(&cpr_of(person));
        let request = GetStatementRequest { person, year, ..GetStatementRequest::default() };
        let call = allowances.get_statement(request);
        let claim = |answer| Claim::Statement(Box::new(answer));
        let _ = self.note(&name, "GetStatement", call, claim).await;
    }

    /// A page of the employer's payments.
    pub async fn list(
        &self,
        request: ListPaymentsRequest,
    ) -> Result<v1::ListPaymentsResponse, Status> {
        let (name, _, mut overviews) = self.projector.clone();
        let request = ListPaymentsRequest { employer_cvr: CVR.to_owned(), ..request };
        let call = overviews.list_payments(request.clone());
        let claim = |answer| Claim::Listed(Box::new((request, answer)));
        self.note(&name, "ListPayments", call, claim).await
    }
}

fn decided(
    reference: String,
    kind: &'static str,
    card: Option<v1::Card>,
    place: Option<v1::LedgerPosition>,
) -> Claim {
    let person_id = card.unwrap_or_default().person_id;
    Claim::Decided { reference, kind, person_id, place: place.unwrap_or_default() }
}

/// A connection that is made again whenever it breaks.
pub(super) fn lazy(service: &Service) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(service.uri())?.connect_timeout(CALL_TIMEOUT).connect_lazy())
}
