//! A caller, and for whom it may act.

use std::sync::Arc;

use frikort_domain::{Cvr, MunicipalityCode};
use frikort_proto::{error::Failure, v1::ErrorReason};

/// What a caller is. Each opens other methods (`methods.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reports payments, of the employers in its scope; a payroll bureau has many.
    Employer,
    /// Decides about cards.
    Municipality,
    /// Pays benefits.
    Benefit,
    /// Assesses taxes.
    Tax,
    /// Reads the history, and verifies it.
    Auditor,
    /// Runs the ledger.
    Operator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Employer,
        Self::Municipality,
        Self::Benefit,
        Self::Tax,
        Self::Auditor,
        Self::Operator,
    ];

    /// As it is written in settings and told to callers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Employer => "employer",
            Self::Municipality => "municipality",
            Self::Benefit => "benefit",
            Self::Tax => "tax",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

/// Whoever calls, as the directory has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// What it is called in records and logs.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// The employers that it acts for.
    pub cvr_numbers: Vec<Cvr>,
    /// The municipality that it acts for.
    pub municipality_code: Option<MunicipalityCode>,
}

impl Caller {
    /// Whoever calls where nobody is asked who they are: the operator's own machine.
    pub(crate) fn local() -> Arc<Self> {
        Arc::new(Self {
            name: "local".to_owned(),
            role: Role::Operator,
            cvr_numbers: Vec::new(),
            municipality_code: None,
        })
    }

    /// Whether it acts for an employer: the operator for all of them, an employer for those in its
    /// scope (P7). `field` is what the request calls it.
    pub fn acts_for_employer(&self, cvr: Cvr, field: &str) -> Result<(), Failure> {
        let acts = match self.role {
            Role::Operator => true,
            Role::Employer => self.cvr_numbers.contains(&cvr),
            Role::Municipality | Role::Benefit | Role::Tax | Role::Auditor => false,
        };
        if acts { Ok(()) } else { Err(out_of_scope(field)) }
    }

    /// Whether it is told what all of a person's payments come to, or the balance alone (W1).
    pub fn sees_totals(&self) -> bool {
        self.role != Role::Employer
    }

    /// Whether it may ask about all employers or municipalities at once: the operator alone.
    pub fn acts_for_all(&self, field: &str) -> Result<(), Failure> {
        if self.role == Role::Operator { Ok(()) } else { Err(out_of_scope(field)) }
    }

    /// Whether it acts for a municipality: the operator for all of them, a municipality for itself
    /// (C7).
    pub fn acts_for_municipality(
        &self,
        code: MunicipalityCode,
        field: &str,
    ) -> Result<(), Failure> {
        let acts = match self.role {
            Role::Operator => true,
            Role::Municipality => self.municipality_code == Some(code),
            Role::Employer | Role::Benefit | Role::Tax | Role::Auditor => false,
        };
        if acts { Ok(()) } else { Err(out_of_scope(field)) }
    }
}

/// The same for everybody who is out of scope, so that it tells nothing of anybody (W3): it is said
/// before a person is looked for.
fn out_of_scope(field: &str) -> Failure {
    let message = format!("the caller does not act for {field}");
    Failure::new(ErrorReason::NotAllowed, message).with("field", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, cvr_numbers: &[&str], code: Option<&str>) -> Caller {
        Caller {
            name: "somebody".to_owned(),
            role,
            cvr_numbers: cvr_numbers.iter().map(|cvr| cvr.parse().unwrap()).collect(),
            municipality_code: code.map(|code| code.parse().unwrap()),
        }
    }

    #[test]
    fn p7_an_employer_acts_for_those_in_its_scope() {
        let (ours, theirs) = ("13748136".parse().unwrap(), "29189706".parse().unwrap());
        let bureau = caller(Role::Employer, &["13748136", "25048482"], None);
        assert!(bureau.acts_for_employer(ours, "employer_cvr").is_ok());
        let refused = bureau.acts_for_employer(theirs, "employer_cvr").unwrap_err();
        assert_eq!(refused.reason, ErrorReason::NotAllowed);
        assert_eq!(refused.metadata["field"], "employer_cvr");
        for role in Role::ALL {
            // A scope that belongs to another role opens nothing.
            let acts = caller(role, &["13748136"], None).acts_for_employer(ours, "x").is_ok();
            assert_eq!(acts, matches!(role, Role::Employer | Role::Operator), "{role:?}");
        }
    }

    #[test]
    fn c7_a_municipality_acts_for_itself() {
        let (ours, theirs) = ("101".parse().unwrap(), "147".parse().unwrap());
        let clerk = caller(Role::Municipality, &[], Some("101"));
        assert!(clerk.acts_for_municipality(ours, "municipality_code").is_ok());
        assert!(clerk.acts_for_municipality(theirs, "municipality_code").is_err());
        for role in Role::ALL {
            let acts = caller(role, &[], Some("101")).acts_for_municipality(ours, "x").is_ok();
            assert_eq!(acts, matches!(role, Role::Municipality | Role::Operator), "{role:?}");
        }
    }
}
