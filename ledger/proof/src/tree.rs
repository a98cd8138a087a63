//! The tree of RFC 6962 § 2.1: hashes, which parts a proof is made of, and checking proofs.
//!
//! A proof is told as ranges of leaves, each of which is a few complete subtrees; where their
//! hashes come from is the caller's affair. What must stay out: that.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// Hashes of a full tile.
pub const TILE_WIDTH: usize = 256;

/// Levels of the tree between a tile and the one above it.
pub(crate) const TILE_HEIGHT: u32 = 8;

/// SHA-256 of a leaf, of an inner node, or of a whole tree.
pub type Hash = [u8; HASH_BYTES];

/// The hash of a record's exact bytes as a leaf.
pub fn leaf_hash(record: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(record).finalize().into()
}

/// The hash of a node over its two parts.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a log without records.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// A complete subtree: `2^level` leaves, from leaf `index << level` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash)]
pub struct Subtree {
    /// 0 for a leaf.
    pub level: u32,
    /// Which one of its level, from 0.
    pub index: u64,
}

impl Subtree {
    /// Where its hash is found: level and number of a tile, and the hashes of that tile that it
    /// lies above.
    pub fn in_tile(self) -> (u32, u64, Range<usize>) {
        let inner = self.level % TILE_HEIGHT;
        let first = self.index << inner;
        let offset = usize::try_from(first % TILE_WIDTH as u64).unwrap_or_default();
        (self.level / TILE_HEIGHT, first / TILE_WIDTH as u64, offset..offset + (1 << inner))
    }
}

/// The complete subtrees, largest first, that make up a range of leaves that is a part of a tree
/// by RFC 6962: it begins at a multiple of the power of two that is not less than its length.
pub fn subtrees(range: &Range<u64>) -> Vec<Subtree> {
    let length = range.end.saturating_sub(range.start);
    let mut at = range.start;
    let mut parts = Vec::new();
    for level in (0..u64::BITS).rev().filter(|level| length >> level & 1 == 1) {
        parts.push(Subtree { level, index: at >> level });
        at += 1 << level;
    }
    parts
}

/// The hash of a range from the hashes of its [`subtrees`]; `None` where there are none.
pub fn join(parts: &[Hash]) -> Option<Hash> {
    parts.iter().rev().copied().reduce(|right, left| node_hash(&left, &right))
}

/// The root of complete subtrees of one size, from left to right, with whatever lies to the right
/// of them; `None` where there is neither.
pub fn bag(hashes: &[Hash], right: Option<Hash>) -> Option<Hash> {
    let (mut root, mut end) = (right, hashes.len());
    while end > 0 {
        let begin = end - (1 << end.trailing_zeros());
        let block = complete_root(&hashes[begin..end]);
        root = Some(root.map_or(block, |right| node_hash(&block, &right)));
        end = begin;
    }
    root
}

/// The root of a power of two of hashes, at least one.
fn complete_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [hash] => *hash,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(&complete_root(left), &complete_root(right))
        }
    }
}

/// The largest power of two below `length`, which is 2 at least.
fn split(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}

/// The ranges whose hashes are the inclusion proof of a leaf (PATH of RFC 6962 § 2.1.1), from the
/// leaf upwards. Empty where the leaf is not in the tree.
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    if index >= size {
        return ranges;
    }
    let (mut low, mut high) = (0, size);
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            ranges.push(middle..high);
            high = middle;
        } else {
            ranges.push(low..middle);
            low = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The ranges whose hashes are the proof that the tree of `old` leaves is the beginning of that of
/// `new` (PROOF of RFC 6962 § 2.1.2). Empty where `old` is 0, or not less than `new`.
pub fn consistency_ranges(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    if old == 0 || old >= new {
        return ranges;
    }
    let (mut low, mut high) = (0, new);
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            ranges.push(middle..high);
            high = middle;
        } else {
            ranges.push(low..middle);
            low = middle;
        }
    }
    if low > 0 {
        ranges.push(low..high);
    }
    ranges.reverse();
    ranges
}

/// Whether `proof` shows that the leaf stands at `index` of the tree with this root (RFC 9162
/// § 2.1.3.2).
pub fn verify_inclusion(proof: &[Hash], index: u64, size: u64, leaf: &Hash, root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for part in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(part, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, part);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree (`old`, `old_root`) is the beginning of (`new`, `new_root`)
/// (RFC 9162 § 2.1.4.2). The empty tree is the beginning of every one.
pub fn verify_consistency(
    proof: &[Hash],
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
) -> bool {
    if old > new {
        return false;
    }
    if old == new || old == 0 {
        let is_root = if old == 0 { *old_root == empty_root() } else { old_root == new_root };
        return proof.is_empty() && is_root;
    }
    // A whole subtree is known already, and is not in the proof.
    let (first, rest) = match proof.split_first() {
        _ if old.is_power_of_two() => (old_root, proof),
        Some((first, rest)) => (first, rest),
        None => return false,
    };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (*first, *first);
    for part in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            from_old = node_hash(part, &from_old);
            from_new = node_hash(part, &from_new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, part);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}
