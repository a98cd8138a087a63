//! How much of the service one caller may have: calls, and answers that nobody is there. Its share of
//! places is counted in `places.rs`.
//!
//! A caller has a bucket of each, which fills again with time. A stream counts once, when it is
//! opened. Answers that nobody is there are counted since CPR numbers can be counted through, and a
//! Frikort-ID has 100.000 values: a caller that has too many of them is refused before its request is
//! looked at, whoever it asks about. Those whose work it is to look up people who have no card are
//! not counted so. What must stay out: whom a caller asks about.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use frikort_process::{
    bucket::{Bucket, Rate},
    serve,
};
use frikort_proto::{error::Failure, v1::ErrorReason};
use serde::Deserialize;
use tonic::Extensions;

use crate::Role;

/// Calls of one caller that may be under way.
const UNDER_WAY: usize = 4096;

/// A bucket of calls lasts so long.
const CALLS_FOR: u32 = 5;

/// How often it is told of one caller that it guesses.
const ALARM_PAUSE: Duration = Duration::from_secs(60);

/// Options of a service.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct LimitArgs {
    /// Connections in all, at least 8 [default: 4096].
    #[arg(long, env = "FRIKORT_MAX_CONNECTIONS", value_name = "NUMBER")]
    max_connections: Option<u32>,
    /// Connections of one caller [default: 64].
    #[arg(long, env = "FRIKORT_MAX_CONNECTIONS_PER_CALLER", value_name = "NUMBER")]
    max_connections_per_caller: Option<u32>,
    /// Calls of one caller a second, and at once five times as many; a stream is one call; 0 for no
    /// limit [default: 1000].
    #[arg(long, env = "FRIKORT_CALLS_PER_SECOND", value_name = "NUMBER")]
    calls_per_second: Option<u32>,
    /// Answers that nobody is there, to one employer, benefit or tax system, at once; whoever has
    /// had so many is refused for a while; 0 for no limit [default: 200].
    #[arg(long, env = "FRIKORT_MISSES_AT_ONCE", value_name = "NUMBER")]
    misses_at_once: Option<u32>,
    /// The same, that are allowed again each minute [default: 60].
    #[arg(long, env = "FRIKORT_MISSES_PER_MINUTE", value_name = "NUMBER")]
    misses_per_minute: Option<u32>,
    /// Of 100 places for pay runs, checks, listings or watchers, those that one caller may have at
    /// once; one in any case [default: 50].
    #[arg(long, env = "FRIKORT_MAX_SHARE_OF_PLACES", value_name = "PERCENT")]
    max_share_of_places: Option<u32>,
}

/// The same in a settings file, as the table `[access.limits]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    max_connections: Option<u32>,
    max_connections_per_caller: Option<u32>,
    calls_per_second: Option<u32>,
    misses_at_once: Option<u32>,
    misses_per_minute: Option<u32>,
    max_share_of_places: Option<u32>,
}

/// What every caller may have. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: serve::Limits,
    calls: Option<Rate>,
    misses: Option<Rate>,
    /// Of 100 places, those of one caller.
    share: usize,
    /// By name: a directory that is read anew lets nobody begin again.
    shares: Mutex<HashMap<String, Arc<Share>>>,
    refused_calls: AtomicU64,
    refused_guesses: AtomicU64,
    refused_places: AtomicU64,
}

/// What one caller has had.
#[derive(Debug)]
pub(crate) struct Share {
    limits: Limits,
    name: String,
    had: Mutex<Had>,
}

#[derive(Debug)]
struct Had {
    under_way: usize,
    calls: Bucket,
    misses: Bucket,
    told: Option<Instant>,
}

impl LimitArgs {
    /// Options, else the settings file.
    pub(crate) fn limits(self, file: Settings) -> Limits {
        let number = |given: Option<u32>, file: Option<u32>| given.or(file);
        let connections = serve::Limits::default();
        let or = |number: Option<u32>, default: usize| {
            number.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
        };
        let of_all = number(self.max_connections, file.max_connections);
        let of_one = number(self.max_connections_per_caller, file.max_connections_per_caller);
        let connections = serve::Limits {
            connections: or(of_all, connections.connections).max(8),
            connections_per_caller: or(of_one, connections.connections_per_caller).max(1),
        };
        let calls = number(self.calls_per_second, file.calls_per_second).unwrap_or(1000);
        let misses = number(self.misses_at_once, file.misses_at_once).unwrap_or(200);
        let again = number(self.misses_per_minute, file.misses_per_minute).unwrap_or(60);
        let calls = rate(calls.saturating_mul(CALLS_FOR), f64::from(calls));
        let misses = rate(misses, f64::from(again) / 60.0);
        let share = or(number(self.max_share_of_places, file.max_share_of_places), 50);
        Limits::new(connections, calls, misses, share)
    }
}

/// A full bucket; an empty one where there is no limit, and nothing is counted.
fn full(rate: Option<Rate>, now: Instant) -> Bucket {
    Bucket::full(rate.unwrap_or(Rate { at_once: 0.0, per_second: 0.0 }), now)
}

/// `None` for no limit.
fn rate(at_once: u32, per_second: f64) -> Option<Rate> {
    (at_once > 0).then(|| Rate { at_once: f64::from(at_once), per_second })
}

impl Limits {
    fn new(
        connections: serve::Limits,
        calls: Option<Rate>,
        misses: Option<Rate>,
        share: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            connections,
            calls,
            misses,
            share,
            shares: Mutex::default(),
            refused_calls: AtomicU64::new(0),
            refused_guesses: AtomicU64::new(0),
            refused_places: AtomicU64::new(0),
        }))
    }

    /// Of so many places, those of one caller.
    pub(crate) fn share(&self, of: usize) -> usize {
        (of * self.0.share / 100).clamp(1, of.max(1))
    }

    /// A caller has its share of places, and asked for more.
    pub(crate) fn refused_a_place(&self) {
        self.0.refused_places.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connections(&self) -> serve::Limits {
        self.0.connections
    }

    /// What this caller has had.
    pub(crate) fn of(&self, caller: &str) -> Arc<Share> {
        let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(caller) {
            return share.clone();
        }
        // As many as the directory has, and had: what it had, a restart forgets.
        let (name, now) = (caller.to_owned(), Instant::now());
        let had = Had {
            under_way: 0,
            calls: full(self.0.calls, now),
            misses: full(self.0.misses, now),
            told: None,
        };
        let share =
            Arc::new(Share { limits: self.clone(), name: name.clone(), had: Mutex::new(had) });
        shares.insert(name, share.clone());
        share
    }

    /// How often callers were refused, as Prometheus text.
    pub(crate) fn metrics(&self) -> String {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        format!(
            "# HELP frikort_callers_refused_total Calls refused since the caller had too many calls, \
             too many answers that nobody is there, or its share of places.\n\
             # TYPE frikort_callers_refused_total counter\n\
             frikort_callers_refused_total{{limit=\"calls\"}} {}\n\
             frikort_callers_refused_total{{limit=\"misses\"}} {}\n\
             frikort_callers_refused_total{{limit=\"places\"}} {}\n",
            of(&self.0.refused_calls),
            of(&self.0.refused_guesses),
            of(&self.0.refused_places),
        )
    }
}

impl Share {
    /// Counts a call, which is under way until what this gives is dropped; or says why there may be
    /// none now.
    pub(crate) fn call(self: &Arc<Self>) -> Result<UnderWay, Failure> {
        let now = Instant::now();
        let inner = &self.limits.0;
        let mut had = self.had();
        let called = match inner.calls {
            Some(rate) => had.calls.has_one(rate, now),
            None => Ok(()),
        };
        let called = called.map_err(|wait| {
            let message = "the caller has had as many calls as it may have in this time";
            Failure::new(ErrorReason::Overloaded, message).after(wait)
        });
        let has_room = called.and_then(|()| match had.under_way < UNDER_WAY {
            true => Ok(()),
            false => {
                let message = format!("the caller has {UNDER_WAY} calls under way");
                Err(Failure::new(ErrorReason::Overloaded, message))
            }
        });
        if let Err(failure) = has_room {
            inner.refused_calls.fetch_add(1, Ordering::Relaxed);
            return Err(failure);
        }
        had.calls.take(1);
        had.under_way += 1;
        Ok(UnderWay(self.clone()))
    }

    fn may_guess(&self) -> Result<(), Failure> {
        let Some(rate) = self.limits.0.misses else { return Ok(()) };
        let (now, mut had) = (Instant::now(), self.had());
        let Err(wait) = had.misses.has_one(rate, now) else { return Ok(()) };
        self.limits.0.refused_guesses.fetch_add(1, Ordering::Relaxed);
        if had.told.is_none_or(|told| now - told >= ALARM_PAUSE) {
            had.told = Some(now);
            let caller = &self.name;
            tracing::warn!(
                caller,
                "GUESSING? the caller asks about too many who are nobody; refused"
            );
        }
        let message = "the caller was answered too often that nobody is there";
        Err(Failure::new(ErrorReason::Overloaded, message).after(wait))
    }

    fn had(&self) -> MutexGuard<'_, Had> {
        self.had.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Share>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.had().under_way -= 1;
    }
}

/// Counts answers that nobody is there, for handlers that give several in one call: the guard sees
/// only how a call ends.
#[derive(Clone, Debug, Default)]
pub struct Misses(Option<Arc<Share>>);

impl Misses {
    /// For a call of a caller in this role.
    pub(crate) fn of(role: Role, share: &Arc<Share>) -> Self {
        Self(counts_misses(role).then(|| share.clone()))
    }

    /// Those of the caller whom the guard has let through.
    pub fn within(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Whether the caller may go on.
    pub fn allowed(&self) -> Result<(), Failure> {
        self.0.as_ref().map_or(Ok(()), |share| share.may_guess())
    }

    /// The caller was answered so often that nobody is there.
    pub fn count(&self, number: u32) {
        // What is owed beyond an empty bucket is waited for.
        self.0.iter().for_each(|share| share.had().misses.take(number));
    }
}

/// Municipalities look up who has no card, and grant one; the operator does as they do.
fn counts_misses(role: Role) -> bool {
    match role {
        Role::Employer | Role::Benefit | Role::Tax => true,
        Role::Municipality | Role::Auditor | Role::Operator => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(calls: u32, misses: u32) -> Limits {
        let (calls, misses) = (rate(calls, f64::from(calls)), rate(misses, 1.0));
        Limits::new(serve::Limits::default(), calls, misses, 50)
    }

    #[test]
    fn too_many_calls_are_refused_by_caller() {
        let limits = limits(3, 0);
        let (one, other) = (limits.of("one"), limits.of("other"));
        let calls: Vec<_> = (0..4).map(|_| one.call()).collect();
        assert!(calls[..3].iter().all(Result::is_ok));
        let refused = calls[3].as_ref().unwrap_err();
        assert_eq!(refused.reason, ErrorReason::Overloaded);
        assert!(refused.retry_delay().unwrap() <= Duration::from_secs(1));
        assert!(other.call().is_ok());
        assert!(limits.of("one").call().is_err(), "by name");
        assert_eq!(one.had().under_way, 3);
        drop(calls);
        assert_eq!(one.had().under_way, 0);
        assert!(limits.metrics().contains("{limit=\"calls\"} 2\n"));
    }

    #[test]
    fn calls_under_way_are_bounded() {
        let limits = limits(0, 0);
        let share = limits.of("one");
        let calls: Vec<_> = (0..=UNDER_WAY).filter_map(|_| share.call().ok()).collect();
        assert_eq!(calls.len(), UNDER_WAY);
    }

    #[test]
    fn who_guesses_is_refused_and_a_municipality_is_not() {
        let limits = limits(0, 2);
        for role in Role::ALL {
            let misses = Misses::of(role, &limits.of(role.name()));
            misses.count(5);
            let allowed = misses.allowed();
            let counts = matches!(role, Role::Employer | Role::Benefit | Role::Tax);
            assert_eq!(allowed.is_err(), counts, "{role:?}");
            let Err(refused) = allowed else { continue };
            // Four are owed, one a second.
            let wait = refused.retry_delay().unwrap();
            assert!((3..=4).contains(&wait.as_secs()), "{wait:?}");
        }
        assert!(limits.metrics().contains("{limit=\"misses\"} 3\n"));
    }
}
