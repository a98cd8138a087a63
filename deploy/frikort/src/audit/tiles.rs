//! Tiles by their names (c2sp.org/tlog-tiles), and a directory of them. What must stay out: where
//! they come from, and what they must be.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use frikort_proof::{HASH_BYTES, Hash, TILE_WIDTH};

use super::files;

/// Hashes of a full tile.
const FULL: u64 = TILE_WIDTH as u64;

/// `067`, `x001/x234/067`: three digits an element, so that no directory gets long.
fn number_path(number: u64) -> String {
    let last = format!("{:03}", number % 1000);
    let elements = std::iter::successors(Some(number / 1000), |rest| Some(rest / 1000));
    elements
        .take_while(|rest| *rest > 0)
        .fold(last, |path, rest| format!("x{:03}/{path}", rest % 1000))
}

/// One of a level, as wide as it goes: `tile/0/000`, `tile/1/000.p/17`, `tile/entries/000`.
fn path(level: &str, number: u64, width: u64) -> String {
    let partial = if width < FULL { format!(".p/{width}") } else { String::new() };
    format!("tile/{level}/{}{partial}", number_path(number))
}

/// The name of a tile of `width` hashes.
pub(super) fn tile_path(level: u32, number: u64, width: u64) -> String {
    path(&level.to_string(), number, width)
}

/// The name of a bundle of `width` entries.
pub(super) fn entries_path(number: u64, width: u64) -> String {
    path("entries", number, width)
}

/// The tiles of a log of a size, leaves first: level, number, and how many hashes it has.
pub(super) fn all(size: u64) -> impl Iterator<Item = (u32, u64, u64)> {
    levels(size).flat_map(|(level, hashes)| {
        (0..hashes.div_ceil(FULL)).map(move |number| (level, number, width(hashes, number)))
    })
}

/// The levels of a log of a size, and how many hashes each has.
pub(super) fn levels(size: u64) -> impl DoubleEndedIterator<Item = (u32, u64)> {
    // 256^8 is more than there can be leaves.
    (0..8_u32).map(move |level| (level, size >> (8 * level))).filter(|(_, hashes)| *hashes > 0)
}

/// Of so many hashes of a level, how many stand in one tile.
pub(super) fn width(hashes: u64, number: u64) -> u64 {
    hashes.saturating_sub(number.saturating_mul(FULL)).min(FULL)
}

/// The hashes of a tile; `None` where the bytes are no whole hashes.
pub(super) fn hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    let whole = rest.is_empty() && !hashes.is_empty() && hashes.len() <= TILE_WIDTH;
    whole.then(|| hashes.to_vec())
}

/// What a directory has in the place of a tile.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// Its hashes: all, or of a part as many as there are.
    Hashes(Vec<Hash>),
    /// Something else.
    Malformed,
    Missing,
}

/// A directory in which tiles lie by their names.
#[derive(Clone, Debug)]
pub(super) struct TileDir(pub(super) PathBuf);

impl TileDir {
    /// A tile: the full one, otherwise the widest part.
    pub(super) fn read(&self, level: u32, number: u64) -> anyhow::Result<Stored> {
        let full = self.0.join(tile_path(level, number, FULL));
        let (path, width) = match fs::symlink_metadata(&full) {
            Ok(_) => (full, FULL),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(width) = widest(&self.parts(level, number))? else {
                    return Ok(Stored::Missing);
                };
                (self.0.join(tile_path(level, number, width)), width)
            }
            Err(error) => return Err(error).with_context(|| full.display().to_string()),
        };
        let length = width * HASH_BYTES as u64;
        let size = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        if size != length {
            return Ok(Stored::Malformed);
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(hashes(&bytes).map_or(Stored::Malformed, Stored::Hashes))
    }

    /// Whether a tile is there as wide as this.
    pub(super) fn has(&self, level: u32, number: u64, width: u64) -> bool {
        self.0.join(tile_path(level, number, width)).is_file()
    }

    /// Writes a tile whole, and takes away the parts of it that were there before.
    pub(super) fn write(&self, level: u32, number: u64, tile: &[u8]) -> anyhow::Result<()> {
        let width = (tile.len() / HASH_BYTES) as u64;
        files::replace(&self.0.join(tile_path(level, number, width)), tile)?;
        remove_parts(&self.parts(level, number), width)
    }

    /// Where the parts of a tile lie.
    fn parts(&self, level: u32, number: u64) -> PathBuf {
        self.0.join(format!("{}.p", tile_path(level, number, FULL)))
    }
}

/// Takes away the parts of a tile but for the one of this width; their directory too, when none is
/// left.
pub(super) fn remove_parts(parts: &Path, keep: u64) -> anyhow::Result<()> {
    for width in widths(parts)?.into_iter().filter(|width| *width != keep) {
        let part = parts.join(width.to_string());
        fs::remove_file(&part).with_context(|| part.display().to_string())?;
    }
    if keep == FULL {
        match fs::remove_dir(parts) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| parts.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

fn widest(parts: &Path) -> anyhow::Result<Option<u64>> {
    Ok(widths(parts)?.into_iter().max())
}

/// The widths of the parts of a tile that are there.
fn widths(parts: &Path) -> anyhow::Result<Vec<u64>> {
    let entries = match fs::read_dir(parts) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| parts.display().to_string())?,
    };
    let mut widths = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| parts.display().to_string())?.file_name();
        let width = name.to_str().and_then(|name| name.parse::<u64>().ok());
        widths.extend(width.filter(|width| (1..FULL).contains(width)));
    }
    Ok(widths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_named_as_the_format_says() {
        assert_eq!(tile_path(0, 0, 256), "tile/0/000");
        assert_eq!(tile_path(1, 1_234_067, 256), "tile/1/x001/x234/067");
        assert_eq!(tile_path(0, 999, 1), "tile/0/999.p/1");
        assert_eq!(entries_path(1000, 256), "tile/entries/x001/000");
        assert_eq!(entries_path(70_000, 255), "tile/entries/x070/000.p/255");
    }

    #[test]
    fn a_log_of_a_size_has_these_tiles() {
        assert_eq!(all(0).count(), 0);
        assert_eq!(all(1).collect::<Vec<_>>(), [(0, 0, 1)]);
        assert_eq!(all(256).collect::<Vec<_>>(), [(0, 0, 256), (1, 0, 1)]);
        assert_eq!(
            all(70_000).filter(|tile| tile.2 < 256).collect::<Vec<_>>(),
            [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
        );
        assert_eq!(all(70_000).count(), 274 + 2 + 1);
    }

    #[test]
    fn the_widest_part_is_read_and_a_full_tile_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let tiles = TileDir(dir.path().to_owned());
        assert_eq!(tiles.read(0, 0).unwrap(), Stored::Missing);
        tiles.write(0, 0, &[1; 2 * 32]).unwrap();
        assert_eq!(tiles.read(0, 0).unwrap(), Stored::Hashes(vec![[1; 32]; 2]));
        tiles.write(0, 0, &[1; 9 * 32]).unwrap();
        assert!(!tiles.has(0, 0, 2) && tiles.has(0, 0, 9));
        tiles.write(0, 0, &[1; 256 * 32]).unwrap();
        assert_eq!(tiles.read(0, 0).unwrap(), Stored::Hashes(vec![[1; 32]; 256]));
        assert!(!dir.path().join("tile/0/000.p").exists());
        fs::write(dir.path().join("tile/0/000"), [1; 100]).unwrap();
        assert_eq!(tiles.read(0, 0).unwrap(), Stored::Malformed);
    }
}
