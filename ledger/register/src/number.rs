//! A person's new CPR number (N5), entered in the transaction that records the change, so that the
//! register and the history agree whatever is cut off between them, and whoever else wants the number.
//!
//! Not here: the event, and the transaction itself.

use std::{fmt, sync::Arc};

use frikort_domain::Cpr;
use sqlx::{Executor, PgConnection};

use crate::{CprTag, Keys, NOBODY_ENTERS, Person, Register, insert, keys, read};

/// A CPR number that must lead to a person from the moment at which the change is on record.
pub struct NewNumber {
    keys: Arc<Keys>,
    cpr: Cpr,
    person: Person,
}

/// Without the number.
impl fmt::Debug for NewNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewNumber").field("person", &self.person).finish_non_exhaustive()
    }
}

impl NewNumber {
    fn tag(&self) -> CprTag {
        self.keys.entering().cpr_tag(&self.cpr)
    }
}

impl Register {
    /// Prepares to let `cpr` lead to `person`.
    pub fn new_number(&self, person: &Person, cpr: &Cpr) -> NewNumber {
        NewNumber { keys: self.keys.now(), cpr: cpr.clone(), person: *person }
    }

    /// Whether this CPR number leads to `person`. Always reads the table, so that the time it takes
    /// does not tell whether the number is somebody else's.
    pub async fn leads_to(&self, cpr: &Cpr, person: &Person) -> Result<bool, sqlx::Error> {
        let holder =
            read(&mut *self.pool.acquire().await?, person.read_in, &self.keys.now(), &[cpr])
                .await?
                .pop()
                .flatten();
        Ok(holder.is_some_and(|holder| holder.id == person.id))
    }
}

/// Enters numbers within a transaction. Answers the index of one that cannot be entered, if any: it
/// leads to somebody already (to the same person too), or its person was forgotten. The transaction
/// must then be rolled back. Fails in a process that has no key to seal with.
pub async fn enter_numbers(
    transaction: &mut PgConnection,
    numbers: &[&NewNumber],
) -> Result<Option<usize>, sqlx::Error> {
    if numbers.iter().any(|number| number.keys.find.len() > 1) {
        // During a rotation of keys the same number may be entered under another key, and no
        // constraint sees that: nobody else enters until this transaction ends.
        transaction.execute(NOBODY_ENTERS).await?;
    }
    // Whoever enters the same number waits for the end of this transaction. In the order of the tags,
    // so that two transactions never wait for each other.
    let mut in_order: Vec<_> = numbers.iter().enumerate().collect();
    in_order.sort_by_key(|(_, number)| number.tag());
    for (at, NewNumber { keys, cpr, person }) in in_order {
        let is_taken = keys.find.len() > 1
            && read(&mut *transaction, person.read_in, keys, &[cpr])
                .await?
                .pop()
                .flatten()
                .is_some();
        if is_taken || !insert(&mut *transaction, keys, cpr, person, keys::nonce()).await? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}
