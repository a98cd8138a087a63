//! The door: how many connections there are, and whose.
//!
//! ```text
//!   accepted ──▶ a stranger's place ──first call of a known caller──▶ one of the caller's places
//!                  │ few, and fewer by address                          so many by caller
//!                  └─ all taken: whoever has stood there longest goes
//! ```
//!
//! An honest caller stands among strangers for a moment only, so however many strangers come, it
//! finds a place and keeps it for as long as it needs it. What everybody may ask is counted here too, by
//! connection. What must stay out: who a caller is, and how many calls it makes as that.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    address::{AddressGroup, RecentConnections},
    bucket::{Bucket, Rate},
};

/// Strangers in all, where there may be so many connections.
pub(crate) const STRANGERS: usize = 1024;

/// Strangers of one address group.
const STRANGERS_PER_ADDRESS: usize = 256;

/// What a connection may ask of what everybody may ask, known or not: far above what somebody needs
/// who looks whether a service is well. By connection, so that nobody else uses it up.
const OPEN: Rate = Rate { at_once: 200.0, per_second: 50.0 };

/// How long a new connection may take until it has sent a request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// Calls of nobody's that are refused on a stranger's connection before it is closed, and on one that
/// was a caller's: whose token runs out has others under way.
const REFUSED: u32 = 16;
const REFUSED_OF_CALLERS: u32 = 1000;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all; a quarter of them, but not more than 1024, strangers'.
    pub connections: usize,
    /// Of one caller.
    pub connections_per_caller: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, connections_per_caller: 64 }
    }
}

/// Counts connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// By number, so the longest there is the first.
    strangers: BTreeMap<u64, (AddressGroup, CancellationToken)>,
    /// The same by address group, of those that have any.
    strangers_of: HashMap<AddressGroup, BTreeSet<u64>>,
    recent: RecentConnections,
    callers: HashMap<String, usize>,
    known: usize,
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    inner: Arc<Inner>,
    number: u64,
    /// Whose it is, once that is known; `None` where nobody is asked who they are.
    caller: OnceLock<Option<String>>,
    has_asked: AtomicBool,
    refused: AtomicU32,
    open: Mutex<Bucket>,
    /// A call of it was refused since its caller has had too many, and nobody has looked since.
    asks_too_much: AtomicBool,
    go: CancellationToken,
}

impl Door {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, inside: Mutex::default() }))
    }

    /// A place for a new connection, unless this address comes too often, or there is none that a
    /// stranger has. `is_known`: whoever comes is believed.
    pub(crate) fn enter(&self, address: IpAddr, is_known: bool) -> Option<Arc<Place>> {
        let (limits, group) = (self.0.limits, AddressGroup::from(address));
        let mut inside = self.0.inside();
        if !is_known && !inside.recent.admit(group, Instant::now()) {
            return None;
        }
        if inside.strangers.len() + inside.known >= limits.connections {
            inside.make_room(None).then_some(())?;
        }
        let number = inside.next;
        inside.next += 1;
        let (go, caller) = (CancellationToken::new(), OnceLock::new());
        if is_known {
            inside.known += 1;
            let _ = caller.set(None);
        } else {
            let of_group = inside.strangers_of.get(&group).map_or(0, BTreeSet::len);
            if of_group >= STRANGERS_PER_ADDRESS {
                inside.make_room(Some(group));
            }
            if inside.strangers.len() >= limits.strangers() {
                inside.make_room(None);
            }
            inside.strangers_of.entry(group).or_default().insert(number);
            inside.strangers.insert(number, (group, go.clone()));
        }
        drop(inside);
        Some(Arc::new(Place {
            inner: self.0.clone(),
            number,
            caller,
            has_asked: AtomicBool::new(false),
            refused: AtomicU32::new(0),
            open: Mutex::new(Bucket::full(OPEN, Instant::now())),
            asks_too_much: AtomicBool::new(false),
            go,
        }))
    }
}

impl Limits {
    fn strangers(&self) -> usize {
        STRANGERS.min(self.connections / 4).max(1)
    }
}

impl Inner {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Sends the stranger away who has been here longest, of an address group or of all; whether
    /// there is one.
    fn make_room(&mut self, of: Option<AddressGroup>) -> bool {
        let number = match of {
            Some(group) => self.strangers_of.get(&group).and_then(BTreeSet::first).copied(),
            None => self.strangers.first_key_value().map(|(number, _)| *number),
        };
        let Some(go) = number.and_then(|number| self.leave(number)) else { return false };
        go.cancel();
        true
    }

    /// Takes a stranger out.
    fn leave(&mut self, number: u64) -> Option<CancellationToken> {
        let (group, go) = self.strangers.remove(&number)?;
        if let Entry::Occupied(mut of_group) = self.strangers_of.entry(group) {
            of_group.get_mut().remove(&number);
            if of_group.get().is_empty() {
                of_group.remove();
            }
        }
        Some(go)
    }
}

impl Place {
    /// Gives the place to the caller, whose call has come; `false` when the caller has as many as
    /// it may have, or all callers together. A connection that several callers share is the first
    /// one's.
    pub(crate) fn is_of(&self, caller: &str) -> bool {
        if self.caller.get().is_some() {
            return true;
        }
        let limits = self.inner.limits;
        let mut inside = self.inner.inside();
        // Another call of the connection may have been faster.
        if self.caller.get().is_some() {
            return true;
        }
        let has = inside.callers.get(caller).copied().unwrap_or_default();
        let is_full = inside.known >= limits.connections - limits.strangers();
        if has >= limits.connections_per_caller || is_full || inside.leave(self.number).is_none() {
            return false;
        }
        inside.callers.insert(caller.to_owned(), has + 1);
        inside.known += 1;
        let _ = self.caller.set(Some(caller.to_owned()));
        true
    }

    /// Whether it is a caller's.
    pub(crate) fn is_known(&self) -> bool {
        self.caller.get().is_some()
    }

    /// A request has come.
    pub(crate) fn ask(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// A call has been refused since nobody knows who calls. Whoever goes on is cut off.
    pub(crate) fn refuse(&self) {
        let most = if self.is_known() { REFUSED_OF_CALLERS } else { REFUSED };
        if self.refused.fetch_add(1, Ordering::Relaxed) >= most {
            self.go.cancel();
        }
    }

    /// Counts one of what everybody may ask; else tells how long until there may be another.
    pub(crate) fn ask_openly(&self) -> Result<(), Duration> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.take_one(OPEN, Instant::now())
    }

    /// A call has been refused since its caller has had too many.
    pub(crate) fn ask_too_much(&self) {
        self.asks_too_much.store(true, Ordering::Relaxed);
    }

    /// Whether that has happened since somebody looked.
    pub(crate) fn has_asked_too_much(&self) -> bool {
        self.asks_too_much.swap(false, Ordering::Relaxed)
    }

    /// Whether it was sent away.
    pub(crate) fn has_to_go(&self) -> bool {
        self.go.is_cancelled()
    }

    /// Ends when the connection has to go, with the reason.
    pub(crate) async fn until_it_has_to_go(self: Arc<Self>) -> &'static str {
        let asks_nothing = async {
            sleep(FIRST_REQUEST).await;
            if self.has_asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.go.cancelled() => "others need its place, or its calls were refused too often",
            () = asks_nothing => {
                // Whoever looks again is told the same.
                self.go.cancel();
                "it has not sent a request in time"
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.inner.inside();
        let Some(caller) = self.caller.get() else {
            inside.leave(self.number);
            return;
        };
        inside.known -= 1;
        let Some(caller) = caller else { return };
        if let Some(has) = inside.callers.get_mut(caller) {
            *has -= 1;
            if *has == 0 {
                inside.callers.remove(caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn address(number: usize) -> IpAddr {
        IpAddr::from([
            127,
            1,
            u8::try_from(number / 250).unwrap(),
            u8::try_from(number % 250).unwrap(),
        ])
    }

    #[test]
    fn whoever_stood_there_longest_goes_and_callers_stay() {
        let door = Door::new(Limits { connections: 16, connections_per_caller: 2 });
        let caller = door.enter(ADDRESS, false).unwrap();
        assert!(caller.is_of("somebody") && caller.is_of("somebody"));
        let strangers: Vec<_> = (0..6).map(|n| door.enter(address(n), false).unwrap()).collect();
        let gone: Vec<_> = strangers.iter().map(|place| place.has_to_go()).collect();
        assert_eq!(gone, [true, true, false, false, false, false]);
        assert!(!caller.has_to_go());
        // Who was sent away is nobody's caller any more.
        assert!(!strangers[0].is_of("somebody") && strangers[5].is_of("somebody"));
        assert!(!strangers[4].is_of("somebody"), "a third connection");
        assert!(strangers[4].is_of("another"));
        drop(caller);
        assert!(strangers[3].is_of("somebody"));
        drop(strangers);
        let inside = door.0.inside();
        assert!(inside.strangers.is_empty() && inside.callers.is_empty() && inside.known == 0);
    }

    #[test]
    fn callers_leave_room_for_strangers_and_never_go_for_them() {
        let door = Door::new(Limits { connections: 8, connections_per_caller: 100 });
        let places: Vec<_> = (0..8)
            .map(|n| door.enter(address(n), false).unwrap())
            .map(|place| (place.is_of("somebody"), place))
            .collect();
        assert_eq!(places.iter().filter(|(is_known, _)| *is_known).count(), 6);
        assert!(places.iter().all(|(is_known, place)| !(*is_known && place.has_to_go())));
        assert!(door.enter(address(9), false).is_some());
    }

    #[test]
    fn one_address_has_so_many_and_comes_so_often() {
        let door = Door::new(Limits { connections: 4096, connections_per_caller: 64 });
        let other = door.enter(address(1), false).unwrap();
        let now = Instant::now();
        let places: Vec<_> = (0..600).filter_map(|_| door.enter(ADDRESS, false)).collect();
        let since = usize::try_from(now.elapsed().as_secs()).unwrap();
        assert!((256..=257 + 64 * (since + 1)).contains(&places.len()), "{}", places.len());
        let stay = places.iter().filter(|place| !place.has_to_go()).count();
        assert!(stay <= STRANGERS_PER_ADDRESS && !other.has_to_go());
        let mut inside = door.0.inside();
        assert!(inside.recent.admit(ADDRESS.into(), Instant::now() + Duration::from_secs(1)));
    }

    #[test]
    fn the_addresses_of_an_ipv6_network_have_what_one_address_has() {
        let door = Door::new(Limits { connections: 4096, connections_per_caller: 64 });
        let in_network =
            |network: u16, host| IpAddr::from([0x2001, 0x0db8, 0, network, host, host, host, host]);
        let other = door.enter(in_network(2, 1), false).unwrap();
        let now = Instant::now();
        let places: Vec<_> =
            (0..600).filter_map(|host| door.enter(in_network(1, host), false)).collect();
        let since = usize::try_from(now.elapsed().as_secs()).unwrap();
        assert!(places.len() <= 257 + 64 * (since + 1), "{}", places.len());
        let stay = places.iter().filter(|place| !place.has_to_go()).count();
        assert!(stay <= STRANGERS_PER_ADDRESS && !other.has_to_go());
    }

    #[test]
    fn what_is_counted_is_bounded_whatever_addresses_come() {
        let door = Door::new(Limits { connections: 64, connections_per_caller: 2 });
        let places: Vec<_> = (0..50_000_u32)
            .map(|number| door.enter(IpAddr::from(number.to_be_bytes()), false).unwrap())
            .collect();
        let open = places.iter().filter(|place| !place.has_to_go()).count();
        {
            let inside = door.0.inside();
            assert_eq!((open, inside.strangers.len(), inside.strangers_of.len()), (16, 16, 16));
        }
        drop(places);
        let inside = door.0.inside();
        assert!(inside.strangers.is_empty() && inside.strangers_of.is_empty());
    }

    #[tokio::test]
    async fn whose_calls_are_refused_too_often_goes() {
        let door = Door::new(Limits::default());
        let place = door.enter(ADDRESS, false).unwrap();
        (0..REFUSED).for_each(|_| place.refuse());
        assert!(!place.has_to_go());
        place.refuse();
        assert!(place.until_it_has_to_go().await.contains("refused"));
    }
}
