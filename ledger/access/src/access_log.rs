//! The access log's table, `access.lookup`: rows in, and rows out, in their order.
//!
//! A row is what one commit noted of look-ups that are alike in all but person and time (see the
//! migration). What must stay out: when a look-up is noted, and who may read of it.

use std::collections::HashMap;

use frikort_domain::PersonId;
use frikort_event_store::ConnectionPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::note::{Alike, Note};

/// Persons of a row at most: so many are in their page as they are, and more would be compressed, which
/// costs more than it saves.
const PERSONS: usize = 256;

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

impl Rows {
    /// One row for what is alike in all but person and time; more where those are many. The same notes of
    /// the same segment make the same rows, under the same names: a version that divides them otherwise
    /// would note twice what another has noted and not removed.
    pub(crate) fn of(segment: Uuid, notes: &[Note<'_>]) -> Self {
        let mut kinds: Vec<(Alike<'_>, Vec<_>)> = Vec::new();
        let mut places = HashMap::new();
        for note in notes {
            let place = *places.entry(note.alike()).or_insert_with(|| {
                kinds.push((note.alike(), Vec::new()));
                kinds.len() - 1
            });
            let at = note.time().unwrap_or(OffsetDateTime::UNIX_EPOCH);
            kinds[place].1.extend(note.persons().iter().map(|person| (at, *person)));
        }
        let parts = kinds.iter().flat_map(|(alike, each)| {
            each.chunks(PERSONS).map(move |each| (alike, each.iter().copied()))
        });
        let mut rows = Self::default();
        for (number, (alike, each)) in (0..).zip(parts) {
            rows.add(Uuid::from_u128(segment.as_u128().wrapping_add(number)), alike, each);
        }
        rows
    }

    /// Adds a row; one of no look-ups is none.
    fn add(
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
    pub(crate) async fn write(&self, pool: &ConnectionPool) -> Result<(), sqlx::Error> {
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
        .execute(&mut *pool.acquire().await?)
        .await?;
        Ok(())
    }
}

/// The next rows after one, by when they were noted, as many as `limit`, of those noted before an
/// instant.
pub async fn noted_after(
    pool: &ConnectionPool,
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
    .fetch_all(&mut *pool.acquire().await?)
    .await
}

fn place(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::note::tests::{ALIKE, AT, person};

    #[test]
    fn one_row_for_what_is_alike_and_the_same_rows_each_time() {
        let persons = [person(1), person(2)];
        let other = Alike { asked: "year 2025", ..ALIKE };
        let notes = [
            Note::new(AT, &ALIKE, &persons).unwrap(),
            Note::new(AT, &other, &persons).unwrap(),
            Note::new(AT + Duration::SECOND, &ALIKE, &persons[..1]).unwrap(),
        ];
        let mut expected = Rows::default();
        let first = [(AT, person(1)), (AT, person(2)), (AT + Duration::SECOND, person(1))];
        expected.add(Uuid::from_u128(7), &ALIKE, first.into_iter());
        let second = [(AT, person(1)), (AT, person(2))];
        expected.add(Uuid::from_u128(8), &other, second.into_iter());
        for _ in 0..2 {
            assert_eq!(Rows::of(Uuid::from_u128(7), &notes), expected);
        }
    }

    #[test]
    fn many_are_several_rows() {
        let persons: Vec<_> = (1..=600).map(person).collect();
        let notes = [Note::new(AT, &ALIKE, &persons).unwrap()];
        let mut expected = Rows::default();
        for (number, part) in (7..).zip([&persons[..256], &persons[256..512], &persons[512..]]) {
            let each = part.iter().map(|person| (AT, *person));
            expected.add(Uuid::from_u128(number), &ALIKE, each);
        }
        assert_eq!(Rows::of(Uuid::from_u128(7), &notes), expected);
    }
}
