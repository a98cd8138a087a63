//! Signed notes and checkpoints: c2sp.org/signed-note, c2sp.org/tlog-checkpoint.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature, Signer};
use sha2::{Digest, Sha256};

use crate::tree::Hash;

/// The signature type of Ed25519 in key ids and verifier keys.
const ED25519: u8 = 1;

/// Signature lines that are looked at.
const MOST_SIGNATURES: usize = 16;

/// Why a text is no note, no checkpoint or no key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A name that a signature line cannot carry.
    #[error("a key name is not empty, and has no white space, no control character and no `+`")]
    Name,
    /// Not `name+keyid+key`.
    #[error("not a verifier key: <name>+<8 hex digits>+<base64 of 01 and an Ed25519 key>")]
    Key,
    /// Not the form of a signed checkpoint.
    #[error("not a signed checkpoint")]
    Malformed,
    /// The log is another one.
    #[error("the checkpoint is of another log")]
    OtherOrigin,
    /// No signature by the keys given.
    #[error("the checkpoint is signed by none of the keys")]
    NotSigned,
    /// A signature that bears a known key's name and id, and is not its.
    #[error("a signature of the checkpoint is false")]
    FalseSignature,
}

/// The name of a log, and of the keys that sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

impl FromStr for KeyName {
    type Err = NoteError;

    fn from_str(name: &str) -> Result<Self, NoteError> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.contains(bad) {
            return Err(NoteError::Name);
        }
        Ok(Self(name.to_owned()))
    }
}

impl KeyName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn key_id(&self, key: &[u8; 32]) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.0).chain_update([b'\n', ED25519]);
        let hash: Hash = hash.chain_update(key).finalize().into();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

/// Signs checkpoints. Wiped from memory when dropped; never shown.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// From the 32 secret bytes of Ed25519.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The key that checks what this one signs under a name.
    pub fn verifier(&self, name: &KeyName) -> VerifierKey {
        VerifierKey { name: name.clone(), key: self.0.verifying_key() }
    }

    /// The checkpoint as a note signed under the log's name.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.to_string();
        let mut signature = checkpoint.origin.key_id(&self.public()).to_vec();
        signature.extend(self.0.sign(text.as_bytes()).to_bytes());
        let name = checkpoint.origin.as_str();
        format!("{text}\n\u{2014} {name} {}\n", BASE64_STANDARD.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(hidden)")
    }
}

/// Checks signatures. Its text form is that of c2sp.org/signed-note and Go's `note`:
/// `<name>+<key id>+<base64>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// From a name and an Ed25519 public key.
    pub fn new(name: KeyName, public: &[u8; 32]) -> Result<Self, NoteError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| NoteError::Key)?;
        Ok(Self { name, key })
    }

    /// The log that it signs.
    pub fn name(&self) -> &KeyName {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.key.to_bytes();
        let id = u32::from_be_bytes(self.name.key_id(&public));
        let key = BASE64_STANDARD.encode([&[ED25519][..], &public].concat());
        write!(f, "{}+{id:08x}+{key}", self.name.as_str())
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| NoteError::Key)?;
        let Some((&ED25519, public)) = bytes.split_first() else { return Err(NoteError::Key) };
        let key = Self::new(name.parse()?, public.try_into().map_err(|_| NoteError::Key)?)?;
        let own = u32::from_be_bytes(key.name.key_id(&key.key.to_bytes()));
        if format!("{own:08x}") != id {
            return Err(NoteError::Key);
        }
        Ok(key)
    }
}

/// What a log is at a size. Its text form is the body of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: KeyName,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, root) = (self.origin.as_str(), BASE64_STANDARD.encode(self.root));
        writeln!(f, "{origin}\n{}\n{root}", self.size)
    }
}

impl Checkpoint {
    /// Reads a checkpoint's note without looking at who signed it.
    pub fn parse_unverified(note: &str) -> Result<Self, NoteError> {
        let (text, _) = split(note)?;
        let mut lines = text.lines();
        let mut line = || lines.next().ok_or(NoteError::Malformed);
        let (origin, size, root) = (line()?.parse()?, line()?, line()?);
        let root = BASE64_STANDARD.decode(root).map_err(|_| NoteError::Malformed)?;
        let root = root.try_into().map_err(|_| NoteError::Malformed)?;
        let number = size.parse::<u64>().map_err(|_| NoteError::Malformed)?;
        // No sign, no leading zero.
        if number.to_string() != size {
            return Err(NoteError::Malformed);
        }
        Ok(Self { origin, size: number, root })
    }

    /// Reads a note that one of `keys` has signed, for the log that they are the keys of. A false
    /// signature under a known key's name and id is an error whatever else the note bears.
    pub fn verify(note: &str, keys: &[VerifierKey]) -> Result<Self, NoteError> {
        let checkpoint = Self::parse_unverified(note)?;
        let mut signed = false;
        let (text, signatures) = split(note)?;
        for line in signatures.lines().take(MOST_SIGNATURES) {
            let (name, bytes) = signature(line)?;
            for key in keys.iter().filter(|key| key.name.as_str() == name) {
                let (id, bytes) = bytes.split_at_checked(4).ok_or(NoteError::Malformed)?;
                if id != key.name.key_id(&key.key.to_bytes()) {
                    continue;
                }
                let sound = Signature::from_slice(bytes)
                    .and_then(|signature| key.key.verify_strict(text.as_bytes(), &signature));
                sound.map_err(|_| NoteError::FalseSignature)?;
                signed = true;
            }
        }
        if !signed {
            return Err(NoteError::NotSigned);
        }
        if keys.iter().all(|key| key.name != checkpoint.origin) {
            return Err(NoteError::OtherOrigin);
        }
        Ok(checkpoint)
    }
}

/// The signed text with its last newline, and the signature lines.
fn split(note: &str) -> Result<(&str, &str), NoteError> {
    let at = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
    let (text, signatures) = (&note[..=at], &note[at + 2..]);
    let sound = signatures.ends_with('\n') && !note.contains(|c: char| c < ' ' && c != '\n');
    if sound { Ok((text, signatures)) } else { Err(NoteError::Malformed) }
}

/// Name and bytes of a signature line.
fn signature(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let rest = line.strip_prefix("\u{2014} ").ok_or(NoteError::Malformed)?;
    let (name, bytes) = rest.split_once(' ').ok_or(NoteError::Malformed)?;
    Ok((name, BASE64_STANDARD.decode(bytes).map_err(|_| NoteError::Malformed)?))
}
