//! Unary ReportPayment: many callers against the naive append and the echo floor, and one caller
//! against one INSERT.

use std::sync::Arc;

use frikort_proto::v1::payment_service_client::PaymentServiceClient;
use sqlx::{Connection, PgConnection, types::Uuid};
use time::OffsetDateTime;
use tokio::{sync::Mutex, time::Instant};
use tonic::transport::Channel;

use super::{
    bench::Bench,
    closed::{Tally, Told, told},
    figures::{Latencies, Must, Rates, Row, Series, milliseconds},
    naive::{self, Naive},
    payroll::Payroll,
};

/// Rows that are inserted one by one, at most.
const ROWS: i64 = 100_000;

/// Reports the next payment; notes it where `journal` is set.
pub(super) async fn report(
    channel: Channel,
    payroll: &Payroll,
    journal: bool,
) -> anyhow::Result<Told> {
    let payment = payroll.payment(payroll.take(1).start);
    let request = payroll.wire(&payment);
    match told(PaymentServiceClient::new(channel).report_payment(request).await)? {
        Ok(answer) if journal => {
            payroll.acknowledged(&payment, answer.get_ref())?;
            Ok(Told::Done)
        }
        Ok(_) => Ok(Told::Done),
        Err(refused) => Ok(refused),
    }
}

/// A closed loop of reports, to the ledger (and its journal) or to the echo.
pub(super) async fn reports(
    bench: &Bench<'_>,
    name: &str,
    in_flight: usize,
    payroll: &Arc<Payroll>,
    echo: bool,
) -> anyhow::Result<Tally> {
    let channels = if echo { bench.echo.clone() } else { bench.ledger.clone() };
    let payroll = payroll.clone();
    let call = move |caller: usize| {
        let channel = channels[caller % channels.len()].clone();
        let payroll = payroll.clone();
        async move { report(channel, &payroll, !echo).await }
    };
    bench.measure(name, in_flight, call).await
}

/// Many callers.
pub(super) async fn crowd(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    bench.quiet().await?;
    naive::make_tables(&bench.pool).await?;
    let naive = Arc::new(Naive::new(bench).await?);
    let in_flight = bench.options.in_flight;
    let (mut ours, mut theirs, mut floor) = (Rates::default(), Rates::default(), Rates::default());
    for _ in 0..bench.options.rounds {
        let payroll = bench.payroll(bench.options.history).await?;
        naive.take_over(&payroll).await?;
        ours.push(&reports(bench, "ledger, unary", in_flight, &payroll, false).await?);
        let call = {
            let (naive, payroll) = (naive.clone(), payroll.clone());
            move |_| {
                let (naive, payroll) = (naive.clone(), payroll.clone());
                async move { naive.report(&payroll).await.map(|()| Told::Done) }
            }
        };
        theirs.push(&bench.measure("naive append", in_flight, call).await?);
        floor.push(&reports(bench, "echo floor", in_flight, &payroll, true).await?);
    }
    naive.close().await;
    let work = format!("ReportPayment, {in_flight} in flight");
    let mut rows = Vec::from(ours.rows(&work, "naive append", &theirs, 2.5));
    rows.extend(ours.rows(&work, "echo floor", &floor, 0.35));
    Ok(rows)
}

/// One event as the table holds it.
type Stored = (i32, i64, Uuid, i64, OffsetDateTime, String);

/// One caller.
pub(super) async fn single(bench: &mut Bench<'_>) -> anyhow::Result<Vec<Row>> {
    bench.quiet().await?;
    naive::make_tables(&bench.pool).await?;
    let payroll = bench.payroll(bench.options.history).await?;
    let rows: Arc<Vec<Stored>> = Arc::new(
        sqlx::query_as(
            "SELECT partition, position, person_id, version, recorded_at, record
             FROM ledger.event ORDER BY partition, position DESC LIMIT $1",
        )
        .bind(ROWS)
        .fetch_all(&bench.pool)
        .await?,
    );
    let (mut ours, mut theirs) = (Series::default(), Series::default());
    for _ in 0..bench.options.rounds {
        let tally = reports(bench, "ledger, one caller", 1, &payroll, false).await?;
        ours.push(Latencies::of(&tally.done)?.percentile(50.0).as_secs_f64());
        let tally = inserts(bench, rows.clone()).await?;
        theirs.push(Latencies::of(&tally.done)?.percentile(50.0).as_secs_f64());
    }
    let p50 = |series: &Series| {
        format!("p50 {} ms", milliseconds(std::time::Duration::from_secs_f64(series.median())))
    };
    Ok(vec![Row::new(
        "ReportPayment, one caller",
        p50(&ours),
        p50(&theirs) + " one INSERT",
        ours.against(&theirs),
        Some(Must::AtMost(4.0)),
    )])
}

/// One INSERT after the other, each its own commit, by the driver.
async fn inserts(bench: &Bench<'_>, rows: Arc<Vec<Stored>>) -> anyhow::Result<Tally> {
    sqlx::raw_sql("TRUNCATE load_baseline.single").execute(&bench.pool).await?;
    let options = frikort_process::database::options(&bench.stack.database_url, "frikort-load")?;
    let connection = PgConnection::connect_with(&options).await?;
    // One caller, so nobody ever waits for this.
    let state = Arc::new(Mutex::new((connection, 0_usize)));
    let begun = Instant::now();
    let call = move |_| {
        let (state, rows) = (state.clone(), rows.clone());
        async move {
            let (connection, next) = &mut *state.lock().await;
            let Some(row) = rows.get(*next) else {
                anyhow::bail!("out of rows after {:?}; use fewer --seconds", begun.elapsed());
            };
            *next += 1;
            sqlx::query("INSERT INTO load_baseline.single VALUES ($1, $2, $3, $4, $5, $6)")
                .bind(row.0)
                .bind(row.1)
                .bind(row.2)
                .bind(row.3)
                .bind(row.4)
                .bind(&row.5)
                .execute(connection)
                .await?;
            Ok(Told::Done)
        }
    };
    bench.measure("one INSERT", 1, call).await
}
