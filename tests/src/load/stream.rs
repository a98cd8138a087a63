//! ReportPayments: one stream and several, against binary COPY of the same rows.

use std::{ops::Range, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use frikort_proto::v1::{
    ReportPaymentsRequest, payment_service_client::PaymentServiceClient, report_payments_response,
};
use futures::stream;
use tokio::{task::JoinSet, time::Instant};
use tonic::transport::Channel;

use super::{
    bench::Bench,
    copy,
    cpu::Cpu,
    figures::{Row, Series, say},
    naive,
    payroll::Payroll,
};

/// Sends the payments of these numbers over so many streams, and reads every result.
pub(super) async fn send(
    channels: &[Channel],
    payroll: &Arc<Payroll>,
    numbers: Range<u64>,
    streams: usize,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let share = (numbers.end - numbers.start).div_ceil(u64::try_from(streams)?);
    let mut sending = JoinSet::new();
    for (of, channel) in (0..u64::try_from(streams)?).zip(channels.iter().cycle()) {
        let first = numbers.start + of * share;
        let part = first.min(numbers.end)..(first + share).min(numbers.end);
        sending.spawn(send_one(channel.clone(), payroll.clone(), part));
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(begun.elapsed())
}

async fn send_one(
    channel: Channel,
    payroll: Arc<Payroll>,
    numbers: Range<u64>,
) -> anyhow::Result<()> {
    let of = payroll.clone();
    let items = stream::iter(numbers.clone().map(move |number| {
        let payment = Some(of.wire(&of.payment(number)));
        ReportPaymentsRequest { payment, ..Default::default() }
    }));
    let mut client = PaymentServiceClient::new(channel);
    let mut results = client.report_payments(items).await?.into_inner();
    let mut next = numbers.clone();
    while let Some(result) = results.message().await? {
        let number = next.next().context("more results than items")?;
        let index = u64::try_from(result.index)?;
        ensure!(index == number - numbers.start, "result {index} out of order");
        match result.result.context("a result without content")? {
            report_payments_response::Result::Recorded(answer) => {
                payroll.acknowledged(&payroll.payment(number), &answer)?;
            }
            report_payments_response::Result::Refused(refusal) => {
                bail!("item {index} was refused: {}", refusal.message);
            }
            report_payments_response::Result::Totals(_) => bail!("totals that nobody asked for"),
        }
    }
    ensure!(next.is_empty(), "the stream ended before its last result");
    Ok(())
}

/// One stream, COPY, several streams, COPY, and again.
pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    bench.quiet().await?;
    naive::make_tables(&bench.pool).await?;
    let several = bench.options.streams;
    let mut ours = [Series::default(), Series::default()];
    let mut theirs = [Series::default(), Series::default()];
    for _ in 0..bench.options.rounds {
        let payroll = bench.payroll(0).await?;
        for (at, streams) in [1, several].into_iter().enumerate() {
            let from = bench.heads().await?;
            ours[at].push(timed(bench, &payroll, streams).await?);
            theirs[at].push(copy::again(bench, &from).await?);
        }
    }
    let [one, more] = ours;
    let [beside_one, beside_more] = theirs;
    Ok(vec![
        Row::rates("ReportPayments, 1 stream", &one, "COPY", &beside_one, Some(0.35)),
        Row::rates(format!("…, {several} streams"), &more, "COPY", &beside_more, Some(0.35)),
    ])
}

async fn timed(bench: &Bench<'_>, payroll: &Arc<Payroll>, streams: usize) -> anyhow::Result<f64> {
    let items = bench.options.items;
    let before = Cpu::now(&bench.stack.pids());
    let numbers = payroll.take(u64::try_from(items)?);
    let elapsed = send(&bench.ledger, payroll, numbers, streams).await?;
    let cpu = Cpu::now(&bench.stack.pids()).since(&before, items).text;
    let rate = items as f64 / elapsed.as_secs_f64();
    say(&format!("  ledger, {streams} stream(s): {rate:.0}/s; {cpu}"))?;
    Ok(rate)
}
