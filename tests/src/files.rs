//! The sample history with every expected answer, and the command `frikort` run on it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::process::{Service, program};

/// Events that the whole sample makes, limits not counted: decisions, payments, corrections and
/// cancellations that are neither refused nor replayed.
pub const SAMPLE_EVENTS: i64 = 1608 + 21_190;

/// A file of the sample.
pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// The command `frikort` without the profiles that this machine's `frikort up` may have written.
pub fn frikort_alone() -> anyhow::Result<Command> {
    let mut command = Command::new(program("frikort")?);
    command.env("FRIKORT_PROFILES", "/dev/null");
    Ok(command)
}

/// The command `frikort`, pointed at a ledger and a projector.
pub fn frikort(ledger: &Service, projector: &Service) -> anyhow::Result<Command> {
    let mut command = frikort_alone()?;
    command.env("FRIKORT_LEDGER", ledger.uri()).env("FRIKORT_PROJECTOR", projector.uri());
    command.stdin(Stdio::null());
    Ok(command)
}

/// Records the published limits.
pub fn load_limits(ledger: &Service, projector: &Service) -> anyhow::Result<()> {
    let limits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/annual-limits.csv");
    run(frikort(ledger, projector)?.arg("limits").arg("--load").arg(limits))?;
    Ok(())
}

/// Starts importing the sample; answers go to `answers`, what it says to `log`.
pub fn start_import(
    ledger: &Service,
    projector: &Service,
    answers: &Path,
    log: &Path,
) -> anyhow::Result<Child> {
    let mut command = frikort(ledger, projector)?;
    command.arg("import").arg("--visitations").arg(sample("visitations.csv"));
    command.arg("--payments").arg(sample("payments.csv")).arg("--answers").arg(answers);
    command.stdout(File::create(log)?).stderr(File::options().append(true).open(log)?);
    Ok(command.spawn()?)
}

/// Imports the sample, and gives its answers: line by line, result and amounts.
pub fn import(ledger: &Service, projector: &Service, dir: &Path) -> anyhow::Result<Vec<String>> {
    let (answers, log) = (dir.join("answers.csv"), dir.join("import.log"));
    let status = start_import(ledger, projector, &answers, &log)?.wait()?;
    ensure!(status.success(), "the import ended with {status}:\n{}", fs::read_to_string(&log)?);
    lines(&answers)
}

/// The lines of a file, without the header.
pub fn lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.lines().skip(1).map(str::to_owned).collect())
}

/// Holds what the projector answers for every person and year against the expected files.
pub fn assert_expected_totals_and_splits(
    ledger: &Service,
    projector: &Service,
    dir: &Path,
) -> anyhow::Result<()> {
    let expected = lines(&sample("expected-totals.csv"))?;
    let mut by_year: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &expected {
        by_year.entry(line.split(',').nth(1).context("a year")?).or_default().push(line);
    }
    for (year, expected) in by_year {
        let persons = dir.join(format!("persons-{year}"));
        fs::write(&persons, persons_of(&expected))?;
        let args = ["allowance", "--csv", "--year", year, "--cpr-file"];
        let got = run(frikort(ledger, projector)?.args(args).arg(&persons))?;
        assert_same(&got, &expected, "totals");
    }
    let expected = lines(&sample("expected-splits.csv"))?;
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let persons = dir.join("persons");
    fs::write(&persons, persons_of(&expected))?;
    let args = ["statement", "--csv", "--cpr-file"];
    let got = run(frikort(ledger, projector)?.args(args).arg(&persons))?;
    assert_same(&got, &expected, "splits");
    Ok(())
}

/// Each person once, in the order of the lines.
fn persons_of(lines: &[&str]) -> String {
    let mut persons: Vec<&str> = lines.iter().filter_map(|line| line.split(',').next()).collect();
    persons.dedup();
    persons.join("\n")
}

fn assert_same(csv: &str, expected: &[&str], what: &str) {
    let got: Vec<&str> = csv.lines().skip(1).collect();
    let differs = got.iter().zip(expected).find(|(got, expected)| got != expected);
    assert!(differs.is_none(), "{what} differ: {differs:?}");
    assert_eq!(got.len(), expected.len(), "{what}: another number of lines");
}

/// Runs a command to its end; its standard output.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}:\n{errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
