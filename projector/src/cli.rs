//! The command `projector`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use frikort_process::{clock::Clock, config, stop};
use frikort_register::Keys;
use serde::Deserialize;

use crate::Settings;

/// Seconds between two rounds of the continuous check unless set otherwise.
const CHECK_PAUSE: u64 = 60;

/// What the command does.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Fold events into annual totals and answer queries over gRPC, until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
}

/// Options of `projector serve`. What is not given here is taken from the environment, then from
/// the settings file (keys as the options, with `_` for `-`), then the default.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Where to listen [default: 127.0.0.1:50052].
    #[arg(long, env = "FRIKORT_PROJECTOR_LISTEN")]
    listen: Option<SocketAddr>,
    /// Listen beyond loopback, although callers are not authenticated.
    #[arg(long)]
    allow_remote_without_authentication: bool,
    /// The database, as the user `frikort_projector` or one with the same rights.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The register's keys: `find=<64 hex digits>`; or set FRIKORT_KEYS to the same text.
    #[arg(long, env = "FRIKORT_KEYS_FILE")]
    keys_file: Option<PathBuf>,
    /// Seconds between two rounds of the continuous check, which reads the whole ledger with low
    /// priority and holds it against itself; 0 turns it off [default: 60].
    #[arg(long, value_name = "SECONDS", env = "FRIKORT_CHECK_PAUSE")]
    check_pause: Option<u64>,
    /// The proof logs' verifier keys, one a line, as the ledger serves them at
    /// /log/partition/N/keys. Without them the check cannot tell who signed, and verifies nothing
    /// fully. Read anew with each round.
    #[arg(long, value_name = "FILE", env = "FRIKORT_VERIFIER_KEYS_FILE")]
    verifier_keys_file: Option<PathBuf>,
    /// A TOML file with the same settings; unknown keys are refused.
    #[arg(long, env = "FRIKORT_PROJECTOR_CONFIG")]
    config: Option<PathBuf>,
}

/// The settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Option<SocketAddr>,
    allow_remote_without_authentication: bool,
    database_url: Option<String>,
    keys_file: Option<PathBuf>,
    check_pause: Option<u64>,
    verifier_keys_file: Option<PathBuf>,
}

/// Runs it.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => {
            let settings = settings(args)?;
            crate::serve(settings, Clock::system(), stop::on_signal()?).await
        }
    }
}

fn settings(args: ServeArgs) -> anyhow::Result<Settings> {
    let file: File = config::load(args.config.as_deref())?;
    let keys_file = args.keys_file.or(file.keys_file);
    Ok(Settings {
        listen: args.listen.or(file.listen).unwrap_or(([127, 0, 0, 1], 50052).into()),
        allow_remote: args.allow_remote_without_authentication
            || file.allow_remote_without_authentication,
        database_url: args
            .database_url
            .or(file.database_url)
            .context("no database: set DATABASE_URL, or database_url in the settings file")?,
        keys: Keys::load(keys_file.as_deref(), false)?,
        check_pause: Duration::from_secs(
            args.check_pause.or(file.check_pause).unwrap_or(CHECK_PAUSE),
        ),
        verifier_keys_file: args.verifier_keys_file.or(file.verifier_keys_file),
    })
}
