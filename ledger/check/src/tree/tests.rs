//! Logs of a few tiles, tampered with at random places.

use proptest::prelude::*;

use super::*;

/// The leaf of the record at a position.
fn leaf(position: i64) -> Hash {
    frikort_proof::leaf_hash(&position.to_be_bytes())
}

/// A log as its follower leaves it: tiles, and a checkpoint after each `step` records and at the
/// end.
fn log(end: i64, step: i64) -> (Tiles, Vec<(i64, Hash)>) {
    let (mut edge, mut tiles, mut checkpoints) = (Edge::default(), Tiles::new(), Vec::new());
    for position in 1..=end {
        for tile in edge.push(leaf(position)) {
            let stored = Stored { root: tile.root().to_vec(), hashes: Some(tile.hashes.clone()) };
            tiles.insert((tile.level, tile.number), stored);
        }
        if position % step == 0 || position == end {
            checkpoints.push((position, edge.root()));
        }
    }
    (tiles, checkpoints)
}

/// What is found of records of these leaves, with checkpoints at some sizes.
fn found(
    end: i64,
    leaf: impl Fn(i64) -> Option<Hash>,
    tiles: &Tiles,
    checkpoints: &[(i64, Hash)],
) -> (Vec<(Kind, i64)>, Tree) {
    let mut notes = Notes::new(0);
    let mut tree = Tree::new(checkpoints.last().map_or(0, |(size, _)| *size));
    for position in 1..=end {
        tree.push(position, leaf(position), tiles, &mut notes);
        for (size, root) in checkpoints.iter().filter(|(size, _)| *size == position) {
            let signed =
                Signed { keeper: Keeper::Table, size: *size, root: *root, is_accepted_loss: false };
            tree.hold(&signed, &mut notes);
        }
        notes.end_runs(position);
    }
    notes.end_runs(i64::MAX);
    let mut found: Vec<_> = notes.take().iter().map(|found| (found.kind, found.position)).collect();
    found.sort_by_key(|(kind, position)| (*position, *kind));
    (found, tree)
}

/// The last position whose leaf stands in a full tile.
fn tiled(end: i64) -> i64 {
    end / WIDTH * WIDTH
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_sound_log_is_found_sound(end in 1_i64..1500, step in 1_i64..400) {
        let (tiles, checkpoints) = log(end, step);
        let (found, tree) = found(end, |at| Some(leaf(at)), &tiles, &checkpoints);
        prop_assert_eq!(found, vec![]);
        prop_assert_eq!(tree.root(), checkpoints.last().map(|(_, root)| *root));
    }

    #[test]
    fn a_changed_record_is_found_where_it_is(
        end in 300_i64..1500, step in 1_i64..400, at in 0_i64..1500,
    ) {
        let at = at % end + 1;
        let (tiles, checkpoints) = log(end, step);
        let changed = |position| Some(if position == at { [1; 32] } else { leaf(position) });
        let (found, _) = found(end, changed, &tiles, &checkpoints);
        if at <= tiled(end) {
            prop_assert_eq!(found, vec![(Kind::Tile, at), (Kind::Checkpoint, at)]);
        } else {
            // No tile has it yet: the first checkpoint since, as near as the one before.
            let before = (at - 1) / step * step;
            prop_assert_eq!(found, vec![(Kind::Checkpoint, before + 1)]);
        }
    }

    #[test]
    fn a_changed_hash_of_a_tile_is_found_and_contradicts_no_checkpoint(
        end in 256_i64..1500, step in 1_i64..400, at in 0_i64..1500,
    ) {
        let at = at % tiled(end) + 1;
        let (mut tiles, checkpoints) = log(end, step);
        let index = usize::try_from(at - 1).unwrap_or(0);
        let number = u64::try_from(index / TILE_WIDTH).unwrap_or(0);
        let stored = tiles.get_mut(&(0, number)).and_then(|tile| tile.hashes.as_mut());
        if let Some(hashes) = stored {
            hashes[index % TILE_WIDTH] = [1; 32];
        }
        let (found, _) = found(end, |at| Some(leaf(at)), &tiles, &checkpoints);
        prop_assert_eq!(found, vec![(Kind::Tile, at)]);
    }

    #[test]
    fn a_missing_record_whose_tile_is_there_keeps_nothing_from_being_checked(
        end in 256_i64..1500, step in 1_i64..400, at in 0_i64..1500, other in 0_i64..1500,
    ) {
        let (at, other) = (at % tiled(end) + 1, other % tiled(end) + 1);
        prop_assume!(at != other);
        let (tiles, checkpoints) = log(end, step);
        let without = |position| match position {
            position if position == at => None,
            position if position == other => Some([1; 32]),
            position => Some(leaf(position)),
        };
        let (found, tree) = found(end, without, &tiles, &checkpoints);
        prop_assert_eq!(tree.lost, None);
        prop_assert_eq!(found, vec![(Kind::Tile, other), (Kind::Checkpoint, other)]);
    }

    #[test]
    fn a_tail_that_is_another_one_is_one_change(end in 600_i64..1500, at in 0_i64..512) {
        let at = at % tiled(end) + 1;
        let (tiles, checkpoints) = log(end, 7);
        let moved = |position| Some(leaf(if position < at { position } else { position + 1 }));
        let (found, _) = found(end, moved, &tiles, &checkpoints);
        let first: Vec<_> = found.iter().copied().filter(|(_, position)| *position == at).collect();
        prop_assert_eq!(first, vec![(Kind::Tile, at), (Kind::Checkpoint, at)]);
        // Behind the last tile it is not seen to be the same one.
        prop_assert!(found.len() <= 3, "{:?}", found);
    }
}

#[test]
fn without_tile_a_missing_record_ends_what_can_be_said_of_the_log() {
    let (tiles, checkpoints) = log(300, 50);
    let without = |position| (position != 290).then(|| leaf(position));
    let (found, tree) = found(300, without, &tiles, &checkpoints);
    assert_eq!((found, tree.lost, tree.root()), (vec![], Some(290), None));
}

#[test]
fn tiles_of_a_level_above_are_held_too() {
    let end = WIDTH * WIDTH;
    let (mut tiles, checkpoints) = log(end, end);
    assert_eq!(tiles.len(), 257);
    let (sound, _) = found(end, |at| Some(leaf(at)), &tiles, &checkpoints);
    assert_eq!(sound, []);
    if let Some(hashes) = tiles.get_mut(&(1, 0)).and_then(|tile| tile.hashes.as_mut()) {
        hashes[3] = [1; 32];
    }
    let (above, _) = found(end, |at| Some(leaf(at)), &tiles, &checkpoints);
    assert_eq!(above, [(Kind::Tile, 3 * WIDTH + 1)]);
    tiles.remove(&(1, 0));
    let (missing, _) = found(end, |at| Some(leaf(at)), &tiles, &checkpoints);
    assert_eq!(missing, [(Kind::Tile, 1)]);
}
