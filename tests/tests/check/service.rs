//! CheckLedger and `frikort audit check`, on a ledger that is running.

use std::{fs, path::Path, process::Output};

use frikort_proto::{
    error::Failure,
    v1::{
        CheckConcluded, CheckFinding, CheckKind, CheckLedgerRequest, ErrorReason,
        check_ledger_response::Item,
    },
};
use frikort_tests::{
    client::Ledger,
    files::frikort,
    process::{Kind, Service, signing_key},
};
use serde_json::Value;
use tonic::Status;

use crate::ground::Copy;

async fn serve(copy: &Copy, dir: &Path) -> (Service, Ledger) {
    copy.filled.signer.write(&signing_key(dir)).unwrap();
    let service = Service::start(Kind::Ledger, &copy.database, dir).await.unwrap();
    let ledger = Ledger::new(service.channel().await.unwrap());
    (service, ledger)
}

/// Everything that a check tells, which ends with what it concludes.
async fn check(
    ledger: &mut Ledger,
    request: CheckLedgerRequest,
) -> Result<(Vec<CheckFinding>, CheckConcluded), Status> {
    let mut items = ledger.audits.check_ledger(request).await?.into_inner();
    let (mut findings, mut progress, mut concluded) = (Vec::new(), None, None);
    while let Some(message) = items.message().await? {
        assert!(concluded.is_none(), "{message:?} after the end");
        match message.item.unwrap() {
            Item::Progress(far) => progress = Some(far),
            Item::Finding(finding) => findings.push(finding),
            Item::Concluded(end) => concluded = Some(end),
        }
    }
    let progress = progress.unwrap();
    assert!(progress.total > 0 && progress.done == progress.total, "{progress:?}");
    Ok((findings, concluded.unwrap()))
}

fn reason(status: &Status) -> (ErrorReason, Vec<String>) {
    let failure = Failure::from_status(status).unwrap();
    (failure.reason, failure.fields.into_iter().map(|(field, _)| field).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_checks_itself_and_says_what_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    let (_service, mut ledger) = serve(&copy, dir.path()).await;
    let request =
        CheckLedgerRequest { partition: Some(0), checkpoints: vec![copy.filled.note.clone()] };
    let (findings, concluded) = check(&mut ledger, request.clone()).await.unwrap();
    assert_eq!(findings, []);
    assert_eq!(concluded.findings, 0);
    assert_eq!(concluded.checked[0].position, copy.filled.head);
    assert!(concluded.checked[0].recorded_time.is_some());
    assert!(concluded.not_checked.is_empty(), "{concluded:?}");

    let changed = "UPDATE ledger.event SET record = replace(record, '\"local\"', '\"lokal\"')
                   WHERE position = 300";
    copy.tamper(changed, 0).await;
    copy.tamper("UPDATE projection.annual_total SET total = total + 1", 0).await;
    let (findings, concluded) = check(&mut ledger, request).await.unwrap();
    assert_eq!(i64::try_from(findings.len()).unwrap(), concluded.findings);
    let of = |kind: CheckKind| findings.iter().filter(move |found| found.kind() == kind);
    assert_eq!(of(CheckKind::Tile).map(|found| found.position).collect::<Vec<_>>(), [300]);
    assert_eq!(of(CheckKind::Checkpoint).map(|found| found.position).collect::<Vec<_>>(), [300]);
    assert_eq!(of(CheckKind::Projection).count(), 16);
    assert!(of(CheckKind::Projection).all(|found| !found.person_id.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_checker_asks_is_looked_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    let (_service, mut ledger) = serve(&copy, dir.path()).await;
    let note = &copy.filled.note;
    let refused = async |ledger: &mut Ledger, partition, checkpoints| {
        let request = CheckLedgerRequest { partition, checkpoints };
        reason(&check(ledger, request).await.unwrap_err())
    };
    let other = note.replacen("partition/0", "partition/1", 1);
    let long = format!("{note}{}", "\u{2014} x y\n".repeat(600));
    let checkpoints = vec![note.clone(), String::new(), other, long];
    let (why, fields) = refused(&mut ledger, Some(3), checkpoints).await;
    assert_eq!(why, ErrorReason::InvalidField);
    assert_eq!(fields[..3], ["partition", "checkpoints[0]", "checkpoints[1]"], "{fields:?}");
    let (_, fields) = refused(&mut ledger, None, vec![note.clone(), String::new()]).await;
    assert_eq!(fields, ["checkpoints[1]"]);
    let (_, fields) = refused(&mut ledger, None, vec![note.clone(); 65]).await;
    assert_eq!(fields, ["checkpoints"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_check_at_a_time_and_it_ends_with_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    let (mut service, mut ledger) = serve(&copy, dir.path()).await;
    // The check cannot go on while somebody holds the table.
    let mut lock = copy.pool.begin().await.unwrap();
    let hold = "LOCK TABLE ledger.tile IN ACCESS EXCLUSIVE MODE";
    sqlx::query(hold).execute(&mut *lock).await.unwrap();
    let request = CheckLedgerRequest::default();
    let mut first = ledger.audits.check_ledger(request.clone()).await.unwrap().into_inner();
    // It tells that it is there all the same.
    for _ in 0..3 {
        let message = first.message().await.unwrap().unwrap();
        assert!(matches!(message.item, Some(Item::Progress(_))), "{message:?}");
    }
    let status = ledger.audits.check_ledger(request.clone()).await.unwrap_err();
    let failure = Failure::from_status(&status).unwrap();
    assert_eq!(failure.reason, ErrorReason::Overloaded);
    assert!(failure.retry_delay().is_some());

    // When the caller goes, so does the check, and the next one has the place.
    drop(first);
    let mut second = loop {
        match ledger.audits.check_ledger(request.clone()).await {
            Ok(stream) => break stream.into_inner(),
            Err(status) => assert_eq!(reason(&status).0, ErrorReason::Overloaded),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(second.message().await.unwrap().is_some());
    // A process that stops says so, and does not wait for it.
    let (stopped, told) = tokio::join!(service.stop(), async {
        loop {
            match second.message().await {
                Ok(Some(message)) => assert!(matches!(message.item, Some(Item::Progress(_)))),
                Ok(None) => panic!("it ended without a conclusion, and without a reason"),
                Err(status) => break reason(&status).0,
            }
        }
    });
    assert!(stopped.unwrap().success());
    assert_eq!(told, ErrorReason::ShuttingDown);
}

fn audit(service: &Service, args: &[&str]) -> (i32, Value, String) {
    let mut command = frikort(service, service).unwrap();
    let Output { status, stdout, stderr } =
        command.args(["audit", "check", "--json"]).args(args).output().unwrap();
    let told = serde_json::from_slice(&stdout).unwrap_or_default();
    (status.code().unwrap(), told, String::from_utf8(stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_it_and_ends_as_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::new().await;
    let (mut service, _) = serve(&copy, dir.path()).await;
    let kept = dir.path().join("kept");
    fs::write(&kept, &copy.filled.note).unwrap();
    let kept = kept.to_str().unwrap();
    let (code, told, said) = audit(&service, &["--partition", "0", "--checkpoint", kept]);
    assert_eq!((code, &told["findings"]), (0, &Value::from(0)), "{told} {said}");
    assert_eq!(told["verdict"], "verified");
    assert_eq!(told["checked"]["0"], copy.filled.head);

    let changed = "UPDATE ledger.tile SET hashes = set_byte(hashes, 0, get_byte(hashes, 0) # 1)
                   WHERE level = 0 AND number = 1";
    copy.tamper(changed, 0).await;
    let (code, told, said) = audit(&service, &[]);
    assert_eq!((code, &told["verdict"]), (1, &Value::from("contradiction")), "{told} {said}");
    assert_eq!(told["findings"], 1);
    assert_eq!(
        (&told["told"][0]["position"], &told["told"][0]["kind"]),
        (&257.into(), &"tile".into())
    );
    assert_eq!(told["told"][0]["person_id"], Value::Null);

    // Nothing that keeps it from the end is a pass.
    let (code, _, said) = audit(&service, &["--partition", "7"]);
    assert_eq!(code, 2);
    assert!(said.contains("partition must be one of"), "{said}");
    let mut lock = copy.pool.begin().await.unwrap();
    let hold = "LOCK TABLE ledger.tile IN ACCESS EXCLUSIVE MODE";
    sqlx::query(hold).execute(&mut *lock).await.unwrap();
    let mut command = frikort(&service, &service).unwrap();
    command.args(["audit", "check"]);
    let cut_off = tokio::task::spawn_blocking(move || command.output().unwrap());
    // It has begun once it waits for the table.
    let waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&copy.pool).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    service.kill().unwrap();
    assert_eq!(cut_off.await.unwrap().status.code(), Some(2));
}
