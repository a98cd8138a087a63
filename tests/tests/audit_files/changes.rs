//! What somebody could do who has all power over the database, or over the export.

use std::{fs, path::Path};

use frikort_domain::Record;
use frikort_proof::SigningKey;
use serde_json::Value;

use crate::{
    Noted,
    fixture::{Export, history, renumbered, signed, signing_key},
    noted, second, verify,
};

/// An export with one thing done to it, found at `position` by both.
struct Change<'a> {
    name: &'a str,
    export: &'a Export,
    noted: &'a Noted,
    position: usize,
    /// Which check finds it first; any, where there are several.
    checks: &'a [&'a str],
}

impl Change<'_> {
    fn assert_found(&self) {
        let Self { name, export, noted, position, checks } = self;
        let (status, told) = verify(export, &noted.options());
        let first = &told["first_contradiction"];
        assert_eq!((status, &told["verdict"]), (1, &"contradiction".into()), "{name}: {told:#}");
        assert_eq!(first["position"], *position, "{name}: {first}");
        assert!(checks.contains(&first["check"].as_str().unwrap()), "{name}: {first}");
        let (status, errors) = second(export, &noted.options());
        assert_eq!(status, 1, "{name}: {errors}");
        assert!(errors.contains(&format!(", position {position}: ")), "{name}: {errors}");
    }
}

/// A fresh export, and the auditor's note of its first 700 records.
fn fresh(dir: &Path, records: &[String]) -> (Export, Noted) {
    let _ = fs::remove_dir_all(dir.join("history"));
    (Export::write(&dir.join("history"), records), noted(dir, records, 700))
}

/// Where the record of a payment stands whose person goes on later; from 0.
const AT: usize = 600;

#[test]
fn each_change_of_the_records_is_found_where_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let records = history();
    let found = |name: &str, changed: &[String], position, checks: &[&str]| {
        let (export, noted) = fresh(dir.path(), &records);
        export.write_records(changed);
        Change { name, export: &export, noted: &noted, position, checks }.assert_found();
    };
    let record = ["tiles"];

    // A byte that no other check could miss.
    let mut changed = records.clone();
    changed[AT] = changed[AT].replacen("\"fixture\"", "\"fixtura\"", 1);
    found("a byte", &changed, AT + 1, &record);
    // One that makes it no record at all; and one behind the noted checkpoint.
    let mut changed = records.clone();
    changed[AT] = changed[AT].replacen('{', "[", 1);
    found("a bracket", &changed, AT + 1, &["form"]);
    let mut changed = records.clone();
    changed[1400] = changed[1400].replacen("\"fixture\"", "\"fixtura\"", 1);
    found("a byte of the last tile", &changed, 1401, &record);

    let mut changed = records.clone();
    changed.pop();
    found("the last one deleted", &changed, records.len(), &["tiles", "checkpoints"]);
    found("two thirds deleted", &records[..500], 501, &["tiles", "checkpoints", "totals"]);

    let mut changed = records.clone();
    changed.remove(AT);
    found("one deleted", &changed, AT + 1, &["positions"]);
    found("one deleted, renumbered", &renumbered(&changed), AT + 1, &record);

    let mut changed = records.clone();
    changed.swap(AT, AT + 1);
    found("two swapped", &changed, AT + 1, &["positions"]);
    found("two swapped, renumbered", &renumbered(&changed), AT + 1, &record);

    let mut changed = records.clone();
    changed.insert(AT, records[AT].clone());
    // The first of the two stands where it did.
    found("one inserted", &changed, AT + 2, &["positions"]);
    let mut another = Record::decode(&records[AT]).unwrap();
    another.actor.organisation = "somebody".to_owned();
    changed[AT] = another.encode();
    found("one inserted, renumbered", &renumbered(&changed), AT + 1, &["tiles", "outcomes"]);
}

#[test]
fn a_changed_total_tile_or_checkpoint_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let records = history();
    let as_of = records.len() - 100;
    let totals = |change: &dyn Fn(&mut Vec<String>)| {
        let (export, noted) = fresh(dir.path(), &records);
        let text = fs::read_to_string(export.path("totals.jsonl")).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(export.path("totals.jsonl"), lines.join("\n") + "\n").unwrap();
        let (name, checks) = ("a total", &["totals"][..]);
        Change { name, export: &export, noted: &noted, position: as_of, checks }.assert_found();
    };
    totals(&|lines| lines[7] = lines[7].replacen("\"payments\":", "\"payments\":1", 1));
    // One too few, and one of somebody who never was.
    totals(&|lines| {
        lines.remove(7);
        let last = lines.len() - 1;
        lines[last] = lines[last].replacen("40", "39", 1);
    });
    totals(&|lines| {
        let nobody = lines[40].replacen("000000000028\"", "00000000ff28\"", 1);
        assert!(nobody != lines[40]);
        lines.insert(41, nobody);
        lines[42] = lines[42].replacen("40", "41", 1);
    });

    for (name, at, position) in [("0/002", 32 * 7, 2 * 256 + 8), ("0/005.p/220", 32 * 219, 1500)] {
        let (export, noted) = fresh(dir.path(), &records);
        let path = export.path("tiles").join("tile").join(name);
        let mut tile = fs::read(&path).unwrap();
        tile[at] ^= 1;
        fs::write(path, tile).unwrap();
        Change { name, export: &export, noted: &noted, position, checks: &["tiles"] }
            .assert_found();
    }
    // A tile above: the first record below the hash.
    let (export, noted) = fresh(dir.path(), &records);
    let path = export.path("tiles").join("tile/1/000.p/5");
    let mut tile = fs::read(&path).unwrap();
    tile[32 * 3] ^= 1;
    fs::write(path, tile).unwrap();
    let change = Change {
        name: "a tile above",
        export: &export,
        noted: &noted,
        position: 3 * 256 + 1,
        checks: &["tiles"],
    };
    change.assert_found();

    // Signed by somebody else, and about other records.
    let (export, noted) = fresh(dir.path(), &records);
    let size = records.len();
    fs::write(export.path("checkpoint"), signed(&records, &SigningKey::new(&[43; 32]))).unwrap();
    let change = Change {
        name: "another key",
        export: &export,
        noted: &noted,
        position: size,
        checks: &["checkpoints"],
    };
    change.assert_found();
    let mut others = records.clone();
    others.swap(0, 1);
    fs::write(export.path("checkpoint"), signed(&others, &signing_key())).unwrap();
    // What agrees with the noted checkpoint is not in doubt.
    Change { name: "another root", position: 701, ..change }.assert_found();
}

#[test]
fn another_history_that_is_signed_is_found_by_an_older_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let records = history();

    // A backup, restored: all of it is sound, and signed, but for what was noted.
    let noted_then = noted(dir.path(), &records, 700);
    let export = Export::write(&dir.path().join("restored"), &records[..650]);
    let change = Change {
        name: "restored",
        export: &export,
        noted: &noted_then,
        position: 651,
        checks: &["checkpoints"],
    };
    change.assert_found();

    // Another record, and all of it signed anew. The checkpoint alone tells that one of its records
    // differs; an earlier one that agrees narrows it, kept tiles tell it.
    let mut other = records.clone();
    other[AT] = other[AT].replacen("\"fixture\"", "\"fixtura\"", 1);
    let export = Export::write(&dir.path().join("other"), &other);
    Change { name: "rewritten", export: &export, position: 1, ..change }.assert_found();
    let early = noted(dir.path(), &records, 300);
    let mut options = noted_then.options().to_vec();
    options.extend(["--checkpoint", &early.checkpoint]);
    let (status, told) = verify(&export, &options);
    assert_eq!((status, &told["first_contradiction"]["position"]), (1, &301.into()), "{told:#}");
    assert_eq!(told["checkpoints"][0]["agrees"], false);
    assert_eq!(told["checkpoints"][1]["agrees"], true);
    let (status, errors) = second(&export, &options);
    assert!(status == 1 && errors.contains(", position 301: "), "{errors}");

    let kept = Export::write(&dir.path().join("kept"), &records[..1000]);
    let checkpoint = kept.path("checkpoint");
    let options = ["--key", &noted_then.key, "--checkpoint", checkpoint.to_str().unwrap()];
    let (status, told) = verify(&export, &options);
    let position = &told["first_contradiction"]["position"];
    assert_eq!((status, position), (1, &Value::from(AT + 1)), "{told:#}");
}
