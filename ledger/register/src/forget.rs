//! Forgetting a person: one caller asks for it, another confirms, and the rows that lead to the
//! person are destroyed. What is on record of it names nobody.
//!
//! What must stay out: who may ask; and events, which stay as they are and are nobody's then.

use frikort_domain::{PersonId, Reference};
use sqlx::Executor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{FORGOTTEN_WITHIN, NOBODY_ENTERS, Register, keys};

/// A request that a person be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgetting {
    /// Its id.
    pub request_id: Uuid,
    /// Whom it is about.
    pub person: PersonId,
    /// Why, as the number of a case.
    pub reference: String,
    /// The caller who asked for it.
    pub requested_by: String,
    /// When.
    pub requested_at: OffsetDateTime,
    /// The caller who confirmed it, and when.
    pub confirmed: Option<(String, OffsetDateTime)>,
}

/// What came of a confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// The person is forgotten, now or before.
    Forgotten(Forgetting),
    /// Whoever asked for it cannot confirm it.
    SameCaller,
}

struct Row {
    request_id: Uuid,
    person_id: Uuid,
    reference: String,
    requested_by: String,
    requested_at: OffsetDateTime,
    confirmed_by: Option<String>,
    confirmed_at: Option<OffsetDateTime>,
}

impl From<Row> for Forgetting {
    fn from(row: Row) -> Self {
        Self {
            request_id: row.request_id,
            person: PersonId(row.person_id),
            reference: row.reference,
            requested_by: row.requested_by,
            requested_at: row.requested_at,
            confirmed: row.confirmed_by.zip(row.confirmed_at),
        }
    }
}

impl Register {
    /// How many were forgotten, as far as that is known: whoever was found before it rose is to be
    /// looked for again. `None` where it was not read within [`FORGOTTEN_WITHIN`].
    pub fn forgotten(&self) -> Option<i64> {
        self.memory.forgotten()
    }

    /// Notes that a caller asks for a person to be forgotten; the same again is the same request.
    pub async fn request_forgetting(
        &self,
        person: PersonId,
        reference: &Reference,
        caller: &str,
        now: OffsetDateTime,
    ) -> Result<Forgetting, sqlx::Error> {
        sqlx::query!(
            "INSERT INTO register.forgetting
                 (request_id, person_id, reference, requested_by, requested_at)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT ON CONSTRAINT forgetting_person_key DO NOTHING",
            keys::random(),
            person.0,
            reference.as_str(),
            caller,
            now
        )
        .execute(&mut *self.pool.acquire().await?)
        .await?;
        let row = sqlx::query_as!(
            Row,
            r#"SELECT a.request_id, a.person_id, a.reference, a.requested_by, a.requested_at,
                      b.confirmed_by AS "confirmed_by?", b.confirmed_at AS "confirmed_at?"
               FROM register.forgetting AS a LEFT JOIN register.forgotten AS b USING (request_id)
               WHERE a.person_id = $1 AND a.reference = $2"#,
            person.0,
            reference.as_str()
        );
        Ok(row.fetch_one(&mut *self.pool.acquire().await?).await?.into())
    }

    /// The request with this id.
    pub async fn forgetting(&self, request_id: Uuid) -> Result<Option<Forgetting>, sqlx::Error> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT a.request_id, a.person_id, a.reference, a.requested_by, a.requested_at,
                      b.confirmed_by AS "confirmed_by?", b.confirmed_at AS "confirmed_at?"
               FROM register.forgetting AS a LEFT JOIN register.forgotten AS b USING (request_id)
               WHERE a.request_id = $1"#,
            request_id
        );
        Ok(row.fetch_optional(&mut *self.pool.acquire().await?).await?.map(Forgetting::from))
    }

    /// The requests that come after one, by when they were made, as many as `limit`.
    pub async fn forgettings(
        &self,
        after: (OffsetDateTime, Uuid),
        limit: i64,
    ) -> Result<Vec<Forgetting>, sqlx::Error> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT a.request_id, a.person_id, a.reference, a.requested_by, a.requested_at,
                      b.confirmed_by AS "confirmed_by?", b.confirmed_at AS "confirmed_at?"
               FROM register.forgetting AS a LEFT JOIN register.forgotten AS b USING (request_id)
               WHERE (a.requested_at, a.request_id) > ($1, $2)
               ORDER BY a.requested_at, a.request_id LIMIT $3"#,
            after.0,
            after.1,
            limit
        );
        Ok(rows
            .fetch_all(&mut *self.pool.acquire().await?)
            .await?
            .into_iter()
            .map(Forgetting::from)
            .collect())
    }

    /// Forgets the person whom a request is about, if another caller made it: puts it on record and
    /// destroys every row of the person, together. Returns when no process finds the person any
    /// more. Safe to repeat.
    pub async fn confirm_forgetting(
        &self,
        request: Forgetting,
        caller: &str,
        now: OffsetDateTime,
    ) -> Result<Confirmed, sqlx::Error> {
        if request.requested_by == caller {
            return Ok(Confirmed::SameCaller);
        }
        if request.confirmed.is_none() {
            self.forget(&request, caller, now).await?;
        }
        // Also when it was confirmed before, which may be a moment ago.
        tokio::time::sleep(FORGOTTEN_WITHIN).await;
        let confirmed = self.forgetting(request.request_id).await?.unwrap_or(request);
        Ok(Confirmed::Forgotten(confirmed))
    }

    async fn forget(
        &self,
        request: &Forgetting,
        caller: &str,
        now: OffsetDateTime,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        // A number that was entered meanwhile would lead to the person again.
        transaction.execute(NOBODY_ENTERS).await?;
        // The lock is the numbers' too. Who else has confirmed it meanwhile has done it.
        sqlx::query!(
            "INSERT INTO register.forgotten
                 (number, request_id, person_id, requested_by, confirmed_by, confirmed_at)
             VALUES ((SELECT coalesce(max(number), 0) + 1 FROM register.forgotten),
                     $1, $2, $3, $4, $5)
             ON CONFLICT ON CONSTRAINT forgotten_request_key DO NOTHING",
            request.request_id,
            request.person.0,
            &request.requested_by,
            caller,
            now
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("DELETE FROM register.person WHERE person_id = $1", request.person.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }
}
