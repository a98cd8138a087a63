//! What is read from files, or asked for elsewhere, and read anew when it changes, without a restart.
//! What makes no sense then is logged, and what was read before is kept.
//!
//! What must stay out: what is in the files.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Reads `what` lies in the files, and goes on looking at them for as long as somebody holds what is
/// given. Fails if it makes no sense now.
pub fn read<T: Send + Sync + 'static>(
    what: &'static str,
    files: Vec<PathBuf>,
    mut read: impl FnMut() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<watch::Receiver<Arc<T>>> {
    // Before they are read: whoever writes meanwhile is seen later, and not missed.
    let mut before = stamps(&files);
    let first = read()?;
    Ok(keep_up(what, LOOK, first, move |_| {
        let stamps = stamps(&files);
        let changed = stamps != before;
        before = stamps;
        std::future::ready(changed.then(&mut read).transpose())
    }))
}

/// Goes on from what was read `first`, for as long as somebody holds what is given: `look`s again
/// after each `pause`, being told what there is now, and gives what is new, or nothing.
pub fn keep_up<T: Send + Sync + 'static, L>(
    what: &'static str,
    pause: Duration,
    first: T,
    mut look: impl FnMut(Arc<T>) -> L + Send + 'static,
) -> watch::Receiver<Arc<T>>
where
    L: Future<Output = anyhow::Result<Option<T>>> + Send,
{
    let (told, now) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        // What fails alike each time is said once.
        let mut said = None;
        while !told.is_closed() {
            sleep(pause).await;
            let before = told.borrow().clone();
            match look(before).await {
                Ok(renewed) => {
                    said = None;
                    if let Some(renewed) = renewed {
                        told.send_replace(Arc::new(renewed));
                        tracing::info!(what, "read anew");
                    }
                }
                Err(error) => {
                    let says = format!("{error:#}");
                    if said.as_ref() != Some(&says) {
                        let error: &dyn std::error::Error = error.as_ref();
                        tracing::error!(what, error, "what has changed makes no sense; kept");
                        said = Some(says);
                    }
                }
            }
        }
    });
    now
}

/// When each was last written, as far as it is there.
fn stamps(files: &[PathBuf]) -> Vec<Option<std::time::SystemTime>> {
    files.iter().map(|file| fs::metadata(file).and_then(|file| file.modified()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_anew_and_one_that_makes_no_sense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        let number = {
            let file = file.clone();
            move || fs::read_to_string(&file)?.parse::<u32>().context("no number")
        };
        assert!(read("number", vec![file.clone()], number.clone()).is_err(), "there is none yet");
        fs::write(&file, "1").unwrap();
        let mut now = read("number", vec![file.clone()], number).unwrap();
        assert_eq!(**now.borrow_and_update(), 1);
        fs::write(&file, "one").unwrap();
        assert!(timeout(3 * LOOK / 2, now.changed()).await.is_err());
        assert_eq!(**now.borrow(), 1);
        fs::write(&file, "2").unwrap();
        timeout(5 * LOOK, now.changed()).await.unwrap().unwrap();
        assert_eq!(**now.borrow(), 2);
    }
}
