//! The second pass: some persons at a time, each record decided anew from the account before it; the
//! projector's totals are held against the accounts as they stand at the totals' position. What must
//! stay out: the order of the whole.

use std::collections::{BTreeMap, HashMap};

use frikort_domain::PersonId;

use super::in_order::{Claimed, Known};
use crate::{
    audit::{
        claims::{self, Claim},
        findings::Place,
        history::{self, Check, Counts, Fault, Persons, Year},
        report::Report,
        spool::{Bucket, Kind, Origin},
    },
    progress::Progress,
};

/// What the projector claims of the persons of a bucket: by partition, person and year.
type Claims = HashMap<(i32, PersonId, i32), (Claim, Origin)>;

/// The second pass.
pub(super) struct ByPerson<'a> {
    known: &'a Known,
    report: &'a mut Report,
    progress: &'a mut Progress,
    /// Records of persons so far.
    pub(super) counts: Counts,
    done: u64,
}

impl<'a> ByPerson<'a> {
    /// After a first pass over so many bytes.
    pub(super) fn new(
        known: &'a Known,
        report: &'a mut Report,
        progress: &'a mut Progress,
        done: u64,
    ) -> Self {
        Self { known, report, progress, counts: Counts::default(), done }
    }

    /// Takes the persons of a bucket.
    pub(super) fn read(&mut self, mut bucket: Bucket) -> anyhow::Result<()> {
        let mut persons = Persons::default();
        let mut claims = Claims::new();
        let mut due = self.known.claimed.clone();
        while let Some((origin, line)) = bucket.next()? {
            self.done += line.len() as u64 + 1;
            self.progress.step(self.done);
            let partition = origin.partition;
            if origin.kind == Kind::Total {
                if let Some(claim) = claims::read::<Claim>(line) {
                    claims.insert((partition, claim.person_id, claim.year), (claim, origin));
                }
                continue;
            }
            if due.get(&partition).is_some_and(|totals| origin.index > totals.index) {
                due.remove(&partition);
                self.compare(partition, &persons, &mut claims);
            }
            match history::read(line) {
                Ok(record) => {
                    let begins = self.known.order.begins(partition);
                    if let Some(fault) = persons.take(&record, begins) {
                        let position = Some(record.position);
                        self.report.findings.add(place(origin, origin.index, position), fault);
                    }
                }
                Err(mut unread) => {
                    unread.place.get_or_insert((partition, 0));
                    persons.lose(&unread);
                }
            }
        }
        for partition in due.into_keys() {
            self.compare(partition, &persons, &mut claims);
        }
        self.counts += persons.counts;
        self.report.add_persons(&persons);
        Ok(())
    }

    /// Holds the projector's totals of a partition against the accounts as they stand.
    fn compare(&mut self, partition: i32, persons: &Persons, claims: &mut Claims) {
        let Some(&Claimed { file, index: as_of }) = self.known.claimed.get(&partition) else {
            return;
        };
        let position = i64::try_from(as_of).ok();
        let mut wrong = |place: Place, what: String| {
            self.report.findings.add(place, Fault { check: Check::Totals, what: what.into() });
        };
        for (person_id, _, account) in persons.accounts().filter(|(_, of, _)| *of == partition) {
            for Year { year, total, exempt, payments } in Year::all(account) {
                let replayed = Claim { person_id, year, total, payments, exempt };
                match claims.remove(&(partition, person_id, year)) {
                    Some((claim, _)) if claim == replayed => {}
                    None if replayed.is_nothing() => {}
                    Some((claim, origin)) => wrong(
                        place(origin, as_of, position),
                        format!(
                            "person {person_id}, {year}: the records up to here give {}, the \
                             projector has {}",
                            told(&replayed),
                            told(&claim)
                        ),
                    ),
                    None => wrong(
                        Place { file, line: None, partition, index: as_of, position },
                        format!(
                            "person {person_id}, {year}: the records up to here give {}, the \
                             projector has nothing",
                            told(&replayed)
                        ),
                    ),
                }
            }
        }
        // What is left is of nobody's year, unless the person's history is not known.
        let mut left = BTreeMap::new();
        claims.retain(|key, (claim, origin)| {
            let of_other = key.0 != partition;
            if !of_other && !claim.is_nothing() && !persons.is_lost(claim.person_id) {
                left.insert((claim.person_id, claim.year), (*claim, *origin));
            }
            of_other
        });
        for ((person_id, year), (claim, origin)) in left {
            let had = told(&claim);
            let what = format!(
                "person {person_id}, {year}: no record up to here gives anything, the projector \
                 has {had}"
            );
            wrong(place(origin, as_of, position), what);
        }
    }
}

fn place(origin: Origin, index: u64, position: Option<i64>) -> Place {
    let Origin { file, line, partition, .. } = origin;
    Place { file, line: Some(line), partition, index, position }
}

fn told(claim: &Claim) -> String {
    let Claim { total, payments, exempt, .. } = claim;
    format!("{total} kr. in {payments} payments, {exempt} exempt")
}
