//! The projector from nothing to the head: read, fold, write totals and payments, checkpoint.
//! The projection's tables are emptied for it, which anybody may do who owns them, since they can
//! be folded again; the events stay untouched.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use super::{
    bench::Bench,
    cpu::Cpu,
    figures::{Must, Row, Series, say},
};

/// What must be reached, in events a second.
const MUST: f64 = 40_000.0;

/// How long one catch-up may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Events read together by the baseline.
const PAGE: i64 = 5_000;

const RESET: &str = "
    TRUNCATE projection.annual_total, projection.payment, projection.card, projection.annual_limit,
             projection.application;
    UPDATE projection.checkpoint SET position = 0, recorded_at = NULL";

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    ensure!(bench.stack.owns_projector(), "catch-up needs a projector that was started here");
    bench.stack.stop_projector().await?;
    let there: i64 = bench.heads().await?.iter().map(|(_, position)| position).sum();
    let missing = bench.options.events.saturating_sub(usize::try_from(there)?);
    if missing > 0 {
        let payroll = bench.payroll(0).await?;
        bench.fill(&payroll, missing).await?;
    }
    let (mut ours, mut reading) = (Series::default(), Series::default());
    for _ in 0..bench.options.rounds {
        ours.push(catch_up(bench).await?);
        reading.push(read(bench).await?);
    }
    let mut must = Series::default();
    (0..bench.options.rounds).for_each(|_| must.push(MUST));
    Ok(vec![
        Row::new(
            "projector, catch-up",
            format!("{:.0}/s", ours.median()),
            format!("{MUST:.0}/s asked"),
            ours.against(&must),
            Some(Must::AtLeast(1.0)),
        ),
        Row::rates("…", &ours, "reading alone", &reading, None),
    ])
}

async fn catch_up(bench: &mut Bench<'_>) -> anyhow::Result<f64> {
    bench.stack.stop_projector().await?;
    sqlx::raw_sql(RESET).execute(&bench.pool).await?;
    let head: i64 = bench.heads().await?.iter().map(|(_, position)| position).sum();
    let begun = Instant::now();
    bench.stack.spawn_projector()?;
    let before = Cpu::now(&bench.stack.pids());
    while folded(bench).await? < head {
        ensure!(begun.elapsed() < PATIENCE, "the projector does not reach the head");
        sleep(Duration::from_millis(10)).await;
    }
    let rate = head as f64 / begun.elapsed().as_secs_f64();
    let cpu = Cpu::now(&bench.stack.pids()).since(&before, usize::try_from(head)?).text;
    say(&format!("  projector: {head} events at {rate:.0}/s, its start included; {cpu}"))?;
    Ok(rate)
}

async fn folded(bench: &Bench<'_>) -> anyhow::Result<i64> {
    let folded = "SELECT coalesce(sum(position), 0)::bigint FROM projection.checkpoint
                  WHERE state = 'serving'";
    Ok(sqlx::query_scalar(folded).fetch_one(&bench.pool).await?)
}

/// Reads the events by position, page by page, and does nothing with them. Positions have no
/// gaps, so a page is a range of them, which is quick whatever the planner knows of the table.
pub(super) async fn read(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut count = 0_usize;
    for (partition, head) in bench.heads().await? {
        let mut from = 0_i64;
        while from < head {
            let page: Vec<(i64, String)> = sqlx::query_as(
                "SELECT position, record FROM ledger.event
                 WHERE partition = $1 AND position > $2 AND position <= $2 + $3 ORDER BY position",
            )
            .bind(partition)
            .bind(from)
            .bind(PAGE)
            .fetch_all(&bench.pool)
            .await?;
            from += PAGE;
            count += page.len();
        }
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    say(&format!("  reading alone: {rate:.0}/s"))?;
    Ok(rate)
}
