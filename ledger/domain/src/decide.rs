//! Decisions: a command against one person's account becomes an event with its outcome, the
//! answer given before, or a rejection. Pure and synchronous on purpose: what a decision needs
//! (person, limits, today) is looked up before and handed in, so that replaying the history
//! through it gives every stored outcome again.
//!
//! The order in which refusals are tried is part of the contract (P9).

mod card;
mod shares;

use time::Date;

use crate::{
    Account, AllowanceRecalculated, Amount, Card, CardAnswer, Event, Facts, FrikortTag,
    LimitChanges, LimitSchedule, PaymentAnswer, PaymentKey, RecalculationOutcome,
    event::{PaymentCancelled, PaymentCorrected, PaymentOutcome, PaymentReported},
    payment::{CancelPayment, CorrectPayment, PaymentState, ReportPayment},
    visitation::{
        ChangeCprNumber, DeactivateCard, GrantCard, ReactivateCard, RecordControl, ReissueCard,
        RejectApplication, ReverseDecision, TransferCard,
    },
};
use shares::Shares;

pub use shares::settled_payments;

/// What somebody wants recorded about one person.
#[derive(Clone, Debug)]
pub enum Command {
    /// An employer reports a payment.
    ReportPayment(ReportPayment),
    /// An employer corrects a payment.
    CorrectPayment(CorrectPayment),
    /// An employer cancels a payment.
    CancelPayment(CancelPayment),
    /// A municipality grants a card.
    GrantCard(GrantCard),
    /// A municipality rejects an application for a card.
    RejectApplication(RejectApplication),
    /// A municipality deactivates a card.
    DeactivateCard(DeactivateCard),
    /// A municipality reactivates a card.
    ReactivateCard(ReactivateCard),
    /// A municipality gives the holder of a card another Frikort-ID.
    ReissueCard(ReissueCard),
    /// A municipality hands a person over to another one.
    TransferCard(TransferCard),
    /// A municipality records that a deactivation was reversed on appeal.
    ReverseDecision(ReverseDecision),
    /// A municipality records a control.
    RecordControl(RecordControl),
    /// A municipality records that a person has another CPR number.
    ChangeCprNumber(ChangeCprNumber),
    /// The limit of a calendar year has changed: let the person's splits follow.
    Recalculate {
        /// The calendar year.
        year: i32,
    },
}

impl Command {
    /// Says which Frikort-ID was given beside the CPR number, as the person's tag (N4). What needs
    /// no card is left as it is; a grant gives a new one.
    pub fn name_frikort(&mut self, tag: Option<FrikortTag>) {
        match self {
            Self::ReportPayment(command) => command.frikort = tag,
            Self::CorrectPayment(command) => command.frikort = tag,
            Self::CancelPayment(command) => command.frikort = tag,
            Self::DeactivateCard(command) => command.frikort = tag,
            Self::ReactivateCard(command) => command.frikort = tag,
            Self::ReissueCard(command) => command.frikort = tag,
            Self::TransferCard(command) => command.frikort = tag,
            Self::ReverseDecision(command) => command.frikort = tag,
            Self::RecordControl(command) => command.frikort = tag,
            Self::ChangeCprNumber(command) => command.frikort = tag,
            Self::GrantCard(_) | Self::RejectApplication(_) | Self::Recalculate { .. } => {}
        }
    }
}

/// What comes of a command that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Record this event.
    Record(Event),
    /// A payment command was recorded before; this was the answer (P3, P9). With the payment's present
    /// revision, where it was changed since (P11).
    ReplayPayment(PaymentAnswer, Option<u32>),
    /// A decision about the card was recorded before; this was the answer (C11).
    ReplayCard(CardAnswer),
    /// The splits are as the limits make them; there is nothing to record.
    Settled,
}

/// Why a command is refused. Nothing is recorded then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// P2.
    #[error("only ordinary, unsupported work can be paid on a frikort")]
    SupportedWork,
    /// No card was ever granted, or the Frikort-ID is not the person's (N4).
    #[error("no card is known for this person")]
    NoCard,
    /// C1.
    #[error("the card was not active on every day of the work")]
    NotCovered {
        /// The first such day.
        first_uncovered_day: Date,
        /// Where the work is partly covered: the first day of its second part.
        split_at: Option<Date>,
    },
    /// No limit is on record for the year.
    #[error("no limit is on record for the calendar year {year}")]
    LimitNotSet {
        /// The calendar year.
        year: i32,
    },
    /// P10.
    #[error("the person has {payments_per_year} payments in the calendar year {year}")]
    TooManyPayments {
        /// The calendar year.
        year: i32,
        /// As many as may be recorded.
        payments_per_year: u32,
    },
    /// A8.
    #[error("a part of the payment would be taxable, and reject_if_exceeds was asked for")]
    LimitExceeded {
        /// The exempt part it would have had.
        exempt: Amount,
        /// The taxable part it would have had.
        taxable: Amount,
    },
    /// The year's sum would leave the range that can be stored.
    #[error("the sum of the year's payments would be too large")]
    TotalTooLarge,
    /// P3, C11.
    #[error("the reference was used before with other content")]
    ReferenceReused {
        /// Request fields that differ.
        fields: Vec<&'static str>,
    },
    /// P9.
    #[error("the employer has no payment with this reference for this person")]
    PaymentNotFound,
    /// P6.
    #[error("the payment was cancelled")]
    PaymentCancelled,
    /// P5.
    #[error("the payment is at revision {revision}")]
    RevisionMismatch {
        /// The payment's revision.
        revision: u32,
    },
    /// C8.
    #[error("the person is not 18 on the first active day")]
    UnderAge,
    /// C6.
    #[error("the person has a card that is active on that day")]
    CardAlreadyActive {
        /// The first day of the active period, for the municipality whose card it is alone (W3).
        effective_from: Option<Date>,
    },
    /// There is no active card to deactivate.
    #[error("the card is not active")]
    NoActiveCard,
    /// There is nothing to reactivate on that day.
    #[error("the card is active on that day")]
    CardNotDeactivated {
        /// The first day of the active period.
        effective_from: Date,
    },
    /// C5.
    #[error("no deactivation is on record under this municipality and reference")]
    DecisionNotFound,
    /// C5.
    #[error("the deactivation was reversed before")]
    DecisionAlreadyReversed,
    /// C7; for a municipality that was responsible once. To any other the card is none (W3).
    #[error("another municipality is responsible for the person")]
    NotResponsible,
}

/// Decides one command by all that is on record; `today` is the civil date in Copenhagen at which it
/// is recorded. How many payments a year may have is not on record: see [`decide_within`].
pub fn decide(
    account: &Account,
    limits: &LimitSchedule,
    command: &Command,
    today: Date,
) -> Result<Decision, Rejection> {
    decide_within(account, limits, u32::MAX, command, today)
}

/// The same of a command that is to be recorded now, where a person may have at most
/// `payments_per_year` payments recorded in one calendar year (P10).
pub fn decide_within(
    account: &Account,
    limits: &LimitSchedule,
    payments_per_year: u32,
    command: &Command,
    today: Date,
) -> Result<Decision, Rejection> {
    let limits = Limits { schedule: limits, today, payments_per_year };
    match command {
        Command::ReportPayment(command) => report(account, limits, command),
        Command::CorrectPayment(command) => correct(account, limits, command),
        Command::CancelPayment(command) => cancel(account, limits, command),
        Command::GrantCard(command) => card::grant(account, command),
        Command::RejectApplication(command) => card::reject(account, command),
        Command::DeactivateCard(command) => card::deactivate(account, command),
        Command::ReactivateCard(command) => card::reactivate(account, command),
        Command::ReissueCard(command) => card::reissue(account, command),
        Command::TransferCard(command) => card::transfer(account, command),
        Command::ReverseDecision(command) => card::reverse(account, command),
        Command::RecordControl(command) => card::control(account, command),
        Command::ChangeCprNumber(command) => card::renumber(account, command),
        Command::Recalculate { year } => recalculate(account, limits, *year),
    }
}

/// The schedule as it is in force on one day, and how many payments a year may have.
#[derive(Clone, Copy)]
struct Limits<'a> {
    schedule: &'a LimitSchedule,
    today: Date,
    payments_per_year: u32,
}

impl Limits<'_> {
    /// Those that took effect since a person's year was settled (A9).
    fn of(self, account: &Account, year: i32) -> Result<LimitChanges, Rejection> {
        let changes = self.schedule.changes(year, account.settled(year), self.today);
        changes.ok_or(Rejection::LimitNotSet { year })
    }

    /// Fails when the year has as many payments as may be recorded (P10).
    fn check_room(self, account: &Account, year: i32) -> Result<(), Rejection> {
        let payments_per_year = self.payments_per_year;
        if account.recorded_in(year) < payments_per_year {
            return Ok(());
        }
        Err(Rejection::TooManyPayments { year, payments_per_year })
    }
}

fn report(
    account: &Account,
    limits: Limits<'_>,
    command: &ReportPayment,
) -> Result<Decision, Rejection> {
    if !command.ordinary_work {
        return Err(Rejection::SupportedWork);
    }
    let card = known_card(account, command.frikort)?;
    if let Some(state) = account.payments.get(&command.key) {
        return replay_report(state, command);
    }
    card.check_covers(command.facts.work_days())?;
    let year = command.facts.attribution_date().year();
    let limit = limits.of(account, year)?;
    limits.check_room(account, year)?;
    let mut shares = Shares::of(account, year, &limit, None);
    let exempt = shares.add(command.facts.amount);
    let taxable = command.facts.amount.saturating_sub(exempt);
    if command.reject_if_exceeds && !taxable.is_zero() {
        return Err(Rejection::LimitExceeded { exempt, taxable });
    }
    let (year, changed) = shares.finish()?;
    let outcome = PaymentOutcome {
        revision: 1,
        attribution_date: command.facts.attribution_date(),
        exempt,
        taxable,
        year,
        left_year: None,
        changed,
        possible_duplicate: has_twin(account, command),
    };
    let data = PaymentReported {
        employer_cvr: command.key.employer_cvr,
        reference: command.key.reference.clone(),
        facts: command.facts.clone(),
        production_unit: command.production_unit,
    };
    Ok(Decision::Record(Event::PaymentReported(data, outcome)))
}

/// P3: the same content is answered as it was first; other content is refused.
fn replay_report(state: &PaymentState, command: &ReportPayment) -> Result<Decision, Rejection> {
    let mut fields = state.reported_facts().differing(&command.facts);
    if state.production_unit != command.production_unit {
        fields.push("production_unit");
    }
    if fields.is_empty() {
        let first = (*state.first_answer).clone();
        let changed_since = Some(state.revision).filter(|now| *now != first.outcome.revision);
        Ok(Decision::ReplayPayment(first, changed_since))
    } else {
        Err(Rejection::ReferenceReused { fields })
    }
}

/// P4: another payment of this employer that stands, of the same amount, attribution date and days of work.
fn has_twin(account: &Account, command: &ReportPayment) -> bool {
    let alike = |facts: &Facts| (facts.amount, facts.attribution_date(), facts.work_days());
    account.payments.iter().any(|(other, state)| {
        other.employer_cvr == command.key.employer_cvr
            && !state.cancelled
            && alike(&state.facts) == alike(&command.facts)
    })
}

fn correct(
    account: &Account,
    limits: Limits<'_>,
    command: &CorrectPayment,
) -> Result<Decision, Rejection> {
    let state = known_payment(account, &command.key, command.frikort)?;
    if let Some(last) = &state.last_change {
        let same = last.cancelled_for.is_none()
            && last.expected_revision == command.expected_revision
            && state.facts == command.facts;
        if same {
            return Ok(Decision::ReplayPayment(last.answer.clone(), None));
        }
    }
    check_revision(state, command.expected_revision)?;
    // Coverage is judged on the days of work, also when the card is no longer active, and again only where
    // they change: a payment that was accepted stays accepted (P5, C3).
    let work = command.facts.work_days();
    if work != state.facts.work_days() {
        account.card().ok_or(Rejection::PaymentNotFound)?.check_covers(work)?;
    }

    let amount = command.facts.amount;
    let year = command.facts.attribution_date().year();
    let limit = limits.of(account, year)?;
    let mut shares = Shares::of(account, year, &limit, Some(&command.key));
    let (exempt, left_year) = if year == state.year {
        (shares.change(&command.key, amount), None)
    } else {
        let left_limit = limits.of(account, state.year)?;
        limits.check_room(account, year)?;
        let left = Shares::of(account, state.year, &left_limit, Some(&command.key));
        (shares.add(amount), Some(left))
    };
    let (year, mut changed) = shares.finish()?;
    let left_year = match left_year {
        Some(mut left) => {
            left.remove(&command.key);
            let (totals, freed) = left.finish()?;
            changed.extend(freed);
            Some(totals)
        }
        None => None,
    };
    let outcome = PaymentOutcome {
        revision: state.revision + 1,
        attribution_date: command.facts.attribution_date(),
        exempt,
        taxable: amount.saturating_sub(exempt),
        year,
        left_year,
        changed,
        possible_duplicate: false,
    };
    let data = PaymentCorrected {
        employer_cvr: command.key.employer_cvr,
        reference: command.key.reference.clone(),
        expected_revision: command.expected_revision,
        facts: command.facts.clone(),
    };
    Ok(Decision::Record(Event::PaymentCorrected(data, outcome)))
}

fn cancel(
    account: &Account,
    limits: Limits<'_>,
    command: &CancelPayment,
) -> Result<Decision, Rejection> {
    let state = known_payment(account, &command.key, command.frikort)?;
    if let Some(last) = &state.last_change {
        let same = last.cancelled_for == Some(command.reason)
            && last.expected_revision == command.expected_revision;
        if same {
            return Ok(Decision::ReplayPayment(last.answer.clone(), None));
        }
    }
    check_revision(state, command.expected_revision)?;

    let limit = limits.of(account, state.year)?;
    let mut shares = Shares::of(account, state.year, &limit, Some(&command.key));
    shares.remove(&command.key);
    let (year, changed) = shares.finish()?;
    let outcome = PaymentOutcome {
        revision: state.revision + 1,
        attribution_date: state.facts.attribution_date(),
        exempt: Amount::ZERO,
        taxable: Amount::ZERO,
        year,
        left_year: None,
        changed,
        possible_duplicate: false,
    };
    let data = PaymentCancelled {
        employer_cvr: command.key.employer_cvr,
        reference: command.key.reference.clone(),
        expected_revision: command.expected_revision,
        reason: command.reason,
    };
    Ok(Decision::Record(Event::PaymentCancelled(data, outcome)))
}

fn known_card(account: &Account, frikort: Option<FrikortTag>) -> Result<Card, Rejection> {
    if !account.visitation.knows(frikort) {
        return Err(Rejection::NoCard);
    }
    account.card().ok_or(Rejection::NoCard)
}

/// A payment is found only by somebody who names the person rightly (N4).
fn known_payment<'a>(
    account: &'a Account,
    key: &PaymentKey,
    frikort: Option<FrikortTag>,
) -> Result<&'a PaymentState, Rejection> {
    let payment = account.payments.get(key).filter(|_| account.visitation.knows(frikort));
    payment.ok_or(Rejection::PaymentNotFound)
}

fn check_revision(state: &PaymentState, expected: u32) -> Result<(), Rejection> {
    if state.cancelled {
        return Err(Rejection::PaymentCancelled);
    }
    if state.revision != expected {
        return Err(Rejection::RevisionMismatch { revision: state.revision });
    }
    Ok(())
}

/// Lets a person's splits follow the limits that took effect after the year's last event (A5, A6, A9).
fn recalculate(account: &Account, limits: Limits<'_>, year: i32) -> Result<Decision, Rejection> {
    let limit = limits.of(account, year)?;
    let (year_totals, changed) = Shares::of(account, year, &limit, None).finish()?;
    if changed.is_empty() {
        return Ok(Decision::Settled);
    }
    let outcome = RecalculationOutcome { year: year_totals, changed };
    Ok(Decision::Record(Event::AllowanceRecalculated(AllowanceRecalculated { year }, outcome)))
}
