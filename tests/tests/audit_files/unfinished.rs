//! Exports that are not whole: never a pass, and never a contradiction by that alone.

use std::fs;

use frikort_domain::Record;
use serde_json::Value;

use crate::{
    Export,
    fixture::{RECORDS, history},
    noted, second, verify,
};

#[test]
fn what_is_not_there_is_said_and_is_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    let records = history();
    let noted = noted(dir.path(), &records, 700);
    let unfinished = |what: &str, says: &str, change: &dyn Fn(&Export)| {
        let _ = fs::remove_dir_all(dir.path().join("history"));
        let export = Export::write(&dir.path().join("history"), &records);
        change(&export);
        let (status, told) = verify(&export, &noted.options());
        assert_eq!((status, &told["verdict"]), (2, &Value::from("incomplete")), "{what}: {told}");
        assert!(told["not_checked"].to_string().contains(says), "{what}: {told}");
        let (status, errors) = second(&export, &noted.options());
        assert_eq!(status, 2, "{what}: {errors}");
    };
    unfinished("no checkpoint", "no checkpoint came with them", &|export| {
        fs::remove_file(export.path("checkpoint")).unwrap();
    });
    unfinished("no totals", "projector's totals", &|export| {
        fs::remove_file(export.path("totals.jsonl")).unwrap();
    });
    unfinished("no tiles", "tiles", &|export| {
        fs::remove_dir_all(export.path("tiles")).unwrap();
    });
    unfinished("a tile is missing", "1 of its tiles are not there", &|export| {
        fs::remove_file(export.path("tiles").join("tile/0/003")).unwrap();
    });
    unfinished("it was going on", "first 1000 records only", &|export| {
        fs::remove_dir_all(&export.dir).unwrap();
        let begun = Export::write(&export.dir, &records[..1000]);
        begun.write_records(&records);
    });
    unfinished("a line was cut off", "ends within line", &|export| {
        let text = fs::read(export.path("jsonl")).unwrap();
        let more = [&text[..], b"{\"schema\":1"].concat();
        fs::write(export.path("jsonl"), more).unwrap();
    });
}

#[test]
fn records_that_begin_later_can_only_be_added_up() {
    let dir = tempfile::tempdir().unwrap();
    let records = history();
    let later = dir.path().join("later.jsonl");
    let text: String = records[1..].iter().map(|record| format!("{record}\n")).collect();
    fs::write(&later, text).unwrap();
    let (status, told, _) =
        crate::audit(&["verify", "--json", "--without-checkpoint", later.to_str().unwrap()]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &told["contradictions"]), (2, &0.into()), "{told}");
    assert_eq!(told["outcomes"]["decided_anew"], 0);
    assert_eq!(told["outcomes"]["added_up"], RECORDS - 2);
    assert!(Record::decode(&records[0]).unwrap().person_id.is_none());
}
