//! What every measurement works with: the services, the connections, payments, and the check
//! afterwards.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use frikort_domain::{Amount, LimitEntry, LimitSchedule, copenhagen_date};
use frikort_process::{clock::Clock, database};
use sqlx::{PgPool, postgres::PgPoolOptions};
use time::Date;
use tonic::transport::Channel;

use super::{
    closed::{self, Tally, Told},
    cpu::Cpu,
    figures::{say, say_tally},
    journal::Journal,
    options::Options,
    payroll::{Book, Payroll},
    people,
    process::connections,
    reconcile::Reconciler,
    stack::Stack,
    stream,
};

/// Connections of the tool itself; the naive baseline has its own.
const CONNECTIONS: u32 = 4;

/// Items of a stream that fills, at a time.
const FILL: u64 = 500_000;

/// The work table.
pub(super) struct Bench<'a> {
    pub(super) stack: &'a mut Stack,
    pub(super) options: Options,
    pub(super) pool: PgPool,
    pub(super) ledger: Arc<Vec<Channel>>,
    pub(super) echo: Arc<Vec<Channel>>,
    pub(super) book: Arc<Book>,
    pub(super) clock: Clock,
    /// Of this year, in øre.
    limit_oere: i64,
    next_person: usize,
    reconciler: Reconciler,
}

impl<'a> Bench<'a> {
    pub(super) async fn new(stack: &'a mut Stack, options: Options) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let now = clock.now();
        let today = copenhagen_date(now);
        // Letters keep it from looking like a number of a person.
        let prefix = format!("load{:x}s{}", now.unix_timestamp_nanos() / 1000, options.seed);
        let database = database::options(&stack.database_url, "frikort-load")?;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_with(database).await?;
        let ledger = connections(stack.ledger_at, options.connections).await?;
        let echo = connections(stack.echo_at, options.connections).await?;
        let limit_oere = people::limit(ledger[0].clone(), today.year()).await?;
        let journal = Journal::create(stack.journal())?;
        say(&format!(
            "seed {}, run {prefix}, {} persons with {} payments each, {} in flight over {} \
             connections, {} s, {} rounds, projector {}",
            options.seed,
            options.persons,
            options.history,
            options.in_flight,
            options.connections,
            options.seconds,
            options.rounds,
            if options.follow { "folding meanwhile" } else { "at rest while appends are measured" },
        ))?;
        Ok(Self {
            reconciler: Reconciler::start(&pool).await?,
            book: Arc::new(Book::new(prefix, today, options.seed, journal)),
            ledger: Arc::new(ledger),
            echo: Arc::new(echo),
            next_person: options.first_person,
            stack,
            options,
            pool,
            clock,
            limit_oere,
        })
    }

    /// How long one measurement lasts.
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.options.seconds)
    }

    /// New persons with cards, each with about so many payments, known to the ledger's memory.
    pub(super) async fn payroll(&mut self, history: usize) -> anyhow::Result<Arc<Payroll>> {
        let first = self.next_person;
        self.next_person += self.options.persons;
        let persons = people::grant(&self.ledger, first..self.next_person).await?;
        let payroll = Arc::new(Payroll::new(self.book.clone(), first, persons));
        self.fill(&payroll, self.options.persons * history).await?;
        Ok(payroll)
    }

    /// Reports so many payments, as quickly as it goes.
    pub(super) async fn fill(&self, payroll: &Arc<Payroll>, items: usize) -> anyhow::Result<()> {
        let mut left = u64::try_from(items)?;
        while left > 0 {
            let numbers = payroll.take(left.min(FILL));
            left -= numbers.end - numbers.start;
            stream::send(&self.ledger, payroll, numbers, 2).await?;
        }
        Ok(())
    }

    /// The projector rests while appends are measured, unless asked otherwise.
    pub(super) async fn quiet(&mut self) -> anyhow::Result<()> {
        if self.options.follow { Ok(()) } else { self.stack.stop_projector().await }
    }

    /// A closed loop, said with its name.
    pub(super) async fn measure<F, C>(
        &self,
        name: &str,
        in_flight: usize,
        call: F,
    ) -> anyhow::Result<Tally>
    where
        F: Fn(usize) -> C + Clone + Send + 'static,
        C: Future<Output = anyhow::Result<Told>> + Send,
    {
        let before = Cpu::now(&self.stack.pids());
        let mut tally = closed::run(in_flight, self.time(), call).await?;
        tally.cpu = Cpu::now(&self.stack.pids()).since(&before, tally.done.len());
        say_tally(name, &tally)?;
        Ok(tally)
    }

    /// Where the partitions stand.
    pub(super) async fn heads(&self) -> anyhow::Result<Vec<(i32, i64)>> {
        let heads = "SELECT partition, position FROM ledger.partition_head ORDER BY partition";
        Ok(sqlx::query_as(heads).fetch_all(&self.pool).await?)
    }

    /// The limits, for the baseline that decides too.
    pub(super) fn limits(&self) -> anyhow::Result<LimitSchedule> {
        let year = self.book.today.year();
        let mut limits = LimitSchedule::default();
        limits.set(LimitEntry {
            year,
            limit: Amount::from_oere(self.limit_oere)?,
            in_force_from: Date::from_ordinal_date(year, 1).context("a year without days")?,
            citation: String::new(),
        });
        Ok(limits)
    }

    /// Holds the tables against the journal; everything acknowledged so far must be there.
    pub(super) async fn reconcile(&mut self) -> anyhow::Result<()> {
        self.stack.start_projector().await?;
        self.reconciler.check(&self.pool, &self.book).await
    }
}
