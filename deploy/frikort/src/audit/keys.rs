//! Whose signatures count: keys that the auditor brings, or those that the server told, which are
//! only its word. What must stay out: what is signed.

use std::path::PathBuf;

use anyhow::{Context, bail};
use frikort_proof::{Checkpoint, NoteError, VerifierKey};

use super::files;

/// Keys on the command line.
#[derive(clap::Args, Debug)]
pub(super) struct Keys {
    /// A verifier key (name+id+key), or a file with one a line; repeat for several.
    #[arg(long = "key", value_name = "VKEY|FILE")]
    keys: Vec<String>,
}

impl Keys {
    /// The keys that were brought; none without the option.
    pub(super) fn read(&self) -> anyhow::Result<Vec<VerifierKey>> {
        let mut all = Vec::new();
        for key in &self.keys {
            if let Ok(key) = key.parse() {
                all.push(key);
                continue;
            }
            let path = PathBuf::from(key);
            let Some(text) = files::text(&path)? else {
                bail!("--key {key} is neither a verifier key nor a file");
            };
            all.extend(parse(&text).with_context(|| path.display().to_string())?);
        }
        Ok(all)
    }
}

/// Verifier keys, one a line.
pub(crate) fn parse(text: &str) -> Result<Vec<VerifierKey>, NoteError> {
    text.lines().filter(|line| !line.is_empty()).map(str::parse).collect()
}

/// Verifier keys as they are written, one a line.
pub(super) fn text(keys: &[VerifierKey]) -> String {
    keys.iter().map(|key| format!("{key}\n")).collect()
}

/// The partition that a log's name tells: `<operator>/frikort/partition/<N>`.
pub(super) fn partition(checkpoint: &Checkpoint) -> Option<i32> {
    let (_, number) = checkpoint.origin.as_str().rsplit_once("/frikort/partition/")?;
    let partition = number.parse().ok().filter(|partition| *partition >= 0)?;
    (i32::to_string(&partition) == number).then_some(partition)
}
