//! The receipt of one record: c2sp.org/tlog-proof, with the record itself as the extra data. Whoever
//! keeps the text and knows the log's key needs nobody to check it.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    note::{Checkpoint, NoteError, VerifierKey},
    tree::{Hash, leaf_hash, verify_inclusion},
};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Why a receipt shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not the form of a receipt.
    #[error("not a receipt: a text of c2sp.org/tlog-proof@v1 with the record as extra data")]
    Malformed,
    /// The checkpoint is not of the log.
    #[error("the receipt's checkpoint is refused")]
    Checkpoint(#[source] NoteError),
    /// The record is not in the tree of the checkpoint, or not at that place.
    #[error("the record is not what was logged at that place")]
    NotIncluded,
}

/// A record, and the proof that it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The record's exact bytes.
    pub record: Vec<u8>,
    /// Its leaf, from 0: position − 1.
    pub index: u64,
    /// The inclusion proof, from the leaf upwards.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

impl std::fmt::Display for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        writeln!(f, "extra {}", BASE64_STANDARD.encode(&self.record))?;
        writeln!(f, "index {}", self.index)?;
        for hash in &self.proof {
            writeln!(f, "{}", BASE64_STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.note)
    }
}

impl std::str::FromStr for Receipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, ReceiptError> {
        Self::parse(text).ok_or(ReceiptError::Malformed)
    }
}

impl Receipt {
    fn parse(text: &str) -> Option<Self> {
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        lines.next().filter(|line| *line == FIRST_LINE)?;
        let record = BASE64_STANDARD.decode(lines.next()?.strip_prefix("extra ")?).ok()?;
        let digits = lines.next()?.strip_prefix("index ")?;
        let index: u64 = digits.parse().ok()?;
        let hash = |line| BASE64_STANDARD.decode(line).ok()?.try_into().ok();
        let proof = lines.map(hash).collect::<Option<Vec<Hash>>>()?;
        let canonical = index.to_string() == digits;
        canonical.then(|| Self { record, index, proof, note: note.to_owned() })
    }

    /// Whether the record stands at its place in the log whose keys these are; answers the
    /// checkpoint that shows it.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Checkpoint, ReceiptError> {
        let checkpoint = Checkpoint::verify(&self.note, keys).map_err(ReceiptError::Checkpoint)?;
        let (size, leaf) = (checkpoint.size, leaf_hash(&self.record));
        if !verify_inclusion(&self.proof, self.index, size, &leaf, &checkpoint.root) {
            return Err(ReceiptError::NotIncluded);
        }
        Ok(checkpoint)
    }
}
