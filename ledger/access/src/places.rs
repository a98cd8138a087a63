//! Places for what takes long or much: pay runs, checks, listings, watchers. There are so many for all
//! callers together, and one caller has no more than its share of them, so that it never keeps all
//! others out.
//!
//! What must stay out: what is done on a place, and for how long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use frikort_proto::{error::Failure, v1::ErrorReason};

use crate::{Caller, limits::Limits};

/// The places of one kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What they are for, as in "all 4 places for pay runs are taken".
    purpose: &'static str,
    number: usize,
    of_one_caller: usize,
    limits: Limits,
    /// By the caller's name, whoever has any.
    taken: Mutex<HashMap<String, usize>>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    caller: Arc<Caller>,
}

impl Places {
    /// So many in all, and of one caller.
    pub(crate) fn new(
        purpose: &'static str,
        number: usize,
        of_one_caller: usize,
        limits: Limits,
    ) -> Self {
        let taken = Mutex::default();
        Self(Arc::new(Inner { purpose, number, of_one_caller, limits, taken }))
    }

    /// Takes a place, unless the caller has its share of them, or there is none.
    pub fn take(&self, caller: &Arc<Caller>) -> Result<Place, Failure> {
        let Inner { purpose, number, of_one_caller, .. } = *self.0;
        let mut taken = self.taken();
        let has = taken.get(&caller.name).copied().unwrap_or_default();
        let message = if taken.values().sum::<usize>() >= number {
            format!("all {number} places for {purpose} are taken; repeat")
        } else if has >= of_one_caller {
            self.0.limits.refused_a_place();
            format!(
                "the caller has {has} of the {number} places for {purpose}, and may have no more"
            )
        } else {
            taken.insert(caller.name.clone(), has + 1);
            return Ok(Place { places: self.clone(), caller: caller.clone() });
        };
        Err(Failure::new(ErrorReason::Overloaded, message))
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        let Some(has) = taken.get_mut(&self.caller.name) else { return };
        *has -= 1;
        if *has == 0 {
            taken.remove(&self.caller.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Role, limits::LimitArgs};

    fn caller(name: &str) -> Arc<Caller> {
        Arc::new(Caller { name: name.to_owned(), ..(*Caller::local()).clone() })
    }

    #[test]
    fn a_caller_has_no_more_than_its_share_and_gives_it_back() {
        let limits = LimitArgs::default().limits(Default::default());
        let places = Places::new("tests", 4, 2, limits.clone());
        let (one, other) = (caller("one"), caller("other"));
        let first = places.take(&one).unwrap();
        let second = places.take(&one).unwrap();
        let refused = places.take(&one).unwrap_err();
        assert_eq!(refused.reason, ErrorReason::Overloaded);
        assert!(refused.message.contains("has 2 of the 4") && refused.retry_delay().is_some());
        assert!(limits.metrics().contains("{limit=\"places\"} 1\n"));
        // By name, whatever else has changed.
        let changed = Arc::new(Caller { role: Role::Auditor, ..(*one).clone() });
        assert!(places.take(&changed).is_err());
        let others = [places.take(&other).unwrap(), places.take(&other).unwrap()];
        let refused = places.take(&caller("third")).unwrap_err();
        assert!(refused.message.contains("all 4 places for tests"), "{refused:?}");
        drop((first, others));
        let again = places.take(&one).unwrap();
        assert!(places.take(&one).is_err());
        drop((second, again));
        assert!(places.taken().is_empty());
    }

    #[test]
    fn a_share_is_at_least_one_and_never_all_by_default() {
        let limits = LimitArgs::default().limits(Default::default());
        let shares = [1, 2, 3, 4, 256].map(|number| limits.share(number));
        assert_eq!(shares, [1, 1, 1, 2, 128]);
    }
}
