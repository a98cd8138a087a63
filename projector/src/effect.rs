//! What an event does to allowances and payments, for those who tell of each event by itself: a
//! history, a watcher. Pure; what must stay out: sums over several events.

use frikort_domain::{Event, PaymentKey, PaymentOutcome, SplitChange, YearTotals};
use frikort_proto::v1::PaymentChangeKind;

/// One event's effect.
#[derive(Debug)]
pub(crate) struct Effect<'a> {
    /// The years that it changed, as they are after it.
    pub(crate) years: Vec<&'a YearTotals>,
    /// The payment that it is about, and what became of it.
    pub(crate) payment: Option<(PaymentChangeKind, PaymentKey)>,
    /// Other payments whose split it changed.
    pub(crate) splits: &'a [SplitChange],
}

impl<'a> Effect<'a> {
    /// `None` where an event touches no payment. A new type of event finds its place here.
    pub(crate) fn of(event: &'a Event) -> Option<Self> {
        let about = |kind, employer_cvr, reference: &frikort_domain::Reference| {
            Some((kind, PaymentKey { employer_cvr, reference: reference.clone() }))
        };
        let (payment, outcome): (_, &PaymentOutcome) = match event {
            Event::PaymentReported(data, outcome) => {
                (about(PaymentChangeKind::Reported, data.employer_cvr, &data.reference), outcome)
            }
            Event::PaymentCorrected(data, outcome) => {
                (about(PaymentChangeKind::Corrected, data.employer_cvr, &data.reference), outcome)
            }
            Event::PaymentCancelled(data, outcome) => {
                (about(PaymentChangeKind::Cancelled, data.employer_cvr, &data.reference), outcome)
            }
            Event::AllowanceRecalculated(_, outcome) => {
                let (years, splits) = (vec![&outcome.year], outcome.changed.as_slice());
                return Some(Self { years, payment: None, splits });
            }
            Event::CardGranted(..)
            | Event::ApplicationRejected(_)
            | Event::DecisionReversed(..)
            | Event::CardReissued(_)
            | Event::CardDeactivated(..)
            | Event::CardReactivated(..)
            | Event::CardTransferred(_)
            | Event::ControlRecorded(_)
            | Event::CprNumberChanged(_)
            | Event::AnnualLimitSet(_) => return None,
        };
        let years = std::iter::once(&outcome.year).chain(outcome.left_year.as_ref()).collect();
        Some(Self { years, payment, splits: &outcome.changed })
    }
}
