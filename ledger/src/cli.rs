//! The command `ledger`.

mod accept_history;
mod register_keys;

use std::{io::Write, net::SocketAddr, ops::RangeInclusive, path::PathBuf};

use anyhow::Context;
use frikort_domain::PAYMENTS_PER_YEAR;
use frikort_event_store::Durability;
use frikort_process::{
    clock::Clock,
    config, database,
    secret::{self, Secret},
    stop,
};
use frikort_register::Source;
use serde::Deserialize;

pub use accept_history::AcceptHistoryArgs;
pub use register_keys::{
    DropArgs, FileArgs, KeyArgs, RegisterKeysCommand, RetagArgs, RowsArgs, SourceArgs,
};

use crate::{Settings, Signer, SigningKeys};

/// Whose the proof logs are unless a name is set.
const OPERATOR: &str = "local";

/// Payments whose accounts are kept in memory unless set otherwise. The ledger takes about 245 MB
/// when it is full of them (measured, with 10.000 persons).
const CACHED_PAYMENTS: usize = 400_000;

/// Bounds of the payments of a person and year. At the highest one a person's history is still read
/// within a second or so.
const PAYMENTS_PER_YEAR_BOUNDS: RangeInclusive<u32> = 1..=100_000;

/// What the command does.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Serve payments, visitations, policy and audit over gRPC, until SIGTERM or Ctrl-C.
    Serve(Box<ServeArgs>),
    /// Create or update the database schema. Safe to repeat.
    Migrate(MigrateArgs),
    /// Accept that acknowledged events are lost, after a database was put back to an earlier state, so
    /// that the ledger goes on with the history that is there. Prints what is lost.
    AcceptHistory(AcceptHistoryArgs),
    /// Make, rotate or show the key that signs checkpoints of the history.
    #[command(subcommand)]
    SigningKey(SigningKeyCommand),
    /// Show or rotate the keys that persons are found by and CPR numbers sealed with.
    #[command(subcommand)]
    RegisterKeys(RegisterKeysCommand),
}

/// What is done with the signing key.
#[derive(clap::Subcommand, Debug)]
pub enum SigningKeyCommand {
    /// Make the file with a new key, mode 0600, if it is not there; print the verifier keys.
    Create(SigningKeyArgs),
    /// Put a new key into the file. What the old one signed stays verifiable, since its public half
    /// is kept; ledgers sign with the new one once they are started again. Print the verifier keys.
    Rotate(SigningKeyArgs),
    /// Print the verifier keys, to be published where auditors find them without asking the ledger.
    Show(SigningKeyArgs),
}

/// Which signing key, and whose.
#[derive(clap::Args, Debug)]
pub struct SigningKeyArgs {
    /// The file.
    #[arg(long, env = "FRIKORT_SIGNING_KEY_FILE", value_name = "FILE")]
    signing_key_file: PathBuf,
    /// The name that the logs' names begin with.
    #[arg(long, env = "FRIKORT_OPERATOR", default_value = OPERATOR)]
    operator: String,
    /// Of how many partitions the verifier keys are printed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1024))]
    partitions: i32,
}

/// Options of `ledger serve`. What is not given here is taken from the environment, then from the
/// settings file (keys as the options, with `_` for `-`), then the default.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Where to listen [default: 127.0.0.1:50051].
    #[arg(long, env = "FRIKORT_LEDGER_LISTEN")]
    listen: Option<SocketAddr>,
    /// The database, as the user `frikort_ledger` or one with the same rights.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// Run on a database server with fsync or full_page_writes off, which can lose what it has
    /// acknowledged when its machine crashes. For tests, and for data that may be lost.
    #[arg(long, env = "FRIKORT_ALLOW_UNSAFE_DATABASE")]
    allow_unsafe_database: bool,
    /// The register's keys: `find=<64 hex digits> seal=<64 hex digits> tag=<64 hex digits>`; or set
    /// FRIKORT_KEYS to the same text. Read anew when it changes, as `ledger register-keys` does.
    #[arg(long, env = "FRIKORT_KEYS_FILE")]
    keys_file: Option<PathBuf>,
    /// A command that prints the same text, such as one that asks a key management service; run by
    /// the shell, anew every ten seconds, in the place of the file. It has ten seconds; what it writes
    /// on standard error is not shown.
    #[arg(long, env = "FRIKORT_KEYS_COMMAND", value_name = "COMMAND", hide_env_values = true)]
    keys_command: Option<Secret>,
    /// Make the keys file, with new random keys and mode 0600, if it is not there.
    #[arg(long)]
    create_keys: bool,
    /// The key that signs checkpoints of the history: `sign=<64 hex digits>`. The last checkpoint of
    /// each partition is kept beside it, and the history is held against that: keep both away from
    /// the database. Without it this process signs nothing.
    #[arg(long, env = "FRIKORT_SIGNING_KEY_FILE", value_name = "FILE")]
    signing_key_file: Option<PathBuf>,
    /// Make the signing key's file, with a new random key and mode 0600, if it is not there.
    #[arg(long)]
    create_signing_key: bool,
    /// The name that the proof logs' names begin with, such as a domain [default: local].
    #[arg(long, env = "FRIKORT_OPERATOR")]
    operator: Option<String>,
    /// Payments whose accounts are kept in memory [default: 400000].
    #[arg(long, env = "FRIKORT_CACHED_PAYMENTS")]
    cached_payments: Option<usize>,
    /// Payments that a person may have recorded in one calendar year, 1 to 100000; one more is refused
    /// with TOO_MANY_PAYMENTS. The same for all ledgers of a database [default: 5000].
    #[arg(long, env = "FRIKORT_PAYMENTS_PER_YEAR")]
    payments_per_year: Option<u32>,
    /// A TOML file with the same settings; unknown keys are refused.
    #[arg(long, env = "FRIKORT_LEDGER_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    access: frikort_access::Args,
}

/// The settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    listen: Option<SocketAddr>,
    access: frikort_access::Settings,
    database_url: Option<Secret>,
    allow_unsafe_database: bool,
    keys_file: Option<PathBuf>,
    keys_command: Option<Secret>,
    signing_key_file: Option<PathBuf>,
    operator: Option<String>,
    cached_payments: Option<usize>,
    payments_per_year: Option<u32>,
}

/// Options of `ledger migrate`.
#[derive(clap::Args, Debug)]
pub struct MigrateArgs {
    /// The database, as a superuser, or as its owner who may make roles; later also as
    /// frikort_migrator.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Secret,
    /// Partitions that the ledger has at least. More can be added later, and are used by ledgers
    /// and projectors that start afterwards; a person never moves.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1024))]
    partitions: i32,
}

/// Runs it.
pub async fn run(command: Command) -> anyhow::Result<()> {
    secret::without_core_dumps()?;
    match command {
        Command::Serve(args) => {
            let settings = settings(*args).await?;
            crate::serve(settings, Clock::system(), stop::on_signal()?).await
        }
        Command::Migrate(args) => {
            let options = database::options(args.database_url.expose(), "frikort-migrate")?;
            let pool = frikort_event_store::pool(options, 1);
            Ok(frikort_event_store::migrate(&pool, args.partitions).await?)
        }
        Command::AcceptHistory(args) => accept_history::run(args).await,
        Command::SigningKey(command) => signing_key(command),
        Command::RegisterKeys(command) => register_keys::run(command).await,
    }
}

fn signing_key(command: SigningKeyCommand) -> anyhow::Result<()> {
    let (args, create) = match command {
        SigningKeyCommand::Create(args) => (args, true),
        SigningKeyCommand::Show(args) => (args, false),
        SigningKeyCommand::Rotate(args) => {
            SigningKeys::rotate(&args.signing_key_file)?;
            (args, false)
        }
    };
    let signer = Signer::load(&args.signing_key_file, create, args.operator)?;
    let mut out = std::io::stdout().lock();
    for partition in 0..args.partitions {
        for key in signer.verifiers(partition)?.1 {
            writeln!(out, "{key}")?;
        }
    }
    Ok(())
}

async fn settings(args: ServeArgs) -> anyhow::Result<Settings> {
    let file: File = config::load(args.config.as_deref())?;
    let database_url = args.database_url.or(file.database_url);
    let database_url = database_url
        .context("no database: set DATABASE_URL, or database_url in the settings file")?;
    let keys_command = args.keys_command.or(file.keys_command);
    let keys = Source::choose(keys_command, args.keys_file.or(file.keys_file))?;
    if args.create_keys {
        keys.create()?;
    }
    let payments_per_year =
        args.payments_per_year.or(file.payments_per_year).unwrap_or(PAYMENTS_PER_YEAR);
    if !PAYMENTS_PER_YEAR_BOUNDS.contains(&payments_per_year) {
        let (least, most) = PAYMENTS_PER_YEAR_BOUNDS.into_inner();
        anyhow::bail!("payments_per_year must be {least} to {most}, not {payments_per_year}");
    }
    let operator = args.operator.or(file.operator).unwrap_or_else(|| OPERATOR.to_owned());
    let signer = args
        .signing_key_file
        .or(file.signing_key_file)
        .map(|key_file| Signer::load(&key_file, args.create_signing_key, operator));
    Ok(Settings {
        listen: args.listen.or(file.listen).unwrap_or(([127, 0, 0, 1], 50051).into()),
        access: args.access.start(file.access)?,
        database_url,
        durability: Durability::allowing_unsafe(
            args.allow_unsafe_database || file.allow_unsafe_database,
        ),
        keys: keys.start(true).await?,
        signer: signer.transpose()?,
        cached_payments: args.cached_payments.or(file.cached_payments).unwrap_or(CACHED_PAYMENTS),
        payments_per_year,
    })
}
