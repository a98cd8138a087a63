//! The requests that wait for a partition, taken batch by batch. Not here: what is done with them.

use std::{thread, time::Duration};

use tokio::sync::mpsc;

use super::{Request, fault::Fault};

/// Requests decided together; caps how long a caller waits for others.
pub(super) const MAX_BATCH: usize = 512;

/// How long a batch waits for more when it is below a quarter of the one before: those callers
/// were answered just now, and most of them are on their way again. A commit for one or two of
/// them costs nearly as much as one for all.
const GATHER: Duration = Duration::from_micros(20);

/// The requests that wait.
pub(super) struct Queue {
    requests: mpsc::Receiver<Request>,
    /// Requests in the batch before.
    last_batch: usize,
}

impl Queue {
    pub(super) fn new(requests: mpsc::Receiver<Request>) -> Self {
        Self { requests, last_batch: 0 }
    }

    /// Takes the next batch, once there is one; false when there will be none any more.
    pub(super) async fn gather(&mut self, requests: &mut Vec<Request>) -> bool {
        if self.requests.recv_many(requests, MAX_BATCH).await == 0 {
            return false;
        }
        if requests.len() < self.last_batch / 4 {
            // The thread's own pause: the runtime's timer is too coarse, and nothing else is to be
            // done on this thread.
            thread::sleep(GATHER);
            while requests.len() < MAX_BATCH
                && let Ok(request) = self.requests.try_recv()
            {
                requests.push(request);
            }
        }
        self.last_batch = requests.len();
        true
    }

    /// Refuses the queued requests after a database timeout: a second wait would exceed the two seconds
    /// within which callers are answered.
    pub(super) fn refuse_queued(&mut self, fault: &Fault) {
        if matches!(fault, Fault::Timeout) {
            while let Ok(request) = self.requests.try_recv() {
                request.reply.send(Err(fault.refusal()));
            }
        }
    }
}
