//! `frikort audit` on the sample: what is exported is what is stored, what is sound is verified, and
//! a file in which one thing was changed is found out, at its line, by two programs that share
//! nothing: ours, and `verify_export.py`, which is written from the format's description.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use frikort_domain::{Amount, Event, Record};
use frikort_tests::{
    client::{new_cpr, report},
    database::Database,
    files::{SAMPLE_EVENTS, frikort, frikort_alone, import, load_limits},
    process::{Kind, Service},
    python,
    stack::Stack,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

/// Runs `frikort audit verify --json` and gives its exit code and what it says.
fn verify(paths: &[&Path], options: &[&str]) -> (i32, Value) {
    let mut command = frikort_alone().unwrap();
    command.args(["audit", "verify", "--json"]).args(options).args(paths).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let told = serde_json::from_slice(&stdout);
    let told = told.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)));
    (status.code().unwrap(), told)
}

/// Runs the other verifier.
fn python(file: &Path) -> (i32, String, String) {
    let python = python::environment("verify-requirements.txt").unwrap();
    let script = python::source("verify_export.py");
    let output = Command::new(python).arg(script).arg(file).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn audit(stack: (&Service, &Service), args: &[&str]) -> Output {
    frikort(stack.0, stack.1).unwrap().arg("audit").args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Every person's year of the projector, as the other verifier tells it, but for the limit.
async fn totals_of_the_projector(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%s,%s,%s,%s,%s', t.person_id, t.year, t.total::numeric(14,2),
                       coalesce(sum(p.exempt), 0)::numeric(14,2), t.payments)
         FROM projection.annual_total AS t
         JOIN projection.checkpoint AS c USING (partition, generation)
         LEFT JOIN projection.payment AS p USING (partition, generation, person_id, year)
         WHERE c.state = 'serving' AND t.payments > 0
         GROUP BY t.person_id, t.year, t.total, t.payments",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// One thing that is changed in an export, and where that must be found.
struct Change {
    what: &'static str,
    lines: Vec<String>,
    /// From 1.
    line: usize,
    position: i64,
    check: &'static str,
    says: &'static str,
}

/// The first report of a payment from line 10.000 on that is wholly exempt, and whose person has a
/// record after it: its index, and the index of that record.
fn a_payment(lines: &[String]) -> (usize, usize) {
    let records: Vec<Record> = lines.iter().map(|line| Record::decode(line).unwrap()).collect();
    let found = (10_000..lines.len()).find_map(|at| {
        let Event::PaymentReported(_, outcome) = &records[at].event else { return None };
        let person = records[at].person_id;
        let next = (at + 2..lines.len()).find(|&later| records[later].person_id == person)?;
        let alone = records[at + 1].person_id != person;
        (outcome.taxable.is_zero() && outcome.exempt.oere() > 100 && alone).then_some((at, next))
    });
    found.unwrap()
}

/// The record at `at` otherwise, in the form in which a record is written.
fn rewrite(lines: &mut [String], at: usize, change: impl FnOnce(&mut Record)) {
    let mut record = Record::decode(&lines[at]).unwrap();
    change(&mut record);
    lines[at] = record.encode();
}

fn other_amount(record: &mut Record) {
    let Event::PaymentReported(data, _) = &mut record.event else { panic!("a report") };
    data.facts.amount = Amount::from_oere(data.facts.amount.oere() + 1).unwrap();
}

fn other_split(record: &mut Record) {
    let Event::PaymentReported(_, outcome) = &mut record.event else { panic!("a report") };
    outcome.exempt = Amount::from_oere(outcome.exempt.oere() - 1).unwrap();
    outcome.taxable = Amount::from_oere(1).unwrap();
}

fn changes(sound: &[String]) -> Vec<Change> {
    let (at, next) = a_payment(sound);
    let place = |at: usize| i64::try_from(at).unwrap() + 1;
    let mut all = Vec::new();
    let mut add = |what, lines, line, position, check, says| {
        all.push(Change { what, lines, line, position, check, says });
    };

    let mut lines = sound.to_vec();
    rewrite(&mut lines, at, other_amount);
    add("an amount", lines, at + 1, place(at), "outcomes", "are not the amount");

    let mut lines = sound.to_vec();
    rewrite(&mut lines, at, other_split);
    add("a split", lines, at + 1, place(at), "outcomes", "do not add up to what is used");

    let mut lines = sound.to_vec();
    lines.remove(at);
    add("a deleted line", lines, at + 1, place(at), "positions", "stands where");

    let mut lines = sound.to_vec();
    lines.swap(at, at + 1);
    add("swapped lines", lines, at + 1, place(at), "positions", "stands where");

    // A line is taken out, and everything after it numbered anew as if it had never been.
    let mut lines = sound.to_vec();
    lines.remove(at);
    for after in at..lines.len() {
        rewrite(&mut lines, after, |record| record.position -= 1);
    }
    add("a renumbered tail", lines, next, place(next) - 1, "versions", "stands where");

    // The same by somebody who forgets that event ids follow from positions.
    let mut lines = sound.to_vec();
    lines.remove(at);
    for (after, line) in lines.iter_mut().enumerate().skip(at) {
        let (was, is) =
            (format!("\"position\":{}", after + 2), format!("\"position\":{}", after + 1));
        *line = line.replacen(&was, &is, 1);
    }
    add("renumbered, ids left", lines, at + 1, place(at), "form", "event id");

    let mut lines = sound.to_vec();
    lines[at] = lines[at].replacen("\"position\":", "\"position\": ", 1);
    add("a space", lines, at + 1, place(at), "form", "not in the form");
    all
}

/// Both verifiers find the change where it is.
fn assert_found(dir: &Path, change: &Change) {
    let Change { what, lines, line, position, check, says } = change;
    let changed = dir.join("changed.jsonl");
    fs::write(&changed, lines.join("\n") + "\n").unwrap();
    let (status, told) = verify(&[&changed], &["--without-checkpoint"]);
    let first = &told["first_contradiction"];
    assert_eq!((status, &told["verdict"]), (1, &Value::from("contradiction")), "{what}");
    assert_eq!(first["file"], changed.to_str().unwrap(), "{what}");
    assert_eq!(
        (&first["line"], &first["partition"], &first["position"], &first["check"]),
        (&(*line).into(), &0.into(), &(*position).into(), &(*check).into()),
        "{what}: {first}"
    );
    assert!(first["what"].as_str().unwrap().contains(says), "{what}: {first}");
    let (status, _, errors) = python(&changed);
    assert_eq!(status, 1, "{what}");
    assert!(errors.contains(&format!(", line {line}, ")), "{what}, line {line}: {errors}");
}

/// The other verifier accepts the file, and its totals are the projector's.
async fn assert_same_totals(file: &Path, pool: &PgPool) {
    let (status, totals, errors) = python(file);
    assert_eq!(status, 0, "{errors}");
    let without_limit = |line: &str| {
        let [person, year, _, total, exempt, _, payments] =
            line.split(',').collect::<Vec<_>>().try_into().unwrap();
        (payments != "0").then(|| [person, year, total, exempt, payments].join(","))
    };
    let mut from_file: Vec<String> = totals.lines().skip(1).filter_map(without_limit).collect();
    let mut from_projector = totals_of_the_projector(pool).await;
    from_file.sort_unstable();
    from_projector.sort_unstable();
    assert!(from_file.len() > 1000 && from_file == from_projector, "other totals");
}

/// The tree's root as RFC 6962 defines it, in hex.
fn root(records: &[String]) -> String {
    fn hash(records: &[String]) -> Vec<u8> {
        match records {
            [record] => Sha256::new().chain_update([0]).chain_update(record).finalize().to_vec(),
            _ => {
                let (left, right) = records.split_at(records.len().next_power_of_two() / 2);
                let node = Sha256::new().chain_update([1]).chain_update(hash(left));
                node.chain_update(hash(right)).finalize().to_vec()
            }
        }
    }
    hash(records).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_the_sample_is_verified_and_each_change_of_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let ledger = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    load_limits(&ledger, &projector).unwrap();
    import(&ledger, &projector, dir.path()).unwrap();
    let services = (&ledger, &projector);
    let pool = database.pool().await.unwrap();

    // In three goes, one of which is cut off within a line.
    let history = dir.path().join("history");
    let (file, shown) = (history.join("partition-0.jsonl"), history.to_str().unwrap());
    assert_eq!(code(&audit(services, &["export", shown, "--until", "9000"])), 0);
    let begun = fs::read(&file).unwrap();
    fs::write(&file, &begun[..begun.len() - 100]).unwrap();
    let (cut_off, told) = verify(&[&file], &["--without-checkpoint"]);
    assert_eq!((cut_off, &told["records"]), (2, &Value::from(8999)), "{told}");
    assert_eq!(code(&audit(services, &["export", shown])), 0);
    let again = audit(services, &["export", shown, "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["files"][0]["written"], 0);
    let records: Vec<String> =
        sqlx::query_scalar("SELECT record FROM ledger.event ORDER BY position")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(i64::try_from(records.len()).unwrap(), 8 + SAMPLE_EVENTS);
    assert!(fs::read_to_string(&file).unwrap() == records.join("\n") + "\n", "other bytes");

    // Records alone: nothing is found, but that it is all there is cannot be shown by them.
    let alone = dir.path().join("alone.jsonl");
    fs::copy(&file, &alone).unwrap();
    let (not_a_pass, told) = verify(&[&alone], &[]);
    assert_eq!((not_a_pass, &told["verdict"]), (2, &Value::from("incomplete")));
    assert_eq!(told["contradictions"], 0);
    let (pass, told) = verify(&[&alone], &["--without-checkpoint"]);
    assert_eq!((pass, &told["verdict"]), (0, &Value::from("verified_without_checkpoint")));
    let (pass, told) = verify(&[&history], &[]);
    assert_eq!((pass, &told["verdict"]), (0, &Value::from("verified")), "{told}");
    assert_eq!(told["outcomes"]["decided_anew"], SAMPLE_EVENTS);
    assert_eq!(told["partitions"][0]["last_position"], 8 + SAMPLE_EVENTS);
    assert_eq!(told["partitions"][0]["root"], root(&records));

    assert_same_totals(&file, &pool).await;
    let compared = audit(services, &["totals", "--json"]);
    let compared_told: Value = serde_json::from_slice(&compared.stdout).unwrap();
    assert_eq!((code(&compared), &compared_told["verdict"]), (0, &Value::from("verified")));

    for change in changes(&records) {
        assert_found(dir.path(), &change);
    }

    // The file is not what the ledger has: it is not gone on with.
    let mut lines = records.clone();
    let last = lines.len() - 1;
    rewrite(&mut lines, last, |record| record.actor.organisation = "somebody".to_owned());
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let refused = audit(services, &["export", shown]);
    assert_eq!(code(&refused), 1);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("is not what the ledger has there"), "{said}");
    assert!(fs::read_to_string(&file).unwrap() == lines.join("\n") + "\n", "it was written to");
}

/// A ledger of two partitions with a few persons, and an export of it.
async fn a_small_export() -> (Stack, PathBuf, Vec<String>) {
    let stack = Stack::start(2).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cprs: Vec<String> = (0..8).map(|_| new_cpr()).collect();
    for cpr in &cprs {
        ledger.grant(cpr).await.unwrap();
        for reference in ["one", "two", "three"] {
            ledger.payments.report_payment(report(cpr, reference, 900_000)).await.unwrap();
        }
    }
    let history = stack.dir.path().join("history");
    let services = (&stack.ledger, &stack.projector);
    assert_eq!(code(&audit(services, &["export", history.to_str().unwrap()])), 0);
    (stack, history, cprs)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_checked_is_said_and_is_no_pass() {
    let (stack, history, cprs) = a_small_export().await;
    let services = (&stack.ledger, &stack.projector);
    let (status, told) = verify(&[&history], &["--without-checkpoint"]);
    assert_eq!((status, &told["records"]), (0, &Value::from(2 + 8 * 4)), "{told}");
    assert_eq!(told["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(told["years"][0]["exempt"], "160000.00");
    assert_eq!(told["years"][0]["taxable"], "56000.00");
    let not_checked = |told: &Value, part: &str| {
        let said = told["not_checked"].as_array().unwrap().iter();
        assert!(said.clone().any(|what| what.as_str().unwrap().contains(part)), "{told}");
    };

    // It begins later: persons whose first record is there are added up, and no more.
    let file = history.join("partition-0.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let later = stack.dir.path().join("later.jsonl");
    fs::write(&later, text.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    let (status, told) = verify(&[&later], &["--without-checkpoint"]);
    assert_eq!((status, &told["verdict"]), (2, &Value::from("incomplete")));
    assert_eq!(told["outcomes"]["decided_anew"], 0);
    not_checked(&told, "begins at position 2");
    not_checked(&told, "only added up");

    // One person's records.
    let person = stack.dir.path().join("person");
    let person = person.to_str().unwrap();
    let export = audit(services, &["export", person, "--cpr", &cprs[7]]);
    assert_eq!(code(&export), 0);
    let (status, told) = verify(&[Path::new(person)], &["--extract", "--without-checkpoint"]);
    assert_eq!((status, &told["contradictions"]), (2, &Value::from(0)), "{told}");
    assert_eq!((&told["outcomes"]["added_up"], &told["persons"]), (&4.into(), &1.into()));
    not_checked(&told, "an extract");
    let mixed = audit(services, &["export", person]);
    assert_eq!(code(&mixed), 2, "an export of everybody beside one of a person");

    // A record that a later program wrote: neither sound nor a contradiction.
    let unknown = stack.dir.path().join("unknown.jsonl");
    fs::write(&unknown, text.replacen("\"payment_reported\"", "\"payment_imagined\"", 1)).unwrap();
    let (status, told) = verify(&[&unknown], &["--without-checkpoint"]);
    assert_eq!((status, &told["outcomes"]["unknown"]), (2, &Value::from(1)), "{told}");
    not_checked(&told, "payment_imagined");
    not_checked(&told, "contradicts or is unknown");

    // Nothing at all.
    let empty = stack.dir.path().join("empty.jsonl");
    fs::write(&empty, "").unwrap();
    let (status, told) = verify(&[&empty], &["--without-checkpoint"]);
    assert_eq!(status, 2);
    not_checked(&told, "there is no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_that_the_projector_has_otherwise_is_found() {
    let (mut stack, history, cprs) = a_small_export().await;
    assert_eq!(code(&audit((&stack.ledger, &stack.projector), &["totals"])), 0);

    // A ledger that goes on may keep the two from meeting; that is no contradiction.
    let mut ledger = stack.ledger().await.unwrap();
    let busy = async {
        for number in 0.. {
            let more = report(&cprs[0], &format!("more {number}"), 100);
            ledger.payments.report_payment(more).await.unwrap();
        }
    };
    let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
    command.args(["audit", "totals", "--json"]);
    let meanwhile = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::select! {
        output = meanwhile => output.unwrap(),
        () = busy => unreachable!("it goes on for ever"),
    };
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdict = told["verdict"].as_str().unwrap();
    assert!([(0, "verified"), (2, "incomplete")].contains(&(code(&output), verdict)), "{told}");
    assert_eq!(code(&audit((&stack.ledger, &stack.projector), &["totals"])), 0);

    stack.projector.stop().await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    let person: uuid::Uuid = sqlx::query_scalar(
        "UPDATE projection.annual_total SET total = total + 1
         WHERE person_id = (SELECT min(person_id::text)::uuid FROM projection.annual_total
                            WHERE payments = 3)
         RETURNING person_id",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let dir = stack.dir.path();
    let projector = Service::start(Kind::Projector, &stack.database, dir).await.unwrap();
    let found = audit((&stack.ledger, &projector), &["totals", "--json"]);
    let told: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((code(&found), &told["verdict"]), (1, &Value::from("contradiction")), "{told}");
    let differing = told["differing"].as_array().unwrap();
    assert_eq!(differing.len(), 1, "{told}");
    assert_eq!(differing[0]["person_id"], person.to_string());
    assert_eq!(differing[0]["replayed"]["total_oere"], 2_700_000);
    assert_eq!(differing[0]["answered"]["total_oere"], 2_700_100);

    // Without a projector nothing can be said; and another ledger is not this file's.
    let nobody = frikort_alone()
        .unwrap()
        .args(["audit", "totals", "--projector", "127.0.0.1:1", "--ledger", &stack.ledger.uri()])
        .output()
        .unwrap();
    assert_eq!(code(&nobody), 2);
    let other = Stack::start(2).await.unwrap();
    let history = history.to_str().unwrap();
    let refused = audit((&other.ledger, &other.projector), &["export", history]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(code(&refused), 1, "{said}");
    assert!(said.contains("not the ledger that this was exported from"), "{said}");
}
