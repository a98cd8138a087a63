//! The last checkpoint that was signed, kept in a file outside the database, with the edge of the
//! tree then: what the history is held against before anything more is signed.
//!
//! Text form: a first line, the hashes of each level of the edge in base64 (a line each, `-` for
//! none), an empty line, the signed note.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use frikort_process::secret;
use frikort_proof::{Checkpoint, Edge, HASH_BYTES, Hash, VerifierKey};

const FIRST_LINE: &str = "frikort/last-checkpoint@v1";

/// What was signed last.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) checkpoint: Checkpoint,
    pub(super) edge: Edge,
    pub(super) note: String,
}

/// Why there is no saying what was signed last.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemoryError {
    #[error("the last checkpoint's file {0} cannot be read or written")]
    File(String, #[source] io::Error),
    #[error("{0} does not hold a last checkpoint of this log, signed with one of its keys")]
    Unsound(String),
}

/// The file of a partition, beside the key's.
pub(super) fn path(key_file: &Path, partition: i32) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(format!(".partition-{partition}.checkpoint"));
    name.into()
}

/// What the file says; `None` where there is none, since nothing was signed yet.
pub(super) fn read(file: &Path, keys: &[VerifierKey]) -> Result<Option<Memory>, MemoryError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(MemoryError::File(file.display().to_string(), error)),
    };
    let memory = parse(&text, keys);
    memory.map(Some).ok_or_else(|| MemoryError::Unsound(file.display().to_string()))
}

fn parse(text: &str, keys: &[VerifierKey]) -> Option<Memory> {
    let (head, note) = text.split_once("\n\n")?;
    let mut lines = head.lines();
    lines.next().filter(|line| *line == FIRST_LINE)?;
    let level = |line: &str| {
        let bytes = BASE64_STANDARD.decode(line.trim_start_matches('-')).ok()?;
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        rest.is_empty().then(|| hashes.to_vec())
    };
    let edge = Edge::new(lines.map(level).collect::<Option<Vec<Vec<Hash>>>>()?)?;
    let checkpoint = Checkpoint::verify(note, keys).ok()?;
    let same = (checkpoint.size, checkpoint.root) == (edge.size(), edge.root());
    same.then(|| Memory { checkpoint, edge, note: note.to_owned() })
}

/// Keeps what is about to be published, on disk when this returns. Ledgers of one machine share
/// the file: what another one has kept meanwhile is not made older.
pub(super) fn write(
    file: &Path,
    keys: &[VerifierKey],
    note: &str,
    edge: &Edge,
) -> Result<(), MemoryError> {
    let failed = |error| MemoryError::File(file.display().to_string(), error);
    let mut lock_name = file.as_os_str().to_owned();
    lock_name.push(".lock");
    let lock = File::create(PathBuf::from(lock_name)).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if read(file, keys)?.is_some_and(|kept| kept.checkpoint.size >= edge.size()) {
        return Ok(());
    }
    let level = |hashes: &Vec<Hash>| match hashes.as_slice() {
        [] => "-\n".to_owned(),
        hashes => BASE64_STANDARD.encode(hashes.concat()) + "\n",
    };
    let levels: String = edge.levels().iter().map(level).collect();
    secret::replace(file, &format!("{FIRST_LINE}\n{levels}\n{note}")).map_err(failed)
}

#[cfg(test)]
mod tests {
    use frikort_proof::{SigningKey, leaf_hash};

    use super::*;

    #[test]
    fn what_was_signed_is_remembered_and_never_made_older() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(&dir.path().join("signing.key"), 3);
        let key = SigningKey::new(&[7; 32]);
        let origin: frikort_proof::KeyName = "a/frikort/partition/3".parse().unwrap();
        let keys = [key.verifier(&origin)];
        assert!(read(&file, &keys).unwrap().is_none());
        let mut edge = Edge::default();
        let mut notes = Vec::new();
        // 300 leaves, so that there is a level above, and 256, where the lowest level is empty.
        for size in 1..=300_u64 {
            edge.push(leaf_hash(&size.to_be_bytes()));
            if [255, 256, 300].contains(&size) {
                let origin = origin.clone();
                let note = key.sign(&Checkpoint { origin, size, root: edge.root() });
                write(&file, &keys, &note, &edge).unwrap();
                let kept = read(&file, &keys).unwrap().unwrap();
                assert_eq!((kept.checkpoint.size, &kept.edge), (size, &edge));
                notes.push((note, edge.clone()));
            }
        }
        let (note, edge) = &notes[0];
        write(&file, &keys, note, edge).unwrap();
        assert_eq!(read(&file, &keys).unwrap().unwrap().checkpoint.size, 300);
        let other = [SigningKey::new(&[8; 32]).verifier(&origin)];
        assert!(matches!(read(&file, &other), Err(MemoryError::Unsound(_))));
        fs::write(&file, "").unwrap();
        assert!(matches!(read(&file, &keys), Err(MemoryError::Unsound(_))));
    }
}
