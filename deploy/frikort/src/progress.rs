//! Progress on stderr: a bar on a terminal, a plain line now and then elsewhere.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::output;

/// Without a terminal, a line so often.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Rows between two looks at whether to show it.
const STEPS: u64 = 1024;

/// How far one file is.
pub(crate) struct Progress {
    name: &'static str,
    bytes: u64,
    rows: u64,
    end_byte: u64,
    start: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// How often [`Self::show`] should be called.
    pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new(name: &'static str, bytes: u64) -> Self {
        let now = Instant::now();
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix:12} {bar:32} {percent:>3} %  {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(bytes).with_style(style).with_prefix(name)
        });
        Self { name, bytes, rows: 0, end_byte: 0, start: now, last_line: now, bar }
    }

    /// One more row is done; it ended there in the file.
    pub(crate) fn advance(&mut self, end_byte: u64) {
        self.rows += 1;
        self.end_byte = self.end_byte.max(end_byte);
    }

    /// So many rows are done, of work whose end is counted in rows.
    pub(crate) fn reach(&mut self, rows: u64) {
        self.rows = self.rows.max(rows);
        self.end_byte = self.rows;
    }

    /// The same for work that waits for nobody: shows it now and then by itself.
    pub(crate) fn step(&mut self, end_byte: u64) {
        self.advance(end_byte);
        if self.rows.is_multiple_of(STEPS) {
            self.show(0);
        }
    }

    /// The same for work that is counted in steps: so many more are done.
    pub(crate) fn more(&mut self, steps: i64) {
        self.step(self.end_byte.saturating_add(steps.unsigned_abs()));
    }

    /// Shows it; `repeating` calls got no answer yet and are repeated.
    pub(crate) fn show(&mut self, repeating: usize) {
        let waiting = match repeating {
            0 => String::new(),
            n => format!(", {n} calls are repeated"),
        };
        let text = format!("{}{waiting}", self.rate());
        if let Some(bar) = &self.bar {
            bar.set_position(self.end_byte);
            bar.set_message(text);
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let percent = self.end_byte * 100 / self.bytes.max(1);
            output::note(&format!("{}: {percent} %, {text}", self.name));
        }
    }

    /// A remark that does not tear the bar apart.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    /// The last line.
    pub(crate) fn finish(&self) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.end_byte);
                bar.abandon_with_message(self.rate());
            }
            None => output::note(&format!("{}: {}", self.name, self.rate())),
        }
    }

    fn rate(&self) -> String {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        format!("{} rows, {}/s", self.rows, self.rows.saturating_mul(1000) / ms)
    }
}
