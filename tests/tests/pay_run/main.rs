//! Whole pay runs on a stream: planned, committed under a plan's token, added up.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

mod bounds;
mod commit;
mod plan;
mod run;
