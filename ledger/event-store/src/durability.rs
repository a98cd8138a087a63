//! Whether the database server keeps what it has acknowledged when its machine crashes.
//!
//! Not here: `synchronous_commit`, which a session sets for itself.

use crate::{ConnectionPool, StoreError};

/// Whether a service runs on a server that may lose or damage what it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does not.
    Required,
    /// It does, and logs a warning: for tests, and for data that may be lost.
    NotRequired,
}

impl Durability {
    /// What an operator has chosen.
    pub fn allowing_unsafe(is_allowed: bool) -> Self {
        if is_allowed { Self::NotRequired } else { Self::Required }
    }
}

/// Refuses a server that does not write to its disk what it says is written.
pub(crate) async fn require(
    pool: &ConnectionPool,
    durability: Durability,
) -> Result<(), StoreError> {
    let unsafe_settings: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM pg_settings
         WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name",
    )
    .fetch_all(&mut *pool.acquire().await?)
    .await?;
    if unsafe_settings.is_empty() {
        return Ok(());
    }
    let settings = unsafe_settings.iter().map(|name| format!("{name} = off"));
    let settings = settings.collect::<Vec<_>>().join(" and ");
    match durability {
        Durability::Required => Err(StoreError::UnsafeServer { settings }),
        Durability::NotRequired => {
            tracing::warn!(
                "the database server runs with {settings}: a crash of its machine can lose or \
                 damage what was acknowledged"
            );
            Ok(())
        }
    }
}
