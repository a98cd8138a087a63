//! The key that signs checkpoints, and the public keys that signed before it.
//!
//! Text form, in a file of mode 0600: `sign=<64 hex digits>` once, and `retired=<64 hex digits>`
//! for each former public key, newest first, separated by white space.

use std::{fmt, fs, io, path::Path};

use frikort_process::secret;
use frikort_proof::{KeyName, NoteError, SigningKey, VerifierKey};
use zeroize::Zeroizing;

/// The keys of the logs.
pub struct SigningKeys {
    pub(super) sign: SigningKey,
    retired: Vec<[u8; secret::KEY_BYTES]>,
}

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeysError {
    /// The file cannot be read or written.
    #[error("the signing key in {0} cannot be read or written")]
    File(String, #[source] io::Error),
    /// Not of the documented form. The text is never shown.
    #[error("the signing key in {0} is malformed: sign=<64 hex digits> retired=<64 hex digits> …")]
    Malformed(String),
    /// No random numbers to be had.
    #[error("the system gave no random bytes")]
    NoRandom(#[source] io::Error),
}

impl SigningKeys {
    /// From `file`; `create` makes it, mode 0600 and with a new key, if it is not there.
    pub fn load(file: &Path, create: bool) -> Result<Self, SigningKeysError> {
        let shown = || file.display().to_string();
        let failed = |error| SigningKeysError::File(shown(), error);
        if create && !file.exists() {
            secret::create(file, &new_text(&[])?).map_err(failed)?;
        }
        let text = Zeroizing::new(fs::read_to_string(file).map_err(failed)?);
        Self::parse(&text).ok_or_else(|| SigningKeysError::Malformed(shown()))
    }

    /// Puts a new key into `file`; the old one's public half stays in it, to check what it signed.
    /// Ledgers that run go on with the key that they have read.
    pub fn rotate(file: &Path) -> Result<(), SigningKeysError> {
        let old = Self::load(file, false)?;
        let retired = [&[old.sign.public()][..], &old.retired].concat();
        let replaced = secret::replace(file, &new_text(&retired)?);
        replaced.map_err(|error| SigningKeysError::File(file.display().to_string(), error))
    }

    /// The keys that check what was signed under `name`: the present one first.
    pub fn verifiers(&self, name: &KeyName) -> Result<Vec<VerifierKey>, NoteError> {
        let retired = self.retired.iter().map(|public| VerifierKey::new(name.clone(), public));
        std::iter::once(Ok(self.sign.verifier(name))).chain(retired).collect()
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut sign, mut retired) = (None, Vec::new());
        for word in text.split_ascii_whitespace() {
            match word.split_once('=')? {
                ("sign", hex) if sign.is_none() => {
                    sign = Some(SigningKey::new(&*secret::unhex(hex)?));
                }
                ("retired", hex) => retired.push(*secret::unhex(hex)?),
                _ => return None,
            }
        }
        Some(Self { sign: sign?, retired })
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(hidden)")
    }
}

fn new_text(retired: &[[u8; secret::KEY_BYTES]]) -> Result<Zeroizing<String>, SigningKeysError> {
    let key = secret::new_key().map_err(SigningKeysError::NoRandom)?;
    let mut text = Zeroizing::new(format!("sign={}\n", *key));
    for public in retired {
        text.push_str(&format!("retired={}\n", *secret::hex(public)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use frikort_proof::Checkpoint;

    use super::*;

    #[test]
    fn after_a_rotation_what_was_signed_before_still_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("signing.key");
        let name: KeyName = "a/frikort/partition/0".parse().unwrap();
        let old = SigningKeys::load(&file, true).unwrap();
        let same = SigningKeys::load(&file, true).unwrap();
        assert_eq!(old.sign.public(), same.sign.public(), "made once");
        SigningKeys::rotate(&file).unwrap();
        SigningKeys::rotate(&file).unwrap();
        let new = SigningKeys::load(&file, false).unwrap();
        assert_ne!(old.sign.public(), new.sign.public());
        let root = frikort_proof::empty_root();
        let checkpoint = Checkpoint { origin: name.clone(), size: 0, root };
        let keys = new.verifiers(&name).unwrap();
        assert_eq!(keys.len(), 3);
        for signer in [&old.sign, &new.sign] {
            let note = signer.sign(&checkpoint);
            assert_eq!(Checkpoint::verify(&note, &keys), Ok(checkpoint.clone()));
        }
    }

    #[test]
    fn malformed_keys_are_refused_without_being_shown() {
        let key = "ab".repeat(32);
        let twice = format!("sign={key} sign={key}");
        for text in ["", "sign=00", "sign", &format!("retired={key}"), &twice] {
            assert!(SigningKeys::parse(text).is_none(), "{text}");
        }
        let keys = SigningKeys::parse(&format!("sign={key}")).unwrap();
        assert_eq!(format!("{keys:?}"), "SigningKeys(hidden)");
    }
}
