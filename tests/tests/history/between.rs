//! What variants do to the database besides calling the services.

use std::path::Path;

use frikort::postgres::OWNER;
use frikort_event_store::{DatabaseSessions, SessionPurpose};
use frikort_process::clock::Clock;
use frikort_register::{Confirmed, Forgetting, Keys, Register};
use frikort_tests::{database::Database, history::Site};
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

/// Forgets a person, as two operators together do it.
pub(crate) async fn forget(site: &Site, person_id: &str) {
    let register = register(&site.database.url("frikort_ledger"), site.dir());
    let asked = request_forgetting(&register, person_id).await;
    let now = Clock::system().now();
    let confirmed = register.confirm_forgetting(asked, "two", now).await.unwrap();
    assert!(matches!(confirmed, Confirmed::Forgotten(_)));
}

/// The register of a database, with the keys of the services in a directory.
pub(crate) fn register(url: &str, dir: &Path) -> Register {
    let keys = std::fs::read_to_string(dir.join("register.keys")).unwrap();
    let options = frikort_process::database::service(url, "frikort-test").unwrap();
    let sessions = DatabaseSessions::new(options);
    let keys = Keys::parse(&keys).unwrap().into();
    let pool = || sessions.pool(2, SessionPurpose::Calls);
    Register::start(sessions.clone(), pool(), pool(), keys)
}

/// One operator asks that a person be forgotten.
pub(crate) async fn request_forgetting(register: &Register, person_id: &str) -> Forgetting {
    let id: Uuid = person_id.parse().unwrap();
    let person = register.find_id(frikort_domain::PersonId(id)).await.unwrap().unwrap();
    let (reference, now) = ("SAG-1".parse().unwrap(), Clock::system().now());
    register.request_forgetting(person.id, &reference, "one", now).await.unwrap()
}

/// The rows of every table of the projection.
pub(crate) struct Projection(Vec<(String, Vec<u8>)>);

impl Projection {
    /// As they are now, in one snapshot.
    pub(crate) async fn read(database: &Database) -> anyhow::Result<Self> {
        let mut owner = PgConnection::connect(&database.url(OWNER)).await?;
        owner.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
             WHERE schemaname = 'projection' ORDER BY 1",
        )
        .fetch_all(&mut owner)
        .await?;
        let mut rows = Vec::new();
        for table in tables {
            let copy = format!("COPY {table} TO STDOUT");
            let copied: Vec<_> = owner.copy_out_raw(&copy).await?.try_collect().await?;
            rows.push((table, copied.concat()));
        }
        owner.close().await?;
        assert!(rows.iter().any(|(_, rows)| !rows.is_empty()), "the projection is empty");
        Ok(Self(rows))
    }

    /// Puts them in the place of those that are there.
    pub(crate) async fn write(&self, database: &Database) -> anyhow::Result<()> {
        let mut owner = PgConnection::connect(&database.url(OWNER)).await?;
        owner.execute("SET session_replication_role = replica").await?;
        owner.execute("BEGIN").await?;
        for (table, rows) in &self.0 {
            // The name is the catalogue's own.
            owner.execute(AssertSqlSafe(format!("TRUNCATE {table} CASCADE"))).await?;
            let mut copying = owner.copy_in_raw(&format!("COPY {table} FROM STDIN")).await?;
            copying.send(rows.as_slice()).await?;
            copying.finish().await?;
        }
        owner.execute("COMMIT").await?;
        owner.close().await?;
        Ok(())
    }
}
