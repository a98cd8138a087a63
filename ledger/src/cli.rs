//! The command `ledger`.

use std::{net::SocketAddr, path::PathBuf};

/// What the command does.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Serve payments, visitations, policy and audit over gRPC.
    Serve(ServeArgs),
    /// Create or update the database schema.
    Migrate(MigrateArgs),
}

/// Options of `ledger serve`; each may stand in the environment or the TOML file as well.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Where to listen.
    #[arg(long, env = "FRIKORT_LEDGER_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// The database, as a user with the role frikort_ledger.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The register's keys.
    #[arg(long, env = "FRIKORT_KEYS_FILE")]
    pub keys_file: Option<PathBuf>,
    /// A TOML file with the same settings.
    #[arg(long, env = "FRIKORT_LEDGER_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Options of `ledger migrate`.
#[derive(clap::Args, Debug)]
pub struct MigrateArgs {
    /// The database, as its owner.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Partitions the ledger has at least; never fewer than before.
    #[arg(long, default_value_t = 1)]
    pub partitions: i32,
}

/// Runs it.
pub async fn run(_command: Command) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
