//! The command `projector`.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use frikort_event_store::{Durability, EventStore};
use frikort_process::{
    clock::Clock,
    config, database,
    secret::{self, Secret},
    stop,
};
use frikort_register::Source;
use serde::{Deserialize, Serialize};

use crate::{
    REBUILD_CONNECTIONS, Settings, generations,
    rebuild::{self, Report, Verdict, Wish},
};

/// Seconds between two rounds of the continuous check unless set otherwise.
const CHECK_PAUSE: u64 = 60;

/// What the command does.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Fold events into annual totals and answer queries over gRPC, until SIGTERM or Ctrl-C.
    Serve(Box<ServeArgs>),
    /// Fold all events anew beside the projection that is served, prove that the two are the same,
    /// and serve the new one; services go on meanwhile. Ends with 1, and changes nothing, where
    /// they differ. Cut off, it goes on when it is run again.
    Rebuild(RebuildArgs),
    /// List the generations of the projection, or drop those that are no longer served.
    Generations(GenerationsArgs),
}

/// Options of `projector rebuild`.
#[derive(clap::Args, Debug)]
pub struct RebuildArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Serve the new one although they differ: where the fold was mended, or the tables were
    /// damaged. What differs is told all the same.
    #[arg(long)]
    accept_differences: bool,
    /// Begin anew rather than go on with what an earlier run has left.
    #[arg(long)]
    fresh: bool,
    /// Events folded and written together: more of them are quicker, and take more memory.
    #[arg(long, value_name = "EVENTS", default_value_t = rebuild::PAGE)]
    #[arg(value_parser = clap::value_parser!(i64).range(100..=100_000))]
    page: i64,
    /// Tell the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Options of `projector generations`.
#[derive(clap::Args, Debug)]
pub struct GenerationsArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Drop the retired ones, and one that nobody builds any more, batch by batch.
    #[arg(long)]
    drop_old: bool,
    /// Tell them as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Which database.
#[derive(clap::Args, Debug)]
struct DatabaseArgs {
    /// The database, as the user `frikort_projector` or one with the same rights.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// The settings file of `projector serve`.
    #[arg(long, env = "FRIKORT_PROJECTOR_CONFIG")]
    config: Option<PathBuf>,
}

/// Options of `projector serve`. What is not given here is taken from the environment, then from
/// the settings file (keys as the options, with `_` for `-`), then the default.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Where to listen [default: 127.0.0.1:50052].
    #[arg(long, env = "FRIKORT_PROJECTOR_LISTEN")]
    listen: Option<SocketAddr>,
    /// The database, as the user `frikort_projector` or one with the same rights.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// Run on a database server with fsync or full_page_writes off, which can lose what it has
    /// acknowledged when its machine crashes. For tests, and for data that may be lost.
    #[arg(long, env = "FRIKORT_ALLOW_UNSAFE_DATABASE")]
    allow_unsafe_database: bool,
    /// The register's keys: `find=<64 hex digits> tag=<64 hex digits>`; or set FRIKORT_KEYS to the same
    /// text. Read anew when it changes.
    #[arg(long, env = "FRIKORT_KEYS_FILE")]
    keys_file: Option<PathBuf>,
    /// A command that prints the same text, such as one that asks a key management service; run by
    /// the shell, anew every ten seconds, in the place of the file. It has ten seconds; what it writes
    /// on standard error is not shown.
    #[arg(long, env = "FRIKORT_KEYS_COMMAND", value_name = "COMMAND", hide_env_values = true)]
    keys_command: Option<Secret>,
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
    check_pause: Option<u64>,
    verifier_keys_file: Option<PathBuf>,
}

/// Runs it.
pub async fn run(command: Command) -> anyhow::Result<()> {
    secret::without_core_dumps()?;
    match command {
        Command::Serve(args) => {
            let settings = settings(*args).await?;
            crate::serve(settings, Clock::system(), stop::on_signal()?).await
        }
        Command::Rebuild(args) => rebuild(args).await,
        Command::Generations(args) => generations(args).await,
    }
}

async fn open(args: DatabaseArgs) -> anyhow::Result<EventStore> {
    let file: File = config::load(args.config.as_deref())?;
    let url = args.database_url.or(file.database_url);
    let url = url.context(NO_DATABASE)?;
    let options = database::service(url.expose(), "frikort-projector-rebuild")?;
    let pool = frikort_event_store::pool(options, REBUILD_CONNECTIONS);
    // What these commands write can be folded again.
    Ok(EventStore::open_when_there(pool, Durability::NotRequired).await?)
}

async fn rebuild(args: RebuildArgs) -> anyhow::Result<()> {
    let stop = stop::on_signal()?;
    let RebuildArgs { database, accept_differences, fresh, page, json } = args;
    let store = open(database).await?;
    let wish = Wish { page, accept_differences, fresh, on_terminal: true };
    let report = tokio::select! {
        report = rebuild::run(&store, wish) => report?,
        () = stop.cancelled() => bail!("stopped; run it again and it goes on from there"),
    };
    let told = if json { tell_json(&report) } else { tell(&report) };
    told?;
    if report.verdict == Verdict::Differs {
        bail!(
            "the projection that is served differs from its events, and is served as before; \
             generation {} is kept: --accept-differences serves it, \
             `projector generations --drop-old` drops it",
            report.generation
        );
    }
    Ok(())
}

fn tell(report: &Report) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for proved in &report.positions {
        let (partition, position) = (proved.partition, proved.position);
        let (generation, replaced) = (report.generation, proved.replaced);
        match report.verdict {
            Verdict::Switched => writeln!(
                out,
                "partition {partition}: generation {generation} is the same as {replaced} at \
                 position {position}, and is served"
            )?,
            Verdict::SwitchedWithDifferences => writeln!(
                out,
                "partition {partition}: generation {generation} is served in place of {replaced} \
                 from position {position} on"
            )?,
            Verdict::Differs => {
                writeln!(out, "partition {partition}: generation {replaced} is served as before")?;
            }
        }
    }
    let (events, rate, persons) = (report.events, report.events_per_second, report.persons);
    writeln!(out, "{events} events folded, {rate} a second; {persons} persons compared")?;
    let at_least = if report.at_least { "at least " } else { "" };
    let (differing, others) = (report.differing_persons, report.differing_others);
    writeln!(out, "{at_least}{differing} persons differ, and {others} other rows")?;
    for row in &report.differences {
        let person = row.person_id.map(|id| format!(" of {id}")).unwrap_or_default();
        writeln!(out, "{} {}{person}, partition {}:", row.table, row.key, row.partition)?;
        writeln!(out, "  served:  {}\n  rebuilt: {}", row.serving(), row.rebuilt())?;
    }
    Ok(())
}

fn tell_json(what: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    writeln!(out)?;
    Ok(())
}

async fn generations(args: GenerationsArgs) -> anyhow::Result<()> {
    let stop = stop::on_signal()?;
    let store = open(args.database).await?;
    if args.drop_old {
        let dropped = tokio::select! {
            dropped = generations::drop_old(store.pool()) => dropped?,
            () = stop.cancelled() => bail!("stopped; run it again and it drops the rest"),
        };
        for old in dropped {
            let (partition, generation) = (old.partition, old.generation);
            tracing::info!(partition, generation, "dropped");
        }
    }
    let all = generations::list(store.pool()).await?;
    if args.json {
        return tell_json(&all);
    }
    let mut out = io::stdout().lock();
    for of in &all {
        let (partition, generation, state) = (of.partition, of.generation, &of.state);
        let (version, position, since) = (of.version, of.position, of.since);
        writeln!(
            out,
            "partition {partition}, generation {generation}: {state} since {since}, version \
             {version}, at position {position}"
        )?;
    }
    Ok(())
}

const NO_DATABASE: &str = "no database: set DATABASE_URL, or database_url in the settings file";

async fn settings(args: ServeArgs) -> anyhow::Result<Settings> {
    let file: File = config::load(args.config.as_deref())?;
    let database_url = args.database_url.or(file.database_url).context(NO_DATABASE)?;
    let keys_command = args.keys_command.or(file.keys_command);
    let keys = Source::choose(keys_command, args.keys_file.or(file.keys_file))?;
    Ok(Settings {
        listen: args.listen.or(file.listen).unwrap_or(([127, 0, 0, 1], 50052).into()),
        access: args.access.start(file.access)?,
        database_url,
        durability: Durability::allowing_unsafe(
            args.allow_unsafe_database || file.allow_unsafe_database,
        ),
        keys: keys.start(false).await?,
        check_pause: Duration::from_secs(
            args.check_pause.or(file.check_pause).unwrap_or(CHECK_PAUSE),
        ),
        verifier_keys_file: args.verifier_keys_file.or(file.verifier_keys_file),
    })
}
