//! The card itself: when it is, or was, active, whose it is, and what follows from that alone. What
//! must stay out: the decisions that made it (`visitation`), and who may make one (`decide`).

use time::{Date, Month};

use crate::{MunicipalityCode, Period, decide::Rejection};

/// Where a card stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardStatus {
    /// The active days have no end.
    Active,
    /// There is a last active day.
    Deactivated,
}

/// A card as its decisions have made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The responsible municipality (handlekommune).
    pub municipality: MunicipalityCode,
    /// Where it stands.
    pub status: CardStatus,
    /// First and last day of each longest run of active days, oldest first; no last day while active (C12).
    pub periods: Vec<(Date, Option<Date>)>,
    /// The calendar year of the last grant or control (C9).
    pub controlled_in: i32,
}

/// The day on which somebody becomes 18 (C8); who was born on 29 February does so on 1 March.
pub(crate) fn comes_of_age(born: Date) -> Option<Date> {
    let year = born.year() + 18;
    let birthday = Date::from_calendar_date(year, born.month(), born.day());
    birthday.or_else(|_| Date::from_calendar_date(year, Month::March, 1)).ok()
}

/// The last day on which the control after a grant or control of that year is in time (C9).
pub fn control_due(controlled_in: i32) -> Option<Date> {
    Date::from_calendar_date(controlled_in + 2, Month::December, 31).ok()
}

impl Card {
    /// The last day on which the next control is in time: the end of the second year after the
    /// last grant or control (C9). `None` while the card is deactivated.
    pub fn control_due(&self) -> Option<Date> {
        control_due(self.controlled_in).filter(|_| self.status == CardStatus::Active)
    }

    /// The first day of the open period; `None` once deactivated.
    pub(crate) fn open_since(&self) -> Option<Date> {
        self.periods.last().filter(|(_, end)| end.is_none()).map(|(first, _)| *first)
    }

    /// The first day of the first period that has one of these days; `last` is `None` where they have no end.
    pub(crate) fn active_within(&self, first: Date, last: Option<Date>) -> Option<Date> {
        let meets = |(begin, end): &&(Date, Option<Date>)| {
            last.is_none_or(|last| *begin <= last) && end.is_none_or(|end| first <= end)
        };
        self.periods.iter().find(meets).map(|(begin, _)| *begin)
    }

    /// Whether the card was active on every day of the work (C1, C2).
    pub(crate) fn check_covers(&self, work: Period) -> Result<(), Rejection> {
        let holds = |(first, end): &&(Date, Option<Date>)| {
            *first <= work.first && end.is_none_or(|end| work.first <= end)
        };
        let (first_uncovered_day, split_at) = match self.periods.iter().find(holds) {
            Some((_, end)) => {
                match end.and_then(Date::next_day).filter(|day| work.contains(*day)) {
                    Some(day) => (day, Some(day)),
                    None => return Ok(()),
                }
            }
            None => {
                let mut begins = self.periods.iter().map(|(first, _)| *first);
                (work.first, begins.find(|first| work.contains(*first)))
            }
        };
        Err(Rejection::NotCovered { first_uncovered_day, split_at })
    }
}

/// A decision that stands, as far as it says whether the card is active (C12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EffectiveDecision {
    /// The first active day of a grant or reactivation, the last one of a deactivation.
    pub(crate) date: Date,
    /// Whether it is a grant or reactivation.
    pub(crate) activates: bool,
}

/// The longest runs of active days that come of decisions in the order in which they were recorded. Each day
/// is as the decision with the latest date up to it says; of two with the same date, the later recorded one.
pub(crate) fn active_periods(mut decisions: Vec<EffectiveDecision>) -> Vec<(Date, Option<Date>)> {
    decisions.sort_by_key(|decision| decision.date);
    let mut periods: Vec<(Date, Option<Date>)> = Vec::new();
    for EffectiveDecision { date, activates } in decisions {
        match periods.last_mut() {
            Some((_, end)) if !activates => *end = end.or(Some(date)),
            None if !activates => {}
            // The period goes on: it has no end, or ended on this day or the day before.
            Some((_, end)) if end.is_none_or(|end| end.next_day() >= Some(date)) => *end = None,
            _ => periods.push((date, None)),
        }
    }
    periods
}

/// First and last of the days that a decision to activate from `date`, recorded now, would decide about: up
/// to the next decision with a later date. No last day where there is none.
pub(crate) fn activated_days(decisions: &[EffectiveDecision], date: Date) -> (Date, Option<Date>) {
    let later = decisions.iter().filter(|decision| decision.date > date);
    // Of two with one date, the one that activates decides about that day already.
    let next = later.min_by_key(|decision| (decision.date, !decision.activates));
    let last = next.and_then(|next| match next.activates {
        true => next.date.previous_day(),
        false => Some(next.date),
    });
    (date, last)
}
