//! When the card was active, and who decides.

use super::{Day, Decision, Kind, Municipality, Refusal};

/// A card as its decisions make it, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Who is responsible.
    pub municipality: Municipality,
    /// First and last active day; only the last period may be open.
    pub periods: Vec<(Day, Option<Day>)>,
    /// No deactivation stands.
    pub active: bool,
    controlled_in: i32,
}

impl Card {
    /// The card after these decisions; none when it was never granted.
    pub fn after(decisions: &[&Decision]) -> Option<Self> {
        let mut card: Option<Self> = None;
        // C5: as if it had never been.
        for decision in decisions.iter().filter(|decision| !is_reversed(decision, decisions)) {
            if let Kind::Grant { .. } = decision.kind {
                card.get_or_insert(Self {
                    municipality: decision.municipality,
                    periods: Vec::new(),
                    active: false,
                    controlled_in: 0,
                });
            }
            if let Some(card) = &mut card {
                card.take(decision);
            }
        }
        card
    }

    fn take(&mut self, decision: &Decision) {
        match &decision.kind {
            Kind::Grant { from, .. } => {
                self.municipality = decision.municipality;
                self.controlled_in = self.controlled_in.max(decision.decided.year());
                self.open(*from);
            }
            Kind::Reactivate { from } => self.open(*from),
            Kind::Deactivate { last_day, .. } => {
                self.active = false;
                let mut kept = Vec::new();
                for (first, last) in &self.periods {
                    // A period that would begin after the last day was never active.
                    if first <= last_day {
                        let last = last.map_or(*last_day, |last| last.min(*last_day));
                        kept.push((*first, Some(last)));
                    }
                }
                self.periods = kept;
            }
            Kind::Transfer { to } => self.municipality = *to,
            Kind::Control { .. } => {
                self.controlled_in = self.controlled_in.max(decision.decided.year());
            }
            Kind::Reject { .. }
            | Kind::Reissue { .. }
            | Kind::Reverse { .. }
            | Kind::Renumber { .. } => {}
        }
    }

    fn open(&mut self, from: Day) {
        self.active = true;
        match self.periods.last_mut() {
            // Open all the time, since what had closed it was reversed.
            Some((first, None)) => *first = from.min(*first),
            _ => self.periods.push((from, None)),
        }
    }

    /// Whether it is active on a day (C2).
    pub fn is_active_on(&self, day: Day) -> bool {
        self.periods
            .iter()
            .any(|(first, last)| *first <= day && last.is_none_or(|last| day <= last))
    }

    /// The first day of the first period that a card active from `day` on would meet (C6).
    pub fn meets(&self, day: Day) -> Option<Day> {
        let met = self.periods.iter().find(|(_, last)| last.is_none_or(|last| day <= last));
        met.map(|(first, _)| *first)
    }

    /// The first day of the open period.
    pub fn open_since(&self) -> Option<Day> {
        self.periods.last().filter(|(_, last)| last.is_none()).map(|(first, _)| *first)
    }

    /// C9.
    pub fn control_due(&self) -> Option<Day> {
        self.active.then(|| Day::new(self.controlled_in + 2, 12, 31))
    }

    /// C1, day by day.
    pub fn check_covers(&self, (first, last): (Day, Day)) -> Result<(), Refusal> {
        let mut uncovered = None;
        let mut covered_later = None;
        let mut day = first;
        while day <= last {
            if !self.is_active_on(day) {
                uncovered = uncovered.or(Some(day));
            } else if uncovered.is_some() {
                covered_later = covered_later.or(Some(day));
            }
            day = day.plus(1);
        }
        let Some(uncovered) = uncovered else { return Ok(()) };
        let refusal = Refusal::new("NOT_COVERED").with("first_uncovered_day", uncovered);
        let split_at = if uncovered > first { Some(uncovered) } else { covered_later };
        Err(match split_at {
            Some(day) => refusal.with("split_at", day),
            None => refusal,
        })
    }
}

/// Whether one of the decisions reverses this one (C5).
pub(super) fn is_reversed(decision: &Decision, decisions: &[&Decision]) -> bool {
    decisions.iter().any(|other| match &other.kind {
        Kind::Reverse { municipality, reference } => decision.is(*municipality, reference),
        _ => false,
    })
}
