//! The program `load`; all of it is in the library.

use clap::Parser;

/// Drives a real ledger and projector hard, holds every figure against a baseline of the same
/// run, and afterwards holds the tables against what was acknowledged.
#[derive(Parser)]
#[command(name = "load", version, about)]
struct Cli {
    #[command(subcommand)]
    command: frikort_tests::load::Command,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    frikort_tests::load::run(cli.command).await
}
