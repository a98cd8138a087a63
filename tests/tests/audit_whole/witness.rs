//! The witness and the mirror: what they keep, and what they do not take.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use frikort_tests::{
    client::{Ledger, new_cpr},
    process::{Kind, Service, signing_key},
    stack::Stack,
};
use serde_json::Value;

use crate::{audit, filled, pay, published_keys, shown, tampered::tamper};

fn watch(ledger: &Service, projector: &Service, state: &Path, more: &[&str]) -> (i32, Vec<Value>) {
    let arguments = ["watch", "--once", "--json", "--state", shown(state)];
    let (status, said) = audit(ledger, projector, &[&arguments[..], more].concat());
    let lines = said.lines().map(|line| serde_json::from_str(line).expect(line));
    (status, lines.collect())
}

fn seen(looks: &[Value]) -> String {
    looks[0]["seen"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_witness_goes_on_and_alarms() {
    let mut stack = filled(1, 300).await;
    let state = stack.dir.path().join("witness");
    let (status, looks) = watch(&stack.ledger, &stack.projector, &state, &[]);
    assert_eq!((status, seen(&looks)), (0, "begins".to_owned()));
    let ledger = Ledger::new(stack.ledger.channel().await.unwrap());
    let person = new_cpr();
    ledger.clone().grant(&person).await.unwrap();
    pay(&ledger, &[person], 300).await;
    // A receipt of the last one waits for its checkpoint.
    let head = looks[0]["size"].as_i64().unwrap() + 300;
    let get = ["receipt", "get", "--position", &head.to_string()];
    assert_eq!(audit(&stack.ledger, &stack.projector, &get).0, 0);
    let (status, looks) = watch(&stack.ledger, &stack.projector, &state, &[]);
    assert_eq!((status, seen(&looks)), (0, "goes_on".to_owned()), "{looks:?}");
    let (status, looks) = watch(&stack.ledger, &stack.projector, &state, &[]);
    assert_eq!((status, seen(&looks)), (0, "same".to_owned()), "{looks:?}");

    // Another key is no key of this log.
    let keys = stack.dir.path().join("other.keys");
    let other = filled(1, 10).await;
    let others = published_keys(other.dir.path(), 1);
    fs::copy(others, &keys).unwrap();
    let (status, looks) = watch(&stack.ledger, &stack.projector, &state, &["--key", shown(&keys)]);
    assert_eq!((status, seen(&looks)), (1, "alarm".to_owned()), "{looks:?}");

    // Nobody there: said, and no alarm.
    let kept = fs::read(state.join("partition-0.checkpoint")).unwrap();
    stack.ledger.stop().await.unwrap();
    let (status, looks) = watch(&stack.ledger, &stack.projector, &state, &[]);
    assert_eq!((status, seen(&looks)), (2, "unseen".to_owned()), "{looks:?}");

    alarms_when_set_back(&stack, &state, &kept).await;
}

/// The database is set back, and so is what the signer keeps: only a witness can tell.
async fn alarms_when_set_back(stack: &Stack, state: &Path, kept: &[u8]) {
    let keep = stack.dir.path().join("signing.key.partition-0.checkpoint");
    fs::remove_file(keep).unwrap();
    tamper(
        &stack.database,
        &[
            "DELETE FROM ledger.event WHERE position > 200",
            "UPDATE ledger.partition_head SET position = 200",
            "DELETE FROM ledger.tile",
            "DELETE FROM ledger.checkpoint",
        ],
    )
    .await;
    let dir = stack.dir.path();
    let back = Service::start(Kind::Ledger, &stack.database, dir).await.unwrap();
    let get = ["receipt", "get", "--position", "200"];
    assert_eq!(audit(&back, &stack.projector, &get).0, 0, "it signs again");
    let (status, looks) = watch(&back, &stack.projector, state, &[]);
    assert_eq!((status, seen(&looks)), (1, "alarm".to_owned()), "{looks:?}");
    assert!(looks[0]["what"].as_str().unwrap().contains("set back"), "{looks:?}");
    // Both notes are there.
    assert_eq!(fs::read(state.join("partition-0.checkpoint")).unwrap(), kept);
    let evidence = fs::read_to_string(state.join("partition-0.contradicts-200.checkpoint"));
    assert!(evidence.unwrap().contains("\n200\n"));
    assert!(signing_key(dir).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_a_log_by_itself_and_goes_on() {
    let mut stack = filled(2, 1400).await;
    let keys = published_keys(stack.dir.path(), 2);
    let mirror = stack.dir.path().join("mirror");
    let run = |stack: &Stack| {
        let arguments = ["mirror", shown(&mirror), "--key", &keys];
        audit(&stack.ledger, &stack.projector, &arguments)
    };
    let (status, said) = run(&stack);
    assert_eq!(status, 0, "{said}");
    assert_is_the_log(&stack, &mirror).await;
    // Where persons go is chance: one of the two has a whole tile in any case.
    let mut tiles = (0..2).map(|number| mirror.join(format!("partition-{number}/tile/0/000")));
    let full = tiles.find(|tile| tile.exists()).unwrap();
    let written = fs::metadata(&full).unwrap().modified().unwrap();

    let ledger = Ledger::new(stack.ledger.channel().await.unwrap());
    let persons: Vec<String> = (0..6).map(|_| new_cpr()).collect();
    for person in &persons {
        ledger.clone().grant(person).await.unwrap();
    }
    pay(&ledger, &persons, 700).await;
    let (status, said) = run(&stack);
    assert_eq!(status, 0, "{said}");
    assert_is_the_log(&stack, &mirror).await;
    assert_eq!(fs::metadata(&full).unwrap().modified().unwrap(), written, "fetched twice");

    // A tile that is here is not the log's any more, and a record is not that of its tile.
    let sound = fs::read(&full).unwrap();
    let mut other = sound.clone();
    other[0] ^= 1;
    fs::write(&full, other).unwrap();
    let (status, said) = run(&stack);
    assert!(status == 1 && said.contains("tile/0/000"), "{said}");
    fs::write(&full, sound).unwrap();
    until_signed(&stack).await;
    stack.ledger.kill().unwrap();
    tamper(
        &stack.database,
        &["UPDATE ledger.event SET record = replace(record, '\"operator\"', '\"employer\"')
           WHERE partition = 0 AND position = 300"],
    )
    .await;
    let dir = stack.dir.path();
    // Nothing is recorded on records that are not what was signed.
    stack.ledger = Service::start_answering(Kind::Ledger, &stack.database, dir).await.unwrap();
    let url = format!("{}/log/partition/0", stack.ledger.uri());
    let fresh = stack.dir.path().join("fresh");
    let arguments = ["mirror", shown(&fresh), "--url", &url, "--key", &keys];
    let (status, said) = audit(&stack.ledger, &stack.projector, &arguments);
    // Who finds it first, the mirror or the ledger itself, is open; nothing of it is kept.
    let found = [(1, "position 300: the record"), (2, "position that differs is 300")];
    assert!(found.iter().any(|(code, what)| status == *code && said.contains(what)), "{said}");
    assert!(!fresh.join("checkpoint").exists() && !fresh.join("tile/entries/001").exists());
}

/// Waits until every record is signed: what is changed before that is found by nobody.
async fn until_signed(stack: &Stack) {
    let pool = stack.database.pool().await.unwrap();
    let unsigned = "SELECT count(*) FROM ledger.partition_head AS h WHERE h.position >
                        (SELECT coalesce(max(c.position), 0) FROM ledger.checkpoint AS c
                         WHERE c.partition = h.partition)";
    let deadline = Instant::now() + Duration::from_secs(30);
    while sqlx::query_scalar::<_, i64>(unsigned).fetch_one(&pool).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "not everything is signed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every file is the one that the ledger serves, and no other is there.
async fn assert_is_the_log(stack: &Stack, mirror: &Path) {
    for partition in 0..2 {
        let dir = mirror.join(format!("partition-{partition}"));
        let note = fs::read_to_string(dir.join("checkpoint")).unwrap();
        let size: usize = note.lines().nth(1).unwrap().parse().unwrap();
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM ledger.event WHERE partition = $1 ORDER BY position",
        )
        .bind(partition)
        .fetch_all(&stack.database.pool().await.unwrap())
        .await
        .unwrap();
        let mut entries = Vec::new();
        let mut files = vec![dir.join("checkpoint"), dir.join("keys")];
        for number in 0..size.div_ceil(256) {
            let width = (size - number * 256).min(256);
            let part = if width < 256 { format!(".p/{width}") } else { String::new() };
            let bundle = dir.join(format!("tile/entries/{number:03}{part}"));
            let bytes = fs::read(&bundle).unwrap();
            let mut rest = &bytes[..];
            while let Some((length, behind)) = rest.split_first_chunk::<2>() {
                let (entry, behind) = behind.split_at(u16::from_be_bytes(*length).into());
                entries.push(String::from_utf8(entry.to_vec()).unwrap());
                rest = behind;
            }
            files.extend([bundle, dir.join(format!("tile/0/{number:03}{part}"))]);
        }
        if size >= 256 {
            files.push(dir.join(format!("tile/1/000.p/{}", size / 256)));
        }
        assert!(entries == records[..size], "other records");
        files.sort();
        assert_eq!(all_files(&dir), files);
    }
}

fn all_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(all_files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
