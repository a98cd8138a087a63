//! Doors to this crate's parsers for the fuzz targets in `tests`, and for nobody else: they are
//! private because only the command may ask them. What must stay out: anything that the command does
//! not do in the same way.

use frikort_proof::{NoteError, VerifierKey};
use time::Date;

use crate::{audit, danish};

pub use crate::import::fuzzing::{Seen, payments, visitations};

/// A number as Danes write it, in the form in which amounts are parsed.
pub fn number(text: &str) -> String {
    danish::number(text)
}

/// A day in either order.
pub fn date(text: &str) -> Option<Date> {
    danish::date(text)
}

/// The text of a file of verifier keys.
pub fn verifier_keys(text: &str) -> Result<Vec<VerifierKey>, NoteError> {
    audit::verifier_keys(text)
}
