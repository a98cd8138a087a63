//! The projector's totals of a partition as an export keeps them: the first line says as of which
//! position, the last one how many there are. What must stay out: whether they are right.

use std::io;

use frikort_domain::{Amount, PersonId};
use serde::{Deserialize, Serialize};

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) partition: i32,
    pub(super) position: i64,
}

/// One person's year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    pub(super) person_id: PersonId,
    pub(super) year: i32,
    pub(super) total: Amount,
    pub(super) payments: u32,
    pub(super) exempt: Amount,
}

/// The last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) lines: u64,
}

impl Claim {
    /// Whether it says that nothing counts, which may as well not be said.
    pub(super) fn is_nothing(&self) -> bool {
        self.payments == 0 && self.total.is_zero() && self.exempt.is_zero()
    }
}

/// Writes one line.
pub(super) fn write<T: Serialize>(out: &mut impl io::Write, line: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Reads one line.
pub(super) fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}
