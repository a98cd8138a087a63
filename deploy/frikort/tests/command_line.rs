//! The real program, as far as it goes without a service: help, bad usage, nobody there.

use std::process::{Command, Output};

fn frikort(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_frikort")).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn help_explains_with_examples_and_exit_codes() {
    let help = frikort(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for part in ["demo", "import", "allowance", "Exit codes:", "Examples:"] {
        assert!(text(&help.stdout).contains(part), "{part}");
    }
    let import = frikort(&["import", "--help"]);
    assert!(text(&import.stdout).contains("line,result,exempt,taxable"));
}

#[test]
fn bad_usage_is_told_apart_from_failure() {
    for arguments in [
        &["import"][..],
        &["allowance", "--cpr", "0101605001"],
        &["allowance", "--year", "2023"],
        &["statement", "--cpr", "0101605001", "--cpr-file", "x"],
        &["import", "--payments", "p.csv", "--in-flight", "0"],
        &["audit"],
        &["audit", "verify"],
        &["audit", "export", "history", "--until", "0"],
        &["audit", "export", "history", "--until", "9", "--year", "2025"],
        &["audit", "receipt", "get"],
        &["audit", "receipt", "verify"],
        &["audit", "watch", "--interval", "0"],
        &["audit", "mirror"],
        &["nonsense"],
    ] {
        let output = frikort(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn w5_a_bad_cpr_number_is_not_repeated() {
    let output = frikort(&["allowance", "--cpr", "3002605001", "--year", "2023"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("must be a CPR number") && !said.contains("3002605001"), "{said}");
}

#[test]
fn nobody_there_is_exit_code_2_and_one_line() {
    let output = frikort(&["limits", "--ledger", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("127.0.0.1:1 does not answer"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn an_audit_says_how_it_ends_and_never_passes_what_it_could_not_read() {
    for of in [
        &["audit", "--help"][..],
        &["audit", "export", "--help"],
        &["audit", "totals", "-h"],
        &["audit", "receipt", "get", "--help"],
        &["audit", "receipt", "verify", "--help"],
        &["audit", "watch", "--help"],
        &["audit", "mirror", "--help"],
    ] {
        assert!(text(&frikort(of).stdout).contains("Exit codes"), "{of:?}");
    }
    let help = frikort(&["audit", "verify", "--help"]);
    for part in ["0 all of it is verified", "1 a contradiction", "2 not everything", "verdict"] {
        assert!(text(&help.stdout).contains(part), "{part}");
    }
    let nothing =
        frikort(&["audit", "verify", "--without-checkpoint", "/nowhere/partition-0.jsonl"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(nothing.stdout.is_empty() && text(&nothing.stderr).contains("/nowhere"));
    for of in [
        &["export", "/nowhere"][..],
        &["mirror", "/nowhere"],
        &["receipt", "get", "--position", "1"],
    ] {
        let nobody = frikort(&[&["audit"], of, &["--ledger", "127.0.0.1:1"]].concat());
        assert_eq!(nobody.status.code(), Some(2), "{of:?}");
        assert!(text(&nobody.stderr).contains("does not answer"), "{of:?}");
    }
}

#[test]
fn the_golden_lines_read_and_are_no_history() {
    // Each is a record in its form; together they never happened.
    let golden =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../ledger/domain/tests/golden/records.jsonl");
    let found = frikort(&["audit", "verify", "--json", "--without-checkpoint", golden]);
    assert_eq!(found.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
    let form = &told["checks"][0];
    assert_eq!((&form["check"], &form["contradictions"]), (&"form".into(), &0.into()), "{told}");
}

#[test]
fn a_service_that_it_starts_writes_a_log() {
    for service in ["ledger", "projector"] {
        let arguments = [service, "serve", "--insecure-on-loopback", "--listen", "0.0.0.0:0"];
        let output = Command::new(env!("CARGO_BIN_EXE_frikort"))
            .args(arguments)
            .env("DATABASE_URL", "postgresql://nobody@localhost/none")
            .env("FRIKORT_KEYS", format!("find={0} seal={0}", "ab".repeat(32)))
            .env("FRIKORT_LOOKUP_JOURNAL", "nowhere")
            .output()
            .expect("the program runs");
        let said = text(&output.stderr);
        assert!(said.contains("WARN") && said.contains("INSECURE"), "{service}: {said}");
    }
}
