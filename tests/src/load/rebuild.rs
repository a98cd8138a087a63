//! A rebuild of the projection under load: so many appends and questions a second, before it and
//! while it lasts. Each append is asked for with its position, so an answer that lacks it is a
//! wrong one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use frikort_proto::v1::{
    allowance_service_client::AllowanceServiceClient, payment_service_client::PaymentServiceClient,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::transport::Channel;

use super::{
    bench::Bench,
    closed::micros,
    figures::{Latencies, Must, Row, Series, milliseconds, say},
    payroll::Payroll,
    process::connections,
};

/// Appends a second, and questions a second, where `--rate` does not say.
const RATE: u32 = 200;

/// What the traffic saw since it was last asked.
#[derive(Debug, Default)]
struct Seen {
    appends: Vec<u32>,
    questions: Vec<u32>,
    failed: u64,
    wrong: u64,
    /// The first thing that was not as it should be.
    what: Option<String>,
}

struct Traffic {
    payroll: Arc<Payroll>,
    ledger: Arc<Vec<Channel>>,
    projector: Arc<Vec<Channel>>,
    seen: Mutex<Seen>,
}

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    ensure!(bench.stack.owns_projector(), "a rebuild needs a database that was made here");
    let payroll = bench.payroll(bench.options.history).await?;
    let there: i64 = bench.heads().await?.iter().map(|(_, position)| position).sum();
    let missing = bench.options.events.saturating_sub(usize::try_from(there)?);
    bench.fill(&payroll, missing).await?;
    bench.reconcile().await?;
    let at = bench.stack.projector_at;
    let traffic = Arc::new(Traffic {
        payroll,
        ledger: bench.ledger.clone(),
        projector: Arc::new(connections(at, bench.options.connections).await?),
        seen: Mutex::default(),
    });
    let (stop, stopped) = watch::channel(false);
    let rate = bench.options.rate.unwrap_or(RATE);
    let running = tokio::spawn(pace(traffic.clone(), rate, stopped));
    let mut rows = Vec::new();
    for _ in 0..bench.options.rounds {
        rows.extend(round(bench, &traffic).await?);
    }
    stop.send_replace(true);
    running.await??;
    Ok(rows)
}

/// The same time without a rebuild, then one.
async fn round(bench: &mut Bench<'_>, traffic: &Traffic) -> anyhow::Result<Vec<Row>> {
    traffic.take();
    sleep(bench.time()).await;
    let before = traffic.take();
    let begun = Instant::now();
    let report = bench.stack.rebuild().await?;
    let took = begun.elapsed();
    let during = traffic.take();
    for (name, seen) in [("before", &before), ("during", &during)] {
        let (appends, questions) =
            (Latencies::of(&seen.appends)?.text(), Latencies::of(&seen.questions)?.text());
        say(&format!("  {name}: {} appends, {appends}", seen.appends.len()))?;
        say(&format!("  {name}: {} questions, {questions}", seen.questions.len()))?;
        let (failed, wrong) = (seen.failed, seen.wrong);
        let what = seen.what.as_deref().unwrap_or("nothing");
        say(&format!("  {name}: {failed} calls failed, {wrong} answers were wrong ({what})"))?;
        ensure!(failed == 0 && wrong == 0, "calls failed or answers were wrong");
    }
    let number = |name: &str| report[name].as_f64().unwrap_or_default();
    ensure!(report["verdict"] == "switched", "not switched: {report}");
    say(&format!(
        "  rebuild: {} events folded at {}/s, {} persons compared at {}/s, {:.1} s in all",
        number("events"),
        number("events_per_second"),
        number("persons"),
        number("persons_per_second"),
        took.as_secs_f64()
    ))?;
    let p99 = |seen: &Seen| anyhow::Ok(Latencies::of(&seen.questions)?.percentile(99.0));
    let (calm, busy) = (p99(&before)?, p99(&during)?);
    let one = |figure: f64| {
        let mut series = Series::default();
        series.push(figure);
        series
    };
    Ok(vec![
        Row::new(
            "rebuild, events folded under load",
            format!("{:.0}/s", number("events_per_second")),
            "40000/s asked of catch-up".to_owned(),
            one(number("events_per_second") / 40_000.0),
            None,
        ),
        Row::new(
            "questions during a rebuild, p99",
            format!("{} ms", milliseconds(busy)),
            format!("{} ms before it", milliseconds(calm)),
            one(busy.as_secs_f64() / calm.as_secs_f64()),
            None,
        ),
        Row::new(
            "questions failed or wrong",
            (during.failed + during.wrong).to_string(),
            format!("of {}", during.questions.len()),
            one(0.0),
            Some(Must::AtMost(0.0)),
        ),
    ])
}

/// An append and a question in turn, evenly spaced, whether or not earlier ones are answered.
async fn pace(
    traffic: Arc<Traffic>,
    rate: u32,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    for number in 0_usize.. {
        let due = ticks.tick().await.into_std();
        if *stopped.borrow() {
            break;
        }
        let traffic = traffic.clone();
        under_way.spawn(async move {
            if let Err(error) = traffic.one(number, due).await {
                traffic.note(|seen| {
                    seen.failed += 1;
                    seen.what.get_or_insert_with(|| format!("{error:#}"));
                });
            }
        });
        while let Some(ended) = under_way.try_join_next() {
            ended?;
        }
    }
    while let Some(ended) = under_way.join_next().await {
        ended?;
    }
    Ok(())
}

impl Traffic {
    /// One append, then one question that its answer must contain.
    async fn one(&self, number: usize, due: Instant) -> anyhow::Result<()> {
        let payment = self.payroll.payment(self.payroll.take(1).start);
        let request = self.payroll.wire(&payment);
        let channel = self.ledger[number % self.ledger.len()].clone();
        let answer = PaymentServiceClient::new(channel).report_payment(request).await?.into_inner();
        let appended = Instant::now();
        self.payroll.acknowledged(&payment, &answer)?;
        let position = answer.position.context("an answer without a position")?.position;
        let least = answer.allowance.context("an answer without an allowance")?;
        let question = self.payroll.question_about(payment.person, position);
        let channel = self.projector[number % self.projector.len()].clone();
        let told = AllowanceServiceClient::new(channel).get_allowance(question).await?.into_inner();
        let answered = Instant::now();
        let at = told.position.context("an answer without a position")?.position;
        let told = told.allowance.context("an answer without an allowance")?;
        // The same sum at the same position; more if the person was paid again by then.
        let is_right = at >= position
            && (told.total_oere, told.payment_count) >= (least.total_oere, least.payment_count)
            && (at > position || told.total_oere == least.total_oere);
        self.note(|seen| {
            seen.appends.push(micros(appended - due));
            seen.questions.push(micros(answered - appended));
            if !is_right {
                seen.wrong += 1;
                seen.what.get_or_insert_with(|| format!("{told:?} at {at} after {least:?}"));
            }
        });
        Ok(())
    }

    fn note(&self, with: impl FnOnce(&mut Seen)) {
        with(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
