//! The sample history through the command `frikort`, held against every expected answer.

use std::fs;

use frikort_tests::{
    audit::{assert_projection_is_the_fold, assert_sound},
    database::Database,
    files::{SAMPLE_EVENTS, assert_expected_totals_and_splits, import, lines, load_limits, sample},
    process::{Kind, Service},
};

async fn imports_as_expected(partitions: i32) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(partitions).await.unwrap();
    let ledger = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    load_limits(&ledger, &projector).unwrap();

    let expected = lines(&sample("expected-answers.csv")).unwrap();
    let answers = import(&ledger, &projector, dir.path()).unwrap();
    assert_same_answers(&answers, &expected);
    assert_expected_totals_and_splits(&ledger, &projector, dir.path()).unwrap();
    let pool = database.pool().await.unwrap();
    let events = assert_sound(&pool).await;
    assert_eq!(events, 8 * i64::from(partitions) + SAMPLE_EVENTS);
    assert_projection_is_the_fold(&pool).await;

    // Again: all that was accepted is replayed, with the split first answered.
    let replayed: Vec<String> =
        expected.iter().map(|line| line.replace(",recorded,", ",replayed,")).collect();
    assert_same_answers(&import(&ledger, &projector, dir.path()).unwrap(), &replayed);
    assert_eq!(assert_sound(&pool).await, events, "an event too many");

    // W5: no CPR number in events, totals or logs.
    let mut texts: Vec<String> =
        sqlx::query_scalar("SELECT record FROM ledger.event").fetch_all(&pool).await.unwrap();
    texts.push(ledger.logged().unwrap());
    texts.push(projector.logged().unwrap());
    let all = texts.join("\n");
    let persons = lines(&sample("visitations.csv")).unwrap();
    let numbers: std::collections::HashSet<&str> =
        persons.iter().filter_map(|line| line.split(',').next()).collect();
    for run in all.split(|c: char| !c.is_ascii_digit()) {
        let numbers_in_it = run.as_bytes().windows(10).filter_map(|w| std::str::from_utf8(w).ok());
        assert!(numbers_in_it.into_iter().all(|n| !numbers.contains(n)), "a CPR number is shown");
    }
    let said = fs::read_to_string(dir.path().join("import.log")).unwrap();
    assert!(!numbers.iter().any(|number| said.contains(*number)), "the import shows a CPR number");
}

fn assert_same_answers(got: &[String], expected: &[String]) {
    let differs = got.iter().zip(expected).find(|(got, expected)| got != expected);
    assert!(differs.is_none(), "answers differ: {differs:?}");
    assert_eq!(got.len(), expected.len(), "another number of answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_in_one_partition() {
    imports_as_expected(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_in_four_partitions() {
    imports_as_expected(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_through_two_ledgers_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let one = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let two = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    load_limits(&one, &projector).unwrap();

    // Both import the whole of it; each line is recorded through one and replayed through the
    // other, with the same amounts.
    let (first, second) = (dir.path().join("one"), dir.path().join("two"));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    let (answers_one, answers_two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| import(&one, &projector, &first).unwrap());
        let two = scope.spawn(|| import(&two, &projector, &second).unwrap());
        (one.join().unwrap(), two.join().unwrap())
    });
    let expected = lines(&sample("expected-answers.csv")).unwrap();
    let plain = |line: &String| line.replace(",recorded,", ",replayed,");
    let expected_plain: Vec<String> = expected.iter().map(plain).collect();
    assert_same_answers(&answers_one.iter().map(plain).collect::<Vec<_>>(), &expected_plain);
    assert_same_answers(&answers_two.iter().map(plain).collect::<Vec<_>>(), &expected_plain);
    let recorded = |answers: &[String]| answers.iter().filter(|a| a.contains(",recorded,")).count();
    assert_eq!(recorded(&answers_one) + recorded(&answers_two), recorded(&expected));

    let pool = database.pool().await.unwrap();
    assert_eq!(assert_sound(&pool).await, 8 + SAMPLE_EVENTS);
    assert_expected_totals_and_splits(&one, &projector, dir.path()).unwrap();
    assert_projection_is_the_fold(&pool).await;
}
