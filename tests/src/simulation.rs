//! A simulation: lists of operations made by chance, run against real processes that are killed
//! meanwhile, with every answer held against the model.
//!
//! ```text
//!   seed ──generate──▶ list ──run──▶ ledgers, projector, Postgres
//!                        │  └─ expect ─ model ─▶ the first difference, if any
//!                        └──shrink: ever smaller lists on fresh databases ──▶ tests/regressions
//! ```
//!
//! Rules for the next person
//!   - The same seed gives the same list. What is left to chance is only the timing, and no
//!     answer may depend on it.
//!   - Whatever a list holds has one right answer: what the model cannot know is not asked.
//!   - A difference is a bug of the program or of the model; RULES.md says of which.

mod campaign;
mod dice;
mod expect;
mod generate;
mod history;
mod list;
mod past;
mod request;
mod run;
mod shrink;
mod stack;
mod wire;

use std::fmt;

pub use campaign::{Campaign, regressions, simulate};
pub use generate::generate;
pub use list::{Ask, Beside, Call, List, Named, Op, Past, Question, Who};
pub use run::{Counts, Tamper, run};
pub use shrink::shrink;

/// An answer that is not what the model says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which operation, counted from 0; none for what is looked at in the end.
    pub op: Option<usize>,
    /// Of whom, where it is one person's.
    pub person: Option<usize>,
    /// What differs.
    pub text: String,
}

impl Difference {
    fn new(text: impl Into<String>) -> Self {
        Self { op: None, person: None, text: text.into() }
    }

    fn of(expected: &impl fmt::Debug, told: &impl fmt::Debug) -> Self {
        let (expected, told) = (format!("{expected:#?}"), format!("{told:#?}"));
        let lines: Vec<(&str, &str)> = expected.lines().zip(told.lines()).collect();
        if lines.len() < expected.lines().count().max(told.lines().count()) {
            return Self::new(format!("expected {expected}\ntold {told}"));
        }
        // Of two long answers with the same parts, the parts that differ, and the first line.
        let mut text = lines[0].0.to_owned();
        for (expected, told) in lines.iter().filter(|(expected, told)| expected != told) {
            text += &format!("\n  expected {}\n      told {}", expected.trim(), told.trim());
        }
        Self::new(text)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.op {
            Some(op) => write!(f, "operation {op}: {}", self.text),
            None => write!(f, "in the end: {}", self.text),
        }
    }
}

impl std::error::Error for Difference {}
