//! Clients of the services, and requests that are sound unless a test makes them otherwise.

use std::sync::atomic::{AtomicU32, Ordering};

use frikort_proto::{
    Date,
    v1::{
        AnnualLimit, CancelPaymentRequest, CancelReason, CorrectPaymentRequest, DayPeriod,
        GrantCardRequest, PaymentFacts, PersonRef, ReportPaymentRequest, SetAnnualLimitRequest,
        allowance_service_client::AllowanceServiceClient, audit_service_client::AuditServiceClient,
        payment_service_client::PaymentServiceClient, person_ref::Person,
        policy_service_client::PolicyServiceClient,
        visitation_service_client::VisitationServiceClient,
    },
};
use tonic::transport::Channel;

/// A client of every service of one ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// PaymentService.
    pub payments: PaymentServiceClient<Channel>,
    /// VisitationService.
    pub visitations: VisitationServiceClient<Channel>,
    /// PolicyService.
    pub policies: PolicyServiceClient<Channel>,
    /// AuditService.
    pub audits: AuditServiceClient<Channel>,
}

impl Ledger {
    /// Over one connection.
    pub fn new(channel: Channel) -> Self {
        Self {
            payments: PaymentServiceClient::new(channel.clone()),
            visitations: VisitationServiceClient::new(channel.clone()),
            policies: PolicyServiceClient::new(channel.clone()),
            audits: AuditServiceClient::new(channel),
        }
    }

    /// Records a limit in kroner, in force from the year's first day.
    pub async fn set_limit(&mut self, year: i32, kroner: i64) -> Result<(), tonic::Status> {
        let limit = AnnualLimit {
            year,
            limit_oere: kroner * 100,
            in_force_date: Some(date(year, 1, 1)),
            citation: "for a test".to_owned(),
        };
        let request = SetAnnualLimitRequest { limit: Some(limit), validate_only: false };
        self.policies.set_annual_limit(request).await?;
        Ok(())
    }

    /// Grants a card from 2022-01-01.
    pub async fn grant(&mut self, cpr: &str) -> Result<String, tonic::Status> {
        let answer = self.visitations.grant_card(grant(cpr)).await?.into_inner();
        Ok(answer.card.unwrap_or_default().person_id)
    }
}

/// A client of the projector.
pub fn allowances(channel: Channel) -> AllowanceServiceClient<Channel> {
    AllowanceServiceClient::new(channel)
}

/// A CPR number that nobody has had since 1880: of people born 1858 to 1880.
pub fn cpr(number: u32) -> String {
    let (day, month) = (number % 28 + 1, number / 28 % 12 + 1);
    let (year, serial) = (number / 336 % 23 + 58, number / 7728);
    format!("{day:02}{month:02}{year:02}{:04}", 5000 + serial)
}

/// A CPR number that no other call of this process gives.
pub fn new_cpr() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    cpr(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A person by CPR number.
pub fn by_cpr(cpr: &str) -> Option<PersonRef> {
    let person = Some(Person::CprNumber(cpr.to_owned()));
    Some(PersonRef { person, frikort_id: String::new() })
}

/// A date on the wire.
pub fn date(year: i32, month: i32, day: i32) -> Date {
    Date { year, month, day }
}

/// An employer.
pub const CVR: &str = "13748136";

/// A payment on 2022-03-01 for work on 2022-02-28.
pub fn report(cpr: &str, reference: &str, oere: i64) -> ReportPaymentRequest {
    ReportPaymentRequest {
        person: by_cpr(cpr),
        employer_cvr: CVR.to_owned(),
        reference: reference.to_owned(),
        facts: Some(facts(oere)),
        ordinary_work: true,
        ..ReportPaymentRequest::default()
    }
}

/// A correction of that payment, or of another one of the same employer.
pub fn correct(
    cpr: &str,
    reference: &str,
    expected_revision: i32,
    facts: PaymentFacts,
) -> CorrectPaymentRequest {
    CorrectPaymentRequest {
        person: by_cpr(cpr),
        employer_cvr: CVR.to_owned(),
        reference: reference.to_owned(),
        expected_revision,
        facts: Some(facts),
        validate_only: false,
    }
}

/// Its cancellation.
pub fn cancel(cpr: &str, reference: &str, expected_revision: i32) -> CancelPaymentRequest {
    CancelPaymentRequest {
        person: by_cpr(cpr),
        employer_cvr: CVR.to_owned(),
        reference: reference.to_owned(),
        expected_revision,
        reason: CancelReason::NotPaid.into(),
        validate_only: false,
    }
}

/// The facts of a payment for one day's work, paid that day.
pub fn paid_on(day: Date, oere: i64) -> PaymentFacts {
    PaymentFacts { amount_oere: oere, payment_date: Some(day), ..PaymentFacts::default() }
}

/// The facts of that payment.
pub fn facts(oere: i64) -> PaymentFacts {
    let day = Some(date(2022, 2, 28));
    PaymentFacts {
        amount_oere: oere,
        payment_date: Some(date(2022, 3, 1)),
        work_period: Some(DayPeriod { first_day: day, last_day: day }),
        ..PaymentFacts::default()
    }
}

/// A card from 2022-01-01.
pub fn grant(cpr: &str) -> GrantCardRequest {
    GrantCardRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: "S-1".to_owned(),
        frikort_id: "12345".to_owned(),
        decision_date: Some(date(2022, 1, 1)),
        effective_date: Some(date(2022, 1, 1)),
        validate_only: false,
        criteria: Vec::new(),
        application_date: None,
    }
}
