//! How one year's limit is shared among its payments (A1-A6): one function, used by every
//! decision. It knows amounts and an order, nothing else.

use crate::Amount;

/// One payment's share, in the order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The gross amount.
    pub amount: Amount,
    /// The exempt part so far; at most `amount`.
    pub exempt: Amount,
}

/// Makes the exempt parts add up to `min(limit, sum of amounts)` (A2) and changes no more than
/// that asks:
///
/// - allowance that is free goes to taxable parts, first registered first (A1, A3, A5);
/// - where the exempt parts exceed a limit that was itself lowered, they are taken back, last
///   registered first (A6).
///
/// So nobody's exempt part shrinks through another payment (A4).
pub fn settle(limit: Amount, slots: &mut [Slot]) {
    let used: Amount = slots.iter().map(|slot| slot.exempt).sum();
    let mut free = limit.saturating_sub(used);
    for slot in slots.iter_mut() {
        let gain = free.min(slot.amount.saturating_sub(slot.exempt));
        slot.exempt = slot.exempt + gain;
        free = free.saturating_sub(gain);
    }
    let mut excess = used.saturating_sub(limit);
    for slot in slots.iter_mut().rev() {
        let loss = excess.min(slot.exempt);
        slot.exempt = slot.exempt.saturating_sub(loss);
        excess = excess.saturating_sub(loss);
    }
}
