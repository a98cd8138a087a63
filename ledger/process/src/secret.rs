//! Files that hold keys: mode 0600, written whole or not at all, and keys as hexadecimal text in
//! them; settings that are never shown; and memory that is never dumped. What must stay out: what the
//! keys are for.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::Deserialize;
use zeroize::Zeroizing;

/// A setting that may hold a password, such as the database's URL: hidden where settings are shown,
/// wiped when dropped.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Keeps the memory of this process, with the keys in it, out of core dumps: one may have 0 bytes.
/// Called before any key is read.
pub fn without_core_dumps() -> io::Result<()> {
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(setrlimit(Resource::Core, nothing)?)
}

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// A new random key as 64 hexadecimal digits. Fails if the system gives no random bytes.
pub fn new_key() -> io::Result<Zeroizing<String>> {
    let mut random = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(&mut *random).map_err(io::Error::other)?;
    Ok(hex(&random))
}

/// A key as 64 hexadecimal digits.
pub fn hex(key: &[u8; KEY_BYTES]) -> Zeroizing<String> {
    Zeroizing::new(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The key of 64 hexadecimal digits; `None` of anything else.
pub fn unhex(hex: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if hex.len() != 2 * KEY_BYTES || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Makes `file`, unless it is there already: then it stays as it is.
pub fn create(file: &Path, text: &str) -> io::Result<()> {
    let aside = write_aside(file, text)?;
    // A link fails where a rename would replace what another process has just made.
    let linked = match fs::hard_link(&aside, file) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    fs::remove_file(&aside)?;
    linked?;
    sync_dir(file)
}

/// Puts `text` into `file` in one step; on disk when this returns. Whose the file is and who may read
/// it stays, since a service that could read it before has to when it starts again.
pub fn replace(file: &Path, text: &str) -> io::Result<()> {
    let aside = write_aside(file, text)?;
    if let Ok(old) = fs::metadata(file) {
        let new = fs::metadata(&aside)?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            chown(&aside, Some(old.uid()), Some(old.gid()))?;
        }
        fs::set_permissions(&aside, old.permissions())?;
    }
    fs::rename(aside, file)?;
    sync_dir(file)
}

/// Writes a file beside `file`, on disk, so that a half-written one is never taken for it.
fn write_aside(file: &Path, text: &str) -> io::Result<PathBuf> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let aside = PathBuf::from(name);
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    Ok(aside)
}

fn sync_dir(file: &Path) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_made_once_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        create(&file, "one").unwrap();
        create(&file, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        replace(&file, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&file, "three").unwrap();
        assert_eq!(mode(), 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("postgresql://somebody:password@db/frikort".to_owned());
        assert_eq!(
            format!("{secret:?} {:?}", Some(&secret)),
            "Secret(hidden) Some(Secret(hidden))"
        );
        assert!(secret.expose().contains("password"));
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_key() {
        let key = new_key().unwrap();
        assert_eq!(*hex(&unhex(&key).unwrap()), *key);
        for text in ["", "00", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert!(unhex(text).is_none(), "{text}");
        }
    }
}
