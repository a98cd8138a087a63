//! The program as somebody meets it on the command line.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{fs, process::Command};

fn projector(args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_projector"));
    let output = command.args(args).env_clear().output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn help_explains_the_settings() {
    let (success, text) = projector(&["serve", "--help"]);
    assert!(success);
    for word in ["DATABASE_URL", "--keys-file", "127.0.0.1:50052", "--config"] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

#[test]
fn help_explains_rebuilding() {
    for (command, words) in [
        ("rebuild", ["--accept-differences", "--fresh", "--json", "Ends with 1"]),
        ("generations", ["--drop-old", "--json", "DATABASE_URL", "--config"]),
    ] {
        let (success, text) = projector(&[command, "--help"]);
        assert!(success);
        for word in words {
            assert!(text.contains(word), "{word} is missing in:\n{text}");
        }
    }
}

#[test]
fn an_unknown_key_in_the_settings_file_is_refused_by_name() {
    let file = std::env::temp_dir().join(format!("projector-{}.toml", std::process::id()));
    fs::write(&file, "listen = \"127.0.0.1:0\"\nlistenn = 1\n").unwrap();
    let (success, text) = projector(&["serve", "--config", file.to_str().unwrap()]);
    fs::remove_file(file).unwrap();
    assert!(!success && text.contains("listenn"), "{text}");
}

#[test]
fn a_missing_database_is_an_error_that_says_what_to_set() {
    for command in ["serve", "rebuild", "generations"] {
        let (success, text) = projector(&[command]);
        assert!(!success && text.contains("DATABASE_URL"), "{text}");
    }
}
