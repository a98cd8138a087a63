//! W5: a CPR number stands in the register, sealed, and nowhere else: in no event, no total, no
//! entry of the access log, no log line at trace level, no metric, no error text, no exported file.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

use std::{
    collections::HashSet,
    fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use frikort_proto::v1::{
    BatchGetAllowancesRequest, CancelPaymentRequest, CorrectPaymentRequest, DeactivateCardRequest,
    GetAllowanceRequest, GetCardRequest, GetStatementRequest, ReadEventsRequest,
    ReportPaymentsRequest, RunOptions,
};
use frikort_tests::{
    client::{CVR, by_cpr, date, facts, grant, new_cpr, report},
    database::Database,
    files::frikort,
    privacy::learn_keys,
    process::{Kind, Service, get},
    stack::Stack,
};
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;
use tonic::{Code, Status};

/// Persons in the register, and as many who are in nobody's.
const PERSONS: usize = 36;

/// The ways in which a CPR number is written.
fn written(cpr: &str) -> [String; 3] {
    let (day, rest) = cpr.split_at(6);
    [cpr.to_owned(), format!("{day}-{rest}"), format!("{day} {rest}")]
}

/// Fails if one of the numbers stands in the text.
fn assert_holds_none(what: &str, text: &str, cprs: &[String]) {
    for (at, cpr) in cprs.iter().enumerate() {
        let found = written(cpr).iter().find_map(|form| text.find(form.as_str()));
        let near =
            found.map(|at| text.chars().skip(at.saturating_sub(60)).take(140).collect::<String>());
        assert_eq!(near, None, "{what} holds the number of person {at}");
    }
}

/// Everything that callers are told when they are refused.
#[derive(Default)]
struct Told(String);

impl Told {
    fn hear<T>(&mut self, answer: Result<T, Status>, code: Code) {
        let status = answer.err().expect("it was to be refused");
        assert_eq!(status.code(), code, "{status:?}");
        let details = String::from_utf8_lossy(status.details()).into_owned();
        self.0.push_str(&format!("{}\n{details}\n{status:?}\n", status.message()));
    }
}

/// Every row of every table outside the register, as text.
async fn tables(database: &Database) -> String {
    let pool = database.pool().await.unwrap();
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
          WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'register')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(names.contains(&"ledger.event".to_owned()), "{names:?}");
    assert!(names.contains(&"projection.payment".to_owned()), "{names:?}");
    let mut text = String::new();
    for name in names {
        let query = AssertSqlSafe(format!("SELECT t::text FROM {name} AS t"));
        let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(&pool).await.unwrap();
        text.push_str(&rows.join("\n"));
    }
    text
}

/// A life with every kind of event, for each person, by the number with and without hyphen.
async fn live(stack: &Stack, cprs: &[String]) {
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    for cpr in cprs {
        let [plain, hyphen, _] = written(cpr);
        ledger.grant(&plain).await.unwrap();
        let mut payments = ledger.payments.clone();
        payments.report_payment(report(&hyphen, "one", 50_000)).await.unwrap();
        payments.report_payment(report(&plain, "two", 2_000_000)).await.unwrap();
        let correction = CorrectPaymentRequest {
            person: by_cpr(&hyphen),
            employer_cvr: CVR.to_owned(),
            reference: "one".to_owned(),
            expected_revision: 1,
            facts: Some(facts(40_000)),
            validate_only: false,
        };
        payments.correct_payment(correction).await.unwrap();
        let cancellation = CancelPaymentRequest {
            person: by_cpr(&plain),
            employer_cvr: CVR.to_owned(),
            reference: "two".to_owned(),
            expected_revision: 1,
            reason: 2,
            validate_only: false,
        };
        payments.cancel_payment(cancellation).await.unwrap();
    }
    let items = cprs.iter().map(|cpr| ReportPaymentsRequest {
        payment: Some(report(cpr, "streamed", 10_000)),
        ..Default::default()
    });
    let items: Vec<_> = items.collect();
    let run = Some(RunOptions { validate_only: true, ..RunOptions::default() });
    let plan = ReportPaymentsRequest { run, ..ReportPaymentsRequest::default() };
    for messages in [items.clone(), std::iter::once(plan).chain(items).collect()] {
        let messages = tokio_stream::iter(messages);
        let mut results = ledger.payments.report_payments(messages).await.unwrap().into_inner();
        while results.message().await.unwrap().is_some() {}
    }
    let deactivation = DeactivateCardRequest {
        person: by_cpr(&cprs[0]),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        ..DeactivateCardRequest::default()
    };
    ledger.visitations.deactivate_card(deactivation).await.unwrap();
}

/// Questions about everybody, and the projection with everything in it.
async fn ask(stack: &Stack, cprs: &[String]) {
    let mut allowances = stack.allowances().await.unwrap();
    let min_position = stack.recorded().await.unwrap().positions;
    let persons = cprs.iter().filter_map(|cpr| by_cpr(cpr)).collect();
    let batch = BatchGetAllowancesRequest {
        persons,
        year: 2022,
        min_position,
        ..BatchGetAllowancesRequest::default()
    };
    let answer = allowances.batch_get_allowances(batch).await.unwrap().into_inner();
    for result in answer.results {
        // One payment corrected to 400,00, one cancelled, one of 100,00 on the stream.
        assert_eq!(result.allowance.unwrap().total_oere, 50_000);
    }
    for cpr in cprs {
        let person = by_cpr(&written(cpr)[1]);
        let request = GetStatementRequest {
            person,
            year: 2022,
            min_position,
            ..GetStatementRequest::default()
        };
        allowances.get_statement(request).await.unwrap();
    }
}

/// What the projector tells its watchers.
fn metrics(projector: &Service) -> String {
    let answer = String::from_utf8(get(projector.address(), "/metrics").unwrap().1).unwrap();
    assert!(answer.contains("frikort_"), "{answer}");
    answer
}

/// Everything that the command writes about the history, the log's static files and the access log.
fn exported(stack: &Stack) -> String {
    let mut text = String::new();
    for (command, dir) in [("export", "history"), ("mirror", "mirror")] {
        let dir = stack.dir.path().join(dir);
        let mut audit = frikort(&stack.ledger, &stack.projector).unwrap();
        let output = audit.args(["audit", command]).arg(&dir).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text.push_str(&files(&dir));
    }
    let mut log = frikort(&stack.ledger, &stack.projector).unwrap();
    let output = log.args(["access-log", "--full"]).output().unwrap();
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && log.lines().count() > PERSONS, "{log}");
    text + &log
}

/// The text of all files of a directory; bytes that are none are left out.
fn files(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&files(&path));
        } else {
            text.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
        }
    }
    assert!(!text.is_empty(), "{}", dir.display());
    text
}

/// Refused calls, with numbers where they belong and where they do not.
async fn be_refused(stack: &Stack, known: &[String], unknown: &[String]) -> String {
    let mut told = Told::default();
    let mut ledger = stack.ledger().await.unwrap();
    let mut allowances = stack.allowances().await.unwrap();
    for (known, unknown) in known.iter().zip(unknown) {
        let [_, hyphen, space] = written(known);
        let mut payments = ledger.payments.clone();
        let invalid = Code::InvalidArgument;
        told.hear(payments.report_payment(report(unknown, "r", 100)).await, Code::NotFound);
        told.hear(payments.report_payment(report(known, known, 100)).await, invalid);
        told.hear(payments.report_payment(report(known, &hyphen, 100)).await, invalid);
        told.hear(payments.report_payment(report(&space, "r", 100)).await, invalid);
        told.hear(payments.report_payment(report(known, "one", 1)).await, Code::AlreadyExists);
        let mut wrong = report(known, "r", 100);
        (wrong.employer_cvr, wrong.production_unit) = (known.clone(), format!("{known}1"));
        told.hear(payments.report_payment(wrong).await, invalid);
        let mut wrong = grant(known);
        (wrong.municipality_code, wrong.frikort_id) = (known.clone(), hyphen.clone());
        told.hear(ledger.visitations.grant_card(wrong).await, invalid);
        let person = by_cpr(unknown);
        told.hear(ledger.visitations.get_card(GetCardRequest { person }).await, Code::NotFound);
        let mut person = by_cpr(known);
        person.as_mut().unwrap().frikort_id = hyphen;
        let request = ReadEventsRequest { person, ..ReadEventsRequest::default() };
        told.hear(ledger.audits.read_events(request).await, invalid);
        let request = GetAllowanceRequest {
            person: by_cpr(unknown),
            year: 2022,
            ..GetAllowanceRequest::default()
        };
        told.hear(allowances.get_allowance(request).await, Code::NotFound);
        let request = GetAllowanceRequest {
            person: by_cpr(&space),
            year: 0,
            min_position: -1,
            ..GetAllowanceRequest::default()
        };
        told.hear(allowances.get_allowance(request).await, invalid);
    }
    told.0
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cpr_number_stands_anywhere_but_in_the_register() {
    let trace = vec![("FRIKORT_LOG", "trace".to_owned())];
    let mut stack = Stack::start_with(1, trace).await.unwrap();
    let known: Vec<String> = (0..PERSONS).map(|_| new_cpr()).collect();
    let unknown: Vec<String> = (0..PERSONS).map(|_| new_cpr()).collect();
    live(&stack, &known).await;
    ask(&stack, &known).await;
    let told = be_refused(&stack, &known, &unknown).await;
    // Accounts read back from the table, by a ledger that starts anew.
    let mut logs = stack.ledger.logged().unwrap();
    stack.ledger.kill_and_restart().unwrap();
    stack.ledger.wait_until_ready().await.unwrap();
    be_refused(&stack, &known, &unknown).await;
    logs.push_str(&stack.ledger.logged().unwrap());
    let projector = stack.projector.logged().unwrap();

    let everybody = [known, unknown].concat();
    assert_holds_none("a table", &tables(&stack.database).await, &everybody);
    assert_holds_none("a metric", &metrics(&stack.projector), &everybody);
    assert_holds_none("an exported file", &exported(&stack), &everybody);
    assert_holds_none("an error text", &told, &everybody);
    for (what, log) in [("the ledger's log", &logs), ("the projector's log", &projector)] {
        assert!(log.contains("TRACE"), "{what} is to be looked at as it is at trace level");
        assert_holds_none(what, log, &everybody);
        // Who has the keys can find everybody.
        let keys = fs::read_to_string(stack.ledger.keys()).unwrap();
        for key in keys.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            assert!(key.1.len() == 64 && !log.contains(key.1), "{what} holds the key {}", key.0);
        }
    }
}

/// Tag, salt and sealed number of a person.
type Row = (Vec<u8>, Vec<u8>, Vec<u8>);

#[tokio::test(flavor = "multi_thread")]
async fn the_register_holds_no_cpr_number_in_clear() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cprs: Vec<String> = (0..PERSONS).map(|_| new_cpr()).collect();
    for cpr in &cprs {
        ledger.grant(cpr).await.unwrap();
    }
    let pool = stack.database.pool().await.unwrap();
    let rows: Vec<Row> = sqlx::query_as("SELECT cpr_tag, salt, sealed FROM register.person")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(rows.len(), PERSONS);
    let text: Vec<String> = sqlx::query_scalar("SELECT p::text FROM register.person AS p")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_holds_none("the register", &text.join("\n"), &cprs);
    for cpr in &cprs {
        // Without the key anybody could hash all numbers there are, and compare.
        let hash = Sha256::digest(cpr).to_vec();
        for (tag, salt, sealed) in &rows {
            for column in [tag, salt, sealed] {
                for form in written(cpr) {
                    let mut places = column.windows(form.len());
                    assert!(!places.any(|place| place == form.as_bytes()));
                }
            }
            assert_ne!(tag, &hash);
            assert_ne!(tag, &Sha256::digest([salt, cpr.as_bytes()].concat()).to_vec());
        }
    }
    let distinct =
        |column: fn(&Row) -> &[u8]| rows.iter().map(column).collect::<HashSet<_>>().len();
    assert_eq!(distinct(|row| &row.0), PERSONS, "tags");
    assert_eq!(distinct(|row| &row.1), PERSONS, "salts");
    // Under one key, a nonce that comes twice would give two numbers away.
    assert_eq!(distinct(|row| &row.2[..12]), PERSONS, "nonces");
}

/// What a panic says.
fn panics(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it was to fail");
    *panic.downcast::<String>().expect("it says why")
}

/// Keys that a service could have, known to the search from now on.
fn learnt_key() -> String {
    let (dir, key) = (tempfile::tempdir().unwrap(), "5a".repeat(32));
    fs::write(dir.path().join("register.keys"), format!("find={key}\n")).unwrap();
    learn_keys(dir.path()).unwrap();
    key
}

/// Nothing that looks sound here is worth anything if the search of each database and log finds
/// nothing whatever stands there.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_a_table_fails_the_test_that_left_it_there() {
    let database = Database::create(1).await.unwrap();
    let pool = database.pool().await.unwrap();
    let run = async |statement: String| {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    };
    run("CREATE TABLE ledger.note (words text, json jsonb, bytes bytea, number bigint)".into())
        .await;
    run("CREATE TABLE register.note (words text)".into()).await;
    let (number, key) = ("1101605001", learnt_key());
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlc2lnbmF0dXJlc2ln";
    run(format!("INSERT INTO register.note VALUES ('{number} {key}')")).await;
    database.look_through().await.unwrap();
    for (what, column, value) in [
        ("a CPR number", "words", format!("'of {number}'")),
        ("a CPR number", "words", "'110160-5001'".to_owned()),
        ("a CPR number", "json", format!("'{{\"a\": [\"{number}\"]}}'")),
        ("a CPR number", "bytes", format!("'\\x00'::bytea || '{number}'::bytea || '\\xff'")),
        ("a CPR number", "number", number.to_owned()),
        ("a key", "words", format!("'{key}'")),
        ("a key", "bytes", format!("'\\x{key}'")),
        ("a caller's token", "words", format!("'{token}'")),
    ] {
        run(format!("INSERT INTO ledger.note ({column}) VALUES ({value})")).await;
        let error = format!("{:#}", database.look_through().await.unwrap_err());
        assert!(error.contains(&format!("ledger.note holds {what} after")), "{value}: {error}");
        for secret in [number, &key, token] {
            assert!(!error.contains(secret), "{error}");
        }
        run("DELETE FROM ledger.note".into()).await;
    }
    database.look_through().await.unwrap();
    run(format!("INSERT INTO ledger.note (words) VALUES ('{number}')")).await;
    pool.close().await;
    let told = panics(|| drop(database));
    assert!(told.contains("ledger.note holds a CPR number"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_a_log_or_file_fails_the_test_that_left_it_there() {
    let database = Database::create(1).await.unwrap();
    let ways = [("a CPR number", None), ("a key", None), ("a CPR number", Some("history"))];
    for (what, beside) in ways {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
        let keys = fs::read_to_string(service.keys()).unwrap();
        let key = keys.split_ascii_whitespace().last().unwrap().split_once('=').unwrap().1;
        let secret = if what == "a key" { key } else { "010160-5001" };
        let mut files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let log = files.find(|path| path.extension().is_some_and(|kind| kind == "log"));
        let file = match beside {
            None => log.unwrap(),
            Some(exported) => {
                let exported = dir.path().join(exported);
                fs::create_dir(&exported).unwrap();
                exported.join("events.jsonl")
            }
        };
        let mut file = fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "asked for {secret}.").unwrap();
        let told = panics(|| drop(service));
        assert!(told.contains(&format!("{what} after: ")), "{told}");
        assert!(told.contains("asked for ") && !told.contains(secret), "{told}");
    }
}

#[test]
fn the_search_finds_what_it_is_for() {
    let cprs = ["0101605001".to_owned()];
    for text in ["0101605001", "x010160-5001y", "a\n010160 5001"] {
        let search = || assert_holds_none("a text", text, &cprs);
        assert!(catch_unwind(search).is_err(), "{text}");
    }
    assert_holds_none("a text", "0101605002 010160--5001", &cprs);
}

#[tokio::test(flavor = "multi_thread")]
async fn w5_nothing_that_an_organisation_writes_holds_the_number_of_the_person_it_is_about() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let mut refused = report(&cpr, &format!("LON{cpr}"), 100);
    refused.production_unit = cpr.clone();
    let status = ledger.payments.report_payment(refused).await.unwrap_err();
    let failure = frikort_proto::error::Failure::from_status(&status).unwrap();
    let fields: Vec<_> = failure.fields.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["reference", "production_unit"]);
    let mut decision = grant(&cpr);
    decision.reference = format!("x{}-{}", &cpr[..6], &cpr[6..]);
    let status = ledger.visitations.grant_card(decision).await.unwrap_err();
    let failure = frikort_proto::error::Failure::from_status(&status).unwrap();
    assert_eq!(failure.fields[0].0, "reference");
}
