//! A list of operations: what a simulation does, in text that can be read and kept.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::model::{Command, Day, Limit};

/// What is done, in order. Calls about different persons are under way at the same time; between
/// two operations of [`Op::waits_for_all`] that makes no difference to any answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The seed that gave it; 0 for one written by hand.
    pub seed: u64,
    /// Ledger processes on the one database.
    pub ledgers: usize,
    /// Partitions of the ledger.
    pub partitions: i32,
    /// What differed, in a list that was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub difference: String,
    /// The operations.
    pub ops: Vec<Op>,
}

/// One operation. Persons are numbers; `person` below means the number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A call about one person.
    Call(Call),
    /// A question about one person.
    Ask(Ask),
    /// A pay run on one stream: reports only, and none that depends on how often it is sent
    /// (`dry`, `strict`), since what is unanswered when a ledger is killed is sent again.
    Stream(Vec<Call>),
    /// A limit is recorded.
    Limit(Limit),
    /// One question about several persons.
    Batch {
        /// Whom.
        persons: Vec<usize>,
        /// Of which year.
        year: i32,
    },
    /// A process is killed or stopped, and started again, while calls are under way.
    Restart {
        /// Which.
        who: Who,
        /// SIGTERM instead of SIGKILL.
        gently: bool,
    },
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// One of the ledgers.
    Ledger(usize),
    /// The projector.
    Projector,
}

/// A call about one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Whom.
    pub person: usize,
    /// How the person is named.
    #[serde(default = "Named::usual", skip_serializing_if = "Named::is_usual")]
    pub named: Named,
    /// Through which ledger.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub via: usize,
    /// `validate_only`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry: bool,
    /// Delivered twice at the same time, through all ledgers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub twice: bool,
    /// What is asked for.
    pub command: Command,
}

/// How a request names a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// By one of the CPR numbers that lead to the person, counted round; by the ledger's id when
    /// absent and the id is known.
    pub number: Option<usize>,
    /// The Frikort-ID beside it.
    #[serde(default)]
    pub frikort: Beside,
}

/// The Frikort-ID beside a CPR number (N4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Beside {
    /// None.
    #[default]
    Nothing,
    /// One of the person's, if there is one.
    Right,
    /// One that is nobody's.
    Wrong,
}

impl Named {
    /// By the first CPR number.
    pub const USUAL: Self = Self { number: Some(0), frikort: Beside::Nothing };

    fn usual() -> Self {
        Self::USUAL
    }

    fn is_usual(&self) -> bool {
        *self == Self::USUAL
    }
}

/// A question about one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Whom.
    pub person: usize,
    /// How the person is named.
    pub named: Named,
    /// What is asked.
    pub question: Question,
    /// As of when; now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<Past>,
}

/// As of when something is asked, on both axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// What was known at the person's so-many-th last event, counted round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<usize>,
    /// By that event's instant instead of its position.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_time: bool,
    /// Just before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before: bool,
    /// Only payments attributed up to this day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Day>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// `GetCard`.
    Card,
    /// `GetAllowance`.
    Allowance(i32),
    /// `GetStatement`.
    Statement {
        /// Of one year only.
        year: Option<i32>,
        /// The last day of the twelve months.
        hours_through: Day,
    },
}

impl Op {
    /// The person in whose turn it is done; none for what waits until everybody's are done.
    pub fn person(&self) -> Option<usize> {
        match self {
            Self::Call(call) => Some(call.person),
            Self::Ask(ask) => Some(ask.person),
            Self::Stream(_) | Self::Limit(_) | Self::Batch { .. } | Self::Restart { .. } => None,
        }
    }

    /// Whether all operations before it are done first.
    pub fn waits_for_all(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Limit(_) | Self::Batch { .. })
    }

    /// The persons it is about.
    pub fn persons(&self) -> Vec<usize> {
        match self {
            Self::Call(call) => vec![call.person],
            Self::Ask(ask) => vec![ask.person],
            Self::Stream(calls) => calls.iter().map(|call| call.person).collect(),
            Self::Batch { persons, .. } => persons.clone(),
            Self::Limit(_) | Self::Restart { .. } => Vec::new(),
        }
    }
}

impl List {
    /// Persons 0 to this one, not included.
    pub fn persons(&self) -> usize {
        self.ops.iter().flat_map(Op::persons).max().map_or(0, |last| last + 1)
    }

    /// The same with other operations.
    #[must_use]
    pub fn with(&self, ops: Vec<Op>) -> Self {
        Self { ops, ..self.clone() }
    }

    /// Reads a list that was kept.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Keeps it, one operation a line.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = String::from("{\n");
        writeln!(text, "  \"seed\": {},", self.seed)?;
        writeln!(text, "  \"ledgers\": {},", self.ledgers)?;
        writeln!(text, "  \"partitions\": {},", self.partitions)?;
        writeln!(text, "  \"difference\": {},", serde_json::to_string(&self.difference)?)?;
        let ops: Result<Vec<String>, _> = self.ops.iter().map(serde_json::to_string).collect();
        writeln!(text, "  \"ops\": [\n    {}\n  ]\n}}", ops?.join(",\n    "))?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
