//! What auditors ask to have checked.

use frikort_check::{Kept, partition_of_note};
use frikort_proto::{
    error::{Failure, Faults},
    v1::CheckLedgerRequest,
};

/// What is to be checked.
pub(crate) struct Wish {
    pub(crate) partition: Option<i32>,
    /// Checkpoints that the caller kept, and the partition whose log each is of.
    pub(crate) kept: Vec<(i32, Kept)>,
}

/// Checkpoints that a caller may hold a ledger against at once.
const MOST_CHECKPOINTS: usize = 64;

/// The longest checkpoint, in bytes.
const LONGEST_CHECKPOINT: usize = 4096;

pub(crate) fn checking(request: CheckLedgerRequest, partitions: &[i32]) -> Result<Wish, Failure> {
    let mut faults = Faults::default();
    let wanted = request.partition;
    if wanted.is_some_and(|partition| !partitions.contains(&partition)) {
        faults.note("partition", format!("must be one of {partitions:?}"));
    }
    if request.checkpoints.len() > MOST_CHECKPOINTS {
        faults.note("checkpoints", format!("at most {MOST_CHECKPOINTS}"));
    }
    let mut kept = Vec::new();
    for (index, note) in request.checkpoints.into_iter().take(MOST_CHECKPOINTS).enumerate() {
        let name = format!("checkpoints[{index}]");
        if note.len() > LONGEST_CHECKPOINT {
            faults.note(&name, format!("at most {LONGEST_CHECKPOINT} bytes"));
            continue;
        }
        let of = partition_of_note(&note).filter(|partition| {
            partitions.contains(partition) && wanted.is_none_or(|wanted| wanted == *partition)
        });
        match of {
            Some(partition) => kept.push((partition, Kept { name, note })),
            None => faults.note(
                &name,
                "must be a signed checkpoint whose first line is <operator>/frikort/partition/<N>, \
                 with a partition that is checked",
            ),
        }
    }
    faults.finish(Some(Wish { partition: wanted, kept }))
}
