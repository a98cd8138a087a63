//! An export from files alone: each thing that can be done to a history is found by `frikort audit
//! verify` and by `verify_export.py`, which share nothing but the format's description, at the same
//! position.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod changes;
mod fixture;
mod receipts;
mod unfinished;

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use fixture::{Export, history, log_name, signed, signing_key};
use frikort_tests::{files::frikort_alone, python};
use serde_json::Value;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Runs `frikort audit` and gives its exit code and what it says.
fn audit<S: AsRef<OsStr>>(arguments: &[S]) -> (i32, String, String) {
    let mut command = frikort_alone().unwrap();
    command.arg("audit").args(arguments).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs `frikort audit verify --json` on an export.
fn verify(export: &Export, options: &[&str]) -> (i32, Value) {
    let dir = export.dir.to_str().unwrap();
    let (status, told, errors) = audit(&[&["verify", "--json", dir], options].concat());
    (status, serde_json::from_str(&told).unwrap_or_else(|_| panic!("{errors}")))
}

/// Runs the other verifier on an export.
fn second(export: &Export, options: &[&str]) -> (i32, String) {
    let python = python::environment("verify-requirements.txt").unwrap();
    let mut command = Command::new(python);
    command.arg(python::source("verify_export.py")).args(options).arg(export.path("jsonl"));
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), text(stderr))
}

/// The log's key, as the auditor has it, and a checkpoint that was noted after so many records.
struct Noted {
    key: String,
    checkpoint: String,
}

fn noted(dir: &Path, records: &[String], size: usize) -> Noted {
    let checkpoint = dir.join(format!("noted-{size}.checkpoint"));
    fs::write(&checkpoint, signed(&records[..size], &signing_key())).unwrap();
    let key = signing_key().verifier(&log_name()).to_string();
    Noted { key, checkpoint: checkpoint.to_str().unwrap().to_owned() }
}

impl Noted {
    fn options(&self) -> [&str; 4] {
        ["--key", &self.key, "--checkpoint", &self.checkpoint]
    }
}

#[test]
fn a_sound_export_is_verified_by_both() {
    let dir = tempfile::tempdir().unwrap();
    let records = history();
    let export = Export::write(&dir.path().join("history"), &records);
    for size in [1, 256, 700, records.len()] {
        let noted = noted(dir.path(), &records, size);
        let (status, told) = verify(&export, &noted.options());
        assert_eq!((status, &told["verdict"]), (0, &Value::from("verified")), "{told}");
        assert_eq!((&told["keys"], &told["contradictions"]), (&"given".into(), &0.into()));
        assert_eq!(told["not_checked"], Value::Array(Vec::new()));
        assert_eq!(told["checkpoints"][0]["agrees"], true);
        let partition = &told["partitions"][0];
        assert_eq!(partition["checkpoint"], records.len());
        // Five full tiles, a part of the sixth, and five hashes above them.
        assert_eq!((&partition["tiles"], &partition["totals"]["lines"]), (&7.into(), &40.into()));
        assert_eq!(told["outcomes"]["decided_anew"], records.len() - 2);
        assert_eq!(second(&export, &noted.options()), (0, String::new()));
    }

    // Keys from the export are the server's word, and both say so.
    let (status, told) = verify(&export, &[]);
    assert_eq!((status, &told["keys"]), (0, &Value::from("export")));
    let (_, human, _) = audit(&["verify", export.dir.to_str().unwrap()]);
    assert!(human.contains("only the server's word"), "{human}");
    let (status, errors) = second(&export, &[]);
    assert!(status == 0 && errors.contains("only the server's word"), "{errors}");
}
