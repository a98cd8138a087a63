//! A database that goes back to an older state under running services, and whether any answer that
//! the services give afterwards is false.
//!
//! ```text
//!   Site: a cluster whose data directory is replaced by an older copy of itself
//!     │                                     Each replacement begins a new epoch.
//!   Load, Streams: calls from several clients ──▶ Journal: every answer, with the epoch in which
//!     │                                           it was asked for and the one in which it came
//!   Histories: the event table of every epoch ──judge──▶ the false answers
//! ```
//!
//! An answer is false when it names an event that is not in the table of its epoch at that position
//! with that content, or an amount that does not follow from the events up to the position that it
//! names. A call that began in one epoch and was answered in a later one may be about either.
//!
//! Not here: what a test expects of a refusal, and when writing must stop or go on.

mod calls;
mod commands;
mod events;
mod fold;
mod follows;
mod journal;
mod judge;
mod load;
mod pair;
mod site;
mod stack;
mod streams;

pub use calls::{Caller, Payroll, Planned};
pub use commands::{AuditReport, Command, accept_history, audit_everything};
pub use events::{Event, Histories, History};
pub use journal::{Answer, Claim, Journal, reason_of};
pub use judge::{FalseAnswer, judge, judge_checkpoint, judge_claim};
pub use load::Load;
pub use pair::{Pair, Replication};
pub use site::{Epoch, Site, cpr_of};
pub use stack::{Services, eventually, settled};
pub use streams::{Streams, Watched};
