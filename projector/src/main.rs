//! The program `projector`; all of it is in the library, so that the command `frikort` can be it
//! too.

use clap::Parser;

/// The projector: annual totals folded from the ledger's history, and the answers to queries.
#[derive(Parser)]
#[command(name = "projector", version, about)]
struct Cli {
    #[command(subcommand)]
    command: frikort_projector::cli::Command,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    frikort_process::telemetry::start(frikort_event_store::warning_counter())?;
    frikort_projector::cli::run(cli.command).await
}
