//! What somebody asks to have recorded.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Day;

/// A CVR number.
pub type Employer = String;

/// A municipality code.
pub type Municipality = u16;

/// A call about one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A municipality decides (C).
    Decide(Decision),
    /// An employer reports a payment.
    Report {
        /// Which payment.
        key: PaymentKey,
        /// What is stated.
        facts: Facts,
        /// P-number of the place of work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// P2.
        ordinary: bool,
        /// A8.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        strict: bool,
    },
    /// An employer corrects a payment (P5).
    Correct {
        /// Which payment.
        key: PaymentKey,
        /// What is stated instead.
        facts: Facts,
        /// The revision that the employer believes current.
        revision: i32,
    },
    /// An employer cancels a payment (P6).
    Cancel {
        /// Which payment.
        key: PaymentKey,
        /// Why, by its number in the contract.
        reason: i32,
        /// The revision that the employer believes current.
        revision: i32,
    },
}

impl Command {
    /// Whether it can be about somebody who is new: a grant, or a rejected application.
    pub fn needs_no_card(&self) -> bool {
        matches!(self, Self::Decide(decision) if decision.needs_no_card())
    }

    /// The fields that are malformed, all of them, sorted: of those that a simulation gets wrong.
    pub fn faults(&self) -> Vec<&'static str> {
        let fault = match self {
            Self::Report { facts, .. } | Self::Correct { facts, .. } => {
                let parts =
                    facts.parts.is_some_and(|parts| parts.iter().sum::<i64>() != facts.oere);
                let backwards = facts.work.is_some_and(|(first, last)| last < first);
                let amount = !(1..=99_999_999).contains(&facts.oere);
                vec![
                    (amount, "facts.amount_oere"),
                    // Without an amount there is nothing to add up to.
                    (parts && !amount, "facts.components"),
                    (backwards, "facts.work_period.last_day"),
                ]
            }
            Self::Decide(Decision { municipality, decided, kind, .. }) => match kind {
                Kind::Deactivate { last_day, .. } => vec![(last_day < decided, "effective_date")],
                Kind::Transfer { to } => vec![(to == municipality, "to_municipality_code")],
                Kind::Grant { applied: Some(applied), .. } | Kind::Reject { applied, .. } => {
                    vec![(applied > decided, "application_date")]
                }
                _ => Vec::new(),
            },
            Self::Cancel { .. } => Vec::new(),
        };
        let revision = match self {
            Self::Correct { revision, .. } | Self::Cancel { revision, .. } => *revision < 1,
            _ => false,
        };
        let faults = [(revision, "expected_revision")].into_iter().chain(fault);
        faults.filter(|(is, _)| *is).map(|(_, field)| field).collect()
    }
}

/// Identity of a payment within a person (P3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PaymentKey {
    /// The employer.
    pub employer: Employer,
    /// The employer's own reference.
    pub reference: String,
}

/// What an employer states (P1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Gross amount in øre.
    pub oere: i64,
    /// The day on which it is paid out.
    pub paid: Day,
    /// First and last day of the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<(Day, Day)>,
    /// Hundredths of hours; none is unknown (P8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<i32>,
    /// Wage, holiday pay, pension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<[i64; 3]>,
}

impl Facts {
    /// First and last day that must be covered (C1).
    pub fn work_days(&self) -> (Day, Day) {
        self.work.unwrap_or((self.paid, self.paid))
    }

    /// The day that places it in a year (Y1).
    pub fn attributed(&self) -> Day {
        match self.work {
            Some((first, _)) if self.paid < first => first,
            _ => self.paid,
        }
    }
}

/// A municipality's decision under its own reference (C11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who decides.
    pub municipality: Municipality,
    /// The municipality's own reference.
    pub reference: String,
    /// The day of the decision, or of the control.
    pub decided: Day,
    /// What is decided.
    pub kind: Kind,
}

impl Decision {
    /// Whether it can be about somebody who is new.
    pub fn needs_no_card(&self) -> bool {
        matches!(self.kind, Kind::Grant { .. } | Kind::Reject { .. })
    }

    /// Whether it is the one that a municipality gave this reference (C11).
    pub fn is(&self, municipality: Municipality, reference: &str) -> bool {
        self.municipality == municipality && self.reference == reference
    }
}

/// What a municipality decides. Criteria are numbers of the contract (C10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A card is granted.
    Grant {
        /// The Frikort-ID.
        frikort_id: String,
        /// First active day (C2).
        from: Day,
        /// The day on which the citizen applied.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        applied: Option<Day>,
        /// C10.
        criteria: BTreeSet<i32>,
    },
    /// An application is rejected.
    Reject {
        /// The day on which the citizen applied.
        applied: Day,
        /// C10.
        criteria: BTreeSet<i32>,
    },
    /// The card is deactivated.
    Deactivate {
        /// Last active day, not before the decision (C3).
        last_day: Day,
        /// C10.
        criteria: BTreeSet<i32>,
    },
    /// The card is active again.
    Reactivate {
        /// First active day.
        from: Day,
    },
    /// The holder has another Frikort-ID (N4).
    Reissue {
        /// Five digits.
        frikort_id: String,
    },
    /// A deactivation was reversed on appeal (C5).
    Reverse {
        /// Who had decided it.
        municipality: Municipality,
        /// Under which reference.
        reference: String,
    },
    /// The person is handed over (C7).
    Transfer {
        /// To whom.
        to: Municipality,
    },
    /// The card was controlled (C9).
    Control {
        /// The card is kept although a condition is not met.
        dispensation: bool,
        /// C10.
        criteria: BTreeSet<i32>,
    },
    /// The person has another CPR number (N5): which of the person's numbers it is.
    Renumber {
        /// 0 for the first that the person had.
        number: u32,
    },
}
