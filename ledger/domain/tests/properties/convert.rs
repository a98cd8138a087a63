//! The model's words and the program's, one into the other.

use frikort_domain::{Amount, Facts, PaymentKey, Period, Rejection, SplitChange};

use crate::model::{Key, Stated, date_of};

/// The employers; the model knows their numbers in this row.
pub(crate) const EMPLOYERS: [&str; 2] = ["13748136", "29189706"];

/// The model's name of a refusal.
pub(crate) fn name(reason: &Rejection) -> String {
    match reason {
        Rejection::SupportedWork => "supported work".to_owned(),
        Rejection::NoCard => "no card".to_owned(),
        Rejection::NotCovered { first_uncovered_day, split_at } => {
            format!("not covered {first_uncovered_day} {split_at:?}")
        }
        Rejection::LimitNotSet { year } => format!("limit not set {year}"),
        Rejection::TooManyPayments { year, .. } => format!("too many payments {year}"),
        Rejection::LimitExceeded { .. } => "limit exceeded".to_owned(),
        Rejection::TotalTooLarge => "total too large".to_owned(),
        Rejection::ReferenceReused { .. } => "reference reused".to_owned(),
        Rejection::PaymentNotFound => "payment not found".to_owned(),
        Rejection::PaymentCancelled => "payment cancelled".to_owned(),
        Rejection::RevisionMismatch { .. } => "revision mismatch".to_owned(),
        Rejection::CardAlreadyActive { .. } => "card already active".to_owned(),
        Rejection::NoActiveCard => "no active card".to_owned(),
        Rejection::CardNotDeactivated { .. } => "card not deactivated".to_owned(),
        Rejection::UnderAge => "under age".to_owned(),
        Rejection::DecisionNotFound => "decision not found".to_owned(),
        Rejection::DecisionAlreadyReversed => "decision already reversed".to_owned(),
        Rejection::NotResponsible => "not responsible".to_owned(),
    }
}

pub(crate) fn kr(oere: u32) -> Amount {
    Amount::from_oere(i64::from(oere)).expect("not negative")
}

pub(crate) fn oere(amount: Amount) -> u32 {
    u32::try_from(amount.oere()).expect("few øre")
}

pub(crate) fn payment_key((employer, reference): Key) -> PaymentKey {
    PaymentKey {
        employer_cvr: EMPLOYERS[employer].parse().expect("a CVR number"),
        reference: format!("r{reference}").parse().expect("a reference"),
    }
}

pub(crate) fn model_key(key: &PaymentKey) -> Key {
    let employer = key.employer_cvr.to_string();
    let employer = EMPLOYERS.iter().position(|cvr| *cvr == employer).expect("ours");
    (employer, key.reference.as_str()[1..].parse().expect("a number"))
}

pub(crate) fn employer_key(change: &SplitChange) -> Key {
    let (employer_cvr, reference) = (change.employer_cvr, change.reference.clone());
    model_key(&PaymentKey { employer_cvr, reference })
}

pub(crate) fn facts(stated: Stated) -> Facts {
    let period = |(first, last)| Period::new(date_of(first), date_of(last)).expect("forwards");
    Facts {
        amount: kr(stated.oere),
        payment_date: date_of(stated.paid),
        work: stated.work.map(period),
        hours: None,
        components: None,
    }
}
