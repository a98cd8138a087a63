//! The command `ledger accept-history`: an operator's decision to go on without events that were
//! acknowledged, on record with its reason (H1).
//!
//! It changes the database alone. Running ledgers see the decision within a second or two; the one that
//! signs puts its last checkpoint aside then.
//!
//! Not here: finding a loss; running ledgers do.

use std::{fmt::Write as _, io::Write as _};

use anyhow::{bail, ensure};
use frikort_event_store::{AcceptedLoss, accept_incidents};
use frikort_process::{clock::Clock, database, secret::Secret};

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1000;

/// Options of `ledger accept-history`.
#[derive(clap::Args, Debug)]
pub struct AcceptHistoryArgs {
    /// The database, as a superuser or as frikort_migrator.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Secret,
    /// The partition whose loss is accepted; the ledger's log names it.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=1023))]
    partition: i32,
    /// Why the loss is accepted: what happened, and who decided. Kept on record; 1 to 1000 bytes,
    /// without CPR numbers.
    #[arg(long)]
    reason: String,
}

/// Accepts the open incidents of a partition.
pub(super) async fn run(args: AcceptHistoryArgs) -> anyhow::Result<()> {
    let reason = args.reason.trim();
    ensure!(
        (1..=MAX_REASON_BYTES).contains(&reason.len()),
        "--reason must have 1 to {MAX_REASON_BYTES} bytes"
    );
    ensure!(!frikort_domain::contains_cpr(reason), "--reason must not hold a CPR number");
    let options = database::options(args.database_url.expose(), "frikort-accept-history")?;
    let pool = frikort_event_store::pool(options, 1);
    let now = Clock::system().now();
    let accepted = accept_incidents(&pool, args.partition, reason, now).await?;
    let (Some(first), Some(last)) = (
        accepted.iter().map(|loss| loss.first_lost_position).min(),
        accepted.iter().map(|loss| loss.last_lost_position).max(),
    ) else {
        bail!("no loss waits for a decision in partition {}: nothing was changed", args.partition);
    };
    std::io::stdout()
        .lock()
        .write_all(report(args.partition, first, last, &accepted).as_bytes())?;
    Ok(())
}

fn report(partition: i32, first: i64, last: i64, accepted: &[AcceptedLoss]) -> String {
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = writeln!(
        text,
        "accepted: of partition {partition}, the events at positions {first} to {last} as they were \
         acknowledged before ({} events) are lost.",
        last - first + 1
    );
    let _ = writeln!(
        text,
        "Ledgers go on within some seconds. Ask employers and municipalities to send again what they \
         were answered with these positions; what is repeated is recorded anew."
    );
    for checkpoint in accepted.iter().filter_map(|loss| loss.checkpoint.as_ref()) {
        let _ = writeln!(text, "\nThe signed checkpoint of the lost history:\n\n{checkpoint}");
    }
    text
}
