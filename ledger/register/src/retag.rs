//! Rows under new keys: each is found and sealed anew under the first ones, so that older keys are
//! needed no more.
//!
//! Done by a command, as the tables' owner, so that no service may change a row. It can be cut off at
//! any time and run again: a row is under the old keys or under the new ones, whole, and everybody
//! finds it under both. A row is changed where it stands, or is gone: nobody who was forgotten comes
//! back.
//!
//! What must stay out: CPR numbers, in what is told of a row.

use std::{collections::HashMap, fmt};

use frikort_domain::PersonId;
use frikort_event_store::ConnectionPool;
use uuid::Uuid;

use crate::{CprTag, Keys, keys};

/// What was seen of the rows, and what was done.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Rows seen in this round.
    pub rows: u64,
    /// Rows entered anew, in this round and those before.
    pub renewed: u64,
    /// How far this round is, in per cent. Tags are spread evenly, so the last one tells.
    pub percent: u8,
    /// Rows of this round that could not be.
    pub left: Vec<Left>,
}

/// A row that stays as it is.
#[derive(Clone, Debug)]
pub struct Left {
    /// Whose it is.
    pub person: PersonId,
    /// Why it stays.
    pub why: Why,
}

/// Why a row stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// None of the keys unseals its CPR number.
    Sealed,
    /// None of the keys finds it by the number that is sealed in it.
    Elsewhere,
    /// The number leads to somebody else too, under the new key.
    Taken(PersonId),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let person = self.person;
        match self.why {
            Why::Sealed => write!(f, "{person}: the number is sealed under another key"),
            Why::Elsewhere => write!(f, "{person}: the number is found under another key"),
            Why::Taken(other) => write!(f, "{person}: the number leads to {other} too"),
        }
    }
}

struct Row {
    cpr_tag: Vec<u8>,
    person_id: Uuid,
    sealed: Vec<u8>,
}

/// What is to be done with a row.
enum Judged {
    Stays,
    Anew(CprTag, Vec<u8>),
    Left(Why),
}

impl Row {
    fn judge(&self, keys: &Keys) -> Judged {
        let Some(cpr) = keys.unseal(&self.sealed, self.person_id) else {
            return Judged::Left(Why::Sealed);
        };
        let tags = keys.cpr_tags(&cpr);
        if !tags.iter().any(|tag| tag[..] == self.cpr_tag) {
            return Judged::Left(Why::Elsewhere);
        }
        let Some(seal) = keys.sealing() else { return Judged::Left(Why::Sealed) };
        if tags[0][..] == self.cpr_tag && seal.unseal(&self.sealed, self.person_id).is_some() {
            return Judged::Stays;
        }
        Judged::Anew(tags[0], seal.seal(&cpr, keys::nonce(), self.person_id))
    }
}

/// The next rows, by tag.
async fn next(pool: &ConnectionPool, after: &[u8], page: i64) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        "SELECT cpr_tag, person_id, sealed FROM register.person
         WHERE cpr_tag > $1 ORDER BY cpr_tag LIMIT $2",
        after,
        page
    )
    .fetch_all(&mut *pool.acquire().await?)
    .await
}

/// Enters every row anew under the first keys, so many at a time, and tells how far it is after
/// each. Ends after a round in which there was nothing to do: what is entered under an old key behind
/// its back is met in the next.
pub async fn retag(
    pool: &ConnectionPool,
    keys: &Keys,
    page: i64,
    mut told: impl FnMut(&Seen),
) -> Result<Seen, sqlx::Error> {
    let mut renewed = 0;
    loop {
        let mut seen = Seen { renewed, ..Seen::default() };
        let mut after = Vec::new();
        loop {
            let rows = next(pool, &after, page).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.cpr_tag);
            renew(pool, keys, &rows, &mut seen).await?;
            let first_byte = u32::from(after.first().copied().unwrap_or_default());
            seen.percent = u8::try_from(first_byte * 100 / 256).unwrap_or_default();
            told(&seen);
        }
        if seen.renewed == renewed {
            return Ok(Seen { percent: 100, ..seen });
        }
        renewed = seen.renewed;
    }
}

/// Rows that are to be entered anew, a column each.
#[derive(Default)]
struct Anew {
    old: Vec<Vec<u8>>,
    person: Vec<Uuid>,
    tag: Vec<Vec<u8>>,
    sealed: Vec<Vec<u8>>,
}

async fn renew(
    pool: &ConnectionPool,
    keys: &Keys,
    rows: &[Row],
    seen: &mut Seen,
) -> Result<(), sqlx::Error> {
    let mut anew = Anew::default();
    for row in rows {
        seen.rows += 1;
        match row.judge(keys) {
            Judged::Stays => {}
            Judged::Left(why) => seen.left.push(Left { person: PersonId(row.person_id), why }),
            Judged::Anew(tag, sealed) => {
                anew.old.push(row.cpr_tag.clone());
                anew.person.push(row.person_id);
                anew.tag.push(tag.to_vec());
                anew.sealed.push(sealed);
            }
        }
    }
    if anew.old.is_empty() {
        return Ok(());
    }
    // One statement, so that whoever enters a number waits for no more than that. Who was forgotten
    // meanwhile is not there to be changed.
    let done = sqlx::query_scalar!(
        r#"UPDATE register.person AS p SET cpr_tag = n.tag, sealed = n.sealed
           FROM unnest($1::bytea[], $2::uuid[], $3::bytea[], $4::bytea[])
                AS n (old, person_id, tag, sealed)
           WHERE p.cpr_tag = n.old AND p.person_id = n.person_id
             AND (n.tag = n.old
                  OR NOT EXISTS (SELECT FROM register.person AS o WHERE o.cpr_tag = n.tag))
           RETURNING n.old AS "old!""#,
        &anew.old,
        &anew.person,
        &anew.tag,
        &anew.sealed
    )
    .fetch_all(&mut *pool.acquire().await?)
    .await?;
    seen.renewed += u64::try_from(done.len()).unwrap_or_default();
    if done.len() < anew.old.len() {
        seen.left.extend(taken(pool, &anew).await?);
    }
    Ok(())
}

/// Those whose number leads to somebody else under the new key.
async fn taken(pool: &ConnectionPool, anew: &Anew) -> Result<Vec<Left>, sqlx::Error> {
    let there = sqlx::query!(
        "SELECT cpr_tag, person_id FROM register.person WHERE cpr_tag = ANY($1)",
        &anew.tag
    )
    .fetch_all(&mut *pool.acquire().await?)
    .await?;
    let there: HashMap<Vec<u8>, Uuid> =
        there.into_iter().map(|row| (row.cpr_tag, row.person_id)).collect();
    let taken = |(tag, person): (&Vec<u8>, &Uuid)| {
        let other = there.get(tag).filter(|other| *other != person)?;
        Some(Left { person: PersonId(*person), why: Why::Taken(PersonId(*other)) })
    };
    Ok(anew.tag.iter().zip(&anew.person).filter_map(taken).collect())
}

/// The rows that these keys do not find, or not unseal, of all that there are.
pub async fn unreadable(
    pool: &ConnectionPool,
    keys: &Keys,
    page: i64,
) -> Result<Vec<Left>, sqlx::Error> {
    let (mut left, mut after) = (Vec::new(), Vec::new());
    loop {
        let rows = next(pool, &after, page).await?;
        let Some(last) = rows.last() else { return Ok(left) };
        after.clone_from(&last.cpr_tag);
        left.extend(rows.iter().filter_map(|row| match row.judge(keys) {
            Judged::Left(why) => Some(Left { person: PersonId(row.person_id), why }),
            Judged::Stays | Judged::Anew(..) => None,
        }));
    }
}
