//! The domain stays pure because the compiler sees nothing else: no runtime, no database, no
//! wire, no other crate of this project.

/// What the domain may name, and why. A new line here is a decision for the README.
const DEPENDENCIES: [(&str, &str); 7] = [
    ("indexmap", "payments are found by key and kept in order of registration"),
    ("rust_decimal", "money is decimal, never binary"),
    ("serde", "records are written and read"),
    ("serde_json", "records are JSON lines"),
    ("thiserror", "refusals are errors with a text"),
    ("time", "civil dates; instants are handed in, for its clock is not used"),
    ("uuid", "opaque person ids, and event ids that follow from the position"),
];

const MANIFEST: &str = include_str!("../Cargo.toml");

/// The lines of one table of the manifest.
fn table(header: &str) -> Vec<&'static str> {
    let mut lines = MANIFEST.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    let content = lines.by_ref().take_while(|line| !line.starts_with('['));
    content.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn the_domain_depends_on_what_is_listed_and_on_nothing_else() {
    let names: Vec<&str> = table("[dependencies]")
        .into_iter()
        .map(|line| line.split(['=', '.', ' ']).next().expect("a line has a first word"))
        .collect();
    assert_eq!(names, DEPENDENCIES.map(|(name, _)| name));
}

#[test]
fn there_is_no_other_table_through_which_a_dependency_could_come() {
    let headers: Vec<&str> = MANIFEST.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(headers, ["[package]", "[lints]", "[dependencies]", "[dev-dependencies]"]);
}
