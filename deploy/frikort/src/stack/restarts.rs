//! How often and how soon what died is started again: at once at first, then slower, and not for
//! ever, since something that always dies needs a person.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Deaths within this time count together.
const WINDOW: Duration = Duration::from_secs(60);

/// So many within the window are too many.
const MOST: u32 = 12;

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// The deaths of late.
#[derive(Default)]
pub(super) struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// How long to wait before the next start; `None` to give up.
    pub(super) fn after_death(&mut self, now: Instant) -> Option<Duration> {
        while self.0.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let deaths = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        (deaths <= MOST).then(|| LAST_DELAY.min(FIRST_DELAY * 2_u32.pow(deaths - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_get_slower_and_end() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        let delays: Vec<_> = (0..12).map(|_| restarts.after_death(start).unwrap()).collect();
        assert_eq!(delays[..3], [50, 100, 200].map(Duration::from_millis));
        assert!(delays.is_sorted() && delays[11] == LAST_DELAY);
        assert_eq!(restarts.after_death(start), None);
    }

    #[test]
    fn a_death_now_and_then_is_always_followed_by_a_start() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        for minute in 0..100 {
            let delay = restarts.after_death(start + Duration::from_secs(61 * minute));
            assert_eq!(delay, Some(FIRST_DELAY));
        }
    }
}
