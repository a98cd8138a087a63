//! What must hold of every database, whatever was done to it: asked by SQL, not by our code.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashMap;

use frikort_domain::{Account, Event, LimitSchedule, PersonId, Record, redecide};
use sqlx::PgPool;

/// Positions 1 to n in each partition, equal to the head; versions 1 to n in each stream;
/// instants that increase; every payment reported once; every event follows from the state before
/// it, and is decided the same anew. Gives the number of events.
pub async fn assert_sound(pool: &PgPool) -> i64 {
    let broken: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT partition, position FROM (
             SELECT partition, position,
                    position - row_number() OVER (PARTITION BY partition ORDER BY position) AS gap,
                    version - row_number() OVER (PARTITION BY partition, person_id ORDER BY version)
                        AS version_gap,
                    recorded_at - lag(recorded_at) OVER (PARTITION BY partition ORDER BY position)
                        AS step
             FROM ledger.event) AS e
         WHERE gap <> 0 OR version_gap <> 0 OR step <= interval '0'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(broken, [], "positions, versions or instants out of order");
    let heads: Vec<i32> = sqlx::query_scalar(
        "SELECT partition FROM ledger.partition_head AS h
         WHERE position <> (SELECT count(*) FROM ledger.event AS e WHERE e.partition = h.partition)",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(heads, [] as [i32; 0], "a head that is not the number of its events");
    let twice: Vec<String> = sqlx::query_scalar(
        "SELECT record::json #>> '{data,reference}' FROM ledger.event
         WHERE record::json ->> 'type' = 'payment_reported'
         GROUP BY partition, person_id, record::json #>> '{data,employer_cvr}', 1
         HAVING count(*) > 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(twice, [] as [String; 0], "payments that are reported twice");
    assert_decided_anew(pool).await;
    events(pool).await
}

/// Invariant 7: from the records alone, each event is decided as it was, and folds. So what is
/// used is min(limit, sum) for everybody at every position, by the limit in force there (A2).
async fn assert_decided_anew(pool: &PgPool) {
    let records: Vec<String> =
        sqlx::query_scalar("SELECT record FROM ledger.event ORDER BY partition, position")
            .fetch_all(pool)
            .await
            .unwrap();
    let mut limits: HashMap<i32, LimitSchedule> = HashMap::new();
    let mut accounts: HashMap<PersonId, Account> = HashMap::new();
    for record in &records {
        let record = Record::decode(record).unwrap();
        let limits = limits.entry(record.partition).or_default();
        match (&record.event, record.person_id) {
            (Event::AnnualLimitSet(entry), _) => {
                limits.record(entry.clone(), record.position, record.recorded_at);
            }
            (event, person) => {
                let account = accounts.entry(person.unwrap()).or_default();
                redecide(account, limits, &record).unwrap();
                account.apply(event, record.version, record.position, record.recorded_at).unwrap();
            }
        }
    }
}

/// The number of events.
pub async fn events(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM ledger.event").fetch_one(pool).await.unwrap()
}

/// The projection stands at the head, and its totals are the sums of the payments on record:
/// what was last stated for each payment that is not cancelled, taken from the records by SQL.
pub async fn assert_projection_is_the_fold(pool: &PgPool) {
    let behind: Vec<i32> = sqlx::query_scalar(
        "SELECT h.partition FROM ledger.partition_head AS h
         LEFT JOIN projection.checkpoint AS c
           ON c.partition = h.partition AND c.state = 'serving'
         WHERE h.position <> coalesce(c.position, 0)",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(behind, [] as [i32; 0], "partitions whose projection is not at the head");
    let wrong: Vec<(uuid::Uuid, i32)> = sqlx::query_as(
        "WITH last AS (
             SELECT DISTINCT ON (partition, person_id, cvr, reference) *
             FROM (SELECT partition, person_id, position, record::json AS r,
                          record::json #>> '{data,employer_cvr}' AS cvr,
                          record::json #>> '{data,reference}' AS reference
                   FROM ledger.event) AS e
             WHERE r ->> 'type' LIKE 'payment_%'
             ORDER BY partition, person_id, cvr, reference, position DESC),
         sums AS (
             SELECT partition, person_id, (r #>> '{outcome,year,year}')::integer AS year,
                    sum((r #>> '{data,facts,amount}')::numeric) AS total, count(*) AS payments
             FROM last WHERE r ->> 'type' <> 'payment_cancelled' GROUP BY 1, 2, 3)
         SELECT coalesce(s.person_id, t.person_id), coalesce(s.year, t.year)
         FROM sums AS s
         FULL JOIN (SELECT t.* FROM projection.annual_total AS t
                    JOIN projection.checkpoint AS c USING (partition, generation)
                    WHERE c.state = 'serving' AND payments > 0) AS t
           USING (partition, person_id, year)
         WHERE s.total IS DISTINCT FROM t.total OR s.payments IS DISTINCT FROM t.payments",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(wrong, [], "years whose total is not the sum of the payments");
    assert_eq!(unsettled(pool).await, 0, "years whose exempt parts do not add up to what is used");
}

/// How many persons' years have exempt parts that do not add up to what is used by the limit last
/// in force: whom a changed limit has still to reach.
pub async fn unsettled(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM projection.annual_total AS t
         JOIN projection.checkpoint AS c USING (partition, generation)
         JOIN LATERAL (
             SELECT l.amount FROM projection.annual_limit AS l
             WHERE l.partition = t.partition AND l.generation = t.generation AND l.year = t.year
             ORDER BY in_force_from DESC LIMIT 1) AS l ON true
         WHERE c.state = 'serving' AND least(l.amount, t.total) <> coalesce((
             SELECT sum(p.exempt) FROM projection.payment AS p
             WHERE p.partition = t.partition AND p.generation = t.generation
               AND p.person_id = t.person_id AND p.year = t.year), 0)",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Whether the projection stands at the head, and a changed limit has nobody left to reach: then
/// nothing is recorded any more by itself.
pub async fn is_at_rest(pool: &PgPool) -> bool {
    let behind: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM ledger.partition_head AS h
         LEFT JOIN projection.checkpoint AS c
           ON c.partition = h.partition AND c.state = 'serving'
         WHERE h.position <> coalesce(c.position, 0)",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    behind == 0 && unsettled(pool).await == 0
}
