//! Answers without an end: a task that feeds a stream, and says so when the process stops.
//!
//! What must stay out: what is sent. Whoever feeds waits for the caller to take it, so that a slow
//! caller costs what waits for it and no more.

use frikort_proto::{error::Failure, v1::ErrorReason};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The way to one caller.
pub type Items<T> = mpsc::Sender<Result<T, Status>>;

/// Runs `work`, which sends to `items`, until it ends or the process stops; the caller is told
/// what ended it, if it is not the caller.
pub async fn feed<T>(
    items: Items<T>,
    stop: CancellationToken,
    work: impl Future<Output = Result<(), Status>>,
) {
    let result = tokio::select! {
        result = work => result,
        () = stop.cancelled() => {
            let stopping = "the server is stopping; repeat";
            Err(Failure::new(ErrorReason::ShuttingDown, stopping).into())
        }
    };
    if let Err(status) = result {
        // The caller may be gone; then there is nobody to tell.
        let _ = items.send(Err(status)).await;
    }
}
