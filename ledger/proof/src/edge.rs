//! The right edge of a growing log: the hashes of the tiles that are not full yet. Enough to go on,
//! to tell the root, and to find later where another history departs from this one.

use crate::tree::{Hash, TILE_WIDTH, bag, empty_root};

/// A full tile: never written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// 0 for a tile of leaf hashes; of level `n`, each hash stands for `256^n` leaves.
    pub level: u32,
    /// Which one of its level, from 0.
    pub number: u64,
    /// Its 256 hashes, from left to right.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// The one hash above all of them, which stands in the tile above.
    pub fn root(&self) -> Hash {
        bag(&self.hashes, None).unwrap_or_else(empty_root)
    }
}

/// The hashes of the tile that is not full yet, at each level; each fewer than 256.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// From the hashes of each level, the leaves first; `None` where a level would be full.
    pub fn new(mut levels: Vec<Vec<Hash>>) -> Option<Self> {
        while levels.last().is_some_and(Vec::is_empty) {
            levels.pop();
        }
        let sound = levels.len() <= 7 && levels.iter().all(|level| level.len() < TILE_WIDTH);
        sound.then_some(Self { levels })
    }

    /// The hashes of each level, the leaves first.
    pub fn levels(&self) -> &[Vec<Hash>] {
        &self.levels
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        let above = |size: u64, level: &Vec<Hash>| size * TILE_WIDTH as u64 + level.len() as u64;
        self.levels.iter().rev().fold(0, above)
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let bagged = self.levels.iter().fold(None, |right, level| bag(level, right));
        bagged.unwrap_or_else(empty_root)
    }

    /// The hashes of the edge in the order of the leaves that they stand for: tile level, which one
    /// of its level, and the hash.
    pub fn hashes(&self) -> Vec<(u32, u64, Hash)> {
        let mut hashes = Vec::new();
        let mut full = 0;
        for (level, partial) in (0_u32..).zip(&self.levels).collect::<Vec<_>>().into_iter().rev() {
            for (number, hash) in (full * TILE_WIDTH as u64..).zip(partial) {
                hashes.push((level, number, *hash));
            }
            full = full * TILE_WIDTH as u64 + partial.len() as u64;
        }
        hashes
    }

    /// Adds a leaf; answers the tiles that it filled, lower ones first.
    pub fn push(&mut self, leaf: Hash) -> Vec<Tile> {
        let number = self.size() / TILE_WIDTH as u64;
        let (mut filled, mut hash) = (Vec::new(), leaf);
        let mut numbers = std::iter::successors(Some(number), |n| Some(n / TILE_WIDTH as u64));
        for level in 0.. {
            let number = numbers.next().unwrap_or_default();
            let at = usize::try_from(level).unwrap_or(usize::MAX);
            if at == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let partial = &mut self.levels[at];
            partial.push(hash);
            if partial.len() < TILE_WIDTH {
                break;
            }
            let tile = Tile { level, number, hashes: std::mem::take(partial) };
            hash = tile.root();
            filled.push(tile);
        }
        filled
    }
}
