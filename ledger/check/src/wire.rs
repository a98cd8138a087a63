//! Findings as messages, the same for both services that tell them.

use frikort_event_store::AcceptedLoss;
use frikort_proto::{
    timestamp,
    v1::{self, CheckConcluded, CheckFinding, CheckKind, CheckProgress, LedgerPosition},
};

use crate::finding::{Checked, Concluded, Finding, Kind, Progress};

impl From<Kind> for CheckKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Form => Self::Form,
            Kind::Position => Self::Position,
            Kind::Instant => Self::Instant,
            Kind::Version => Self::Version,
            Kind::Outcome => Self::Outcome,
            Kind::Tile => Self::Tile,
            Kind::Checkpoint => Self::Checkpoint,
            Kind::Projection => Self::Projection,
        }
    }
}

impl From<Finding> for CheckFinding {
    fn from(finding: Finding) -> Self {
        let Finding { partition, position, kind, person_id, description } = finding;
        let person_id = person_id.map(|person| person.to_string()).unwrap_or_default();
        Self { partition, position, kind: CheckKind::from(kind).into(), person_id, description }
    }
}

impl From<Progress> for CheckProgress {
    fn from(Progress { done, total }: Progress) -> Self {
        Self { done, total }
    }
}

impl From<Checked> for LedgerPosition {
    fn from(Checked { partition, position, recorded_at, .. }: Checked) -> Self {
        Self::new(partition, position, recorded_at)
    }
}

impl From<Concluded> for CheckConcluded {
    fn from(concluded: Concluded) -> Self {
        Self {
            checked: concluded.checked.into_iter().map(LedgerPosition::from).collect(),
            findings: i64::try_from(concluded.findings).unwrap_or(i64::MAX),
            not_checked: concluded.not_checked,
            accepted_losses: concluded.accepted_losses.into_iter().map(accepted).collect(),
        }
    }
}

fn accepted(loss: AcceptedLoss) -> v1::AcceptedLoss {
    v1::AcceptedLoss {
        partition: loss.partition,
        first_lost_position: loss.first_lost_position,
        last_lost_position: loss.last_lost_position,
        accepted_time: Some(timestamp(loss.accepted_at)),
        accepted_by: loss.accepted_by,
        reason: loss.reason,
        checkpoint: loss.checkpoint.unwrap_or_default(),
    }
}
