//! Faults of the database, and of the way to it, that last for a while under load: callers are
//! answered in time, health and log follow, all goes on without a restart, and nothing is lost,
//! recorded twice or false.
//!
//! A fault lasts for 6 seconds, or as long as `FRIKORT_FAULT_SECONDS` says; the times are judged only
//! where that is set, since a machine that does other work besides keeps no times.
//!
//! Not here: a server that is stopped (`outage.rs`) or that goes back (`history`).

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod faults;
mod ground;
mod health;
mod measured;
