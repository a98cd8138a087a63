//! Every rule of RULES.md has a test that bears its id, so that a rule which nobody holds is seen.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Access control has its own tests, by caller and method.
const ACCESS: char = 'W';

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The ids of the rules, as RULES.md lists them: `- **Y1** (L) …`.
fn rules() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("ledger/domain/RULES.md")).unwrap();
    let ids = text.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**"));
    let is_rule = |id: &str| {
        let (letter, number) = id.split_at(1);
        letter.bytes().all(|b| b.is_ascii_uppercase()) && number.parse::<u32>().is_ok()
    };
    ids.map(|(id, _)| id.to_owned()).filter(|id| id.is_ascii() && is_rule(id)).collect()
}

/// The names of all test functions below a folder, with their ids: `fn a4_…` is A4's.
fn tested(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            tested(&path, found);
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let mut is_test = false;
        for line in fs::read_to_string(&path).unwrap().lines().map(str::trim) {
            if let Some(name) = line.trim_start_matches("async ").strip_prefix("fn ") {
                if let (true, Some((id, _))) = (is_test, name.split_once('_')) {
                    found.insert(id.to_uppercase());
                }
                is_test = false;
            }
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        }
    }
}

#[test]
fn every_rule_has_a_test_that_bears_its_id() {
    let rules = rules();
    assert!(rules.len() > 40 && rules.contains("Y1") && rules.contains("P9"), "{rules:?}");
    let mut found = BTreeSet::new();
    for folder in ["ledger", "projector", "deploy", "proto", "tests"] {
        tested(&root().join(folder), &mut found);
    }
    let without: Vec<_> = rules
        .iter()
        .filter(|id| !id.starts_with(ACCESS) && !found.contains(*id))
        .map(String::as_str)
        .collect();
    assert!(without.is_empty(), "rules without a test: {without:?}");
}
