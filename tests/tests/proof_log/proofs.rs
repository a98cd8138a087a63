//! Checkpoints, proofs and receipts, as their callers check them.

use frikort_process::secret;
use frikort_proof::{Checkpoint, Hash, Receipt, leaf_hash, verify_consistency, verify_inclusion};
use frikort_proto::v1::{
    ErrorReason, GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest,
    GetReceiptRequest, ReadEventsRequest, read_events_response::Item,
};
use frikort_tests::{
    chance::Chance,
    client::{Ledger, report},
    database::Database,
    process::{Kind, Service, program, signing_key},
};
use futures::TryStreamExt;

use super::{checkpoint, failure, filled, keys};

fn hashes(wire: &[Vec<u8>]) -> Vec<Hash> {
    wire.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_proof_is_checked_with_the_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (mut service, mut ledger, first) = filled(&database, dir.path(), 300).await;
    let (_, earlier) = checkpoint(&mut ledger, first).await;

    // Killed, and gone on with: what was signed before is the beginning of what is signed after.
    service.kill_and_restart().unwrap();
    service.wait_until_ready().await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    let mut last = first;
    let person = frikort_tests::client::new_cpr();
    ledger.grant(&person).await.unwrap();
    for number in 0..300 {
        let request = report(&person, &format!("again-{number}"), 1_000);
        let answer = ledger.payments.report_payment(request).await.unwrap().into_inner();
        last = answer.position.unwrap().position;
    }
    let (answer, later) = checkpoint(&mut ledger, last).await;
    let verifiers = keys(&answer);
    let asked = GetConsistencyProofRequest {
        earlier_tree_size: i64::try_from(earlier.size).unwrap(),
        tree_size: answer.position,
        ..GetConsistencyProofRequest::default()
    };
    let proof = ledger.audits.get_consistency_proof(asked).await.unwrap().into_inner();
    let (old, new) = ((earlier.size, &earlier.root), (later.size, &later.root));
    assert!(verify_consistency(&hashes(&proof.hashes), old, new));

    let records = records(&mut ledger).await;
    assert_eq!(records.len() as u64, later.size);
    let mut chance = Chance::printed();
    for _ in 0..40 {
        let index = chance.below(later.size);
        let position = i64::try_from(index).unwrap() + 1;
        let request = GetInclusionProofRequest { position, ..GetInclusionProofRequest::default() };
        let proof = ledger.audits.get_inclusion_proof(request).await.unwrap().into_inner();
        assert_eq!((proof.leaf_index, proof.tree_size), (position - 1, answer.position));
        let leaf = leaf_hash(&records[usize::try_from(index).unwrap()]);
        assert_eq!(proof.leaf_hash, leaf);
        let path = hashes(&proof.hashes);
        assert!(verify_inclusion(&path, index, later.size, &leaf, &later.root));

        let request = GetReceiptRequest { partition: 0, position };
        let text = ledger.audits.get_receipt(request).await.unwrap().into_inner().receipt;
        let receipt: Receipt = text.parse().unwrap();
        assert_eq!(receipt.record, records[usize::try_from(index).unwrap()]);
        assert_eq!(receipt.verify(&verifiers).unwrap().size, later.size);
    }
    // A tree between two checkpoints.
    let request = GetInclusionProofRequest { position: 3, tree_size: 300, partition: 0 };
    let proof = ledger.audits.get_inclusion_proof(request).await.unwrap().into_inner();
    assert_eq!(proof.tree_size, 300);
}

async fn records(ledger: &mut Ledger) -> Vec<Vec<u8>> {
    let answer = ledger.audits.read_events(ReadEventsRequest::default()).await.unwrap();
    let items: Vec<_> = answer.into_inner().try_collect().await.unwrap();
    let record = |item| match item {
        Some(Item::Event(event)) => Some(event.record),
        _ => None,
    };
    items.into_iter().filter_map(|answer| record(answer.item)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (_service, mut ledger, last) = filled(&database, dir.path(), 3).await;
    checkpoint(&mut ledger, last).await;
    for (partition, position, fields) in [
        (1, 1, vec!["partition"]),
        (0, 0, vec!["position"]),
        (-1, -1, vec!["partition", "position"]),
        (0, last + 1, vec!["position"]),
        (0, i64::MAX, vec!["position"]),
    ] {
        let request = GetReceiptRequest { partition, position };
        let failure = failure(&ledger.audits.get_receipt(request).await.unwrap_err());
        assert_eq!(failure.reason, ErrorReason::InvalidField, "{position}");
        let named: Vec<_> = failure.fields.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(named, fields);
        let request = GetInclusionProofRequest { partition, position, tree_size: 0 };
        let proof = ledger.audits.get_inclusion_proof(request).await;
        assert_eq!(super::failure(&proof.unwrap_err()).fields, failure.fields);
    }
    for (earlier_tree_size, tree_size, field) in [
        (0, 0, "earlier_tree_size"),
        (2, 1, "earlier_tree_size"),
        (1, -1, "tree_size"),
        (1, i64::MAX, "tree_size"),
        (i64::MAX, 0, "earlier_tree_size"),
    ] {
        let request = GetConsistencyProofRequest { partition: 0, earlier_tree_size, tree_size };
        let failure = failure(&ledger.audits.get_consistency_proof(request).await.unwrap_err());
        assert_eq!(failure.reason, ErrorReason::InvalidField);
        assert_eq!(failure.fields[0].0, field, "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_without_a_key_and_what_another_ledger_signs_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let nowhere = vec![("FRIKORT_SIGNING_KEY_FILE", String::new())];
    let silent = Service::start_with(Kind::Ledger, &database, dir.path(), nowhere).await.unwrap();
    let mut silent = Ledger::new(silent.channel().await.unwrap());
    let request = GetCheckpointRequest { partition: 0 };
    let none = failure(&silent.audits.get_checkpoint(request).await.unwrap_err());
    assert_eq!((none.reason, none.metadata["position"].as_str()), (ErrorReason::NotSigning, "0"));

    let (_service, mut ledger, last) = filled(&database, dir.path(), 3).await;
    let (signed, _) = checkpoint(&mut ledger, last).await;
    let shown = silent.audits.get_checkpoint(request).await.unwrap().into_inner();
    assert_eq!(shown.note, signed.note);
    assert!(shown.verifier_keys.is_empty());
    let request = GetReceiptRequest { partition: 0, position: last };
    let receipt = silent.audits.get_receipt(request).await.unwrap().into_inner().receipt;
    receipt.parse::<Receipt>().unwrap().verify(&keys(&signed)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_leaves_what_was_signed_before_verifiable() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (mut service, mut ledger, last) = filled(&database, dir.path(), 3).await;
    let (before, _) = checkpoint(&mut ledger, last).await;

    let rotated = std::process::Command::new(program("ledger").unwrap())
        .args(["signing-key", "rotate", "--signing-key-file"])
        .arg(signing_key(dir.path()))
        .output()
        .unwrap();
    assert!(rotated.status.success(), "{rotated:?}");
    let printed = String::from_utf8(rotated.stdout).unwrap();
    assert_eq!(printed.lines().count(), 2);
    let file = std::fs::read_to_string(signing_key(dir.path())).unwrap();
    let secret_key = file.split_whitespace().next().unwrap().strip_prefix("sign=").unwrap();
    assert!(secret::unhex(secret_key).is_some() && !printed.contains(secret_key));

    service.kill_and_restart().unwrap();
    service.wait_until_ready().await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2023, 20_000).await.unwrap();
    let (after, _) = checkpoint(&mut ledger, last + 1).await;
    assert_eq!(after.verifier_keys, printed.lines().collect::<Vec<_>>());
    assert_eq!(after.verifier_keys[1..], before.verifier_keys);
    assert!(Checkpoint::verify(&before.note, &keys(&after)).is_ok());
    assert!(Checkpoint::verify(&after.note, &keys(&before)).is_err(), "signed with the new key");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ledgers_sign_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (one, mut ledger, _) = filled(&database, dir.path(), 100).await;
    let two = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut other = Ledger::new(two.channel().await.unwrap());
    let person = frikort_tests::client::new_cpr();
    ledger.grant(&person).await.unwrap();
    let mut last = 0;
    for number in 0..600 {
        let ledger = if number % 2 == 0 { &mut ledger } else { &mut other };
        let request = report(&person, &format!("two-{number}"), 100);
        let answer = ledger.payments.report_payment(request).await.unwrap().into_inner();
        last = answer.position.unwrap().position;
    }
    let (_, here) = checkpoint(&mut ledger, last).await;
    let (_, there) = checkpoint(&mut other, last).await;
    assert_eq!(here, there);
    for service in [&one, &two] {
        assert!(!service.logged().unwrap().contains("NOT SIGNING"), "both must go on");
    }
}
