//! As database superuser, with triggers off: each thing done to a filled ledger is found by the
//! ledger's own check and by both verifiers, against an older checkpoint, at the right position.

use std::{fs, path::PathBuf};

use frikort_domain::Record;
use frikort_tests::{
    database::Database,
    files::frikort,
    process::{Kind, Service, signing_key},
    proof_log::Signer,
    stack::Stack,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor};

use crate::{audit, filled, published_keys, second, shown, verify};

/// As whoever owns the machine: no trigger keeps them from anything.
pub(crate) async fn tamper(database: &Database, statements: &[&str]) {
    let mut superuser = database.pool().await.unwrap().acquire().await.unwrap();
    superuser.execute("SET session_replication_role = replica").await.unwrap();
    for statement in statements {
        let done = superuser.execute(AssertSqlSafe((*statement).to_owned())).await.unwrap();
        // What was done before may have been found, or not.
        let may_be_empty = statement.contains("ledger.history_incident");
        assert!(may_be_empty || done.rows_affected() > 0, "{statement}");
    }
}

const TABLES: [&str; 5] = [
    "ledger.event",
    "ledger.partition_head",
    "ledger.tile",
    "ledger.checkpoint",
    "ledger.history_incident",
];

/// A ledger that is changed, and changed back.
struct Victim {
    stack: Stack,
    keys: String,
    /// An export of before, as the auditor keeps it elsewhere.
    kept: PathBuf,
    records: Vec<Record>,
}

impl Victim {
    async fn new() -> Self {
        let stack = filled(1, 700).await;
        let keys = published_keys(stack.dir.path(), 1);
        let kept = stack.dir.path().join("kept");
        let exported = audit(&stack.ledger, &stack.projector, &["export", shown(&kept)]);
        assert_eq!(exported.0, 0, "{exported:?}");
        let text = fs::read_to_string(kept.join("partition-0.jsonl")).unwrap();
        let records = text.lines().map(|line| Record::decode(line).unwrap()).collect();
        let victim = Self { stack, keys, kept, records };
        for table in TABLES {
            let copy = format!("CREATE TABLE {}_kept AS TABLE {table}", table.replace('.', "_"));
            let mut owner = victim.stack.database.pool().await.unwrap().acquire().await.unwrap();
            owner.execute(AssertSqlSafe(copy)).await.unwrap();
        }
        victim
    }

    /// Puts everything back as it was, and does something to it while nobody looks.
    async fn change(&mut self, statements: &[&str]) {
        self.stack.ledger.kill().unwrap();
        let mut all = Vec::new();
        for table in TABLES {
            all.push(format!("DELETE FROM {table}"));
            all.push(format!("INSERT INTO {table} SELECT * FROM {}_kept", table.replace('.', "_")));
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        tamper(&self.stack.database, &[&all, statements].concat()).await;
        let dir = self.stack.dir.path();
        let ledger =
            Service::start_answering(Kind::Ledger, &self.stack.database, dir).await.unwrap();
        self.stack.ledger = ledger;
    }

    /// What was done is found at this position: by the ledger in its tables, and by both verifiers
    /// in a fresh export.
    fn assert_found(&self, what: &str, position: i64) {
        self.assert_found_by_the_ledger(what, position);
        let older = self.kept.join("partition-0.checkpoint");
        let fresh = self.export();
        let options = ["--key", &self.keys, "--checkpoint", shown(&older)];
        let (status, told) = verify(&[&[shown(&fresh)], &options[..]].concat());
        let found = &told["first_contradiction"]["position"];
        assert_eq!((status, found), (1, &position.into()), "{what}: {told:#}");
        let file = fresh.join("partition-0.jsonl");
        let (status, errors) = second(&[&options[..], &[shown(&file)]].concat());
        assert_eq!(status, 1, "{what}: {errors}");
        assert!(errors.contains(&format!(", position {position}: ")), "{what}: {errors}");
    }

    /// The ledger may have found out by itself, and sign nothing: then it is no whole one.
    fn export(&self) -> PathBuf {
        let fresh = self.stack.dir.path().join("fresh");
        let _ = fs::remove_dir_all(&fresh);
        audit(&self.stack.ledger, &self.stack.projector, &["export", shown(&fresh)]);
        fresh
    }

    fn assert_found_by_the_ledger(&self, what: &str, position: i64) {
        let older = self.kept.join("partition-0.checkpoint");
        let mut check = frikort(&self.stack.ledger, &self.stack.projector).unwrap();
        check.args(["audit", "check", "--json", "--checkpoint", shown(&older)]);
        let output = check.output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        // Checkpoints only bound it, and what stands beside the records differs at its own place:
        // the projection, at none that can be foretold, as it may have followed an earlier change.
        let told_of = told["told"].as_array().unwrap().iter();
        let mut found = told_of.filter(|of| of["kind"] != "projection");
        assert_eq!(output.status.code(), Some(1), "{what}: {told:#}");
        assert!(found.any(|of| of["position"] == position), "{what}: {told:#}");
    }

    /// Statements that write records anew from a position on, numbered as they stand.
    fn rewritten(&self, records: &[Record], from: usize) -> Vec<String> {
        let mut statements = vec![format!("DELETE FROM ledger.event WHERE position > {from}")];
        for (at, record) in records.iter().enumerate().skip(from) {
            let mut record = record.clone();
            record.position = i64::try_from(at).unwrap() + 1;
            // As in the place of the record that stood there, so that instants go on.
            record.recorded_at = self.records[at.min(self.records.len() - 1)].recorded_at;
            if at >= self.records.len() {
                record.recorded_at += time::Duration::seconds(1);
            }
            let before = records[..at].iter().filter(|r| r.person_id == record.person_id).count();
            record.version = i64::try_from(before).unwrap() + 1;
            let person = record.person_id.map_or("NULL".to_owned(), |id| format!("'{id}'"));
            let (position, version, line) = (record.position, record.version, record.encode());
            statements.push(format!(
                "INSERT INTO ledger.event (partition, position, person_id, version, recorded_at, \
                 record) VALUES (0, {position}, {person}, {version}, \
                 ('{line}'::json ->> 'recorded_at')::timestamptz, '{line}')"
            ));
        }
        let head = records.len();
        statements.push(format!("UPDATE ledger.partition_head SET position = {head}"));
        statements
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_done_to_the_database_is_found() {
    let mut victim = Victim::new().await;
    let records = victim.records.clone();
    let last = i64::try_from(records.len()).unwrap();

    let byte = "UPDATE ledger.event SET record = replace(record, '\"operator\"', '\"employer\"')
                WHERE position = 300";
    victim.change(&[byte]).await;
    victim.assert_found("a byte", 300);

    let end = [
        format!("DELETE FROM ledger.event WHERE position = {last}"),
        format!("UPDATE ledger.partition_head SET position = {last} - 1"),
    ];
    victim.change(&end.each_ref().map(String::as_str)).await;
    victim.assert_found("one deleted from the end", last);

    let done = |records: &[Record], from: usize| victim.rewritten(records, from);
    let mut shorter = records.clone();
    shorter.remove(399);
    let middle = done(&shorter, 399);
    let mut turned = records.clone();
    turned.swap(419, 420);
    let swapped = done(&turned, 419);
    let mut longer = records.clone();
    let mut inserted = records[439].clone();
    inserted.actor.organisation = "somebody".to_owned();
    longer.insert(439, inserted);
    let inserted = done(&longer, 439);
    for (what, statements, position) in [
        ("one deleted from the middle", middle, 400),
        ("two swapped", swapped, 420),
        ("one inserted", inserted, 440),
    ] {
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        victim.change(&statements).await;
        victim.assert_found(what, position);
    }

    let tile = "UPDATE ledger.tile SET hashes = overlay(hashes placing '\\x00'::bytea from 321)
                WHERE level = 0 AND number = 1";
    victim.change(&[tile]).await;
    victim.assert_found("a tile", 256 + 11);

    // By somebody who has the key, about another history.
    let signer = Signer::read(0, &signing_key(victim.stack.dir.path())).unwrap();
    let forged = signer.sign(last.unsigned_abs(), [0; 32]);
    let replaced =
        format!("UPDATE ledger.checkpoint SET note = '{forged}' WHERE position = {last}");
    victim.change(&[&replaced]).await;
    victim.assert_found_by_the_ledger("a checkpoint replaced", last);
    // The ledger, which remembers what it signed, hands it to nobody, so it is no pass. Whoever hands
    // it over all the same is found out in `audit_files`.
    let options = ["--key", &victim.keys];
    let (status, told) = verify(&[&[shown(&victim.export())], &options[..]].concat());
    assert_eq!((status, &told["verdict"]), (2, &"incomplete".into()), "{told:#}");

    let restored = [
        "DELETE FROM ledger.event WHERE position > 500",
        "UPDATE ledger.partition_head SET position = 500",
        "DELETE FROM ledger.tile WHERE level = 0 AND number = 1",
        "DELETE FROM ledger.checkpoint",
    ];
    victim.change(&restored).await;
    victim.assert_found("restored from an older dump", 501);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_changed_in_the_projection_is_found() {
    let stack = filled(1, 100).await;
    let keys = published_keys(stack.dir.path(), 1);
    // An export waits for the projection.
    let sound = stack.dir.path().join("sound");
    let (status, said) = audit(&stack.ledger, &stack.projector, &["export", shown(&sound)]);
    assert_eq!(status, 0, "{said}");
    tamper(
        &stack.database,
        &["UPDATE projection.annual_total SET total = total + 1
           WHERE person_id = (SELECT person_id FROM projection.annual_total
                              ORDER BY person_id LIMIT 1)"],
    )
    .await;
    let history = stack.dir.path().join("history");
    let (status, said) = audit(&stack.ledger, &stack.projector, &["export", shown(&history)]);
    assert_eq!(status, 0, "{said}");
    let (status, told) = verify(&[shown(&history), "--key", &keys]);
    let first = &told["first_contradiction"];
    assert_eq!((status, &first["check"]), (1, &"totals".into()), "{told:#}");
    let as_of = told["partitions"][0]["totals"]["position"].as_i64().unwrap();
    assert_eq!(first["position"], as_of);
    let file = history.join("partition-0.jsonl");
    let (status, errors) = second(&["--key", &keys, shown(&file)]);
    assert!(status == 1 && errors.contains(&format!(", position {as_of}: ")), "{errors}");
}
