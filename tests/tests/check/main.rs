//! The check of a ledger on real tables: what is sound passes, and each thing that somebody with all
//! rights in the database can do to it is found, at its position.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

mod continuous;
mod ground;
mod history;
mod log;
mod projection;
mod service;
