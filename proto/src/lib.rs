//! The public contract `frikort.v1`: messages, clients, servers, descriptor set, and the one
//! place where errors become `google.rpc.Status` and are read back.
//!
//! Shared by the services and by every Rust client. What must stay out: domain rules, I/O.

#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unused_qualifications,
    unreachable_pub,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::frikort::v1;
pub use generated::google::r#type::Date;

mod convert;
pub mod error;

pub use convert::{instant, timestamp};
pub use prost_types::Timestamp;

/// The compiled descriptor set of `frikort.v1`, for reflection and generic clients.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
