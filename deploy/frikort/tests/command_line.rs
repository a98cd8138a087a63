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
