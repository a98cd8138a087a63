//! What is read from files and read anew when they change, without a restart. What makes no sense
//! then is logged, and what was read before is kept.
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
    let (told, now) = watch::channel(Arc::new(read()?));
    tokio::spawn(async move {
        while !told.is_closed() {
            sleep(LOOK).await;
            let stamps = stamps(&files);
            if stamps == before {
                continue;
            }
            before = stamps;
            match read() {
                Ok(renewed) => {
                    told.send_replace(Arc::new(renewed));
                    tracing::info!(what, "read anew");
                }
                Err(error) => {
                    let error: &dyn std::error::Error = error.as_ref();
                    tracing::error!(what, error, "what has changed makes no sense; kept");
                }
            }
        }
    });
    Ok(now)
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
