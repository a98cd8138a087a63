//! Files that are there whole or not at all. What must stay out: what is in them.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A small file's longest length, in bytes.
const MOST_BYTES: u64 = 1024 * 1024;

/// Where a file is written before it gets its name.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

/// Puts a file there at once, with the directories above it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let shown = || path.display().to_string();
    fs::create_dir_all(path.parent().with_context(shown)?).with_context(shown)?;
    let mut file = File::create(unfinished(path)).with_context(shown)?;
    file.write_all(bytes).with_context(shown)?;
    finish(&file, path)
}

/// Gives a written file its name, when it is on disk.
pub(super) fn finish(file: &File, path: &Path) -> anyhow::Result<()> {
    let shown = || path.display().to_string();
    file.sync_all().with_context(shown)?;
    fs::rename(unfinished(path), path).with_context(shown)?;
    let above = path.parent().with_context(shown)?;
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    File::open(above).and_then(|dir| dir.sync_all()).with_context(shown)
}

/// The text of a small file; `None` where there is none.
pub(super) fn text(path: &Path) -> anyhow::Result<Option<String>> {
    let shown = || path.display().to_string();
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(file) if file.len() > MOST_BYTES => anyhow::bail!("{} is too long for one", shown()),
        _ => {}
    }
    fs::read_to_string(path).map(Some).with_context(shown)
}
