//! The proof log: what it proves is checked with nothing but its texts, and a history that is not
//! what was signed is refused by name, by the ledger itself.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod files;
mod foreign;
mod proofs;
mod refusal;

use std::{path::Path, time::Duration};

use frikort_proof::{Checkpoint, VerifierKey};
use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, GetCheckpointRequest, GetCheckpointResponse, GetReceiptRequest},
};
use frikort_tests::{
    client::{Ledger, new_cpr, report},
    database::Database,
    process::{Kind, Service},
};
use futures::{StreamExt, TryStreamExt, stream};
use tonic::Status;

/// A ledger with so many payments to a few persons; answers the last position.
async fn filled(database: &Database, dir: &Path, payments: usize) -> (Service, Ledger, i64) {
    let service = Service::start(Kind::Ledger, database, dir).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let persons: Vec<String> = (0..7).map(|_| new_cpr()).collect();
    for person in &persons {
        ledger.grant(person).await.unwrap();
    }
    let reported = stream::iter(0..payments).map(|number| {
        let mut ledger = ledger.clone();
        let request = report(&persons[number % 7], &format!("p-{number}"), 1_000);
        async move { ledger.payments.report_payment(request).await }
    });
    let answers: Vec<_> = reported.buffer_unordered(16).try_collect().await.unwrap();
    let last = answers.into_iter().map(|a| a.into_inner().position.unwrap().position).max();
    (service, ledger, last.unwrap())
}

/// The last checkpoint once it reaches `position`, checked with the keys that come with it.
async fn checkpoint(ledger: &mut Ledger, position: i64) -> (GetCheckpointResponse, Checkpoint) {
    // A receipt waits for the checkpoint that reaches it.
    let receipt = GetReceiptRequest { partition: 0, position };
    ledger.audits.get_receipt(receipt).await.unwrap();
    let answer = ledger.audits.get_checkpoint(GetCheckpointRequest { partition: 0 }).await;
    let answer = answer.unwrap().into_inner();
    assert!(answer.position >= position);
    let checkpoint = Checkpoint::verify(&answer.note, &keys(&answer)).unwrap();
    assert_eq!(checkpoint.origin.as_str(), "local/frikort/partition/0");
    assert_eq!(checkpoint.root.to_vec(), answer.root_hash);
    assert_eq!(i64::try_from(checkpoint.size).unwrap(), answer.position);
    (answer, checkpoint)
}

fn keys(answer: &GetCheckpointResponse) -> Vec<VerifierKey> {
    answer.verifier_keys.iter().map(|key| key.parse().unwrap()).collect()
}

fn failure(status: &Status) -> Failure {
    Failure::from_status(status).unwrap_or_else(|| panic!("{status:?}"))
}

/// Waits until no checkpoint is given any more; answers the first position that differs.
async fn refused(ledger: &mut Ledger) -> Option<i64> {
    for _ in 0..600 {
        let asked = ledger.audits.get_checkpoint(GetCheckpointRequest { partition: 0 }).await;
        if let Err(status) = asked {
            let failure = failure(&status);
            if failure.reason == ErrorReason::NotSigning {
                let first = failure.metadata.get("first_different_position");
                return first.map(|first| first.parse().unwrap());
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it goes on signing");
}
