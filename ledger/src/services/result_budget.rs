//! How many results of payment streams may wait until their caller takes them.
//!
//! ```text
//!   item arrives ──▶ reserve room for its result ──▶ decide ──▶ result waits ──▶ taken: room is free
//!                      └─ none: the stream is not read
//! ```
//!
//! A caller has one budget over all its streams, and each stream a little of its own. So streams whose
//! results nobody takes use up a bounded amount of memory, and another stream of the same caller goes
//! on all the same, if more slowly.
//!
//! Not here: what a result is, and in which order results are sent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Results of one caller that may wait: as many as two partitions have requests in their queues. A
/// result takes about a kilobyte.
const RESULTS_PER_CALLER: usize = 16_384;

/// Results of one stream that may wait although its caller's budget is used up.
const RESULTS_PER_STREAM: u32 = 16;

/// The budgets of all callers that have a stream.
#[derive(Debug, Default)]
pub(crate) struct ResultBudgets(Mutex<HashMap<String, Weak<Semaphore>>>);

/// The budget of one stream.
#[derive(Debug)]
pub(crate) struct StreamBudget {
    caller: Arc<Semaphore>,
    stream: Arc<Semaphore>,
}

/// Room for a number of results, until it is dropped.
#[derive(Debug)]
pub(crate) struct ResultRoom(OwnedSemaphorePermit);

impl ResultBudgets {
    /// The budget of a new stream of the caller of that name.
    pub(crate) fn new_stream(&self, caller: &str) -> StreamBudget {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = callers.get(caller).and_then(Weak::upgrade);
        let budget = known.unwrap_or_else(|| {
            callers.retain(|_, budget| budget.strong_count() > 0);
            let budget = Arc::new(Semaphore::new(RESULTS_PER_CALLER));
            callers.insert(caller.to_owned(), Arc::downgrade(&budget));
            budget
        });
        let stream = Arc::new(Semaphore::new(RESULTS_PER_STREAM as usize));
        StreamBudget { caller: budget, stream }
    }
}

impl StreamBudget {
    /// Waits for room for some results: `most`, or fewer while the caller's budget is used up.
    ///
    /// # Errors
    /// Never, since no budget is ever closed.
    pub(crate) async fn reserve(&self, most: u32) -> Result<ResultRoom, AcquireError> {
        if let Ok(room) = self.caller.clone().try_acquire_many_owned(most) {
            return Ok(ResultRoom(room));
        }
        let own = self.stream.clone().acquire_many_owned(most.min(RESULTS_PER_STREAM));
        let of_caller = self.caller.clone().acquire_many_owned(most);
        let room = tokio::select! {
            biased;
            room = own => room,
            room = of_caller => room,
        };
        Ok(ResultRoom(room?))
    }
}

impl ResultRoom {
    /// For how many results there is room.
    pub(crate) fn results(&self) -> usize {
        self.0.num_permits()
    }

    /// Gives back what is not needed for so many results.
    pub(crate) fn shrink_to(&mut self, results: usize) {
        let unused = self.results().saturating_sub(results);
        drop(self.0.split(unused));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const CHUNK: u32 = 256;

    /// What is reserved without waiting.
    fn reserve(stream: &StreamBudget) -> Option<ResultRoom> {
        stream.reserve(CHUNK).now_or_never().map(Result::unwrap)
    }

    fn results(rooms: &[ResultRoom]) -> usize {
        rooms.iter().map(ResultRoom::results).sum()
    }

    #[test]
    fn all_streams_of_a_caller_share_a_budget_and_each_has_a_little_of_its_own() {
        let budgets = ResultBudgets::default();
        let streams: Vec<_> = (0..100).map(|_| budgets.new_stream("one")).collect();
        let rooms: Vec<_> =
            streams.iter().flat_map(|stream| std::iter::from_fn(|| reserve(stream))).collect();
        let own = 100 * RESULTS_PER_STREAM as usize;
        assert_eq!(results(&rooms), RESULTS_PER_CALLER + own);
        let other = budgets.new_stream("other");
        assert_eq!(reserve(&other).unwrap().results(), CHUNK as usize);
        let late = budgets.new_stream("one");
        let first = reserve(&late).unwrap();
        assert_eq!(first.results(), RESULTS_PER_STREAM as usize);
        assert!(reserve(&late).is_none());
        drop(first);
        assert!(reserve(&late).is_some(), "it goes on when its results are taken");
    }

    #[test]
    fn what_is_not_needed_is_given_back() {
        let budgets = ResultBudgets::default();
        let stream = budgets.new_stream("one");
        let rooms: Vec<_> = (0..RESULTS_PER_CALLER)
            .map(|_| {
                let mut room = reserve(&stream).unwrap();
                room.shrink_to(1);
                room
            })
            .take(RESULTS_PER_CALLER - CHUNK as usize)
            .collect();
        assert_eq!(results(&rooms), rooms.len());
        assert_eq!(reserve(&stream).unwrap().results(), CHUNK as usize);
        drop((rooms, stream));
        drop(budgets.new_stream("other"));
        assert_eq!(budgets.0.lock().unwrap().len(), 1, "callers without a stream are forgotten");
    }

    #[tokio::test]
    async fn a_stream_that_waits_goes_on_when_another_streams_results_are_taken() {
        let budgets = ResultBudgets::default();
        let (full, waiting) = (budgets.new_stream("one"), budgets.new_stream("one"));
        let mut rooms: Vec<_> = std::iter::from_fn(|| reserve(&full)).collect();
        let own = reserve(&waiting).unwrap();
        let mut next = Box::pin(waiting.reserve(CHUNK));
        assert!((&mut next).now_or_never().is_none());
        rooms.swap_remove(0);
        assert_eq!(next.await.unwrap().results(), CHUNK as usize);
        drop(own);
    }
}
