//! The last checkpoint that was signed, kept in a file outside the database, with the edge of the
//! tree and the last leaf then: what the history is held against before anything more is signed, or
//! appended.
//!
//! Text form: a first line, the last leaf's hash in base64, the hashes of each level of the edge in
//! base64 (a line each, `-` for none), an empty line, the signed note.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use frikort_event_store::EventHash;
use frikort_process::secret;
use frikort_proof::{Checkpoint, Edge, HASH_BYTES, Hash, VerifierKey};

use super::whole;
use crate::history::{KnownEvent, SignedEvidence};

const FIRST_LINE: &str = "frikort/last-checkpoint@v2";

/// The first line of the form without the last leaf.
const OLD_FIRST_LINE: &str = "frikort/last-checkpoint@v1";

/// What was signed last.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) checkpoint: Checkpoint,
    pub(super) edge: Edge,
    /// Of the last record; absent in the old form where the edge has no leaf.
    pub(super) last_leaf: Option<Hash>,
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
    let last_leaf: Option<Hash> = match lines.next()? {
        FIRST_LINE => Some(BASE64_STANDARD.decode(lines.next()?).ok()?.try_into().ok()?),
        OLD_FIRST_LINE => None,
        _ => return None,
    };
    let level = |line: &str| {
        let bytes = BASE64_STANDARD.decode(line.trim_start_matches('-')).ok()?;
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        rest.is_empty().then(|| hashes.to_vec())
    };
    let edge = Edge::new(lines.map(level).collect::<Option<Vec<Vec<Hash>>>>()?)?;
    let checkpoint = Checkpoint::verify(note, keys).ok()?;
    let same = (checkpoint.size, checkpoint.root) == (edge.size(), edge.root());
    let last_leaf = last_leaf.or_else(|| edge.levels().first()?.last().copied());
    same.then(|| Memory { checkpoint, edge, last_leaf, note: note.to_owned() })
}

/// Keeps what is about to be published, on disk when this returns. Ledgers of one machine share
/// the file: what another one has kept meanwhile is not made older.
pub(super) fn write(
    file: &Path,
    keys: &[VerifierKey],
    note: &str,
    edge: &Edge,
    last_leaf: &Hash,
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
    let last_leaf = BASE64_STANDARD.encode(last_leaf);
    secret::replace(file, &format!("{FIRST_LINE}\n{last_leaf}\n{levels}\n{note}")).map_err(failed)
}

/// Puts a last checkpoint aside whose loss an operator has accepted: it stays as evidence, next to the
/// one that follows.
pub(super) fn put_aside(file: &Path, memory: &Memory) -> Result<PathBuf, MemoryError> {
    let failed = |error| MemoryError::File(file.display().to_string(), error);
    let mut name = file.as_os_str().to_owned();
    let root: String =
        memory.checkpoint.root.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    name.push(format!(".lost-{}-{root}", memory.checkpoint.size));
    let aside = PathBuf::from(name);
    fs::rename(file, &aside).map_err(failed)?;
    Ok(aside)
}

/// What the file vouches for: events that the history must hold.
pub(super) fn evidence(memory: &Memory) -> SignedEvidence {
    let size = whole(memory.checkpoint.size);
    let leaves = memory.edge.levels().first().map(Vec::as_slice).unwrap_or_default();
    let first = size - whole(leaves.len() as u64) + 1;
    let marks = leaves.iter().zip(first..);
    let mut marks: Vec<KnownEvent> =
        marks.map(|(leaf, position)| KnownEvent { position, hash: EventHash(*leaf) }).collect();
    if leaves.is_empty() {
        let last =
            memory.last_leaf.map(|leaf| KnownEvent { position: size, hash: EventHash(leaf) });
        marks.extend(last);
    }
    SignedEvidence { marks, checkpoint: Some(memory.note.clone()), changed: None }
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
            let leaf = leaf_hash(&size.to_be_bytes());
            edge.push(leaf);
            if [255, 256, 300].contains(&size) {
                let origin = origin.clone();
                let note = key.sign(&Checkpoint { origin, size, root: edge.root() });
                write(&file, &keys, &note, &edge, &leaf).unwrap();
                let kept = read(&file, &keys).unwrap().unwrap();
                assert_eq!((kept.checkpoint.size, &kept.edge), (size, &edge));
                let evidence = evidence(&kept);
                let last = KnownEvent { position: whole(size), hash: EventHash(leaf) };
                assert_eq!(evidence.marks.last(), Some(&last));
                assert_eq!(evidence.marks.len() as u64, (size % 256).max(1));
                notes.push((note, edge.clone()));
            }
        }
        let (note, edge) = &notes[0];
        write(&file, &keys, note, edge, &[0; 32]).unwrap();
        assert_eq!(read(&file, &keys).unwrap().unwrap().checkpoint.size, 300);
        let other = [SigningKey::new(&[8; 32]).verifier(&origin)];
        assert!(matches!(read(&file, &other), Err(MemoryError::Unsound(_))));
        let kept = read(&file, &keys).unwrap().unwrap();
        let aside = put_aside(&file, &kept).unwrap();
        assert!(read(&file, &keys).unwrap().is_none());
        assert_eq!(read(&aside, &keys).unwrap().unwrap().checkpoint.size, 300);
        // The form without the last leaf is read too.
        let text = fs::read_to_string(&aside).unwrap();
        let old = text.replacen(FIRST_LINE, OLD_FIRST_LINE, 1);
        let (first, rest) = old.split_once('\n').unwrap();
        let old = format!("{first}\n{}", rest.split_once('\n').unwrap().1);
        fs::write(&file, old).unwrap();
        assert_eq!(evidence(&read(&file, &keys).unwrap().unwrap()), evidence(&kept));
        fs::write(&file, "").unwrap();
        assert!(matches!(read(&file, &keys), Err(MemoryError::Unsound(_))));
    }
}
