//! The tree, held against the vectors of Certificate Transparency and against the definitions of
//! RFC 6962 § 2.1 written down once more, plainly, for every size up to 600.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{cell::RefCell, collections::HashMap, ops::Range};

use frikort_proof::{
    Edge, Hash, Subtree, TILE_WIDTH, Tile, bag, consistency_ranges, empty_root, inclusion_ranges,
    join, leaf_hash, subtrees, verify_consistency, verify_inclusion,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// Larger than two tiles, so that tiles that are full, partial and above others are all met.
const SIZES: u64 = 600;

fn record(index: u64) -> Vec<u8> {
    format!("record {index}").into_bytes()
}

/// MTH, PATH and PROOF as the RFC defines them.
#[derive(Default)]
struct Rfc(HashMap<(u64, u64), Hash>);

impl Rfc {
    fn mth(&mut self, low: u64, high: u64) -> Hash {
        if let Some(known) = self.0.get(&(low, high)) {
            return *known;
        }
        let hash: Hash = match high - low {
            0 => Sha256::digest(b"").into(),
            1 => Sha256::digest([&[0][..], &record(low)].concat()).into(),
            n => {
                let k = power_below(n);
                let (left, right) = (self.mth(low, low + k), self.mth(low + k, high));
                Sha256::digest([&[1][..], &left, &right].concat()).into()
            }
        };
        self.0.insert((low, high), hash);
        hash
    }

    fn path(&mut self, m: u64, low: u64, high: u64) -> Vec<Hash> {
        if high - low == 1 {
            return Vec::new();
        }
        let k = power_below(high - low);
        if m < k {
            let mut path = self.path(m, low, low + k);
            path.push(self.mth(low + k, high));
            path
        } else {
            let mut path = self.path(m - k, low + k, high);
            path.push(self.mth(low, low + k));
            path
        }
    }

    fn subproof(&mut self, m: u64, low: u64, high: u64, whole: bool) -> Vec<Hash> {
        let n = high - low;
        if m == n {
            return if whole { Vec::new() } else { vec![self.mth(low, high)] };
        }
        let k = power_below(n);
        if m <= k {
            let mut proof = self.subproof(m, low, low + k, whole);
            proof.push(self.mth(low + k, high));
            proof
        } else {
            let mut proof = self.subproof(m - k, low + k, high, false);
            proof.push(self.mth(low, low + k));
            proof
        }
    }
}

fn power_below(n: u64) -> u64 {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// A log as it is stored: full tiles, and the edge.
#[derive(Default)]
struct Log {
    tiles: HashMap<(u32, u64), Tile>,
    edge: Edge,
    /// Complete subtrees that were asked for: they never change.
    known: RefCell<HashMap<Subtree, Hash>>,
}

impl Log {
    fn push(&mut self, record: &[u8]) {
        for tile in self.edge.push(leaf_hash(record)) {
            let before = self.tiles.insert((tile.level, tile.number), tile);
            assert_eq!(before, None, "a tile is written once");
        }
    }

    fn subtree(&self, subtree: Subtree) -> Hash {
        if let Some(known) = self.known.borrow().get(&subtree) {
            return *known;
        }
        let (level, number, range) = subtree.in_tile();
        let hashes = match self.tiles.get(&(level, number)) {
            Some(tile) => tile.hashes.clone(),
            None => self.edge.levels()[level as usize].clone(),
        };
        let hash = bag(&hashes[range], None).unwrap();
        self.known.borrow_mut().insert(subtree, hash);
        hash
    }

    fn hashes(&self, ranges: &[Range<u64>]) -> Vec<Hash> {
        let parts =
            |range| subtrees(range).into_iter().map(|s| self.subtree(s)).collect::<Vec<_>>();
        ranges.iter().map(|range| join(&parts(range)).unwrap()).collect()
    }
}

#[test]
fn the_vectors_of_certificate_transparency() {
    let leaves: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut edge = Edge::default();
    let hex = |hash: Hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(edge.root()), roots[0]);
    for (leaf, root) in leaves.iter().zip(&roots[1..]) {
        assert_eq!(edge.push(leaf_hash(leaf)), []);
        assert_eq!(hex(edge.root()), *root);
    }
}

#[test]
fn every_inclusion_of_every_size_is_the_rfcs_and_verifies() {
    let (mut rfc, mut log) = (Rfc::default(), Log::default());
    for size in 0..=SIZES {
        let root = rfc.mth(0, size);
        assert_eq!((log.edge.size(), log.edge.root()), (size, root));
        for index in 0..size {
            let proof = log.hashes(&inclusion_ranges(index, size));
            assert_eq!(proof, rfc.path(index, 0, size), "{index} of {size}");
            let leaf = leaf_hash(&record(index));
            assert!(verify_inclusion(&proof, index, size, &leaf, &root), "{index} of {size}");
        }
        assert_eq!(inclusion_ranges(size, size), []);
        log.push(&record(size));
    }
}

#[test]
fn every_consistency_of_every_two_sizes_is_the_rfcs_and_verifies() {
    let (mut rfc, mut log) = (Rfc::default(), Log::default());
    for new in 0..=SIZES {
        let new_root = rfc.mth(0, new);
        for old in 0..=new {
            let old_root = rfc.mth(0, old);
            let proof = log.hashes(&consistency_ranges(old, new));
            let expected = if old == 0 { Vec::new() } else { rfc.subproof(old, 0, new, true) };
            assert_eq!(proof, expected, "{old} in {new}");
            assert!(verify_consistency(&proof, (old, &old_root), (new, &new_root)), "{old} {new}");
        }
        log.push(&record(new));
    }
}

#[test]
fn three_levels_of_tiles_have_the_root_of_the_plain_tree() {
    let (mut edge, mut tiles) = (Edge::default(), Vec::new());
    let leaves: Vec<Hash> = (0..70_000).map(|index| leaf_hash(&record(index))).collect();
    for leaf in &leaves {
        tiles.extend(edge.push(*leaf));
    }
    assert_eq!(edge.size(), 70_000);
    assert_eq!(edge.root(), bag(&leaves, None).unwrap());
    let of_level = |level| tiles.iter().filter(|tile| tile.level == level).count();
    assert_eq!((of_level(0), of_level(1), of_level(2)), (273, 1, 0));
    // The edge names its hashes in the order of the leaves below them, without gap.
    let mut next = 0;
    for (level, number, _) in edge.hashes() {
        let below = 256_u64.pow(level);
        assert_eq!(number * below, next);
        next += below;
    }
    assert_eq!(next, 70_000);
    assert_eq!(Edge::new(edge.levels().to_vec()), Some(edge));
    assert_eq!(Edge::new(vec![vec![empty_root(); TILE_WIDTH]]), None);
}

proptest! {
    #[test]
    fn a_proof_that_is_changed_anywhere_shows_nothing(
        size in 2_u64..SIZES, at in any::<u64>(),
        part in any::<proptest::sample::Index>(), bit in 0_usize..256,
    ) {
        let mut log = Log::default();
        (0..size).for_each(|index| log.push(&record(index)));
        let (index, root) = (at % size, log.edge.root());
        let leaf = leaf_hash(&record(index));
        let proof = log.hashes(&inclusion_ranges(index, size));
        prop_assert!(verify_inclusion(&proof, index, size, &leaf, &root));
        let flip = |hash: &Hash| {
            let mut hash = *hash;
            hash[bit / 8] ^= 1 << (bit % 8);
            hash
        };
        let part = part.index(proof.len());
        let mut changed = proof.clone();
        changed[part] = flip(&proof[part]);
        prop_assert!(!verify_inclusion(&changed, index, size, &leaf, &root));
        prop_assert!(!verify_inclusion(&proof, index, size, &flip(&leaf), &root));
        prop_assert!(!verify_inclusion(&proof, index, size, &leaf, &flip(&root)));
        prop_assert!(!verify_inclusion(&proof[1..], index, size, &leaf, &root));
        prop_assert!(!verify_inclusion(&proof, size, size, &leaf, &root));
        let longer = [proof.as_slice(), &[root]].concat();
        prop_assert!(!verify_inclusion(&longer, index, size, &leaf, &root));

        let old = index.max(1);
        let mut before = Log::default();
        (0..old).for_each(|index| before.push(&record(index)));
        let old_root = before.edge.root();
        let proof = log.hashes(&consistency_ranges(old, size));
        prop_assert!(verify_consistency(&proof, (old, &old_root), (size, &root)));
        prop_assert!(!verify_consistency(&proof, (old, &flip(&old_root)), (size, &root)));
        prop_assert!(!verify_consistency(&proof, (old, &old_root), (size, &flip(&root))));
        prop_assert!(!verify_consistency(&proof[1..], (old, &old_root), (size, &root)));
        prop_assert!(!verify_consistency(&proof, (size, &root), (old, &old_root)));
    }
}
