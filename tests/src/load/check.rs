//! CheckLedger over everything there is: how quickly it reads next to reading alone, and what the
//! ledger's memory comes to meanwhile. It rests as long as it works, on purpose.

use std::fs;

use anyhow::{Context, ensure};
use frikort_proto::v1::{
    CheckLedgerRequest, audit_service_client::AuditServiceClient, check_ledger_response::Item,
};
use tokio::time::Instant;

use super::{
    bench::Bench,
    catch_up,
    cpu::Cpu,
    figures::{Row, Series, say},
};

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    let there: i64 = bench.heads().await?.iter().map(|(_, position)| position).sum();
    let missing = bench.options.events.saturating_sub(usize::try_from(there)?);
    if missing > 0 {
        let payroll = bench.payroll(0).await?;
        bench.fill(&payroll, missing).await?;
    }
    // The projection is held against the records, and so is to be there.
    bench.reconcile().await?;
    let (mut ours, mut reading) = (Series::default(), Series::default());
    for _ in 0..bench.options.rounds {
        ours.push(check(bench).await?);
        reading.push(catch_up::read(bench).await?);
    }
    Ok(vec![Row::rates("CheckLedger", &ours, "reading alone", &reading, None)])
}

async fn check(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let head: i64 = bench.heads().await?.iter().map(|(_, position)| position).sum();
    let before = resident_kb(bench)?;
    let cpu = Cpu::now(&bench.stack.pids());
    let begun = Instant::now();
    let mut client = AuditServiceClient::new(bench.ledger[0].clone());
    let mut items = client.check_ledger(CheckLedgerRequest::default()).await?.into_inner();
    let (mut peak, mut concluded) = (before, None);
    while let Some(message) = items.message().await? {
        peak = peak.max(resident_kb(bench)?);
        if let Some(Item::Concluded(end)) = message.item {
            concluded = Some(end);
        }
    }
    let concluded = concluded.context("the check ended without a conclusion")?;
    ensure!(concluded.findings == 0, "{concluded:?}");
    let rate = head as f64 / begun.elapsed().as_secs_f64();
    let cpu = Cpu::now(&bench.stack.pids()).since(&cpu, usize::try_from(head)?).text;
    let (before, peak) = (before / 1024, peak / 1024);
    say(&format!(
        "  CheckLedger: {head} events at {rate:.0}/s; ledger {before} MB before, at most {peak} MB; \
         {cpu}"
    ))?;
    Ok(rate)
}

/// The ledger's resident memory now.
fn resident_kb(bench: &Bench<'_>) -> anyhow::Result<u64> {
    let pids = bench.stack.pids();
    let ledger = pids.iter().find(|(name, _)| *name == "ledger").context("whose ledger is it?")?;
    let status = fs::read_to_string(format!("/proc/{}/status", ledger.1))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(number.parse()?)
}
