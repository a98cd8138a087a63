//! Decisions about a card. What must stay out: payments and their shares, except that a
//! deactivation lists the payments that lie after it (C3).

use time::Date;

use super::{Decision, Rejection, known_card};
use crate::{
    Account, ApplicationRejected, Card, CardDeactivated, CardGranted, CardOutcome, CardReactivated,
    CardReissued, CardTransferred, ControlRecorded, CprNumberChanged, DeactivationOutcome,
    DecisionReversed, Event, FrikortTag, MunicipalityCode,
    card::{CardStatus, comes_of_age},
    payment::PaymentState,
    visitation::{
        ChangeCprNumber, Content, DeactivateCard, GrantCard, ReactivateCard, RecordControl,
        ReissueCard, RejectApplication, ReverseDecision, TransferCard,
    },
};

pub(super) fn grant(account: &Account, command: &GrantCard) -> Result<Decision, Rejection> {
    let data = CardGranted {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        frikort: command.frikort,
        decided_on: command.decided_on,
        effective_from: command.effective_from,
        criteria: command.criteria.clone(),
        applied_on: command.applied_on,
    };
    let content = Content::Granted(data.clone(), CardOutcome::ACTIVE);
    if let Some(before) = account.visitation.replay(&content) {
        return before.map(Decision::ReplayCard);
    }
    if comes_of_age(command.born).is_none_or(|day| command.effective_from < day) {
        return Err(Rejection::UnderAge);
    }
    let (first, last) = account.visitation.activated_days(command.effective_from);
    let active = |card: &Card| {
        // An active card leaves no room for another one, also between its periods (C6).
        let last = if card.open_since().is_some() { None } else { last };
        card.active_within(first, last)
    };
    check_none_active(account, command.key.municipality, active)?;
    let active = is_active_after(account, &content);
    Ok(Decision::Record(Event::CardGranted(data, CardOutcome { active })))
}

/// Whoever has an active card has nothing to apply for (C6).
pub(super) fn reject(
    account: &Account,
    command: &RejectApplication,
) -> Result<Decision, Rejection> {
    let data = ApplicationRejected {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        applied_on: command.applied_on,
        decided_on: command.decided_on,
        criteria: command.criteria.clone(),
    };
    if let Some(before) = account.visitation.replay(&Content::Rejected(data.clone())) {
        return before.map(Decision::ReplayCard);
    }
    check_none_active(account, command.key.municipality, Card::open_since)?;
    Ok(Decision::Record(Event::ApplicationRejected(data)))
}

/// C6. A municipality that is not responsible must learn that there is a card, to ask for it to be
/// handed over; it learns no more (W3).
fn check_none_active(
    account: &Account,
    municipality: MunicipalityCode,
    active_since: impl FnOnce(&Card) -> Option<Date>,
) -> Result<(), Rejection> {
    let active = account.card().and_then(|card| Some((card.municipality, active_since(&card)?)));
    match active {
        None => Ok(()),
        Some((responsible, day)) => {
            let effective_from = (responsible == municipality).then_some(day);
            Err(Rejection::CardAlreadyActive { effective_from })
        }
    }
}

pub(super) fn deactivate(
    account: &Account,
    command: &DeactivateCard,
) -> Result<Decision, Rejection> {
    let data = CardDeactivated {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        decided_on: command.decided_on,
        last_day: command.last_day,
        criteria: command.criteria.clone(),
    };
    let content = Content::Deactivated(data.clone(), DeactivationOutcome::default());
    about_card(account, command.frikort, &content, |card| {
        card.open_since().ok_or(Rejection::NoActiveCard)?;
        let after = account.visitation.card_after(&content);
        let after = after.as_ref().unwrap_or(card);
        let is_after = |state: &PaymentState| {
            let work = state.facts.work_days();
            !state.cancelled && work.last > command.last_day && after.check_covers(work).is_err()
        };
        let payments = account.payments.iter().filter(|(_, state)| is_after(state));
        let payments_after = payments.map(|(key, _)| key.clone()).collect();
        let active = after.status == CardStatus::Active;
        Ok(Event::CardDeactivated(data, DeactivationOutcome { payments_after, active }))
    })
}

pub(super) fn reactivate(
    account: &Account,
    command: &ReactivateCard,
) -> Result<Decision, Rejection> {
    let data = CardReactivated {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        decided_on: command.decided_on,
        effective_from: command.effective_from,
    };
    let content = Content::Reactivated(data.clone(), CardOutcome::ACTIVE);
    about_card(account, command.frikort, &content, |card| {
        let (first, last) = account.visitation.activated_days(command.effective_from);
        if let Some(effective_from) = card.active_within(first, last) {
            return Err(Rejection::CardNotDeactivated { effective_from });
        }
        let active = is_active_after(account, &content);
        Ok(Event::CardReactivated(data, CardOutcome { active }))
    })
}

/// Whoever has no active card has nothing to be issued anew.
pub(super) fn reissue(account: &Account, command: &ReissueCard) -> Result<Decision, Rejection> {
    let data = CardReissued {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        frikort: command.reissued,
        decided_on: command.decided_on,
    };
    about_card(account, command.frikort, &Content::Reissued(data.clone()), |card| {
        card.open_since().ok_or(Rejection::NoActiveCard)?;
        Ok(Event::CardReissued(data))
    })
}

/// Also a card that is not active is handed over: the new municipality may reactivate it (C7).
pub(super) fn transfer(account: &Account, command: &TransferCard) -> Result<Decision, Rejection> {
    let data = CardTransferred {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        decided_on: command.decided_on,
        to: command.to,
    };
    about_card(account, command.frikort, &Content::Transferred(data.clone()), |_| {
        Ok(Event::CardTransferred(data))
    })
}

/// Only a deactivation is reversed: what follows from another decision reversed on appeal is a
/// decision of its own, as a grant is that follows from a rejection.
pub(super) fn reverse(account: &Account, command: &ReverseDecision) -> Result<Decision, Rejection> {
    let data = DecisionReversed {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        decided_on: command.decided_on,
        reversed: command.reversed.clone(),
    };
    let content = Content::Reversed(data.clone(), CardOutcome::ACTIVE);
    about_card(account, command.frikort, &content, |_| {
        account.visitation.check_reversible(&command.reversed)?;
        let active = is_active_after(account, &content);
        Ok(Event::DecisionReversed(data, CardOutcome { active }))
    })
}

/// A control of a card that is not active has no object.
pub(super) fn control(account: &Account, command: &RecordControl) -> Result<Decision, Rejection> {
    let data = ControlRecorded {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        decided_on: command.decided_on,
        dispensation: command.dispensation,
        criteria: command.criteria.clone(),
    };
    about_card(account, command.frikort, &Content::Controlled(data.clone()), |card| {
        card.open_since().ok_or(Rejection::NoActiveCard)?;
        Ok(Event::ControlRecorded(data))
    })
}

/// Only that it happened is recorded; the register finds the person by either number.
pub(super) fn renumber(
    account: &Account,
    command: &ChangeCprNumber,
) -> Result<Decision, Rejection> {
    let data = CprNumberChanged {
        municipality: command.key.municipality,
        reference: command.key.reference.clone(),
        decided_on: command.decided_on,
        number: command.number,
    };
    about_card(account, command.frikort, &Content::Renumbered(data.clone()), |_| {
        Ok(Event::CprNumberChanged(data))
    })
}

fn is_active_after(account: &Account, content: &Content) -> bool {
    account.visitation.card_after(content).is_some_and(|card| card.status == CardStatus::Active)
}

/// A decision about a card that was granted: to a municipality that was never responsible there is
/// none (W3), what is on record is answered as it was (C11), and what is new is for the responsible
/// municipality alone (C7).
fn about_card(
    account: &Account,
    frikort: Option<FrikortTag>,
    content: &Content,
    record: impl FnOnce(&Card) -> Result<Event, Rejection>,
) -> Result<Decision, Rejection> {
    let card = known_card(account, frikort)?;
    // Before the reference: one that was used for a rejected application would else tell of a card.
    if !account.visitation.was_responsible(content.municipality()) {
        return Err(Rejection::NoCard);
    }
    if let Some(before) = account.visitation.replay(content) {
        return before.map(Decision::ReplayCard);
    }
    if content.municipality() != card.municipality {
        return Err(Rejection::NotResponsible);
    }
    record(&card).map(Decision::Record)
}
