//! The log: lines on standard error, by level, chosen with `FRIKORT_LOG` (`info` by default;
//! the syntax is that of `tracing`'s EnvFilter, as in `debug,h2=warn`).

use std::io::IsTerminal;

use anyhow::Context;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Where the database client reports the server's notices. Those below a warning tell an operator
/// nothing.
const NOTICE_TARGET: &str = "sqlx::postgres::notice";

/// Starts logging for this process. `observer` is handed what is logged besides, whatever is chosen.
pub fn start(observer: impl Layer<Registry> + Send + Sync) -> anyhow::Result<()> {
    let chosen = match std::env::var("FRIKORT_LOG") {
        Ok(text) => EnvFilter::try_new(text).context("FRIKORT_LOG is no log filter")?,
        Err(_) => EnvFilter::new("info"),
    };
    let is_shown = |metadata: &Metadata<'_>| {
        metadata.target() != NOTICE_TARGET || *metadata.level() <= Level::WARN
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // The hint leaves it to the chosen filter which levels there are at all.
        .with_filter(chosen.and(filter_fn(is_shown).with_max_level_hint(Level::TRACE)));
    tracing_subscriber::registry().with(observer).with(lines).init();
    Ok(())
}
