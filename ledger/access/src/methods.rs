//! The one table: who may call what, and which calls go on. What it does not name is refused; a test
//! holds it against the contract, and the whole matrix stands in `tests/permissions.txt`.
//!
//! Beside it stands what a role cannot tell: `acts_for_employer` and `acts_for_municipality`, in
//! the handlers of those methods.

use crate::Role::{self, Auditor, Benefit, Employer, Municipality, Operator, Tax};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody, known or not: it says nothing of anybody.
    Everybody,
    /// Whoever has one of these roles.
    Roles(&'static [Role]),
}

/// How far a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// One request, one answer.
    Once,
    /// One request, and answers for as long as there are any.
    Told,
    /// Requests for as long as there are any, and answers to them.
    Fed,
}

/// A method, or what is read by plain GET, and who may call it.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The path of its requests; what begins with it, where it ends with `/`.
    pub path: &'static str,
    /// Who may.
    pub who: Who,
    /// How far a call goes on.
    pub flow: Flow,
}

const fn of(path: &'static str, roles: &'static [Role]) -> Method {
    Method { path, who: Who::Roles(roles), flow: Flow::Once }
}

const fn told(path: &'static str, roles: &'static [Role]) -> Method {
    Method { path, who: Who::Roles(roles), flow: Flow::Told }
}

const fn fed(path: &'static str, roles: &'static [Role]) -> Method {
    Method { path, who: Who::Roles(roles), flow: Flow::Fed }
}

const fn open(path: &'static str) -> Method {
    Method { path, who: Who::Everybody, flow: Flow::Once }
}

/// Records what was paid; each request is held against the caller's CVR numbers.
const PAYROLL: &[Role] = &[Employer, Operator];
/// Decides about cards; each request is held against the caller's municipality.
const VISITATION: &[Role] = &[Municipality, Operator];
/// Reads the history, or what is verified of it.
const AUDIT: &[Role] = &[Auditor, Operator];
/// Asks how much of a limit is used; each person is held against whom the caller sees (W1, W2).
const ALLOWANCES: &[Role] = &[Employer, Municipality, Benefit, Tax, Operator];
/// Asks about anybody who has a card.
const AUTHORITIES: &[Role] = &[Benefit, Tax, Operator];
/// Reads who was looked up; a municipality of its own citizens.
const ACCESS_LOG: &[Role] = &[Municipality, Auditor, Operator];

/// Runs the ledger; what takes two of them is in the handlers.
const OPERATION: &[Role] = &[Operator];

/// All of it.
pub const METHODS: &[Method] = &[
    of("/frikort.v1.PaymentService/ReportPayment", PAYROLL),
    fed("/frikort.v1.PaymentService/ReportPayments", PAYROLL),
    of("/frikort.v1.PaymentService/CorrectPayment", PAYROLL),
    of("/frikort.v1.PaymentService/CancelPayment", PAYROLL),
    of("/frikort.v1.VisitationService/GrantCard", VISITATION),
    of("/frikort.v1.VisitationService/RejectApplication", VISITATION),
    of("/frikort.v1.VisitationService/DeactivateCard", VISITATION),
    of("/frikort.v1.VisitationService/ReactivateCard", VISITATION),
    of("/frikort.v1.VisitationService/ReverseDecision", VISITATION),
    of("/frikort.v1.VisitationService/ReissueCard", VISITATION),
    of("/frikort.v1.VisitationService/TransferCard", VISITATION),
    of("/frikort.v1.VisitationService/RecordControl", VISITATION),
    of("/frikort.v1.VisitationService/ChangeCprNumber", VISITATION),
    of("/frikort.v1.VisitationService/GetCard", VISITATION),
    of("/frikort.v1.PolicyService/SetAnnualLimit", &[Operator]),
    of("/frikort.v1.PolicyService/ListAnnualLimits", &Role::ALL),
    told("/frikort.v1.AuditService/ReadEvents", AUDIT),
    of("/frikort.v1.AuditService/GetCheckpoint", AUDIT),
    of("/frikort.v1.AuditService/GetInclusionProof", AUDIT),
    of("/frikort.v1.AuditService/GetConsistencyProof", AUDIT),
    of("/frikort.v1.AuditService/GetReceipt", &[Employer, Auditor, Operator]),
    told("/frikort.v1.AuditService/CheckLedger", AUDIT),
    of("/frikort.v1.AllowanceService/GetAllowance", ALLOWANCES),
    of("/frikort.v1.AllowanceService/BatchGetAllowances", ALLOWANCES),
    of("/frikort.v1.AllowanceService/GetStatement", ALLOWANCES),
    told("/frikort.v1.AllowanceService/WatchAllowances", AUTHORITIES),
    of("/frikort.v1.OverviewService/ListPayments", PAYROLL),
    of("/frikort.v1.OverviewService/ListDueControls", VISITATION),
    of("/frikort.v1.OverviewService/GetProcessingTimes", VISITATION),
    told("/frikort.v1.OverviewService/ListAnnualTotals", AUDIT),
    of("/frikort.v1.VerificationService/GetVerification", AUDIT),
    told("/frikort.v1.AccessLogService/ListLookups", ACCESS_LOG),
    of("/frikort.v1.RegisterService/RequestForgetting", OPERATION),
    of("/frikort.v1.RegisterService/ConfirmForgetting", OPERATION),
    told("/frikort.v1.RegisterService/ListForgettings", OPERATION),
    open("/grpc.health.v1.Health/"),
    open("/grpc.reflection.v1.ServerReflection/"),
    open("/grpc.reflection.v1alpha.ServerReflection/"),
    // The proof logs' files hold whole records.
    of("/log/", AUDIT),
    of("/metrics", AUDIT),
];

impl Method {
    /// Its name without the package: `AllowanceService/GetAllowance`.
    pub fn name(&self) -> &'static str {
        self.path.strip_prefix("/frikort.v1.").unwrap_or(self.path)
    }
}

/// What has this path; `None` where the table does not name it.
pub(crate) fn method(path: &str) -> Option<&'static Method> {
    let is = |method: &&Method| match method.path.ends_with('/') {
        true => path.starts_with(method.path),
        false => path == method.path,
    };
    METHODS.iter().find(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(path: &str) -> Option<Who> {
        method(path).map(|method| method.who)
    }

    #[test]
    fn what_is_not_named_is_nobodys() {
        assert_eq!(who("/frikort.v1.PaymentService/ReportPayment"), Some(Who::Roles(PAYROLL)));
        assert_eq!(who("/grpc.health.v1.Health/Check"), Some(Who::Everybody));
        assert_eq!(who("/log/partition/0/checkpoint"), Some(Who::Roles(AUDIT)));
        for path in [
            "",
            "/",
            "/frikort.v1.PaymentService/",
            "/frikort.v1.PaymentService/ReportPayment/",
            "/frikort.v1.PaymentService/reportpayment",
            "/metrics/",
            "/log",
            "//log/",
            "/log/../metrics",
        ] {
            let expected = path.starts_with("/log/").then_some(Who::Roles(AUDIT));
            assert_eq!(who(path), expected, "{path}");
        }
    }
}
