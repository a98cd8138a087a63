//! The command `projector`.

use std::{net::SocketAddr, path::PathBuf};

/// What the command does.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Fold events and answer queries over gRPC.
    Serve(ServeArgs),
}

/// Options of `projector serve`; each may stand in the environment or the TOML file as well.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Where to listen.
    #[arg(long, env = "FRIKORT_PROJECTOR_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// The database, as a user with the role frikort_projector.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The register's keys.
    #[arg(long, env = "FRIKORT_KEYS_FILE")]
    pub keys_file: Option<PathBuf>,
    /// A TOML file with the same settings.
    #[arg(long, env = "FRIKORT_PROJECTOR_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs it.
pub async fn run(_command: Command) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
