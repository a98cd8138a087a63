//! Refusals as a caller sees them: each reason with its status, metadata and details, the same on
//! a stream as in a call; what a dry run answers; what a repeated call answers; and that nobody
//! learns from an answer whether a person has a card.
//!
//! That the rules refuse the right things is tested in the domain, without a wire.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

mod cards;
mod dry_run;
mod nobody;
mod payments;
mod questions;
mod replay;
mod status;
mod stream;
