//! Reloads what was read from files, or from elsewhere, when it changes, without a restart.
//! A read that fails is logged when it begins to fail, what was read before stays in use, and the
//! read is repeated at every look until it succeeds.
//!
//! Not here: what is in the files.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Reads `what` lies in the files, and goes on looking at them for as long as somebody holds the
/// receiver. `read` runs again when a file has changed, and after a failed read at every look.
///
/// # Errors
/// Fails if the first `read` fails.
pub fn read<T: Send + Sync + 'static>(
    what: &'static str,
    files: Vec<PathBuf>,
    read: impl FnMut() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<watch::Receiver<Arc<T>>> {
    read_every(LOOK, what, files, read)
}

fn read_every<T: Send + Sync + 'static>(
    pause: Duration,
    what: &'static str,
    files: Vec<PathBuf>,
    mut read: impl FnMut() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<watch::Receiver<Arc<T>>> {
    // The stamps are taken before the files are read: a change in between is seen at the next look.
    let mut last_read = Some(FileStamp::of_all(&files));
    let first = read()?;
    let look = Arc::new(Mutex::new(move || {
        let stamps = Some(FileStamp::of_all(&files));
        if stamps == last_read {
            return Ok(None);
        }
        // Until a read succeeds, every look reads: what hindered it need not show in the stamps.
        last_read = None;
        let renewed = read()?;
        last_read = stamps;
        Ok(Some(renewed))
    }));
    Ok(keep_up(what, pause, first, move |_| {
        let look = look.clone();
        // A file system that does not answer must not hold a thread of the runtime.
        let looked = spawn_blocking(move || {
            let mut look = look.lock().unwrap_or_else(PoisonError::into_inner);
            look()
        });
        async { looked.await.context("the files were not looked at")? }
    }))
}

/// Goes on from what was read `first`, for as long as somebody holds the receiver: runs `look` after
/// each `pause` with what is in use, and publishes what it returns; `None` means no change.
pub fn keep_up<T: Send + Sync + 'static, L>(
    what: &'static str,
    pause: Duration,
    first: T,
    mut look: impl FnMut(Arc<T>) -> L + Send + 'static,
) -> watch::Receiver<Arc<T>>
where
    L: Future<Output = anyhow::Result<Option<T>>> + Send,
{
    let (in_use, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        // A failure that repeats is logged once.
        let mut logged = None;
        while !in_use.is_closed() {
            sleep(pause).await;
            let before = in_use.borrow().clone();
            match look(before).await {
                Ok(renewed) => {
                    let failed_before = logged.take().is_some();
                    if let Some(renewed) = renewed {
                        in_use.send_replace(Arc::new(renewed));
                        tracing::info!(what, "read anew");
                    } else if failed_before {
                        tracing::info!(what, "can be read again; unchanged");
                    }
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    if logged.as_ref() != Some(&text) {
                        let error: &dyn std::error::Error = error.as_ref();
                        tracing::error!(
                            what,
                            error,
                            "cannot be read anew; what was read before stays in use, and reading is \
                             tried again"
                        );
                        logged = Some(text);
                    }
                }
            }
        }
    });
    receiver
}

/// What tells one content of a path from another without reading it. The path's symbolic links are
/// followed, so a link that leads elsewhere is a change.
#[derive(Debug, PartialEq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds. Whoever writes a file can set this time…
    modified: (i64, i64),
    /// … but not this one, which also changes with owner and mode.
    changed: (i64, i64),
}

impl FileStamp {
    fn of(file: &Path) -> io::Result<Self> {
        let file = fs::metadata(file)?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }

    /// `None` for a file that cannot be found.
    fn of_all(files: &[PathBuf]) -> Vec<Option<Self>> {
        files.iter().map(|file| Self::of(file).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, FileTimes},
        os::unix::fs::{PermissionsExt, symlink},
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        time::SystemTime,
    };

    use anyhow::{Context, ensure};
    use tokio::time::timeout;

    use super::*;

    /// The pause between looks in these tests.
    const PAUSE: Duration = Duration::from_millis(5);

    /// Far more than some looks take.
    const LONG: Duration = Duration::from_secs(30);

    fn number_in(file: &Path) -> anyhow::Result<u32> {
        fs::read_to_string(file)?.parse().context("not a number")
    }

    fn start(file: &Path) -> watch::Receiver<Arc<u32>> {
        let read = file.to_owned();
        read_every(PAUSE, "number", vec![file.to_owned()], move || number_in(&read)).unwrap()
    }

    async fn until_it_is(number: u32, receiver: &mut watch::Receiver<Arc<u32>>) {
        timeout(LONG, receiver.wait_for(|now| **now == number)).await.unwrap().unwrap();
    }

    /// Writes a file with a given modification time; later than `after` by its change time, whose
    /// clock advances every few milliseconds.
    fn write_at(file: &Path, text: &str, modified: SystemTime, after: Option<&Path>) {
        let changed = |file: &Path| FileStamp::of(file).unwrap().changed;
        let after = after.map(changed);
        for _ in 0..100_000 {
            fs::write(file, text).unwrap();
            let open = File::options().write(true).open(file).unwrap();
            open.set_times(FileTimes::new().set_modified(modified)).unwrap();
            if after.is_none_or(|after| changed(file) > after) {
                return;
            }
        }
        panic!("the clock of change times stands still");
    }

    fn modified(file: &Path) -> SystemTime {
        fs::metadata(file).unwrap().modified().unwrap()
    }

    #[tokio::test]
    async fn a_file_is_read_anew_and_one_that_makes_no_sense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        let reads = Arc::new(AtomicUsize::new(0));
        let read = {
            let (file, reads) = (file.clone(), reads.clone());
            move || {
                reads.fetch_add(1, Ordering::SeqCst);
                number_in(&file)
            }
        };
        let files = vec![file.clone()];
        assert!(read_every(PAUSE, "number", files.clone(), read.clone()).is_err(), "none yet");
        fs::write(&file, "1").unwrap();
        let mut receiver = read_every(PAUSE, "number", files, read).unwrap();
        assert_eq!(**receiver.borrow_and_update(), 1);
        fs::write(&file, "one").unwrap();
        // The first two reads were successful or before the file was there.
        let read_again = async {
            while reads.load(Ordering::SeqCst) < 5 {
                sleep(PAUSE).await;
            }
        };
        timeout(LONG, read_again).await.unwrap();
        assert_eq!(**receiver.borrow(), 1);
        fs::write(&file, "2").unwrap();
        until_it_is(2, &mut receiver).await;
    }

    #[tokio::test]
    async fn a_file_that_was_unreadable_is_read_when_it_can_be_although_nothing_about_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        fs::write(&file, "1").unwrap();
        let (is_readable, failed) =
            (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let read = {
            let (file, is_readable, failed) = (file.clone(), is_readable.clone(), failed.clone());
            move || {
                if !is_readable.load(Ordering::SeqCst) {
                    failed.fetch_add(1, Ordering::SeqCst);
                }
                ensure!(is_readable.load(Ordering::SeqCst), "permission denied");
                number_in(&file)
            }
        };
        let mut receiver = read_every(PAUSE, "number", vec![file.clone()], read).unwrap();
        is_readable.store(false, Ordering::SeqCst);
        fs::write(&file, "22").unwrap();
        let until_failed = async {
            while failed.load(Ordering::SeqCst) == 0 {
                sleep(PAUSE).await;
            }
        };
        timeout(LONG, until_failed).await.unwrap();
        assert_eq!(**receiver.borrow(), 1);
        is_readable.store(true, Ordering::SeqCst);
        until_it_is(22, &mut receiver).await;
    }

    #[tokio::test]
    async fn another_owner_or_mode_is_a_reason_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        fs::write(&file, "1").unwrap();
        let before = FileStamp::of(&file).unwrap();
        let mut receiver = start(&file);
        receiver.mark_unchanged();
        for mode in (0..100_000).map(|number| 0o600 + (number & 1) * 0o040) {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            if FileStamp::of(&file).unwrap() != before {
                break;
            }
        }
        timeout(LONG, receiver.changed()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_replacement_with_the_same_modification_time_and_size_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, aside) = (dir.path().join("number"), dir.path().join("aside"));
        fs::write(&file, "1").unwrap();
        let at = modified(&file);
        let mut receiver = start(&file);
        // In place, then by another file under the same name.
        write_at(&file, "2", at, Some(&file));
        until_it_is(2, &mut receiver).await;
        write_at(&aside, "3", at, None);
        fs::rename(&aside, &file).unwrap();
        until_it_is(3, &mut receiver).await;
        assert_eq!(modified(&file), at);
    }

    #[tokio::test]
    async fn a_link_that_leads_elsewhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        // As Kubernetes mounts a secret: number -> ..data/number, ..data -> ..1.
        for (version, text) in [("..1", "1"), ("..2", "2")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            write_at(&dir.path().join(version).join("number"), text, at, None);
        }
        let (data, file) = (dir.path().join("..data"), dir.path().join("number"));
        symlink("..1", &data).unwrap();
        symlink("..data/number", &file).unwrap();
        let mut receiver = start(&file);
        assert_eq!(**receiver.borrow(), 1);
        symlink("..2", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), &data).unwrap();
        fs::remove_dir_all(dir.path().join("..1")).unwrap();
        until_it_is(2, &mut receiver).await;
        // A link to a file instead of a directory.
        let other = dir.path().join("other");
        write_at(&other, "3", at, None);
        symlink(&other, dir.path().join("new")).unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        until_it_is(3, &mut receiver).await;
    }
}
