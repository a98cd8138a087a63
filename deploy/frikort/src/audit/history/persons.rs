//! What a person's records must be: versions, and outcomes that are decided anew by the limits on
//! record at each position. Takes all limits and the whole records of some or all persons, in order;
//! memory grows with their payments, since a decision needs the whole account.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use frikort_domain::{
    Account, Amount, Event, LimitHistory, LimitSchedule, PersonId, Record, Replay, Unsound,
};

use super::{Check, Counts, Fault, Stream, Unread, not_next};

/// One person so far.
struct Person {
    partition: i32,
    state: State,
}

enum State {
    /// All of the person's records so far are folded in.
    Known(Box<Replay>),
    /// The first records are not there; the version of the last one.
    WithoutBegin(i64),
    /// Something contradicts or cannot be read; nothing follows from here.
    Lost,
}

/// The limits of a partition so far.
#[derive(Default)]
struct Limits {
    /// A record of them could not be read: they may be others.
    lost: bool,
    history: LimitHistory,
}

/// One person's year as the history has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) struct Year {
    pub(in crate::audit) year: i32,
    pub(in crate::audit) total: Amount,
    /// The exempt parts, added up.
    pub(in crate::audit) exempt: Amount,
    /// Those that count: cancelled ones do not.
    pub(in crate::audit) payments: u32,
}

/// The persons so far.
#[derive(Default)]
pub(in crate::audit) struct Persons {
    persons: HashMap<PersonId, Person>,
    limits: BTreeMap<i32, Limits>,
    /// Records of persons.
    pub(in crate::audit) counts: Counts,
}

impl Persons {
    /// How many have a record.
    pub(in crate::audit) fn len(&self) -> usize {
        self.persons.len()
    }

    /// The limits of a partition on record.
    pub(in crate::audit) fn limits(&self, partition: i32) -> Option<&LimitSchedule> {
        self.limits.get(&partition)?.history.as_of(i64::MAX)
    }

    /// A person's account, where all of the history is known.
    pub(in crate::audit) fn account(&self, person: PersonId) -> Option<&Account> {
        match &self.persons.get(&person)?.state {
            State::Known(replay) => Some(replay.account()),
            State::WithoutBegin(_) | State::Lost => None,
        }
    }

    /// Whether the person's records so far cannot be told the sums of.
    pub(in crate::audit) fn is_lost(&self, person: PersonId) -> bool {
        self.persons.contains_key(&person) && self.account(person).is_none()
    }

    /// The persons whose history is known: each with the partition and the account.
    pub(in crate::audit) fn accounts(&self) -> impl Iterator<Item = (PersonId, i32, &Account)> {
        self.persons.iter().filter_map(|(&id, person)| match &person.state {
            State::Known(replay) => Some((id, person.partition, replay.account())),
            State::WithoutBegin(_) | State::Lost => None,
        })
    }

    /// Takes the next record; `begins` says that the partition's records begin with the first.
    pub(in crate::audit) fn take(&mut self, record: &Record, begins: bool) -> Option<Fault> {
        let limits = self.limits.entry(record.partition).or_default();
        if let Event::AnnualLimitSet(entry) = &record.event {
            limits.history.record(entry.clone(), record.position, record.recorded_at);
            return None;
        }
        // Where the beginning is missing, so are limits: nothing can be decided.
        let limits = (begins && !limits.lost).then_some(&limits.history);
        let person = match self.persons.entry(record.person_id?) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Person {
                partition: record.partition,
                state: if limits.is_some() || record.version == 1 {
                    State::Known(Box::default())
                } else {
                    State::WithoutBegin(record.version - 1)
                },
            }),
        };
        person.take(record, limits, &mut self.counts)
    }

    /// Takes a line that is no record to us: whose it is has no known history any more.
    pub(in crate::audit) fn lose(&mut self, unread: &Unread) {
        match (unread.stream, unread.place) {
            (Some(Stream::Person(person)), Some((partition, _))) => {
                self.persons.insert(person, Person { partition, state: State::Lost });
            }
            (Some(Stream::Partition), Some((partition, _))) => {
                self.limits.entry(partition).or_default().lost = true;
            }
            _ => {}
        }
    }
}

impl Person {
    /// Holds the next record against the person's stream, decides it anew, and moves on. After an
    /// outcome that does not follow it goes on from what is recorded, if that makes sense by itself.
    fn take(
        &mut self,
        record: &Record,
        limits: Option<&LimitHistory>,
        counts: &mut Counts,
    ) -> Option<Fault> {
        let (fault, goes_on) = match &mut self.state {
            State::Lost => {
                counts.after += 1;
                return None;
            }
            _ if self.partition != record.partition => {
                let what = "the person's records lie in another partition";
                (Fault::new(Check::Versions, what), false)
            }
            State::WithoutBegin(version) if record.version == *version + 1 => {
                *version = record.version;
                counts.without_begin += 1;
                return None;
            }
            State::WithoutBegin(version) => (not_next(record.version, *version + 1), false),
            State::Known(replay) => match replay.take(record, limits) {
                Ok(()) if limits.is_some() => {
                    counts.decided += 1;
                    return None;
                }
                Ok(()) => {
                    counts.folded += 1;
                    return None;
                }
                Err(unsound) => (fault(&unsound), unsound.goes_on()),
            },
        };
        counts.contradicting += 1;
        if !goes_on {
            self.state = State::Lost;
        }
        Some(fault)
    }
}

fn fault(unsound: &Unsound) -> Fault {
    let check = match unsound {
        Unsound::Version { .. } | Unsound::Order { .. } => Check::Versions,
        Unsound::Outcome(_) | Unsound::Broken(_) => Check::Outcomes,
    };
    Fault::new(check, unsound.to_string())
}

impl Year {
    /// Every year in which an account has a payment, cancelled ones included.
    pub(in crate::audit) fn all(account: &Account) -> impl Iterator<Item = Self> {
        let mut exempt: BTreeMap<i32, Amount> = BTreeMap::new();
        for (_, payment) in account.payments() {
            let sum = exempt.entry(payment.year).or_default();
            *sum = *sum + payment.exempt;
        }
        exempt.into_iter().map(move |(year, exempt)| {
            let (total, payments) = account.year_total(year);
            Self { year, total, exempt, payments }
        })
    }
}
