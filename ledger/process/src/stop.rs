//! Stopping: the first SIGTERM, Ctrl-C or closed terminal asks the process to finish what it has
//! and go; a second one, or the deadline, ends it.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a stopping process may take to answer what it has accepted.
pub const DRAIN: Duration = Duration::from_secs(20);

/// A token that is cancelled by the first signal. A second one ends the process with code 1.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let stop = token.clone();
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hangup.recv() => {}
            }
            if asked {
                tracing::warn!("stopped by a second signal before everything was answered");
                std::process::exit(1);
            }
            asked = true;
            tracing::info!("stopping: finishing what was accepted");
            stop.cancel();
        }
    });
    Ok(token)
}
