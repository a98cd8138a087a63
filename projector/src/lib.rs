//! The projector: folds events and answers queries.

pub mod cli;
