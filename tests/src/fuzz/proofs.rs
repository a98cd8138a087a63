//! The transparency log's texts and proofs: what parses is printed to the same text, and only a proof
//! of what is there verifies.

use frikort::fuzzing::verifier_keys;
use frikort_proof::{
    Checkpoint, Edge, HASH_BYTES, Hash, Receipt, SigningKey, VerifierKey, join, leaf_hash,
    verify_consistency, verify_inclusion,
};

use super::text;

/// The secret key that signed what of the corpus is signed.
const SECRET: [u8; HASH_BYTES] = [7; HASH_BYTES];

/// Leaves of a tree that is made of the bytes.
const MOST_LEAVES: usize = 300;

pub(super) fn note(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text, "one form");
    }
    if let Ok(keys) = verifier_keys(text) {
        let lines: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let given: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, given, "one key a line");
    }
    let parsed = Checkpoint::parse_unverified(text);
    let Ok(checkpoint) = parsed else {
        assert!(Checkpoint::verify(text, &[]).is_err(), "what is no note is not verified");
        return;
    };
    assert!(text.starts_with(&checkpoint.to_string()), "the note begins with its checkpoint");
    let key = SigningKey::new(&SECRET);
    let verifier = key.verifier(&checkpoint.origin);
    let keys = std::slice::from_ref(&verifier);
    let signed = key.sign(&checkpoint);
    assert_eq!(Checkpoint::verify(&signed, keys), Ok(checkpoint.clone()));
    assert!(Checkpoint::verify(text, &[]).is_err(), "nobody's signature shows nothing");
    if let Ok(verified) = Checkpoint::verify(text, keys) {
        assert_eq!(verified, checkpoint, "what is verified is what is written");
        let body = text.rsplit_once("\n\n").map(|(body, _)| format!("{body}\n"));
        assert!(body.is_some_and(|body| body.starts_with(&checkpoint.to_string())));
    }
}

pub(super) fn receipt(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(receipt) = text.parse::<Receipt>() else { return };
    assert_eq!(receipt.to_string(), text, "one form");
    assert_eq!(receipt.to_string().parse().as_ref(), Ok(&receipt));
    assert!(receipt.verify(&[]).is_err(), "nobody's signature shows nothing");
    // Signed by us, the proof is looked at: it is of this very record, or it shows nothing.
    let Ok(checkpoint) = Checkpoint::parse_unverified(&receipt.note) else { return };
    let key = SigningKey::new(&SECRET);
    let keys = [key.verifier(&checkpoint.origin)];
    let signed = Receipt { note: key.sign(&checkpoint), ..receipt };
    if signed.verify(&keys).is_ok() {
        let mut record = signed.record.clone();
        record.push(b' ');
        assert!(Receipt { record, ..signed.clone() }.verify(&keys).is_err(), "another record");
        let index = signed.index + 1;
        assert!(Receipt { index, ..signed }.verify(&keys).is_err(), "another place");
    }
}

/// Two bytes say how many leaves a tree has, two more how many an earlier one, two more which leaf;
/// the rest is taken for the hashes of proofs.
pub(super) fn tree(data: &[u8]) {
    let Some((sizes, rest)) = data.split_first_chunk::<6>() else { return };
    let number = |at: usize| usize::from(u16::from_le_bytes([sizes[at], sizes[at + 1]]));
    let leaves = number(0) % MOST_LEAVES + 1;
    let (earlier, leaf) = (number(2) % leaves + 1, number(4) % leaves);
    let hashes: Vec<Hash> = (0..leaves).map(|at| leaf_hash(&at.to_le_bytes())).collect();
    let (old, new) = (edge(&hashes[..earlier]), edge(&hashes));
    assert_eq!(Edge::new(new.levels().to_vec()).as_ref(), Some(&new), "an edge is its hashes");
    let (old_root, new_root, size) = (old.root(), new.root(), new.size());
    assert_eq!((old.size(), size), (earlier as u64, leaves as u64));
    let hash = |ranges: Vec<std::ops::Range<u64>>| -> Vec<Hash> {
        ranges.into_iter().filter_map(|range| root_of(&hashes, range)).collect()
    };
    let at = leaf as u64;
    let included =
        |proof: &[Hash], index| verify_inclusion(proof, index, size, &hashes[leaf], &new_root);
    let proof = hash(frikort_proof::inclusion_ranges(at, size));
    assert!(included(&proof, at), "leaf {leaf} of {leaves}");
    assert!(!included(&proof, at + 1) && !included(&proof, u64::MAX), "another place");
    let grown = |proof: &[Hash], new_root: &Hash| {
        verify_consistency(proof, (old.size(), &old_root), (size, new_root))
    };
    let growth = hash(frikort_proof::consistency_ranges(old.size(), size));
    assert!(grown(&growth, &new_root), "{earlier} of {leaves}");
    assert!(!grown(&growth, &[255; HASH_BYTES]), "another root");
    let (given, _) = rest.as_chunks::<HASH_BYTES>();
    assert_eq!(included(given, at), given == proof, "one proof, and no other");
    assert_eq!(grown(given, &new_root), given == growth, "one proof, and no other");
    // Sizes of any kind are no reason to fall over.
    let far =
        u64::from_le_bytes([sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], 0, 255]);
    assert!(!verify_inclusion(given, far, far, &new_root, &new_root));
    assert!(!verify_consistency(given, (size, &old_root), (far, &new_root)) || given.len() > 40);
}

fn edge(hashes: &[Hash]) -> Edge {
    let mut edge = Edge::default();
    hashes.iter().for_each(|hash| drop(edge.push(*hash)));
    edge
}

/// The hash of a range of leaves, of its complete subtrees.
fn root_of(hashes: &[Hash], range: std::ops::Range<u64>) -> Option<Hash> {
    let part = |part: frikort_proof::Subtree| {
        let first = usize::try_from(part.index << part.level).ok()?;
        Some(edge(hashes.get(first..first + (1 << part.level))?).root())
    };
    join(&frikort_proof::subtrees(&range).into_iter().map(part).collect::<Option<Vec<_>>>()?)
}
