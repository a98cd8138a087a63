//! One year's shares while a decision is made. What must stay out: which command asks for them,
//! and how a limit is shared (`allocation.rs`).

use std::collections::{BTreeMap, HashMap};

use time::Date;

use super::Rejection;
use crate::{
    Account, Amount, LimitChanges, LimitSchedule, PaymentKey,
    allocation::{Slot, settle},
    event::{SplitChange, YearTotals},
    payment::PaymentState,
};

/// One year's shares while a decision is made: which payments, in which order, with which part.
///
/// As long as nothing frees or takes back allowance, the sums are enough and no payment is
/// looked at; so a report costs the same with ten payments and with ten thousand.
pub(super) struct Shares<'a> {
    account: &'a Account,
    totals: YearTotals,
    /// Sum of the exempt parts.
    used: Amount,
    /// The payments in order of drawing; empty while the sums are enough.
    slots: Vec<(&'a PaymentKey, Slot)>,
    /// The payment that the decision is about: its split is not among the changed ones.
    own: Option<&'a PaymentKey>,
}

impl<'a> Shares<'a> {
    pub(super) fn of(
        account: &'a Account,
        year: i32,
        limits: &LimitChanges,
        own: Option<&'a PaymentKey>,
    ) -> Self {
        let sums = account.years.get(&year).copied().unwrap_or_default();
        let limit = limits.in_force();
        let totals = YearTotals { year, limit, total: sums.total, payments: sums.payments };
        let mut shares = Self { account, totals, used: sums.exempt, slots: Vec::new(), own };
        // Limits that took effect since the last event of this year are settled first, one after the other.
        if own.is_some() || limits.iter().any(|limit| sums.exempt != limit.min(sums.total)) {
            shares.load();
            limits.iter().for_each(|limit| shares.settle_by(limit));
        }
        shares
    }

    fn load(&mut self) {
        let in_year = |state: &PaymentState| state.year == self.totals.year && !state.cancelled;
        let mut states: Vec<_> =
            self.account.payments.iter().filter(|(_, state)| in_year(state)).collect();
        states.sort_by_key(|(_, state)| state.order);
        let slot = |state: &PaymentState| Slot { amount: state.amount(), exempt: state.exempt };
        self.slots = states.into_iter().map(|(key, state)| (key, slot(state))).collect();
    }

    fn settle(&mut self) {
        self.settle_by(self.totals.limit);
    }

    fn settle_by(&mut self, limit: Amount) {
        let mut slots: Vec<Slot> = self.slots.iter().map(|(_, slot)| *slot).collect();
        settle(limit, &mut slots);
        for ((_, old), new) in self.slots.iter_mut().zip(slots) {
            *old = new;
        }
        self.used = limit.min(self.totals.total);
    }

    /// A payment that draws last (A1, A3); its exempt part.
    pub(super) fn add(&mut self, amount: Amount) -> Amount {
        let exempt = amount.min(self.totals.limit.saturating_sub(self.used));
        self.used = self.used + exempt;
        self.totals.total = self.totals.total + amount;
        self.totals.payments += 1;
        exempt
    }

    /// A new amount for a payment of this year (A4); its exempt part.
    pub(super) fn change(&mut self, key: &PaymentKey, amount: Amount) -> Amount {
        let Some(at) = self.slots.iter().position(|(k, _)| *k == key) else {
            return self.add(amount);
        };
        let slot = &mut self.slots[at].1;
        self.totals.total = self.totals.total.saturating_sub(slot.amount) + amount;
        *slot = Slot { amount, exempt: slot.exempt.min(amount) };
        self.settle();
        self.slots[at].1.exempt
    }

    /// A payment that no longer draws on this year; what it held is free (A5).
    pub(super) fn remove(&mut self, key: &PaymentKey) {
        if let Some(at) = self.slots.iter().position(|(k, _)| *k == key) {
            let (_, slot) = self.slots.remove(at);
            self.totals.total = self.totals.total.saturating_sub(slot.amount);
            self.totals.payments = self.totals.payments.saturating_sub(1);
            self.settle();
        }
    }

    /// The year after the event, and the other payments' splits that changed.
    pub(super) fn finish(self) -> Result<(YearTotals, Vec<SplitChange>), Rejection> {
        if self.totals.total > Amount::MAX_TOTAL {
            return Err(Rejection::TotalTooLarge);
        }
        let before = |key: &PaymentKey| self.account.payments.get(key).map(|state| state.exempt);
        let moved = self
            .slots
            .iter()
            .filter(|(key, slot)| Some(*key) != self.own && before(key) != Some(slot.exempt));
        let changed = moved.map(|(key, slot)| SplitChange {
            employer_cvr: key.employer_cvr,
            reference: key.reference.clone(),
            exempt: slot.exempt,
            taxable: slot.amount.saturating_sub(slot.exempt),
        });
        Ok((self.totals, changed.collect()))
    }
}

/// Payments as they stand on `today`, settled by every limit on record (A9); those that are not the account's
/// are left out.
pub fn settled_payments(
    account: &Account,
    limits: &LimitSchedule,
    today: Date,
    keys: &[PaymentKey],
) -> Vec<(PaymentKey, PaymentState)> {
    // Of each year that was asked for, the exempt parts where they are not as recorded.
    let mut years: BTreeMap<i32, HashMap<&PaymentKey, Amount>> = BTreeMap::new();
    let settled = |key: &PaymentKey| {
        let mut state = account.payment(key)?.clone();
        let exempt = years.entry(state.year).or_insert_with(|| {
            let changes = limits.changes(state.year, account.settled(state.year), today);
            let shares = changes.map(|changes| Shares::of(account, state.year, &changes, None));
            let slots = shares.map(|shares| shares.slots).unwrap_or_default();
            slots.into_iter().map(|(key, slot)| (key, slot.exempt)).collect()
        });
        state.exempt = exempt.get(key).copied().unwrap_or(state.exempt);
        Some((key.clone(), state))
    };
    keys.iter().filter_map(settled).collect()
}
