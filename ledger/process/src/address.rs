//! Limits by address: which addresses are counted as one, and how many connections each of them has
//! opened lately.
//!
//! Not here: what a connection is admitted to, and how many are open.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Address groups whose new connections are counted at the same time.
const COUNTED_GROUPS: usize = 10_000;

/// New connections of one address group: a burst, and one more after each interval.
const BURST: u32 = 256;
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 64);

/// The network part of an IPv6 address. The holder of the network chooses the other 64 bits freely.
const NETWORK_BITS: u128 = !(u64::MAX as u128);

/// The addresses that are counted as one: an IPv4 address, also where it is mapped into IPv6, or all
/// addresses of an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AddressGroup(IpAddr);

impl From<IpAddr> for AddressGroup {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK_BITS))
            }
        })
    }
}

/// Counts new connections by address group.
///
/// A group that has opened none lately needs no entry. When all [`COUNTED_GROUPS`] entries are taken,
/// a new group replaces the one that would soonest need none. So an entry of a group that has used up
/// much is lost only to [`COUNTED_GROUPS`] others that have each used up as much.
#[derive(Debug, Default)]
pub(crate) struct RecentConnections {
    /// When the group may open a whole [`BURST`] again.
    recovers_at: HashMap<AddressGroup, Instant>,
    /// The same, by that instant.
    by_recovery: BTreeSet<(Instant, AddressGroup)>,
}

impl RecentConnections {
    /// Counts a new connection; `false` if the group has opened too many.
    pub(crate) fn admit(&mut self, group: AddressGroup, now: Instant) -> bool {
        while self.by_recovery.first().is_some_and(|(recovers_at, _)| *recovers_at <= now) {
            self.remove_first();
        }
        let before = self.recovers_at.get(&group).copied();
        let used_up_until = before.unwrap_or(now);
        if used_up_until.saturating_duration_since(now) > INTERVAL * (BURST - 1) {
            return false;
        }
        match before {
            Some(before) => drop(self.by_recovery.remove(&(before, group))),
            None if self.recovers_at.len() >= COUNTED_GROUPS => self.remove_first(),
            None => {}
        }
        let recovers_at = used_up_until + INTERVAL;
        self.recovers_at.insert(group, recovers_at);
        self.by_recovery.insert((recovers_at, group));
        true
    }

    fn remove_first(&mut self) {
        if let Some((_, group)) = self.by_recovery.pop_first() {
            self.recovers_at.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn group(address: &str) -> AddressGroup {
        address.parse::<IpAddr>().unwrap().into()
    }

    fn ipv4(number: u32) -> AddressGroup {
        IpAddr::V4(Ipv4Addr::from_bits(number)).into()
    }

    /// How many of so many new connections are admitted.
    fn admitted(recent: &mut RecentConnections, group: AddressGroup, now: Instant, of: u32) -> u32 {
        (0..of).map(|_| u32::from(recent.admit(group, now))).sum()
    }

    fn entries(recent: &RecentConnections) -> usize {
        assert_eq!(recent.recovers_at.len(), recent.by_recovery.len());
        recent.recovers_at.len()
    }

    #[test]
    fn an_ipv6_network_is_one_group_and_a_mapped_address_is_the_ipv4_address() {
        assert_eq!(group("2001:db8:1:2::1"), group("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(group("2001:db8:1:2::1"), group("2001:db8:1:3::1"));
        assert_eq!(group("::ffff:192.0.2.7"), group("192.0.2.7"));
        assert_ne!(group("::ffff:192.0.2.7"), group("::ffff:192.0.2.8"));
        assert_ne!(group("192.0.2.7"), group("192.0.2.8"));
        // Not mapped, though it ends alike.
        assert_eq!(group("64:ff9b::192.0.2.7"), group("64:ff9b::192.0.2.8"));
    }

    #[test]
    fn a_group_opens_a_burst_and_then_one_an_interval() {
        let (mut recent, now) = (RecentConnections::default(), Instant::now());
        let (one, other) = (ipv4(1), ipv4(2));
        assert_eq!(admitted(&mut recent, one, now, 2 * BURST), BURST);
        assert_eq!(admitted(&mut recent, other, now, 1), 1);
        assert_eq!(admitted(&mut recent, one, now + 10 * INTERVAL, BURST), 10);
        let recovered = now + (BURST + 10) * INTERVAL;
        assert_eq!(admitted(&mut recent, one, recovered, 2 * BURST), BURST);
        assert_eq!(entries(&recent), 1, "the other has opened none lately");
    }

    #[test]
    fn as_many_groups_as_there_are_take_bounded_memory_and_reset_no_count() {
        let (mut recent, now) = (RecentConnections::default(), Instant::now());
        let busy: Vec<_> = (0..100).map(ipv4).collect();
        for group in &busy {
            assert_eq!(admitted(&mut recent, *group, now, BURST), BURST);
        }
        // All at one instant, as no flood can be; each is admitted.
        for number in 0..300_000_u128 {
            let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | number << 64 | 1);
            assert!(recent.admit(IpAddr::V6(address).into(), now));
            assert!(entries(&recent) <= COUNTED_GROUPS);
        }
        assert_eq!(entries(&recent), COUNTED_GROUPS);
        for group in &busy {
            assert!(!recent.admit(*group, now), "its count was reset");
        }
        assert!(recent.admit(ipv4(1000), now + BURST * INTERVAL));
        assert_eq!(entries(&recent), 1);
    }
}
