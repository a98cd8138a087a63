//! Payments: the facts, the commands about them, and a payment as it stands in an account.

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use crate::{
    Amount, Cvr, FrikortTag, Hours, Period, ProductionUnit, Reference, attribution_date,
    civil::iso,
    event::{CancelReason, PaymentOutcome},
};

/// Identity of a payment within one person (P3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentKey {
    /// The employer.
    pub employer_cvr: Cvr,
    /// The employer's own reference.
    pub reference: Reference,
}

/// What an employer states about a payment; a correction replaces all of it (P5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Gross amount paid out; above zero, at most 999.999,99 kr. (P1).
    pub amount: Amount,
    /// The day on which it is paid out.
    #[serde(with = "iso")]
    pub payment_date: Date,
    /// The days on which the work was done, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Period>,
    /// Hours worked; absent means unknown (P8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// What the amount is made of; adds up to `amount` (P1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<Components>,
}

/// Parts of the gross amount (P1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Components {
    /// Wage.
    pub wage: Amount,
    /// Holiday pay paid to the citizen.
    pub holiday_pay: Amount,
    /// Pension paid to the citizen.
    pub pension: Amount,
}

impl Components {
    /// What they add up to.
    pub fn sum(&self) -> Amount {
        self.wage + self.holiday_pay + self.pension
    }
}

impl Facts {
    /// The days that must be covered by a card (C1).
    pub fn work_days(&self) -> Period {
        self.work.unwrap_or(Period::day(self.payment_date))
    }

    /// The day that places the payment in a year (Y1).
    pub fn attribution_date(&self) -> Date {
        attribution_date(self.payment_date, self.work)
    }

    /// Names of the fields in which two statements differ.
    pub(crate) fn differing(&self, other: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut note = |differs: bool, name| {
            if differs {
                names.push(name);
            }
        };
        note(self.amount != other.amount, "facts.amount_oere");
        note(self.payment_date != other.payment_date, "facts.payment_date");
        note(self.work != other.work, "facts.work_period");
        note(self.hours != other.hours, "facts.hours_hundredths");
        note(self.components != other.components, "facts.components");
        names
    }
}

/// Record one payment.
#[derive(Clone, Debug)]
pub struct ReportPayment {
    /// Employer and reference.
    pub key: PaymentKey,
    /// The facts.
    pub facts: Facts,
    /// Place of work.
    pub production_unit: Option<ProductionUnit>,
    /// The Frikort-ID given beside the CPR number, as this person's tag (N4).
    pub frikort: Option<FrikortTag>,
    /// Declared ordinary, unsupported work (P2).
    pub ordinary_work: bool,
    /// Refuse rather than record a taxable part (A8).
    pub reject_if_exceeds: bool,
}

/// Replace the facts of one payment (P5).
#[derive(Clone, Debug)]
pub struct CorrectPayment {
    /// Employer and reference.
    pub key: PaymentKey,
    /// The new facts.
    pub facts: Facts,
    /// The Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The revision that the employer believes current.
    pub expected_revision: u32,
}

/// End one payment (P6).
#[derive(Clone, Debug)]
pub struct CancelPayment {
    /// Employer and reference.
    pub key: PaymentKey,
    /// Why.
    pub reason: CancelReason,
    /// The Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The revision that the employer believes current.
    pub expected_revision: u32,
}

/// What an employer is told; stored in the event (A7), so that it can be told again (P3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentAnswer {
    /// Split, year and totals as decided.
    pub outcome: PaymentOutcome,
    /// The event's position; of the head where nothing was recorded.
    pub position: i64,
    /// When it was recorded.
    pub recorded_at: OffsetDateTime,
}

/// One payment in an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentState {
    /// The facts last stated.
    pub facts: Facts,
    /// Place of work, as reported.
    pub production_unit: Option<ProductionUnit>,
    /// The calendar year on whose limit it draws.
    pub year: i32,
    /// Position of the event that placed it in `year`: the order of drawing (A3, P5).
    pub order: i64,
    /// The exempt part as it stands; at most `facts.amount`.
    pub exempt: Amount,
    /// 1 when reported, one more with each change.
    pub revision: u32,
    /// Position of the event that last changed it: its facts or its split.
    pub position: i64,
    /// Ended (P6).
    pub cancelled: bool,
    /// The first statement, where it differs from `facts`; a replayed report is held against it.
    pub(crate) reported: Option<Box<Facts>>,
    /// The answer to the report.
    pub(crate) first_answer: Box<PaymentAnswer>,
    /// The last accepted change, for replaying it (P9).
    pub(crate) last_change: Option<Box<LastChange>>,
}

/// The last accepted correction or cancellation of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastChange {
    /// `None` for a correction: its content is the payment's facts.
    pub(crate) cancelled_for: Option<CancelReason>,
    pub(crate) expected_revision: u32,
    pub(crate) answer: PaymentAnswer,
}

impl PaymentState {
    /// The gross amount as it counts: zero when cancelled.
    pub fn amount(&self) -> Amount {
        if self.cancelled { Amount::ZERO } else { self.facts.amount }
    }

    /// The part above the limit.
    pub fn taxable(&self) -> Amount {
        self.amount().saturating_sub(self.exempt)
    }

    /// Position of the event that reported it: the order of registration (A3).
    pub fn registered(&self) -> i64 {
        self.first_answer.position
    }

    pub(crate) fn reported_facts(&self) -> &Facts {
        self.reported.as_deref().unwrap_or(&self.facts)
    }
}
