//! One payment, and how the payments of a year share its limit (A1-A6).

use super::{Answer, Day, Facts, PaymentKey, Standing};

/// A payment as it stands.
#[derive(Clone, Debug)]
pub struct Payment {
    /// Employer and reference.
    pub key: PaymentKey,
    /// What is stated now.
    pub facts: Facts,
    /// P-number.
    pub unit: Option<String>,
    /// What was stated first (P3).
    pub reported: Facts,
    /// The position that put it into its year (A3, P5).
    pub drawn: i64,
    /// The exempt part.
    pub exempt: i64,
    /// 1 when reported.
    pub revision: i32,
    /// P6.
    pub cancelled: bool,
    /// Where facts or split last changed.
    pub position: i64,
    /// The answer to the report.
    pub first_answer: Answer,
    /// The last change: the reason if it was cancelled, the revision it expected, the answer.
    pub last_change: Option<(Option<i32>, i32, Answer)>,
}

impl Payment {
    /// The year whose limit it draws on (Y1).
    pub fn year(&self) -> i32 {
        self.facts.attributed().year()
    }

    /// Whether it counts in a year.
    pub fn counts_in(&self, year: i32) -> bool {
        !self.cancelled && self.year() == year
    }

    /// As an answer tells it.
    pub fn standing(&self) -> Standing {
        let oere = if self.cancelled { 0 } else { self.facts.oere };
        Standing {
            key: self.key.clone(),
            revision: self.revision,
            attributed: self.facts.attributed(),
            oere,
            exempt: self.exempt,
            taxable: oere - self.exempt,
            cancelled: self.cancelled,
            position: self.position,
        }
    }

    /// Whether it is attributed to a day up to `through`.
    pub fn is_attributed_by(&self, through: Option<Day>) -> bool {
        through.is_none_or(|through| self.facts.attributed() <= through)
    }
}

/// Makes the exempt parts of these payments add up to what is used of `limit` (A2): what is free
/// goes to the first in order of drawing that has a taxable part (A5), what is too much is taken
/// from the last that has an exempt part (A6).
pub(super) fn settle(payments: &mut [&mut Payment], limit: i64) {
    payments.sort_by_key(|payment| payment.drawn);
    loop {
        let used: i64 = payments.iter().map(|payment| payment.exempt).sum();
        if used < limit {
            let mut open = payments.iter_mut().filter(|p| p.exempt < p.facts.oere);
            let Some(first) = open.next() else { return };
            let taxable = first.facts.oere - first.exempt;
            first.exempt += taxable.min(limit - used);
        } else if used > limit {
            let mut exempt = payments.iter_mut().rev().filter(|p| p.exempt > 0);
            let Some(last) = exempt.next() else { return };
            last.exempt -= last.exempt.min(used - limit);
        } else {
            return;
        }
    }
}
