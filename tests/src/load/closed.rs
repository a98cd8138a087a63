//! The closed loop: so many callers, each asking again as soon as it is answered. For throughput;
//! a stall hides in it, so latency under a given rate is `open`'s.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use frikort_proto::{
    error::{Failure, RETRY_DELAY},
    v1::ErrorReason,
};
use tokio::task::JoinSet;
use tonic::Status;

use super::cpu::Used;

/// How one call went.
pub(super) enum Told {
    Done,
    /// Overloaded; nothing was recorded.
    Refused,
}

/// Done, refused, or an error that ends the run.
pub(super) fn told<T>(answer: Result<T, Status>) -> anyhow::Result<Result<T, Told>> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(status) => match Failure::from_status(&status) {
            Some(failure) if failure.reason == ErrorReason::Overloaded => Ok(Err(Told::Refused)),
            _ => Err(anyhow!("a call failed: {status}")),
        },
    }
}

/// What all callers saw, in microseconds a call.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) done: Vec<u32>,
    pub(super) refused: Vec<u32>,
    pub(super) elapsed: Duration,
    pub(super) cpu: Used,
}

impl Tally {
    /// Calls a second that were done.
    pub(super) fn rate(&self) -> f64 {
        self.done.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Keeps `in_flight` calls under way for `time`; `call` is told which of the callers calls.
pub(super) async fn run<F, C>(in_flight: usize, time: Duration, call: F) -> anyhow::Result<Tally>
where
    F: Fn(usize) -> C + Clone + Send + 'static,
    C: Future<Output = anyhow::Result<Told>> + Send,
{
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..in_flight {
        let call = call.clone();
        callers.spawn(async move {
            let mut tally = Tally::default();
            while begun.elapsed() < time {
                let asked = Instant::now();
                match call(caller).await? {
                    Told::Done => tally.done.push(micros(asked.elapsed())),
                    Told::Refused => {
                        tally.refused.push(micros(asked.elapsed()));
                        tokio::time::sleep(RETRY_DELAY).await;
                    }
                }
            }
            anyhow::Ok(tally)
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = callers.join_next().await {
        let tally = tally??;
        all.done.extend(tally.done);
        all.refused.extend(tally.refused);
    }
    all.elapsed = begun.elapsed();
    Ok(all)
}

/// Whole microseconds.
pub(super) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
