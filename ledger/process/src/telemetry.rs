//! The log: lines on standard error, by level, chosen with `FRIKORT_LOG` (`info` by default;
//! the syntax is that of `tracing`'s EnvFilter, as in `debug,h2=warn`).

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Starts logging for this process.
pub fn start() -> anyhow::Result<()> {
    let filter = match std::env::var("FRIKORT_LOG") {
        Ok(text) => EnvFilter::try_new(text).context("FRIKORT_LOG is no log filter")?,
        Err(_) => EnvFilter::new("info"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
