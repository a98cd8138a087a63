//! How soon one part that died is started again: at once when it had lived, slower and slower
//! when it dies as soon as it starts, and in the end not at all, since that needs a person.

use std::time::Duration;

/// Who lived so long had started well.
const LIVED: Duration = Duration::from_secs(2);

/// So many deaths at the start, one after the other, are too many.
const MOST: u32 = 10;

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// The deaths at the start, one after the other.
#[derive(Default)]
pub(super) struct Restarts(u32);

impl Restarts {
    /// How long to wait before the next start; `None` to give up.
    pub(super) fn after_death(&mut self, lived: Duration) -> Option<Duration> {
        self.0 = if lived < LIVED { self.0 + 1 } else { 0 };
        (self.0 <= MOST).then(|| LAST_DELAY.min(FIRST_DELAY * 2_u32.pow(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_of_what_does_not_start_get_slower_and_end() {
        let mut restarts = Restarts::default();
        let delays: Vec<_> =
            (0..10).map(|_| restarts.after_death(Duration::ZERO).unwrap()).collect();
        assert_eq!(delays[..3], [100, 200, 400].map(Duration::from_millis));
        assert!(delays.is_sorted() && delays[9] == LAST_DELAY);
        assert_eq!(restarts.after_death(Duration::ZERO), None);
    }

    #[test]
    fn what_had_lived_is_started_at_once_however_often() {
        let mut restarts = Restarts::default();
        for _ in 0..100 {
            assert_eq!(restarts.after_death(LIVED), Some(FIRST_DELAY));
        }
    }
}
