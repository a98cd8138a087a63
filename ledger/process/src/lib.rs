//! The life that the service processes share: configuration, clock, log, serving, stopping.
//!
//! Why its own crate: `ledger` and `projector` are separate programs that must start, answer and
//! stop alike. What must stay out: anything about cards, payments or events, and odds and ends.

pub mod clock;
pub mod config;
pub mod database;
pub mod serve;
pub mod stop;
pub mod telemetry;
