//! What end-to-end tests stand on: a throw-away Postgres, real service processes, and clients.
//!
//! Nothing in here is a stand-in: the database, the processes and the gRPC connections are those
//! that users run. What must stay out: expectations, which belong to the tests.

pub mod audit;
pub mod chance;
pub mod client;
pub mod database;
pub mod decisions;
pub mod files;
pub mod fuzz;
pub mod history;
pub mod load;
pub mod model;
pub mod pki;
pub mod pooler;
pub mod privacy;
pub mod process;
pub mod proof_log;
pub mod proxy;
pub mod python;
pub mod rights;
pub mod simulation;
pub mod stack;
pub mod tokens;
