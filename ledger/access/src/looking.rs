//! A call that looks persons up: who calls which method, and what for (W4).

use std::sync::Arc;

use frikort_domain::contains_cpr;
use frikort_proto::error::Failure;
use tonic::{Request, metadata::MetadataMap};

use crate::{Caller, Role, guard};

/// Where a call says what it is for.
pub const PURPOSE: &str = "frikort-purpose";

/// The longest purpose code.
const LONGEST: usize = 40;

/// Who looks persons up, by which method, and what for.
#[derive(Clone, Debug)]
pub struct Looking {
    /// Who.
    pub who: Arc<Caller>,
    /// By which method, as `AllowanceService/GetAllowance`.
    pub method: &'static str,
    /// The purpose code stated; without one that of the role.
    pub purpose: Arc<str>,
}

impl Looking {
    /// Whom the guard has let through. Benefit and tax systems must have said what for.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Failure> {
        let who = guard::caller(request.extensions())?.clone();
        let method = guard::method(request.extensions())?;
        let purpose = purpose(who.role, request.metadata())?;
        Ok(Self { who, method, purpose })
    }
}

/// The purpose stated in the metadata `frikort-purpose`, else that of the role.
fn purpose(role: Role, metadata: &MetadataMap) -> Result<Arc<str>, Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let Some(stated) = metadata.get(PURPOSE) else {
        return match role {
            Role::Employer => Ok("PAYROLL".into()),
            Role::Municipality => Ok("VISITATION".into()),
            Role::Auditor => Ok("AUDIT".into()),
            Role::Operator => Ok("OPERATION".into()),
            Role::Benefit | Role::Tax => Err(refused("is required of benefit and tax systems")),
        };
    };
    let stated = stated.to_str().unwrap_or_default();
    let sound = (1..=LONGEST).contains(&stated.len()) && stated.chars().all(allowed);
    if !sound || contains_cpr(stated) {
        let form = format!("must be 1 to {LONGEST} of A-Z a-z 0-9 _ - . : and no CPR number");
        return Err(refused(&form));
    }
    Ok(stated.into())
}

fn refused(fault: &str) -> Failure {
    Failure::invalid(vec![(PURPOSE.to_owned(), fault.to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(role: Role, purpose: Option<&str>) -> Result<Arc<str>, Failure> {
        let mut metadata = MetadataMap::new();
        if let Some(purpose) = purpose {
            metadata.insert(PURPOSE, purpose.parse().unwrap());
        }
        super::purpose(role, &metadata)
    }

    #[test]
    fn w4_benefit_and_tax_say_what_for_and_others_may() {
        for role in Role::ALL {
            let must = matches!(role, Role::Benefit | Role::Tax);
            assert_eq!(stated(role, None).is_err(), must, "{role:?}");
            assert_eq!(
                &*stated(role, Some("KONTANTHJAELP.2026-1")).unwrap(),
                "KONTANTHJAELP.2026-1"
            );
        }
    }

    #[test]
    fn a_purpose_is_a_code_and_no_person() {
        let long = "x".repeat(LONGEST + 1);
        for bad in ["", " ", "a b", "0101605001", "x:010160-5001", &long] {
            let refused = stated(Role::Tax, Some(bad)).unwrap_err();
            assert_eq!(refused.fields[0].0, PURPOSE, "{bad}");
            assert!(bad.len() < 3 || !format!("{refused:?}").contains(bad), "{bad}");
        }
    }
}
