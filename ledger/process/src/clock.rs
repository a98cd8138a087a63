//! The one source of time. Everything else is handed a [`Clock`], so that a test can stand at
//! any instant.

use std::{fmt, sync::Arc};

use time::OffsetDateTime;

/// Tells the time in UTC, in whole microseconds, as Postgres and the records keep it.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
    is_system: bool,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place where time comes from")]
        Self { now: Arc::new(OffsetDateTime::now_utc), is_system: true }
    }

    /// A clock that stands still.
    pub fn fixed(at: OffsetDateTime) -> Self {
        Self { now: Arc::new(move || at), is_system: false }
    }

    /// Whether it is a machine's clock, which may be off. One that stands still is right by intent.
    pub fn is_system(&self) -> bool {
        self.is_system
    }

    /// Now.
    pub fn now(&self) -> OffsetDateTime {
        let now = (self.now)();
        now.replace_microsecond(now.microsecond()).unwrap_or(now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
