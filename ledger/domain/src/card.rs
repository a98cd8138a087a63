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

/// What a decision that stands says of days (C12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The first active day, or the last one.
    pub(crate) day: Date,
    /// Whether the card is active from then on, or not after it.
    pub(crate) opens: bool,
}

/// The longest runs of active days that come of turns in the order in which they were recorded: each day is
/// as the turn with the latest date up to it says, the later recorded one of two with the same date (C12).
pub(crate) fn active_periods(mut turns: Vec<Turn>) -> Vec<(Date, Option<Date>)> {
    turns.sort_by_key(|turn| turn.day);
    let mut periods: Vec<(Date, Option<Date>)> = Vec::new();
    for Turn { day, opens } in turns {
        match periods.last_mut() {
            Some((_, end)) if !opens => *end = end.or(Some(day)),
            None if !opens => {}
            // It goes on, or what had ended it the day before, or on the same day, ended nothing.
            Some((_, end)) if end.is_none_or(|end| end.next_day() >= Some(day)) => *end = None,
            _ => periods.push((day, None)),
        }
    }
    periods
}

/// The days of which a turn that opens on `day`, recorded now, would say that they are active: until
/// another one with a later date says something. No last day where none does.
pub(crate) fn opened_days(turns: &[Turn], day: Date) -> (Date, Option<Date>) {
    let later = turns.iter().filter(|turn| turn.day > day);
    // Of two on one day, the one that opens says something of that day already.
    let next = later.min_by_key(|turn| (turn.day, !turn.opens));
    let last =
        next.and_then(|next| if next.opens { next.day.previous_day() } else { Some(next.day) });
    (day, last)
}
