//! Answers without an end: a task that feeds a stream, and says so when the process stops.
//!
//! What must stay out: what is sent. Whoever feeds waits for the caller to take it, so that a slow
//! caller costs what waits for it and no more; one that takes nothing at all gives up its place.

use std::time::Duration;

use frikort_proto::{error::Failure, v1::ErrorReason};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long a caller may take nothing of what waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The way to one caller.
pub type Items<T> = mpsc::Sender<Result<T, Status>>;

/// Runs `work`, which sends to `items`, until it ends, the process stops, or the caller takes
/// nothing; the caller is told what ended it, if it is not the caller.
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
        () = taken_nothing(&items, PATIENCE) => {
            let nothing = "nothing was taken for a minute; go on after the last that was";
            Err(Failure::new(ErrorReason::Overloaded, nothing).into())
        }
    };
    if let Err(status) = result {
        // The caller may be gone, or go on taking nothing; then there is nobody to tell.
        let _ = timeout(PATIENCE, items.send(Err(status))).await;
    }
}

/// Ends when what waits for the caller has been full for as long as there is patience.
async fn taken_nothing<T>(items: &Items<T>, patience: Duration) {
    // Whoever waits for room has it in turn: it comes when the caller has taken something.
    while timeout(patience, items.reserve()).await.is_ok() {
        tokio::time::sleep(patience / 4).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn whoever_takes_nothing_is_found_and_whoever_is_slow_is_not() {
        let (items, mut taken) = mpsc::channel::<Result<u8, Status>>(1);
        // Nothing waits.
        assert!(timeout(SOON * 3, taken_nothing(&items, SOON)).await.is_err());
        items.send(Ok(1)).await.unwrap();
        timeout(SOON * 3, taken_nothing(&items, SOON)).await.unwrap();
        // One that takes something now and then, and always finds more.
        let slow = tokio::spawn({
            let items = items.clone();
            async move { while items.send(Ok(2)).await.is_ok() {} }
        });
        let watched = tokio::spawn(async move { taken_nothing(&items, SOON).await });
        for _ in 0..12 {
            tokio::time::sleep(SOON / 4).await;
            taken.recv().await.unwrap().unwrap();
        }
        assert!(!watched.is_finished());
        drop(taken);
        slow.await.unwrap();
    }
}
