//! The ledger: decides and appends.

pub mod cli;
