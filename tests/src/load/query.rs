//! GetAllowance: a closed loop against the echo floor. Everybody is asked about once before, so
//! what is measured is the answer from memory; the first pass, from the tables, is said too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::ensure;
use frikort_proto::v1::allowance_service_client::AllowanceServiceClient;
use futures::{StreamExt, TryStreamExt, stream};
use tonic::transport::Channel;

use super::{
    bench::Bench,
    closed::{Tally, Told, told},
    figures::{Rates, Row, say},
    payroll::Payroll,
    process::connections,
};

/// Payments of each person; the answer does not depend on how many there are.
const HISTORY: usize = 5;

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    let payroll = bench.payroll(HISTORY).await?;
    bench.reconcile().await?;
    let at = bench.stack.projector_at;
    let channels = Arc::new(connections(at, bench.options.connections).await?);
    first_pass(bench, &channels, &payroll).await?;
    let (mut ours, mut floor) = (Rates::default(), Rates::default());
    for _ in 0..bench.options.rounds {
        ours.push(&ask(bench, "projector", channels.clone(), &payroll).await?);
        floor.push(&ask(bench, "echo floor", bench.echo.clone(), &payroll).await?);
    }
    let work = format!("GetAllowance, {} in flight", bench.options.in_flight);
    Ok(ours.rows(&work, "echo floor", &floor, 0.6).into())
}

/// Questions at a time about persons that are not in memory: each is read from the database, and
/// more than these are a crowd that the projector refuses.
const COLD: usize = 64;

/// Asks about everybody once.
async fn first_pass(
    bench: &Bench<'_>,
    channels: &[Channel],
    payroll: &Payroll,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let persons = payroll.persons.len();
    let paid: Vec<i32> = stream::iter(0..persons)
        .map(|person| {
            let mut client = AllowanceServiceClient::new(channels[person % channels.len()].clone());
            let question = payroll.question_about(person, 0);
            async move {
                let answer = client.get_allowance(question).await?.into_inner();
                anyhow::Ok(answer.allowance.map_or(0, |allowance| allowance.payment_count))
            }
        })
        .buffer_unordered(bench.options.in_flight.min(COLD))
        .try_collect()
        .await?;
    let paid: i64 = paid.into_iter().map(i64::from).sum();
    ensure!(paid == i64::try_from(persons * HISTORY)?, "the answers count {paid} payments");
    let rate = persons as f64 / begun.elapsed().as_secs_f64();
    say(&format!("  projector, first answer about each person: {rate:.0}/s"))
}

async fn ask(
    bench: &Bench<'_>,
    name: &str,
    channels: Arc<Vec<Channel>>,
    payroll: &Arc<Payroll>,
) -> anyhow::Result<Tally> {
    let (payroll, next) = (payroll.clone(), Arc::new(AtomicU64::new(0)));
    let call = move |caller: usize| {
        let question = payroll.question(next.fetch_add(1, Ordering::Relaxed));
        let mut client = AllowanceServiceClient::new(channels[caller % channels.len()].clone());
        async move {
            let answer = client.get_allowance(question).await;
            Ok(match told(answer)? {
                Ok(_) => Told::Done,
                Err(refused) => refused,
            })
        }
    };
    bench.measure(name, bench.options.in_flight, call).await
}
