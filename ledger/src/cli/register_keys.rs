//! `ledger register-keys`: the steps of a rotation of the register's keys, each safe to repeat.
//!
//! Between two steps every service has to have the keys of the one before; their logs tell, by
//! fingerprint. What must stay out: keys, in anything that is printed.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use frikort_event_store::ConnectionPool;
use frikort_process::{database, secret::Secret};
use frikort_register::{Keys, KeysText, Left, Seen, Source};

/// How often it is told how far the rows are.
const TELL: Duration = Duration::from_secs(1);

/// What is done with the register's keys.
#[derive(clap::Subcommand, Debug)]
pub enum RegisterKeysCommand {
    /// Print which keys there are, by their fingerprints: the first ones are those that new rows are
    /// entered and sealed under. The log of each service says the same of those that it uses.
    Show(SourceArgs),
    /// Step 1 of 4: put a new key of each kind into the file, as the last. Services find and unseal by
    /// it, and enter nothing under it yet.
    Add(FileArgs),
    /// Step 2 of 4, when every service has the new keys: make them the first, so that new rows are
    /// entered under them.
    Use(KeyArgs),
    /// Step 3 of 4, when every service uses them first: enter and seal every row of the register anew
    /// under the first keys. Services go on meanwhile. Cut off, it goes on when it is run again. Ends
    /// with 1, having done the rest, where a row cannot be: each is told by its person's id.
    Retag(RetagArgs),
    /// Step 4 of 4: take an old key out of the file, with the one that sealed beside it. Refused while a
    /// row is under them.
    Drop(DropArgs),
}

/// Where the keys come from.
#[derive(clap::Args, Debug)]
pub struct SourceArgs {
    /// The file with the register's keys. FRIKORT_KEYS comes before it, and so does a command.
    #[arg(long, env = "FRIKORT_KEYS_FILE", value_name = "FILE")]
    keys_file: Option<PathBuf>,
    /// A command that prints them, as for `ledger serve`.
    #[arg(long, env = "FRIKORT_KEYS_COMMAND", value_name = "COMMAND", hide_env_values = true)]
    keys_command: Option<Secret>,
}

/// The file that is changed.
#[derive(clap::Args, Debug)]
pub struct FileArgs {
    /// The file with the register's keys. It is replaced in one step.
    #[arg(long, env = "FRIKORT_KEYS_FILE", value_name = "FILE")]
    keys_file: PathBuf,
}

/// Which key of the file.
#[derive(clap::Args, Debug)]
pub struct KeyArgs {
    /// The fingerprint of the `find` key, as `add` and `show` print it.
    #[arg(value_name = "FINGERPRINT")]
    key: String,
    #[command(flatten)]
    file: FileArgs,
}

/// Which rows.
#[derive(clap::Args, Debug)]
pub struct RowsArgs {
    /// The database, as for `ledger migrate`: as a superuser, its owner, or frikort_migrator.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Secret,
    /// Rows that are read, and entered anew, at a time: whoever enters a number waits for so many.
    #[arg(long, value_name = "ROWS", default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(i64).range(1..=10_000))]
    page: i64,
}

/// Options of `ledger register-keys retag`.
#[derive(clap::Args, Debug)]
pub struct RetagArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    rows: RowsArgs,
}

/// Options of `ledger register-keys drop`.
#[derive(clap::Args, Debug)]
pub struct DropArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    rows: RowsArgs,
}

/// Runs it.
pub(super) async fn run(command: RegisterKeysCommand) -> anyhow::Result<()> {
    match command {
        RegisterKeysCommand::Show(args) => show(&args.source()?.read().await?),
        RegisterKeysCommand::Add(FileArgs { keys_file }) => {
            let text = KeysText::read(&keys_file)?.add()?;
            text.replace(&keys_file)?;
            show(&text.keys()?)
        }
        RegisterKeysCommand::Use(KeyArgs { key, file: FileArgs { keys_file } }) => {
            let text = KeysText::read(&keys_file)?.put_first(&key)?;
            text.replace(&keys_file)?;
            show(&text.keys()?)
        }
        RegisterKeysCommand::Retag(RetagArgs { source, rows }) => {
            retag(&source.source()?.read_for(true).await?, rows).await
        }
        RegisterKeysCommand::Drop(DropArgs { key: KeyArgs { key, file }, rows }) => {
            let text = KeysText::read(&file.keys_file)?.without(&key)?;
            let keys = text.keys()?;
            let left = frikort_register::unreadable(&rows.pool()?, &keys, rows.page).await;
            refuse_left(&left.context(NOT_READ)?, "need that key, or one that is not there")?;
            text.replace(&file.keys_file)?;
            show(&keys)
        }
    }
}

const NOT_READ: &str = "the rows of the register cannot be read or changed; done is what was told";

impl SourceArgs {
    fn source(self) -> anyhow::Result<Source> {
        Ok(Source::choose(self.keys_command, self.keys_file)?)
    }
}

impl RowsArgs {
    fn pool(&self) -> anyhow::Result<ConnectionPool> {
        let options = database::options(self.database_url.expose(), "frikort-retag")?;
        Ok(frikort_event_store::pool(options, 1))
    }
}

fn show(keys: &Keys) -> anyhow::Result<()> {
    let (find, seal, tag) = (keys.finding(), keys.unsealing(), keys.tagging());
    writeln!(io::stdout().lock(), "find {find}\nseal {seal}\ntag {tag}")?;
    Ok(())
}

async fn retag(keys: &Keys, rows: RowsArgs) -> anyhow::Result<()> {
    let mut last_told = Instant::now();
    let tell = |seen: &Seen| {
        if last_told.elapsed() >= TELL {
            last_told = Instant::now();
            let Seen { percent, rows, renewed, .. } = seen;
            tracing::info!(percent, rows, renewed, "entering the register's rows anew");
        }
    };
    let seen = frikort_register::retag(&rows.pool()?, keys, rows.page, tell).await;
    let Seen { rows, renewed, left, .. } = seen.context(NOT_READ)?;
    writeln!(io::stdout().lock(), "{renewed} rows entered anew, of {rows} that there are")?;
    refuse_left(&left, "stay as they are")?;
    show(keys)
}

/// Tells which rows are left, and fails if there are any.
fn refuse_left(left: &[Left], what: &str) -> anyhow::Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    for row in left {
        writeln!(out, "{row}")?;
    }
    bail!("{} rows of the register {what}", left.len());
}
