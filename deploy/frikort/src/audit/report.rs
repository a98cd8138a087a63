//! What a verification came to, for people and for programs. What must stay out: checks.

use std::{collections::BTreeMap, fmt, path::Path};

use frikort_domain::Amount;
use frikort_proof::Hash;
use serde::{Serialize, Serializer};

use super::{
    findings::{Findings, Place},
    history::{Check, Counts, Fault, Persons, Unread, Year},
    proved::Proved,
    verify::{Claimed, Known},
};
use crate::{
    Ending, money,
    table::{self, Align},
};

/// Sentences of one kind that are shown; more are only counted.
const MOST_SENTENCES: usize = 20;

/// All of it; the names are those of `--json`.
#[derive(Default, Serialize)]
pub(super) struct Report {
    verdict: Verdict,
    records: u64,
    persons: usize,
    pub(super) keys: KeysFrom,
    pub(super) files: Vec<FileReport>,
    partitions: Vec<PartitionReport>,
    pub(super) checkpoints: Vec<CheckpointReport>,
    checks: Vec<CheckReport>,
    outcomes: Outcomes,
    contradictions: u64,
    first_contradiction: Option<Contradiction>,
    not_checked: Vec<String>,
    #[serde(serialize_with = "values")]
    years: BTreeMap<i32, YearReport>,
    /// What a whole export has, and these files have not.
    #[serde(skip)]
    missing: Vec<String>,
    #[serde(skip)]
    unknown: u64,
    #[serde(skip)]
    pub(super) findings: Findings,
    #[serde(skip)]
    pub(super) totals: BTreeMap<i32, TotalsReport>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Verified,
    VerifiedWithoutCheckpoint,
    Contradiction,
    #[default]
    Incomplete,
}

/// Whose keys the signatures were checked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeysFrom {
    /// The auditor's.
    Given,
    /// They came with the export.
    Export,
    #[default]
    None,
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
    checkpoint: Option<u64>,
    tiles: u64,
    totals: Option<TotalsReport>,
}

/// The projector's totals of a partition.
#[derive(Clone, Copy, Serialize)]
pub(super) struct TotalsReport {
    pub(super) position: i64,
    pub(super) lines: u64,
}

/// A checkpoint that was noted earlier.
#[derive(Serialize)]
pub(super) struct CheckpointReport {
    file: String,
    partition: i32,
    size: u64,
    agrees: Option<bool>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    partition: i32,
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

fn values<S: Serializer>(
    years: &BTreeMap<i32, YearReport>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(years.values())
}

impl FileReport {
    pub(super) fn new(path: &Path) -> Self {
        Self { file: path.display().to_string(), records: 0 }
    }
}

impl CheckpointReport {
    pub(super) fn new(path: &Path, partition: i32, size: u64) -> Self {
        Self { file: path.display().to_string(), partition, size, agrees: None }
    }
}

impl Report {
    /// Notes what could not be checked.
    pub(super) fn not_checked(&mut self, what: String) {
        if self.not_checked.len() < MOST_SENTENCES {
            self.not_checked.push(what);
        }
    }

    /// Notes what could not be checked, since these files are not a whole export.
    pub(super) fn missing(&mut self, what: String) {
        if self.missing.len() < MOST_SENTENCES {
            self.missing.push(what);
        }
    }

    /// Notes a line that is no record to this program.
    pub(super) fn unread(&mut self, place: Place, unread: &Unread) {
        if !unread.unknown {
            let what = unread.what.clone().into();
            return self.findings.add(place, Fault { check: Check::Form, what });
        }
        self.unknown += 1;
        if self.unknown == 1 {
            let (file, line) = (self.findings.name(place.file), place.line.unwrap_or_default());
            self.not_checked(format!("{file}, line {line}: {}", unread.what));
        }
    }

    /// Whether a partition's totals can be compared with its records, of which there are so many.
    pub(super) fn can_compare(
        &mut self,
        partition: i32,
        totals: Claimed,
        records: u64,
        begins: bool,
    ) -> bool {
        let Claimed { file, index } = totals;
        if index > records {
            let position = i64::try_from(records + 1).ok();
            let place = Place { file, line: Some(1), partition, index: records + 1, position };
            let what = format!("these totals are as of position {index}: this one is missing");
            self.findings.add(place, Fault { check: Check::Totals, what: what.into() });
        } else if !begins {
            self.not_checked(format!(
                "partition {partition}: the projector's totals, as its records do not begin with \
                 the first"
            ));
        }
        begins && index <= records
    }

    /// Adds what came of some persons.
    pub(super) fn add_persons(&mut self, persons: &Persons) {
        self.persons += persons.len();
        for of_person in persons.accounts().flat_map(|(_, _, account)| Year::all(account)) {
            let year = self.years.entry(of_person.year).or_default();
            year.year = of_person.year;
            year.persons += 1;
            year.payments += of_person.payments;
            year.total = year.total + of_person.total;
            year.exempt = year.exempt + of_person.exempt;
            year.taxable = year.taxable + of_person.total.saturating_sub(of_person.exempt);
        }
    }

    /// Adds up, and judges.
    pub(super) fn conclude(
        &mut self,
        known: &Known,
        counts: Counts,
        extract: bool,
        without_checkpoint: bool,
    ) {
        let mut counts = counts;
        counts += known.order.counts;
        self.records = counts.records();
        self.contradictions = self.findings.count();
        for (&partition, proved) in &known.proved {
            self.partition(known, partition, proved, extract);
        }
        self.count(counts, extract);
        if self.records == 0 {
            self.not_checked("there is no record".to_owned());
        }
        self.checks = Check::ALL
            .map(|check| CheckReport {
                check: check.name(),
                contradictions: self.findings.of(check),
            })
            .into();
        self.first_contradiction = self.findings.first().map(|finding| {
            let Place { file, line, partition, position, .. } = finding.place;
            let (check, what) = (finding.fault.check.name(), finding.fault.what.to_string());
            let file = self.findings.name(file).to_owned();
            Contradiction { file, line, partition, position, check, what }
        });
        self.verdict = if self.contradictions > 0 {
            Verdict::Contradiction
        } else if !self.not_checked.is_empty() {
            Verdict::Incomplete
        } else if self.missing.is_empty() {
            Verdict::Verified
        } else if without_checkpoint {
            Verdict::VerifiedWithoutCheckpoint
        } else {
            Verdict::Incomplete
        };
        self.not_checked.append(&mut self.missing);
    }

    /// What is known of a partition.
    fn partition(&mut self, known: &Known, partition: i32, proved: &Proved, extract: bool) {
        let state = known.order.partitions.get(&partition);
        let (first_position, last_position) = state.map_or((0, 0), |p| (p.first, p.head));
        let whole = first_position == 1 && i64::try_from(proved.size()) == Ok(last_position);
        let sound = whole && !extract && self.contradictions == 0;
        let own = proved.checkpoints().iter().find(|checkpoint| checkpoint.own);
        let checkpoint = own.map(|own| own.checkpoint.size);
        self.partitions.push(PartitionReport {
            partition,
            first_position,
            last_position,
            root: sound.then(|| hex(&proved.root())),
            checkpoint,
            tiles: proved.tiles_compared,
            totals: self.totals.get(&partition).copied(),
        });
        for checkpoint in proved.checkpoints() {
            let file = self.findings.name(checkpoint.file);
            for report in self.checkpoints.iter_mut().filter(|report| report.file == file) {
                report.agrees = checkpoint.agrees;
            }
            if checkpoint.agrees.is_none() {
                self.not_checked(format!("{file}: the records do not begin with the first"));
            }
        }
        if extract {
            return;
        }
        if first_position > 1 {
            self.not_checked(format!(
                "partition {partition} begins at position {first_position}: the records before are \
                 not there, so no outcome could be decided anew"
            ));
        }
        match checkpoint {
            None => self.missing(format!(
                "partition {partition}: whether these are all records, and those first written: no \
                 checkpoint came with them"
            )),
            Some(size) if size < proved.size() => self.not_checked(format!(
                "partition {partition}: its checkpoint is about the first {size} records only \
                 (export goes on)"
            )),
            Some(_) => {}
        }
        if proved.tiles_missing > 0 {
            let n = proved.tiles_missing;
            self.not_checked(format!("partition {partition}: {n} of its tiles are not there"));
        }
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
            Verdict::Verified | Verdict::VerifiedWithoutCheckpoint => Ending::Done,
            Verdict::Contradiction => Ending::Contradicted,
            Verdict::Incomplete => Ending::Unchecked,
        }
    }
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for partition in &self.partitions {
            writeln!(f, "{partition}")?;
        }
        for CheckpointReport { file, size, agrees, .. } in &self.checkpoints {
            let told = match agrees {
                Some(true) => "they begin with what it is about",
                Some(false) => "THEY ARE NOT what it is about",
                None => "not compared",
            };
            writeln!(f, "{file}, {size} records: {told}")?;
        }
        writeln!(f, "{} records of {} persons\n", self.records, self.persons)?;
        for check in &self.checks {
            let found = match check.contradictions {
                0 => "no contradiction".to_owned(),
                n => format!("{n} CONTRADICTIONS"),
            };
            writeln!(f, "  {:12} {found}", check.check)?;
        }
        let o = &self.outcomes;
        writeln!(f, "\n{} decided anew, {} limits", o.decided_anew, o.limits)?;
        if !self.years.is_empty() {
            writeln!(f, "\n{}", self.table())?;
        }
        f.write_str(match self.keys {
            KeysFrom::Given => "\nSignatures: by the keys given.\n",
            KeysFrom::Export => {
                "\nSignatures: by the keys that came with the export, which are only the server's \
                 word; --key brings your own.\n"
            }
            KeysFrom::None => "\nSignatures: no keys.\n",
        })?;
        if let Some(first) = &self.first_contradiction {
            writeln!(f, "{first}")?;
        }
        if !self.not_checked.is_empty() {
            writeln!(f, "\nNot checked:")?;
        }
        for what in &self.not_checked {
            writeln!(f, "  - {what}")?;
        }
        f.write_str(match self.verdict {
            Verdict::Verified => "\nVERIFIED.",
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

impl fmt::Display for PartitionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, first_position, last_position, .. } = self;
        write!(f, "partition {partition}: positions {first_position} to {last_position}")?;
        if let Some(root) = &self.root {
            write!(f, "\n  root {root}")?;
        }
        if let Some(size) = self.checkpoint {
            write!(f, "\n  signed checkpoint of {size} records, {} tiles", self.tiles)?;
        }
        if let Some(TotalsReport { position, lines }) = self.totals {
            write!(f, "\n  {lines} totals of the projector as of position {position}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, partition, position, check, what } = self;
        write!(f, "\nFirst contradiction: {file}")?;
        if let Some(line) = line {
            write!(f, ", line {line}")?;
        }
        write!(f, ", partition {partition}")?;
        if let Some(position) = position {
            write!(f, ", position {position}")?;
        }
        write!(f, "\n  {check}: {what}")
    }
}

impl Report {
    fn table(&self) -> comfy_table::Table {
        let columns = ["Year", "Persons", "Payments", "Paid out", "Exempt", "Taxable"];
        let mut table = table::new(&columns, &[Align::Right; 6]);
        for year in self.years.values() {
            let [total, exempt, taxable] =
                [year.total, year.exempt, year.taxable].map(|amount| money::danish(amount.oere()));
            let counts = [year.year.to_string(), year.persons.to_string()];
            let [label, persons] = counts;
            table.add_row([label, persons, year.payments.to_string(), total, exempt, taxable]);
        }
        table
    }
}
