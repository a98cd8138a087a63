//! The card itself: when it is, or was, active, whose it is, and what follows from that alone. What
//! must stay out: the decisions that made it (`visitation`), and who may make one (`decide`).

use time::{Date, Month};

use crate::{MunicipalityCode, Period, decide::Rejection};

/// Where a card stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardStatus {
    /// No deactivation is recorded after the last grant or reactivation.
    Active,
    /// A deactivation is recorded.
    Deactivated,
}

/// A card as its decisions have made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The responsible municipality (handlekommune).
    pub municipality: MunicipalityCode,
    /// Where it stands.
    pub status: CardStatus,
    /// First and last active day, in order; no last day while active.
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
    pub(crate) fn new(municipality: MunicipalityCode) -> Self {
        Self { municipality, status: CardStatus::Active, periods: Vec::new(), controlled_in: 0 }
    }

    /// The last day on which the next control is in time: the end of the second year after the
    /// last grant or control (C9). `None` while the card is deactivated.
    pub fn control_due(&self) -> Option<Date> {
        control_due(self.controlled_in).filter(|_| self.status == CardStatus::Active)
    }

    /// What is open already, since a deactivation in between was reversed, stays one period.
    pub(crate) fn open(&mut self, first_day: Date) {
        self.status = CardStatus::Active;
        match self.periods.last_mut() {
            Some((open_since, None)) => *open_since = first_day.min(*open_since),
            _ => self.periods.push((first_day, None)),
        }
    }

    pub(crate) fn close(&mut self, last_day: Date) {
        self.status = CardStatus::Deactivated;
        // What would begin later was never active; no day after the last one is (C2).
        self.periods.retain(|(first_day, _)| *first_day <= last_day);
        if let Some((_, end)) = self.periods.last_mut() {
            *end = Some(end.map_or(last_day, |end| end.min(last_day)));
        }
    }

    /// The first day of the open period; `None` once deactivated.
    pub(crate) fn open_since(&self) -> Option<Date> {
        self.periods.last().filter(|(_, end)| end.is_none()).map(|(first, _)| *first)
    }

    /// The period, if any, that a card active from `day` on would overlap.
    pub(crate) fn overlapping(&self, day: Date) -> Option<Date> {
        let overlaps = |(_, end): &&(Date, Option<Date>)| end.is_none_or(|end| day <= end);
        self.periods.iter().find(overlaps).map(|(first, _)| *first)
    }

    /// Whether the card was active on every day of the work (C1, C2).
    pub(crate) fn check_covers(&self, work: Period) -> Result<(), Rejection> {
        let mut day = work.first;
        while let Some(end) = self.active_until(day) {
            match end.and_then(Date::next_day) {
                Some(next) if next <= work.last => day = next,
                _ => return Ok(()),
            }
        }
        let split_at = if day > work.first {
            Some(day)
        } else {
            let begins = self.periods.iter().map(|(first, _)| *first);
            begins.filter(|first| *first > day && work.contains(*first)).min()
        };
        Err(Rejection::NotCovered { first_uncovered_day: day, split_at })
    }

    /// The end of a period that holds `day` (inner `None`: open); outer `None` when none does.
    fn active_until(&self, day: Date) -> Option<Option<Date>> {
        let holds = |(first, end): &&(Date, Option<Date>)| {
            *first <= day && end.is_none_or(|end| day <= end)
        };
        self.periods.iter().rev().find(holds).map(|(_, end)| *end)
    }
}
