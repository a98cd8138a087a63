//! Who calls, and what a caller may do.
//!
//! ```text
//!   certificate or token ──directory──▶ caller: name, role, scope
//!   method ──table──▶ roles                    caller in the request's extensions ──▶ handler
//!                       └─ not among them: refused, before the request is read
//! ```
//!
//! A role opens methods; a scope (CVR numbers, a municipality's code) says for whom a caller acts
//! there, and is held by the handlers against what was asked. Whatever the table does not name is
//! refused. How much of the service a caller may have is in `limits.rs` and `places.rs`.
//!
//! Each look-up of a person is noted before it is answered (`lookups.rs`), in a file (`journal.rs`,
//! `note.rs`) and from there in the access log's table (`access_log.rs`).
//!
//! Why its own crate: the ledger and the projector must answer alike. What must stay out: cards,
//! payments, and of the database all but the access log.

mod access_log;
mod again;
mod caller;
mod directory;
mod fetch;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod journal;
mod keys;
mod limits;
mod looking;
mod lookups;
mod methods;
mod note;
mod places;
mod settings;
mod signature;
#[cfg(test)]
mod testing;
mod token;

pub use access_log::{Noted, noted_after};
pub use caller::{Caller, Role};
pub use directory::Directory;
pub use guard::{Guard, caller};
pub use limits::Misses;
pub use looking::{Looking, PURPOSE};
pub use lookups::{Lookups, NOBODY};
pub use methods::{Flow, METHODS, Method, Who};
pub use places::{Place, Places};
pub use settings::{Access, Args, Settings};
