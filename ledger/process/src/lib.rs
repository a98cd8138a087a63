//! The life that the service processes share: configuration, clock, log, serving, stopping.
//!
//! Why its own crate: `ledger` and `projector` are separate programs that must start, answer and
//! stop alike. What must stay out: anything about cards, payments or events, and odds and ends.

mod address;
pub mod bucket;
pub mod clock;
pub mod config;
mod connection;
pub mod database;
mod door;
pub mod feed;
pub mod frames;
pub mod lane;
pub mod reachable;
pub mod renewed;
pub mod secret;
pub mod serve;
pub mod stop;
pub mod telemetry;
pub mod tls;

/// A gRPC call makes and frees some dozens of small pieces, often on different threads; with the
/// system's allocator a quarter of the ledger's time went into that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
