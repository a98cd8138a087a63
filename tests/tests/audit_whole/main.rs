//! Whole exports, receipts, the witness and the mirror against real processes, and what each of them
//! finds when somebody with all power over the database has changed it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod export;
mod tampered;
mod witness;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use frikort_tests::{
    client::{Ledger, cancel, correct, facts, new_cpr, report},
    files::{frikort, frikort_alone},
    process::{Service, program, signing_key},
    python,
    stack::Stack,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

/// Persons who are paid.
const PERSONS: usize = 9;

/// Grants cards, then reports so many payments, some of them corrected or cancelled.
async fn fill(ledger: &Service, payments: usize) {
    let mut ledger = Ledger::new(ledger.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let persons: Vec<String> = (0..PERSONS).map(|_| new_cpr()).collect();
    for person in &persons {
        ledger.grant(person).await.unwrap();
    }
    pay(&ledger, &persons, payments).await;
}

async fn pay(ledger: &Ledger, persons: &[String], payments: usize) {
    let paid = stream::iter(0..payments).map(|number| {
        let (mut ledger, reference) = (ledger.payments.clone(), format!("p {number}"));
        let person = &persons[number % persons.len()];
        async move {
            ledger.report_payment(report(person, &reference, 10_000)).await?;
            match number % 10 {
                3 => drop(
                    ledger.correct_payment(correct(person, &reference, 1, facts(9_000))).await?,
                ),
                7 => drop(ledger.cancel_payment(cancel(person, &reference, 1)).await?),
                _ => {}
            }
            Ok::<_, tonic::Status>(())
        }
    });
    let _: Vec<()> = paid.buffer_unordered(16).try_collect().await.unwrap();
}

/// Runs `frikort audit` against services.
fn audit(ledger: &Service, projector: &Service, arguments: &[&str]) -> (i32, String) {
    let mut command = frikort(ledger, projector).unwrap();
    said(command.arg("audit").args(arguments).output().unwrap())
}

/// Runs it without any.
fn offline(arguments: &[&str]) -> (i32, String) {
    let mut command = frikort_alone().unwrap();
    command.arg("audit").args(arguments).stdin(Stdio::null());
    // Whatever it would ask is not there.
    command.env("FRIKORT_LEDGER", "127.0.0.1:1").env("FRIKORT_PROJECTOR", "127.0.0.1:1");
    said(command.output().unwrap())
}

fn said(output: Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = text + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

/// `frikort audit verify --json`, read.
fn verify(arguments: &[&str]) -> (i32, Value) {
    let mut command = frikort_alone().unwrap();
    let output = command.args(["audit", "verify", "--json"]).args(arguments).output().unwrap();
    let told = serde_json::from_slice(&output.stdout);
    let told = told.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), told)
}

/// The other verifier.
fn second(arguments: &[&str]) -> (i32, String) {
    let python = python::environment("verify-requirements.txt").unwrap();
    let mut command = Command::new(python);
    let output = command.arg(python::source("verify_export.py")).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The log's keys, from the operator's own file and not from the ledger.
fn published_keys(dir: &Path, partitions: i32) -> String {
    let mut command = Command::new(program("ledger").unwrap());
    command.args(["signing-key", "show", "--partitions", &partitions.to_string()]);
    let output = command.arg("--signing-key-file").arg(signing_key(dir)).output().unwrap();
    let file = dir.join("published.keys");
    std::fs::write(&file, output.stdout).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A path as an argument.
fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A stack with so many payments.
async fn filled(partitions: i32, payments: usize) -> Stack {
    let stack = Stack::start(partitions).await.unwrap();
    fill(&stack.ledger, payments).await;
    stack
}
