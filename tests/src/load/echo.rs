//! The echo floor: the same messages through the same server, and nothing behind it. What a call
//! costs before anything is decided.

use std::{net::SocketAddr, pin::Pin};

use frikort_process::serve::{self, Limits};
use frikort_proto::v1::{
    Allowance, BatchGetAllowancesRequest, BatchGetAllowancesResponse, CancelPaymentRequest,
    CancelPaymentResponse, CorrectPaymentRequest, CorrectPaymentResponse, GetAllowanceRequest,
    GetAllowanceResponse, GetStatementRequest, GetStatementResponse, LedgerPosition, Payment,
    ReportPaymentRequest, ReportPaymentResponse, ReportPaymentsRequest, ReportPaymentsResponse,
    WatchAllowancesRequest, WatchAllowancesResponse,
    allowance_service_server::{AllowanceService, AllowanceServiceServer},
    payment_service_server::{PaymentService, PaymentServiceServer},
};
use futures::Stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// As long as the ledger's ids are.
const SOMEBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Serves until `stop`.
pub(super) async fn serve(listen: SocketAddr, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = serve::bind(listen, None).await?;
    let (mut routes, health) = serve::routes().await?;
    routes.add_service(PaymentServiceServer::new(Echo));
    routes.add_service(AllowanceServiceServer::new(Echo));
    let (_sound, is_sound) = watch::channel(true);
    tokio::spawn(serve::tell_health(health, vec![""], vec![is_sound]));
    serve::serve(listener, None, Limits::default(), routes.routes(), stop).await
}

struct Echo;

#[tonic::async_trait]
impl PaymentService for Echo {
    async fn report_payment(
        &self,
        request: Request<ReportPaymentRequest>,
    ) -> Result<Response<ReportPaymentResponse>, Status> {
        let request = request.into_inner();
        let facts = request.facts.unwrap_or_default();
        let payment = Payment {
            person_id: SOMEBODY.to_owned(),
            employer_cvr: request.employer_cvr,
            reference: request.reference,
            revision: 1,
            year: facts.payment_date.map_or(0, |date| date.year),
            attribution_date: facts.payment_date,
            amount_oere: facts.amount_oere,
            exempt_oere: facts.amount_oere,
            position: 1_000_000,
            ..Payment::default()
        };
        Ok(Response::new(ReportPaymentResponse {
            allowance: Some(allowance(payment.year)),
            payment: Some(payment),
            position: Some(place()),
            ..ReportPaymentResponse::default()
        }))
    }

    type ReportPaymentsStream =
        Pin<Box<dyn Stream<Item = Result<ReportPaymentsResponse, Status>> + Send>>;

    async fn report_payments(
        &self,
        _: Request<Streaming<ReportPaymentsRequest>>,
    ) -> Result<Response<Self::ReportPaymentsStream>, Status> {
        Err(Status::unimplemented("no floor for this"))
    }

    async fn correct_payment(
        &self,
        _: Request<CorrectPaymentRequest>,
    ) -> Result<Response<CorrectPaymentResponse>, Status> {
        Err(Status::unimplemented("no floor for this"))
    }

    async fn cancel_payment(
        &self,
        _: Request<CancelPaymentRequest>,
    ) -> Result<Response<CancelPaymentResponse>, Status> {
        Err(Status::unimplemented("no floor for this"))
    }
}

#[tonic::async_trait]
impl AllowanceService for Echo {
    async fn get_allowance(
        &self,
        request: Request<GetAllowanceRequest>,
    ) -> Result<Response<GetAllowanceResponse>, Status> {
        let allowance = Some(allowance(request.into_inner().year));
        Ok(Response::new(GetAllowanceResponse { allowance, position: Some(place()) }))
    }

    async fn batch_get_allowances(
        &self,
        _: Request<BatchGetAllowancesRequest>,
    ) -> Result<Response<BatchGetAllowancesResponse>, Status> {
        Err(Status::unimplemented("no floor for this"))
    }

    async fn get_statement(
        &self,
        _: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>, Status> {
        Err(Status::unimplemented("no floor for this"))
    }

    type WatchAllowancesStream =
        Pin<Box<dyn Stream<Item = Result<WatchAllowancesResponse, Status>> + Send>>;

    async fn watch_allowances(
        &self,
        _: Request<WatchAllowancesRequest>,
    ) -> Result<Response<Self::WatchAllowancesStream>, Status> {
        Err(Status::unimplemented("no floor for this"))
    }
}

fn allowance(year: i32) -> Allowance {
    Allowance {
        person_id: SOMEBODY.to_owned(),
        year,
        limit_oere: 5_000_000,
        total_oere: 50_000,
        used_oere: 50_000,
        remaining_oere: 4_950_000,
        taxable_oere: 0,
        payment_count: 20,
    }
}

fn place() -> LedgerPosition {
    let recorded_time = prost_types::Timestamp { seconds: 1_790_000_000, nanos: 123_456_000 };
    LedgerPosition { partition: 0, position: 1_000_000, recorded_time: Some(recorded_time) }
}
