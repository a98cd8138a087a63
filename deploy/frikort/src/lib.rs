//! The command `frikort`: the whole ledger on one machine with a private Postgres, and the
//! client for people.
//!
//! A library too, so that tests start the same cluster the command starts. What must stay out:
//! rules and decisions; it only starts the services and calls their public contract.

mod access_log;
mod allowance;
mod as_of;
mod audit;
pub mod cli;
mod client;
mod danish;
mod demo;
mod events;
mod forget;
#[doc(hidden)]
pub mod fuzzing;
mod import;
mod limits;
mod log;
mod money;
mod output;
mod persons;
pub mod postgres;
mod profile;
mod progress;
mod stack;
mod statement;
mod table;
mod watch;
mod wire;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Everything asked for was done.
    Done,
    /// Something was left out, and said so: a malformed row, a person without a card.
    Incomplete,
    /// An audit found what must not be.
    Contradicted,
    /// An audit could not check everything, and said what; never a pass.
    Unchecked,
}
