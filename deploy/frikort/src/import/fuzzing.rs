//! A file of rows that lies in memory, for the fuzz targets in `tests`: read as `frikort import` reads
//! one, and told in plain words. What must stay out: any other reading.

use super::{dialect::Dialect, payment, rows::Table, visitation};

/// What became of a row.
#[derive(Debug)]
pub struct Seen {
    /// Its line in the file, from 1.
    pub line: u64,
    /// What is wrong with it, as people are told; empty where it can be sent.
    pub faults: Vec<String>,
}

/// Reads a file of payments.
pub fn payments(file: &[u8]) -> anyhow::Result<Vec<Seen>> {
    read(file, &payment::FORM)
}

/// Reads a file of visitations.
pub fn visitations(file: &[u8]) -> anyhow::Result<Vec<Seen>> {
    read(file, &visitation::FORM)
}

fn read(file: &[u8], form: &'static super::Form) -> anyhow::Result<Vec<Seen>> {
    let dialect = Dialect::read("the file", || Ok(file), form.columns)?;
    let mut table = Table::new(file, form, dialect);
    let mut rows = Vec::new();
    while let Some(entry) = table.next() {
        let entry = entry?;
        let faults = entry.command.err().unwrap_or_default();
        let faults = faults.iter().map(ToString::to_string).collect();
        rows.push(Seen { line: entry.row.line, faults });
    }
    Ok(rows)
}
