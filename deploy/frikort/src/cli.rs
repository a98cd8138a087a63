//! The command line: options and their explanation, and which module does the work.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    Ending, access_log, allowance,
    as_of::AsOf,
    audit,
    client::{GaveUp, QUERY_PATIENCE, Service},
    demo, events, forget, import, limits, output,
    profile::{self, Us},
    stack, statement, watch,
};

const AFTER: &str = "\
Exit codes:
  0   done (a refused payment is a result, not a failure)
  1   not everything: a malformed row, a person without a card, or an error that is named
  2   gave up: a service could not be reached, or kept saying that it cannot answer now
      (audit: 1 is a contradiction, 2 means that not everything could be checked)
  64  the command line makes no sense

Examples:
  frikort demo                                      see everything once, with sample data
  frikort up                                        the ledger on this machine
  frikort import --visitations v.csv --payments p.csv --answers answers.csv
  frikort allowance --cpr 0101605001 --year 2025
  frikort allowance --cpr 0101605001 --year 2023 --known-at 2023-05-31T12:00:00Z
  frikort statement --cpr-file persons.txt --csv > splits.csv
  frikort statement --cpr 0101605001 --history --paid-through 2023-05-31
  frikort events --follow | jq .type
  frikort audit export history && frikort audit verify history
  frikort audit check
  frikort access-log --cpr 0101605001
  frikort forget request --cpr 0101605001 --reference SAG-1";

/// Register of payments on the Danish "socialt frikort": runs it on this machine, and asks it.
#[derive(Parser, Debug)]
#[command(name = "frikort", version, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: profile::Options,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// See it work: start everything, import sample data, explain and check the result
    Demo(stack::Args),
    /// Start the ledger, the projector and their database on this machine
    Up(stack::Args),
    /// Send visitations and payments from CSV files to the ledger
    Import(import::Args),
    /// How much of the yearly limit persons have used
    Allowance(allowance::Args),
    /// Every payment of persons with its exempt and taxable part
    Statement(statement::Args),
    /// Changes of allowances as they come: one line of CSV each, until Ctrl-C
    Watch(watch::Args),
    /// The history as it was recorded: one line of JSON an event
    Events(events::Args),
    /// The history as files, verified from them alone, and held against the projector
    #[command(subcommand)]
    Audit(audit::Command),
    /// When persons were looked up, and what for
    AccessLog(access_log::Args),
    /// Have a person forgotten, by two operators together
    #[command(subcommand)]
    Forget(forget::Command),
    /// The yearly limits on record
    Limits(Limits),
    /// The ledger service on its own.
    #[command(hide = true, subcommand)]
    Ledger(frikort_ledger::cli::Command),
    /// The projector service on its own.
    #[command(hide = true, subcommand)]
    Projector(frikort_projector::cli::Command),
}

#[derive(clap::Args, Debug)]
struct Limits {
    /// Record the limits of this file first: CSV with year,limit,in_force_from,citation.
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
    #[command(flatten)]
    ledger: Ledger,
}

/// Where the ledger is.
#[derive(clap::Args, Debug)]
pub(crate) struct Ledger {
    /// The ledger's address [default: the profile's, else 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR", env = "FRIKORT_LEDGER")]
    ledger: Option<String>,
}

impl Ledger {
    pub(crate) fn service(&self, us: &Us) -> anyhow::Result<Service> {
        self.service_with(us, QUERY_PATIENCE)
    }

    pub(crate) fn service_with(&self, us: &Us, patience: Duration) -> anyhow::Result<Service> {
        let address = self.ledger.as_deref().or(us.ledger.as_deref());
        Service::new(address.unwrap_or(stack::LEDGER), patience, &us.credentials)
    }
}

/// Where the projector is.
#[derive(clap::Args, Debug)]
pub(crate) struct ProjectorAddress {
    /// The projector's address [default: the profile's, else 127.0.0.1:50052].
    #[arg(long, value_name = "ADDR", env = "FRIKORT_PROJECTOR")]
    projector: Option<String>,
}

impl ProjectorAddress {
    pub(crate) fn service(&self, us: &Us) -> anyhow::Result<Service> {
        self.service_with(us, QUERY_PATIENCE)
    }

    pub(crate) fn service_with(&self, us: &Us, patience: Duration) -> anyhow::Result<Service> {
        let address = self.projector.as_deref().or(us.projector.as_deref());
        Service::new(address.unwrap_or(stack::PROJECTOR), patience, &us.credentials)
    }
}

/// Where the projector is, how fresh its answers must be, and as of when.
#[derive(clap::Args, Debug)]
pub(crate) struct Projector {
    #[command(flatten)]
    pub(crate) address: ProjectorAddress,
    #[command(flatten)]
    pub(crate) as_of: AsOf,
    /// Wait until the answer contains this position of the ledger.
    #[arg(long, value_name = "POSITION", default_value_t = 0, hide_default_value = true)]
    pub(crate) min_position: i64,
}

/// Runs the command of this process and answers its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("frikort: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Incomplete | Ending::Contradicted) => ExitCode::FAILURE,
        Ok(Ending::Unchecked) => ExitCode::from(2),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("frikort: {error:#}"));
            ExitCode::from(if error.is::<GaveUp>() { 2 } else { 1 })
        }
    }
}

/// What a service does when it is a program of its own: log; and, as our child, stop with us.
fn as_service() -> anyhow::Result<()> {
    stack::stop_with_parent();
    frikort_process::telemetry::start(frikort_event_store::warning_counter())
}

async fn run(Cli { command, connection }: Cli) -> anyhow::Result<Ending> {
    // A profile that makes no sense hinders only those who need it.
    let us = || connection.us();
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Up(args) => stack::up(args).await,
        Command::Import(args) => import::run(args, &us()?).await,
        Command::Allowance(args) => allowance::run(args, &us()?).await,
        Command::Statement(args) => statement::run(args, &us()?).await,
        Command::Watch(args) => watch::run(args, &us()?).await,
        Command::Events(args) => events::run(args, &us()?).await,
        Command::AccessLog(args) => access_log::run(args, &us()?).await,
        Command::Forget(command) => forget::run(command, &us()?).await,
        Command::Audit(command) => Ok(audit::run(command, us).await),
        Command::Limits(args) => {
            limits::run(&args.ledger.service(&us()?)?, args.load.as_deref()).await?;
            Ok(Ending::Done)
        }
        Command::Ledger(command) => {
            as_service()?;
            frikort_ledger::cli::run(command).await?;
            Ok(Ending::Done)
        }
        Command::Projector(command) => {
            as_service()?;
            frikort_projector::cli::run(command).await?;
            Ok(Ending::Done)
        }
    }
}
