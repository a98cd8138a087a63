//! What an error of the database leads to: callers repeat the call when it passes, and what depends
//! on it stops when it is a contradiction. The codes are those that a real server gives.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{collections::BTreeSet, fs, time::Duration};

use frikort::postgres::OWNER;
use frikort_event_store::sqlstate::{Meaning, meaning, meaning_of};
use frikort_proto::{
    error::Failure,
    v1::{BatchGetAllowancesRequest, ErrorReason},
};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, by_cpr, correct, facts, new_cpr, report},
    database::Database,
    process::{Kind, Service},
    stack::Stack,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use tokio::time::{Instant, sleep};

/// How long a condition may take to come about.
const PATIENCE: Duration = Duration::from_secs(30);

async fn execute(pool: &PgPool, statement: String) {
    pool.execute(AssertSqlSafe(statement)).await.unwrap();
}

async fn database_name(pool: &PgPool) -> String {
    sqlx::query_scalar("SELECT current_database()::text").fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_had_in_time_is_told_as_passing_and_stops_no_partition() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let pool = database.pool().await.unwrap();
    let name = database_name(&pool).await;
    let setting = "ALTER ROLE frikort_ledger IN DATABASE";
    execute(&pool, format!("{setting} {name} SET lock_timeout = '5ms'")).await;
    let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();

    let mut holder = pool.begin().await.unwrap();
    let lock = "SELECT position FROM ledger.partition_head FOR UPDATE";
    sqlx::query(lock).execute(&mut *holder).await.unwrap();
    let calls = (0..60).map(|number| {
        let mut ledger = ledger.clone();
        let request = report(&cpr, &format!("payment-{number}"), 100);
        tokio::spawn(async move { ledger.payments.report_payment(request).await })
    });
    let calls: Vec<_> = calls.collect();
    sleep(Duration::from_secs(2)).await;
    holder.rollback().await.unwrap();
    let mut unavailable = 0;
    for call in calls {
        let Err(status) = call.await.unwrap() else { continue };
        let failure = Failure::from_status(&status).unwrap();
        assert_eq!(failure.reason, ErrorReason::StoreUnavailable, "{status:?}");
        unavailable += 1;
    }
    assert!(unavailable > 0, "nobody met the lock");

    // Who repeats a call has it recorded once.
    for number in 0..60 {
        let deadline = Instant::now() + PATIENCE;
        let request = report(&cpr, &format!("payment-{number}"), 100);
        while let Err(status) = ledger.payments.report_payment(request.clone()).await {
            let failure = Failure::from_status(&status).unwrap();
            assert_eq!(failure.reason, ErrorReason::StoreUnavailable, "{status:?}");
            assert!(Instant::now() < deadline, "{status:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(assert_sound(&pool).await, 62);
    let log = service.logged().unwrap();
    assert!(!log.contains("the partition stops"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_that_the_server_knows_is_in_the_table() {
    let database = Database::create(1).await.unwrap();
    let pool = database.pool().await.unwrap();
    let share: String =
        sqlx::query_scalar("SELECT setting FROM pg_config() WHERE name = 'SHAREDIR'")
            .fetch_one(&pool)
            .await
            .unwrap();
    let text = fs::read_to_string(format!("{share}/errcodes.txt")).unwrap();
    let codes: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with(['#', ' ']) && !line.starts_with("Section"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(codes.len() > 200, "{codes:?}");
    // Of a class that the table does not know every code is passing, so each must have some that
    // is not, or be one of those that pass as a whole.
    let mut passing: BTreeSet<&str> = codes.iter().map(|code| &code[..2]).collect();
    for code in &codes {
        if meaning(Some(code)) == Meaning::Contradiction {
            passing.remove(&code[..2]);
        }
    }
    let whole =
        ["08", "0A", "0P", "25", "26", "28", "3D", "3F", "40", "53", "55", "57", "58", "72", "F0"];
    assert_eq!(passing, BTreeSet::from(whole));
}

/// The error of a statement, after others in the same session.
async fn error_of(connection: &mut PgConnection, statements: &[&str]) -> sqlx::Error {
    let (last, before) = statements.split_last().unwrap();
    for statement in before {
        connection.execute(AssertSqlSafe(*statement)).await.unwrap();
    }
    connection.execute(AssertSqlSafe(*last)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_codes_that_a_server_really_gives_mean_what_must_be_done() {
    let database = Database::create(1).await.unwrap();
    let pool = database.pool().await.unwrap();
    let name = database_name(&pool).await;
    let mut holder = pool.begin().await.unwrap();
    let lock = "SELECT position FROM ledger.partition_head FOR UPDATE";
    sqlx::query(lock).execute(&mut *holder).await.unwrap();
    let head = "UPDATE ledger.partition_head SET fence = fence + 1";
    let cases: [(&str, Meaning, &[&str]); 21] = [
        ("55P03", Meaning::Passing, &["SET lock_timeout = '5ms'", head]),
        ("55P03", Meaning::Passing, &["SELECT FROM ledger.partition_head FOR UPDATE NOWAIT"]),
        ("57014", Meaning::Passing, &["SET statement_timeout = '5ms'", "SELECT pg_sleep(60)"]),
        ("57014", Meaning::Passing, &["SET statement_timeout = '5ms'", head]),
        ("25006", Meaning::Passing, &["SET default_transaction_read_only = on", head]),
        ("57P01", Meaning::Passing, &["SELECT pg_terminate_backend(pg_backend_pid())"]),
        ("42501", Meaning::Passing, &["SET ROLE frikort_projector", head]),
        ("42P01", Meaning::Passing, &["SELECT FROM ledger.not_there"]),
        ("3F000", Meaning::Passing, &["CREATE TABLE not_there.at_all (x int)"]),
        ("42883", Meaning::Passing, &["SELECT ledger.not_there()"]),
        ("26000", Meaning::Passing, &["EXECUTE not_there"]),
        (
            "0A000",
            Meaning::Passing,
            &[
                "CREATE TABLE public.grows (x int)",
                "PREPARE plan AS SELECT * FROM public.grows",
                "EXECUTE plan",
                "ALTER TABLE public.grows ADD COLUMN y int",
                "EXECUTE plan",
            ],
        ),
        ("22012", Meaning::Contradiction, &["SELECT 1 / (SELECT 0)"]),
        ("22003", Meaning::Contradiction, &["SELECT 2147483647 + (SELECT 1)"]),
        ("22P02", Meaning::Contradiction, &["SELECT 'x'::text::integer"]),
        (
            "23505",
            Meaning::Contradiction,
            &["INSERT INTO ledger.tile SELECT 0, 0, 0, sha256(''), decode(repeat('00', 8192), 'hex')
               FROM generate_series(1, 2)"],
        ),
        (
            "23514",
            Meaning::Contradiction,
            &["INSERT INTO ledger.partition_head (partition) VALUES (-1)"],
        ),
        ("23502", Meaning::Contradiction, &["INSERT INTO ledger.partition_head VALUES (NULL)"]),
        ("21000", Meaning::Contradiction, &["SELECT (SELECT generate_series(1, 2))"]),
        ("42601", Meaning::Contradiction, &["SELEKT 1"]),
        ("P0001", Meaning::Contradiction, &["DO $$ BEGIN RAISE EXCEPTION 'no'; END $$"]),
    ];
    for (code, expected, statements) in cases {
        let mut connection = PgConnection::connect(&database.url(OWNER)).await.unwrap();
        let error = error_of(&mut connection, statements).await;
        let given = error.as_database_error().and_then(|error| error.code());
        assert_eq!(given.as_deref(), Some(code), "{statements:?}: {error}");
        assert_eq!(meaning_of(&error), expected, "{statements:?}: {error}");
    }
    holder.rollback().await.unwrap();

    // What is refused before any statement.
    let logins = [
        ("53300", format!("ALTER DATABASE {name} CONNECTION LIMIT 0"), "frikort_projector", &*name),
        ("28000", format!("ALTER DATABASE {name} CONNECTION LIMIT -1"), "not_there", &*name),
        ("3D000", "SELECT 1".to_owned(), "frikort_ledger", "not_there"),
    ];
    for (code, before, user, database_name) in logins {
        execute(&pool, before).await;
        let url = database.cluster().url(user, database_name);
        let error = PgConnection::connect(&url).await.unwrap_err();
        let given = error.as_database_error().and_then(|error| error.code());
        assert_eq!(given.as_deref(), Some(code), "{error}");
        assert_eq!(meaning_of(&error), Meaning::Passing, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transactions_that_wait_for_each_other_are_told_as_passing() {
    let database = Database::create(1).await.unwrap();
    let pool = database.pool().await.unwrap();
    let (mut one, mut two) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
    execute(&pool, "CREATE TABLE public.two AS SELECT generate_series(1, 2) AS x".to_owned()).await;
    one.execute("UPDATE public.two SET x = x WHERE x = 1").await.unwrap();
    two.execute("UPDATE public.two SET x = x WHERE x = 2").await.unwrap();
    let (first, second) = tokio::join!(
        one.execute("UPDATE public.two SET x = x WHERE x = 2"),
        two.execute("UPDATE public.two SET x = x WHERE x = 1")
    );
    let error = first.err().or(second.err()).unwrap();
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("40P01"));
    assert_eq!(meaning_of(&error), Meaning::Passing);
}

/// A person with a card and some payments, which the projection has.
async fn payments(stack: &Stack, ledger: &mut Ledger, references: &[&str]) -> String {
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let mut position = 0;
    for reference in references {
        let answer = ledger.payments.report_payment(report(&cpr, reference, 100)).await.unwrap();
        position = answer.into_inner().position.unwrap().position;
    }
    projected(&stack.database.pool().await.unwrap(), position).await;
    cpr
}

async fn projected(pool: &PgPool, position: i64) {
    let deadline = Instant::now() + PATIENCE;
    let query = "SELECT position FROM projection.checkpoint WHERE state = 'serving'";
    while sqlx::query_scalar::<_, i64>(query).fetch_one(pool).await.unwrap() < position {
        assert!(Instant::now() < deadline, "the projection does not reach {position}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_contradicts_the_projection_stops_it_there_and_is_named() {
    let cases = [
        // A correction of a payment that the projection does not have.
        ("DELETE FROM projection.payment WHERE reference = 'second'", "not in the projection"),
        // A row that the database refuses with a code of class 23.
        (
            "ALTER TABLE projection.payment
             ADD CONSTRAINT payment_test_check CHECK (reference <> 'second' OR revision = 1)",
            "payment_test_check",
        ),
    ];
    for (damage, cause) in cases {
        let stack = Stack::start(1).await.unwrap();
        let mut ledger = stack.ledger().await.unwrap();
        let pool = stack.database.pool().await.unwrap();
        let cpr = payments(&stack, &mut ledger, &["first", "second"]).await;

        // While nobody folds, so that all of them are one page.
        let mut projector = stack.projector;
        projector.kill().unwrap();
        execute(&pool, damage.to_owned()).await;
        let reported = ledger.payments.report_payment(report(&cpr, "third", 100)).await.unwrap();
        let before = reported.into_inner().position.unwrap().position;
        let corrected = correct(&cpr, "second", 1, facts(200));
        let corrected = ledger.payments.correct_payment(corrected).await.unwrap().into_inner();
        let poison = corrected.position.unwrap().position;
        for number in 0..5 {
            let request = report(&cpr, &format!("later-{number}"), 100);
            ledger.payments.report_payment(request).await.unwrap();
        }
        projector.kill_and_restart().unwrap();

        let deadline = Instant::now() + PATIENCE;
        let named = format!("the event at position {poison} contradicts the projection");
        loop {
            let log = projector.logged().unwrap();
            if log.contains(&named) && log.contains(cause) && log.contains("poison") {
                break;
            }
            assert!(Instant::now() < deadline, "{damage}: it is not named:\n{log}");
            sleep(Duration::from_millis(10)).await;
        }
        assert!(!projector.is_serving().await, "{damage}");
        // What comes before is folded, and nothing after.
        projected(&pool, before).await;
        let query = "SELECT position FROM projection.checkpoint WHERE state = 'serving'";
        let position: i64 = sqlx::query_scalar(query).fetch_one(&pool).await.unwrap();
        assert_eq!(position, before, "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_cannot_be_read_is_a_fault_and_not_an_outage() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    let cpr = payments(&stack, &mut ledger, &["first"]).await;
    execute(&pool, "UPDATE projection.annual_limit SET amount = 'NaN'".to_owned()).await;
    let mut allowances = stack.allowances().await.unwrap();
    let request = BatchGetAllowancesRequest {
        persons: vec![by_cpr(&cpr).unwrap()],
        year: 2022,
        ..BatchGetAllowancesRequest::default()
    };
    let status = allowances.batch_get_allowances(request).await.unwrap_err();
    let failure = Failure::from_status(&status).unwrap();
    assert_eq!(failure.reason, ErrorReason::Internal, "{status:?}");
}
