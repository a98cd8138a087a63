//! As whom a service is connected: as a role that cannot change the past, or not at all.
//!
//! Grants and triggers bind neither a superuser nor the owner of the tables, so a service that ran
//! as one of them could do whatever a fault, or whoever took it over, made of it. What must stay
//! out: what each role may do, which is in the migrations.

use crate::{ConnectionPool, StoreError};

/// Refuses a superuser, and whoever owns the events or may become their owner.
///
/// It is the session's user that counts: a role that was only set can be put off again.
pub(crate) async fn refuse_owner(pool: &ConnectionPool) -> Result<(), StoreError> {
    let found = sqlx::query!(
        r#"SELECT session_user::text AS "user!", u.rolsuper AS "is_superuser!",
                  pg_has_role(u.oid, c.relowner, 'MEMBER') AS "may_become_owner!",
                  pg_get_userbyid(c.relowner)::text AS "owner!"
           FROM pg_roles AS u, pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE u.rolname = session_user AND n.nspname = 'ledger' AND c.relname = 'event'"#
    )
    .fetch_one(&mut *pool.acquire().await?)
    .await?;
    let user = found.user;
    let why = match found.owner {
        _ if found.is_superuser => "a superuser".to_owned(),
        owner if owner == user => "the owner of the tables".to_owned(),
        owner if found.may_become_owner => format!("a member of {owner}, the owner of the tables"),
        _ => return Ok(()),
    };
    Err(StoreError::TooPowerful { user, why })
}
