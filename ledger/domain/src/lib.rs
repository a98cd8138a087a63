//! The rules of the *socialt frikort*, as pure functions and data.
//!
//! ```text
//!            wire                       record (one JSON line)
//!              │ parse, at the edge        ▲ encode      │ decode
//!              ▼                           │             ▼
//!   Command + Account + limits ──decide──▶ Event ──▶ Account::apply
//!                                └───────▶ Rejection
//! ```
//!
//! Why its own crate: the compiler keeps it pure. What must stay out: async, I/O, clocks,
//! randomness, SQL, gRPC, and any other crate of this project. Rule ids in comments (`A4`, `P9`)
//! are those of RULES.md beside this crate.

mod account;
mod allocation;
mod amount;
mod card;
mod civil;
mod decide;
mod digits;
mod event;
mod ids;
mod limit;
mod payment;
mod record;
mod redecide;
mod replay;
mod upcast;
mod visitation;

pub use account::{Account, Contradiction};
pub use allocation::{Slot, settle};
pub use amount::{Amount, AmountError, Hours};
pub use card::{Card, CardStatus, control_due};
pub use civil::{Period, attribution_date, copenhagen_date, format_date, parse_date};
pub use decide::{Command, Decision, Rejection, decide, decide_within, settled_payments};
pub use event::{
    AllowanceRecalculated, ApplicationRejected, CancelReason, CardDeactivated, CardGranted,
    CardOutcome, CardReactivated, CardReissued, CardTransferred, ControlRecorded, CprNumberChanged,
    DeactivationOutcome, DecisionReversed, Event, LimitSet, PaymentCancelled, PaymentCorrected,
    PaymentOutcome, PaymentReported, RecalculationOutcome, SplitChange, YearTotals,
};
pub use ids::{
    Cpr, Cvr, FrikortId, FrikortTag, IdError, MunicipalityCode, NumberTag, PersonId,
    ProductionUnit, Reference, contains_cpr,
};
pub use limit::{EffectiveFrom, LimitChanges, LimitEntry, LimitSchedule};
pub use payment::{
    CancelPayment, Components, CorrectPayment, Facts, PaymentAnswer, PaymentKey, PaymentState,
    ReportPayment,
};
pub use record::{Actor, RECORD_TYPES, Record, RecordError, Role, SCHEMA, record_type};
pub use redecide::redecide;
pub use replay::{LimitHistory, Replay, Unsound};
pub use upcast::{Step, Upcasts};
pub use visitation::{
    CardAnswer, ChangeCprNumber, Criteria, Criterion, DeactivateCard, DecisionKey, GrantCard,
    ReactivateCard, RecordControl, RecordedDecision, ReissueCard, RejectApplication,
    ReverseDecision, TransferCard,
};

/// The first day of the scheme (Y4; LOV 689 af 8/6/2018): nothing is dated before it.
pub const SCHEME_START: time::Date = time::macros::date!(2019 - 01 - 01);

/// How many payments a person may have recorded in one calendar year, unless set otherwise (P10).
pub const PAYMENTS_PER_YEAR: u32 = 5_000;

/// How many days ahead of today in Copenhagen a payment may be dated (Y4).
pub const DAYS_AHEAD: i64 = 31;
