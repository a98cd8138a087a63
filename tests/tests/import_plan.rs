//! `frikort import --validate-only` and `--plan`: a run is looked at, and recorded only if it is
//! the one that was looked at.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use frikort_tests::{
    audit::{assert_sound, events},
    client::new_cpr,
    files::{frikort, lines},
    stack::Stack,
};

const HEADER: &str = "action,cpr,employer_cvr,reference,amount,paid_on,expected_revision,reason\n";

/// A stack with a limit of 20.000 kr. and so many persons with a card.
async fn ground(persons: usize) -> (Stack, Vec<String>) {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cprs: Vec<String> = (0..persons).map(|_| new_cpr()).collect();
    for cpr in &cprs {
        ledger.grant(cpr).await.unwrap();
    }
    (stack, cprs)
}

fn write(stack: &Stack, name: &str, rows: &[String]) -> PathBuf {
    let file = stack.dir.path().join(name);
    fs::write(&file, format!("{HEADER}{}\n", rows.join("\n"))).unwrap();
    file
}

fn row(cpr: &str, reference: &str, amount: &str) -> String {
    format!("report,{cpr},13748136,{reference},{amount},2022-03-01,,")
}

/// Runs `frikort import` on a file of payments; its answers, and how it ended.
fn import(stack: &Stack, payments: &Path, arguments: &[&str]) -> (Vec<String>, Output) {
    let answers = stack.dir.path().join("answers.csv");
    let _ = fs::remove_file(&answers);
    let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
    command.args(["import", "--payments"]).arg(payments).arg("--answers").arg(&answers);
    let output = command.args(arguments).output().unwrap();
    (lines(&answers).unwrap_or_default(), output)
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// The token that a plan ends with.
fn token(output: &Output) -> String {
    let said = said(output);
    let token = said.split("--plan ").nth(1).and_then(|rest| rest.split_whitespace().next());
    token.unwrap_or_else(|| panic!("no token in:\n{said}")).to_owned()
}

/// A row of the control totals.
fn total(output: &Output, what: &str) -> String {
    let said = said(output);
    let line = said.lines().find(|line| line.trim_start().starts_with(what));
    let line = line.unwrap_or_else(|| panic!("no {what} in:\n{said}"));
    line.trim_start().strip_prefix(what).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_looked_at_line_by_line_and_then_recorded_as_it_was_shown() {
    let (stack, cprs) = ground(1).await;
    let rows = [
        row(&cprs[0], "a", "15000.00"),
        row(&cprs[0], "b", "15000.00"),
        row(&cprs[0], "c", "1,5"),
        row(&cprs[0], "a", "15000.00"),
        row(&new_cpr(), "d", "100.00"),
        row(&cprs[0], "b", "15000.01"),
    ];
    let file = write(&stack, "run.csv", &rows);
    let before = stack.recorded().await.unwrap();
    let (planned, output) = import(&stack, &file, &["--validate-only"]);
    // A malformed row is named; the rest is planned.
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("payments line 4: "), "{}", said(&output));
    assert_eq!(
        planned,
        [
            "1,planned,15000.00,0.00",
            "2,planned,5000.00,10000.00",
            "3,INVALID_FIELD,,",
            "4,replayed,15000.00,0.00",
            "5,NO_CARD,,",
            "6,REFERENCE_REUSED,,"
        ]
    );
    let totals = |output: &Output, recorded: &str| {
        let rows = ["Lines", "Sum", "Exempt", "Taxable", recorded, "There already"];
        let others = ["There with other content", "Refused"];
        rows.into_iter().chain(others).map(|row| total(output, row)).collect::<Vec<_>>()
    };
    let expected = ["5", "60.100,01 kr.", "35.000,00 kr.", "10.000,00 kr.", "2", "1", "1", "1"]
        .map(str::to_owned);
    assert_eq!(totals(&output, "Would be recorded"), expected);
    assert!(said(&output).contains("Nothing is recorded."));
    assert_eq!(stack.recorded().await.unwrap(), before, "the plan has recorded something");

    let (answers, output) = import(&stack, &file, &["--plan", &token(&output)]);
    let recorded: Vec<_> = planned.iter().map(|l| l.replace(",planned,", ",recorded,")).collect();
    assert_eq!(answers, recorded, "{}", said(&output));
    assert_eq!(totals(&output, "Recorded"), expected);
    assert_eq!(stack.recorded().await.unwrap().events, before.events + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_than_the_planned_one_is_not_recorded() {
    let (stack, cprs) = ground(1).await;
    let planned =
        write(&stack, "run.csv", &[row(&cprs[0], "a", "10.00"), row(&cprs[0], "b", "1.00")]);
    let token = token(&import(&stack, &planned, &["--validate-only"]).1);
    let before = stack.recorded().await.unwrap();
    let changed =
        write(&stack, "run.csv", &[row(&cprs[0], "a", "10.00"), row(&cprs[0], "b", "1.01")]);
    let (answers, output) = import(&stack, &changed, &["--plan", &token]);
    assert_eq!((answers.len(), output.status.code()), (0, Some(1)));
    assert!(said(&output).contains("PLAN_MISMATCH"), "{}", said(&output));
    assert_eq!(stack.recorded().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_refuses_what_is_no_report_before_anything_is_sent() {
    let (stack, cprs) = ground(1).await;
    let cancel = format!("cancel,{},13748136,a,,,1,DUPLICATE", cprs[0]);
    let file = write(&stack, "run.csv", &[row(&cprs[0], "a", "10.00"), cancel]);
    let before = stack.recorded().await.unwrap();
    let token = format!("1-{}", "0".repeat(64));
    for arguments in [vec!["--validate-only"], vec!["--plan", &token]] {
        let (answers, output) = import(&stack, &file, &arguments);
        assert_eq!((answers.len(), output.status.code()), (0, Some(1)));
        let said = said(&output);
        assert!(said.contains("payments line 3 is a correction or a cancellation"), "{said}");
    }
    let visitations = ["--visitations", file.to_str().unwrap(), "--validate-only"];
    assert_eq!(import(&stack, &file, &visitations).1.status.code(), Some(64));
    assert_eq!(stack.recorded().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_ledger_is_killed_goes_on_by_itself() {
    const PERSONS: usize = 200;
    const EACH: usize = 100;
    let (mut stack, cprs) = ground(PERSONS).await;
    let rows: Vec<_> = (0..EACH)
        .flat_map(|n| cprs.iter().map(move |cpr| row(cpr, &format!("n {n}"), "100.00")))
        .collect();
    let file = write(&stack, "run.csv", &rows);
    let token = token(&import(&stack, &file, &["--validate-only"]).1);
    let pool = stack.database.pool().await.unwrap();
    let before = events(&pool).await;
    let answers = stack.dir.path().join("answers.csv");
    let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
    command.args(["import", "--plan", &token, "--payments"]).arg(&file);
    command.arg("--answers").arg(&answers).stdout(Stdio::piped()).stderr(Stdio::piped());
    let importing = command.spawn().unwrap();
    while events(&pool).await == before {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stack.ledger.kill_and_restart().unwrap();
    let output = tokio::task::spawn_blocking(|| importing.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let count = |what| total(&output, what).parse::<usize>().unwrap();
    assert_eq!(count("Recorded") + count("There already"), PERSONS * EACH);
    assert!(count("There already") > 0, "the kill came too late: {}", said(&output));
    let answers = lines(&answers).unwrap();
    assert_eq!(answers.len(), PERSONS * EACH);
    assert!(answers.iter().all(|line| line.ends_with(",100.00,0.00")));
    stack.ledger.wait_until_ready().await.unwrap();
    assert_eq!(assert_sound(&pool).await, before + i64::try_from(PERSONS * EACH).unwrap());
}
