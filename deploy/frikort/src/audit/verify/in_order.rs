//! The first pass: the lines in order, and everything that needs no account. Each line is set aside
//! for the second pass with those of its person. What must stay out: accounts.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use frikort_domain::PersonId;

use super::input::{Beside, Input};
use crate::{
    audit::{
        claims::{self, Claim},
        findings::Place,
        history::{self, Check, Fault, Order, Stream},
        lines::{Line, Lines},
        proved::{Proved, Tiles},
        report::{FileReport, Report, TotalsReport},
        spool::{Kind, Origin, Spool},
    },
    progress::Progress,
};

/// What the first pass has found out.
pub(in crate::audit) struct Known {
    pub(in crate::audit) order: Order,
    pub(in crate::audit) proved: BTreeMap<i32, Proved>,
    /// Of each partition whose totals can be compared.
    pub(in crate::audit) claimed: BTreeMap<i32, Claimed>,
}

/// The projector's totals of a partition.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct Claimed {
    /// The number of their file.
    pub(in crate::audit) file: u32,
    /// As of which record of the partition, from 1; 0 before the first.
    pub(in crate::audit) index: u64,
}

/// The first pass.
pub(super) struct InOrder<'a> {
    known: Known,
    report: &'a mut Report,
    spool: &'a mut Spool,
    progress: &'a mut Progress,
    /// Bytes of the files before.
    done: u64,
}

impl<'a> InOrder<'a> {
    pub(super) fn new(
        extract: bool,
        report: &'a mut Report,
        spool: &'a mut Spool,
        progress: &'a mut Progress,
    ) -> Self {
        let order = Order::new(extract);
        let known = Known { order, proved: BTreeMap::new(), claimed: BTreeMap::new() };
        Self { known, report, spool, progress, done: 0 }
    }

    /// Takes all there is.
    pub(super) fn read(mut self, input: Input) -> anyhow::Result<Known> {
        for (partition, Beside { tiles, checkpoints, totals }) in input.partitions {
            if let Some((path, file)) = totals {
                self.totals(partition, file, &path)?;
            }
            let whole =
                tiles.iter().any(Tiles::is_own) && self.known.claimed.contains_key(&partition);
            if checkpoints.iter().any(|known| known.own) && !whole {
                self.report.missing(format!(
                    "partition {partition}: the tiles, the projector's totals, or both are not there"
                ));
            }
            self.known.proved.insert(partition, Proved::new(partition, tiles, checkpoints));
        }
        for (file, path, partition) in input.records {
            self.records(file, &path, partition)?;
        }
        let Known { order, proved, claimed } = &mut self.known;
        for (&partition, proved) in proved.iter_mut() {
            let begins = order.partitions.get(&partition).is_none_or(|p| p.first == 1);
            if begins || proved.has_own() {
                proved.finish(&mut self.report.findings)?;
            }
            if let Some(totals) = claimed.get(&partition).copied() {
                let begins = order.begins(partition);
                if !self.report.can_compare(partition, totals, proved.size(), begins) {
                    claimed.remove(&partition);
                }
            }
        }
        Ok(self.known)
    }

    /// The lines of one file of records.
    fn records(&mut self, file: u32, path: &Path, mut partition: i32) -> anyhow::Result<()> {
        let mut lines = Lines::open(path)?;
        let mut read = FileReport::new(path);
        for number in 1.. {
            let line = match lines.next().with_context(|| path.display().to_string())? {
                Some(Line::Whole(line)) => line,
                Some(Line::CutOff) => {
                    self.report.not_checked(format!(
                        "{} ends within line {number}: what wrote it was cut off (export goes on \
                         there)",
                        path.display()
                    ));
                    break;
                }
                None => break,
            };
            let kind = Kind::Record;
            let origin = Origin { kind, partition, file, line: number, index: 0 };
            partition = self.record(line, origin)?;
            read.records += 1;
            self.progress.step(self.done + lines.end);
        }
        self.done += lines.end;
        self.report.files.push(read);
        Ok(())
    }

    /// One line of records, the one before it of the partition that `origin` names; answers which
    /// it is of.
    fn record(&mut self, line: &[u8], mut origin: Origin) -> anyhow::Result<i32> {
        let Known { order, proved, .. } = &mut self.known;
        let mut read = history::read(line);
        let told = match &read {
            Ok(record) => Some((record.partition, record.position)),
            Err(unread) => unread.place,
        };
        let partition = told.map_or(origin.partition, |(partition, _)| partition);
        // A line that tells no place stands where it should.
        let position = order.next(partition).or(told.map(|(_, position)| position));
        let new = || Proved::new(partition, Vec::new(), Vec::new());
        let proved = proved.entry(partition).or_insert_with(new);
        (origin.partition, origin.index) = (partition, proved.size() + 1);
        proved.push(line, &mut self.report.findings)?;
        let Origin { file, line: number, index, .. } = origin;
        let place = Place { file, line: Some(number), partition, index, position };
        let stream = match &mut read {
            Ok(record) => {
                let faults = history::form(line, record).into_iter().chain(order.take(record));
                faults.for_each(|fault| self.report.findings.add(place, fault));
                Some(record.person_id.map_or(Stream::Partition, Stream::Person))
            }
            Err(unread) => {
                unread.place = told.or(position.map(|position| (partition, position)));
                order.lose(unread);
                self.report.unread(place, unread);
                unread.stream
            }
        };
        if let Some(stream) = stream {
            self.spool.put(stream, origin, line).context("the temporary directory")?;
        }
        Ok(partition)
    }

    /// The projector's totals of a partition: their form and order.
    fn totals(&mut self, partition: i32, file: u32, path: &Path) -> anyhow::Result<()> {
        let mut lines = Lines::open(path)?;
        let mut claimed: Option<claims::Head> = None;
        let mut last: Option<(PersonId, i32)> = None;
        let (mut count, mut ended) = (0, false);
        for number in 1.. {
            let next = lines.next().with_context(|| path.display().to_string())?;
            let Some(Line::Whole(line)) = next else { break };
            let mut wrong = |what: &'static str, position: Option<i64>| {
                let index = position.and_then(|p| u64::try_from(p).ok()).unwrap_or(u64::MAX);
                let place = Place { file, line: Some(number), partition, index, position };
                self.report.findings.add(place, Fault { check: Check::Totals, what: what.into() });
            };
            let Some(head) = claimed else {
                claimed = claims::read(line).filter(|h: &claims::Head| h.partition == partition);
                if claimed.is_none() {
                    wrong("the first line is not of this partition's totals", None);
                    break;
                }
                continue;
            };
            if let Some(claim) = claims::read::<Claim>(line).filter(|_| !ended) {
                let next = (claim.person_id, claim.year);
                if last.replace(next).is_some_and(|last| last >= next) {
                    wrong("not in order of person and year", Some(head.position));
                    continue;
                }
                count += 1;
                let kind = Kind::Total;
                let origin = Origin { kind, partition, file, line: number, index: 0 };
                let stream = Stream::Person(claim.person_id);
                self.spool.put(stream, origin, line).context("the temporary directory")?;
            } else if let Some(end) = claims::read::<claims::End>(line).filter(|_| !ended) {
                ended = true;
                if end.lines != count {
                    wrong("not as many lines as the last one says", Some(head.position));
                }
            } else {
                wrong("it is no total", Some(head.position));
            }
            self.progress.step(self.done + lines.end);
        }
        self.done += lines.end;
        let Some(claims::Head { position, .. }) = claimed else { return Ok(()) };
        if !ended {
            self.report.not_checked(format!(
                "{} has no last line: what wrote it was cut off",
                path.display()
            ));
        }
        let index = u64::try_from(position).unwrap_or_default();
        self.known.claimed.insert(partition, Claimed { file, index });
        self.report.totals.insert(partition, TotalsReport { position, lines: count });
        Ok(())
    }
}
