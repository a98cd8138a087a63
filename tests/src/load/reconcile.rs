//! After every work: what was acknowledged is stored, exactly once; positions are 1, 2, 3 …;
//! the totals are the sums. By SQL, with nothing of ours in between.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use sqlx::{PgConnection, PgPool, Row};
use tokio::time::{Instant, sleep};

use super::{figures::say, payroll::Book};

/// How long the projector may take to the head.
const PATIENCE: Duration = Duration::from_secs(300);

/// The acknowledged payments since the last check.
const ACKNOWLEDGED: &str = "CREATE TEMP TABLE acknowledged (
    partition integer NOT NULL, position bigint NOT NULL, reference text NOT NULL,
    oere bigint NOT NULL)";

/// The events since the last check, read from their records.
const STORED: &str = "CREATE TEMP TABLE stored AS
    SELECT partition, position, r->>'type' AS type, r->'data'->>'reference' AS reference,
           ((r->'data'->'facts'->>'amount')::numeric * 100)::bigint AS oere
    FROM (SELECT e.partition, e.position, e.record::jsonb AS r
          FROM unnest($1::integer[], $2::bigint[]) AS f (partition, position)
          JOIN ledger.event AS e ON e.partition = f.partition AND e.position > f.position) AS x";

/// Each counts what must not be; the second text says what it is.
const FAULTS: [(&str, &str); 6] = [
    (
        "SELECT count(*) FROM acknowledged AS a LEFT JOIN stored AS s USING (partition, position)
         WHERE (s.type, s.reference, s.oere)
               IS DISTINCT FROM ('payment_reported', a.reference, a.oere)",
        "acknowledged payments are not stored where and as acknowledged",
    ),
    (
        "SELECT count(*) - count(DISTINCT reference) FROM acknowledged",
        "references were acknowledged twice",
    ),
    (
        "SELECT count(*) - count(DISTINCT reference) FROM stored WHERE type = 'payment_reported'",
        "references are stored twice",
    ),
    (
        "SELECT count(*) FROM ledger.partition_head AS h
         LEFT JOIN (SELECT partition, count(*), min(position), max(position) FROM ledger.event
                    GROUP BY partition) AS e USING (partition)
         WHERE (coalesce(count, 0), coalesce(min, 1), coalesce(max, 0))
               IS DISTINCT FROM (h.position, 1::bigint, h.position)",
        "partitions have gaps, or another head than their last event",
    ),
    (
        "SELECT count(*) FROM projection.checkpoint AS c
         JOIN (SELECT * FROM projection.annual_total AS t
               FULL JOIN (SELECT partition, generation, person_id, year, sum(amount) AS paid,
                                 count(*) AS counted
                          FROM projection.payment WHERE NOT cancelled GROUP BY 1, 2, 3, 4) AS p
               USING (partition, generation, person_id, year)) AS t
         USING (partition, generation)
         WHERE c.state = 'serving' AND (t.total, t.payments) IS DISTINCT FROM (t.paid, t.counted)",
        "annual totals are not the sum of the payments",
    ),
    (
        "SELECT count(*) FROM stored AS s
         JOIN projection.checkpoint AS c ON c.partition = s.partition AND c.state = 'serving'
         LEFT JOIN projection.payment AS p
             ON p.partition = s.partition AND p.generation = c.generation
                AND p.registered = s.position
         WHERE s.type = 'payment_reported'
           AND (p.reference, (p.amount * 100)::bigint) IS DISTINCT FROM (s.reference, s.oere)",
        "recorded payments are not in the projection as recorded",
    ),
];

/// What the totals add up to, in øre.
const TOTALS: &str = "SELECT (coalesce(sum(total), 0) * 100)::bigint
    FROM projection.annual_total AS t JOIN projection.checkpoint AS c USING (partition, generation)
    WHERE c.state = 'serving'";

/// Where the last check ended.
#[derive(Debug)]
pub(super) struct Reconciler {
    positions: Vec<(i32, i64)>,
    totals: i64,
    journal: u64,
}

impl Reconciler {
    /// Begins at what is there; the projection must be at the head.
    pub(super) async fn start(pool: &PgPool) -> anyhow::Result<Self> {
        let mut connection = pool.acquire().await?;
        let positions = caught_up(&mut connection).await?;
        let totals = sqlx::query_scalar(TOTALS).fetch_one(&mut *connection).await?;
        Ok(Self { positions, totals, journal: 0 })
    }

    /// Checks everything since the last check; an error says what is wrong.
    pub(super) async fn check(&mut self, pool: &PgPool, book: &Book) -> anyhow::Result<()> {
        let mut connection = pool.acquire().await?.detach();
        let heads = caught_up(&mut connection).await?;
        sqlx::query(ACKNOWLEDGED).execute(&mut connection).await?;
        let journal = book.journal.read_from(self.journal)?;
        let copy = "COPY acknowledged FROM STDIN (FORMAT csv)";
        let mut copying = connection.copy_in_raw(copy).await?;
        copying.send(journal.as_slice()).await?;
        let acknowledged = copying.finish().await?;
        let (partitions, positions): (Vec<i32>, Vec<i64>) = self.positions.iter().copied().unzip();
        let stored = sqlx::query(STORED).bind(partitions).bind(positions);
        stored.execute(&mut connection).await?;
        // Of tables that have just been filled nothing is known, and a join would take minutes.
        let analyze = "ANALYZE acknowledged; ANALYZE stored; ANALYZE ledger.event;
                       ANALYZE projection.payment; ANALYZE projection.annual_total";
        sqlx::raw_sql(analyze).execute(&mut connection).await?;

        let mut found = Vec::new();
        for (count, what) in FAULTS {
            let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
            if count != 0 {
                found.push(format!("{count} {what}"));
            }
        }
        let sums = "SELECT coalesce(sum(oere), 0)::bigint, count(*) FROM stored
                    WHERE type = 'payment_reported'";
        let sums = sqlx::query(sums).fetch_one(&mut connection).await?;
        let (recorded, payments): (i64, i64) = (sums.try_get(0)?, sums.try_get(1)?);
        let totals: i64 = sqlx::query_scalar(TOTALS).fetch_one(&mut connection).await?;
        if totals - self.totals != recorded {
            let risen = totals - self.totals;
            found.push(format!("totals rose by {risen} øre, the records say {recorded}"));
        }
        if !found.is_empty() {
            bail!("reconciliation failed: {}", found.join("; "));
        }
        let unheard = payments - i64::try_from(acknowledged)?;
        say(&format!(
            "  reconciled: {acknowledged} acknowledged payments stored exactly once ({unheard} \
             more stored that nobody was told of), gapless to {heads:?}, totals = sums"
        ))?;
        self.positions = heads;
        self.totals = totals;
        self.journal += u64::try_from(journal.len())?;
        Ok(())
    }
}

/// Waits until the projection is at the head, and answers where that is.
async fn caught_up(connection: &mut PgConnection) -> anyhow::Result<Vec<(i32, i64)>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let both = "SELECT h.partition, h.position, coalesce(c.position, 0) AS folded
                    FROM ledger.partition_head AS h LEFT JOIN projection.checkpoint AS c
                    ON c.partition = h.partition AND c.state = 'serving' ORDER BY h.partition";
        let rows: Vec<(i32, i64, i64)> = sqlx::query_as(both)
            .fetch_all(&mut *connection)
            .await
            .context("the heads cannot be read")?;
        if rows.iter().all(|(_, position, folded)| position == folded) {
            return Ok(rows
                .into_iter()
                .map(|(partition, position, _)| (partition, position))
                .collect());
        }
        ensure!(Instant::now() < deadline, "the projection does not reach the head: {rows:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
