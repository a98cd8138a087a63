//! More callers than the ledger serves at once: nobody waits longer than the crowd explains, and
//! beyond the bounded queues everybody is told at once, and nothing is lost. That nothing was
//! lost shows in the reconciliation.

use super::{
    append::reports,
    bench::Bench,
    figures::{Latencies, Must, Row, Series, milliseconds, say},
};

/// Callers who must all be served.
const CROWD: usize = 1_000;

/// Callers who cannot all have a place in the queue.
const TOO_MANY: usize = 12_000;

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    bench.quiet().await?;
    let (mut p99, mut fair) = (Series::default(), Series::default());
    let (mut refusals, mut answers) = (Series::default(), Series::default());
    for _ in 0..bench.options.rounds {
        let payroll = bench.payroll(bench.options.history).await?;
        let tally = reports(bench, "ledger, 1000 in flight", CROWD, &payroll, false).await?;
        p99.push(Latencies::of(&tally.done)?.percentile(99.0).as_secs_f64());
        fair.push(CROWD as f64 / tally.rate());
        let tally = reports(bench, "ledger, 12000 in flight", TOO_MANY, &payroll, false).await?;
        let refused = Latencies::of(&tally.refused)?;
        say(&format!("    {} refused as overloaded: {}", tally.refused.len(), refused.text()))?;
        refusals.push(refused.percentile(99.0).as_secs_f64());
        answers.push(Latencies::of(&tally.done)?.percentile(50.0).as_secs_f64());
    }
    let text = |name: &str, series: &Series| {
        let time = std::time::Duration::from_secs_f64(series.median());
        format!("{name} {} ms", milliseconds(time))
    };
    Ok(vec![
        Row::new(
            "ReportPayment, 1000 in flight",
            text("p99", &p99),
            text("in flight / throughput", &fair),
            p99.against(&fair),
            Some(Must::AtMost(2.0)),
        ),
        Row::new(
            "…, 12000: a refusal",
            text("p99", &refusals),
            text("an answer's p50", &answers),
            refusals.against(&answers),
            Some(Must::AtMost(1.0)),
        ),
    ])
}
