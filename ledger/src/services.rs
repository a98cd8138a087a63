//! The gRPC services: each method parses, finds the person, asks the partition, and renders.

mod access_log;
mod audit;
pub(crate) mod check;
pub(crate) mod files;
mod payment;
mod policy;
mod proof;
mod register;
pub(crate) mod result_budget;
pub(crate) mod stream;
mod visitation;

use std::sync::Arc;

use frikort_process::serve::MAX_MESSAGE;
use frikort_proto::v1::{
    access_log_service_server::AccessLogServiceServer, audit_service_server::AuditServiceServer,
    payment_service_server::PaymentServiceServer, policy_service_server::PolicyServiceServer,
    register_service_server::RegisterServiceServer,
    visitation_service_server::VisitationServiceServer,
};
use tonic::{server::NamedService, service::RoutesBuilder};

use crate::ledger::Ledger;

/// The names under which health is told: the process over all, and what records.
pub(crate) const NAMES: [&str; 6] = [
    "",
    PaymentServiceServer::<payment::Payments>::NAME,
    VisitationServiceServer::<visitation::Visitations>::NAME,
    PolicyServiceServer::<policy::Policies>::NAME,
    AccessLogServiceServer::<access_log::AccessLogs>::NAME,
    RegisterServiceServer::<register::Registers>::NAME,
];

/// The name under which health is told of the history: it is not serving, too, while it is not
/// what was signed. Payments go on meanwhile.
pub(crate) const AUDIT: &str = AuditServiceServer::<audit::Audits>::NAME;

/// Adds the services.
pub(crate) fn add(routes: &mut RoutesBuilder, ledger: &Arc<Ledger>) {
    let payments = payment::Payments(ledger.clone());
    let visitations = visitation::Visitations(ledger.clone());
    let policies = policy::Policies(ledger.clone());
    let audits = audit::Audits(ledger.clone());
    let access_logs = access_log::AccessLogs(ledger.clone());
    let registers = register::Registers(ledger.clone());
    routes
        .add_service(PaymentServiceServer::new(payments).max_decoding_message_size(MAX_MESSAGE))
        .add_service(
            VisitationServiceServer::new(visitations).max_decoding_message_size(MAX_MESSAGE),
        )
        .add_service(PolicyServiceServer::new(policies).max_decoding_message_size(MAX_MESSAGE))
        .add_service(
            AccessLogServiceServer::new(access_logs).max_decoding_message_size(MAX_MESSAGE),
        )
        .add_service(RegisterServiceServer::new(registers).max_decoding_message_size(MAX_MESSAGE))
        .add_service(AuditServiceServer::new(audits).max_decoding_message_size(MAX_MESSAGE));
}
