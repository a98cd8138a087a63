//! The part of AuditService that proves: checkpoints, proofs and receipts of a partition's log.
//!
//! A call about something recorded just now waits for the checkpoint that reaches it. What must stay
//! out: how a proof is made.

use frikort_access::{Caller, Role};
use frikort_domain::{Event, Record};
use frikort_process::serve::deadline;
use frikort_proof::Hash;
use frikort_proto::{
    error::{Failure, Faults},
    v1::{
        ErrorReason, GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest,
        GetConsistencyProofResponse, GetInclusionProofRequest, GetInclusionProofResponse,
        GetReceiptRequest, GetReceiptResponse,
    },
};
use tokio::time::Instant;
use tonic::Request;

use crate::{
    ledger::Ledger,
    proof::{Log, Signed, Unproved},
};

pub(super) async fn checkpoint(
    ledger: &Ledger,
    request: Request<GetCheckpointRequest>,
) -> Result<GetCheckpointResponse, Failure> {
    let (deadline, request) = (deadline(request.metadata()), request.into_inner());
    let mut faults = Faults::default();
    let log = log(ledger, &mut faults, request.partition);
    let log = faults.finish(log)?;
    let signed = log.checkpoint(1, deadline).await.map_err(|e| unproved(ledger, e))?;
    Ok(GetCheckpointResponse {
        partition: request.partition,
        position: wire(signed.checkpoint.size),
        root_hash: signed.checkpoint.root.to_vec(),
        note: signed.note,
        verifier_keys: log.verifiers().iter().map(ToString::to_string).collect(),
    })
}

pub(super) async fn inclusion(
    ledger: &Ledger,
    request: Request<GetInclusionProofRequest>,
) -> Result<GetInclusionProofResponse, Failure> {
    let (deadline, request) = (deadline(request.metadata()), request.into_inner());
    let mut faults = Faults::default();
    let log = log(ledger, &mut faults, request.partition);
    let size = tree_size(&mut faults, request.tree_size);
    let position = position(&mut faults, "position", request.position, request.tree_size);
    let (log, size, position) =
        faults.finish(log.zip(size).zip(position).map(|((log, size), at)| (log, size, at)))?;
    let last = if size > position { ("tree_size", size) } else { ("position", position) };
    let signed = reaching(ledger, log, last, deadline).await?;
    let size = if size == 0 { signed.checkpoint.size } else { size };
    let proof = log.inclusion(position, size, &signed).await;
    let proof = proof.map_err(|error| unproved(ledger, error))?;
    Ok(GetInclusionProofResponse {
        leaf_index: wire(position - 1),
        tree_size: wire(proof.size),
        leaf_hash: proof.leaf.to_vec(),
        hashes: bytes(&proof.hashes),
    })
}

pub(super) async fn consistency(
    ledger: &Ledger,
    request: Request<GetConsistencyProofRequest>,
) -> Result<GetConsistencyProofResponse, Failure> {
    let (deadline, request) = (deadline(request.metadata()), request.into_inner());
    let mut faults = Faults::default();
    let log = log(ledger, &mut faults, request.partition);
    let later = tree_size(&mut faults, request.tree_size);
    let (field, earlier) = ("earlier_tree_size", request.earlier_tree_size);
    let earlier = position(&mut faults, field, earlier, request.tree_size);
    let (log, later, earlier) =
        faults.finish(log.zip(later).zip(earlier).map(|((log, later), at)| (log, later, at)))?;
    let last = if later > earlier { ("tree_size", later) } else { (field, earlier) };
    let signed = reaching(ledger, log, last, deadline).await?;
    let later = if later == 0 { signed.checkpoint.size } else { later };
    let hashes = log.consistency(earlier, later, &signed).await;
    let hashes = hashes.map_err(|error| unproved(ledger, error))?;
    Ok(GetConsistencyProofResponse {
        earlier_tree_size: wire(earlier),
        tree_size: wire(later),
        hashes: bytes(&hashes),
    })
}

pub(super) async fn receipt(
    ledger: &Ledger,
    request: Request<GetReceiptRequest>,
) -> Result<GetReceiptResponse, Failure> {
    let who = frikort_access::caller(request.extensions())?.clone();
    let (deadline, request) = (deadline(request.metadata()), request.into_inner());
    let mut faults = Faults::default();
    let log = log(ledger, &mut faults, request.partition);
    let position = position(&mut faults, "position", request.position, 0);
    let (log, position) = faults.finish(log.zip(position))?;
    let signed = reaching(ledger, log, ("position", position), deadline).await?;
    let receipt = log.receipt(position, &signed).await;
    let receipt = receipt.map_err(|error| unproved(ledger, error))?;
    if who.role == Role::Employer && !is_own(&who, &receipt.record) {
        let message = "the record is not a payment of the caller's employers alone";
        return Err(Failure::new(ErrorReason::NotAllowed, message).with("field", "position"));
    }
    Ok(GetReceiptResponse { receipt: receipt.to_string() })
}

/// Whether a record is what one of the caller's employers did, and names no payment of another one:
/// a cancellation may have freed allowance for that (W1).
fn is_own(who: &Caller, record: &[u8]) -> bool {
    let read = std::str::from_utf8(record).ok().and_then(|line| Record::decode(line).ok());
    let (employer, outcome) = match read.map(|record| record.event) {
        Some(Event::PaymentReported(payment, outcome)) => (payment.employer_cvr, outcome),
        Some(Event::PaymentCorrected(payment, outcome)) => (payment.employer_cvr, outcome),
        Some(Event::PaymentCancelled(payment, outcome)) => (payment.employer_cvr, outcome),
        _ => return false,
    };
    let own = |cvr| who.acts_for_employer(cvr, "position").is_ok();
    own(employer) && outcome.changed.iter().all(|change| own(change.employer_cvr))
}

/// A checkpoint that reaches the position in a field; of one where nothing is recorded, it says so.
async fn reaching(
    ledger: &Ledger,
    log: &Log,
    (field, position): (&str, u64),
    deadline: Instant,
) -> Result<Signed, Failure> {
    // Whoever asks for what there is usually finds it proved.
    let proved = log.checkpoint(wire(position), Instant::now()).await;
    let Err(Unproved::Behind { .. }) = proved else {
        return proved.map_err(|error| unproved(ledger, error));
    };
    let head = ledger.store.head(log.partition()).await;
    let head = head.map_err(|error| ledger.read_failed(error))?.position;
    if wire(position) > head {
        let allowed = format!("must be at most {head}, the last position on record");
        return Err(Failure::invalid(vec![(field.to_owned(), allowed)]));
    }
    log.checkpoint(wire(position), deadline).await.map_err(|error| unproved(ledger, error))
}

/// What a caller is told where there is no proof.
pub(super) fn unproved(ledger: &Ledger, unproved: Unproved) -> Failure {
    match unproved {
        Unproved::Behind { last } => {
            let message = format!("checkpoints reach position {last} so far; repeat");
            Failure::new(ErrorReason::ProofBehind, message).with("position", last)
        }
        Unproved::NotSigning { last, first_different_position: None } => {
            let message = format!("this server signs no checkpoint beyond position {last}");
            Failure::new(ErrorReason::NotSigning, message).with("position", last)
        }
        Unproved::NotSigning { last, first_different_position: Some(first) } => {
            let message = format!(
                "the history is not what was signed up to position {last}; \
                 the first position that differs is {first}"
            );
            Failure::new(ErrorReason::NotSigning, message)
                .with("position", last)
                .with("first_different_position", first)
        }
        Unproved::Unread(error) => ledger.read_failed(error),
    }
}

fn log<'a>(ledger: &'a Ledger, faults: &mut Faults, partition: i32) -> Option<&'a Log> {
    let log = ledger.logs.get(&partition);
    if log.is_none() {
        faults.note("partition", format!("must be one of {:?}", ledger.partitions()));
    }
    log
}

/// A size that may be left out; 0 then.
fn tree_size(faults: &mut Faults, size: i64) -> Option<u64> {
    let read = u64::try_from(size).ok();
    if read.is_none() {
        faults.note("tree_size", "must be 0 or more");
    }
    read
}

/// A position from 1 to `size`, where that is given.
fn position(faults: &mut Faults, field: &str, position: i64, size: i64) -> Option<u64> {
    let most = if size > 0 { size } else { i64::MAX };
    let read = u64::try_from(position).ok().filter(|_| (1..=most).contains(&position));
    if read.is_none() {
        let allowed = match size {
            1.. => format!("must be from 1 to tree_size ({size})"),
            _ => "must be 1 or more".to_owned(),
        };
        faults.note(field, allowed);
    }
    read
}

fn wire(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn bytes(hashes: &[Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.to_vec()).collect()
}
