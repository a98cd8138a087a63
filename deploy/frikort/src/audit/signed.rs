//! A log's last checkpoint as the ledger tells it, and that it goes on from an earlier one. What must
//! stay out: files.

use frikort_proof::{Checkpoint, HASH_BYTES, Hash, NoteError, VerifierKey, verify_consistency};
use frikort_proto::v1::{
    GetCheckpointRequest, GetConsistencyProofRequest, audit_service_client::AuditServiceClient,
};

use super::{Contradicted, keys};
use crate::client::{CallError, Service};

/// A checkpoint, as it was signed.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) checkpoint: Checkpoint,
    pub(super) note: String,
}

impl Signed {
    /// A note that one of the keys has signed, of this partition's log.
    pub(super) fn verify(
        partition: i32,
        note: String,
        keys: &[VerifierKey],
    ) -> Result<Self, Contradicted> {
        let at = |what: String| Contradicted(format!("partition {partition}: {what}"));
        let checkpoint = Checkpoint::verify(&note, keys).map_err(|error| at(error.to_string()))?;
        if keys::partition(&checkpoint) != Some(partition) {
            let origin = checkpoint.origin.as_str();
            return Err(at(format!("the checkpoint is of another log: {origin}")));
        }
        Ok(Self { checkpoint, note })
    }

    /// The size, as a position.
    pub(super) fn position(&self) -> i64 {
        i64::try_from(self.checkpoint.size).unwrap_or(i64::MAX)
    }
}

/// The last note of a partition and the log's keys, as the ledger tells them.
pub(super) async fn last(
    ledger: &Service,
    partition: i32,
) -> Result<(String, Vec<VerifierKey>), CallError> {
    let call = ledger.call(GetCheckpointRequest { partition }, |channel, request| async move {
        AuditServiceClient::new(channel).get_checkpoint(request).await
    });
    let answer = call.await?;
    let keys = answer.verifier_keys.iter().map(|key| key.parse()).collect::<Result<_, NoteError>>();
    // A key that cannot be read checks nothing.
    Ok((answer.note, keys.unwrap_or_default()))
}

/// Fails unless the log at `later` begins with the log at `earlier`, as the ledger proves it.
pub(super) async fn check_continues(
    ledger: &Service,
    partition: i32,
    earlier: &Checkpoint,
    later: &Checkpoint,
) -> anyhow::Result<()> {
    let at = |what: &str| {
        let (old, new) = (earlier.size, later.size);
        let what =
            format!("partition {partition}: checkpoints of {old} and of {new} records {what}");
        Err(Contradicted(what).into())
    };
    if later.size < earlier.size {
        return at("were signed, the shorter one later: the history was set back");
    }
    let mut proof: Vec<Hash> = Vec::new();
    if (1..later.size).contains(&earlier.size) {
        let request = GetConsistencyProofRequest {
            partition,
            earlier_tree_size: i64::try_from(earlier.size)?,
            tree_size: i64::try_from(later.size)?,
        };
        let call = ledger.call(request, |channel, request| async move {
            AuditServiceClient::new(channel).get_consistency_proof(request).await
        });
        for hash in call.await?.hashes {
            let Ok(hash) = <[u8; HASH_BYTES]>::try_from(hash) else {
                return at("have no proof of consistency");
            };
            proof.push(hash);
        }
    }
    let (old, new) = ((earlier.size, &earlier.root), (later.size, &later.root));
    if verify_consistency(&proof, old, new) {
        return Ok(());
    }
    at("are not of one history")
}
