//! Notes, keys and receipts: against what Go's `note` documents, and broken in every way.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use frikort_proof::{
    Checkpoint, Edge, KeyName, NoteError, Receipt, ReceiptError, SigningKey, VerifierKey,
    leaf_hash, node_hash,
};

/// The key of the documentation of Go's `golang.org/x/mod/sumdb/note`.
const SECRET: [u8; 32] = [
    0x81, 0x0a, 0x14, 0x02, 0xd5, 0x14, 0x6c, 0x8d, 0x84, 0xf2, 0x44, 0x33, 0x30, 0xf5, 0x40, 0x80,
    0xeb, 0xf9, 0x8e, 0xe1, 0x7d, 0x9c, 0x74, 0xf6, 0x25, 0x2f, 0xc5, 0xd5, 0xc7, 0x28, 0x31, 0x73,
];
const VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fn name(name: &str) -> KeyName {
    name.parse().unwrap()
}

fn checkpoint() -> Checkpoint {
    let mut edge = Edge::default();
    edge.push(leaf_hash(b"one"));
    edge.push(leaf_hash(b"two"));
    Checkpoint { origin: name("example.org/frikort/partition/0"), size: 2, root: edge.root() }
}

#[test]
fn a_key_is_written_as_go_writes_it() {
    let key = SigningKey::new(&SECRET);
    let verifier = key.verifier(&name("PeterNeumann"));
    assert_eq!(verifier.to_string(), VERIFIER);
    assert_eq!(VERIFIER.parse::<VerifierKey>(), Ok(verifier));
    assert_eq!(format!("{key:?}"), "SigningKey(hidden)");
    for wrong in ["", "a", "a+b", "a+00000000+AQ==", &VERIFIER.replace("c74f", "c74e")] {
        assert_eq!(wrong.parse::<VerifierKey>(), Err(NoteError::Key), "{wrong}");
    }
    for wrong in ["", "a b", "a+b", "a\nb", "a\u{a0}b"] {
        assert_eq!(wrong.parse::<KeyName>(), Err(NoteError::Name), "{wrong:?}");
    }
}

#[test]
fn a_note_is_what_was_signed_and_nothing_else() {
    let (checkpoint, key) = (checkpoint(), SigningKey::new(&SECRET));
    let verifier = key.verifier(&checkpoint.origin);
    let keys = std::slice::from_ref(&verifier);
    let note = key.sign(&checkpoint);
    assert!(note.starts_with("example.org/frikort/partition/0\n2\n"), "{note}");
    assert_eq!(Checkpoint::verify(&note, keys), Ok(checkpoint.clone()));

    let larger = note.replace("\n2\n", "\n3\n");
    assert_eq!(Checkpoint::verify(&larger, keys), Err(NoteError::FalseSignature));
    let other = SigningKey::new(&[7; 32]);
    let others = [other.verifier(&checkpoint.origin)];
    assert_eq!(Checkpoint::verify(&note, &others), Err(NoteError::NotSigned));
    // After a change of keys, both are known.
    let both = [others[0].clone(), verifier.clone()];
    assert_eq!(Checkpoint::verify(&note, &both), Ok(checkpoint.clone()));
    assert_eq!(Checkpoint::verify(&other.sign(&checkpoint), &both), Ok(checkpoint.clone()));
    // A witness's line beside it is none of ours.
    let witnessed = format!("{note}\u{2014} witness.example AAAAAAA=\n");
    assert_eq!(Checkpoint::verify(&witnessed, keys), Ok(checkpoint));
    for wrong in ["", "\n\n", "a\n1\nAA==\n\n", &note.replace("\n2\n", "\n02\n"), note.trim_end()] {
        assert_eq!(Checkpoint::verify(wrong, keys), Err(NoteError::Malformed), "{wrong:?}");
    }
}

#[test]
fn a_receipt_shows_its_record_at_its_place() {
    let (checkpoint, key) = (checkpoint(), SigningKey::new(&SECRET));
    let keys = [key.verifier(&checkpoint.origin)];
    let receipt = Receipt {
        record: b"two".to_vec(),
        index: 1,
        proof: vec![leaf_hash(b"one")],
        note: key.sign(&checkpoint),
    };
    assert_eq!(checkpoint.root, node_hash(&leaf_hash(b"one"), &leaf_hash(b"two")));
    let text = receipt.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra dHdv\nindex 1\n"), "{text}");
    assert_eq!(text.parse::<Receipt>(), Ok(receipt.clone()));
    assert_eq!(receipt.verify(&keys), Ok(checkpoint));

    let changed = Receipt { record: b"twO".to_vec(), ..receipt.clone() };
    assert_eq!(changed.verify(&keys), Err(ReceiptError::NotIncluded));
    let moved = Receipt { index: 0, ..receipt.clone() };
    assert_eq!(moved.verify(&keys), Err(ReceiptError::NotIncluded));
    let strange = [SigningKey::new(&[7; 32]).verifier(&name("example.org/frikort/partition/0"))];
    let refused = ReceiptError::Checkpoint(NoteError::NotSigned);
    assert_eq!(receipt.verify(&strange), Err(refused));
    for wrong in ["", "c2sp.org/tlog-proof@v1\n", &text.replace("index 1", "index 01")] {
        assert_eq!(wrong.parse::<Receipt>(), Err(ReceiptError::Malformed), "{wrong:?}");
    }
}
