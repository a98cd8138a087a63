//! A second, deliberately plain account of the rules: days in a row of booleans, allowance handed
//! out øre by øre. Slow, and with nothing in common with the program but the rules.

use std::collections::{BTreeMap, BTreeSet};

use time::{Date, Duration, macros::date};

/// The days of the model: 1 January 2024 is day 0, and the last is far beyond every date used.
const DAYS: usize = 1500;

/// The civil date of a day of the model.
pub(crate) fn date_of(day: usize) -> Date {
    date!(2024 - 01 - 01) + Duration::days(i64::try_from(day).expect("few days"))
}

/// What an employer states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) oere: u32,
    pub(crate) paid: usize,
    pub(crate) work: Option<(usize, usize)>,
}

impl Stated {
    fn work_days(self) -> (usize, usize) {
        self.work.unwrap_or((self.paid, self.paid))
    }

    /// Y1.
    fn attributed(self) -> usize {
        let begins = self.work.map_or(0, |(first, _)| first);
        if self.paid < begins { begins } else { self.paid }
    }

    pub(crate) fn year(self) -> i32 {
        date_of(self.attributed()).year()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) stated: Stated,
    pub(crate) unit: Option<u8>,
    pub(crate) first_stated: Stated,
    /// The event that put it into its year.
    pub(crate) order: u32,
    pub(crate) exempt: u32,
    pub(crate) revision: u32,
    pub(crate) cancelled: bool,
    last_change: Option<(Option<usize>, u32)>,
}

/// Employer and reference.
pub(crate) type Key = (usize, usize);

/// What must come of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Recorded,
    Replayed,
    Refused(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Date of each grant, reactivation (true) and deactivation that stands, in order of recording.
    decided: Vec<(usize, bool)>,
    pub(crate) municipality: Option<usize>,
    /// Those whose card it is, or was.
    were_responsible: BTreeSet<usize>,
    /// Year, in force from, limit.
    pub(crate) limits: Vec<(i32, usize, u32)>,
    pub(crate) today: usize,
    /// P10.
    pub(crate) payments_per_year: usize,
    pub(crate) payments: BTreeMap<Key, Payment>,
    /// The lowest limit of each year since it was last forgotten.
    pub(crate) lowest: BTreeMap<i32, u32>,
    events: u32,
}

fn refused(reason: &str) -> Expected {
    Expected::Refused(reason.to_owned())
}

impl Model {
    pub(crate) fn new(payments_per_year: usize) -> Self {
        Self {
            decided: Vec::new(),
            municipality: None,
            were_responsible: BTreeSet::new(),
            limits: Vec::new(),
            today: 0,
            payments_per_year,
            payments: BTreeMap::new(),
            lowest: BTreeMap::new(),
            events: 0,
        }
    }

    /// The limit of a year today (Y5): walk the days to today, and keep what came into force last; where
    /// nothing did, walk on to what comes first.
    pub(crate) fn limit(&self, year: i32) -> Option<u32> {
        let mut found = None;
        for day in 0..DAYS {
            if day > self.today && found.is_some() {
                break;
            }
            let today = self.limits.iter().rfind(|(of, from, _)| (*of, *from) == (year, day));
            found = today.map(|(_, _, limit)| *limit).or(found);
        }
        found
    }

    /// A9: a changed limit takes effect immediately.
    pub(crate) fn set_limit(&mut self, year: i32, from: usize, oere: u32) {
        self.limits.push((year, from, oere));
        self.settle_all();
    }

    /// Days pass, and each may put another limit in force.
    pub(crate) fn wait(&mut self, days: usize) {
        for _ in 0..days {
            self.today = (self.today + 1).min(700);
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        for year in [2024, 2025] {
            if let Some(limit) = self.limit(year) {
                self.settle(year, limit);
                let lowest = self.lowest.entry(year).or_insert(limit);
                *lowest = limit.min(*lowest);
            }
        }
    }

    /// The payments of a year that count, in order of registration.
    pub(crate) fn in_year(&self, year: i32) -> Vec<Key> {
        let counts = |payment: &Payment| !payment.cancelled && payment.stated.year() == year;
        let mut keys: Vec<Key> =
            self.payments.iter().filter(|(_, p)| counts(p)).map(|(key, _)| *key).collect();
        keys.sort_by_key(|key| self.payments[key].order);
        keys
    }

    /// A2, A5, A6: øre by øre, until used is the smaller of limit and sum.
    fn settle(&mut self, year: i32, limit: u32) {
        let keys = self.in_year(year);
        loop {
            let used: u32 = keys.iter().map(|key| self.payments[key].exempt).sum();
            let taxed =
                keys.iter().find(|k| self.payments[k].exempt < self.payments[k].stated.oere);
            let exempt = keys.iter().rev().find(|k| self.payments[k].exempt > 0);
            let (key, one_more) = match (taxed, exempt) {
                (Some(key), _) if used < limit => (key, true),
                (_, Some(key)) if used > limit => (key, false),
                _ => return,
            };
            let payment = self.payments.get_mut(key).expect("it is there");
            if one_more { payment.exempt += 1 } else { payment.exempt -= 1 }
        }
    }

    /// C1: the first day without a card, and where to split.
    fn uncovered(&self, stated: Stated) -> Option<String> {
        let (first, last) = stated.work_days();
        let gap = (first..=last).find(|day| !self.is_active_on(*day))?;
        let split = if gap > first {
            Some(gap)
        } else {
            (first..=last).find(|day| self.is_active_on(*day))
        };
        Some(format!("not covered {} {:?}", date_of(gap), split.map(date_of)))
    }

    fn no_limit(&self, year: i32) -> Option<Expected> {
        self.limit(year).is_none().then(|| Expected::Refused(format!("limit not set {year}")))
    }

    /// P10: whatever became of them.
    pub(crate) fn recorded_in(&self, year: i32) -> usize {
        self.payments.values().filter(|payment| payment.stated.year() == year).count()
    }

    fn no_room(&self, year: i32) -> Option<Expected> {
        let is_full = self.recorded_in(year) >= self.payments_per_year;
        is_full.then(|| Expected::Refused(format!("too many payments {year}")))
    }

    /// P9, as the list has it.
    pub(crate) fn report(
        &mut self,
        key: Key,
        stated: Stated,
        unit: Option<u8>,
        ordinary: bool,
        strict: bool,
    ) -> Expected {
        if !ordinary {
            return refused("supported work");
        }
        if self.municipality.is_none() {
            return refused("no card");
        }
        if let Some(before) = self.payments.get(&key) {
            let same = before.first_stated == stated && before.unit == unit;
            return if same { Expected::Replayed } else { refused("reference reused") };
        }
        if let Some(reason) = self.uncovered(stated) {
            return Expected::Refused(reason);
        }
        let year = stated.year();
        if let Some(expected) = self.no_limit(year).or_else(|| self.no_room(year)) {
            return expected;
        }
        let limit = self.limit(year).expect("checked");
        let mut after = self.clone();
        after.settle(year, limit);
        after.events += 1;
        let payment = Payment {
            stated,
            unit,
            first_stated: stated,
            order: after.events,
            exempt: 0,
            revision: 1,
            cancelled: false,
            last_change: None,
        };
        after.payments.insert(key, payment);
        after.settle(year, limit);
        if strict && after.payments[&key].exempt < stated.oere {
            return refused("limit exceeded");
        }
        *self = after;
        Expected::Recorded
    }

    /// The head of P9's list for corrections and cancellations.
    fn check_change(&self, key: Key, revision: u32, repeats: bool) -> Option<Expected> {
        let Some(payment) = self.payments.get(&key) else {
            return Some(refused("payment not found"));
        };
        if repeats {
            Some(Expected::Replayed)
        } else if payment.cancelled {
            Some(refused("payment cancelled"))
        } else if payment.revision != revision {
            Some(refused("revision mismatch"))
        } else {
            None
        }
    }

    pub(crate) fn correct(&mut self, key: Key, stated: Stated, revision: u32) -> Expected {
        let repeats = self
            .payments
            .get(&key)
            .is_some_and(|p| p.last_change == Some((None, revision)) && p.stated == stated);
        if let Some(expected) = self.check_change(key, revision, repeats) {
            return expected;
        }
        // P5: what was accepted stays so, unless its days of work change.
        let moves = self.payments[&key].stated.work_days() != stated.work_days();
        if let Some(reason) = self.uncovered(stated).filter(|_| moves) {
            return Expected::Refused(reason);
        }
        let (old, new) = (self.payments[&key].stated.year(), stated.year());
        if let Some(expected) = self.no_limit(new).or_else(|| self.no_limit(old)) {
            return expected;
        }
        if let Some(expected) = self.no_room(new).filter(|_| new != old) {
            return expected;
        }
        let limit = |year| self.limit(year).expect("checked");
        let limits = [(old, limit(old)), (new, limit(new))];
        limits.iter().for_each(|(year, limit)| self.settle(*year, *limit));
        self.events += 1;
        let events = self.events;
        let payment = self.payments.get_mut(&key).expect("checked");
        payment.revision += 1;
        payment.last_change = Some((None, revision));
        payment.stated = stated;
        if old == new {
            payment.exempt = payment.exempt.min(stated.oere);
        } else {
            (payment.exempt, payment.order) = (0, events);
        }
        limits.iter().for_each(|(year, limit)| self.settle(*year, *limit));
        Expected::Recorded
    }

    pub(crate) fn cancel(&mut self, key: Key, reason: usize, revision: u32) -> Expected {
        let repeats = self
            .payments
            .get(&key)
            .is_some_and(|p| p.last_change == Some((Some(reason), revision)));
        if let Some(expected) = self.check_change(key, revision, repeats) {
            return expected;
        }
        let year = self.payments[&key].stated.year();
        if let Some(expected) = self.no_limit(year) {
            return expected;
        }
        let limit = self.limit(year).expect("checked");
        self.settle(year, limit);
        self.events += 1;
        let payment = self.payments.get_mut(&key).expect("checked");
        payment.revision += 1;
        payment.last_change = Some((Some(reason), revision));
        payment.cancelled = true;
        payment.exempt = 0;
        self.settle(year, limit);
        Expected::Recorded
    }

    /// C12: which decision says whether the card is active on a day. A deactivation works after its day (C2).
    fn decides(&self, day: usize) -> Option<usize> {
        let is_about = |(date, opens): (usize, bool)| if opens { date <= day } else { date < day };
        let about = (0..self.decided.len()).filter(|at| is_about(self.decided[*at]));
        about.max_by_key(|at| (self.decided[*at].0, *at))
    }

    fn is_active_on(&self, day: usize) -> bool {
        self.decides(day).is_some_and(|at| self.decided[at].1)
    }

    /// Whether the active days have no end.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active_on(usize::MAX)
    }

    /// C13: whether one that opens from a day on, recorded now, would say of an active day that it is one.
    fn opens_active_days(&self, from: usize) -> bool {
        let mut with = self.clone();
        with.decided.push((from, true));
        let own = Some(self.decided.len());
        let mut days = (from..DAYS).chain([usize::MAX]);
        days.any(|day| with.decides(day) == own && self.is_active_on(day))
    }

    pub(crate) fn grant(&mut self, municipality: usize, from: usize) -> Expected {
        // C6.
        if self.is_active() || self.opens_active_days(from) {
            return refused("card already active");
        }
        self.decided.push((from, true));
        self.municipality = Some(municipality);
        self.were_responsible.insert(municipality);
        Expected::Recorded
    }

    pub(crate) fn deactivate(&mut self, municipality: usize, last_day: usize) -> Expected {
        if let Some(expected) = self.not_responsible(municipality) {
            return expected;
        }
        if !self.is_active() {
            return refused("no active card");
        }
        self.decided.push((last_day, false));
        Expected::Recorded
    }

    /// C3: payments whose work goes on after the last active day, where the card does not.
    pub(crate) fn after(&self, last_day: usize) -> Vec<Key> {
        let after = |p: &Payment| {
            let (first, last) = p.stated.work_days();
            !p.cancelled && last > last_day && (first..=last).any(|day| !self.is_active_on(day))
        };
        self.payments.iter().filter(|(_, p)| after(p)).map(|(key, _)| *key).collect()
    }

    pub(crate) fn reactivate(&mut self, municipality: usize, from: usize) -> Expected {
        if let Some(expected) = self.not_responsible(municipality) {
            return expected;
        }
        if self.opens_active_days(from) {
            return refused("card not deactivated");
        }
        self.decided.push((from, true));
        Expected::Recorded
    }

    fn not_responsible(&self, municipality: usize) -> Option<Expected> {
        if !self.were_responsible.contains(&municipality) {
            return Some(refused("no card"));
        }
        (self.municipality != Some(municipality)).then(|| refused("not responsible"))
    }

    /// P4: the same amount, attribution date and days of work.
    pub(crate) fn has_twin(&self, key: Key) -> bool {
        let own = &self.payments[&key];
        self.payments.iter().any(|(other, p)| {
            *other != key
                && other.0 == key.0
                && !p.cancelled
                && p.stated.oere == own.stated.oere
                && p.stated.attributed() == own.stated.attributed()
                && p.stated.work_days() == own.stated.work_days()
        })
    }
}
