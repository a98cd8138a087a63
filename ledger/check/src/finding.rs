//! What a check tells: findings, and what it could not look at. What must stay out: how either is
//! found.

use frikort_domain::PersonId;
use frikort_event_store::AcceptedLoss;
use frikort_proof::Hash;
use time::OffsetDateTime;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The record's form, event id, or a column that is not what the record says.
    Form,
    /// A position that is missing, or is there twice; a head that is not the last position.
    Position,
    /// Instants that do not increase.
    Instant,
    /// A version that is missing, or is there twice.
    Version,
    /// Another outcome follows from the data.
    Outcome,
    /// A tile that is missing, or that does not follow from the records.
    Tile,
    /// A checkpoint that is not signed by a known key, or that is not about these records.
    Checkpoint,
    /// A row of the projection that does not follow from the records.
    Projection,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Form,
        Self::Position,
        Self::Instant,
        Self::Version,
        Self::Outcome,
        Self::Tile,
        Self::Checkpoint,
        Self::Projection,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Position => "position",
            Self::Instant => "instant",
            Self::Version => "version",
            Self::Outcome => "outcome",
            Self::Tile => "tile",
            Self::Checkpoint => "checkpoint",
            Self::Projection => "projection",
        }
    }
}

/// One contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The partition.
    pub partition: i32,
    /// The first position concerned. Of a tile or a checkpoint, the first record that can differ;
    /// of the projection, the position as of which it was compared. 0 where none can be told.
    pub position: i64,
    /// What kind.
    pub kind: Kind,
    /// The person, where it is about one.
    pub person_id: Option<PersonId>,
    /// A sentence. Holds nothing of what a record or a row says but numbers and days.
    pub description: String,
}

/// How far a check is, in records looked at; each is looked at twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps done.
    pub done: i64,
    /// Steps of the whole check.
    pub total: i64,
}

/// One partition, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The partition.
    pub partition: i32,
    /// Up to where everything was checked.
    pub position: i64,
    /// When the record there was recorded.
    pub recorded_at: Option<OffsetDateTime>,
    /// Root of the tree over the records up to there; `None` where it is not known.
    pub root: Option<Hash>,
}

/// The end of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concluded {
    /// Of each partition, up to where everything was checked.
    pub checked: Vec<Checked>,
    /// How many findings in all, told or not.
    pub findings: u64,
    /// What could not be checked, and why; empty together with no finding is a pass.
    pub not_checked: Vec<String>,
    /// Events that are lost, as operators have accepted with their reasons. A checkpoint that covers
    /// some of them is no finding.
    pub accepted_losses: Vec<AcceptedLoss>,
}

impl Concluded {
    /// Everything was checked, and nothing was found.
    pub fn passed(&self) -> bool {
        self.findings == 0 && self.not_checked.is_empty()
    }
}

/// The same finding at one position after another.
#[derive(Debug)]
struct Run {
    kind: Kind,
    what: &'static str,
    first: i64,
    last: i64,
    person_id: Option<PersonId>,
}

/// What one partition's check has come to, until somebody takes it away.
#[derive(Debug)]
pub(crate) struct Notes {
    partition: i32,
    findings: Vec<Finding>,
    runs: Vec<Run>,
    /// Sentences about what could not be checked; a few for each partition.
    pub(crate) not_checked: Vec<String>,
    /// The first position at which something could not be checked.
    pub(crate) unchecked_from: Option<i64>,
}

impl Notes {
    pub(crate) fn new(partition: i32) -> Self {
        let (findings, runs, not_checked) = (Vec::new(), Vec::new(), Vec::new());
        Self { partition, findings, runs, not_checked, unchecked_from: None }
    }

    /// Notes a finding.
    pub(crate) fn find(
        &mut self,
        position: i64,
        kind: Kind,
        person_id: Option<PersonId>,
        description: impl Into<String>,
    ) {
        let (partition, description) = (self.partition, description.into());
        self.findings.push(Finding { partition, position, kind, person_id, description });
    }

    /// Notes a finding that may hold for positions one after another, which is then one finding: a
    /// tail that was numbered anew is one change, not a million.
    pub(crate) fn find_run(
        &mut self,
        positions: (i64, i64),
        kind: Kind,
        person_id: Option<PersonId>,
        what: &'static str,
    ) {
        let (first, last) = positions;
        let same = |run: &&mut Run| run.kind == kind && run.what == what && run.last >= first - 1;
        match self.runs.iter_mut().find(same) {
            Some(run) => run.last = last,
            None => self.runs.push(Run { kind, what, first, last, person_id }),
        }
    }

    /// Ends the runs that do not reach `position`.
    pub(crate) fn end_runs(&mut self, position: i64) {
        for run in self.runs.extract_if(.., |run| run.last < position) {
            let Run { kind, what, first, last, person_id } = run;
            let (person_id, description) = if first == last {
                (person_id, what.to_owned())
            } else {
                (None, format!("{what}; the same up to position {last}"))
            };
            let (partition, position) = (self.partition, first);
            self.findings.push(Finding { partition, position, kind, person_id, description });
        }
    }

    /// Notes what could not be checked, and from which position on.
    pub(crate) fn leave_out(&mut self, from: Option<i64>, what: String) {
        let before = |known: i64| from.map_or(known, |from| from.min(known));
        self.unchecked_from = self.unchecked_from.map(before).or(from);
        self.not_checked.push(what);
    }

    /// The findings since the last call.
    pub(crate) fn take(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }
}
