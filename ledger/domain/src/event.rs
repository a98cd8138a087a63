//! What is recorded: the facts as given (`data`) and what was decided (`outcome`).
//!
//! Rules for the next person: types and fields only grow; the golden lines in `tests/golden`
//! must decode for ever. An outcome holds all that a reader needs, so that a projection copies
//! and never decides, and an auditor sees what everybody was told.

use serde::{Deserialize, Serialize};
use time::Date;

use crate::{
    Amount, Cvr, DecisionKey, Facts, FrikortTag, LimitEntry, MunicipalityCode, NumberTag,
    PaymentKey, ProductionUnit, Reference, civil::iso, visitation::Criteria,
};

/// One event, v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `card_granted`
    CardGranted(CardGranted, CardOutcome),
    /// `application_rejected`
    ApplicationRejected(ApplicationRejected),
    /// `card_deactivated`
    CardDeactivated(CardDeactivated, DeactivationOutcome),
    /// `card_reactivated`
    CardReactivated(CardReactivated, CardOutcome),
    /// `card_reissued`
    CardReissued(CardReissued),
    /// `card_transferred`
    CardTransferred(CardTransferred),
    /// `decision_reversed`
    DecisionReversed(DecisionReversed, CardOutcome),
    /// `control_recorded`
    ControlRecorded(ControlRecorded),
    /// `cpr_number_changed`
    CprNumberChanged(CprNumberChanged),
    /// `payment_reported`
    PaymentReported(PaymentReported, PaymentOutcome),
    /// `payment_corrected`
    PaymentCorrected(PaymentCorrected, PaymentOutcome),
    /// `payment_cancelled`
    PaymentCancelled(PaymentCancelled, PaymentOutcome),
    /// `allowance_recalculated`
    AllowanceRecalculated(AllowanceRecalculated, RecalculationOutcome),
    /// `annual_limit_set`
    AnnualLimitSet(LimitSet),
}

/// A municipality granted a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardGranted {
    /// Who decided; from now on responsible (handlekommune).
    pub municipality: MunicipalityCode,
    /// The municipality's own reference of the decision.
    pub reference: Reference,
    /// The Frikort-ID, as this person's tag.
    pub frikort: FrikortTag,
    /// The day of the decision.
    #[serde(with = "iso")]
    pub decided_on: Date,
    /// The first active day.
    #[serde(with = "iso")]
    pub effective_from: Date,
    /// On what it rests (C10).
    #[serde(default, skip_serializing_if = "Criteria::is_empty")]
    pub criteria: Criteria,
    /// The day on which the citizen applied, where there was an application.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "iso::option")]
    pub applied_on: Option<Date>,
}

/// A municipality rejected an application for a card. Nothing else comes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationRejected {
    /// Who decided.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference of the decision.
    pub reference: Reference,
    /// The day on which the citizen applied.
    #[serde(with = "iso")]
    pub applied_on: Date,
    /// The day of the decision.
    #[serde(with = "iso")]
    pub decided_on: Date,
    /// On what it rests (C10).
    #[serde(default, skip_serializing_if = "Criteria::is_empty")]
    pub criteria: Criteria,
}

/// A municipality deactivated a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardDeactivated {
    /// Who decided.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference of the decision.
    pub reference: Reference,
    /// The day of the decision.
    #[serde(with = "iso")]
    pub decided_on: Date,
    /// The last active day; not before the decision (C3).
    #[serde(with = "iso")]
    pub last_day: Date,
    /// On what it rests (C10).
    #[serde(default, skip_serializing_if = "Criteria::is_empty")]
    pub criteria: Criteria,
}

/// What a deactivation meets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeactivationOutcome {
    /// Accepted payments for work after the last active day, not every day of which is active; they stay
    /// accepted (C3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payments_after: Vec<PaymentKey>,
    /// The card is active all the same: a decision with a later date stands (C12).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub active: bool,
}

/// A municipality made a deactivated card active again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardReactivated {
    /// Who decided.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference of the decision.
    pub reference: Reference,
    /// The day of the decision.
    #[serde(with = "iso")]
    pub decided_on: Date,
    /// The first day on which it is active again.
    #[serde(with = "iso")]
    pub effective_from: Date,
}

/// A municipality gave the holder of a card another Frikort-ID, as when a card is lost. Earlier ones
/// stay the person's (N4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardReissued {
    /// Who decided.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference of the decision.
    pub reference: Reference,
    /// The new Frikort-ID, as this person's tag.
    pub frikort: FrikortTag,
    /// The day of the decision.
    #[serde(with = "iso")]
    pub decided_on: Date,
}

/// A municipality handed a person over to another one, which decides from now on (C7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardTransferred {
    /// Who decided, and was responsible until now.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference of the decision.
    pub reference: Reference,
    /// The day of the decision.
    #[serde(with = "iso")]
    pub decided_on: Date,
    /// Who is responsible from now on.
    pub to: MunicipalityCode,
}

/// A deactivation was reversed on appeal: coverage is as if it had never been (C5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionReversed {
    /// Who recorded it.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference of the reversal.
    pub reference: Reference,
    /// The day of the decision on appeal.
    #[serde(with = "iso")]
    pub decided_on: Date,
    /// The deactivation that is reversed.
    pub reversed: DecisionKey,
}

/// Where a decision about days leaves the card (C12). Of a grant and a reactivation it is recorded only where
/// it is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardOutcome {
    /// Whether the card is active after it: false where a deactivation with a later date stands.
    pub active: bool,
}

impl CardOutcome {
    /// The card is active.
    pub const ACTIVE: Self = Self { active: true };
}

/// A municipality controlled that a person may keep the card (C9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlRecorded {
    /// Who controlled.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference of the control.
    pub reference: Reference,
    /// The day of the control.
    #[serde(with = "iso")]
    pub decided_on: Date,
    /// The person keeps the card although a condition is not met any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dispensation: bool,
    /// On what it rests (C10).
    #[serde(default, skip_serializing_if = "Criteria::is_empty")]
    pub criteria: Criteria,
}

/// A person has another CPR number, which leads to the same person (N5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CprNumberChanged {
    /// Who recorded it.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference.
    pub reference: Reference,
    /// The day on which the change was decided.
    #[serde(with = "iso")]
    pub decided_on: Date,
    /// The new number, as this person's tag.
    pub number: NumberTag,
}

/// An employer reported a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentReported {
    /// The employer.
    pub employer_cvr: Cvr,
    /// The employer's own reference.
    pub reference: Reference,
    /// The facts.
    pub facts: Facts,
    /// Place of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub production_unit: Option<ProductionUnit>,
}

/// An employer corrected a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentCorrected {
    /// The employer.
    pub employer_cvr: Cvr,
    /// The employer's own reference.
    pub reference: Reference,
    /// The revision that was corrected.
    pub expected_revision: u32,
    /// The new facts.
    pub facts: Facts,
}

/// An employer cancelled a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentCancelled {
    /// The employer.
    pub employer_cvr: Cvr,
    /// The employer's own reference.
    pub reference: Reference,
    /// The revision that was cancelled.
    pub expected_revision: u32,
    /// Why.
    pub reason: CancelReason,
}

/// Why a payment is cancelled (P6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CancelReason {
    /// Reported for another person than was paid.
    WrongPerson,
    /// Reported twice under two references.
    Duplicate,
    /// Never paid out.
    NotPaid,
    /// Supported work after all.
    SupportedWork,
    /// Anything else.
    Other,
}

/// What was decided about a payment, and the person's year after it (A7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentOutcome {
    /// The payment's revision after the event.
    pub revision: u32,
    /// The day that places it in a year (Y1).
    #[serde(with = "iso")]
    pub attribution_date: Date,
    /// The exempt part.
    pub exempt: Amount,
    /// The taxable part.
    pub taxable: Amount,
    /// The payment's year after the event.
    pub year: YearTotals,
    /// The year that the payment left, after the event (P5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_year: Option<YearTotals>,
    /// Other payments whose split changed (A5, A6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<SplitChange>,
    /// Another payment of this employer is alike in all but the reference (P4).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub possible_duplicate: bool,
}

/// Changed limits reached a person: splits are as they make them, one after the other (A5, A6, A9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowanceRecalculated {
    /// The calendar year whose limit changed.
    pub year: i32,
}

/// What came of a recalculation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecalculationOutcome {
    /// The year after it.
    pub year: YearTotals,
    /// The payments whose split changed; at least one.
    pub changed: Vec<SplitChange>,
}

/// One person's year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YearTotals {
    /// Calendar year.
    pub year: i32,
    /// The limit applied.
    pub limit: Amount,
    /// Sum of the payments that are not cancelled.
    pub total: Amount,
    /// Their number.
    pub payments: u32,
}

/// Another payment's new split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitChange {
    /// The payment's employer.
    pub employer_cvr: Cvr,
    /// The payment's reference.
    pub reference: Reference,
    /// Its exempt part now.
    pub exempt: Amount,
    /// Its taxable part now.
    pub taxable: Amount,
}

/// The operator recorded a limit.
pub type LimitSet = LimitEntry;
