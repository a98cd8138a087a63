//! The hash that identifies an event, and with it the history up to the event.
//!
//! Not here: proofs. The hash is a leaf of the transparency log (RFC 6962), so that what is signed and
//! what is remembered name an event in the same way.

use sha2::{Digest, Sha256};

use crate::StoredEvent;

/// What a leaf's bytes begin with when they are hashed, so that no leaf is taken for a node.
const LEAF_PREFIX: [u8; 1] = [0];

/// SHA-256 of a zero byte and an event's record. 32 zero bytes stand for position 0, before the first
/// event. The function `ledger.event_hash` of the schema computes the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct EventHash(pub [u8; 32]);

impl EventHash {
    /// The hash of an event with this record.
    pub fn of(record: &str) -> Self {
        Self(Sha256::new().chain_update(LEAF_PREFIX).chain_update(record).finalize().into())
    }

    /// The hash that was read from a column; `None` where it has another length.
    pub fn from_column(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl StoredEvent {
    /// The hash that identifies it.
    pub fn hash(&self) -> EventHash {
        EventHash::of(&self.record)
    }
}
