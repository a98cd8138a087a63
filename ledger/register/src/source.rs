//! Where the register's keys come from, and that they are read anew while a service runs.
//!
//! A file, the environment, or a command that asks a key management service. A text that makes no
//! sense, a command that fails, and a text with another `tag=` change nothing: what was loaded goes on
//! being used, and the log says so. Which keys are in use is logged by their fingerprints.
//!
//! What must stay out: what a command prints, in a log, an error or anything else that is shown.

use std::{
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use frikort_process::{renewed, secret::Secret};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    sync::watch,
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{Keys, text::KeysText};

/// The environment's variable with the text of the keys.
const VARIABLE: &str = "FRIKORT_KEYS";

/// How often a file is looked at, and how often a command is asked.
const LOOK: Duration = Duration::from_secs(2);
const ASK: Duration = Duration::from_secs(10);

/// What a command may take, and print.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST: usize = 16 * 1024;

/// Why there are no keys, or not those that were asked for.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Neither file nor command nor environment.
    #[error(
        "no register keys: --keys-file or --keys-command names them, or FRIKORT_KEYS holds them"
    )]
    None,
    /// The file cannot be read or written.
    #[error("the register keys in {0} cannot be read or written")]
    File(String, #[source] io::Error),
    /// The command cannot be run, or its output not be read.
    #[error("the command for the register keys cannot be run")]
    Command(#[source] io::Error),
    /// It says itself that it failed. What it printed is not shown.
    #[error("the command for the register keys failed ({0}); run by hand, it says why")]
    Failed(ExitStatus),
    /// It did not end in time.
    #[error("the command for the register keys did not end within {} seconds", PATIENCE.as_secs())]
    Slow,
    /// It prints more than keys.
    #[error("the command for the register keys printed more than {MOST} bytes")]
    TooMuch,
    /// Not of the documented form. The text is never shown.
    #[error(
        "the register keys are malformed: find=<64 hex digits> seal=<64 hex digits> \
         tag=<64 hex digits>, each find and seal once, up to four of them, and one tag"
    )]
    Malformed,
    /// Several keys that find, and nobody can tell which one is in events.
    #[error(
        "several find= of the register keys, and no tag=: it is the find= that was there alone, and \
         is never changed"
    )]
    NoTag,
    /// The key of what stands in events is another than it was.
    #[error("the register keys have another tag= than before: what is in events is of the old one")]
    OtherTag,
    /// The process has to seal.
    #[error("the register keys have no seal=, which the ledger needs")]
    NoSeal,
    /// A rotation was begun and not ended.
    #[error("there are two keys already: a rotation is under way, and ends with `drop`")]
    UnderWay,
    /// As many keys that find as keys that seal are changed together.
    #[error("as many seal= as find= are needed here")]
    Unpaired,
    /// No such key.
    #[error("no find key has that fingerprint: `show` prints them")]
    Unknown,
    /// New rows are entered under it.
    #[error("that key is the first, under which new rows are entered: `use` another one before")]
    First,
    /// No random numbers to be had.
    #[error("the system gave no random bytes")]
    NoRandom(#[source] io::Error),
}

/// Where the keys come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// `FRIKORT_KEYS`, which nobody can change while a process runs.
    Environment(Secret),
    /// What a command prints, as the shell runs it.
    Command(Secret),
    /// A file.
    File(PathBuf),
}

impl Source {
    /// The environment where it has keys, else the command, else the file.
    pub fn choose(command: Option<Secret>, file: Option<PathBuf>) -> Result<Self, KeysError> {
        match (std::env::var(VARIABLE), command, file) {
            (Ok(text), ..) => Ok(Self::Environment(text.into())),
            (_, Some(command), _) => Ok(Self::Command(command)),
            (_, _, Some(file)) => Ok(Self::File(file)),
            _ => Err(KeysError::None),
        }
    }

    /// Makes the file, mode 0600 and with new keys, if that is where they come from and it is not
    /// there.
    pub fn create(&self) -> Result<(), KeysError> {
        match self {
            Self::File(file) if !file.exists() => KeysText::create(file),
            _ => Ok(()),
        }
    }

    /// The keys as they are now.
    pub async fn read(&self) -> Result<Keys, KeysError> {
        match self {
            Self::Environment(text) => Keys::parse(text.expose()),
            Self::Command(command) => Keys::parse(&printed(command.expose()).await?),
            Self::File(file) => KeysText::read(file)?.keys(),
        }
    }

    /// The same, as a process needs them: where it `seals`, such that it can; where it does not,
    /// without those that would.
    pub async fn read_for(&self, seals: bool) -> Result<Keys, KeysError> {
        let mut keys = self.read().await?;
        if !seals {
            keys.seal.clear();
        } else if keys.seal.is_empty() {
            return Err(KeysError::NoSeal);
        }
        Ok(keys)
    }

    /// The same, read anew for as long as somebody holds what is given.
    pub async fn start(self, seals: bool) -> Result<InUse, KeysError> {
        let first = self.read_for(seals).await?;
        told(&first);
        let pause = match &self {
            Self::Environment(_) => return Ok(first.into()),
            Self::Command(_) => ASK,
            Self::File(_) => LOOK,
        };
        let source = Arc::new(self);
        let look = move |now: Arc<Keys>| {
            let source = source.clone();
            async move {
                let keys = source.read_for(seals).await?;
                if keys.tag != now.tag {
                    return Err(KeysError::OtherTag.into());
                }
                let is_new = keys != *now;
                if is_new {
                    told(&keys);
                }
                Ok(is_new.then_some(keys))
            }
        };
        Ok(InUse(renewed::keep_up("the register's keys", pause, first, look)))
    }
}

/// Tells the operator which keys a process has now.
fn told(keys: &Keys) {
    let (find, seal, tag) = (keys.finding(), keys.unsealing(), keys.tagging());
    tracing::info!(find, seal, tag, "the register's keys in use, by fingerprint");
}

/// The keys that a process uses now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InUse(watch::Receiver<Arc<Keys>>);

impl InUse {
    /// The keys, which stay the same for whoever holds them.
    pub(crate) fn now(&self) -> Arc<Keys> {
        self.0.borrow().clone()
    }
}

/// Keys that stay.
impl From<Keys> for InUse {
    fn from(keys: Keys) -> Self {
        Self(watch::channel(Arc::new(keys)).1)
    }
}

/// What a command prints, within its bounds.
async fn printed(command: &str) -> Result<Zeroizing<String>, KeysError> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It may print a key there too, and ours is the log.
        .stderr(Stdio::null())
        // So that what it has started ends with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(KeysError::Command)?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let result = timeout(PATIENCE, output(&mut child)).await.unwrap_or(Err(KeysError::Slow));
    if let (Err(_), Some(group)) = (&result, group) {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
    result
}

async fn output(child: &mut Child) -> Result<Zeroizing<String>, KeysError> {
    let mut text = Zeroizing::new(Vec::with_capacity(2 * MOST));
    let stdout = child.stdout.take().ok_or(KeysError::Malformed)?;
    let bound = u64::try_from(MOST + 1).unwrap_or(u64::MAX);
    stdout.take(bound).read_to_end(&mut text).await.map_err(KeysError::Command)?;
    if text.len() > MOST {
        return Err(KeysError::TooMuch);
    }
    let status = child.wait().await.map_err(KeysError::Command)?;
    if !status.success() {
        return Err(KeysError::Failed(status));
    }
    let text = std::str::from_utf8(&text).map_err(|_| KeysError::Malformed)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    const FIND: &str = "abababababababababababababababababababababababababababababababab";

    async fn by(command: &str) -> Result<Keys, KeysError> {
        Source::Command(command.to_owned().into()).read().await
    }

    #[tokio::test]
    async fn a_command_prints_the_keys() {
        let keys = by(&format!("echo find={FIND} && echo seal={FIND}")).await.unwrap();
        assert_eq!(keys.finding(), keys.unsealing());
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told_without_what_it_printed() {
        for command in [
            format!("echo find={FIND}; echo {FIND} >&2; exit 3"),
            format!("echo {FIND}"),
            format!("yes {FIND}"),
            "printf '\\377'".to_owned(),
            "/nowhere/keys".to_owned(),
        ] {
            let error = by(&command).await.err().unwrap();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("abab") && !said.contains("nowhere"), "{said}");
        }
        let failed = by("exit 3").await.err().unwrap();
        assert!(failed.to_string().contains("exit status: 3"), "{failed}");
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let id = dir.path().join("id");
        let command = format!("sleep 1000 & echo $! >{}; wait", id.display());
        assert!(matches!(by(&command).await, Err(KeysError::Slow)));
        let child = fs::read_to_string(&id).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        let until = Instant::now() + PATIENCE;
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < until, "it runs on");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_process_has_what_it_needs_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let source = || Source::File(file.clone());
        fs::write(&file, format!("find={FIND}")).unwrap();
        assert!(matches!(source().start(true).await, Err(KeysError::NoSeal)));
        fs::write(&file, format!("find={FIND} seal={FIND}")).unwrap();
        assert!(source().start(true).await.unwrap().now().sealing().is_some());
        assert!(source().start(false).await.unwrap().now().sealing().is_none());
    }

    #[tokio::test]
    async fn what_changes_is_read_anew_and_what_makes_no_sense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        fs::write(&file, format!("find={FIND}")).unwrap();
        let InUse(mut now) = Source::File(file.clone()).start(false).await.unwrap();
        let before = now.borrow_and_update().finding();
        let other = "cd".repeat(32);
        for bad in
            ["find=".to_owned(), format!("find={other}"), format!("find={FIND} find={other}")]
        {
            fs::write(&file, bad).unwrap();
            assert!(timeout(3 * LOOK / 2, now.changed()).await.is_err());
            assert_eq!(now.borrow().finding(), before);
        }
        fs::write(&file, format!("find={other} find={FIND} tag={FIND}")).unwrap();
        timeout(5 * LOOK, now.changed()).await.unwrap().unwrap();
        assert!(now.borrow().finding().ends_with(&format!(" {before}")));
    }
}
