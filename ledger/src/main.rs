//! The program `ledger`; all of it is in the library, so that the command `frikort` can be it too.

use clap::Parser;

/// The ledger of payments on a socialt frikort: decides, and appends to the history.
#[derive(Parser)]
#[command(name = "ledger", version, about)]
struct Cli {
    #[command(subcommand)]
    command: frikort_ledger::cli::Command,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    frikort_process::telemetry::start(frikort_event_store::warning_counter())?;
    frikort_ledger::cli::run(cli.command).await
}
