//! What is recorded stays as it was: no role of the services, and not the owner either, changes or
//! removes an event. What else each role may do, and what not, is in `roles.rs`.
//!
//! Every statement is also sent in a form that matches no row, since a rule that only looks at
//! rows would let that one through.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

use frikort::postgres::OWNER;
use frikort_tests::{
    client::{Ledger, grant, new_cpr},
    database::{Database, refusal},
    process::{Kind, Service},
};

/// Postgres: insufficient_privilege.
const DENIED: &str = "42501";

/// Whom no grant keeps from it, but the trigger does.
const OWNERS: [&str; 2] = ["frikort_migrator", OWNER];

const SERVICES: [&str; 3] = ["frikort_ledger", "frikort_projector", "frikort_auditor"];

/// Ways to change the past.
const CHANGES: [&str; 8] = [
    "UPDATE ledger.event SET record = record",
    "UPDATE ledger.event SET record = '{}' WHERE position = 1",
    "UPDATE ledger.event SET record = '{}' WHERE false",
    "DELETE FROM ledger.event",
    "DELETE FROM ledger.event WHERE position = -1",
    "TRUNCATE ledger.event",
    "TRUNCATE ledger.event CASCADE",
    "INSERT INTO ledger.event SELECT * FROM ledger.event
     ON CONFLICT (partition, position) DO UPDATE SET record = '{}'",
];

/// An event like any other.
const APPEND: &str = "INSERT INTO ledger.event
     VALUES (0, 1000, '00000000-0000-0000-0000-000000000000', 1000, now(), '{}')";

/// Fails unless every statement is denied to the role.
async fn denied(database: &Database, role: &str, statements: &[&str]) {
    let pool = database.pool_as(role).await.unwrap();
    for statement in statements {
        let code = refusal(&pool, statement).await;
        assert_eq!(code.as_deref(), Some(DENIED), "{role}: {statement}");
    }
}

/// Fails unless every statement is allowed to the role.
async fn allowed(database: &Database, role: &str, statements: &[&str]) {
    let pool = database.pool_as(role).await.unwrap();
    for statement in statements {
        assert_eq!(refusal(&pool, statement).await, None, "{role}: {statement}");
    }
}

/// A database in which one card was granted.
async fn with_an_event() -> Database {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.visitations.grant_card(grant(&new_cpr())).await.unwrap();
    database
}

/// All there is of the history.
async fn history(database: &Database) -> Vec<String> {
    let query = "SELECT e::text FROM ledger.event AS e ORDER BY partition, position";
    sqlx::query_scalar(query).fetch_all(&database.pool().await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_or_removes_an_event_and_the_owner_neither() {
    let database = with_an_event().await;
    let before = history(&database).await;
    assert_eq!(before.len(), 1);
    for role in SERVICES.into_iter().chain(OWNERS) {
        denied(&database, role, &CHANGES).await;
    }
    assert_eq!(history(&database).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_history_cannot_be_changed_either() {
    let database = Database::create(1).await.unwrap();
    for role in SERVICES.into_iter().chain(OWNERS) {
        denied(&database, role, &CHANGES).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_told_by_name_what_is_refused() {
    let database = Database::create(1).await.unwrap();
    let pool = database.pool().await.unwrap();
    for (statement, what) in [
        ("UPDATE ledger.event SET record = '' WHERE false", "UPDATE"),
        ("DELETE FROM ledger.event WHERE false", "DELETE"),
        ("TRUNCATE ledger.event", "TRUNCATE"),
    ] {
        let error = sqlx::query(statement).execute(&pool).await.unwrap_err();
        let message = error.as_database_error().unwrap().message().to_owned();
        assert_eq!(message, format!("ledger.event is append-only: {what} refused"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_or_removes_what_was_hashed_or_signed() {
    let database = Database::create(1).await.unwrap();
    let enter = [
        "INSERT INTO ledger.tile VALUES (0, 0, 0, decode(repeat('00', 32), 'hex'),
                                         decode(repeat('00', 8192), 'hex'))",
        "INSERT INTO ledger.checkpoint VALUES (0, 1, 'note')",
    ];
    let changes = [
        "UPDATE ledger.tile SET root = root WHERE false",
        "DELETE FROM ledger.tile WHERE false",
        "TRUNCATE ledger.tile",
        "UPDATE ledger.checkpoint SET note = '' WHERE false",
        "DELETE FROM ledger.checkpoint WHERE false",
        "TRUNCATE ledger.checkpoint",
    ];
    for role in SERVICES.into_iter().chain(OWNERS) {
        denied(&database, role, &changes).await;
    }
    allowed(&database, "frikort_ledger", &enter).await;
    for role in ["frikort_projector", "frikort_auditor"] {
        denied(&database, role, &enter).await;
    }
    let read = ["SELECT FROM ledger.tile", "SELECT FROM ledger.checkpoint"];
    for role in SERVICES {
        allowed(&database, role, &read).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_ledger_appends() {
    let database = with_an_event().await;
    let append = "SELECT ledger.append(0, 1, 0, ledger.event_hash(0, 1), ARRAY[gen_random_uuid()], ARRAY[1::bigint],
                                       ARRAY[now()], ARRAY['{}'])";
    let head = "UPDATE ledger.partition_head SET position = position WHERE false";
    for role in ["frikort_projector", "frikort_auditor"] {
        let read = ["SELECT FROM ledger.event", "SELECT FROM ledger.partition_head"];
        allowed(&database, role, &read).await;
        denied(&database, role, &[APPEND, append, head]).await;
    }
    allowed(&database, "frikort_ledger", &[APPEND, head]).await;
    let heads = [
        "INSERT INTO ledger.partition_head (partition) VALUES (7)",
        "DELETE FROM ledger.partition_head WHERE false",
        "TRUNCATE ledger.partition_head",
    ];
    for role in SERVICES {
        denied(&database, role, &heads).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_reads_the_projection_and_writes_nothing_of_it() {
    let database = Database::create(1).await.unwrap();
    // Whom a changed limit reaches, and what a check holds against the records.
    let asked = ["annual_total", "checkpoint", "payment", "card", "annual_limit", "application"]
        .map(|table| format!("SELECT FROM projection.{table}"));
    let asked = asked.each_ref().map(String::as_str);
    allowed(&database, "frikort_ledger", &asked).await;
    let statements = [
        "INSERT INTO projection.checkpoint (partition, generation, state)
         VALUES (7, 1, 'serving')",
        "UPDATE projection.annual_total SET total = 0 WHERE false",
        "DELETE FROM projection.payment WHERE false",
        "UPDATE projection.checkpoint SET state = 'retired' WHERE false",
        "TRUNCATE projection.card",
    ];
    denied(&database, "frikort_ledger", &statements).await;
    let fold = [
        "INSERT INTO projection.annual_limit
             (partition, generation, year, in_force_from, amount, citation, position)
         VALUES (0, 1, 2022, '2022-01-01', 20000, 'x', 1)",
        "UPDATE projection.annual_total SET total = 0 WHERE false",
        "UPDATE projection.checkpoint SET state = 'retired' WHERE false",
        "DELETE FROM projection.annual_total WHERE false",
    ];
    allowed(&database, "frikort_projector", &fold).await;
    allowed(&database, "frikort_auditor", &["SELECT FROM projection.annual_total"]).await;
    denied(&database, "frikort_auditor", &fold).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_ledger_enters_persons_and_nobody_changes_one() {
    let database = with_an_event().await;
    let enter = "INSERT INTO register.person
                 VALUES ('\\x00', gen_random_uuid(), 0, '\\x00', '\\x00')";
    let changes = [
        "UPDATE register.person SET partition = 1",
        "UPDATE register.person SET partition = 1 WHERE false",
        "TRUNCATE register.person",
    ];
    for role in SERVICES {
        denied(&database, role, &changes).await;
    }
    let remove = ["DELETE FROM register.person WHERE false"];
    for role in ["frikort_projector", "frikort_auditor"] {
        denied(&database, role, &remove).await;
    }
    allowed(&database, "frikort_ledger", &["SELECT FROM register.person", enter]).await;
    allowed(&database, "frikort_projector", &["SELECT FROM register.person"]).await;
    denied(&database, "frikort_projector", &[enter]).await;
    denied(&database, "frikort_auditor", &["SELECT FROM register.person", enter]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_removes_whom_it_is_on_record_to_have_forgotten_and_nobody_else() {
    let database = with_an_event().await;
    let pool = database.pool_as("frikort_ledger").await.unwrap();
    let enter = "INSERT INTO register.person
                 VALUES ('\\x00', gen_random_uuid(), 0, '\\x00', '\\x00') RETURNING person_id";
    let person: uuid::Uuid = sqlx::query_scalar(enter).fetch_one(&pool).await.unwrap();
    let remove = async || {
        sqlx::query("DELETE FROM register.person").execute(&pool).await.unwrap().rows_affected()
    };
    let persons = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM register.person");
        count.fetch_one(&pool).await.unwrap()
    };
    assert_eq!((remove().await, persons().await), (0, 2));
    let confirm =
        "INSERT INTO register.forgotten VALUES (1, gen_random_uuid(), $1, 'one', $2, now())";
    let alone = sqlx::query(confirm).bind(person).bind("one").execute(&pool).await.unwrap_err();
    let alone = alone.as_database_error().and_then(|error| error.constraint().map(str::to_owned));
    assert_eq!(alone.as_deref(), Some("forgotten_two_callers_check"));
    sqlx::query(confirm).bind(person).bind("two").execute(&pool).await.unwrap();
    assert_eq!((remove().await, persons().await), (1, 1));
    let changes = [
        "UPDATE register.forgotten SET confirmed_by = 'x' WHERE false",
        "DELETE FROM register.forgotten WHERE false",
        "TRUNCATE register.forgotten",
        "UPDATE register.forgetting SET requested_by = 'x' WHERE false",
        "DELETE FROM register.forgetting WHERE false",
        "TRUNCATE register.forgetting",
    ];
    for role in SERVICES.into_iter().chain(OWNERS) {
        denied(&database, role, &changes).await;
    }
}
