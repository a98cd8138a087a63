//! The transparency log as mathematics and texts: RFC 6962 hashes and proofs, tiles of 256 hashes
//! (c2sp.org/tlog-tiles), signed checkpoints (c2sp.org/tlog-checkpoint, c2sp.org/signed-note) and
//! receipts (c2sp.org/tlog-proof).
//!
//! Why its own crate: whoever checks a receipt needs this and nothing else of the ledger. What must
//! stay out: I/O, clock, database, and what a record says; here it is bytes.
//!
//! Why not the crates `tlog_tiles` and `signed_note`: what is needed of them is some two hundred
//! lines, against JSON, and a URL parser with its Unicode tables, in every verifier; and they read
//! hashes by a synchronous trait, where ours come from a database. The formats are open:
//! the tests hold these lines against the RFC's vectors and against plain recomputation.

mod edge;
mod note;
mod receipt;
mod tree;

pub use edge::{Edge, Tile};
pub use note::{Checkpoint, KeyName, NoteError, SigningKey, VerifierKey};
pub use receipt::{Receipt, ReceiptError};
pub use tree::{
    HASH_BYTES, Hash, Subtree, TILE_WIDTH, bag, consistency_ranges, empty_root, inclusion_ranges,
    join, leaf_hash, node_hash, subtrees, verify_consistency, verify_inclusion,
};
