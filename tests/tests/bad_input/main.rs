//! Every field of every request, wrong in every way we could think of: the answer is
//! INVALID_ARGUMENT, it names exactly the fields at fault, and nothing is recorded.
//!
//! Each table starts from a request that is accepted, so that a case can only be refused for what
//! it changes. Fields are named by their path in the request. What must stay out: refusals that
//! depend on what is on record (see `refusals`).

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

mod audit;
mod case;
mod facts;
mod fields;
mod limits;
mod payments;
mod questions;
mod stream;
mod visitations;
mod whole_messages;
