//! Older forms of records: steps that lead a line from each form to the next, so that all that
//! knows records knows the form of today only.
//!
//! A step works on a copy, between JSON and types. The stored line stays what it was: it is what is
//! exported and hashed, and nothing ever writes an older form, or an older line anew. What comes out
//! of the last step is read as strictly as a line of today.
//!
//! What must stay out: looking anything up. What an older form did not say cannot be made up here;
//! where it has to be known, the field is optional in the form of today.

use serde::de::Error;
use serde_json::{Map, Value};

use crate::record::{RecordError, SCHEMA};

/// The forms that this program reads beside that of today: none, for there has been no other. How
/// one is added stands in RECORDS.md; `tests/upcast.rs` shows it.
pub(crate) const UPCASTS: Upcasts = Upcasts { oldest: SCHEMA, steps: &[] };

/// How older forms are read.
#[derive(Clone, Copy, Debug)]
pub struct Upcasts {
    /// The oldest `schema` that is read.
    pub oldest: u16,
    /// What changed, by type and form. A type without a step is alike in both forms.
    pub steps: &'static [Step],
}

/// What a type of one form becomes in the next.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The type, as the older form names it.
    pub r#type: &'static str,
    /// The older form; the step leads to the one after it.
    pub from: u16,
    /// Changes the whole line but for `schema`; `None` where that is not of the older form.
    pub to_next: fn(&mut Map<String, Value>) -> Option<()>,
}

impl Upcasts {
    /// Whether a line of this form, which is not that of today, is read.
    pub(crate) fn reads(&self, schema: u16) -> bool {
        (self.oldest..SCHEMA).contains(&schema)
    }

    /// The line as it would have been written today.
    pub(crate) fn upcast(&self, line: &str, schema: u16) -> Result<String, RecordError> {
        let mut line: Map<String, Value> =
            serde_json::from_str(line).map_err(RecordError::Malformed)?;
        for from in schema..SCHEMA {
            let of_type = |step: &&Step| {
                step.from == from && line.get("type").is_some_and(|name| name == step.r#type)
            };
            if let Some(step) = self.steps.iter().find(of_type) {
                (step.to_next)(&mut line).ok_or_else(|| malformed(from))?;
            }
        }
        line.insert("schema".to_owned(), SCHEMA.into());
        serde_json::to_string(&line).map_err(RecordError::Malformed)
    }
}

fn malformed(schema: u16) -> RecordError {
    RecordError::Malformed(serde_json::Error::custom(format!("not of the form {schema}")))
}
