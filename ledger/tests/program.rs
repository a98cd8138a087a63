//! The program as somebody meets it on the command line.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{fs, process::Command};

fn ledger(args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledger"));
    let output = command.args(args).env_clear().output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn help_explains_the_settings() {
    let (success, text) = ledger(&["serve", "--help"]);
    assert!(success);
    for word in ["DATABASE_URL", "--keys-file", "127.0.0.1:50051", "--config"] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

#[test]
fn an_unknown_key_in_the_settings_file_is_refused_by_name() {
    let file = std::env::temp_dir().join(format!("ledger-{}.toml", std::process::id()));
    fs::write(&file, "listen = \"127.0.0.1:0\"\nlistenn = 1\n").unwrap();
    let (success, text) = ledger(&["serve", "--config", file.to_str().unwrap()]);
    fs::remove_file(file).unwrap();
    assert!(!success && text.contains("listenn"), "{text}");
}

#[test]
fn a_missing_database_is_an_error_that_says_what_to_set() {
    let (success, text) = ledger(&["serve"]);
    assert!(!success && text.contains("DATABASE_URL"), "{text}");
}

#[test]
fn an_address_beyond_loopback_needs_certificates() {
    let url = "postgresql://nobody@localhost/none?host=/nowhere";
    let keys = std::env::temp_dir().join(format!("ledger-{}.keys", std::process::id()));
    let keys = keys.to_str().unwrap();
    let args = [
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--database-url",
        url,
        "--keys-file",
        keys,
        "--create-keys",
        "--insecure-on-loopback",
        "--lookup-journal",
        "nowhere",
    ];
    let (success, text) = ledger(&args);
    fs::remove_file(keys).unwrap();
    assert!(!success && text.contains("loopback"), "{text}");
}
