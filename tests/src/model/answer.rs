//! What a call or a question is answered with, as the contract words it.

use std::collections::BTreeMap;

use super::{Day, PaymentKey};

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// About a payment.
    Payment(PaymentAnswer),
    /// About a card.
    Card(CardAnswer),
    /// Recorded, and nothing comes of it: a rejected application.
    Noted {
        /// The event's.
        position: i64,
        /// Given before.
        replayed: bool,
    },
    /// Refused; nothing is recorded.
    Refused(Refusal),
}

/// The answer to a report, a correction or a cancellation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentAnswer {
    /// The payment; its position is the event's.
    pub payment: Standing,
    /// The person's year after it.
    pub allowance: Allowance,
    /// Given before.
    pub replayed: bool,
    /// P4.
    pub possible_duplicate: bool,
    /// The present revision of a payment that was changed since (P11).
    pub changed_since: Option<i32>,
}

/// A payment as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Employer and reference.
    pub key: PaymentKey,
    /// 1 when reported.
    pub revision: i32,
    /// The day that places it in its year.
    pub attributed: Day,
    /// Zero when cancelled.
    pub oere: i64,
    /// The exempt part.
    pub exempt: i64,
    /// The taxable part.
    pub taxable: i64,
    /// P6.
    pub cancelled: bool,
    /// Where its facts or its split were last changed.
    pub position: i64,
}

/// A person's year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The calendar year.
    pub year: i32,
    /// In øre, as all of them.
    pub limit: i64,
    /// Sum of the payments.
    pub total: i64,
    /// The smaller of the two.
    pub used: i64,
    /// What is left of the limit.
    pub remaining: i64,
    /// What is above it.
    pub taxable: i64,
    /// How many payments.
    pub payments: i32,
}

impl Allowance {
    /// A2.
    pub fn new(year: i32, limit: i64, total: i64, payments: i32) -> Self {
        let used = if total < limit { total } else { limit };
        let (remaining, taxable) = (limit - used, total - used);
        Self { year, limit, total, used, remaining, taxable, payments }
    }
}

/// The answer to a municipality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardAnswer {
    /// The active days have no end.
    pub active: bool,
    /// So they have none after a deactivation (C12).
    pub still_active: bool,
    /// The responsible one.
    pub municipality: u16,
    /// First and last active days.
    pub periods: Vec<(Day, Option<Day>)>,
    /// C9.
    pub control_due: Option<Day>,
    /// Accepted payments after the last active day (C3).
    pub payments_after: Vec<Standing>,
    /// The event's.
    pub position: i64,
    /// Given before.
    pub replayed: bool,
}

/// Why nothing is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// By its name in the contract.
    pub reason: String,
    /// As documented at the reason.
    pub metadata: BTreeMap<String, String>,
    /// Bad or differing fields, sorted.
    pub fields: Vec<String>,
}

impl Refusal {
    /// Without metadata.
    pub fn new(reason: &str) -> Self {
        Self { reason: reason.to_owned(), ..Self::default() }
    }

    /// With one entry of metadata.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Naming fields.
    #[must_use]
    pub fn of_fields(mut self, fields: &[&str]) -> Self {
        self.fields = fields.iter().map(|field| (*field).to_owned()).collect();
        self.fields.sort();
        self
    }
}
