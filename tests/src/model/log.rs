//! What was recorded about one person, with positions and instants; folded again for each moment
//! that is asked about.

use super::{Command, Day, Instant, Limits, Person};

/// What was recorded.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// What a call asked for.
    Call(Command),
    /// The splits of a year were moved after its limit had changed.
    Recalculated(i32),
}

/// One event of the person.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the partition.
    pub position: i64,
    /// When.
    pub at: Instant,
    /// What.
    pub recorded: Recorded,
}

/// What was known when (as-of, first axis).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// At a position, whose event was recorded at that instant.
    At(i64, Instant),
    /// At an instant, up to which the partition had that position.
    When(Instant, i64),
}

impl Known {
    fn position(self) -> i64 {
        match self {
            Self::At(position, _) | Self::When(_, position) => position,
        }
    }

    fn day(self) -> Day {
        match self {
            Self::At(_, at) | Self::When(at, _) => Day::in_copenhagen(at),
        }
    }
}

/// As of when an answer is asked for, on both axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsOf {
    /// What the ledger knew then; now when absent.
    pub known: Option<Known>,
    /// Only payments attributed up to this day.
    pub through: Option<Day>,
}

impl AsOf {
    /// The last position that counts.
    pub fn position(&self) -> i64 {
        self.known.map_or(i64::MAX, Known::position)
    }

    /// The day on which the limit in force is looked up: the earlier of both axes.
    pub fn limit_day(&self, today: Day) -> Day {
        let known = self.known.map_or(today, Known::day);
        self.through.map_or(known, |through| known.min(through))
    }
}

/// All events of one person, in order of position.
#[derive(Clone, Debug, Default)]
pub struct Log(Vec<Entry>);

impl Log {
    /// Takes in an event.
    pub fn record(&mut self, entry: Entry) {
        self.0.push(entry);
        self.0.sort_by_key(|entry| entry.position);
    }

    /// The events.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The last position; 0 for none.
    pub fn last_position(&self) -> i64 {
        self.0.last().map_or(0, |entry| entry.position)
    }

    /// The person as recorded up to `position`.
    pub fn fold(&self, limits: &Limits, position: i64) -> Person {
        let mut person = Person::default();
        for entry in self.0.iter().filter(|entry| entry.position <= position) {
            let day = Day::in_copenhagen(entry.at);
            let limit = |year| limits.on(year, day, entry.position);
            match &entry.recorded {
                Recorded::Call(command) => {
                    person.decide(command, &limit, entry.position);
                }
                Recorded::Recalculated(year) => {
                    if let Some(limit) = limit(*year) {
                        person.recalculate(*year, limit, entry.position);
                    }
                }
            }
        }
        person
    }
}
