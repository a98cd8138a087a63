//! Tiles and checkpoints in their tables, and what can be said of the records by them. Written once;
//! what is there already must be the same.
//!
//! A tile says what a record was when it was hashed, so where records and tiles differ, the place
//! can be named. What must stay out: signing, and what follows from a difference.

use std::{collections::HashMap, ops::Range};

use frikort_event_store::{EventStore, StoreError};
use frikort_proof::{
    Checkpoint, Edge, HASH_BYTES, Hash, NoteError, Subtree, TILE_WIDTH, Tile, bag, join, leaf_hash,
    subtrees,
};

use super::{count, whole};

/// Tile levels that a log of any length has.
const LEVELS: i16 = 8;

/// A partition's tiles, and those that were read for one answer.
pub(super) struct Tiles<'a> {
    store: &'a EventStore,
    partition: i32,
    read: HashMap<(u32, u64), Vec<Hash>>,
}

/// A tile as it is stored.
struct Stored {
    root: Vec<u8>,
    hashes: Vec<Hash>,
}

impl<'a> Tiles<'a> {
    pub(super) fn new(store: &'a EventStore, partition: i32) -> Self {
        Self { store, partition, read: HashMap::new() }
    }

    /// The edge above the full tiles of leaf hashes: where the follower goes on. `None` where the
    /// tiles do not fit together.
    pub(super) async fn edge(&self) -> Result<Option<Edge>, StoreError> {
        let mut levels = vec![Vec::new()];
        for level in 0..LEVELS {
            let tiles = sqlx::query_scalar!(
                r#"SELECT coalesce(max(number) + 1, 0) AS "tiles!" FROM ledger.tile
                   WHERE partition = $1 AND level = $2"#,
                self.partition,
                level
            )
            .fetch_one(&mut *self.store.pool().acquire().await?)
            .await?;
            let width = whole(TILE_WIDTH as u64);
            let roots = self.roots(level, tiles / width * width).await?;
            if whole(roots.len() as u64) != tiles % width {
                return Ok(None);
            }
            levels.push(roots);
        }
        Ok(Edge::new(levels))
    }

    /// The roots of the tiles of a level from one on, at most as many as a tile has hashes.
    async fn roots(&self, level: i16, first: i64) -> Result<Vec<Hash>, StoreError> {
        let roots = sqlx::query_scalar!(
            "SELECT root FROM ledger.tile
             WHERE partition = $1 AND level = $2 AND number >= $3 AND number < $4 ORDER BY number",
            self.partition,
            level,
            first,
            first.saturating_add(whole(TILE_WIDTH as u64))
        )
        .fetch_all(&mut *self.store.pool().acquire().await?)
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
        .execute(&mut *self.store.pool().acquire().await?)
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
        .fetch_one(&mut *self.store.pool().acquire().await?)
        .await?;
        Ok(usize::try_from(same) == Ok(tiles.len()))
    }

    async fn stored(&self, level: u32, number: u64) -> Result<Option<Stored>, StoreError> {
        let tile = sqlx::query!(
            "SELECT root, hashes FROM ledger.tile
             WHERE partition = $1 AND level = $2 AND number = $3",
            self.partition,
            i16::try_from(level).unwrap_or(LEVELS),
            whole(number)
        );
        let tile = tile.fetch_optional(&mut *self.store.pool().acquire().await?).await?;
        Ok(tile.map(|tile| {
            let hashes = tile.hashes.as_chunks::<HASH_BYTES>().0.to_vec();
            Stored { root: tile.root, hashes }
        }))
    }

    /// The hashes of the records that a tile of leaf hashes is about, as far as there are records
    /// without a gap.
    async fn leaves(&self, number: u64) -> Result<Vec<Hash>, StoreError> {
        let before = whole(number.saturating_mul(TILE_WIDTH as u64));
        let width = whole(TILE_WIDTH as u64);
        let first = before.saturating_add(1);
        let records = self.store.read_all(self.partition, first, width).await?;
        let in_place = records.iter().zip(first..).take_while(|(e, place)| e.position == *place);
        Ok(in_place.map(|(event, _)| leaf_hash(event.record.as_bytes())).collect())
    }

    /// The hashes of a tile: a full one as it is stored, the last one as far as it goes.
    pub(super) async fn tile(&mut self, level: u32, number: u64) -> Result<&[Hash], StoreError> {
        let hashes = match self.read.remove(&(level, number)) {
            Some(hashes) => hashes,
            None => match self.stored(level, number).await? {
                Some(stored) => stored.hashes,
                None => self.partial(level, number).await?,
            },
        };
        Ok(self.read.entry((level, number)).or_insert(hashes))
    }

    async fn partial(&self, level: u32, number: u64) -> Result<Vec<Hash>, StoreError> {
        match i16::try_from(level).unwrap_or(LEVELS).checked_sub(1) {
            Some(below) if below >= 0 => {
                self.roots(below, whole(number).saturating_mul(whole(TILE_WIDTH as u64))).await
            }
            _ => self.leaves(number).await,
        }
    }

    /// The hash of a complete subtree; `None` where the tiles do not reach.
    async fn subtree(&mut self, subtree: Subtree) -> Result<Option<Hash>, StoreError> {
        let (level, number, range) = subtree.in_tile();
        let hashes = self.tile(level, number).await?;
        Ok(hashes.get(range).and_then(|hashes| bag(hashes, None)))
    }

    /// The hash of a range of leaves that is a part of the tree; `None` where the tiles do not reach.
    pub(super) async fn range(&mut self, range: &Range<u64>) -> Result<Option<Hash>, StoreError> {
        let mut parts = Vec::new();
        for subtree in subtrees(range) {
            match self.subtree(subtree).await? {
                Some(hash) => parts.push(hash),
                None => return Ok(None),
            }
        }
        Ok(join(&parts))
    }

    /// The hashes of ranges of leaves, which a proof is made of; `None` where one is not there.
    pub(super) async fn hashes(
        &mut self,
        ranges: &[Range<u64>],
    ) -> Result<Option<Vec<Hash>>, StoreError> {
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            match self.range(range).await? {
                Some(hash) => hashes.push(hash),
                None => return Ok(None),
            }
        }
        Ok(Some(hashes))
    }

    /// The root of the tree at a size, 1 at least; `None` where tiles and records do not reach.
    pub(super) async fn root(&mut self, size: u64) -> Result<Option<Hash>, StoreError> {
        self.range(&(0..size)).await
    }

    /// Where the records of a full tile, the tile, or those above it do not fit together: the first
    /// position that differs, or can. `None` where they do, and where there is no such tile.
    pub(super) async fn differs_in(&self, number: u64) -> Result<Option<i64>, StoreError> {
        let Some(tile) = self.stored(0, number).await? else { return Ok(None) };
        let first = whole(number.saturating_mul(TILE_WIDTH as u64)).saturating_add(1);
        let leaves = self.leaves(number).await?;
        let same = tile.hashes.iter().zip(&leaves).take_while(|(a, b)| a == b).count();
        if same < tile.hashes.len() {
            return Ok(Some(first.saturating_add(whole(same as u64))));
        }
        let (mut below, mut level, mut number) = (tile, 0, number);
        loop {
            let root = bag(&below.hashes, None).unwrap_or_default();
            if below.root != root {
                return Ok(Some(first));
            }
            let at = count(number % TILE_WIDTH as u64);
            (level, number) = (level + 1, number / TILE_WIDTH as u64);
            let Some(above) = self.stored(level, number).await? else { return Ok(None) };
            if above.hashes.get(at) != Some(&root) {
                return Ok(Some(first));
            }
            below = above;
        }
    }

    /// The leaf hash that the record at `position` had when it was hashed into a full tile; `None` where
    /// there is no such tile, or the tile does not fit together with the one above, and so is wrong
    /// itself.
    pub(super) async fn hashed_leaf(&self, position: i64) -> Result<Option<Hash>, StoreError> {
        let index = super::position(position - 1);
        let number = index / TILE_WIDTH as u64;
        let Some(tile) = self.stored(0, number).await? else { return Ok(None) };
        if bag(&tile.hashes, None).unwrap_or_default() != *tile.root {
            return Ok(None);
        }
        if let Some(above) = self.stored(1, number / TILE_WIDTH as u64).await?
            && above.hashes.get(count(number % TILE_WIDTH as u64)).is_none_or(|h| *h != *tile.root)
        {
            return Ok(None);
        }
        Ok(tile.hashes.get(count(index % TILE_WIDTH as u64)).copied())
    }

    /// The first position at which the records differ from what was hashed of them, among the
    /// first `size`: by the tiles, then by the `edge` that was remembered. Reads all of them.
    pub(super) async fn first_difference(
        &mut self,
        size: u64,
        edge: Option<&Edge>,
    ) -> Result<i64, StoreError> {
        let width = TILE_WIDTH as u64;
        for number in 0..size / width {
            let first = whole(number * width).saturating_add(1);
            if self.stored(0, number).await?.is_none() {
                return Ok(first);
            }
            if let Some(position) = self.differs_in(number).await? {
                return Ok(position);
            }
        }
        for (level, number, hash) in edge.map(Edge::hashes).unwrap_or_default() {
            if self.subtree(Subtree { level: level * 8, index: number }).await? != Some(hash) {
                return Ok(whole(number << (level * 8)).saturating_add(1));
            }
        }
        // What was hashed into full tiles is as it was: it is behind them, as far as can be told.
        Ok(whole(size / width * width).saturating_add(1))
    }

    /// The note of the last checkpoint that was published; `None` where there is none.
    pub(super) async fn last_checkpoint(&self) -> Result<Option<String>, StoreError> {
        let note = sqlx::query_scalar!(
            "SELECT note FROM ledger.checkpoint WHERE partition = $1
             ORDER BY position DESC LIMIT 1",
            self.partition
        );
        Ok(note.fetch_optional(&mut *self.store.pool().acquire().await?).await?)
    }

    /// Publishes a checkpoint, unless there is one of this size; answers what is there.
    pub(super) async fn publish(
        &self,
        checkpoint: &Checkpoint,
        note: &str,
    ) -> Result<Result<Checkpoint, NoteError>, StoreError> {
        let size = whole(checkpoint.size);
        let published = sqlx::query!(
            "INSERT INTO ledger.checkpoint (partition, position, note) VALUES ($1, $2, $3)
             ON CONFLICT ON CONSTRAINT checkpoint_of_log_pkey DO NOTHING",
            self.partition,
            size,
            note
        )
        .execute(&mut *self.store.pool().acquire().await?)
        .await?;
        if published.rows_affected() > 0 {
            return Ok(Ok(checkpoint.clone()));
        }
        let there = sqlx::query_scalar!(
            "SELECT note FROM ledger.checkpoint WHERE partition = $1 AND position = $2",
            self.partition,
            size
        );
        Ok(Checkpoint::parse_unverified(
            &there.fetch_one(&mut *self.store.pool().acquire().await?).await?,
        ))
    }
}
