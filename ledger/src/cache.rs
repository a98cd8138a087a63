//! The accounts that a sequencer keeps in memory, bounded by the payments they hold; the least
//! recently used go first.

use frikort_domain::{Account, PersonId};
use lru::LruCache;

pub(crate) struct Accounts {
    accounts: LruCache<PersonId, Account>,
    weight: usize,
    limit: usize,
}

impl Accounts {
    /// Keeps accounts of about `limit` payments in all, at about half a KB each.
    pub(crate) fn new(limit: usize) -> Self {
        Self { accounts: LruCache::unbounded(), weight: 0, limit }
    }

    pub(crate) fn get(&mut self, person: PersonId) -> Option<&Account> {
        self.accounts.get(&person)
    }

    pub(crate) fn insert(&mut self, person: PersonId, account: Account) {
        self.forget(person);
        self.weight += weight(&account);
        self.accounts.put(person, account);
    }

    /// Changes an account, if it is kept.
    pub(crate) fn change<R>(
        &mut self,
        person: PersonId,
        change: impl FnOnce(&mut Account) -> R,
    ) -> Option<R> {
        let account = self.accounts.get_mut(&person)?;
        let before = weight(account);
        let result = change(account);
        self.weight = self.weight + weight(account) - before;
        Some(result)
    }

    pub(crate) fn forget(&mut self, person: PersonId) {
        if let Some(account) = self.accounts.pop(&person) {
            self.weight -= weight(&account);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.accounts.clear();
        self.weight = 0;
    }

    /// Of `persons`, those that are not kept, each once.
    pub(crate) fn missing(&self, persons: impl Iterator<Item = PersonId>) -> Vec<PersonId> {
        let mut missing: Vec<_> =
            persons.filter(|person| !self.accounts.contains(person)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Lets go of accounts until the limit holds, or one is left: an account above the limit would
    /// be read again for each of its payments. Called between batches, never within one.
    pub(crate) fn shrink(&mut self) {
        while self.weight > self.limit && self.accounts.len() > 1 {
            let Some((_, account)) = self.accounts.pop_lru() else { break };
            self.weight -= weight(&account);
        }
    }
}

/// An account weighs its payments, and one for itself.
fn weight(account: &Account) -> usize {
    1 + account.payments().len()
}
