//! What was found that must not be: how often, and the first of it. First is what stands first in
//! the history, whenever it was found. What must stay out: how it is shown.

use std::collections::BTreeMap;

use super::history::{Check, Fault};

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which file, by its number.
    pub(super) file: u32,
    /// From 1; none where it is about a whole file.
    pub(super) line: Option<u64>,
    pub(super) partition: i32,
    /// Which record of its partition, from 1: what comes first is told by this.
    pub(super) index: u64,
    /// The position concerned, where one can be told.
    pub(super) position: Option<i64>,
}

/// One thing that must not be.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) place: Place,
    pub(super) fault: Fault,
}

impl Finding {
    fn key(&self) -> (i32, u64, Check, Option<u64>, &str) {
        key(&self.place, &self.fault)
    }
}

/// What comes first, whatever was found first.
fn key<'a>(place: &Place, fault: &'a Fault) -> (i32, u64, Check, Option<u64>, &'a str) {
    (place.partition, place.index, fault.check, place.line, &fault.what)
}

/// All of them; only the first is kept.
#[derive(Debug, Default)]
pub(super) struct Findings {
    files: Vec<String>,
    counted: BTreeMap<Check, u64>,
    first: Option<Finding>,
}

impl Findings {
    /// Gives a file a number.
    pub(super) fn file(&mut self, name: String) -> u32 {
        self.files.push(name);
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// The name of a file.
    pub(super) fn name(&self, file: u32) -> &str {
        usize::try_from(file).ok().and_then(|at| self.files.get(at)).map_or("", String::as_str)
    }

    /// Notes one.
    pub(super) fn add(&mut self, place: Place, fault: Fault) {
        *self.counted.entry(fault.check).or_default() += 1;
        let earlier = self.first.as_ref().is_none_or(|first| key(&place, &fault) < first.key());
        if earlier {
            self.first = Some(Finding { place, fault });
        }
    }

    /// How many of a check.
    pub(super) fn of(&self, check: Check) -> u64 {
        self.counted.get(&check).copied().unwrap_or_default()
    }

    /// How many in all.
    pub(super) fn count(&self) -> u64 {
        self.counted.values().sum()
    }

    /// The first of them.
    pub(super) fn first(&self) -> Option<&Finding> {
        self.first.as_ref()
    }
}
