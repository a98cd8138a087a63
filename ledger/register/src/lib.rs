//! The identity register: from a CPR number to a person's opaque id, and nothing else of the
//! person.
//!
//! A CPR number is found by a keyed hash (HMAC-SHA-256) and kept sealed (AES-256-GCM), so the
//! table says nothing without the keys. Each row has a salt; a Frikort-ID stands in events only
//! as a hash under key and salt. Destroying the rows forgets the person (`forget.rs`); what is kept in
//! memory is let go with them (`memory.rs`). Keys change while a process runs (`source.rs`), and rows are
//! entered anew under new ones (`retag.rs`).
//!
//! What must stay out: decisions, events, and CPR numbers in anything that can be printed (W5).

mod forget;
mod keys;
mod memory;
mod number;
mod retag;
mod source;
mod text;
mod who;

use std::{collections::HashMap, fmt, sync::Arc};

use frikort_domain::{Cpr, FrikortId, FrikortTag, NumberTag, PersonId};
use frikort_event_store::{ConnectionPool, DatabaseSessions, ServerRun};
use memory::Memory;
use sqlx::{Executor, PgConnection};
use time::Date;
use tokio::sync::watch;
use uuid::Uuid;

pub use forget::{Confirmed, Forgetting};
pub use keys::{Keys, TagKey, TextTag};
pub use memory::FORGOTTEN_WITHIN;
pub use number::{NewNumber, enter_numbers};
pub use retag::{Left, Seen, Why, retag, unreadable};
pub use source::{InUse, KeysError, Source};
pub use text::KeysText;
pub use who::{Named, Who};

/// Where a person is found, as a keyed hash of the CPR number.
type CprTag = [u8; 32];

/// Keeps numbers from being entered by others until the end of a transaction. Reading goes on.
const NOBODY_ENTERS: &str = "LOCK TABLE register.person IN SHARE ROW EXCLUSIVE MODE";

/// A person, as the rest of the ledger knows one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// The opaque id.
    pub id: PersonId,
    /// The partition that holds the person's events; chosen once.
    pub partition: i32,
    /// The newest server run when the person was looked up: a decision about the person must not be
    /// recorded by a later run, whose register may not have the person.
    pub read_in: ServerRun,
    salt: [u8; 16],
}

/// Without the salt: what forgets a person must not live on in a log.
impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Person");
        shown.field("id", &self.id).field("partition", &self.partition).finish_non_exhaustive()
    }
}

/// The register of one process.
#[derive(Debug)]
pub struct Register {
    sessions: DatabaseSessions,
    pool: ConnectionPool,
    keys: InUse,
    memory: Arc<Memory>,
    sound: watch::Receiver<bool>,
}

struct Row {
    cpr_tag: Vec<u8>,
    person_id: Uuid,
    partition: i32,
    salt: Vec<u8>,
}

impl Register {
    /// Uses `pool`; and `watching`, of one connection, to learn that somebody was forgotten. Both are
    /// of `sessions`.
    pub fn start(
        sessions: DatabaseSessions,
        pool: ConnectionPool,
        watching: ConnectionPool,
        keys: InUse,
    ) -> Self {
        let (memory, sound) = Memory::start(sessions.clone(), watching);
        Self { sessions, pool, keys, memory, sound }
    }

    /// Whether the register can be read. Persons are not found without that, in memory or not, so
    /// nobody else may come to see that the database is away.
    pub fn sound(&self) -> watch::Receiver<bool> {
        self.sound.clone()
    }

    /// The person with this CPR number. Somebody who is not found is asked for anew each time,
    /// since another process may be entering them.
    pub async fn find_cpr(&self, cpr: &Cpr) -> Result<Option<Person>, sqlx::Error> {
        Ok(self.find_cprs(std::slice::from_ref(cpr)).await?.pop().flatten())
    }

    /// The persons with these CPR numbers, in the same order, with one query at most.
    pub async fn find_cprs(&self, cprs: &[Cpr]) -> Result<Vec<Option<Person>>, sqlx::Error> {
        let keys = self.keys.now();
        // In memory under one key. Who was put there under another is asked for again.
        let tags: Vec<CprTag> = cprs.iter().map(|cpr| keys.entering().cpr_tag(cpr)).collect();
        let (as_of, mut found) = (self.memory.as_of(), self.memory.recall_all(&tags));
        let missing: Vec<usize> = (0..cprs.len()).filter(|at| found[*at].is_none()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let asked: Vec<&Cpr> = missing.iter().map(|at| &cprs[*at]).collect();
        let read =
            read(&mut *self.pool.acquire().await?, self.sessions.server_run(), &keys, &asked)
                .await?;
        for (at, person) in missing.iter().zip(read) {
            found[*at] = person;
        }
        let read = missing.into_iter().filter_map(|at| Some((tags[at], found[at]?)));
        self.memory.remember(as_of, read);
        Ok(found)
    }

    /// The person with this id.
    pub async fn find_id(&self, id: PersonId) -> Result<Option<Person>, sqlx::Error> {
        let read_in = self.sessions.server_run();
        let row = sqlx::query_as!(
            Row,
            "SELECT cpr_tag, person_id, partition, salt FROM register.person
             WHERE person_id = $1 LIMIT 1",
            id.0
        )
        .fetch_optional(&mut *self.pool.acquire().await?)
        .await?;
        Ok(row.as_ref().and_then(|row| row.person(read_in)))
    }

    /// The date of birth of somebody in the register, by the sealed CPR numbers; of several
    /// numbers (N5) the youngest. `None` where the rows have gone, or were sealed under another
    /// key.
    pub async fn birth_date(&self, id: PersonId) -> Result<Option<Date>, sqlx::Error> {
        let keys = self.keys.now();
        let sealed =
            sqlx::query_scalar!("SELECT sealed FROM register.person WHERE person_id = $1", id.0)
                .fetch_all(&mut *self.pool.acquire().await?)
                .await?;
        let born = |sealed: &Vec<u8>| keys.unseal(sealed, id.0)?.birth_date();
        Ok(sealed.iter().filter_map(born).max())
    }

    /// Lets another CPR number lead to `person` too (N5), where the change is on record already.
    /// Answers whom it leads to now: somebody else, if it was somebody else's. Fails in a process
    /// that has no key to seal with.
    pub async fn enter_number(
        &self,
        person: &Person,
        cpr: &Cpr,
    ) -> Result<Option<Person>, sqlx::Error> {
        self.enter(cpr, person, keys::nonce()).await
    }

    /// The person with this CPR number, entered now if nobody is, in one of the partitions. Fails in
    /// a process that has no key to seal with.
    pub async fn find_or_enter(
        &self,
        cpr: &Cpr,
        partitions: &[i32],
    ) -> Result<Option<Person>, sqlx::Error> {
        if let Some(person) = self.find_cpr(cpr).await? {
            return Ok(Some(person));
        }
        let newcomer = keys::newcomer();
        let spread = usize::try_from(newcomer.id.as_u128() % 1024).unwrap_or_default();
        let Some(partition) = partitions.get(spread % partitions.len().max(1)) else {
            return Ok(None);
        };
        let (id, salt) = (PersonId(newcomer.id), newcomer.salt);
        let read_in = self.sessions.server_run();
        self.enter(cpr, &Person { id, partition: *partition, read_in, salt }, newcomer.nonce).await
    }

    /// Enters a number unless it is there, or the person was forgotten, and answers whom it leads to:
    /// ours, or that of a process that was quicker.
    async fn enter(
        &self,
        cpr: &Cpr,
        person: &Person,
        nonce: [u8; 12],
    ) -> Result<Option<Person>, sqlx::Error> {
        let keys = self.keys.now();
        if let [_] = keys.find[..] {
            insert(&mut *self.pool.acquire().await?, &keys, cpr, person, nonce).await?;
            return self.find_cpr(cpr).await;
        }
        // Another process may enter the same number under another key, and no constraint would see
        // that the two rows are of one number: so nobody else enters while it is looked for under
        // every key.
        let mut transaction = self.pool.begin().await?;
        transaction.execute(NOBODY_ENTERS).await?;
        let read_in = self.sessions.server_run();
        if read(&mut transaction, read_in, &keys, &[cpr]).await?.pop().flatten().is_none() {
            insert(&mut transaction, &keys, cpr, person, nonce).await?;
        }
        transaction.commit().await?;
        self.find_cpr(cpr).await
    }

    /// A Frikort-ID as it stands in this person's events.
    pub fn frikort_tag(&self, person: &Person, id: FrikortId) -> FrikortTag {
        self.keys.now().tag.frikort_tag(&person.salt, id)
    }

    /// A new CPR number as it stands in this person's events.
    pub fn number_tag(&self, person: &Person, cpr: &Cpr) -> NumberTag {
        self.keys.now().tag.number_tag(&person.salt, cpr)
    }

    /// Begins the tag of a text that may hold CPR numbers, the same in every process that has the
    /// register's keys.
    pub fn text_tag(&self) -> TextTag {
        self.keys.now().tag.text_tag()
    }

    /// The person with this CPR number, if known without asking the database.
    pub(crate) fn known(&self, cpr: &Cpr) -> Option<Person> {
        self.memory.recall(&self.keys.now().entering().cpr_tag(cpr))
    }
}

/// Whom numbers lead to, under whichever key they were entered; a place each.
async fn read(
    connection: &mut PgConnection,
    read_in: ServerRun,
    keys: &Keys,
    cprs: &[&Cpr],
) -> Result<Vec<Option<Person>>, sqlx::Error> {
    let tags: Vec<Vec<CprTag>> = cprs.iter().map(|cpr| keys.cpr_tags(cpr)).collect();
    let asked: Vec<Vec<u8>> = tags.iter().flatten().map(|tag| tag.to_vec()).collect();
    let rows = sqlx::query_as!(
        Row,
        "SELECT cpr_tag, person_id, partition, salt FROM register.person
         WHERE cpr_tag = ANY($1)",
        &asked
    )
    .fetch_all(connection)
    .await?;
    let read: HashMap<CprTag, Person> = rows.iter().filter_map(|row| row.tagged(read_in)).collect();
    Ok(tags.iter().map(|tags| tags.iter().find_map(|tag| read.get(tag).copied())).collect())
}

/// Enters a number under the first keys, unless it is there under the same one, or the person was
/// forgotten; answers whether it did.
async fn insert(
    connection: &mut PgConnection,
    keys: &Keys,
    cpr: &Cpr,
    person: &Person,
    nonce: [u8; 12],
) -> Result<bool, sqlx::Error> {
    let seal =
        keys.sealing().ok_or_else(|| sqlx::Error::Configuration(KeysError::NoSeal.into()))?;
    let inserted = sqlx::query!(
        "INSERT INTO register.person (cpr_tag, person_id, partition, salt, sealed)
         SELECT $1, $2, $3, $4, $5
         WHERE NOT EXISTS (SELECT FROM register.forgotten WHERE person_id = $2)
         ON CONFLICT ON CONSTRAINT person_pkey DO NOTHING",
        &keys.entering().cpr_tag(cpr)[..],
        person.id.0,
        person.partition,
        &person.salt[..],
        &seal.seal(cpr, nonce, person.id.0)
    )
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

impl Row {
    fn person(&self, read_in: ServerRun) -> Option<Person> {
        let salt = self.salt.as_slice().try_into().ok()?;
        Some(Person { id: PersonId(self.person_id), partition: self.partition, read_in, salt })
    }

    fn tagged(&self, read_in: ServerRun) -> Option<(CprTag, Person)> {
        Some((self.cpr_tag.as_slice().try_into().ok()?, self.person(read_in)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_is_not_shown() {
        let person = Person {
            id: PersonId(Uuid::nil()),
            partition: 3,
            read_in: ServerRun::NONE,
            salt: [171; 16],
        };
        let shown = format!("{person:?}");
        assert!(shown.contains("partition: 3") && !shown.contains("171"), "{shown}");
    }
}
