//! The open loop: calls begin when they are due, whether or not earlier ones are answered, and
//! are timed from when they were due, so that a stall is not hidden. At half load also from the
//! answer of the append to the answer of a query that contains it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use frikort_proto::v1::{
    allowance_service_client::AllowanceServiceClient, payment_service_client::PaymentServiceClient,
};
use tokio::{runtime::Handle, sync::Semaphore, task::JoinSet};
use tonic::transport::Channel;

use super::{
    append::reports,
    bench::Bench,
    closed::micros,
    cpu::Cpu,
    figures::{Latencies, Must, Row, Series, milliseconds, say},
    payroll::Payroll,
    process::connections,
};

/// Calls under way at most; who would be one more is counted as not begun, and fails the run.
const OUTSTANDING: usize = 20_000;

/// One write in so many is asked for afterwards.
const ASKED: usize = 10;

/// What the calls saw.
#[derive(Debug, Default)]
struct Seen {
    answered: Vec<u32>,
    visible: Vec<u32>,
}

/// What each call needs.
struct Calls {
    payroll: Arc<Payroll>,
    ledger: Arc<Vec<Channel>>,
    projector: Arc<Vec<Channel>>,
    seen: Mutex<Seen>,
}

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    bench.stack.start_projector().await?;
    let at = bench.stack.projector_at;
    let projector = Arc::new(connections(at, bench.options.connections).await?);
    let mut rows = Vec::new();
    let (mut p50, mut p99) = (Series::default(), Series::default());
    for _ in 0..bench.options.rounds {
        let payroll = bench.payroll(bench.options.history).await?;
        let in_flight = bench.options.in_flight;
        let full = reports(bench, "closed loop", in_flight, &payroll, false).await?.rate();
        let rate = bench.options.rate.map_or(0.6 * full, f64::from);
        let half = bench.options.rate.map_or(full, f64::from) / 2.0;
        paced(bench, &payroll, &projector, rate, false).await?;
        let seen = paced(bench, &payroll, &projector, half, true).await?;
        let visible = Latencies::of(&seen.visible)?;
        say(&format!("    from append to visible: {}", visible.text()))?;
        p50.push(visible.percentile(50.0).as_secs_f64());
        p99.push(visible.percentile(99.0).as_secs_f64());
    }
    for (name, series, must) in [("p50", p50, 0.020), ("p99", p99, 0.100)] {
        let asked = Duration::from_secs_f64(must);
        let mut fixed = Series::default();
        (0..bench.options.rounds).for_each(|_| fixed.push(must));
        rows.push(Row::new(
            format!("append to visible, half load, {name}"),
            format!("{} ms", milliseconds(Duration::from_secs_f64(series.median()))),
            format!("{} ms asked", milliseconds(asked)),
            series.against(&fixed),
            Some(Must::AtMost(1.0)),
        ));
    }
    Ok(rows)
}

/// Calls at `rate` a second, evenly spaced.
async fn paced(
    bench: &Bench<'_>,
    payroll: &Arc<Payroll>,
    projector: &Arc<Vec<Channel>>,
    rate: f64,
    ask: bool,
) -> anyhow::Result<Seen> {
    let calls = Arc::new(Calls {
        payroll: payroll.clone(),
        ledger: bench.ledger.clone(),
        projector: projector.clone(),
        seen: Mutex::default(),
    });
    let before = Cpu::now(&bench.stack.pids());
    let (time, all) = (bench.time(), calls.clone());
    let runtime = Handle::current();
    // A thread of its own: the runtime's timer is only good to a millisecond.
    let (mut under_way, late) =
        tokio::task::spawn_blocking(move || pace(&runtime, &all, rate, time, ask)).await?;
    while let Some(ended) = under_way.join_next().await {
        ended??;
    }
    ensure!(late == 0, "{late} calls could not begin: {OUTSTANDING} were under way");
    let seen = std::mem::take(&mut *calls.seen.lock().unwrap_or_else(PoisonError::into_inner));
    let cpu = Cpu::now(&bench.stack.pids()).since(&before, seen.answered.len()).text;
    let latencies = Latencies::of(&seen.answered)?.text();
    say(&format!("  ledger, open loop at {rate:.0}/s, from when due: {latencies}; {cpu}"))?;
    Ok(seen)
}

/// Begins each call when it is due.
fn pace(
    runtime: &Handle,
    calls: &Arc<Calls>,
    rate: f64,
    time: Duration,
    ask: bool,
) -> (JoinSet<anyhow::Result<()>>, usize) {
    let places = Arc::new(Semaphore::new(OUTSTANDING));
    let (mut under_way, mut late) = (JoinSet::new(), 0);
    let begun = Instant::now();
    for number in 0_usize.. {
        let due = Duration::from_secs_f64(number as f64 / rate);
        if due >= time {
            break;
        }
        if let Some(wait) = due.checked_sub(begun.elapsed()) {
            thread::sleep(wait);
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            late += 1;
            continue;
        };
        let (calls, ask) = (calls.clone(), ask && number % ASKED == 0);
        let call = async move {
            let _place = place;
            one(&calls, number, begun + due, ask).await
        };
        under_way.spawn_on(call, runtime);
        while under_way.try_join_next().is_some_and(|ended| matches!(ended, Ok(Ok(())))) {}
    }
    (under_way, late)
}

async fn one(calls: &Calls, number: usize, due: Instant, ask: bool) -> anyhow::Result<()> {
    let payment = calls.payroll.payment(calls.payroll.take(1).start);
    let request = calls.payroll.wire(&payment);
    let channel = calls.ledger[number % calls.ledger.len()].clone();
    let answer = PaymentServiceClient::new(channel).report_payment(request).await?.into_inner();
    let answered = Instant::now();
    calls.payroll.acknowledged(&payment, &answer)?;
    let visible = if ask {
        let position = answer.position.context("an answer without a position")?.position;
        let question = calls.payroll.question_about(payment.person, position);
        let channel = calls.projector[number % calls.projector.len()].clone();
        AllowanceServiceClient::new(channel).get_allowance(question).await?;
        Some(micros(answered.elapsed()))
    } else {
        None
    };
    let mut seen = calls.seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.answered.push(micros(answered - due));
    seen.visible.extend(visible);
    Ok(())
}
