//! What came of an import: rows by result, and how far the ledger has got.

use std::{collections::BTreeMap, fmt};

use super::{Answer, Reached};
use crate::table::{self, Align};

/// Counts of one import.
#[derive(Default)]
pub(crate) struct Summary {
    /// Rows by file and result; visitations sort after payments, so the order is kept apart.
    results: Vec<(&'static str, BTreeMap<&'static str, u64>)>,
    /// Rows that were left out as malformed.
    pub(crate) malformed: u64,
    /// The last positions answered.
    pub(crate) reached: Reached,
}

impl Summary {
    pub(super) fn count(&mut self, file: &'static str, answer: &Answer) {
        if self.results.last().is_none_or(|(last, _)| *last != file) {
            self.results.push((file, BTreeMap::new()));
        }
        if let Some((_, results)) = self.results.last_mut() {
            *results.entry(answer.result).or_default() += 1;
        }
        if let Some((person_id, position)) = &answer.recorded {
            self.reached.note(person_id, position);
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            table::new(&["File", "Result", "Rows"], &[Align::Left, Align::Left, Align::Right]);
        for (file, results) in &self.results {
            // Small letters (recorded, replayed) before the reasons of refusals.
            let mut results: Vec<_> = results.iter().collect();
            results.sort_by_key(|(result, _)| result.starts_with(char::is_uppercase));
            for (result, rows) in results {
                table.add_row([(*file).to_owned(), (*result).to_owned(), rows.to_string()]);
            }
        }
        table.fmt(f)
    }
}
