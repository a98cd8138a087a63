//! What the records of a partition must be in their order: places, instants, and the stream of
//! limits. Memory is that of the partitions.

use std::collections::BTreeMap;

use frikort_domain::Record;
use time::OffsetDateTime;

use super::{Check, Counts, Fault, Stream, Unread, not_next};

/// One partition so far.
#[derive(Debug, Default)]
pub(in crate::audit) struct Partition {
    /// The first position.
    pub(in crate::audit) first: i64,
    /// The last position.
    pub(in crate::audit) head: i64,
    at: Option<OffsetDateTime>,
    limits_version: i64,
    /// A record of the partition's own stream could not be read.
    limits_lost: bool,
}

/// All partitions so far.
#[derive(Debug, Default)]
pub(in crate::audit) struct Order {
    /// Records are missing by intent, such as all of other persons.
    extract: bool,
    pub(in crate::audit) partitions: BTreeMap<i32, Partition>,
    /// Lines that are no record, and limits.
    pub(in crate::audit) counts: Counts,
}

impl Order {
    /// The beginning of one. Of an `extract`, positions may be missing.
    pub(in crate::audit) fn new(extract: bool) -> Self {
        Self { extract, ..Self::default() }
    }

    /// Whether a partition's records begin with the first; only then are all limits known.
    pub(in crate::audit) fn begins(&self, partition: i32) -> bool {
        !self.extract && self.partitions.get(&partition).is_some_and(|p| p.first == 1)
    }

    /// The position that must come next, where it is known.
    pub(in crate::audit) fn next(&self, partition: i32) -> Option<i64> {
        let begun = self.partitions.get(&partition).filter(|p| p.head > 0 && !self.extract);
        begun.map(|partition| partition.head + 1)
    }

    /// Takes the next record.
    pub(in crate::audit) fn take(&mut self, record: &Record) -> Vec<Fault> {
        let mut faults = Vec::new();
        let extract = self.extract;
        let partition = self.partitions.entry(record.partition).or_default();
        faults.extend(partition.place(record.position, extract));
        if partition.at.is_some_and(|at| record.recorded_at <= at) {
            let what = "it was recorded no later than the record before";
            faults.push(Fault::new(Check::Instants, what));
        }
        partition.at = Some(record.recorded_at);
        if record.person_id.is_none() {
            let next = partition.limits_version + 1;
            let begins = partition.first == 1 && !extract;
            let known = !partition.limits_lost && (begins || next > 1);
            partition.limits_version = record.version;
            if record.version != next && known {
                faults.push(not_next(record.version, next));
                self.counts.contradicting += 1;
            } else {
                self.counts.limits += 1;
            }
        }
        faults
    }

    /// Takes a line that is no record to us.
    pub(in crate::audit) fn lose(&mut self, unread: &Unread) {
        match unread.unknown {
            true => self.counts.unknown += 1,
            false => self.counts.contradicting += 1,
        }
        let Some((partition, position)) = unread.place else { return };
        let partition = self.partitions.entry(partition).or_default();
        if partition.head == 0 {
            partition.first = position;
        }
        partition.head = position;
        partition.limits_lost |= unread.stream == Some(Stream::Partition);
    }
}

impl Partition {
    /// Holds a position against the one before.
    fn place(&mut self, position: i64, extract: bool) -> Option<Fault> {
        let head = std::mem::replace(&mut self.head, position);
        if head == 0 {
            self.first = position;
        }
        let follows = match head {
            0 => position >= 1,
            _ if extract => position > head,
            _ => position == head + 1,
        };
        (!follows).then(|| match head {
            0 => Fault::new(Check::Positions, "positions begin at 1"),
            _ => {
                let what = format!("position {position} stands where {} must", head + 1);
                Fault::new(Check::Positions, what)
            }
        })
    }
}
