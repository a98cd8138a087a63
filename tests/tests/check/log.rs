//! The proof log: tiles and checkpoints.

use frikort_check::Kind;
use frikort_proof::{Edge, leaf_hash};
use frikort_tests::proof_log::Signer;

use crate::ground::{Copy, EVERY, places};

#[tokio::test(flavor = "multi_thread")]
async fn a_tile_changed() {
    // One hash of a tile: that record and its tile contradict each other, and no checkpoint does.
    let copy = Copy::new().await;
    let changed = "UPDATE ledger.tile SET hashes = set_byte(hashes, 32 * 9 + 3,
                       get_byte(hashes, 32 * 9 + 3) # 1) WHERE level = 0 AND number = 1";
    assert_eq!(copy.tamper(changed, 0).await, 1);
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Tile, 256 + 10)]);

    // The root beside it.
    let copy = Copy::new().await;
    let changed = "UPDATE ledger.tile SET root = set_byte(root, 0, get_byte(root, 0) # 1)
                   WHERE level = 0 AND number = 2";
    assert_eq!(copy.tamper(changed, 0).await, 1);
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Tile, 513)]);

    // Not a tile any more.
    let copy = Copy::new().await;
    copy.tamper("ALTER TABLE ledger.tile DROP CONSTRAINT tile_hashes_check", 0).await;
    copy.tamper("UPDATE ledger.tile SET hashes = '\\x00' WHERE number = 1", 0).await;
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Tile, 257)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tile_missing_and_one_too_many() {
    let copy = Copy::new().await;
    assert_eq!(copy.tamper("DELETE FROM ledger.tile WHERE number = 1", 0).await, 1);
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Tile, 257)]);

    // What is not signed yet need not have its tile.
    copy.tamper("DELETE FROM ledger.checkpoint WHERE position >= 512", 0).await;
    let (found, _) = copy.check().await;
    assert_eq!(found, []);

    let copy = Copy::new().await;
    let more = "INSERT INTO ledger.tile SELECT partition, level, 1000, root, hashes
                FROM ledger.tile WHERE number = 0";
    assert_eq!(copy.tamper(more, 0).await, 1);
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Tile, copy.filled.head + 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_replaced() {
    let copy = Copy::new().await;
    let records = copy.records().await;
    let mut edge = Edge::default();
    for record in &records[..200] {
        edge.push(leaf_hash(record.as_bytes()));
    }
    let replace = async |note: &str| {
        let mut owner = copy.owner().await;
        let update = "UPDATE ledger.checkpoint SET note = $1 WHERE position = 200";
        sqlx::query(update).bind(note).execute(&mut *owner).await.unwrap();
    };
    // By somebody without the key.
    replace(&Signer::new(0, 8).unwrap().sign(200, edge.root())).await;
    let (findings, _) = copy.check_with(&[]).await;
    assert_eq!(places(&findings), [(Kind::Checkpoint, 200)]);
    assert!(findings[0].description.contains("signed by none of the keys"), "{findings:?}");
    // By another one of the same log.
    replace(&copy.filled.note).await;
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Checkpoint, 200)]);
    // By no checkpoint at all.
    replace("no note").await;
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Checkpoint, 200)]);
    // By somebody with the key, about another history: the others are still about this one.
    replace(&copy.filled.signer.sign(200, [0; 32])).await;
    let (found, _) = copy.check().await;
    assert_eq!(found, [(Kind::Checkpoint, 200 - EVERY + 1)]);
    // And what it is: nothing is found.
    replace(&copy.filled.signer.sign(200, edge.root())).await;
    assert!(copy.check().await.1.passed());
}

/// A record, its tile and all checkpoints are made anew by somebody who has the key: only what was
/// kept elsewhere tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_signed_anew() {
    let copy = Copy::new().await;
    let other = "UPDATE ledger.event SET record = replace(record, '\"local\"', '\"lokal\"')
                 WHERE position = 300";
    assert_eq!(copy.tamper(other, 0).await, 1);
    copy.tamper("TRUNCATE ledger.tile, ledger.checkpoint", 0).await;
    let again = copy.filled.signer.log(&copy.pool, 0, EVERY.unsigned_abs()).await.unwrap();
    assert_ne!(again, copy.filled.note);
    assert!(copy.check().await.1.passed(), "nothing in the tables shows it");
    let (findings, concluded) = copy.check_with(&[&copy.filled.note]).await;
    // It can be any of them.
    assert_eq!(places(&findings), [(Kind::Checkpoint, 1)]);
    assert_eq!(concluded.not_checked, [""; 0]);
    // Two that were kept are nearer.
    let early = {
        let mut edge = Edge::default();
        for record in &copy.records().await[..299] {
            edge.push(leaf_hash(record.as_bytes()));
        }
        copy.filled.signer.sign(299, edge.root())
    };
    let (findings, _) = copy.check_with(&[&copy.filled.note, &early]).await;
    assert_eq!(places(&findings), [(Kind::Checkpoint, 300)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checkpoints_it_is_no_pass() {
    let copy = Copy::new().await;
    copy.tamper("TRUNCATE ledger.tile, ledger.checkpoint", 0).await;
    let (found, concluded) = copy.check().await;
    assert_eq!(found, []);
    assert_eq!(concluded.not_checked.len(), 1);
    assert!(concluded.not_checked[0].contains("nothing was signed"), "{concluded:?}");
    // One that was kept is enough.
    let (findings, concluded) = copy.check_with(&[&copy.filled.note]).await;
    assert_eq!((findings, concluded.passed()), (vec![], true));
}
