//! The journal: files that hold notes until the table has them.
//!
//! ```text
//!   note ──write──▶ <id>.notes ──next file begun──▶ read ──▶ the table ──▶ removed
//! ```
//!
//! What is written survives the process, not the machine: nothing is synced, since the table has it
//! some milliseconds later. A file is its process's as long as that holds it locked; whoever finds one
//! that is nobody's any more takes it over. So several processes may share a directory. What must stay
//! out: what a note says, and the database.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// How a file is called that holds notes; one that is not yet locked; and one that holds something
/// else as well.
const NOTES: &str = "notes";
const NEW: &str = "new";
const UNREADABLE: &str = "unreadable";

/// Where this process writes.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    file: Segment,
    /// Nothing may be added to the file: notes in part follow the others, or there are to be no more.
    is_torn: bool,
}

/// A file with notes, which is this process's; another one's when dropped.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: Uuid,
    path: PathBuf,
    file: File,
    /// How many bytes of notes it holds. Those of another process's are all there are.
    length: u64,
}

impl Journal {
    /// Begins a file in a directory, which is made if it is not there.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let file = Segment::create(dir)?;
        Ok(Self { dir: dir.to_owned(), file, is_torn: false })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.file.length == 0
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Adds whole lines; all of them or, with an error, none.
    pub(crate) fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            return Err(io::Error::other("an earlier note was written in part"));
        }
        if let Err(error) = self.file.file.write_all(lines) {
            self.is_torn = self.file.file.set_len(self.file.length).is_err();
            return Err(error);
        }
        self.file.length += lines.len() as u64;
        Ok(())
    }

    /// Goes on with another file, which holds nothing yet, and gives this one.
    pub(crate) fn go_on_with(&mut self, next: Segment) -> Segment {
        self.is_torn = false;
        std::mem::replace(&mut self.file, next)
    }

    #[cfg(test)]
    fn begin_another(&mut self) -> Segment {
        let next = Segment::create(&self.dir).unwrap();
        self.go_on_with(next)
    }

    /// The files that processes left which are no more, the oldest first.
    pub(crate) fn left(&self) -> io::Result<Vec<Segment>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            paths.push(entry?.path());
        }
        paths.sort();
        let left = paths.into_iter().filter_map(|path| Segment::take_over(path).transpose());
        left.collect()
    }

    /// Makes it a file that can neither be written to nor cut.
    #[cfg(test)]
    pub(crate) fn break_off(&mut self) {
        self.file.file = File::open(&self.file.path).unwrap();
    }

    /// Takes no more, and removes the open file if it holds nothing.
    pub(crate) fn end(&mut self) {
        self.is_torn = true;
        if self.is_empty() {
            // Else whoever comes next finds that it is empty.
            let _ = self.file.remove();
        }
    }
}

impl Segment {
    /// A new file in a directory.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        // Ordered by time.
        let id = Uuid::now_v7();
        let (new, path) = (dir.join(format!("{id}.{NEW}")), dir.join(format!("{id}.{NOTES}")));
        let file =
            OpenOptions::new().create_new(true).read(true).append(true).mode(0o600).open(&new)?;
        // Before it has the name by which another process would take it over.
        let locked = file.try_lock().map_err(io::Error::from);
        if let Err(error) = locked.and_then(|()| fs::rename(&new, &path)) {
            fs::remove_file(new)?;
            return Err(error);
        }
        Ok(Self { id, path, file, length: 0 })
    }

    /// `None` where it is no file with notes, or another process's, or gone.
    fn take_over(path: PathBuf) -> io::Result<Option<Self>> {
        let id = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let Some(id) = id.filter(|_| path.extension().is_some_and(|is| is == NOTES)) else {
            return Ok(None);
        };
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            // Whose it was may have removed it just now.
            Ok(()) if !path.exists() => Ok(None),
            Ok(()) => Ok(Some(Self { id, path, file, length: u64::MAX })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// All notes that it holds, also when somebody has removed it.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let (mut file, mut lines) = (&self.file, Vec::new());
        file.seek(SeekFrom::Start(0))?;
        file.take(self.length).read_to_end(&mut lines)?;
        Ok(lines)
    }

    /// Removes it, if nobody has.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps it for somebody to look into.
    pub(crate) fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.path.with_extension(UNREADABLE);
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn texts(segments: &[Segment]) -> Vec<String> {
        segments.iter().map(|segment| String::from_utf8(segment.read().unwrap()).unwrap()).collect()
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_a_process_leaves_is_taken_over_by_one_other_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made");
        let mut first = Journal::open(&dir).unwrap();
        first.add(b"one\n").unwrap();
        first.add(b"two\n").unwrap();
        let on_its_way = first.begin_another();
        first.add(b"three\n").unwrap();
        let second = Journal::open(&dir).unwrap();
        assert!(second.left().unwrap().is_empty(), "all are somebody's");

        drop((first, on_its_way));
        fs::write(dir.join("something else.txt"), "x").unwrap();
        let left = second.left().unwrap();
        assert_eq!(texts(&left), ["one\ntwo\n", "three\n"]);
        let mut third = Journal::open(&dir).unwrap();
        assert!(third.left().unwrap().is_empty(), "they are the second's");
        left.iter().for_each(|segment| segment.remove().unwrap());
        third.end();
        // The second's own, and what is none.
        assert_eq!(files(&dir), 2);
    }

    #[test]
    fn what_somebody_removes_is_read_all_the_same_and_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Journal::open(dir.path()).unwrap();
        first.add(b"one\n").unwrap();
        let segment = first.begin_another();
        let path = segment.path.clone();
        fs::remove_file(&path).unwrap();
        assert_eq!(texts(&[segment]), ["one\n"]);
        assert!(Segment::take_over(path).unwrap().is_none());
        first.end();
        first.add(b"two\n").unwrap_err();
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made");
        let journal = Journal::open(&dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&journal.file.path)), (0o700, 0o600));
    }

    #[test]
    fn after_a_note_in_part_none_is_added_until_another_file_is_begun() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.add(b"one\n").unwrap();
        // It is only read from then on; something stands after the notes.
        fs::write(&journal.file.path, "one\ntwo").unwrap();
        journal.break_off();
        journal.add(b"two\n").unwrap_err();
        journal.add(b"three\n").unwrap_err();
        let torn = journal.begin_another();
        journal.add(b"four\n").unwrap();
        assert_eq!(texts(&[torn, journal.begin_another()]), ["one\n", "four\n"]);
    }
}
