//! A partition's tree as its lines come, held against the tiles that the ledger stored of it and
//! against checkpoints. What must stay out: what the lines say.
//!
//! A tile was written about a second after its records: whatever was changed later is told by its
//! first leaf. A checkpoint alone tells only that something before its end differs.

use frikort_proof::{Checkpoint, Edge, Hash, TILE_WIDTH, leaf_hash};

use super::{
    findings::{Findings, Place},
    history::{Check, Fault},
    tiles::{self, Stored, TileDir},
};

/// A checkpoint that the records are held against.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) checkpoint: Checkpoint,
    /// The number of its file.
    pub(super) file: u32,
    /// It came with the export, and is about all of its records.
    pub(super) own: bool,
    /// Whether the records begin with what it is about; `None` before that is known.
    pub(super) agrees: Option<bool>,
}

/// Tiles that were stored or kept of the log.
#[derive(Debug)]
pub(super) struct Tiles {
    dir: TileDir,
    /// The number of the directory, as it is named.
    file: u32,
    /// They came with the export, and are of all of its records.
    own: bool,
    /// The leaves beside which the next one stands.
    leaves: Vec<Hash>,
}

impl Tiles {
    pub(super) fn new(dir: TileDir, file: u32, own: bool) -> Self {
        Self { dir, file, own, leaves: Vec::new() }
    }

    /// Whether they came with the export.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }
}

/// The tree of one partition so far.
#[derive(Debug)]
pub(super) struct Proved {
    partition: i32,
    edge: Edge,
    tiles: Vec<Tiles>,
    /// The first position, since a checkpoint agreed, whose record is not the one in its tile.
    differs: Option<u64>,
    /// By size.
    checkpoints: Vec<Known>,
    /// As many records are those of a checkpoint.
    sound: u64,
    pub(super) tiles_compared: u64,
    pub(super) tiles_missing: u64,
}

impl Proved {
    pub(super) fn new(partition: i32, tiles: Vec<Tiles>, mut checkpoints: Vec<Known>) -> Self {
        checkpoints.sort_by_key(|known| known.checkpoint.size);
        Self {
            partition,
            edge: Edge::default(),
            tiles,
            differs: None,
            checkpoints,
            sound: 0,
            tiles_compared: 0,
            tiles_missing: 0,
        }
    }

    /// How many records there are.
    pub(super) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The root over them.
    pub(super) fn root(&self) -> Hash {
        self.edge.root()
    }

    /// The checkpoints, by size.
    pub(super) fn checkpoints(&self) -> &[Known] {
        &self.checkpoints
    }

    /// Whether a checkpoint came with the records.
    pub(super) fn has_own(&self) -> bool {
        self.checkpoints.iter().any(|known| known.own)
    }

    /// Adds a line.
    pub(super) fn push(&mut self, line: &[u8], findings: &mut Findings) -> anyhow::Result<()> {
        let (index, leaf) = (self.size(), leaf_hash(line));
        let offset = usize::try_from(index % TILE_WIDTH as u64)?;
        for at in 0..self.tiles.len() {
            if offset == 0 {
                self.tiles[at].leaves = self.stored(at, 0, index / TILE_WIDTH as u64, findings)?;
            }
            let differs = self.tiles[at].leaves.get(offset).is_some_and(|stored| *stored != leaf);
            // After the first one, all may.
            if differs && self.differs.is_none_or(|before| before <= self.sound) {
                self.differs = Some(index + 1);
                self.differs_at(at, 0, index / TILE_WIDTH as u64, offset, findings);
            }
        }
        for tile in self.edge.push(leaf) {
            if tile.level > 0 {
                self.compare(tile.level, tile.number, &tile.hashes, findings)?;
            }
        }
        self.settle(findings);
        Ok(())
    }

    /// After the last line: what is not full, and what should have come.
    pub(super) fn finish(&mut self, findings: &mut Findings) -> anyhow::Result<()> {
        self.settle(findings);
        let size = self.size();
        for (level, hashes) in (0_u32..).zip(self.edge.levels().to_vec()).skip(1) {
            let full = (size >> (8 * level)) / TILE_WIDTH as u64;
            if !hashes.is_empty() {
                self.compare(level, full, &hashes, findings)?;
            }
        }
        let offset = usize::try_from(size % TILE_WIDTH as u64)?;
        for at in 0..self.tiles.len() {
            if offset == 0 {
                self.tiles[at].leaves = self.stored(at, 0, size / TILE_WIDTH as u64, findings)?;
            }
            if self.tiles[at].leaves.len() > offset {
                let what = "a record was logged here, says its tile; the records end before it";
                let file = self.tiles[at].file;
                self.add(file, Check::Tiles, size + 1, what.to_owned(), findings);
            }
        }
        let short: Vec<_> = self
            .checkpoints
            .iter_mut()
            .filter(|known| known.checkpoint.size > size)
            .map(|known| {
                known.agrees = Some(false);
                (known.file, known.checkpoint.size)
            })
            .collect();
        for (file, of) in short {
            let what =
                format!("{of} records were signed, and there are {size}: the next is missing");
            self.add(file, Check::Checkpoints, size + 1, what, findings);
        }
        Ok(())
    }

    /// Holds the records against the checkpoints of just as many.
    fn settle(&mut self, findings: &mut Findings) {
        let size = self.size();
        let is_due = |known: &Known| known.agrees.is_none() && known.checkpoint.size == size;
        if !self.checkpoints.iter().any(is_due) {
            return;
        }
        let root = self.root();
        for at in 0..self.checkpoints.len() {
            let known = &mut self.checkpoints[at];
            if !is_due(known) {
                continue;
            }
            let agrees = known.checkpoint.root == root;
            known.agrees = Some(agrees);
            let file = known.file;
            if agrees {
                self.sound = self.sound.max(size);
                continue;
            }
            let first = self.sound + 1;
            let (index, what) = match self.differs.filter(|differs| *differs >= first) {
                Some(index) => (
                    index,
                    format!(
                        "not the first {size} records that were signed: this one differs, says its tile"
                    ),
                ),
                None if !self.tiles.is_empty() => (
                    first,
                    format!(
                        "not the first {size} records that were signed; the tiles are those of \
                     these records, so one of {first} to {size} differs, or the checkpoint does"
                    ),
                ),
                None => (
                    first,
                    format!(
                        "not the first {size} records that were signed: one of {first} to {size} differs"
                    ),
                ),
            };
            self.add(file, Check::Checkpoints, index, what, findings);
        }
    }

    /// The hashes in the place of a tile.
    fn stored(
        &mut self,
        at: usize,
        level: u32,
        number: u64,
        findings: &mut Findings,
    ) -> anyhow::Result<Vec<Hash>> {
        let Tiles { dir, file, own, .. } = &self.tiles[at];
        let (file, own) = (*file, *own);
        let stored = match dir.read(level, number)? {
            Stored::Hashes(hashes) => {
                self.tiles_compared += 1;
                hashes
            }
            Stored::Missing => Vec::new(),
            Stored::Malformed => {
                let first = (number * TILE_WIDTH as u64) << (8 * level);
                let what = format!("{} is no tile", tiles::tile_path(level, number, 256));
                self.add(file, Check::Tiles, first + 1, what, findings);
                return Ok(Vec::new());
            }
        };
        let signed = self.checkpoints.iter().filter(|known| known.own && own);
        let signed = signed.map(|known| known.checkpoint.size).max().unwrap_or_default();
        let wanted = tiles::width(signed >> (8 * level), number);
        if (stored.len() as u64) < wanted {
            self.tiles_missing += 1;
        }
        Ok(stored)
    }

    /// Holds a tile above the leaves against the one that is stored.
    fn compare(
        &mut self,
        level: u32,
        number: u64,
        hashes: &[Hash],
        findings: &mut Findings,
    ) -> anyhow::Result<()> {
        for at in 0..self.tiles.len() {
            let stored = self.stored(at, level, number, findings)?;
            let pairs = stored.iter().zip(hashes);
            let Some(hash) = pairs.into_iter().position(|(stored, hash)| stored != hash) else {
                continue;
            };
            // What follows from a leaf that differs is told by that.
            let below = |index: u64| (index - 1) >> (8 * level);
            if self.differs.map(below) != Some(number * TILE_WIDTH as u64 + hash as u64) {
                self.differs_at(at, level, number, hash, findings);
            }
        }
        Ok(())
    }

    /// A hash of a stored tile does not follow from the records.
    fn differs_at(&self, at: usize, level: u32, number: u64, hash: usize, findings: &mut Findings) {
        let file = self.tiles[at].file;
        let first = (number * TILE_WIDTH as u64 + hash as u64) << (8 * level);
        let name = tiles::tile_path(level, number, TILE_WIDTH as u64);
        let what = match level {
            0 => format!("the record is not the one that was logged: {name} has another hash"),
            _ => format!("{name} does not follow from the records: hash {hash} is another"),
        };
        self.add(file, Check::Tiles, first + 1, what, findings);
    }

    fn add(&self, file: u32, check: Check, index: u64, what: String, findings: &mut Findings) {
        let place = Place {
            file,
            line: None,
            partition: self.partition,
            index,
            position: i64::try_from(index).ok(),
        };
        findings.add(place, Fault { check, what: what.into() });
    }
}
