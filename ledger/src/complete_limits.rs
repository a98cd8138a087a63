//! Keeps the limits of all partitions the same: a limit is recorded in each partition, one after the
//! other, and a call that is cut off between two of them leaves the rest without it, as a new
//! partition is without any.
//!
//! Each partition's stream of limits is made to hold every entry that another one has, through its
//! sequencer like any other event. Where partitions disagree about the same year and day, the
//! lowest partition that has an entry decides, since limits are recorded there first. An entry is
//! appended only as the version that it was found missing at, so any number of ledgers may do this
//! at a time, and none brings back an entry that was replaced meanwhile.
//!
//! New persons are given a partition only once its limits are complete.
//!
//! Not here: what a limit means; following a changed limit (`recalculate.rs`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use frikort_domain::{Actor, Event, LimitEntry, Record, RecordError, Role};
use frikort_event_store::{Direction, EventStore, PARTITION_STREAM, StoreError};
use time::Date;
use tokio::{
    sync::{MutexGuard, Notify, watch},
    task::JoinSet,
    time::timeout,
};

use crate::sequencer::{Ask, Handle, Refused};

/// Events read at a time.
const PAGE: i64 = 1000;

/// How often it is checked whether another ledger has left limits incomplete.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Why limits are not complete yet. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncompleteLimits {
    #[error("the limits cannot be read")]
    Store(#[from] StoreError),
    #[error("the limit at position {1} of partition {0} cannot be read")]
    Unreadable(i32, i64, #[source] RecordError),
    #[error("partition {0} does not record the limits that others have: {1:?}")]
    Refused(i32, Refused),
}

/// The limits of each partition, in the order in which they were recorded.
type Streams = BTreeMap<i32, Vec<LimitEntry>>;

/// What keeps the limits of a process's partitions the same.
pub(crate) struct LimitCompletion {
    store: EventStore,
    sequencers: BTreeMap<i32, Handle>,
    /// Held while limits are recorded: two at a time would meet each other's half-way states.
    recording: tokio::sync::Mutex<()>,
    /// Partitions whose limits are complete, for new persons.
    open: Mutex<Vec<i32>>,
    /// Whether the limits of all partitions are complete.
    complete: watch::Sender<bool>,
    /// Wakes the task.
    suspected: Notify,
}

impl LimitCompletion {
    /// Of these partitions, as one of the `tasks`; none of them is open before the first pass.
    pub(crate) fn start(
        store: EventStore,
        sequencers: BTreeMap<i32, Handle>,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let completion = Arc::new(Self {
            store,
            sequencers,
            recording: tokio::sync::Mutex::new(()),
            open: Mutex::new(Vec::new()),
            complete: watch::Sender::new(false),
            suspected: Notify::new(),
        });
        let running = completion.clone();
        tasks.spawn(async move { running.run().await });
        completion
    }

    /// Whether the limits of all partitions are complete, for health.
    pub(crate) fn is_complete(&self) -> watch::Receiver<bool> {
        self.complete.subscribe()
    }

    /// Partitions that new persons may be given, ascending.
    pub(crate) fn open_partitions(&self) -> Vec<i32> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_open(&self, partitions: Vec<i32>) {
        let is_complete = partitions.len() == self.sequencers.len();
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = partitions;
        self.complete.send_if_modified(|was| std::mem::replace(was, is_complete) != is_complete);
    }

    /// Completes limits until dropped.
    async fn run(&self) {
        let mut logged = None;
        loop {
            let pause = match self.complete().await {
                Ok(_) => {
                    logged = None;
                    CHECK_INTERVAL
                }
                Err(incomplete) => {
                    let text = format!("{incomplete:?}");
                    if logged.as_ref() != Some(&text) {
                        let error = &incomplete as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "limits are not complete in every partition; retrying"
                        );
                        logged = Some(text);
                    }
                    RETRY_PAUSE
                }
            };
            // Its time-out is the next check.
            let _ = timeout(pause, self.suspected.notified()).await;
        }
    }

    /// Makes the limits of all partitions the same. While the guard is held, nobody of this process
    /// records another one.
    pub(crate) async fn complete(&self) -> Result<RecordingLimits<'_>, IncompleteLimits> {
        let recording = self.recording.lock().await;
        let mut streams = Streams::new();
        for partition in self.sequencers.keys() {
            streams.insert(*partition, self.read(*partition).await?);
        }
        let (mut open, mut failed) = (Vec::new(), None);
        for (partition, sequencer) in &self.sequencers {
            match record(*partition, sequencer, &streams).await {
                Ok(()) => open.push(*partition),
                Err(incomplete) => failed = Some(incomplete),
            }
        }
        self.set_open(open);
        match failed {
            Some(incomplete) => Err(incomplete),
            None => Ok(RecordingLimits { completion: self, _recording: recording }),
        }
    }

    async fn read(&self, partition: i32) -> Result<Vec<LimitEntry>, IncompleteLimits> {
        let mut entries: Vec<LimitEntry> = Vec::new();
        loop {
            let from = version(&entries);
            let (stream, forwards) = (PARTITION_STREAM, Direction::Forwards);
            let page = self.store.read_stream(partition, stream, from, forwards, PAGE).await?;
            if page.is_empty() {
                return Ok(entries);
            }
            for stored in page {
                let record = Record::decode(&stored.record).map_err(|error| {
                    IncompleteLimits::Unreadable(partition, stored.position, error)
                })?;
                // A partition's own stream has no other event.
                if let Event::AnnualLimitSet(entry) = record.event {
                    entries.push(entry);
                }
            }
        }
    }
}

/// While a limit is recorded in one partition after the other. When this is dropped half-way, the
/// rest is completed by the task.
pub(crate) struct RecordingLimits<'a> {
    completion: &'a LimitCompletion,
    _recording: MutexGuard<'a, ()>,
}

impl RecordingLimits<'_> {
    /// The limit is recorded in these partitions, and no other is open until it has it too.
    pub(crate) fn recorded_in(&self, partitions: &[i32]) {
        self.completion.set_open(partitions.to_vec());
    }
}

impl Drop for RecordingLimits<'_> {
    fn drop(&mut self) {
        if !*self.completion.complete.borrow() {
            self.completion.suspected.notify_one();
        }
    }
}

/// Records what a partition lacks.
async fn record(
    partition: i32,
    sequencer: &Handle,
    streams: &Streams,
) -> Result<(), IncompleteLimits> {
    let own = streams.get(&partition).map(Vec::as_slice).unwrap_or_default();
    let missing = missing(own, streams);
    if missing.is_empty() {
        return Ok(());
    }
    let count = missing.len();
    for (entry, version) in missing.into_iter().zip(version(own)..) {
        let actor = Actor { role: Role::Operator, organisation: "ledger".to_owned() };
        let ask = Ask::CompleteLimit { entry, version };
        let answer = sequencer.ask_in_turn(ask, actor).await;
        answer.map_err(|refused| IncompleteLimits::Refused(partition, refused))?;
    }
    tracing::info!(partition, count, "recorded limits that other partitions have");
    Ok(())
}

/// The version that the next entry of a stream gets.
fn version(entries: &[LimitEntry]) -> i64 {
    i64::try_from(entries.len()).unwrap_or(i64::MAX).saturating_add(1)
}

fn key(entry: &LimitEntry) -> (i32, Date) {
    (entry.year, entry.in_force_from)
}

/// What a stream must be given so that it holds every entry that any has, and the limit of each year
/// and day is that of the lowest partition that has one.
fn missing(own: &[LimitEntry], streams: &Streams) -> Vec<LimitEntry> {
    // The deciding stream of each year and day.
    let mut deciding: BTreeMap<(i32, Date), i32> = BTreeMap::new();
    for (partition, entries) in streams {
        for entry in entries {
            deciding.entry(key(entry)).or_insert(*partition);
        }
    }
    // What others have besides comes first, so that it is replaced by what decides.
    let mut missing: Vec<LimitEntry> = Vec::new();
    for decides in [false, true] {
        for (partition, entries) in streams {
            for entry in entries.iter().filter(|e| (deciding[&key(e)] == *partition) == decides) {
                if !own.contains(entry) && !missing.contains(entry) {
                    missing.push(entry.clone());
                }
            }
        }
    }
    for (of, partition) in deciding {
        let last = |entries: &[LimitEntry]| entries.iter().rfind(|e| key(e) == of).cloned();
        let Some(decided) = last(&streams[&partition]) else { continue };
        if last(&missing).or_else(|| last(own)) != Some(decided.clone()) {
            missing.push(decided);
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use frikort_domain::Amount;
    use time::macros::date;

    use super::*;

    fn limit(year: i32, kroner: i64) -> LimitEntry {
        LimitEntry {
            year,
            limit: Amount::from_oere(kroner * 100).unwrap(),
            in_force_from: date!(2025 - 01 - 01),
            citation: "for a test".to_owned(),
        }
    }

    /// Completes every stream once.
    fn completed(streams: &[&[LimitEntry]]) -> Vec<Vec<LimitEntry>> {
        let streams: Streams = (0..).zip(streams.iter().map(|entries| entries.to_vec())).collect();
        let whole = |own: &Vec<LimitEntry>| [own.clone(), missing(own, &streams)].concat();
        streams.values().map(whole).collect()
    }

    #[test]
    fn a_new_partition_begins_with_the_limits_of_the_others_in_their_order() {
        let old = [limit(2024, 1), limit(2025, 2), limit(2024, 3)];
        assert_eq!(completed(&[&old, &[]]), [old.to_vec(), old.to_vec()]);
    }

    #[test]
    fn what_reached_some_partitions_is_completed() {
        let (first, second) = (limit(2025, 1), limit(2025, 2));
        let both = [first.clone(), second];
        assert_eq!(completed(&[&both, &both, &both[..1]]), vec![both.to_vec(); 3]);
        // Also one that was changed back.
        let back = [&both[..], &[first]].concat();
        assert_eq!(completed(&[&back, &both]), [back.clone(), back]);
    }

    #[test]
    fn nothing_is_recorded_where_all_have_the_same() {
        let all = [limit(2024, 1), limit(2025, 2)];
        let (none, other_order) = (&[][..], [all[1].clone(), all[0].clone()]);
        for streams in [[&all[..], &all, &other_order], [none, none, none]] {
            let whole = completed(&streams);
            for (before, after) in streams.iter().zip(whole) {
                assert_eq!(before.to_vec(), after);
            }
        }
    }

    #[test]
    fn partitions_that_disagree_end_with_the_limits_of_the_lowest_and_stay_so() {
        let [a, b, c, d] = [limit(2025, 1), limit(2025, 2), limit(2024, 3), limit(2023, 4)];
        let streams = [vec![a.clone(), b.clone()], vec![b, a.clone(), c.clone()], vec![c, a, d]];
        let streams: Vec<&[LimitEntry]> = streams.iter().map(Vec::as_slice).collect();
        let whole = completed(&streams);
        for entries in &whole {
            for (year, kroner) in [(2025, 2), (2024, 3), (2023, 4)] {
                let last = entries.iter().rfind(|entry| entry.year == year).unwrap();
                assert_eq!(*last, limit(year, kroner));
            }
            for entry in streams.iter().flat_map(|stream| stream.iter()) {
                assert!(entries.contains(entry));
            }
        }
        let again: Vec<&[LimitEntry]> = whole.iter().map(Vec::as_slice).collect();
        assert_eq!(completed(&again), whole);
    }
}
