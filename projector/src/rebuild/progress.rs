//! How far a rebuild is: a bar on a terminal, a line in the log now and then elsewhere.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, a line so often.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// One part of the work.
pub(crate) struct Progress {
    what: &'static str,
    done: u64,
    of: u64,
    begun: Instant,
    /// How long it took, once it is finished.
    took: Option<Duration>,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `what` is said with `of`, as in "events". A bar is for a command on a terminal alone.
    pub(crate) fn new(what: &'static str, of: i64, on_terminal: bool) -> Self {
        let now = Instant::now();
        let of = u64::try_from(of).unwrap_or_default();
        let bar = (on_terminal && io::stderr().is_terminal()).then(|| {
            let form = "{prefix:8} {bar:32} {pos}/{len}  {msg}";
            let style = ProgressStyle::with_template(form);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(of).with_style(style).with_prefix(what)
        });
        Self { what, done: 0, of, begun: now, took: None, told: now, bar }
    }

    /// So many more are done.
    pub(crate) fn advance(&mut self, count: usize) {
        self.done += u64::try_from(count).unwrap_or_default();
        if let Some(bar) = &self.bar {
            // What is recorded meanwhile is done too.
            bar.set_length(self.of.max(self.done));
            bar.set_position(self.done);
            bar.set_message(format!("{}/s", self.per_second()));
        } else if self.told.elapsed() >= LINE_INTERVAL {
            self.told = Instant::now();
            self.log();
        }
    }

    /// So many a second, over all of it.
    pub(crate) fn per_second(&self) -> u64 {
        let took = self.took.unwrap_or_else(|| self.begun.elapsed());
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        self.done.saturating_mul(1000) / ms
    }

    /// How many are done.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// The last word; the clock stops.
    pub(crate) fn finish(&mut self) {
        self.took = Some(self.begun.elapsed());
        match &self.bar {
            Some(bar) => bar.abandon_with_message(format!("{}/s", self.per_second())),
            None => self.log(),
        }
    }

    fn log(&self) {
        let (what, done, of) = (self.what, self.done, self.of);
        tracing::info!(what, done, of, per_second = self.per_second(), "rebuilding");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_work_and_not_of_what_came_after_it() {
        let mut progress = Progress::new("events", 1000, false);
        progress.advance(1000);
        std::thread::sleep(Duration::from_millis(2));
        progress.finish();
        let rate = progress.per_second();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(progress.per_second(), rate);
    }
}
