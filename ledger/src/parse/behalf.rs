//! On whose behalf a request is made. What must stay out: whether its caller may.

use frikort_domain::{Command, Cvr, MunicipalityCode};

use super::{Grant, NewNumber, Reissue};

/// Whom a request names as the one who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behalf {
    Employer(Cvr),
    Municipality(MunicipalityCode),
}

/// What is done on somebody's behalf.
pub(crate) trait OnBehalf {
    /// On whose; nobody's what the ledger does by itself.
    fn behalf(&self) -> Option<Behalf>;
}

impl OnBehalf for Command {
    fn behalf(&self) -> Option<Behalf> {
        let decision = match self {
            Self::ReportPayment(of) => return Some(Behalf::Employer(of.key.employer_cvr)),
            Self::CorrectPayment(of) => return Some(Behalf::Employer(of.key.employer_cvr)),
            Self::CancelPayment(of) => return Some(Behalf::Employer(of.key.employer_cvr)),
            Self::GrantCard(of) => &of.key,
            Self::RejectApplication(of) => &of.key,
            Self::DeactivateCard(of) => &of.key,
            Self::ReactivateCard(of) => &of.key,
            Self::ReissueCard(of) => &of.key,
            Self::TransferCard(of) => &of.key,
            Self::ReverseDecision(of) => &of.key,
            Self::RecordControl(of) => &of.key,
            Self::ChangeCprNumber(of) => &of.key,
            Self::Recalculate { .. } => return None,
        };
        Some(Behalf::Municipality(decision.municipality))
    }
}

impl OnBehalf for Grant {
    fn behalf(&self) -> Option<Behalf> {
        Some(Behalf::Municipality(self.key.municipality))
    }
}

impl OnBehalf for Reissue {
    fn behalf(&self) -> Option<Behalf> {
        Some(Behalf::Municipality(self.key.municipality))
    }
}

impl OnBehalf for NewNumber {
    fn behalf(&self) -> Option<Behalf> {
        Some(Behalf::Municipality(self.key.municipality))
    }
}
