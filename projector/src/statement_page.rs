//! Pages of a statement: where one ends, and what leads to the next one. Pure.
//!
//! A page is bounded by payments and by bytes, since the history of a payment has any length. The
//! pages after the first are read from the events up to the position of the first, which never
//! change (`past.rs`).
//!
//! Not here: reading, and what a statement says.

use frikort_proto::v1;
use prost::Message;
use time::Date;
use uuid::Uuid;

use crate::{as_of::AsOf, page::PageToken};

/// About how many bytes the payments of a page take. Clients accept 4 MiB unless told otherwise.
const PAGE_BYTES: usize = 1024 * 1024;

/// Bytes that an element of a repeated field takes beside its own, at most: tag and length.
const ELEMENT_BYTES: usize = 6;

/// What a statement is about; its pages are all about the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct StatementFilter {
    /// 0 for all.
    pub(crate) year: i32,
    pub(crate) as_of: AsOf,
    pub(crate) hours_through: Option<Date>,
    pub(crate) with_history: bool,
}

/// Where a page ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct StatementPlace {
    /// Partition and id of the person.
    pub(crate) person: (i32, Uuid),
    /// The day whose limits are in force, on every page.
    pub(crate) day: Date,
    /// Payments that the pages so far have told whole.
    pub(crate) payments: usize,
    /// Changes of the next payment's history that they have told.
    pub(crate) changes: usize,
}

pub(crate) type StatementToken = PageToken<StatementFilter, StatementPlace>;

/// The payments of the page that begins at a place, at most `size` and about [`PAGE_BYTES`], and
/// where the next one begins, if there is one.
pub(crate) fn cut(
    all: Vec<v1::Payment>,
    from: StatementPlace,
    size: usize,
) -> (Vec<v1::Payment>, Option<StatementPlace>) {
    let (mut page, mut place, mut bytes) = (Vec::new(), from, 0);
    for mut payment in all.into_iter().skip(from.payments) {
        if page.len() >= size || bytes >= PAGE_BYTES {
            return (page, Some(place));
        }
        let history = std::mem::take(&mut payment.history).into_iter().skip(place.changes);
        bytes += ELEMENT_BYTES + payment.encoded_len();
        for change in history {
            // One at least, so that every page goes on.
            if !payment.history.is_empty() && bytes >= PAGE_BYTES {
                page.push(payment);
                return (page, Some(place));
            }
            bytes += ELEMENT_BYTES + change.encoded_len();
            payment.history.push(change);
            place.changes += 1;
        }
        page.push(payment);
        place = StatementPlace { payments: place.payments + 1, changes: 0, ..place };
    }
    (page, None)
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    const BEGIN: StatementPlace = StatementPlace {
        person: (0, Uuid::nil()),
        day: date!(2025 - 01 - 01),
        payments: 0,
        changes: 0,
    };

    /// A payment by its number, with so many changes on record.
    fn payment(number: usize, changes: i64) -> v1::Payment {
        let change = |position| v1::PaymentChange {
            position,
            exempt_oere: i64::MAX,
            taxable_oere: i64::MAX,
            ..v1::PaymentChange::default()
        };
        let reference = format!("r{number}");
        v1::Payment {
            reference,
            history: (1..=changes).map(change).collect(),
            ..v1::Payment::default()
        }
    }

    /// All pages, each held against the bounds.
    fn pages(all: &[v1::Payment], size: usize) -> Vec<Vec<v1::Payment>> {
        let (mut pages, mut next) = (Vec::new(), Some(BEGIN));
        while let Some(place) = next {
            let (page, after) = cut(all.to_vec(), place, size);
            let bytes: usize = page.iter().map(Message::encoded_len).sum();
            assert!(page.len() <= size && bytes < PAGE_BYTES + 1024, "{bytes} bytes");
            assert!(!page.is_empty() || all.is_empty());
            pages.push(page);
            next = after;
        }
        pages
    }

    fn merged(pages: Vec<Vec<v1::Payment>>) -> Vec<v1::Payment> {
        let mut all: Vec<v1::Payment> = Vec::new();
        for payment in pages.into_iter().flatten() {
            match all.last_mut().filter(|last| last.reference == payment.reference) {
                Some(last) => last.history.extend(payment.history),
                None => all.push(payment),
            }
        }
        all
    }

    #[test]
    fn a_page_has_as_many_payments_as_asked_for() {
        let all: Vec<_> = (0..25).map(|number| payment(number, 2)).collect();
        for (size, expected) in [(10, &[10, 10, 5][..]), (25, &[25]), (5, &[5; 5]), (1000, &[25])] {
            let pages = pages(&all, size);
            assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), expected);
            assert_eq!(merged(pages), all);
        }
        assert_eq!(pages(&[], 10), [vec![]]);
    }

    #[test]
    fn long_histories_go_on_on_the_next_page() {
        for changes in [[0, 100_000, 3, 0], [30_000, 30_000, 30_000, 30_000], [1, 0, 0, 250_000]] {
            let all: Vec<_> = (0..).zip(changes).map(|(n, changes)| payment(n, changes)).collect();
            let pages = pages(&all, 1000);
            assert!(pages.len() > 2, "{}", pages.len());
            assert_eq!(merged(pages), all);
        }
    }
}
