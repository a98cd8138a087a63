//! What stops a batch or a partition, and what callers get then. Not here: what is done about it.

use std::time::Duration;

use frikort_domain::{Contradiction, Record, RecordError};
use frikort_event_store::StoreError;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::Refused;

/// How long a database call may take before its outcome is looked for on another connection. With
/// the time to resolve it it stays below the two seconds within which callers are answered.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// How far this process's clock may be from the database's, and the last event ahead of it. Events bear
/// the clock's time for ever, so one that is further off records nothing.
pub(super) const CLOCK_TOLERANCE: time::Duration = time::Duration::seconds(5);

/// What stops a batch or the partition.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the store did not answer in time")]
    Timeout,
    #[error("the record at position {0} cannot be read")]
    Record(i64, #[source] RecordError),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error(
        "the clock shows {now}, and {other} {at}: nothing is recorded while they are more than \
         {CLOCK_TOLERANCE} apart"
    )]
    Clock { now: OffsetDateTime, other: &'static str, at: OffsetDateTime },
    #[error(
        "HISTORY CHANGED: acknowledged events are not in the history any more; nothing is appended \
         until the right database is back, or an operator accepts the loss with `ledger \
         accept-history`"
    )]
    HistoryChanged(Option<LostRange>),
}

/// What is lost, as far as this process knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostRange {
    pub(super) first_position: i64,
    pub(super) last_position: i64,
}

impl Fault {
    /// Passing: the database will come back, or what is remembered is read anew. Anything else but a
    /// changed history is a contradiction.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::Clock { .. }
                | Self::Store(
                    StoreError::Unavailable(_)
                        | StoreError::UncertainCommit
                        | StoreError::HistoryChanged { .. }
                )
        )
    }

    /// What the callers of a batch get that met it.
    pub(super) fn refusal(&self) -> Refused {
        match self {
            Self::HistoryChanged(_) => Refused::HistoryChanged,
            Self::Clock { .. } => Refused::ClockOff,
            passing if passing.is_passing() => Refused::StoreUnavailable,
            _ => Refused::Internal,
        }
    }
}

pub(super) fn no_event_at(position: i64) -> Fault {
    Contradiction { position, what: "the head says more than the table holds" }.into()
}

pub(super) fn read(record: &str, position: i64) -> Result<Record, Fault> {
    Record::decode(record).map_err(|error| Fault::Record(position, error))
}

pub(super) async fn in_time<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Fault> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Fault::Timeout),
    }
}
