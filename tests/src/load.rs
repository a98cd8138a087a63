//! The load tool: how fast, next to what, and was it right?
//!
//! ```text
//!   load (this process) ──gRPC──▶ ledger serve ──▶ Postgres, durable ◀── projector serve ◀── load
//!        ├─ baselines of the same run, A B A B: naive appends, COPY, an echo in another process
//!        └─ journal of what was acknowledged ──▶ reconciliation by SQL
//! ```
//!
//! ```text
//! cargo build --release -p frikort-ledger -p frikort-projector
//! cargo run --release -p frikort-tests --bin load -- all
//! ```
//!
//! Rules for the next person
//!   - A figure without a baseline taken beside it says more about the machine than about us:
//!     every claim is a ratio, with its spread.
//!   - A fast wrong number is a failed run: each work ends with [`reconcile`], and a mismatch
//!     ends the program with code 1.
//!   - Bounded in count and time, loopback only, and it stops by pid what it started.
//!
//! What must stay out: tests. Nothing in the suite may fail because a machine was busy.

mod append;
mod bench;
mod catch_up;
mod check;
mod closed;
mod copy;
mod cpu;
mod echo;
mod figures;
mod flood;
mod journal;
mod naive;
mod open;
mod options;
mod payroll;
mod people;
mod process;
mod query;
mod rebuild;
mod reconcile;
mod stack;
mod stream;

use anyhow::bail;
use frikort_process::stop;

pub use options::Command;
use options::{Options, Work};

use bench::Bench;
use figures::Row;
use stack::Stack;

/// Runs one command to its end, or until the first signal; stops what it started either way.
pub async fn run(command: Command) -> anyhow::Result<()> {
    let stop = stop::on_signal()?;
    let (work, options) = match command.split() {
        Ok(work) => work,
        Err(echo) => return echo::serve(echo.listen, stop).await,
    };
    options.check()?;
    let mut stack = Stack::open(&options).await?;
    let outcome = tokio::select! {
        outcome = drive(&mut stack, work, &options) => outcome,
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped by a signal; nothing is claimed")),
    };
    let stopped = stack.stop().await;
    let rows = outcome?;
    stopped?;
    if rows.iter().any(|row| row.holds == Some(false)) {
        bail!("what must be reached was not reached");
    }
    Ok(())
}

async fn drive(stack: &mut Stack, work: Work, options: &Options) -> anyhow::Result<Vec<Row>> {
    stack.start(options).await?;
    let mut bench = Bench::new(stack, options.clone()).await?;
    let mut rows = Vec::new();
    for part in work.parts() {
        rows.extend(match part {
            Work::Append if options.in_flight == 1 => append::single(&mut bench).await?,
            Work::Append => append::crowd(&mut bench).await?,
            Work::Single => append::single(&mut bench).await?,
            Work::Stream => stream::run(&mut bench).await?,
            Work::Flood => flood::run(&mut bench).await?,
            Work::Query => query::run(&mut bench).await?,
            Work::CatchUp => catch_up::run(&mut bench).await?,
            Work::Rebuild => rebuild::run(&mut bench).await?,
            Work::Check => check::run(&mut bench).await?,
            Work::Open => open::run(&mut bench).await?,
            Work::All => Vec::new(),
        });
        bench.reconcile().await?;
    }
    figures::table(&rows)?;
    Ok(rows)
}
