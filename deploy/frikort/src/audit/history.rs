//! The history, replayed from its records alone: each is held against what came before it, and
//! decided anew. Memory grows with persons and payments, since a decision needs the whole account;
//! records are let go. What must stay out: files, services, and what is shown.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, hash_map::Entry},
};

use frikort_domain::{
    Account, Amount, Event, LimitSchedule, PersonId, Record, RecordError, redecide,
};
use time::OffsetDateTime;

/// What is checked of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Check {
    /// It is a record, in the one form in which it may be written.
    Form,
    /// Positions are 1, 2, 3 … in a partition.
    Positions,
    /// Instants increase in a partition.
    Instants,
    /// Versions are 1, 2, 3 … in a stream.
    Versions,
    /// What was decided follows from the data and the state before.
    Outcomes,
}

/// What does not fit.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) check: Check,
    pub(super) what: Cow<'static, str>,
}

/// What came of one line.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Partition and position, where the line tells them.
    pub(super) place: Option<(i32, i64)>,
    /// In the order of the checks; usually none.
    pub(super) faults: Vec<Fault>,
    /// Why this program cannot read the record, though it may be sound.
    pub(super) unknown: Option<RecordError>,
}

/// How many records came to what; together they are all lines taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Decided anew, to the same outcome.
    pub(super) decided: u64,
    /// Limits: facts that nobody decides.
    pub(super) limits: u64,
    /// In an extract: sums and splits follow from the state before, the decision was not repeated.
    pub(super) folded: u64,
    /// In an extract: of a person whose first record is not there.
    pub(super) without_begin: u64,
    /// They contradict the history themselves.
    pub(super) contradicting: u64,
    /// Of a person whose history is contradicted or unknown before.
    pub(super) after: u64,
    /// Of a form or type that this program does not know.
    pub(super) unknown: u64,
}

impl Counts {
    /// All lines taken.
    pub(super) fn records(self) -> u64 {
        let sound = self.decided + self.limits + self.folded + self.without_begin;
        sound + self.contradicting + self.after + self.unknown
    }
}

/// One partition so far.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The first position.
    pub(super) first: i64,
    /// The last position.
    pub(super) head: i64,
    at: Option<OffsetDateTime>,
    limits_version: i64,
    /// A record of the partition itself could not be read: the limits may be others.
    limits_lost: bool,
    /// The limits on record.
    pub(super) limits: LimitSchedule,
}

/// One person so far.
struct Person {
    partition: i32,
    state: State,
}

enum State {
    /// All of the person's records so far are folded in.
    Known(Box<Account>),
    /// The first records are not there; the version of the last one.
    WithoutBegin(i64),
    /// Something contradicts or cannot be read; nothing follows from here.
    Lost,
}

/// One person's year as the history has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Year {
    pub(super) person: PersonId,
    pub(super) year: i32,
    pub(super) total: Amount,
    /// The exempt parts, added up.
    pub(super) exempt: Amount,
    pub(super) payments: u32,
}

/// All of it so far.
#[derive(Default)]
pub(super) struct History {
    /// Records are missing by intent, such as all of other persons.
    extract: bool,
    persons: HashMap<PersonId, Person>,
    pub(super) partitions: BTreeMap<i32, Partition>,
    pub(super) counts: Counts,
}

impl History {
    /// The beginning of one. Of an `extract`, positions may be missing.
    pub(super) fn new(extract: bool) -> Self {
        Self { extract, ..Self::default() }
    }

    /// The persons with a record.
    pub(super) fn persons(&self) -> usize {
        self.persons.len()
    }

    /// Persons of a partition who were granted a card, as far as their history is known.
    pub(super) fn holders(&self, partition: i32) -> impl Iterator<Item = (PersonId, &Account)> {
        self.accounts().filter_map(move |(person, in_partition, account)| {
            let holder = in_partition == partition && account.card().is_some();
            holder.then_some((person, account))
        })
    }

    /// A person's account, where all of the history is known.
    pub(super) fn account(&self, person: PersonId) -> Option<&Account> {
        match &self.persons.get(&person)?.state {
            State::Known(account) => Some(account),
            State::WithoutBegin(_) | State::Lost => None,
        }
    }

    /// Every year in which a person has a payment, cancelled ones included.
    pub(super) fn years(&self) -> impl Iterator<Item = Year> {
        self.accounts().flat_map(|(person, _, account)| {
            let mut exempt: BTreeMap<i32, Amount> = BTreeMap::new();
            for (_, payment) in account.payments() {
                let sum = exempt.entry(payment.year).or_default();
                *sum = *sum + payment.exempt;
            }
            exempt.into_iter().map(move |(year, exempt)| {
                let (total, payments) = account.year_total(year);
                Year { person, year, total, exempt, payments }
            })
        })
    }

    fn accounts(&self) -> impl Iterator<Item = (PersonId, i32, &Account)> {
        self.persons.iter().filter_map(|(&id, person)| match &person.state {
            State::Known(account) => Some((id, person.partition, account.as_ref())),
            State::WithoutBegin(_) | State::Lost => None,
        })
    }

    /// Takes the next line.
    pub(super) fn take(&mut self, line: &[u8]) -> Taken {
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => return self.unreadable("", &error),
        };
        let record = match Record::decode(text) {
            Ok(record) => record,
            Err(error @ (RecordError::UnknownSchema(_) | RecordError::UnknownType(_))) => {
                let place = self.lose(text);
                self.counts.unknown += 1;
                return Taken { place, unknown: Some(error), ..Taken::default() };
            }
            Err(RecordError::Malformed(error)) => return self.unreadable(text, &error),
            Err(error) => return self.unreadable(text, &error),
        };
        let mut faults = Vec::new();
        if let Some(fault) = record.fault_of_form(text) {
            faults.push(Fault { check: Check::Form, what: fault.into() });
        }
        self.place(&record, &mut faults);
        self.follow(&record, &mut faults);
        Taken { place: Some((record.partition, record.position)), faults, unknown: None }
    }

    fn unreadable(&mut self, text: &str, error: &dyn std::error::Error) -> Taken {
        let place = self.lose(text);
        self.counts.contradicting += 1;
        let what = format!("it is no record: {error}").into();
        Taken { place, faults: vec![Fault { check: Check::Form, what }], unknown: None }
    }

    /// As much as can be made of a line that is no record to us: its place, and whose it is.
    fn lose(&mut self, text: &str) -> Option<(i32, i64)> {
        let line: serde_json::Value = serde_json::from_str(text).ok()?;
        let partition = i32::try_from(line.get("partition")?.as_i64()?).ok()?;
        let position = line.get("position")?.as_i64()?;
        let place = self.partitions.entry(partition).or_default();
        if place.head == 0 {
            place.first = position;
        }
        place.head = position;
        match line.get("person_id").cloned().map(serde_json::from_value::<PersonId>) {
            Some(Ok(person)) => {
                self.persons.insert(person, Person { partition, state: State::Lost });
            }
            Some(Err(_)) => {}
            None => place.limits_lost = true,
        }
        Some((partition, position))
    }

    /// Holds the record's place in its partition against the one before.
    fn place(&mut self, record: &Record, faults: &mut Vec<Fault>) {
        let partition = self.partitions.entry(record.partition).or_default();
        let (position, head) = (record.position, partition.head);
        if head == 0 {
            partition.first = position;
        }
        let follows = match head {
            0 => position >= 1,
            _ if self.extract => position > head,
            _ => position == head + 1,
        };
        if !follows {
            let what = match head {
                0 => "positions begin at 1".into(),
                _ => format!("position {position} stands where {} must", head + 1).into(),
            };
            faults.push(Fault { check: Check::Positions, what });
        }
        if partition.at.is_some_and(|at| record.recorded_at <= at) {
            let what = "it was recorded no later than the record before".into();
            faults.push(Fault { check: Check::Instants, what });
        }
        partition.head = position;
        partition.at = Some(record.recorded_at);
    }

    /// Holds the record against its stream, decides it anew, and moves on.
    fn follow(&mut self, record: &Record, faults: &mut Vec<Fault>) {
        let partition = self.partitions.entry(record.partition).or_default();
        // Where the beginning is missing, so are limits: nothing can be decided.
        let whole = partition.first == 1 && !self.extract && !partition.limits_lost;
        let Some(person_id) = record.person_id else {
            if let Event::AnnualLimitSet(entry) = &record.event {
                let next = partition.limits_version + 1;
                if record.version != next && !partition.limits_lost && (whole || next > 1) {
                    let what = not_next(record.version, next);
                    faults.push(Fault { check: Check::Versions, what });
                    self.counts.contradicting += 1;
                } else {
                    self.counts.limits += 1;
                }
                partition.limits_version = record.version;
                partition.limits.set(entry.clone());
            }
            return;
        };
        let person = match self.persons.entry(person_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Person {
                partition: record.partition,
                state: if whole || record.version == 1 {
                    State::Known(Box::default())
                } else {
                    State::WithoutBegin(record.version - 1)
                },
            }),
        };
        let counts = &mut self.counts;
        let next = match &person.state {
            State::Known(account) => account.version() + 1,
            State::WithoutBegin(version) => version + 1,
            State::Lost => {
                counts.after += 1;
                return;
            }
        };
        let fault = if person.partition != record.partition {
            let what = "the person's records lie in another partition".into();
            Some(Fault { check: Check::Versions, what })
        } else if record.version != next {
            Some(Fault { check: Check::Versions, what: not_next(record.version, next) })
        } else {
            person.fold(record, whole.then_some(&partition.limits), counts)
        };
        if let Some(fault) = fault {
            counts.contradicting += 1;
            if fault.check == Check::Versions {
                person.state = State::Lost;
            }
            faults.push(fault);
        }
    }
}

impl Person {
    /// Folds in the next record, and decides it anew where the limits are known. After an outcome
    /// that does not follow it goes on from what is recorded, if that makes sense by itself.
    fn fold(
        &mut self,
        record: &Record,
        limits: Option<&LimitSchedule>,
        counts: &mut Counts,
    ) -> Option<Fault> {
        let account = match &mut self.state {
            State::Known(account) => account,
            State::WithoutBegin(version) => {
                *version = record.version;
                counts.without_begin += 1;
                return None;
            }
            State::Lost => return None,
        };
        let decided = limits.map_or(Ok(()), |limits| redecide(account, limits, record));
        let (version, position, at) = (record.version, record.position, record.recorded_at);
        let applied = account.apply(&record.event, version, position, at);
        if applied.is_err() {
            self.state = State::Lost;
        }
        match decided.and(applied) {
            Err(error) => Some(Fault { check: Check::Outcomes, what: error.what.into() }),
            Ok(()) if limits.is_some() => {
                counts.decided += 1;
                None
            }
            Ok(()) => {
                counts.folded += 1;
                None
            }
        }
    }
}

fn not_next(version: i64, next: i64) -> Cow<'static, str> {
    format!("version {version} of its stream stands where {next} must").into()
}
