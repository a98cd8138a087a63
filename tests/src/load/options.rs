//! What can be asked of the load tool, and the limits of it.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::ensure;

/// What to measure.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Unary ReportPayment, closed loop, against the naive append and the echo floor; with
    /// `--in-flight 1`: one caller's p50 against one INSERT by the driver.
    Append(Options),
    /// ReportPayments, one stream and several, against binary COPY of the same rows.
    Stream(Options),
    /// 1000 in flight, then more than the queues hold: nothing lost, overload told at once.
    Flood(Options),
    /// Questions, closed loop, against the echo floor.
    Query(Options),
    /// The projector from nothing to the head.
    CatchUp(Options),
    /// The projection rebuilt beside itself under load: `--rate` appends and as many questions a
    /// second [default: 200], `--seconds` before each rebuild, `--events` at least.
    Rebuild(Options),
    /// CheckLedger over everything, against reading alone; and the ledger's memory meanwhile.
    Check(Options),
    /// Open loop: latency from the scheduled time, and from append to visible.
    Open(Options),
    /// All of it, with what must be reached beside.
    All(Options),
    /// The echo floor; the tool starts it as a process of its own.
    #[command(hide = true)]
    Echo(EchoOptions),
}

/// Options of the hidden `echo`.
#[derive(clap::Args, Debug)]
pub struct EchoOptions {
    #[arg(long)]
    pub(super) listen: SocketAddr,
}

/// What `query` asks.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// GetAllowance: from memory.
    Allowance,
    /// GetStatement: from the tables.
    Statement,
    /// BatchGetAllowances of 100 persons: from the tables.
    Batch,
}

/// How much, of what, on which ledger.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Makes persons, employers, amounts and days; printed with the figures.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How long each measurement lasts.
    #[arg(long, default_value_t = 5)]
    pub(super) seconds: u64,
    /// Persons that payments are spread over.
    #[arg(long, default_value_t = 10_000)]
    pub(super) persons: usize,
    /// Payments that each person has before anything is measured. With those that are measured
    /// they must fit the ledger's memory (400.000 payments by default), or it reads cold persons.
    #[arg(long, default_value_t = 20)]
    pub(super) history: usize,
    /// What `query` asks; what must be reached is said of allowances.
    #[arg(long, value_enum, default_value_t = Question::Allowance)]
    pub(super) question: Question,
    /// Calls under way in a closed loop.
    #[arg(long, default_value_t = 64)]
    pub(super) in_flight: usize,
    /// How often each measurement and its baseline take turns.
    #[arg(long, default_value_t = 3)]
    pub(super) rounds: usize,
    /// gRPC connections.
    #[arg(long, default_value_t = 4)]
    pub(super) connections: usize,
    /// Streams beside each other in `stream`, after one alone.
    #[arg(long, default_value_t = 4)]
    pub(super) streams: usize,
    /// Items of one measurement of `stream`.
    #[arg(long, default_value_t = 100_000)]
    pub(super) items: usize,
    /// Events that `catch-up` and `rebuild` fold, and `check` checks, at least.
    #[arg(long, default_value_t = 400_000)]
    pub(super) events: usize,
    /// Calls a second in `open` [default: six tenths of what a closed loop reaches], and in
    /// `rebuild`.
    #[arg(long)]
    pub(super) rate: Option<u32>,
    /// Let the projector fold while appends are measured.
    #[arg(long)]
    pub(super) follow: bool,
    /// Partitions of a ledger that is started here.
    #[arg(long, default_value_t = 1)]
    pub(super) partitions: u32,
    /// Payments that a ledger started here keeps in memory [default: its own].
    #[arg(long)]
    pub(super) cached_payments: Option<usize>,
    /// Start the ledger without a signing key, so that nothing is hashed and signed beside appends.
    #[arg(long, conflicts_with = "ledger")]
    pub(super) without_proofs: bool,
    /// Where `ledger` and `projector` lie [default: beside this program].
    #[arg(long)]
    pub(super) bin_dir: Option<PathBuf>,
    /// Where the private database goes; kept afterwards [default: a new directory, removed].
    #[arg(long)]
    pub(super) data_dir: Option<PathBuf>,
    /// Drive this ledger instead of a private one, as in `127.0.0.1:50051`.
    #[arg(long, requires_all = ["projector", "database_url"])]
    pub(super) ledger: Option<SocketAddr>,
    /// Its projector.
    #[arg(long, requires = "ledger")]
    pub(super) projector: Option<SocketAddr>,
    /// Its database, as the owner. Nobody else may write meanwhile.
    #[arg(long, requires = "ledger")]
    pub(super) database_url: Option<String>,
    /// The first person's number: another one gives other persons.
    #[arg(long, default_value_t = 0)]
    pub(super) first_person: usize,
}

impl Options {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let limited = |name: &str, value: usize, limit: usize| {
            ensure!((1..=limit).contains(&value), "--{name} must be 1 to {limit}");
            Ok(())
        };
        limited("seconds", usize::try_from(self.seconds)?, 600)?;
        limited("persons", self.persons, 1_000_000)?;
        limited("in-flight", self.in_flight, 10_000)?;
        limited("rounds", self.rounds, 100)?;
        limited("connections", self.connections, 64)?;
        limited("streams", self.streams, 64)?;
        limited("items", self.items, 20_000_000)?;
        limited("events", self.events, 100_000_000)?;
        for address in [self.ledger, self.projector].into_iter().flatten() {
            ensure!(address.ip().is_loopback(), "{address} is not a loopback address");
        }
        Ok(())
    }
}

/// One work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Append,
    Single,
    Stream,
    Flood,
    Query,
    CatchUp,
    Rebuild,
    Check,
    Open,
    All,
}

impl Work {
    /// What it consists of.
    pub(super) fn parts(self) -> Vec<Self> {
        match self {
            Self::All => vec![
                Self::Append,
                Self::Single,
                Self::Stream,
                Self::Flood,
                Self::Query,
                Self::Open,
                Self::CatchUp,
            ],
            part => vec![part],
        }
    }
}

impl Command {
    /// The work and its options; or those of the echo.
    pub(super) fn split(self) -> Result<(Work, Options), EchoOptions> {
        Ok(match self {
            Self::Append(options) => (Work::Append, options),
            Self::Stream(options) => (Work::Stream, options),
            Self::Flood(options) => (Work::Flood, options),
            Self::Query(options) => (Work::Query, options),
            Self::CatchUp(options) => (Work::CatchUp, options),
            Self::Rebuild(options) => (Work::Rebuild, options),
            Self::Check(options) => (Work::Check, options),
            Self::Open(options) => (Work::Open, options),
            Self::All(options) => (Work::All, options),
            Self::Echo(options) => return Err(options),
        })
    }
}
