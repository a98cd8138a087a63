//! Reading rows: columns by their names in the header, each field converted to what the contract
//! wants, every fault of a row at once. What must stay out: whether a well-formed field is right
//! (the ledger answers that), and the content of a field in a fault, since it may be a CPR number.

use std::{fmt, fs::File, io::Read, path::Path};

use anyhow::Context;
use frikort_domain::{Amount, AmountError, Hours};
use frikort_proto::{Date, v1::PersonRef};
use tokio::sync::mpsc;

use super::{
    dialect::Dialect,
    feeds::Feeds,
    send::{Answer, Command},
};
use crate::{danish, wire};

/// Rows between the reader and the window.
const CHANNEL: usize = 256;

/// One kind of file.
pub(super) struct Form {
    /// For messages.
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// Builds the call of a row, and notes faults; `None` only with a fault noted.
    pub(super) parse: fn(&mut Fields<'_>) -> Option<Command>,
}

/// A column of a file.
#[derive(Debug)]
pub(super) struct Column {
    /// As our own files call it.
    pub(super) name: &'static str,
    /// Other names for it, in small letters and digits only.
    pub(super) others: &'static [&'static str],
    /// Whether a file must have it. A column that is not there is empty in every row.
    pub(super) needed: bool,
}

impl Column {
    /// A column that a file must have.
    pub(super) const fn needed(name: &'static str, others: &'static [&'static str]) -> Self {
        Self { name, others, needed: true }
    }

    /// A column that a file may have.
    pub(super) const fn optional(name: &'static str, others: &'static [&'static str]) -> Self {
        Self { name, others, needed: false }
    }

    /// Whether `header` names it: `CPR-nr.`, `cpr nr` and `CPRNR` are the same.
    pub(super) fn is(&self, header: &str) -> bool {
        let letters: String =
            header.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        self.name.replace('_', "") == letters || self.others.contains(&letters.as_str())
    }
}

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Counts data rows from 1.
    pub(super) number: u64,
    /// Line in the file, the header being the first.
    pub(super) line: u64,
    /// Where the row ends in the file.
    pub(super) end_byte: u64,
}

/// One row.
pub(super) struct Entry {
    pub(super) row: Row,
    /// Rows with the same key keep their order.
    pub(super) person: Box<str>,
    pub(super) command: Result<Command, Vec<Fault>>,
}

impl Entry {
    /// The answer to a row that cannot be sent.
    pub(super) fn malformed(&self) -> Option<Answer> {
        let faults = self.command.as_ref().err()?.clone();
        Some(Answer { faults, ..Answer::refused("INVALID_FIELD") })
    }
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The column's name; empty when it is the row itself.
    pub(super) column: String,
    pub(super) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.column.is_empty() {
            return f.write_str(&self.what);
        }
        write!(f, "column {}: {}", self.column, self.what)
    }
}

/// Reads a file on a thread of its own, as fast as the rows are taken.
pub(super) fn read(
    path: &Path,
    form: &'static Form,
    dialect: Dialect,
) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Entry>>> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    tokio::task::spawn_blocking(move || {
        let mut table = Table::new(file, form, dialect);
        while let Some(row) = table.next() {
            let row = row.with_context(|| format!("cannot read {name}"));
            let failed = row.is_err();
            // Nobody takes any more: the import has ended.
            if sender.blocking_send(row).is_err() || failed {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The rows of a file, one after another.
pub(super) struct Table<R> {
    reader: csv::Reader<Feeds<R>>,
    dialect: Dialect,
    form: &'static Form,
    number: u64,
}

impl<R: Read> Table<R> {
    pub(super) fn new(file: R, form: &'static Form, dialect: Dialect) -> Self {
        let mut reader = csv::ReaderBuilder::new();
        let reader =
            reader.delimiter(dialect.separator).flexible(true).from_reader(Feeds::new(file));
        Self { reader, dialect, form, number: 0 }
    }

    pub(super) fn next(&mut self) -> Option<anyhow::Result<Entry>> {
        let mut bytes = csv::ByteRecord::new();
        match self.reader.read_byte_record(&mut bytes) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(error.into())),
        }
        self.number += 1;
        let (person, command) = self.parse(&bytes);
        let end_byte = self.reader.position().byte();
        let held = bytes.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let line = self.reader.get_mut().line_of(end_byte, held);
        let row = Row { number: self.number, line, end_byte };
        Some(Ok(Entry { row, person, command }))
    }

    fn parse(&self, bytes: &csv::ByteRecord) -> (Box<str>, Result<Command, Vec<Fault>>) {
        let row = |what: String| vec![Fault { column: String::new(), what }];
        if bytes.len() != self.dialect.width {
            let what = format!("has {} fields; the header has {}", bytes.len(), self.dialect.width);
            return (Box::default(), Err(row(what)));
        }
        let texts: Option<Vec<_>> = bytes.iter().map(|field| self.dialect.text(field)).collect();
        let Some(record) = texts else {
            return (Box::default(), Err(row("is not UTF-8".to_owned())));
        };
        let mut fields = Fields { record: &record, dialect: &self.dialect, faults: Vec::new() };
        let person = fields.text("cpr").replace('-', "").into_boxed_str();
        let command = (self.form.parse)(&mut fields).filter(|_| fields.faults.is_empty());
        (person, command.ok_or(fields.faults))
    }
}

/// The fields of one row, and the faults found so far.
pub(super) struct Fields<'a> {
    record: &'a [String],
    dialect: &'a Dialect,
    faults: Vec<Fault>,
}

impl Fields<'_> {
    pub(super) fn fault<T>(&mut self, column: &str, what: impl Into<String>) -> Option<T> {
        self.faults.push(Fault { column: column.to_owned(), what: what.into() });
        None
    }

    /// As it stands; empty when it is empty.
    pub(super) fn text(&self, column: &str) -> String {
        let field = self.dialect.places.get(column).and_then(|at| self.record.get(*at));
        field.cloned().unwrap_or_default()
    }

    pub(super) fn optional(&self, column: &str) -> Option<String> {
        Some(self.text(column)).filter(|text| !text.is_empty())
    }

    pub(super) fn required(&mut self, column: &str) -> Option<String> {
        self.optional(column).or_else(|| self.fault(column, "is missing"))
    }

    pub(super) fn person(&self) -> PersonRef {
        wire::by_cpr(self.text("cpr"), self.text("frikort_id"))
    }

    pub(super) fn date(&mut self, column: &str) -> Option<Date> {
        let text = self.required(column)?;
        let allowed = "must be a date such as 2025-01-31 or 31-01-2025";
        self.parsed(column, danish::date(&text), allowed).map(wire::date)
    }

    pub(super) fn optional_date(&mut self, column: &str) -> Option<Date> {
        self.optional(column)?;
        self.date(column)
    }

    /// Kroner with two decimals, as øre.
    pub(super) fn amount(&mut self, column: &str) -> Option<i64> {
        let text = self.required(column)?;
        match danish::number(&text).parse::<Amount>() {
            Ok(amount) => Some(amount.oere()),
            Err(AmountError::Negative) => self.fault(column, AmountError::Negative.to_string()),
            Err(AmountError::Malformed) => {
                self.fault(column, "must have two decimals, such as 1234.50, 1234,50 or 1.234,50")
            }
        }
    }

    pub(super) fn optional_hours(&mut self, column: &str) -> Option<i32> {
        let hours = danish::number(&self.optional(column)?).parse::<Hours>().ok();
        self.parsed(column, hours, "must be hours with two decimals, from 0.01 to 999.99 (or 7,50)")
            .map(Hours::hundredths)
    }

    pub(super) fn whole_number(&mut self, column: &str) -> Option<i32> {
        let number = self.required(column)?.parse().ok();
        self.parsed(column, number, "must be a whole number")
    }

    pub(super) fn parsed<T>(&mut self, column: &str, value: Option<T>, what: &str) -> Option<T> {
        value.or_else(|| self.fault(column, what))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
