//! The proof log of a partition, held against its records: each full tile, and each checkpoint at
//! its size.
//!
//! Two edges grow side by side: one of the records as they are, one of the hashes that the tiles
//! have of them. Where the two part, a record and its tile contradict each other, and that is told
//! with its exact position. The next checkpoint says which of them is what was signed; both edges
//! then go on from it, so that one change is told once and whatever comes later is seen for itself.
//!
//! What must stay out: what a record says, and reading.

use std::collections::HashMap;

use frikort_proof::{Checkpoint, Edge, Hash, NoteError, TILE_WIDTH, Tile, VerifierKey};

use crate::finding::{Kind, Notes};

/// [`TILE_WIDTH`] as positions are counted.
pub(crate) const WIDTH: i64 = 256;

/// A row of the tile table; `None` where it does not have 256 hashes.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) root: Vec<u8>,
    pub(crate) hashes: Option<Vec<Hash>>,
}

/// The stored tiles that a page of records needs, by level and number.
pub(crate) type Tiles = HashMap<(u32, u64), Stored>;

/// Who keeps a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// The database.
    Table,
    /// Somebody outside of it, who calls it so.
    Elsewhere(String),
}

/// A checkpoint that the records are held against.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) keeper: Keeper,
    pub(crate) size: i64,
    pub(crate) root: Hash,
    /// An operator has accepted that records which it covers are lost.
    pub(crate) is_accepted_loss: bool,
}

impl Signed {
    /// Reads a note. Without keys, who signed it is not looked at.
    pub(crate) fn read(
        note: &str,
        keys: &[VerifierKey],
        keeper: Keeper,
    ) -> Result<Self, NoteError> {
        let Checkpoint { size, root, .. } = match keys {
            [] => Checkpoint::parse_unverified(note)?,
            keys => Checkpoint::verify(note, keys)?,
        };
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Self { keeper, size, root, is_accepted_loss: false })
    }

    /// What people call it.
    pub(crate) fn name(&self) -> String {
        match &self.keeper {
            Keeper::Table => format!("the checkpoint of {} records", self.size),
            Keeper::Elsewhere(name) => format!("{name}, of {} records,", self.size),
        }
    }
}

/// One partition's tree so far.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Of the records as they are.
    records: Edge,
    /// Of the hashes that the tiles have, and of the records where there is no tile.
    hashed: Edge,
    /// The first position since the two were the same whose record is not the one in its tile.
    parted: Option<i64>,
    /// A checkpoint was told to be about the hashes, and every record since differs from its own:
    /// that is the same change, and told once.
    told: bool,
    /// Tiles of the records up to here must be there, since it was signed.
    signed: i64,
    /// Up to where a checkpoint of the table, and one kept elsewhere, is about these records.
    agreed: i64,
    agreed_elsewhere: i64,
    /// The last checkpoint of the table contradicted; those after it are not told until one agrees.
    contradicted: bool,
    /// From here on no root is known: a record is missing, and no tile has its hash.
    pub(crate) lost: Option<i64>,
}

impl Tree {
    /// The beginning; tiles must be there for what is below `signed`.
    pub(crate) fn new(signed: i64) -> Self {
        let (records, hashed) = (Edge::default(), Edge::default());
        let (agreed, agreed_elsewhere, contradicted) = (0, 0, false);
        Self {
            records,
            hashed,
            parted: None,
            told: false,
            signed,
            agreed,
            agreed_elsewhere,
            contradicted,
            lost: None,
        }
    }

    /// The root over the records so far, where all of them are known.
    pub(crate) fn root(&self) -> Option<Hash> {
        self.lost.is_none().then(|| self.records.root())
    }

    /// Says that nothing is known of the record at `position`, nor of its hash.
    pub(crate) fn lose(&mut self, position: i64) {
        self.lost.get_or_insert(position);
    }

    /// Takes the leaf at the next position; `None` where the record is missing.
    pub(crate) fn push(
        &mut self,
        position: i64,
        leaf: Option<Hash>,
        tiles: &Tiles,
        notes: &mut Notes,
    ) {
        if self.lost.is_some() {
            return;
        }
        let index = u64::try_from(position - 1).unwrap_or_default();
        let offset = usize::try_from(index % TILE_WIDTH as u64).unwrap_or_default();
        let tile = tiles.get(&(0, index / TILE_WIDTH as u64));
        let known = tile.and_then(|tile| Some(tile.hashes.as_ref()?[offset]));
        let Some(leaf) = leaf.or(known) else {
            self.lose(position);
            return;
        };
        let hashed = known.unwrap_or(leaf);
        if hashed != leaf {
            self.parted.get_or_insert(position);
            let what = "the record is not the one whose hash stands in its tile";
            notes.find_run((position, position), Kind::Tile, None, what);
        } else {
            self.told = false;
        }
        let (of_records, of_hashes) = (self.records.push(leaf), self.hashed.push(hashed));
        for (ours, theirs) in of_records.iter().zip(&of_hashes) {
            self.compare(ours, theirs, tiles, notes);
        }
    }

    /// Holds a full tile against the one that is stored.
    fn compare(&self, ours: &Tile, theirs: &Tile, tiles: &Tiles, notes: &mut Notes) {
        let (level, number) = (ours.level, ours.number);
        let name = format!("tile {level}/{number}");
        let Some(stored) = tiles.get(&(level, number)) else {
            if last_of(level, number) <= self.signed {
                notes.find(first_of(level, number), Kind::Tile, None, format!("{name} is missing"));
            }
            return;
        };
        let first = first_of(level, number);
        let Some(hashes) = &stored.hashes else {
            notes.find(first, Kind::Tile, None, format!("{name} does not have 256 hashes"));
            return;
        };
        // Of leaf hashes, each was told by itself.
        if level > 0 && *hashes != ours.hashes && *hashes != theirs.hashes {
            let other = hashes.iter().zip(&theirs.hashes).position(|(a, b)| a != b);
            let below = number * TILE_WIDTH as u64 + other.unwrap_or_default() as u64;
            let what = format!("{name} does not follow from tile {}/{below}", level - 1);
            notes.find(first_of(level - 1, below), Kind::Tile, None, what);
            return;
        }
        let tile = Tile { level, number, hashes: hashes.clone() };
        // A hash that was changed is told by itself; the root beside it need not be changed too.
        if [tile.root(), ours.root(), theirs.root()].iter().all(|root| stored.root != root) {
            let what = format!("the root beside {name} is not that of its hashes");
            notes.find(first, Kind::Tile, None, what);
        }
    }

    /// Holds a checkpoint against the records up to its size, at which the tree stands.
    pub(crate) fn hold(&mut self, signed: &Signed, notes: &mut Notes) {
        if self.lost.is_some() {
            return;
        }
        let elsewhere = signed.keeper != Keeper::Table;
        let size = signed.size;
        if signed.is_accepted_loss && signed.root != self.records.root() {
            // The conclusion names the loss.
            return;
        }
        if signed.root == self.records.root() {
            self.hashed = self.records.clone();
        } else if signed.root == self.hashed.root() {
            if elsewhere || !self.told {
                let what = format!(
                    "{} is about other records: the first that differs stands here, and its tile \
                     has the hash of what was signed",
                    signed.name()
                );
                notes.find(self.parted.unwrap_or(size), Kind::Checkpoint, None, what);
            }
            self.told = true;
            self.records = self.hashed.clone();
        } else {
            let ours = if elsewhere { 0 } else { self.agreed };
            let agreed = self.agreed_elsewhere.max(ours);
            if elsewhere || !self.contradicted {
                let what = format!(
                    "{} is about other records: the first that differs stands here or later, up \
                     to position {size}",
                    signed.name()
                );
                notes.find((agreed + 1).min(size.max(1)), Kind::Checkpoint, None, what);
            }
            self.contradicted |= !elsewhere;
            return;
        }
        self.parted = None;
        if elsewhere {
            self.agreed_elsewhere = size;
        } else {
            self.agreed = size;
            self.contradicted = false;
        }
    }
}

/// The first position that a tile is about.
pub(crate) fn first_of(level: u32, number: u64) -> i64 {
    span(level).saturating_mul(i64::try_from(number).unwrap_or(i64::MAX)).saturating_add(1)
}

/// The last position that a tile is about.
fn last_of(level: u32, number: u64) -> i64 {
    first_of(level, number).saturating_add(span(level) - 1)
}

/// How many positions a tile is about.
pub(crate) fn span(level: u32) -> i64 {
    WIDTH.saturating_pow(level + 1)
}

#[cfg(test)]
mod tests;
