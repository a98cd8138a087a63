//! The history, replayed from its records alone. What the records of a partition must be in their
//! order is one half (`order.rs`), and needs no memory of them; what a person's records must be is
//! the other (`persons.rs`), and needs the whole account. Whoever has no room for all accounts takes
//! some persons at a time. What must stay out: files, services, and what is shown.

use std::{borrow::Cow, ops::AddAssign};

use frikort_domain::{PersonId, Record, RecordError};

mod order;
mod persons;

pub(super) use order::Order;
pub(super) use persons::{Persons, Year};

/// What is checked.
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
    /// The tiles that were stored are those of these records.
    Tiles,
    /// The checkpoints are signed, and of these records.
    Checkpoints,
    /// The projector's totals are the sums of these records.
    Totals,
}

impl Check {
    /// All of them.
    pub(super) const ALL: [Self; 8] = [
        Self::Form,
        Self::Positions,
        Self::Instants,
        Self::Versions,
        Self::Outcomes,
        Self::Tiles,
        Self::Checkpoints,
        Self::Totals,
    ];

    /// As people and programs are told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Positions => "positions",
            Self::Instants => "instants",
            Self::Versions => "versions",
            Self::Outcomes => "outcomes",
            Self::Tiles => "tiles",
            Self::Checkpoints => "checkpoints",
            Self::Totals => "totals",
        }
    }
}

/// What does not fit.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) check: Check,
    pub(super) what: Cow<'static, str>,
}

impl Fault {
    fn new(check: Check, what: impl Into<Cow<'static, str>>) -> Self {
        Self { check, what: what.into() }
    }
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

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.decided += other.decided;
        self.limits += other.limits;
        self.folded += other.folded;
        self.without_begin += other.without_begin;
        self.contradicting += other.contradicting;
        self.after += other.after;
        self.unknown += other.unknown;
    }
}

/// Whose stream a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Person(PersonId),
    /// The partition's own: limits.
    Partition,
}

/// A line that is no record to this program, and what can be made of it.
#[derive(Debug)]
pub(super) struct Unread {
    /// Partition and position, where the line tells them.
    pub(super) place: Option<(i32, i64)>,
    /// Where the line tells it.
    pub(super) stream: Option<Stream>,
    /// It may be sound all the same: a later program may have written it.
    pub(super) unknown: bool,
    pub(super) what: String,
}

/// A line as a record.
pub(super) fn read(line: &[u8]) -> Result<Record, Box<Unread>> {
    let Ok(text) = std::str::from_utf8(line) else {
        let what = "it is no record: not UTF-8".to_owned();
        return Err(Box::new(Unread { place: None, stream: None, unknown: false, what }));
    };
    Record::decode(text).map_err(|error| Box::new(Unread::new(text, &error)))
}

/// What is wrong with a line that reads as this record, and would be written otherwise.
pub(super) fn form(line: &[u8], record: &Record) -> Option<Fault> {
    let fault = record.fault_of_form(&String::from_utf8_lossy(line))?;
    Some(Fault::new(Check::Form, fault))
}

impl Unread {
    fn new(text: &str, error: &RecordError) -> Self {
        let (unknown, what) = match error {
            RecordError::UnknownSchema(_) | RecordError::UnknownType(_) => {
                (true, error.to_string())
            }
            RecordError::Malformed(cause) => (false, format!("it is no record: {cause}")),
            RecordError::WrongParts(_) => (false, format!("it is no record: {error}")),
        };
        let line = serde_json::from_str::<serde_json::Value>(text).ok();
        Self { place: line.as_ref().and_then(place), stream: line.and_then(stream), unknown, what }
    }
}

fn place(line: &serde_json::Value) -> Option<(i32, i64)> {
    let partition = line.get("partition")?.as_i64()?.try_into().ok()?;
    Some((partition, line.get("position")?.as_i64()?))
}

fn stream(mut line: serde_json::Value) -> Option<Stream> {
    match line.get_mut("person_id").map(serde_json::Value::take) {
        Some(person) => serde_json::from_value(person).ok().map(Stream::Person),
        None => line.is_object().then_some(Stream::Partition),
    }
}

/// A version where another one must be.
fn not_next(version: i64, next: i64) -> Fault {
    let what = format!("version {version} of its stream stands where {next} must");
    Fault::new(Check::Versions, what)
}
