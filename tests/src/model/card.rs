//! When the card was active, and who decides.

use super::{Day, Decision, Kind, Municipality, Refusal};

/// A card as the decisions that stand make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Who is responsible.
    pub municipality: Municipality,
    /// First and last active day; only the last period may be open.
    pub periods: Vec<(Day, Option<Day>)>,
    /// The last period is open.
    pub active: bool,
    controlled_in: i32,
    says: Vec<DayDecision>,
}

/// A decision about active days (C12): from its date on, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DayDecision {
    date: Day,
    active: bool,
}

impl DayDecision {
    fn of(decision: &Decision) -> Option<Self> {
        match decision.kind {
            Kind::Grant { from, .. } | Kind::Reactivate { from } => {
                Some(Self { date: from, active: true })
            }
            Kind::Deactivate { last_day, .. } => Some(Self { date: last_day, active: false }),
            _ => None,
        }
    }

    /// Whether it decides about a day where no other one does.
    fn is_about(self, day: Day) -> bool {
        if self.active { self.date <= day } else { self.date < day }
    }
}

/// Which decision, in order of recording, decides about a day: the one with the latest date, the later of two.
fn decides(says: &[DayDecision], day: Day) -> Option<usize> {
    let mut found: Option<usize> = None;
    for (at, one) in says.iter().enumerate().filter(|(_, one)| one.is_about(day)) {
        if found.is_none_or(|found| says[found].date <= one.date) {
            found = Some(at);
        }
    }
    found
}

fn is_active(says: &[DayDecision], day: Day) -> bool {
    decides(says, day).is_some_and(|at| says[at].active)
}

/// The days on which something may begin or end, oldest first.
fn boundary_days(says: &[DayDecision]) -> Vec<Day> {
    let mut days: Vec<Day> = says.iter().flat_map(|one| [one.date, one.date.plus(1)]).collect();
    days.sort();
    days
}

fn periods(says: &[DayDecision]) -> Vec<(Day, Option<Day>)> {
    let mut periods = Vec::new();
    let mut since = None;
    for day in boundary_days(says) {
        match (since, is_active(says, day)) {
            (None, true) => since = Some(day),
            (Some(first), false) => {
                periods.push((first, Some(day.plus(-1))));
                since = None;
            }
            _ => {}
        }
    }
    periods.extend(since.map(|first| (first, None)));
    periods
}

impl Card {
    /// The card after these decisions; none when it was never granted.
    pub fn after(decisions: &[&Decision]) -> Option<Self> {
        let (mut responsible, mut controlled_in) = (None, 0);
        for decision in decisions {
            match decision.kind {
                Kind::Grant { .. } => responsible = Some(decision.municipality),
                Kind::Transfer { to } => responsible = Some(to),
                _ => {}
            }
            if let Kind::Grant { .. } | Kind::Control { .. } = decision.kind {
                controlled_in = controlled_in.max(decision.decided.year());
            }
        }
        // C5: as if it had never been.
        let stand = decisions.iter().filter(|decision| !is_reversed(decision, decisions));
        let says: Vec<DayDecision> =
            stand.filter_map(|decision| DayDecision::of(decision)).collect();
        let periods = periods(&says);
        let active = periods.last().is_some_and(|(_, last)| last.is_none());
        Some(Self { municipality: responsible?, periods, active, controlled_in, says })
    }

    /// Whether it is active on a day (C2).
    pub fn is_active_on(&self, day: Day) -> bool {
        self.periods
            .iter()
            .any(|(first, last)| *first <= day && last.is_none_or(|last| day <= last))
    }

    /// C13: the first day of the first period that has days of which a decision that opens from `day` on,
    /// recorded now, would say that they are active.
    pub fn meets(&self, day: Day) -> Option<Day> {
        let mut with: Vec<DayDecision> = self.says.clone();
        with.push(DayDecision { date: day, active: true });
        let own = Some(self.says.len());
        let opened = |at: &Day| decides(&with, *at) == own && is_active(&self.says, *at);
        let met = boundary_days(&with).into_iter().find(opened)?;
        let holds = |(first, last): &&(Day, Option<Day>)| {
            *first <= met && last.is_none_or(|last| met <= last)
        };
        self.periods.iter().find(holds).map(|(first, _)| *first)
    }

    /// The first day of the first period that has a day from `day` on.
    pub fn goes_on_from(&self, day: Day) -> Option<Day> {
        let found = self.periods.iter().find(|(_, last)| last.is_none_or(|last| day <= last));
        found.map(|(first, _)| *first)
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
