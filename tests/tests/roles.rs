//! Each database role has the rights that it uses, and no other: what Postgres says of every table,
//! function and schema is held against a list, and every statement is really sent as every role.
//!
//! A table that is new fails here until the list says who may do what with it. That nobody changes
//! the past, and the owner neither, is in `append_only.rs`.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

use std::time::Duration;

use frikort::postgres::OWNER;
use frikort_event_store::{EventStore, StoreError};
use frikort_tests::{
    database::{Database, refusal},
    process::program,
    rights::rights,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, migrate::Migrator};

static MIGRATIONS: Migrator = sqlx::migrate!("../ledger/event-store/migrations");

/// Postgres: insufficient_privilege.
const DENIED: &str = "42501";

/// Who holds which right. Whoever makes a table or a function enters it here.
const RIGHTS: &str = include_str!("roles/rights.txt");

const MIGRATOR: &str = "frikort_migrator";

const SERVICES: [&str; 3] = ["frikort_ledger", "frikort_projector", "frikort_auditor"];

/// Where a trigger refuses what the owner may do.
const APPEND_ONLY: [&str; 7] = [
    "ledger.event",
    "ledger.tile",
    "ledger.checkpoint",
    "access.lookup",
    "access.lookup_later",
    "register.forgetting",
    "register.forgotten",
];

async fn rows(pool: &PgPool, query: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_holds_the_rights_of_the_list_and_no_other() {
    let database = Database::create(1).await.unwrap();
    let found = rights(&database.pool().await.unwrap()).await.unwrap();
    let listed: Vec<&str> = RIGHTS.lines().collect();
    assert_eq!(found, listed, "found:\n{}\n", found.join("\n"));
}

/// Whether the list gives a role a right to a table, or to a column of it.
fn is_listed(table: &str, role: &str, right: &str, column: &str) -> bool {
    let begin = format!("table {table} {role}: ");
    let rights = RIGHTS.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or_default();
    rights.split(' ').any(|held| match held.split_once('(') {
        None => held == right,
        Some((held, columns)) => {
            held == right && columns.trim_end_matches(')').split(',').any(|name| name == column)
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_list_does_not_give_is_denied_and_what_it_gives_works() {
    let database = Database::create(1).await.unwrap();
    let columns = "SELECT table_schema || '.' || table_name || ' ' || column_name
                     FROM information_schema.columns
                    WHERE table_schema IN ('ledger', 'register', 'projection')";
    let columns = rows(&database.pool().await.unwrap(), columns).await;
    assert!(columns.len() > 50, "{columns:?}");
    for role in SERVICES.into_iter().chain([MIGRATOR]) {
        let pool = database.pool_as(role).await.unwrap();
        for line in &columns {
            let (table, column) = line.split_once(' ').unwrap();
            let tries = [
                ("SELECT", format!("SELECT {column} FROM {table} LIMIT 0")),
                (
                    "INSERT",
                    format!(
                        "INSERT INTO {table} ({column}) SELECT (NULL::{table}).{column} WHERE false"
                    ),
                ),
                ("UPDATE", format!("UPDATE {table} SET {column} = DEFAULT WHERE false")),
                ("DELETE", format!("DELETE FROM {table} WHERE false")),
                ("TRUNCATE", format!("TRUNCATE {table}")),
            ];
            for (right, statement) in tries {
                // Of incidents each row is looked at, and no row is touched here.
                let guarded = (APPEND_ONLY.contains(&table)
                    && !["SELECT", "INSERT"].contains(&right))
                    || (table == "ledger.history_incident" && right == "TRUNCATE");
                let works = is_listed(table, role, right, column) && !guarded;
                let code = refusal(&pool, &statement).await;
                let expected = (!works).then_some(DENIED);
                assert_eq!(code.as_deref(), expected, "{role}: {statement}");
            }
        }
    }
}

/// Fails unless every statement is denied to the role.
async fn denied(database: &Database, role: &str, statements: &[&str]) {
    let pool = database.pool_as(role).await.unwrap();
    for statement in statements {
        let code = refusal(&pool, statement).await;
        assert_eq!(code.as_deref(), Some(DENIED), "{role}: {statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_service_makes_or_alters_anything() {
    let database = Database::create(1).await.unwrap();
    for role in SERVICES {
        let statements = [
            "CREATE TABLE ledger.mine (x int)",
            "CREATE TABLE projection.mine (x int)",
            "CREATE TABLE register.mine (x int)",
            "CREATE TABLE public.mine (x int)",
            "CREATE TEMPORARY TABLE mine (x int)",
            "CREATE SCHEMA mine",
            "CREATE INDEX mine ON ledger.event (record)",
            "CREATE TRIGGER mine BEFORE INSERT ON ledger.event
             FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()",
            "CREATE FUNCTION ledger.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger
             LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "ALTER TABLE ledger.event DISABLE TRIGGER event_append_only",
            "ALTER TABLE projection.card ADD COLUMN mine int",
            "ALTER TABLE register.person OWNER TO CURRENT_USER",
            "ALTER FUNCTION ledger.schema_version() SECURITY DEFINER",
            "DROP TABLE ledger.event",
            "DROP TRIGGER event_append_only ON ledger.event",
            "DROP FUNCTION ledger.append",
            "SET session_replication_role = replica",
        ];
        denied(&database, role, &statements).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_somebody_else() {
    let database = Database::create(1).await.unwrap();
    let all = || SERVICES.into_iter().chain([MIGRATOR]);
    for role in all() {
        let mut statements =
            vec!["CREATE ROLE mine".to_owned(), format!("ALTER ROLE {role} SUPERUSER")];
        for other in all().chain([OWNER]).filter(|other| *other != role) {
            statements.push(format!("SET ROLE {other}"));
            statements.push(format!("SET SESSION AUTHORIZATION {other}"));
            statements.push(format!("GRANT {other} TO {role}"));
        }
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        denied(&database, role, &statements).await;
    }
    let attributes = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'frikort\\_%'
                         AND rolname <> 'frikort_owner'
                         AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication
                              OR rolbypassrls)";
    assert_eq!(rows(&database.pool().await.unwrap(), attributes).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_belongs_to_the_migrator_whoever_migrates() {
    let database = Database::create(1).await.unwrap();
    let others = "
        WITH place AS (SELECT * FROM pg_namespace
                        WHERE nspname IN ('ledger', 'register', 'projection', 'access'))
        SELECT 'schema ' || nspname FROM place WHERE nspowner <> 'frikort_migrator'::regrole
        UNION ALL
        SELECT c.oid::regclass::text FROM pg_class AS c
         WHERE (c.relnamespace IN (SELECT oid FROM place)
                OR c.oid = to_regclass('_sqlx_migrations'))
           AND c.relowner <> 'frikort_migrator'::regrole
        UNION ALL
        SELECT f.oid::regprocedure::text FROM pg_proc AS f JOIN place ON place.oid = pronamespace
         WHERE f.proowner <> 'frikort_migrator'::regrole";
    assert_eq!(rows(&database.pool().await.unwrap(), others).await, [""; 0]);
    // It does by itself whatever a later migration may need, and what it makes is nobody else's.
    let pool = database.pool_as(MIGRATOR).await.unwrap();
    frikort_event_store::migrate(&pool.clone().into(), 2).await.unwrap();
    let mut later = pool.begin().await.unwrap();
    for statement in [
        "CREATE SCHEMA later",
        "CREATE TABLE later.thing (partition int)",
        "ALTER TABLE ledger.partition_head ADD COLUMN later int NOT NULL DEFAULT 0",
        "CREATE FUNCTION later.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        later.execute(statement).await.unwrap();
    }
    let public: bool =
        sqlx::query_scalar("SELECT has_function_privilege('public', 'later.f()', 'EXECUTE')")
            .fetch_one(&mut *later)
            .await
            .unwrap();
    assert!(!public);
}

/// A pool for a database of its own in the cluster of `beside`, which belongs to a new user.
async fn owned_by(user: &str, beside: &Database) -> PgPool {
    let mut owner = PgConnection::connect(&beside.url(OWNER)).await.unwrap();
    for statement in [
        format!("CREATE ROLE {user} LOGIN CREATEROLE"),
        format!("CREATE DATABASE {user} OWNER {user}"),
    ] {
        owner.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    PgPool::connect(&beside.cluster().url(user, user)).await.unwrap()
}

async fn refused_as(pool: PgPool) -> String {
    let error = EventStore::open(pool).await.unwrap_err();
    assert!(matches!(error, StoreError::TooPowerful { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_owns_the_database_migrates_it_without_being_superuser() {
    let dir = tempfile::tempdir().unwrap();
    let beside = Database::create_alone(dir.path().join("cluster"), 1).await.unwrap();
    let owner = "SELECT pg_get_userbyid(relowner)::text FROM pg_class
                  WHERE oid = to_regclass('ledger.event')";

    // One who may make roles hands everything over, and is refused as a service since they could
    // take it back.
    let pool = owned_by("maker", &beside).await;
    for partitions in 1..=2 {
        frikort_event_store::migrate(&pool.clone().into(), partitions).await.unwrap();
    }
    assert_eq!(rows(&pool, owner).await, [MIGRATOR]);
    let told = refused_as(pool.clone()).await;
    assert!(told.contains("maker is a member of frikort_migrator"), "{told}");
    pool.close().await;

    // One who may not keeps it.
    let pool = owned_by("keeper", &beside).await;
    MIGRATIONS.run_to(4, &pool).await.unwrap();
    let superuser = beside.pool().await.unwrap();
    superuser.execute("ALTER ROLE keeper NOCREATEROLE").await.unwrap();
    for partitions in 1..=2 {
        frikort_event_store::migrate(&pool.clone().into(), partitions).await.unwrap();
    }
    assert_eq!(rows(&pool, owner).await, ["keeper"]);
    let told = refused_as(pool.clone()).await;
    assert!(told.contains("keeper is the owner of the tables"), "{told}");
    let service = PgPool::connect(&beside.cluster().url("frikort_ledger", "keeper")).await.unwrap();
    EventStore::open(service.clone()).await.unwrap();
    let temporary = refusal(&service, "CREATE TEMPORARY TABLE mine (x int)").await;
    assert_eq!(temporary.as_deref(), Some(DENIED));
    service.close().await;
    pool.close().await;
    beside.stop_cluster().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_program_of_the_services_runs_as_superuser_or_owner() {
    let database = Database::create(1).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("register.keys").display().to_string();
    let lookups = dir.path().join("lookups").display().to_string();
    let serve = [
        "serve",
        "--insecure-on-loopback",
        "--listen",
        "127.0.0.1:0",
        "--lookup-journal",
        &lookups,
        "--keys-file",
        &keys,
    ];
    for (user, why) in [
        (OWNER, "the database user frikort_owner is a superuser"),
        (MIGRATOR, "the database user frikort_migrator is the owner of the tables"),
    ] {
        for (name, args) in [
            ("ledger", [&serve[..], &["--create-keys"]].concat()),
            ("projector", serve.to_vec()),
            ("projector", vec!["rebuild"]),
            ("projector", vec!["generations"]),
        ] {
            let mut command = tokio::process::Command::new(program(name).unwrap());
            command.args(&args).env("DATABASE_URL", database.url(user)).kill_on_drop(true);
            let ended = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
            let output = ended.unwrap_or_else(|_| panic!("{name} {args:?} runs as {user}"));
            let output = output.unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{name} {args:?} as {user}:\n{text}");
            for part in [why, "connect as frikort_ledger or frikort_projector"] {
                assert!(text.contains(part), "{name} {args:?} as {user}:\n{text}");
            }
        }
    }
}
