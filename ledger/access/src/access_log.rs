//! The access log's table, `access.lookup`: rows in, and rows out, in their order.
//!
//! A row is what one commit noted of look-ups that are alike in all but person and time (see the
//! migration). What must stay out: when a look-up is noted, and who may read of it.

use frikort_domain::PersonId;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

/// A row: look-ups that are alike in all but person and time.
#[derive(Clone, Debug)]
pub struct Noted {
    /// The latest of `times`, or of a row noted with it.
    pub noted_at: OffsetDateTime,
    /// Tells rows of one instant apart.
    pub lookup_id: Uuid,
    /// Who looked, by name.
    pub caller: String,
    /// The caller's role, by name.
    pub role: String,
    /// The purpose code.
    pub purpose: String,
    /// The method, as `AllowanceService/GetAllowance`.
    pub method: String,
    /// What was asked of the persons, as `year 2026`.
    pub asked: String,
    /// When each of `persons` was looked up.
    pub times: Vec<OffsetDateTime>,
    /// Who was looked up; nil where nobody was found.
    pub persons: Vec<Uuid>,
}

/// Rows that are to be noted together, column by column; persons and times of all of them one after
/// the other.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rows {
    ids: Vec<Uuid>,
    callers: Vec<String>,
    roles: Vec<String>,
    purposes: Vec<String>,
    methods: Vec<String>,
    asked: Vec<String>,
    firsts: Vec<i32>,
    lasts: Vec<i32>,
    times: Vec<OffsetDateTime>,
    persons: Vec<Uuid>,
}

/// What the look-ups of one row have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Alike<'a> {
    pub(crate) caller: &'a str,
    pub(crate) role: &'a str,
    pub(crate) purpose: &'a str,
    pub(crate) method: &'a str,
    pub(crate) asked: &'a str,
}

impl<'a> Alike<'a> {
    pub(crate) fn texts(&self) -> [&'a str; 5] {
        [self.caller, self.role, self.purpose, self.method, self.asked]
    }
}

impl Rows {
    /// Adds a row; one of no look-ups is none.
    pub(crate) fn add(
        &mut self,
        id: Uuid,
        alike: &Alike<'_>,
        each: impl Iterator<Item = (OffsetDateTime, PersonId)>,
    ) {
        // Places in an array of SQL, which begins with 1.
        let first = place(self.persons.len() + 1);
        for (at, person) in each {
            self.times.push(at);
            self.persons.push(person.0);
        }
        let last = place(self.persons.len());
        if last < first {
            return;
        }
        self.ids.push(id);
        self.callers.push(alike.caller.to_owned());
        self.roles.push(alike.role.to_owned());
        self.purposes.push(alike.purpose.to_owned());
        self.methods.push(alike.method.to_owned());
        self.asked.push(alike.asked.to_owned());
        self.firsts.push(first);
        self.lasts.push(last);
    }

    /// How many persons' look-ups they are.
    pub(crate) fn persons(&self) -> usize {
        self.persons.len()
    }

    /// Writes all of them with one statement and one commit; once, however often it is done.
    pub(crate) async fn write(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let last = self.times.iter().max().copied();
        sqlx::query!(
            "INSERT INTO access.lookup
                 (noted_at, lookup_id, caller, role, purpose, method, asked, times, persons)
             SELECT $11, r.id, r.caller, r.role, r.purpose, r.method, r.asked,
                    ($9::timestamptz[])[r.first:r.last], ($10::uuid[])[r.first:r.last]
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::integer[], $8::integer[])
                  AS r (id, caller, role, purpose, method, asked, first, last)
             ON CONFLICT DO NOTHING",
            &self.ids,
            &self.callers,
            &self.roles,
            &self.purposes,
            &self.methods,
            &self.asked,
            &self.firsts,
            &self.lasts,
            &self.times,
            &self.persons,
            last
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}

/// The next rows after one, by when they were noted, as many as `limit`, of those noted before an
/// instant.
pub async fn noted_after(
    pool: &PgPool,
    (noted_at, lookup_id): (OffsetDateTime, Uuid),
    before: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Noted>, sqlx::Error> {
    sqlx::query_as!(
        Noted,
        "SELECT noted_at, lookup_id, caller, role, purpose, method, asked, times, persons
         FROM access.lookup
         WHERE (noted_at, lookup_id) > ($1, $2) AND noted_at >= $1 AND noted_at < $3
         ORDER BY noted_at, lookup_id LIMIT $4",
        noted_at,
        lookup_id,
        before,
        limit
    )
    .fetch_all(pool)
    .await
}

fn place(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}
