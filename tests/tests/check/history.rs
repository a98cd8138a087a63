//! The records themselves.

use frikort_check::Kind;
use frikort_domain::{Amount, Event, Record};
use frikort_tests::audit::assert_sound;

use crate::ground::{Copy, EVERY, places};

/// Writes the records from one on as others.
async fn rewrite(copy: &Copy, from: usize, records: &[String]) {
    let mut owner = copy.owner().await;
    for (at, record) in records.iter().enumerate().skip(from) {
        let position = i64::try_from(at + 1).unwrap();
        let decoded = Record::decode(record).unwrap();
        assert_eq!(decoded.position, position);
        sqlx::query(
            "INSERT INTO ledger.event (partition, position, person_id, version, recorded_at, record)
             VALUES (0, $1, $2, $3, $4, $5)",
        )
        .bind(position)
        .bind(decoded.person_id.map_or(uuid::Uuid::nil(), |person| person.0))
        .bind(decoded.version)
        .bind(decoded.recorded_at)
        .bind(record)
        .execute(&mut *owner)
        .await
        .unwrap();
    }
}

/// The same record at another place, in the form in which it would have been written there.
fn at(record: &str, position: usize) -> String {
    let mut record = Record::decode(record).unwrap();
    record.position = i64::try_from(position).unwrap();
    record.encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_ledger_passes() {
    let copy = Copy::new().await;
    assert_eq!(assert_sound(&copy.pool).await, copy.filled.head);
    let (findings, concluded) = copy.check_with(&[&copy.filled.note]).await;
    assert_eq!(findings, []);
    assert_eq!(concluded.not_checked, [""; 0]);
    assert!(concluded.passed());
    let [checked] = concluded.checked.as_slice() else { panic!("one partition") };
    assert_eq!(checked.position, copy.filled.head);
    assert!(checked.recorded_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_of_a_record_changed() {
    // What no rule is about: only its hash tells.
    let copy = Copy::new().await;
    let other = "UPDATE ledger.event SET record = replace(record, '\"local\"', '\"lokal\"')
                 WHERE position = $p";
    assert_eq!(copy.tamper(other, 300).await, 1);
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Tile, 300), (Kind::Checkpoint, 300)]);

    // An amount, in the form in which it would have been written.
    let copy = Copy::new().await;
    let records = copy.records().await;
    let position = records.iter().position(|line| line.contains("payment_corrected")).unwrap();
    let mut record = Record::decode(&records[position]).unwrap();
    let position = i64::try_from(position + 1).unwrap();
    let Event::PaymentCorrected(data, _) = &mut record.event else { panic!("a correction") };
    data.facts.amount = Amount::from_oere(data.facts.amount.oere() + 1).unwrap();
    let mut owner = copy.owner().await;
    sqlx::query("UPDATE ledger.event SET record = $1 WHERE position = $2")
        .bind(record.encode())
        .bind(position)
        .execute(&mut *owner)
        .await
        .unwrap();
    let (found, concluded) = copy.check().await;
    let all = [(Kind::Outcome, position), (Kind::Tile, position), (Kind::Checkpoint, position)];
    assert_eq!(found, all);
    // What follows of the person is not a pass.
    assert_eq!(concluded.not_checked.len(), 1, "{concluded:?}");
    assert_eq!(concluded.checked[0].position, position - 1);

    // Not even JSON any more.
    let copy = Copy::new().await;
    let broken = "UPDATE ledger.event SET record = replace(record, ',\"data\"', ';\"data\"')
                  WHERE position = $p";
    assert_eq!(copy.tamper(broken, 257).await, 1);
    let (found, concluded) = copy.check().await;
    assert_eq!(found, [(Kind::Form, 257), (Kind::Tile, 257), (Kind::Checkpoint, 257)]);
    assert!(!concluded.not_checked.is_empty());

    // Behind the last full tile the next checkpoint tells, as near as there is one before.
    let copy = Copy::new().await;
    let position = copy.filled.head - 1;
    let other = "UPDATE ledger.event SET record = replace(record, '\"schema\":1', '\"schema\": 1')
                 WHERE position = $p";
    assert_eq!(copy.tamper(other, position).await, 1);
    let (found, _) = copy.check().await;
    let since = position / EVERY * EVERY + 1;
    assert_eq!(found, [(Kind::Checkpoint, since), (Kind::Form, position)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_record_deleted() {
    let copy = Copy::new().await;
    let head = copy.filled.head;
    let delete = "DELETE FROM ledger.event WHERE position = $h";
    assert_eq!(copy.tamper(delete, 0).await, 1);
    let (found, concluded) = copy.check().await;
    assert!(found.contains(&(Kind::Position, head)), "{found:?}");
    assert_eq!(concluded.checked[0].position, head - 1, "{concluded:?}");

    // The head says so too; but more was signed, and projected.
    let lower = "UPDATE ledger.partition_head SET position = $h - 1, recorded_at =
                 (SELECT recorded_at FROM ledger.event WHERE position = $h - 1)";
    assert_eq!(copy.tamper(lower, 0).await, 1);
    let (found, _) = copy.check().await;
    assert!(found.contains(&(Kind::Checkpoint, head)), "{found:?}");
    assert!(found.contains(&(Kind::Projection, head - 1)), "{found:?}");
    assert!(!found.iter().any(|(kind, _)| *kind == Kind::Position), "{found:?}");
}

/// What an older dump is like: everything ends earlier, and all of it fits.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_an_older_dump() {
    let copy = Copy::new().await;
    let head = copy.filled.head;
    let older = head - 70;
    for cut in [
        "DELETE FROM ledger.event WHERE position > $p",
        "DELETE FROM ledger.checkpoint WHERE position > $p",
        "DELETE FROM ledger.tile WHERE (number + 1) * 256 > $p",
        "UPDATE ledger.partition_head SET position = $p, recorded_at =
             (SELECT recorded_at FROM ledger.event WHERE position = $p)",
        // As a projector that begins again leaves it.
        "TRUNCATE projection.annual_total, projection.payment, projection.card,
             projection.annual_limit, projection.application",
        "UPDATE projection.checkpoint SET position = 0",
    ] {
        copy.tamper(cut, older).await;
    }
    let (found, concluded) = copy.check().await;
    assert_eq!((found, concluded.passed()), (vec![], true), "nothing in the tables shows it");
    let (findings, _) = copy.check_with(&[&copy.filled.note]).await;
    assert_eq!(places(&findings), [(Kind::Checkpoint, older + 1)]);
    assert!(findings[0].description.contains("ours"), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_deleted_from_the_middle_and_the_rest_numbered_anew() {
    // By somebody who only moves the rows.
    let copy = Copy::new().await;
    let at_position = 400;
    let records = copy.records().await;
    let deleted = Record::decode(&records[at_position - 1]).unwrap();
    let next = records.iter().skip(at_position).map(|line| Record::decode(line).unwrap());
    let next = next.clone().find(|record| record.person_id == deleted.person_id).unwrap();
    for cut in [
        "DELETE FROM ledger.event WHERE position = $p",
        "UPDATE ledger.event SET position = position + 1000000 WHERE position > $p",
        "UPDATE ledger.event SET position = position - 1000001 WHERE position > 1000000",
        "UPDATE ledger.partition_head SET position = position - 1",
    ] {
        copy.tamper(cut, 400).await;
    }
    let (found, _) = copy.check().await;
    for kind in [Kind::Form, Kind::Tile, Kind::Checkpoint] {
        assert!(found.contains(&(kind, 400)), "{kind:?}: {found:?}");
    }
    assert_eq!(found.iter().filter(|(kind, _)| *kind == Kind::Form).count(), 1, "one change");

    // By somebody who writes the records as they would have been.
    let copy = Copy::new().await;
    let mut lines = records.clone();
    lines.remove(at_position - 1);
    for (index, line) in lines.iter_mut().enumerate().skip(at_position - 1) {
        *line = at(line, index + 1);
    }
    copy.tamper("DELETE FROM ledger.event WHERE position >= $p", 400).await;
    rewrite(&copy, at_position - 1, &lines).await;
    copy.tamper("UPDATE ledger.partition_head SET position = position - 1", 0).await;
    let (found, _) = copy.check().await;
    for place in [(Kind::Tile, 400), (Kind::Checkpoint, 400), (Kind::Version, next.position - 1)] {
        assert!(found.contains(&place), "{place:?}: {found:?}");
    }
    // The same change is not told with every checkpoint; behind the last tile it is not seen to be
    // the same.
    assert_eq!(found.iter().filter(|(kind, _)| *kind == Kind::Tile).count(), 1, "{found:?}");
    assert_eq!(found.iter().filter(|(kind, _)| *kind == Kind::Checkpoint).count(), 3, "{found:?}");
    assert!(found.contains(&(Kind::Checkpoint, copy.filled.head)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_missing_in_the_middle() {
    let copy = Copy::new().await;
    assert_eq!(copy.tamper("DELETE FROM ledger.event WHERE position = $p", 400).await, 1);
    let (found, _) = copy.check().await;
    // Its hash stands in its tile, so that everything after it is checked all the same.
    let (positions, rest): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(kind, _)| *kind == Kind::Position);
    assert_eq!(positions, [(Kind::Position, 400)]);
    let [(Kind::Version, position)] = rest.as_slice() else { panic!("{rest:?}") };
    assert!(*position > 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_records_swapped() {
    let copy = Copy::new().await;
    for swap in [
        "UPDATE ledger.event SET position = 1000000 WHERE position = $p",
        "UPDATE ledger.event SET position = $p WHERE position = $p + 1",
        "UPDATE ledger.event SET position = $p + 1 WHERE position = 1000000",
    ] {
        assert_eq!(copy.tamper(swap, 350).await, 1);
    }
    let (found, _) = copy.check().await;
    let all = [Kind::Form, Kind::Tile, Kind::Checkpoint].map(|kind| (kind, 350));
    assert_eq!(found[..3], all, "{found:?}");
    assert!(found.contains(&(Kind::Instant, 351)), "{found:?}");

    // With the records written as they would have been, instants included.
    let copy = Copy::new().await;
    let records = copy.records().await;
    let mut lines = records.clone();
    lines.swap(349, 350);
    let instants = [349, 350].map(|index| Record::decode(&records[index]).unwrap().recorded_at);
    for (index, instant) in [349, 350].into_iter().zip(instants) {
        let mut record = Record::decode(&lines[index]).unwrap();
        (record.position, record.recorded_at) = (i64::try_from(index + 1).unwrap(), instant);
        lines[index] = record.encode();
    }
    copy.tamper("DELETE FROM ledger.event WHERE position IN (350, 351)", 0).await;
    rewrite(&copy, 349, &lines[..351]).await;
    let (found, _) = copy.check().await;
    assert_eq!(found[..2], [(Kind::Tile, 350), (Kind::Checkpoint, 350)], "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_inserted() {
    let copy = Copy::new().await;
    let mut lines = copy.records().await;
    // Another payment of the same person, as the next version.
    let mut inserted = Record::decode(&lines[419]).unwrap();
    inserted.position = 421;
    inserted.version += 1;
    inserted.recorded_at += time::Duration::MICROSECOND;
    let person = inserted.person_id;
    lines.insert(420, inserted.encode());
    for (index, line) in lines.iter_mut().enumerate().skip(421) {
        let mut record = Record::decode(line).unwrap();
        record.position = i64::try_from(index + 1).unwrap();
        if record.person_id == person {
            record.version += 1;
        }
        *line = record.encode();
    }
    copy.tamper("DELETE FROM ledger.event WHERE position > 420", 0).await;
    rewrite(&copy, 420, &lines).await;
    copy.tamper("UPDATE ledger.partition_head SET position = position + 1", 0).await;
    let (found, _) = copy.check().await;
    let all = [(Kind::Outcome, 421), (Kind::Tile, 421), (Kind::Checkpoint, 421)];
    assert_eq!(found[..3], all, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_not_what_the_record_says() {
    let copy = Copy::new().await;
    let other = "UPDATE ledger.event SET version = version + 1000000 WHERE position = $p";
    assert_eq!(copy.tamper(other, 500).await, 1);
    let (found, _) = copy.check().await;
    assert!(found.contains(&(Kind::Form, 500)), "{found:?}");
    assert!(!found.iter().any(|(kind, _)| *kind == Kind::Tile), "the record is what it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_nothing_bears_out() {
    let copy = Copy::new().await;
    let head = copy.filled.head;
    let far = "UPDATE ledger.partition_head SET position = 9000000000000000000";
    assert_eq!(copy.tamper(far, 0).await, 1);
    let (found, concluded) = copy.check().await;
    assert_eq!(found, [(Kind::Position, head + 1)]);
    assert_eq!(concluded.checked[0].position, head);

    copy.tamper("UPDATE ledger.partition_head SET position = $h - 10", 0).await;
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Position, head - 9)]);

    copy.tamper("DELETE FROM ledger.partition_head", 0).await;
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Position, 0)]);
    // Nobody but the caller knows any more that there was such a partition.
    copy.tamper("TRUNCATE ledger.partition_head, projection.checkpoint", 0).await;
    let (found, _) = copy.check().await;
    assert_eq!(found[0], (Kind::Position, 0), "{found:?}");
    assert!(found.iter().any(|(kind, _)| *kind == Kind::Projection), "{found:?}");
}
