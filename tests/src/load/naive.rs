//! The baseline: what one writes without thinking about throughput. Each request is a transaction
//! of its own: load the person's stream, decide, insert, commit. In this process, without gRPC,
//! on the same records, keys and domain; it keeps no gapless positions, which only helps it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use anyhow::{Context, bail};
use frikort_domain::{
    Account, Actor, Command, Decision, LimitSchedule, Record, Role, copenhagen_date, decide,
};
use frikort_process::{clock::Clock, database};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{bench::Bench, payroll::Payroll, people::Person};

const SCHEMA: &str = "
    DROP SCHEMA IF EXISTS load_baseline CASCADE;
    CREATE SCHEMA load_baseline;
    CREATE TABLE load_baseline.event (LIKE ledger.event INCLUDING ALL);
    CREATE TABLE load_baseline.copied (LIKE ledger.event INCLUDING ALL);
    CREATE TABLE load_baseline.single (LIKE ledger.event INCLUDING ALL)";

/// Makes the baselines' tables, empty.
pub(super) async fn make_tables(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::raw_sql(SCHEMA).execute(pool).await?;
    Ok(())
}

/// The naive appender.
#[derive(Debug)]
pub(super) struct Naive {
    pool: PgPool,
    limits: LimitSchedule,
    clock: Clock,
    position: AtomicI64,
}

impl Naive {
    /// With a connection for each call under way.
    pub(super) async fn new(bench: &Bench<'_>) -> anyhow::Result<Self> {
        let connections = u32::try_from(bench.options.in_flight)?;
        let database = database::options(&bench.stack.database_url, "frikort-load-naive")?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .connect_with(database)
            .await?;
        let position = AtomicI64::new(1 << 40);
        Ok(Self { pool, limits: bench.limits()?, clock: bench.clock.clone(), position })
    }

    /// Gives it the streams that these persons have in the ledger.
    pub(super) async fn take_over(&self, payroll: &Payroll) -> anyhow::Result<()> {
        let ids: Vec<_> = payroll.persons.iter().map(|person| person.id.0).collect();
        sqlx::raw_sql("TRUNCATE load_baseline.event").execute(&self.pool).await?;
        let copy = "INSERT INTO load_baseline.event
                    SELECT e.* FROM unnest($1::uuid[]) AS p (person_id)
                    JOIN ledger.event AS e USING (person_id) ORDER BY position";
        sqlx::query(copy).bind(ids).execute(&self.pool).await?;
        sqlx::raw_sql("ANALYZE load_baseline.event").execute(&self.pool).await?;
        Ok(())
    }

    /// Records the next payment.
    pub(super) async fn report(self: &Arc<Self>, payroll: &Payroll) -> anyhow::Result<()> {
        let payment = payroll.payment(payroll.take(1).start);
        let person = payroll.persons[payment.person];
        let command = payroll.command(&payment)?;
        loop {
            match self.append(person, &command).await {
                // Somebody else was quicker with the person's next version.
                Err(error) if is_conflict(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn append(&self, person: Person, command: &Command) -> anyhow::Result<()> {
        let mut transaction = self.pool.begin().await?;
        let stream: Vec<(i64, String)> = sqlx::query_as(
            "SELECT position, record FROM load_baseline.event
             WHERE partition = $1 AND person_id = $2 ORDER BY version",
        )
        .bind(person.partition)
        .bind(person.id.0)
        .fetch_all(&mut *transaction)
        .await?;
        let mut account = Account::default();
        for (position, line) in stream {
            let record = Record::decode(&line)?;
            account.apply(&record.event, record.version, position, record.recorded_at)?;
        }
        let now = self.clock.now();
        let event = match decide(&account, &self.limits, command, copenhagen_date(now)) {
            Ok(Decision::Record(event)) => event,
            other => bail!("the baseline decided otherwise: {other:?}"),
        };
        let record = Record {
            partition: person.partition,
            position: self.position.fetch_add(1, Ordering::Relaxed),
            person_id: Some(person.id),
            version: account.version() + 1,
            recorded_at: now,
            actor: Actor { role: Role::Operator, organisation: "local".to_owned() },
            trace_id: None,
            event,
        };
        sqlx::query(
            "INSERT INTO load_baseline.event
                 (partition, position, person_id, version, recorded_at, record)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(record.partition)
        .bind(record.position)
        .bind(person.id.0)
        .bind(record.version)
        .bind(record.recorded_at)
        .bind(record.encode())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await.context("the commit failed")
    }

    /// Closes its connections.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    cause.is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
