//! The command `frikort`: the whole ledger on one machine with a private Postgres, and the
//! client for people.
//!
//! A library too, so that tests start the same cluster the command starts. What must stay out:
//! rules and decisions; it only starts the services and calls their public contract.

pub mod output;
pub mod postgres;
