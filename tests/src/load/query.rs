//! Questions: a closed loop against the echo floor. Everybody is asked about once before, so what is
//! measured of GetAllowance is the answer from memory; the first pass, from the tables, is said too.

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
    options::Question,
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
    let question = bench.options.question;
    let (mut ours, mut floor) = (Rates::default(), Rates::default());
    for _ in 0..bench.options.rounds {
        ours.push(&ask(bench, "projector", question, channels.clone(), &payroll).await?);
        let echo = bench.echo.clone();
        floor.push(&ask(bench, "echo floor", Question::Allowance, echo, &payroll).await?);
    }
    let (asked, must) = match question {
        Question::Allowance => ("GetAllowance", Some(0.6)),
        Question::Statement => ("GetStatement", None),
        Question::Batch => ("BatchGetAllowances of 100", None),
    };
    let work = format!("{asked}, {} in flight", bench.options.in_flight);
    Ok(ours.rows(&work, "echo floor", &floor, must).into())
}

/// Questions at a time about persons that are not in memory: each is read from the database, and
/// more than these are a crowd that the projector refuses.
const COLD: usize = 64;

/// Persons of one call of BatchGetAllowances.
const BATCH: u64 = 100;

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
    question: Question,
    channels: Arc<Vec<Channel>>,
    payroll: &Arc<Payroll>,
) -> anyhow::Result<Tally> {
    let (payroll, next) = (payroll.clone(), Arc::new(AtomicU64::new(0)));
    let call = move |caller: usize| {
        let (payroll, number) = (payroll.clone(), next.fetch_add(1, Ordering::Relaxed));
        let mut client = AllowanceServiceClient::new(channels[caller % channels.len()].clone());
        async move {
            let refused = match question {
                Question::Allowance => {
                    told(client.get_allowance(payroll.question(number)).await)?.err()
                }
                Question::Statement => {
                    told(client.get_statement(payroll.statement(number)).await)?.err()
                }
                Question::Batch => {
                    told(client.batch_get_allowances(payroll.batch(number, BATCH)).await)?.err()
                }
            };
            Ok(refused.unwrap_or(Told::Done))
        }
    };
    bench.measure(name, bench.options.in_flight, call).await
}
