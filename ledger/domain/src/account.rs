//! One person's state: the fold of the person's events. `decide` reads it, [`Account::apply`]
//! moves it on. The same function runs when a batch is decided, when a stream is loaded, and
//! when an auditor replays.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use time::OffsetDateTime;

use crate::{
    Amount, Card, Event, Facts, PaymentKey, PaymentOutcome, PaymentState,
    event::{PaymentCancelled, PaymentCorrected, PaymentReported, SplitChange, YearTotals},
    payment::{LastChange, PaymentAnswer},
    visitation::{Content, RecordedDecision, Visitation},
};

/// Everything that decides about one person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    version: i64,
    pub(crate) visitation: Visitation,
    pub(crate) payments: IndexMap<PaymentKey, PaymentState>,
    pub(crate) years: BTreeMap<i32, Year>,
}

/// Sums of one year, kept so that a decision need not walk the payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Year {
    pub(crate) total: Amount,
    pub(crate) exempt: Amount,
    pub(crate) payments: u32,
    /// Cancelled payments that would count in the year.
    pub(crate) cancelled: u32,
    /// Position and instant of the event that last settled the year's splits by its limit.
    pub(crate) settled: Option<(i64, OffsetDateTime)>,
}

/// An event that cannot follow from the state: the history is damaged or was written by a
/// program with other rules. Nobody may go on from here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event at position {position} contradicts the history: {what}")]
pub struct Contradiction {
    /// Where.
    pub position: i64,
    /// What does not fit.
    pub what: &'static str,
}

impl Account {
    /// Number of events folded in; the expected version of the next append.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The card; `None` for a person who was never granted one.
    pub fn card(&self) -> Option<Card> {
        self.visitation.card()
    }

    /// Whether the person has, or had, a card, and the Frikort-ID (if given) is one of the
    /// person's (N4).
    pub fn knows_card(&self, frikort: Option<crate::FrikortTag>) -> bool {
        self.visitation.knows(frikort)
    }

    /// The Frikort-IDs that the person was given, as tags; none without a card.
    pub fn frikort_tags(&self) -> impl Iterator<Item = crate::FrikortTag> {
        self.visitation.frikort_tags()
    }

    /// Every decision about the person, in order of recording.
    pub fn decisions(&self) -> impl Iterator<Item = RecordedDecision> {
        self.visitation.decisions()
    }

    /// The payments, in order of registration.
    pub fn payments(&self) -> impl ExactSizeIterator<Item = (&PaymentKey, &PaymentState)> {
        self.payments.iter()
    }

    /// One payment.
    pub fn payment(&self, key: &PaymentKey) -> Option<&PaymentState> {
        self.payments.get(key)
    }

    /// Sum and number of the payments of a year that are not cancelled.
    pub fn year_total(&self, year: i32) -> (Amount, u32) {
        let year = self.years.get(&year).copied().unwrap_or_default();
        (year.total, year.payments)
    }

    /// Number of the payments recorded in a year, cancelled ones included (P10).
    pub fn recorded_in(&self, year: i32) -> u32 {
        let year = self.years.get(&year).copied().unwrap_or_default();
        year.payments.saturating_add(year.cancelled)
    }

    /// Position and instant of the event that last settled a year's splits by its limit; `None` where no
    /// event did.
    pub fn settled(&self, year: i32) -> Option<(i64, OffsetDateTime)> {
        self.years.get(&year)?.settled
    }

    /// Every year that has, or had, a payment, with sum and number of those that are not cancelled.
    pub fn years(&self) -> impl Iterator<Item = (i32, Amount, u32)> {
        self.years.iter().map(|(year, sums)| (*year, sums.total, sums.payments))
    }

    /// Folds in the event recorded at `position` as the person's `version`-th.
    pub fn apply(
        &mut self,
        event: &Event,
        version: i64,
        position: i64,
        recorded_at: OffsetDateTime,
    ) -> Result<(), Contradiction> {
        let contradiction = |what| Contradiction { position, what };
        if version != self.version + 1 {
            return Err(contradiction("the person's version is not the next"));
        }
        let answer = |outcome: &PaymentOutcome| PaymentAnswer {
            outcome: outcome.clone(),
            position,
            recorded_at,
        };
        let mut decided = |content| self.visitation.record(content, position, recorded_at);
        match event {
            Event::CardGranted(data, outcome) => decided(Content::Granted(data.clone(), *outcome)),
            Event::ApplicationRejected(data) => decided(Content::Rejected(data.clone())),
            Event::DecisionReversed(data, outcome) => {
                decided(Content::Reversed(data.clone(), *outcome))
            }
            Event::CardDeactivated(data, outcome) => {
                decided(Content::Deactivated(data.clone(), outcome.clone()))
            }
            Event::CardReactivated(data, outcome) => {
                decided(Content::Reactivated(data.clone(), *outcome))
            }
            Event::CardReissued(data) => decided(Content::Reissued(data.clone())),
            Event::CardTransferred(data) => decided(Content::Transferred(data.clone())),
            Event::CprNumberChanged(data) => decided(Content::Renumbered(data.clone())),
            Event::ControlRecorded(data) => decided(Content::Controlled(data.clone())),
            Event::PaymentReported(data, outcome) => self.apply_reported(data, answer(outcome)),
            Event::PaymentCorrected(data, outcome) => self.apply_corrected(data, answer(outcome)),
            Event::PaymentCancelled(data, outcome) => self.apply_cancelled(data, answer(outcome)),
            Event::AllowanceRecalculated(data, outcome) => {
                if outcome.year.year == data.year {
                    let at = (position, recorded_at);
                    self.apply_splits(&[outcome.year], &outcome.changed, at)
                } else {
                    Err("a recalculation tells another year")
                }
            }
            Event::AnnualLimitSet(_) => Err("a limit is no event of a person"),
        }
        .map_err(contradiction)?;
        self.version = version;
        Ok(())
    }

    fn apply_reported(
        &mut self,
        data: &PaymentReported,
        answer: PaymentAnswer,
    ) -> Result<(), &'static str> {
        let key = PaymentKey { employer_cvr: data.employer_cvr, reference: data.reference.clone() };
        let (outcome, position) = (answer.outcome.clone(), answer.position);
        let at = (position, answer.recorded_at);
        if self.payments.contains_key(&key) {
            return Err("a payment is reported twice");
        }
        check_outcome(&outcome, 1, &data.facts, data.facts.amount)?;
        let year = self.years.entry(outcome.year.year).or_default();
        year.total = year.total + data.facts.amount;
        year.exempt = year.exempt + outcome.exempt;
        year.payments += 1;
        let state = PaymentState {
            facts: data.facts.clone(),
            production_unit: data.production_unit,
            year: outcome.year.year,
            order: position,
            exempt: outcome.exempt,
            revision: outcome.revision,
            position,
            cancelled: false,
            reported: None,
            first_answer: Box::new(answer),
            last_change: None,
        };
        self.payments.insert(key, state);
        self.apply_splits(&[outcome.year], &outcome.changed, at)
    }

    fn apply_corrected(
        &mut self,
        data: &PaymentCorrected,
        answer: PaymentAnswer,
    ) -> Result<(), &'static str> {
        let key = PaymentKey { employer_cvr: data.employer_cvr, reference: data.reference.clone() };
        let (outcome, position) = (answer.outcome.clone(), answer.position);
        let at = (position, answer.recorded_at);
        let state = self.payments.get_mut(&key).ok_or("an unknown payment is corrected")?;
        let revision = next_revision(state, data.expected_revision)?;
        check_outcome(&outcome, revision, &data.facts, data.facts.amount)?;
        let moved = state.year != outcome.year.year;
        if outcome.left_year.map(|left| left.year) != moved.then_some(state.year) {
            return Err("the year that a payment left is not the one it was in");
        }
        leave(&mut self.years, state);
        if moved {
            state.order = position;
        }
        let before = std::mem::replace(&mut state.facts, data.facts.clone());
        state.reported.get_or_insert_with(|| Box::new(before));
        state.year = outcome.year.year;
        state.exempt = outcome.exempt;
        state.revision = outcome.revision;
        state.position = position;
        state.last_change = Some(Box::new(LastChange {
            cancelled_for: None,
            expected_revision: data.expected_revision,
            answer,
        }));
        let year = self.years.entry(state.year).or_default();
        year.total = year.total + state.facts.amount;
        year.exempt = year.exempt + state.exempt;
        year.payments += 1;
        match outcome.left_year {
            Some(left) => self.apply_splits(&[outcome.year, left], &outcome.changed, at),
            None => self.apply_splits(&[outcome.year], &outcome.changed, at),
        }
    }

    fn apply_cancelled(
        &mut self,
        data: &PaymentCancelled,
        answer: PaymentAnswer,
    ) -> Result<(), &'static str> {
        let key = PaymentKey { employer_cvr: data.employer_cvr, reference: data.reference.clone() };
        let (outcome, position) = (answer.outcome.clone(), answer.position);
        let at = (position, answer.recorded_at);
        let state = self.payments.get_mut(&key).ok_or("an unknown payment is cancelled")?;
        let revision = next_revision(state, data.expected_revision)?;
        check_outcome(&outcome, revision, &state.facts, Amount::ZERO)?;
        leave(&mut self.years, state);
        self.years.entry(state.year).or_default().cancelled += 1;
        state.cancelled = true;
        state.exempt = Amount::ZERO;
        state.revision = outcome.revision;
        state.position = position;
        state.last_change = Some(Box::new(LastChange {
            cancelled_for: Some(data.reason),
            expected_revision: data.expected_revision,
            answer,
        }));
        self.apply_splits(&[outcome.year], &outcome.changed, at)
    }

    /// Copies the payments' new splits, then holds the years that the event touches against what
    /// it says of them.
    fn apply_splits(
        &mut self,
        years: &[YearTotals],
        changed: &[SplitChange],
        (position, recorded_at): (i64, OffsetDateTime),
    ) -> Result<(), &'static str> {
        for change in changed {
            let key = PaymentKey {
                employer_cvr: change.employer_cvr,
                reference: change.reference.clone(),
            };
            let state = self.payments.get_mut(&key).ok_or("an unknown payment's split changes")?;
            if change.exempt + change.taxable != state.amount() {
                return Err("the exempt and the taxable part are not the amount");
            }
            if !years.iter().any(|touched| touched.year == state.year) {
                return Err("a split changes in a year that the event does not touch");
            }
            let year = self.years.entry(state.year).or_default();
            year.exempt = year.exempt.saturating_sub(state.exempt) + change.exempt;
            state.exempt = change.exempt;
            state.position = position;
        }
        for totals in years {
            let year = self.years.entry(totals.year).or_default();
            year.settled = Some((position, recorded_at));
            if (year.total, year.payments) != (totals.total, totals.payments) {
                return Err("the year's total is not the sum of its payments");
            }
            if year.exempt != totals.limit.min(totals.total) {
                return Err("the exempt parts do not add up to what is used");
            }
        }
        Ok(())
    }
}

/// The revision that follows; a cancelled payment has none (P5, P6).
fn next_revision(state: &PaymentState, expected: u32) -> Result<u32, &'static str> {
    if state.cancelled {
        return Err("a cancelled payment is changed");
    }
    if state.revision != expected {
        return Err("a payment is changed that was at another revision");
    }
    Ok(expected + 1)
}

/// Holds an outcome against the facts it is about (Y1, A2).
fn check_outcome(
    outcome: &PaymentOutcome,
    revision: u32,
    facts: &Facts,
    amount: Amount,
) -> Result<(), &'static str> {
    let day = facts.attribution_date();
    if outcome.revision != revision {
        return Err("the payment's revision is not the next");
    }
    if outcome.attribution_date != day || outcome.year.year != day.year() {
        return Err("a payment is placed in a year that is not its date's");
    }
    if outcome.exempt + outcome.taxable != amount {
        return Err("the exempt and the taxable part are not the amount");
    }
    Ok(())
}

/// Takes a payment's amounts out of its year.
fn leave(years: &mut BTreeMap<i32, Year>, state: &PaymentState) {
    let year = years.entry(state.year).or_default();
    year.total = year.total.saturating_sub(state.amount());
    year.exempt = year.exempt.saturating_sub(state.exempt);
    year.payments = year.payments.saturating_sub(1);
}

impl Default for Amount {
    fn default() -> Self {
        Self::ZERO
    }
}
