//! What a verification came to, for people and for programs. What must stay out: checks.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
};

use frikort_domain::Amount;
use frikort_proof::{Edge, Hash, leaf_hash};
use serde::{Serialize, Serializer};

use super::history::{Check, Counts, History, Taken};
use crate::{
    Ending, money,
    table::{self, Align},
};

const CHECKS: [Check; 5] =
    [Check::Form, Check::Positions, Check::Instants, Check::Versions, Check::Outcomes];

/// Sentences of one kind that are shown; more are only counted.
const MOST_SENTENCES: usize = 20;

/// All of it; the names are those of `--json`.
#[derive(Default, Serialize)]
pub(super) struct Report {
    verdict: Verdict,
    records: u64,
    persons: usize,
    pub(super) files: Vec<FileReport>,
    partitions: Vec<PartitionReport>,
    checks: Vec<CheckReport>,
    outcomes: Outcomes,
    contradictions: u64,
    first_contradiction: Option<Contradiction>,
    not_checked: Vec<String>,
    years: Vec<YearReport>,
    #[serde(skip)]
    unknown: u64,
    /// Of each partition, the tree of the lines so far.
    #[serde(skip)]
    trees: HashMap<i32, Edge>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    VerifiedWithoutCheckpoint,
    Contradiction,
    #[default]
    Incomplete,
}

/// One file.
#[derive(Serialize)]
pub(super) struct FileReport {
    file: String,
    pub(super) records: u64,
}

#[derive(Serialize)]
struct PartitionReport {
    partition: i32,
    first_position: i64,
    last_position: i64,
    root: Option<String>,
}

#[derive(Serialize)]
struct CheckReport {
    check: &'static str,
    contradictions: u64,
}

#[derive(Default, Serialize)]
struct Outcomes {
    decided_anew: u64,
    limits: u64,
    added_up: u64,
    without_begin: u64,
    contradicting: u64,
    after_contradiction: u64,
    unknown: u64,
}

#[derive(Serialize)]
struct Contradiction {
    file: String,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    check: &'static str,
    what: String,
}

#[derive(Default, Serialize)]
struct YearReport {
    year: i32,
    persons: u32,
    payments: u32,
    #[serde(serialize_with = "kroner")]
    total: Amount,
    #[serde(serialize_with = "kroner")]
    exempt: Amount,
    #[serde(serialize_with = "kroner")]
    taxable: Amount,
}

fn kroner<S: Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&money::plain(amount.oere()))
}

fn name(check: Check) -> &'static str {
    match check {
        Check::Form => "form",
        Check::Positions => "positions",
        Check::Instants => "instants",
        Check::Versions => "versions",
        Check::Outcomes => "outcomes",
    }
}

impl FileReport {
    pub(super) fn new(path: &Path) -> Self {
        Self { file: path.display().to_string(), records: 0 }
    }
}

impl Report {
    /// Adds a line to its partition's tree.
    pub(super) fn hash(&mut self, place: Option<(i32, i64)>, line: &[u8]) {
        if let Some((partition, _)) = place {
            self.trees.entry(partition).or_default().push(leaf_hash(line));
        }
    }

    /// The root over a partition's records, if all of them up to `last` are there.
    fn root(&self, partition: i32, last: i64) -> Option<String> {
        let tree = self.trees.get(&partition).filter(|tree| i64::try_from(tree.size()) == Ok(last));
        let hex = |root: Hash| root.iter().map(|byte| format!("{byte:02x}")).collect();
        tree.filter(|_| self.contradictions == 0).map(|tree| hex(tree.root()))
    }

    /// Notes what came of a line.
    pub(super) fn note(&mut self, file: &FileReport, line: u64, taken: Taken) {
        if let Some(error) = taken.unknown {
            self.unknown += 1;
            if self.unknown == 1 {
                self.not_checked(format!("{}, line {line}: {error}", file.file));
            }
        }
        if self.checks.is_empty() {
            let none = |check| CheckReport { check: name(check), contradictions: 0 };
            self.checks = CHECKS.map(none).into();
        }
        for fault in taken.faults {
            let check = name(fault.check);
            for counted in self.checks.iter_mut().filter(|counted| counted.check == check) {
                counted.contradictions += 1;
            }
            self.contradictions += 1;
            self.first_contradiction.get_or_insert_with(|| Contradiction {
                file: file.file.clone(),
                line,
                partition: taken.place.map(|(partition, _)| partition),
                position: taken.place.map(|(_, position)| position),
                check,
                what: fault.what.into_owned(),
            });
        }
    }

    /// Notes what could not be checked.
    pub(super) fn not_checked(&mut self, what: String) {
        if self.not_checked.len() < MOST_SENTENCES {
            self.not_checked.push(what);
        }
    }

    /// Adds up, and judges.
    pub(super) fn conclude(&mut self, history: &History, extract: bool, without_checkpoint: bool) {
        self.records = history.counts.records();
        self.persons = history.persons();
        for (&partition, state) in &history.partitions {
            let (first_position, last_position) = (state.first, state.head);
            let root = self.root(partition, last_position).filter(|_| first_position == 1);
            let told = PartitionReport { partition, first_position, last_position, root };
            self.partitions.push(told);
            if extract {
                continue;
            }
            if first_position > 1 {
                self.not_checked(format!(
                    "partition {partition} begins at position {first_position}: the records \
                     before are not there, so no outcome could be decided anew"
                ));
            }
        }
        self.count(history.counts, extract);
        self.years = years(history);
        if self.records == 0 {
            self.not_checked("there is no record".to_owned());
        }
        let complete = self.not_checked.is_empty();
        self.not_checked(
            "whether these are all records, and those first written: no checkpoint from elsewhere"
                .to_owned(),
        );
        self.verdict = if self.contradictions > 0 {
            Verdict::Contradiction
        } else if complete && without_checkpoint {
            Verdict::VerifiedWithoutCheckpoint
        } else {
            Verdict::Incomplete
        };
    }

    fn count(&mut self, counts: Counts, extract: bool) {
        self.outcomes = Outcomes {
            decided_anew: counts.decided,
            limits: counts.limits,
            added_up: counts.folded,
            without_begin: counts.without_begin,
            contradicting: counts.contradicting,
            after_contradiction: counts.after,
            unknown: counts.unknown,
        };
        if extract {
            self.not_checked(
                "an extract: positions may be missing, and no outcome could be decided anew"
                    .to_owned(),
            );
        }
        if counts.folded > 0 {
            self.not_checked(format!(
                "{} records were only added up: their totals and splits follow from the records \
                 before them, their decision was not repeated",
                counts.folded
            ));
        }
        if counts.without_begin > 0 {
            self.not_checked(format!(
                "{} records are of persons whose first record is not there: not even added up",
                counts.without_begin
            ));
        }
        if counts.after > 0 {
            self.not_checked(format!(
                "{} records come after one of the same person that contradicts or is unknown",
                counts.after
            ));
        }
        if counts.unknown > 1 {
            self.not_checked(format!("{} records in all are unknown", counts.unknown));
        }
    }

    /// As the program ends.
    pub(super) fn ending(&self) -> Ending {
        match self.verdict {
            Verdict::VerifiedWithoutCheckpoint => Ending::Done,
            Verdict::Contradiction => Ending::Contradicted,
            Verdict::Incomplete => Ending::Unchecked,
        }
    }
}

fn years(history: &History) -> Vec<YearReport> {
    let mut years: BTreeMap<i32, YearReport> = BTreeMap::new();
    for of_person in history.years() {
        let year = years.entry(of_person.year).or_default();
        year.year = of_person.year;
        year.persons += 1;
        year.payments += of_person.payments;
        year.total = year.total + of_person.total;
        year.exempt = year.exempt + of_person.exempt;
        year.taxable = year.taxable + of_person.total.saturating_sub(of_person.exempt);
    }
    years.into_values().collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for p in &self.partitions {
            let (first, last) = (p.first_position, p.last_position);
            writeln!(f, "partition {}: positions {first} to {last}", p.partition)?;
            if let Some(root) = &p.root {
                writeln!(f, "  root {root}")?;
            }
        }
        writeln!(f, "{} records of {} persons\n", self.records, self.persons)?;
        for check in &self.checks {
            let found = match check.contradictions {
                0 => "no contradiction".to_owned(),
                n => format!("{n} CONTRADICTIONS"),
            };
            writeln!(f, "  {:10} {found}", check.check)?;
        }
        let o = &self.outcomes;
        writeln!(f, "\n{} decided anew, {} limits", o.decided_anew, o.limits)?;
        if !self.years.is_empty() {
            writeln!(f, "\n{}", self.table())?;
        }
        if let Some(first) = &self.first_contradiction {
            let place = match (first.partition, first.position) {
                (Some(partition), Some(position)) => {
                    format!(", partition {partition}, position {position}")
                }
                _ => String::new(),
            };
            let Contradiction { file, line, check, what, .. } = first;
            writeln!(f, "\nFirst contradiction: {file}, line {line}{place}\n  {check}: {what}")?;
        }
        writeln!(f, "\nNot checked:")?;
        for what in &self.not_checked {
            writeln!(f, "  - {what}")?;
        }
        f.write_str(match self.verdict {
            Verdict::VerifiedWithoutCheckpoint => {
                "\nVERIFIED, as far as files without a checkpoint can be."
            }
            Verdict::Contradiction => "\nCONTRADICTION.",
            Verdict::Incomplete => {
                "\nINCOMPLETE: no contradiction in what was checked, but not everything was."
            }
        })
    }
}

impl Report {
    fn table(&self) -> comfy_table::Table {
        let columns = ["Year", "Persons", "Payments", "Paid out", "Exempt", "Taxable"];
        let mut table = table::new(&columns, &[Align::Right; 6]);
        for year in &self.years {
            let [total, exempt, taxable] =
                [year.total, year.exempt, year.taxable].map(|amount| money::danish(amount.oere()));
            let counts = [year.year.to_string(), year.persons.to_string()];
            let [label, persons] = counts;
            table.add_row([label, persons, year.payments.to_string(), total, exempt, taxable]);
        }
        table
    }
}
