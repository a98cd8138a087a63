//! The key that signs checkpoints, and the public keys that signed before it.
//!
//! Text form, in a file of mode 0600: `sign=<64 hex digits>` once, and `retired=<64 hex digits>`
//! for each former public key, newest first, separated by white space.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use frikort_proof::{KeyName, NoteError, SigningKey, VerifierKey};
use zeroize::Zeroizing;

/// The keys of the log.
pub struct SigningKeys {
    pub(crate) sign: SigningKey,
    retired: Vec<[u8; 32]>,
}

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeysError {
    /// The file cannot be read or written.
    #[error("the signing key in {0} cannot be read or written")]
    File(String, #[source] io::Error),
    /// Not of the documented form. The text is never shown.
    #[error("the signing key is malformed: sign=<64 hex digits> retired=<64 hex digits> …")]
    Malformed,
    /// No random numbers to be had.
    #[error("the system gave no random bytes")]
    NoRandom,
}

impl SigningKeys {
    /// From `file`; `create` makes it, mode 0600 and with a new key, if it is not there.
    pub fn load(file: &Path, create: bool) -> Result<Self, SigningKeysError> {
        let failed = |error| SigningKeysError::File(file.display().to_string(), error);
        if create && !file.exists() {
            let aside = write_aside(file, &new_text(&[])?).map_err(failed)?;
            // A link fails where a rename would replace the key that another process just made.
            match fs::hard_link(&aside, file) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
                _ => fs::remove_file(&aside).map_err(failed),
            }?;
        }
        Self::parse(&Zeroizing::new(fs::read_to_string(file).map_err(failed)?))
    }

    /// Puts a new key into `file`; the old one's public half stays in it, to check what it signed.
    /// Ledgers that run go on with the key that they have read.
    pub fn rotate(file: &Path) -> Result<(), SigningKeysError> {
        let failed = |error| SigningKeysError::File(file.display().to_string(), error);
        let old = Self::load(file, false)?;
        let retired = [&[old.sign.public()][..], &old.retired].concat();
        let aside = write_aside(file, &new_text(&retired)?).map_err(failed)?;
        fs::rename(aside, file).map_err(failed)
    }

    /// The keys that check what was signed under `name`: the present one first.
    pub(crate) fn verifiers(&self, name: &KeyName) -> Result<Vec<VerifierKey>, NoteError> {
        let retired = self.retired.iter().map(|public| VerifierKey::new(name.clone(), public));
        std::iter::once(Ok(self.sign.verifier(name))).chain(retired).collect()
    }

    fn parse(text: &str) -> Result<Self, SigningKeysError> {
        let (mut sign, mut retired) = (None, Vec::new());
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("sign", hex)) if sign.is_none() => sign = Some(SigningKey::new(&*unhex(hex)?)),
                Some(("retired", hex)) => retired.push(*unhex(hex)?),
                _ => return Err(SigningKeysError::Malformed),
            }
        }
        Ok(Self { sign: sign.ok_or(SigningKeysError::Malformed)?, retired })
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(hidden)")
    }
}

fn new_text(retired: &[[u8; 32]]) -> Result<Zeroizing<String>, SigningKeysError> {
    let mut random = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *random).map_err(|_| SigningKeysError::NoRandom)?;
    let mut text = Zeroizing::new(format!("sign={}\n", *hex(&random)));
    for public in retired {
        text.push_str(&format!("retired={}\n", *hex(public)));
    }
    Ok(text)
}

/// Writes a file beside `file`, mode 0600 and on disk, to be put in its place in one step.
pub(super) fn write_aside(file: &Path, text: &str) -> io::Result<std::path::PathBuf> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let aside = std::path::PathBuf::from(name);
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    Ok(aside)
}

fn hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unhex(hex: &str) -> Result<Zeroizing<[u8; 32]>, SigningKeysError> {
    let mut bytes = Zeroizing::new([0; 32]);
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SigningKeysError::Malformed);
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| SigningKeysError::Malformed)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| SigningKeysError::Malformed)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_rotation_what_was_signed_before_still_verifies() {
        let dir = std::env::temp_dir().join(format!("signing-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("signing.key");
        let name: KeyName = "a/frikort/partition/0".parse().unwrap();
        let old = SigningKeys::load(&file, true).unwrap();
        let same = SigningKeys::load(&file, true).unwrap();
        assert_eq!(old.sign.public(), same.sign.public(), "made once");
        SigningKeys::rotate(&file).unwrap();
        SigningKeys::rotate(&file).unwrap();
        let new = SigningKeys::load(&file, false).unwrap();
        assert_ne!(old.sign.public(), new.sign.public());
        let root = frikort_proof::empty_root();
        let checkpoint = frikort_proof::Checkpoint { origin: name.clone(), size: 0, root };
        let keys = new.verifiers(&name).unwrap();
        assert_eq!(keys.len(), 3);
        for signer in [&old.sign, &new.sign] {
            let note = signer.sign(&checkpoint);
            assert_eq!(frikort_proof::Checkpoint::verify(&note, &keys), Ok(checkpoint.clone()));
        }
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn malformed_keys_are_refused_without_being_shown() {
        let key = "ab".repeat(32);
        let twice = format!("sign={key} sign={key}");
        for text in ["", "sign=00", "sign", &format!("retired={key}"), &twice] {
            assert!(matches!(SigningKeys::parse(text), Err(SigningKeysError::Malformed)), "{text}");
        }
        let keys = SigningKeys::parse(&format!("sign={key}")).unwrap();
        assert_eq!(format!("{keys:?}"), "SigningKeys(hidden)");
    }
}
