//! Tiles and checkpoints in their tables. Written once; what is there already must be the same.

use std::collections::HashMap;

use frikort_event_store::{EventStore, StoreError};
use frikort_proof::{Edge, HASH_BYTES, Hash, Subtree, TILE_WIDTH, Tile, bag, join, subtrees};
use std::ops::Range;

use super::whole;

/// Tile levels that a log of any length has.
const LEVELS: i16 = 8;

/// A partition's tiles, and those that were read for one answer.
pub(super) struct Tiles<'a> {
    store: &'a EventStore,
    partition: i32,
    read: HashMap<(u32, u64), Vec<Hash>>,
}

impl<'a> Tiles<'a> {
    pub(super) fn new(store: &'a EventStore, partition: i32) -> Self {
        Self { store, partition, read: HashMap::new() }
    }

    /// The edge above the full tiles of leaf hashes: where the follower goes on.
    pub(super) async fn edge(&self) -> Result<Edge, StoreError> {
        let mut levels = vec![Vec::new()];
        for level in 0..LEVELS {
            let first = sqlx::query_scalar!(
                r#"SELECT coalesce(max(number) + 1, 0) / 256 * 256 AS "first!" FROM ledger.tile
                   WHERE partition = $1 AND level = $2"#,
                self.partition,
                level
            )
            .fetch_one(self.store.pool())
            .await?;
            levels.push(self.roots(level, first).await?);
        }
        Edge::new(levels).ok_or_else(unsound)
    }

    /// The roots of the tiles of a level from one on, at most as many as a tile has hashes.
    async fn roots(&self, level: i16, first: i64) -> Result<Vec<Hash>, StoreError> {
        let width = i64::try_from(TILE_WIDTH).unwrap_or_default();
        let roots = sqlx::query_scalar!(
            "SELECT root FROM ledger.tile
             WHERE partition = $1 AND level = $2 AND number >= $3 AND number < $4 ORDER BY number",
            self.partition,
            level,
            first,
            first + width
        )
        .fetch_all(self.store.pool())
        .await?;
        Ok(roots.iter().filter_map(|root| root.as_slice().try_into().ok()).collect())
    }

    /// Writes tiles, all or none; false if there is another one in the place of one of them.
    pub(super) async fn write(&self, tiles: &[Tile]) -> Result<bool, StoreError> {
        if tiles.is_empty() {
            return Ok(true);
        }
        let levels: Vec<i16> = tiles.iter().filter_map(|t| i16::try_from(t.level).ok()).collect();
        let numbers: Vec<i64> = tiles.iter().map(|tile| whole(tile.number)).collect();
        let roots: Vec<Vec<u8>> = tiles.iter().map(|tile| tile.root().to_vec()).collect();
        let hashes: Vec<Vec<u8>> = tiles.iter().map(|tile| tile.hashes.concat()).collect();
        sqlx::query!(
            "INSERT INTO ledger.tile (partition, level, number, root, hashes)
             SELECT $1, * FROM unnest($2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[])
             ON CONFLICT ON CONSTRAINT tile_pkey DO NOTHING",
            self.partition,
            &levels,
            &numbers,
            &roots,
            &hashes
        )
        .execute(self.store.pool())
        .await?;
        // Ours, or those of another ledger that was quicker: in both cases they must be these.
        let same = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!"
               FROM unnest($2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[])
                    AS t (level, number, root, hashes)
               JOIN ledger.tile USING (level, number, root, hashes) WHERE partition = $1"#,
            self.partition,
            &levels,
            &numbers,
            &roots,
            &hashes
        )
        .fetch_one(self.store.pool())
        .await?;
        Ok(usize::try_from(same) == Ok(tiles.len()))
    }

    /// The hashes of a tile: a full one as it is stored, the last one as far as it goes.
    pub(super) async fn tile(&mut self, level: u32, number: u64) -> Result<&[Hash], StoreError> {
        let hashes = match self.read.remove(&(level, number)) {
            Some(hashes) => hashes,
            None => self.look_up(level, number).await?,
        };
        Ok(self.read.entry((level, number)).or_insert(hashes))
    }

    async fn look_up(&self, level: u32, number: u64) -> Result<Vec<Hash>, StoreError> {
        let stored_level = i16::try_from(level).unwrap_or(LEVELS);
        let stored = sqlx::query_scalar!(
            "SELECT hashes FROM ledger.tile WHERE partition = $1 AND level = $2 AND number = $3",
            self.partition,
            stored_level,
            whole(number)
        )
        .fetch_optional(self.store.pool())
        .await?;
        if let Some(bytes) = stored {
            return Ok(bytes.as_chunks::<HASH_BYTES>().0.to_vec());
        }
        let first = whole(number).saturating_mul(whole(TILE_WIDTH as u64));
        if level > 0 {
            return self.roots(stored_level - 1, first).await;
        }
        let width = i64::try_from(TILE_WIDTH).unwrap_or_default();
        let records = self.store.read_all(self.partition, first.saturating_add(1), width).await?;
        Ok(records.iter().map(|e| frikort_proof::leaf_hash(e.record.as_bytes())).collect())
    }

    /// The hash of a complete subtree; `None` where the tiles do not reach.
    pub(super) async fn subtree(&mut self, subtree: Subtree) -> Result<Option<Hash>, StoreError> {
        let (level, number, range) = subtree.in_tile();
        let hashes = self.tile(level, number).await?;
        Ok(hashes.get(range).and_then(|hashes| bag(hashes, None)))
    }

    /// The hashes of ranges of leaves, which a proof is made of; `None` where one is not there.
    pub(super) async fn hashes(
        &mut self,
        ranges: &[Range<u64>],
    ) -> Result<Option<Vec<Hash>>, StoreError> {
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut parts = Vec::new();
            for subtree in subtrees(range) {
                match self.subtree(subtree).await? {
                    Some(hash) => parts.push(hash),
                    None => return Ok(None),
                }
            }
            hashes.extend(join(&parts));
        }
        Ok((hashes.len() == ranges.len()).then_some(hashes))
    }

    /// The note of the last checkpoint that was published; `None` where there is none.
    pub(super) async fn last_checkpoint(&self) -> Result<Option<String>, StoreError> {
        let note = sqlx::query_scalar!(
            "SELECT note FROM ledger.checkpoint WHERE partition = $1
             ORDER BY position DESC LIMIT 1",
            self.partition
        );
        Ok(note.fetch_optional(self.store.pool()).await?)
    }

    /// Publishes a checkpoint, unless there is one of this size; answers the one that is there.
    pub(super) async fn publish(&self, size: u64, note: &str) -> Result<String, StoreError> {
        sqlx::query!(
            "INSERT INTO ledger.checkpoint (partition, position, note) VALUES ($1, $2, $3)
             ON CONFLICT ON CONSTRAINT checkpoint_of_log_pkey DO NOTHING",
            self.partition,
            whole(size),
            note
        )
        .execute(self.store.pool())
        .await?;
        let there = sqlx::query_scalar!(
            "SELECT note FROM ledger.checkpoint WHERE partition = $1 AND position = $2",
            self.partition,
            whole(size)
        );
        Ok(there.fetch_one(self.store.pool()).await?)
    }
}

/// Tiles that nobody can have written.
fn unsound() -> StoreError {
    StoreError::Refused(sqlx::Error::Decode("the tiles' levels do not fit together".into()))
}
