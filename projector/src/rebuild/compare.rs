//! Two generations of a partition held against each other: the rows of a person in all tables, as
//! one digest, some persons a statement; then the rows that differ, to be shown.
//!
//! The served generation moves on meanwhile, and nothing waits for that: a person is compared when
//! no event of the person lies beyond where the new one stands, in the snapshot of the statement.
//! Both have then folded the same events of the person. Who has such an event is compared when it
//! has been folded. What must stay out: which one is right.

use frikort_event_store::PARTITION_STREAM;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

/// Persons whose digests are compared in one statement.
pub(crate) const PERSONS: i64 = 500;

/// Rows that are read to be shown, at most.
const ROWS: i64 = 100;

/// The two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) partition: i32,
    pub(crate) serving: i32,
    pub(crate) rebuilt: i32,
}

/// A row that the two have otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    pub(crate) partition: i32,
    /// Whose row; nobody's in the tables of limits and applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) person_id: Option<Uuid>,
    pub(crate) table: String,
    /// The row's key beside the person.
    pub(crate) key: String,
    /// The row as it is served; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<Box<RawValue>>,
    /// The row as it was folded anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuilt: Option<Box<RawValue>>,
}

impl Difference {
    /// The row as it is served, as text.
    pub(crate) fn serving(&self) -> &str {
        text(self.serving.as_deref())
    }

    /// The row as it was folded anew, as text.
    pub(crate) fn rebuilt(&self) -> &str {
        text(self.rebuilt.as_deref())
    }
}

fn text(row: Option<&RawValue>) -> &str {
    row.map_or("nothing", RawValue::get)
}

/// A row of a statement that gives both versions as text.
struct Both {
    table: String,
    key: String,
    serving: Option<String>,
    rebuilt: Option<String>,
}

impl Pair {
    /// The next persons after one, of either.
    pub(crate) async fn persons(
        self,
        connection: &mut PgConnection,
        after: Uuid,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        sqlx::query_scalar!(
            r#"WITH of AS (SELECT unnest(ARRAY[$2, $3]::integer[]) AS generation)
               SELECT person_id AS "person_id!" FROM of CROSS JOIN LATERAL (
                   (SELECT person_id FROM projection.card AS c
                    WHERE c.partition = $1 AND c.generation = of.generation AND person_id > $4
                    ORDER BY person_id LIMIT $5)
                   UNION ALL
                   (SELECT DISTINCT person_id FROM projection.annual_total AS t
                    WHERE t.partition = $1 AND t.generation = of.generation AND person_id > $4
                    ORDER BY person_id LIMIT $5)
                   UNION ALL
                   (SELECT DISTINCT person_id FROM projection.payment AS p
                    WHERE p.partition = $1 AND p.generation = of.generation AND person_id > $4
                    ORDER BY person_id LIMIT $5)) AS next
               GROUP BY person_id ORDER BY person_id LIMIT $5"#,
            self.partition,
            self.serving,
            self.rebuilt,
            after,
            PERSONS
        )
        .fetch_all(connection)
        .await
    }

    /// Those of `persons` whose rows differ although they have no event beyond `position`, where
    /// the new one stands. Columns are named, which is five times as quick as `to_jsonb`; a test
    /// holds the list against the tables.
    pub(crate) async fn differing(
        self,
        connection: &mut PgConnection,
        persons: &[Uuid],
        position: i64,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        sqlx::query_scalar!(
            r#"WITH line AS (
                   SELECT person_id, generation, 'c' || ROW(frikort_tags, municipality, active,
                              controlled_in, position)::text AS text
                   FROM projection.card
                   WHERE partition = $1 AND generation IN ($2, $3) AND person_id = ANY($4)
                   UNION ALL
                   SELECT person_id, generation, 't' || ROW(year, total, applied_limit, payments,
                              position)::text
                   FROM projection.annual_total
                   WHERE partition = $1 AND generation IN ($2, $3) AND person_id = ANY($4)
                   UNION ALL
                   SELECT person_id, generation, 'p' || ROW(employer_cvr, reference, registered,
                              drawn, position, year, revision, attribution_date, payment_date,
                              work_first, work_last, cancelled, amount, exempt, hours, wage,
                              holiday_pay, pension)::text
                   FROM projection.payment
                   WHERE partition = $1 AND generation IN ($2, $3) AND person_id = ANY($4)
               ), digest AS (
                   SELECT person_id, sha256(convert_to(
                              string_agg(text, E'\n' ORDER BY text COLLATE "C"), 'UTF8')) AS digest
                   FROM line GROUP BY person_id, generation
               )
               SELECT person_id AS "person_id!" FROM digest
               GROUP BY person_id
               -- Events are looked for of those alone who differ.
               HAVING CASE WHEN count(*) = 2 AND count(DISTINCT digest) = 1 THEN false
                      ELSE NOT EXISTS (SELECT FROM ledger.event AS e
                                       WHERE e.partition = $1 AND e.person_id = digest.person_id
                                         AND e.position > $5) END
               ORDER BY person_id"#,
            self.partition,
            self.serving,
            self.rebuilt,
            persons,
            position
        )
        .fetch_all(connection)
        .await
    }

    /// The rows of a person that differ.
    pub(crate) async fn rows(
        self,
        connection: &mut PgConnection,
        person: Uuid,
    ) -> Result<Vec<Difference>, sqlx::Error> {
        let rows = sqlx::query_as!(
            Both,
            r#"WITH line AS (
                   SELECT generation, 'card' AS table, '' AS key,
                          to_jsonb(c) - 'generation' - 'partition' AS row
                   FROM projection.card AS c
                   WHERE partition = $1 AND generation IN ($2, $3) AND person_id = $4
                   UNION ALL
                   SELECT generation, 'annual_total', year::text,
                          to_jsonb(t) - 'generation' - 'partition'
                   FROM projection.annual_total AS t
                   WHERE partition = $1 AND generation IN ($2, $3) AND person_id = $4
                   UNION ALL
                   SELECT generation, 'payment', employer_cvr || ' ' || reference,
                          to_jsonb(p) - 'generation' - 'partition'
                   FROM projection.payment AS p
                   WHERE partition = $1 AND generation IN ($2, $3) AND person_id = $4
               )
               SELECT coalesce(s.table, r.table) AS "table!", coalesce(s.key, r.key) AS "key!",
                      s.row::text AS serving, r.row::text AS rebuilt
               FROM (SELECT * FROM line WHERE generation = $2) AS s
               FULL JOIN (SELECT * FROM line WHERE generation = $3) AS r
                 ON s.table = r.table AND s.key = r.key
               WHERE s.row IS DISTINCT FROM r.row
               ORDER BY 1, 2 LIMIT $5"#,
            self.partition,
            self.serving,
            self.rebuilt,
            person,
            ROWS
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(|row| self.shown(Some(person), row)).collect())
    }

    /// The decisions about applications after `from` and up to `until` that differ.
    pub(crate) async fn applications(
        self,
        connection: &mut PgConnection,
        from: i64,
        until: i64,
    ) -> Result<Vec<Difference>, sqlx::Error> {
        let rows = sqlx::query_as!(
            Both,
            r#"SELECT 'application' AS "table!", position::text AS "key!",
                      s.row::text AS serving, r.row::text AS rebuilt
               FROM (SELECT position, to_jsonb(a) - 'generation' - 'partition' AS row
                     FROM projection.application AS a
                     WHERE partition = $1 AND generation = $2 AND position > $4 AND position <= $5)
                   AS s
               FULL JOIN (SELECT position, to_jsonb(a) - 'generation' - 'partition' AS row
                     FROM projection.application AS a
                     WHERE partition = $1 AND generation = $3 AND position > $4 AND position <= $5)
                   AS r USING (position)
               WHERE s.row IS DISTINCT FROM r.row
               ORDER BY position LIMIT $6"#,
            self.partition,
            self.serving,
            self.rebuilt,
            from,
            until,
            ROWS
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(|row| self.shown(None, row)).collect())
    }

    /// The limits that differ, unless one was recorded beyond `position`, where the new one stands.
    pub(crate) async fn limits(
        self,
        connection: &mut PgConnection,
        position: i64,
    ) -> Result<Vec<Difference>, sqlx::Error> {
        let rows = sqlx::query_as!(
            Both,
            r#"SELECT 'annual_limit' AS "table!", year || ' ' || in_force_from AS "key!",
                      s.row::text AS serving, r.row::text AS rebuilt
               FROM (SELECT year, in_force_from, to_jsonb(l) - 'generation' - 'partition' AS row
                     FROM projection.annual_limit AS l
                     WHERE partition = $1 AND generation = $2) AS s
               FULL JOIN (SELECT year, in_force_from, to_jsonb(l) - 'generation' - 'partition' AS row
                     FROM projection.annual_limit AS l
                     WHERE partition = $1 AND generation = $3) AS r USING (year, in_force_from)
               WHERE s.row IS DISTINCT FROM r.row
                 AND NOT EXISTS (SELECT FROM ledger.event AS e
                                 WHERE e.partition = $1 AND e.person_id = $4 AND e.position > $5)
               ORDER BY year, in_force_from LIMIT $6"#,
            self.partition,
            self.serving,
            self.rebuilt,
            PARTITION_STREAM,
            position,
            ROWS
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(|row| self.shown(None, row)).collect())
    }

    fn shown(self, person_id: Option<Uuid>, row: Both) -> Difference {
        // Postgres wrote it; what it writes is JSON.
        let json = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
        Difference {
            partition: self.partition,
            person_id,
            table: row.table,
            key: row.key,
            serving: json(row.serving),
            rebuilt: json(row.rebuilt),
        }
    }
}
