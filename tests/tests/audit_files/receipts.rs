//! Receipts, offline.

use std::{fs, process::Command};

use frikort_proof::{Hash, Receipt, SigningKey, leaf_hash};
use frikort_tests::python;

use crate::{
    audit,
    fixture::{history, log_name, proof, signed, signing_key},
};

/// Runs the other verifier on a receipt.
fn second(file: &str, key: &str) -> i32 {
    let python = python::environment("verify-requirements.txt").unwrap();
    let mut command = Command::new(python);
    command.arg(python::source("verify_export.py")).args(["receipt", file, "--key", key]);
    command.output().unwrap().status.code().unwrap()
}

#[test]
fn a_receipt_shows_what_was_filed_and_no_other_thing() {
    let dir = tempfile::tempdir().unwrap();
    let records = &history()[..777];
    let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
    let receipt = |at: usize| Receipt {
        record: records[at].clone().into_bytes(),
        index: at as u64,
        proof: proof(&leaves, at).0,
        note: signed(records, &signing_key()),
    };
    let key = signing_key().verifier(&log_name()).to_string();
    let file = dir.path().join("one.tlog-proof");
    let shown = file.to_str().unwrap();
    for at in [0, 1, 255, 256, 500, 776] {
        fs::write(&file, receipt(at).to_string()).unwrap();
        let (status, told, errors) = audit(&["receipt", "verify", shown, "--key", &key]);
        assert_eq!(status, 0, "{told} {errors}");
        assert!(told.contains(&format!("at position {} of partition 0", at + 1)), "{told}");
        assert_eq!(second(shown, &key), 0);
    }

    let refused = |what: &str, text: String| {
        fs::write(&file, text).unwrap();
        let (status, told, _) = audit(&["receipt", "verify", shown, "--key", &key, "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((status, &told["verdict"]), (1, &"contradiction".into()), "{what}: {told}");
        assert_eq!(second(shown, &key), 1, "{what}");
    };
    let mut other = receipt(500);
    other.record = records[501].clone().into_bytes();
    refused("another record", other.to_string());
    let mut other = receipt(500);
    other.index = 501;
    refused("another place", other.to_string());
    let mut other = receipt(500);
    other.proof.pop();
    refused("a proof too short", other.to_string());
    let mut other = receipt(500);
    other.note = signed(&records[..700], &signing_key());
    refused("a checkpoint of another size", other.to_string());
    let mut other = receipt(500);
    other.note = other.note.replacen("\n777\n", "\n778\n", 1);
    refused("a false signature", other.to_string());
    refused("no receipt", "c2sp.org/tlog-proof@v2\n".to_owned());

    // Without its log's key it shows nothing, and that is no contradiction.
    fs::write(&file, receipt(500).to_string()).unwrap();
    let name = "elsewhere/frikort/partition/0".parse().unwrap();
    let elsewhere = SigningKey::new(&[1; 32]).verifier(&name).to_string();
    let (status, told, _) = audit(&["receipt", "verify", shown, "--key", &elsewhere]);
    assert!(status == 2 && told.contains("no key of its log"), "{told}");
    assert_eq!(audit(&["receipt", "verify", shown]).0, 2);
    // The worst of several counts.
    let missing = dir.path().join("missing");
    let both = ["receipt", "verify", "--key", &key, shown, missing.to_str().unwrap()];
    assert_eq!(audit(&both).0, 2);
}
