//! Exports that are whole, gone on with, and cut off; receipts after the server is gone.

use std::{fs, time::Duration};

use frikort_tests::{
    client::{Ledger, new_cpr},
    files::frikort,
};
use serde_json::Value;

use crate::{audit, filled, offline, pay, published_keys, second, shown, verify};

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_export_is_verified_by_both_and_gone_on_with() {
    let stack = filled(2, 700).await;
    let services = (&stack.ledger, &stack.projector);
    let keys = published_keys(stack.dir.path(), 2);
    let history = stack.dir.path().join("history");
    let (status, said) = audit(services.0, services.1, &["export", shown(&history), "--json"]);
    assert_eq!(status, 0, "{said}");
    let exported: Value = serde_json::from_str(said.split("\nexport").next().unwrap()).unwrap();
    for file in exported["files"].as_array().unwrap() {
        assert_eq!(file["checkpoint"], file["last_position"], "{exported}");
        assert!(file["tiles"].as_u64().unwrap() >= 1 && file["totals"].is_u64(), "{exported}");
    }
    let assert_verified = |older: &[&str]| {
        let (status, told) = verify(&[&[shown(&history), "--key", &keys], older].concat());
        assert_eq!((status, &told["verdict"]), (0, &Value::from("verified")), "{told:#}");
        for partition in 0..2 {
            let file = history.join(format!("partition-{partition}.jsonl"));
            let (status, errors) = second(&[older, &["--key", &keys, shown(&file)]].concat());
            assert_eq!((status, errors.as_str()), (0, ""), "{errors}");
        }
        told
    };
    assert_verified(&[]);

    // What was noted then is the beginning of what is exported later.
    let noted = stack.dir.path().join("partition-0.noted");
    fs::copy(history.join("partition-0.checkpoint"), &noted).unwrap();
    let ledger = Ledger::new(stack.ledger.channel().await.unwrap());
    let mut granting = ledger.clone();
    let persons: Vec<String> = (0..4).map(|_| new_cpr()).collect();
    for person in &persons {
        granting.grant(person).await.unwrap();
    }
    pay(&ledger, &persons, 600).await;
    let (status, said) = audit(services.0, services.1, &["export", shown(&history)]);
    assert_eq!(status, 0, "{said}");
    let told = assert_verified(&["--checkpoint", shown(&noted)]);
    assert_eq!(told["checkpoints"][0]["agrees"], true);

    // A checkpoint that does not go on from the one that is there.
    let other = filled(2, 700).await;
    let elsewhere = stack.dir.path().join("elsewhere");
    let (status, said) = audit(&other.ledger, &other.projector, &["export", shown(&elsewhere)]);
    assert_eq!(status, 0, "{said}");
    fs::copy(history.join("partition-1.checkpoint"), elsewhere.join("partition-1.checkpoint"))
        .unwrap();
    let (status, said) = audit(&other.ledger, &other.projector, &["export", shown(&elsewhere)]);
    assert_eq!(status, 1, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_killed_is_no_pass_and_is_gone_on_with() {
    let stack = filled(1, 2500).await;
    let keys = published_keys(stack.dir.path(), 1);
    let history = stack.dir.path().join("history");
    let mut finished = 0;
    for delay_ms in [0, 20, 40, 60, 80, 100, 150, 200, 300, 400] {
        let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
        let mut export = command.args(["audit", "export", shown(&history)]).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        export.kill().unwrap();
        let ended = export.wait().unwrap().success();
        if !history.join("partition-0.jsonl").exists() {
            continue;
        }
        let (status, told) = verify(&[shown(&history), "--key", &keys]);
        let whole = history.join("partition-0.checkpoint").exists();
        assert_eq!(told["contradictions"], 0, "after {delay_ms} ms: {told:#}");
        assert_eq!(status, if whole { 0 } else { 2 }, "after {delay_ms} ms: {told:#}");
        finished += u32::from(ended);
        if !ended && whole {
            fs::remove_dir_all(&history).unwrap();
        }
    }
    let (status, said) = audit(&stack.ledger, &stack.projector, &["export", shown(&history)]);
    assert_eq!(status, 0, "{finished} finished; {said}");
    let (status, told) = verify(&[shown(&history), "--key", &keys]);
    assert_eq!((status, &told["verdict"]), (0, &Value::from("verified")), "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_of_an_export_is_said() {
    let stack = filled(1, 20).await;
    let history = stack.dir.path().join("history");
    let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
    command.args(["audit", "export", shown(&history), "--projector", "127.0.0.1:1"]);
    let (status, said) = crate::said(command.output().unwrap());
    assert!(status == 2 && said.contains("not written: partition 0: the projector's"), "{said}");
    let (status, told) = verify(&[shown(&history)]);
    assert_eq!((status, &told["contradictions"]), (2, &0.into()), "{told:#}");
    let (status, said) = audit(&stack.ledger, &stack.projector, &["export", shown(&history)]);
    assert_eq!(status, 0, "{said}");

    // Extracts: a year by when it was recorded, and nothing beside it.
    let year = stack.dir.path().join("year");
    let now = time::OffsetDateTime::from(fs::metadata(&history).unwrap().modified().unwrap());
    let this_year = now.year().to_string();
    let export = |year: &str, dir: &str| {
        audit(&stack.ledger, &stack.projector, &["export", "--year", year, dir])
    };
    assert_eq!(export(&this_year, shown(&year)).0, 0);
    let file = year.join(format!("year-{this_year}-partition-0.jsonl"));
    let all = fs::read(history.join("partition-0.jsonl")).unwrap();
    assert!(fs::read(&file).unwrap() == all, "all of it was recorded this year");
    assert_eq!(fs::read_dir(&year).unwrap().count(), 1);
    assert_eq!(verify(&[shown(&year), "--extract"]).0, 2);
    let before = stack.dir.path().join("before");
    assert_eq!(export("2021", shown(&before)).0, 0);
    assert_eq!(fs::read(before.join("year-2021-partition-0.jsonl")).unwrap(), b"");
    assert_eq!(export("2021", shown(&history)).0, 2, "beside a whole export");
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_verified_when_the_server_is_gone() {
    let mut stack = filled(1, 300).await;
    let keys = published_keys(stack.dir.path(), 1);
    let receipts = stack.dir.path().join("receipts");
    let mut files = Vec::new();
    for position in (1..=300).step_by(7) {
        let file = receipts.join(format!("{position}.tlog-proof"));
        let (position, out) = (position.to_string(), shown(&file).to_owned());
        let get = ["receipt", "get", "--position", &position, "--out", &out];
        let (status, said) = audit(&stack.ledger, &stack.projector, &get);
        assert_eq!(status, 0, "{said}");
        files.push(out);
    }
    let nothing = ["receipt", "get", "--position", "1000000"];
    assert_eq!(audit(&stack.ledger, &stack.projector, &nothing).0, 2);
    stack.ledger.stop().await.unwrap();
    stack.projector.stop().await.unwrap();

    let all: Vec<&str> = files.iter().map(String::as_str).collect();
    let (status, said) = offline(&[&["receipt", "verify", "--key", &keys], &all[..]].concat());
    assert_eq!((status, said.matches(": verified: ").count()), (0, files.len()), "{said}");
    let (status, errors) = second(&[&["receipt", "--key", &keys], &all[..]].concat());
    assert_eq!((status, errors.as_str()), (0, ""));
}
