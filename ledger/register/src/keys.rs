//! The register's keys, and the only random numbers of the project.
//!
//! Two keys, so that a process that only looks up (the projector) need not hold the one that
//! unseals. Text form, in a file of mode 0600 or in `FRIKORT_KEYS`: `find=<64 hex digits>` and
//! `seal=<64 hex digits>`, separated by white space.

use std::{fmt, fs, io, path::Path};

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use frikort_domain::{Cpr, FrikortId, FrikortTag, NumberTag};
use frikort_process::secret::{self, KEY_BYTES};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

type HmacSha256 = Hmac<Sha256>;

/// Both keys, as loaded.
pub struct Keys {
    /// Finds persons and Frikort-IDs.
    pub find: FindKey,
    /// Seals CPR numbers; absent where the process only looks up.
    pub seal: Option<SealKey>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Neither file nor environment.
    #[error("no register keys: name a file with --keys-file, or set FRIKORT_KEYS")]
    None,
    /// The file cannot be read or written.
    #[error("the register keys in {0} cannot be read")]
    File(String, #[source] io::Error),
    /// Not of the documented form. The text is never shown.
    #[error("the register keys are malformed: find=<64 hex digits> seal=<64 hex digits>")]
    Malformed,
    /// No random numbers to be had.
    #[error("the system gave no random bytes")]
    NoRandom(#[source] io::Error),
}

impl Keys {
    /// From `FRIKORT_KEYS`, else from `file`; `create` makes the file, mode 0600, if it is not
    /// there.
    pub fn load(file: Option<&Path>, create: bool) -> Result<Self, KeysError> {
        if let Ok(text) = std::env::var("FRIKORT_KEYS") {
            return Self::parse(&Zeroizing::new(text));
        }
        let file = file.ok_or(KeysError::None)?;
        let failed = |error| KeysError::File(file.display().to_string(), error);
        if create && !file.exists() {
            create_file(file)?;
        }
        Self::parse(&Zeroizing::new(fs::read_to_string(file).map_err(failed)?))
    }

    /// From the text of the file, or of `FRIKORT_KEYS`.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let (mut find, mut seal) = (None, None);
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("find", hex)) => find = Some(FindKey::new(&*unhex(hex)?)),
                Some(("seal", hex)) => seal = Some(SealKey::new(&*unhex(hex)?)),
                _ => return Err(KeysError::Malformed),
            }
        }
        Ok(Self { find: find.ok_or(KeysError::Malformed)?, seal })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

/// Finds persons and Frikort-IDs.
#[derive(Clone)]
pub struct FindKey(HmacSha256);

impl FindKey {
    /// From its bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(<HmacSha256 as Mac>::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// What a CPR number is found by.
    pub(crate) fn cpr_tag(&self, cpr: &Cpr) -> [u8; 32] {
        self.tag(&[b"cpr\0", cpr.expose_digits().as_bytes()])
    }

    /// What a Frikort-ID is compared by, within the person whose salt it is.
    pub(crate) fn frikort_tag(&self, salt: &[u8; 16], id: FrikortId) -> FrikortTag {
        FrikortTag(self.short_tag(&[b"frikort\0", salt, id.to_string().as_bytes()]))
    }

    /// What a new CPR number is compared by in events, within the person whose salt it is.
    pub(crate) fn number_tag(&self, salt: &[u8; 16], cpr: &Cpr) -> NumberTag {
        NumberTag(self.short_tag(&[b"number\0", salt, cpr.expose_digits().as_bytes()]))
    }

    /// Begins the tag of a text of any length, which nobody can make without the key.
    pub fn text_tag(&self) -> TextTag {
        let mut mac = self.0.clone();
        mac.update(b"text\0");
        TextTag(mac)
    }

    fn short_tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut short = [0; 16];
        short.copy_from_slice(&self.tag(parts)[..16]);
        short
    }

    fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

/// A keyed hash that is being made: what a text is recognized by without being kept, and without
/// a CPR number in it being found by trying them all.
pub struct TextTag(HmacSha256);

impl TextTag {
    /// Takes in the next piece. Where one ends and the next begins is not part of the tag.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The tag of all of it.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

impl fmt::Debug for TextTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TextTag(hidden)")
    }
}

impl fmt::Debug for FindKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FindKey(hidden)")
    }
}

/// Seals and unseals CPR numbers.
#[derive(Clone)]
pub struct SealKey(Aes256Gcm);

impl SealKey {
    fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// `nonce ‖ ciphertext`, bound to the person so that rows cannot be exchanged.
    pub(crate) fn seal(&self, cpr: &Cpr, nonce: [u8; 12], person_id: Uuid) -> Vec<u8> {
        let plain = Payload { msg: cpr.expose_digits().as_bytes(), aad: person_id.as_bytes() };
        let sealed = self.0.encrypt(Nonce::from_slice(&nonce), plain);
        let mut out = nonce.to_vec();
        out.extend(sealed.expect("ten bytes are within the cipher's limit"));
        out
    }

    /// The CPR number in a sealed value; `None` when it was sealed under another key or for
    /// another person.
    pub fn unseal(&self, sealed: &[u8], person_id: Uuid) -> Option<Cpr> {
        let (nonce, sealed) = sealed.split_at_checked(12)?;
        let payload = Payload { msg: sealed, aad: person_id.as_bytes() };
        let plain = Zeroizing::new(self.0.decrypt(Nonce::from_slice(nonce), payload).ok()?);
        std::str::from_utf8(&plain).ok()?.parse().ok()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(hidden)")
    }
}

/// What is random about a new person.
pub(crate) struct Newcomer {
    pub(crate) id: Uuid,
    pub(crate) salt: [u8; 16],
    pub(crate) nonce: [u8; 12],
}

pub(crate) fn newcomer() -> Newcomer {
    Newcomer { id: random(), salt: random().into_bytes(), nonce: nonce() }
}

/// Twelve random bytes, never the same again.
pub(crate) fn nonce() -> [u8; 12] {
    // Six fixed bits of a v4 UUID lie in bytes 6 and 8: the other bytes are all random.
    let random = random().into_bytes();
    let mut short = [0; 12];
    short[..6].copy_from_slice(&random[..6]);
    short[6..].copy_from_slice(&random[10..]);
    short
}

/// A random id.
pub(crate) fn random() -> Uuid {
    #[expect(clippy::disallowed_methods, reason = "the one place where random ids are born")]
    Uuid::new_v4()
}

fn create_file(file: &Path) -> Result<(), KeysError> {
    let key = || secret::new_key().map_err(KeysError::NoRandom);
    let text = Zeroizing::new(format!("find={}\nseal={}\n", *key()?, *key()?));
    secret::create(file, &text).map_err(|e| KeysError::File(file.display().to_string(), e))
}

fn unhex(hex: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeysError> {
    secret::unhex(hex).ok_or(KeysError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::parse(&format!("find={} seal={}", "ab".repeat(32), "cd".repeat(32))).unwrap()
    }

    #[test]
    fn a_sealed_number_opens_only_for_its_person_and_key() {
        let (keys, cpr) = (keys(), "0101605001".parse::<Cpr>().unwrap());
        let (one, other) = (newcomer(), newcomer());
        let seal = keys.seal.unwrap();
        let sealed = seal.seal(&cpr, one.nonce, one.id);
        assert_eq!(seal.unseal(&sealed, one.id), Some(cpr));
        assert_eq!(seal.unseal(&sealed, other.id), None);
        assert_eq!(SealKey::new(&[7; 32]).unseal(&sealed, one.id), None);
        assert!(!sealed.windows(10).any(|window| window == b"0101605001"));
    }

    #[test]
    fn a_frikort_id_has_another_tag_for_each_person() {
        let (keys, id) = (keys(), "12345".parse::<FrikortId>().unwrap());
        assert_eq!(keys.find.frikort_tag(&[1; 16], id), keys.find.frikort_tag(&[1; 16], id));
        assert_ne!(keys.find.frikort_tag(&[1; 16], id), keys.find.frikort_tag(&[2; 16], id));
    }

    #[test]
    fn malformed_keys_are_refused_without_being_shown() {
        for text in ["", "seal=00", "find=zz", "find", &format!("find={}", "é".repeat(32))] {
            assert!(matches!(Keys::parse(text), Err(KeysError::Malformed)), "{text}");
        }
        assert_eq!(format!("{:?}", keys()), "Keys(hidden)");
    }
}
