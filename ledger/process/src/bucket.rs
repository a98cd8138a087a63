//! How much of something there may be at once, and again with time: a bucket that fills.
//!
//! What must stay out: what it is counted for, and what happens to whoever finds it empty.

use std::time::{Duration, Instant};

/// How much a bucket holds, and how fast it fills.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// So many at once.
    pub at_once: f64,
    /// So many more a second.
    pub per_second: f64,
}

/// What is left of a rate.
#[derive(Debug)]
pub struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.at_once, at: now }
    }

    /// Whether one is left; else how long until there is one, an hour at most.
    pub fn has_one(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * rate.per_second).min(rate.at_once);
        self.at = now;
        let missing = 1.0 - self.left;
        if missing <= 0.0 {
            return Ok(());
        }
        let wait = Duration::try_from_secs_f64(missing / rate.per_second);
        // Whoever is allowed none again need not ask soon.
        Err(wait.unwrap_or(Duration::MAX).clamp(Duration::from_millis(1), Duration::from_hours(1)))
    }

    /// Takes some out, also of an empty one: what is owed is waited for.
    pub fn take(&mut self, number: u32) {
        self.left -= f64::from(number);
    }

    /// Takes one out, if one is left; else tells how long until there is one.
    pub fn take_one(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.has_one(rate, now)?;
        self.take(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_fills_again() {
        let (rate, start) = (Rate { at_once: 2.0, per_second: 4.0 }, Instant::now());
        let mut bucket = Bucket::full(rate, start);
        let mut take = |after: u64| bucket.take_one(rate, start + Duration::from_millis(after));
        assert_eq!([take(0), take(0)], [Ok(()), Ok(())]);
        assert_eq!(take(0), Err(Duration::from_millis(250)));
        assert_eq!(take(125), Err(Duration::from_millis(125)));
        assert_eq!(take(250), Ok(()));
        // Not beyond the brim.
        assert_eq!([take(9000), take(9000)], [Ok(()), Ok(())]);
        assert!(take(9000).is_err());
        bucket.take(3);
        let wait = bucket.has_one(rate, start + Duration::from_secs(9));
        assert_eq!(wait, Err(Duration::from_secs(1)));
    }
}
