//! What the tests of rebuilding share: the program, and what stands in the tables.

use std::{
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use frikort_proto::v1::GetAllowanceRequest;
use frikort_tests::{
    client::{Ledger, by_cpr, new_cpr, report},
    database::Database,
    process::{program, signal},
    stack::Stack,
};
use futures::{StreamExt, stream};
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::{sleep, timeout};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program `projector`, as the role that folds.
fn projector(database: &Database, args: &[&str]) -> Command {
    let mut command = Command::new(program("projector").unwrap());
    command.args(args).env("DATABASE_URL", database.url("frikort_projector"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts `projector rebuild --json`, in pages so small that there are many.
pub(crate) fn start(database: &Database, args: &[&str]) -> Child {
    let rebuild = ["rebuild", "--json", "--page", "2000"];
    projector(database, &[&rebuild, args].concat()).spawn().unwrap()
}

/// What a run has said: its exit code, its report, and its log.
pub(crate) fn told(output: &Output) -> (i32, Value, String) {
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report, log)
}

/// Waits for its end, which comes in time: whoever hangs is killed and fails the test.
pub(crate) async fn end(child: Child) -> (i32, Value, String) {
    let id = child.id();
    let mut output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    if let Ok(output) = timeout(PATIENCE, &mut output).await {
        return told(&output.unwrap());
    }
    signal(id, "KILL").unwrap();
    let log = String::from_utf8(output.await.unwrap().stderr).unwrap();
    panic!("it did not end in time:\n{log}");
}

/// Runs `projector rebuild --json` to its end.
pub(crate) async fn rebuild(database: &Database, args: &[&str]) -> (i32, Value, String) {
    end(start(database, args)).await
}

/// What `projector generations` lists: number, state, version.
pub(crate) async fn generations(database: &Database, args: &[&str]) -> Vec<(i64, String, i64)> {
    let mut command = projector(database, &[&["generations", "--json"], args].concat());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (code, list, log) = told(&output);
    assert_eq!(code, 0, "{log}");
    let row = |of: &Value| {
        let number = |name: &str| of[name].as_i64().unwrap();
        (number("generation"), of["state"].as_str().unwrap().to_owned(), number("version"))
    };
    list.as_array().unwrap().iter().map(row).collect()
}

/// The generation that is served, of the first partition.
pub(crate) async fn serving(pool: &PgPool) -> i32 {
    let query = "SELECT generation FROM projection.checkpoint
                 WHERE state = 'serving' ORDER BY partition LIMIT 1";
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

/// How far the generation is that is being built, where there is one.
pub(crate) async fn built(pool: &PgPool) -> Option<i64> {
    let query = "SELECT position FROM projection.checkpoint WHERE state = 'building'";
    sqlx::query_scalar(query).fetch_optional(pool).await.unwrap()
}

/// The numbers of generations of which there are rows, table by table.
pub(crate) async fn generations_with_rows(pool: &PgPool) -> Vec<i32> {
    let query = "SELECT generation FROM projection.annual_total
                 UNION SELECT generation FROM projection.payment
                 UNION SELECT generation FROM projection.card
                 UNION SELECT generation FROM projection.annual_limit
                 UNION SELECT generation FROM projection.application
                 ORDER BY 1";
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

pub(crate) async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not in time");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Some persons with cards, each with so many payments of 100 kr. in 2022; the last position.
pub(crate) async fn fill(stack: &Stack, persons: usize, payments: usize) -> (Vec<String>, i64) {
    let mut ledger: Ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cprs: Vec<String> = (0..persons).map(|_| new_cpr()).collect();
    let positions: Vec<i64> = stream::iter(cprs.clone())
        .map(|cpr| {
            let mut ledger = ledger.clone();
            async move {
                ledger.grant(&cpr).await.unwrap();
                let mut last = 0;
                for number in 0..payments {
                    let request = report(&cpr, &format!("p{number}"), 10_000);
                    let answer = ledger.payments.report_payment(request).await.unwrap();
                    last = answer.into_inner().position.unwrap().position;
                }
                last
            }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let last = positions.into_iter().max().unwrap();
    let mut allowances = stack.allowances().await.unwrap();
    allowances.get_allowance(asking(&cprs[0], last)).await.unwrap();
    (cprs, last)
}

/// How much of 2022 is used, once the answer contains a position.
pub(crate) fn asking(cpr: &str, min_position: i64) -> GetAllowanceRequest {
    let person = by_cpr(cpr);
    GetAllowanceRequest { person, year: 2022, min_position, ..GetAllowanceRequest::default() }
}
