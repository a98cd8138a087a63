//! The program `simulate`: random operations against real processes that are killed meanwhile,
//! every answer held against the model, for as long as asked.
//!
//! ```text
//! cargo build --release --workspace
//! target/release/simulate --minutes 30
//! ```

use std::time::Duration;

use clap::Parser;
use frikort_process::clock::Clock;
use frikort_tests::simulation::{Campaign, simulate};

/// Makes lists of operations by chance, runs each against a database, ledgers and a projector of
/// its own that are killed meanwhile, and holds every answer against a plain model of the rules. The
/// first difference is shrunk to a small list and kept in tests/regressions.
#[derive(Parser)]
#[command(name = "simulate", version, about)]
struct Cli {
    /// No list is begun after so many minutes.
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// The seed of the first list; the next ones count on. From the clock by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Operations of each list.
    #[arg(long, default_value_t = 3000)]
    operations: usize,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program that tells how far it is")]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let now = Clock::system().now().unix_timestamp();
    let seed = cli.seed.unwrap_or_else(|| u64::try_from(now).unwrap_or(1));
    let length = Duration::from_secs(cli.minutes * 60);
    let campaign = Campaign { seed, length, operations: cli.operations };
    let (sum, lists) = simulate(campaign, |line| println!("{line}")).await?;
    println!(
        "no difference in {lists} lists, seeds {seed} to {}: {} operations, {} answers held against \
         the model ({} of the past), {} events, {} restarts, {} calls sent again",
        seed + u64::try_from(lists).unwrap_or(1) - 1,
        sum.operations,
        sum.answers,
        sum.past,
        sum.events,
        sum.restarts,
        sum.lost
    );
    for (outcome, times) in &sum.outcomes {
        println!("{times:>9}  {outcome}");
    }
    Ok(())
}
