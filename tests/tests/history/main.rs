//! The database goes back to an older state under two running ledgers and two projectors, with load
//! from several clients: nothing that they answer afterwards is false, the loss of acknowledged
//! events stops writing until it is accepted, and then everything goes on.
//!
//! What is done to the database and what must hold then is in `variants.rs` and `checks.rs`; the same by
//! chance in `schedules.rs`, and with a streaming standby that is promoted in `standby.rs`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod between;
mod checks;
mod forgetting;
mod ground;
mod resume;
mod schedule;
mod schedules;
mod standby;
mod variants;
