//! The register's keys, and the only random numbers of the project.
//!
//! Three kinds. `find` finds persons by CPR number and `seal` seals the number, each by itself so
//! that a process that only looks up (the projector) need not hold the one that unseals; both can be
//! rotated, so there may be several: new rows are entered under the first, and those under the others
//! are found and unsealed too. `tag` makes what stands in events for ever, and so is never another.
//!
//! What must stay out: where the keys come from (`source.rs`), and how they are rotated (`text.rs`,
//! `retag.rs`).

use std::fmt;

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use frikort_domain::{Cpr, FrikortId, FrikortTag, NumberTag};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    CprTag, KeysError,
    text::{Key, KeysText},
};

type HmacSha256 = Hmac<Sha256>;

/// All keys, as loaded.
#[derive(PartialEq, Eq)]
pub struct Keys {
    /// Never empty; new rows are entered under the first.
    pub(crate) find: Vec<FindKey>,
    /// Empty where the process only looks up; new rows are sealed under the first.
    pub(crate) seal: Vec<SealKey>,
    pub(crate) tag: TagKey,
}

impl Keys {
    /// From the text that they are kept in: `find=`, `seal=` and `tag=`, each with 64 hexadecimal
    /// digits, separated by white space. Where there is one `find=` and no `tag=`, it is that.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        KeysText::parse(text)?.keys()
    }

    pub(crate) fn of(text: &KeysText, tag: &Key) -> Self {
        Self {
            find: text.find.iter().map(FindKey::new).collect(),
            seal: text.seal.iter().map(SealKey::new).collect(),
            tag: TagKey::new(tag),
        }
    }

    /// The key that new rows are entered under.
    pub(crate) fn entering(&self) -> &FindKey {
        &self.find[0]
    }

    /// The key that new rows are sealed under.
    pub(crate) fn sealing(&self) -> Option<&SealKey> {
        self.seal.first()
    }

    /// What a CPR number may be found by, first what it is entered under.
    pub(crate) fn cpr_tags(&self, cpr: &Cpr) -> Vec<CprTag> {
        self.find.iter().map(|find| find.cpr_tag(cpr)).collect()
    }

    /// The CPR number in a sealed value; `None` when it was sealed under none of the keys, or for
    /// another person.
    pub(crate) fn unseal(&self, sealed: &[u8], person_id: Uuid) -> Option<Cpr> {
        self.seal.iter().find_map(|seal| seal.unseal(sealed, person_id))
    }

    /// Fingerprints of the keys that find, first the one that new rows are entered under.
    pub fn finding(&self) -> String {
        shown(self.find.iter().map(|find| &find.id))
    }

    /// Fingerprints of the keys that unseal, first the one that seals; empty without any.
    pub fn unsealing(&self) -> String {
        shown(self.seal.iter().map(|seal| &seal.id))
    }

    /// The fingerprint of the key of what stands in events.
    pub fn tagging(&self) -> String {
        self.tag.id.to_string()
    }
}

fn shown<'a>(ids: impl Iterator<Item = &'a KeyId>) -> String {
    ids.map(KeyId::to_string).collect::<Vec<_>>().join(" ")
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

/// Which key it is: a hash under the key, of what nothing else is a hash of. Shown, it is a
/// fingerprint of eight hexadecimal digits; that tells nothing of a key that is random.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyId([u8; 32]);

impl KeyId {
    pub(crate) fn of(key: &Key) -> Self {
        Self(tag(&mac(key), &[b"fingerprint\0"]))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn mac(key: &Key) -> HmacSha256 {
    <HmacSha256 as Mac>::new_from_slice(&key[..]).expect("HMAC takes a key of any length")
}

fn tag(mac: &HmacSha256, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = mac.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Finds persons by CPR number.
pub(crate) struct FindKey {
    mac: HmacSha256,
    id: KeyId,
}

impl FindKey {
    fn new(key: &Key) -> Self {
        Self { mac: mac(key), id: KeyId::of(key) }
    }

    /// What a CPR number is found by.
    pub(crate) fn cpr_tag(&self, cpr: &Cpr) -> CprTag {
        tag(&self.mac, &[b"cpr\0", cpr.expose_digits().as_bytes()])
    }
}

impl PartialEq for FindKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for FindKey {}

/// Makes what stands in events in the place of a number, and tokens of plans: what is held against
/// something made long ago, and cannot be made anew.
pub struct TagKey {
    mac: HmacSha256,
    id: KeyId,
}

impl TagKey {
    /// From its bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        let key = Zeroizing::new(*key);
        Self { mac: mac(&key), id: KeyId::of(&key) }
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
        let mut mac = self.mac.clone();
        mac.update(b"text\0");
        TextTag(mac)
    }

    fn short_tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut short = [0; 16];
        short.copy_from_slice(&tag(&self.mac, parts)[..16]);
        short
    }
}

impl PartialEq for TagKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for TagKey {}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey(hidden)")
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

/// Seals and unseals CPR numbers.
pub(crate) struct SealKey {
    cipher: Aes256Gcm,
    id: KeyId,
}

impl SealKey {
    fn new(key: &Key) -> Self {
        Self { cipher: Aes256Gcm::new((&**key).into()), id: KeyId::of(key) }
    }

    /// `nonce ‖ ciphertext`, bound to the person so that rows cannot be exchanged.
    pub(crate) fn seal(&self, cpr: &Cpr, nonce: [u8; 12], person_id: Uuid) -> Vec<u8> {
        let plain = Payload { msg: cpr.expose_digits().as_bytes(), aad: person_id.as_bytes() };
        let sealed = self.cipher.encrypt(Nonce::from_slice(&nonce), plain);
        let mut out = nonce.to_vec();
        out.extend(sealed.expect("ten bytes are within the cipher's limit"));
        out
    }

    /// The CPR number in a sealed value; `None` when it was sealed under another key or for
    /// another person.
    pub(crate) fn unseal(&self, sealed: &[u8], person_id: Uuid) -> Option<Cpr> {
        let (nonce, sealed) = sealed.split_at_checked(12)?;
        let payload = Payload { msg: sealed, aad: person_id.as_bytes() };
        let plain = Zeroizing::new(self.cipher.decrypt(Nonce::from_slice(nonce), payload).ok()?);
        std::str::from_utf8(&plain).ok()?.parse().ok()
    }
}

impl PartialEq for SealKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for SealKey {}

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

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ab";
    const B: &str = "cd";
    const C: &str = "ef";

    /// Keys of bytes that are all alike, in the order given.
    fn keys(words: &[(&str, &str)]) -> Keys {
        let words: Vec<_> =
            words.iter().map(|(kind, byte)| format!("{kind}={}", byte.repeat(32))).collect();
        Keys::parse(&words.join("\n")).unwrap()
    }

    fn cpr() -> Cpr {
        "0101605001".parse().unwrap()
    }

    #[test]
    fn a_sealed_number_opens_only_for_its_person_and_key() {
        let (old, cpr) = (keys(&[("find", A), ("seal", B)]), cpr());
        let (one, other) = (newcomer(), newcomer());
        let sealed = old.sealing().unwrap().seal(&cpr, one.nonce, one.id);
        assert_eq!(old.unseal(&sealed, one.id), Some(cpr.clone()));
        assert_eq!(old.unseal(&sealed, other.id), None);
        assert!(!sealed.windows(10).any(|window| window == b"0101605001"));
        let both = keys(&[("find", A), ("seal", C), ("seal", B)]);
        assert_eq!(both.unseal(&sealed, one.id), Some(cpr));
        let new = keys(&[("find", A), ("seal", C)]);
        assert_eq!(new.unseal(&sealed, one.id), None);
        assert_eq!(keys(&[("find", A)]).unseal(&sealed, one.id), None);
    }

    #[test]
    fn a_number_is_entered_under_the_first_key_and_found_by_all() {
        let old = keys(&[("find", A)]);
        let both = keys(&[("find", B), ("find", A), ("tag", A)]);
        let new = keys(&[("find", B), ("tag", A)]);
        let tags = both.cpr_tags(&cpr());
        assert_eq!(tags, [new.entering().cpr_tag(&cpr()), old.entering().cpr_tag(&cpr())]);
        assert_ne!(tags[0], tags[1]);
    }

    #[test]
    fn what_stands_in_events_is_the_same_through_a_rotation() {
        let (salt, id) = ([1; 16], "12345".parse::<FrikortId>().unwrap());
        let old = keys(&[("find", A)]);
        for keys in [
            keys(&[("find", A), ("find", B), ("tag", A)]),
            keys(&[("tag", A), ("find", B), ("find", A)]),
            keys(&[("find", B), ("tag", A)]),
        ] {
            assert_eq!(keys.tag.frikort_tag(&salt, id), old.tag.frikort_tag(&salt, id));
            assert_eq!(keys.tag.number_tag(&salt, &cpr()), old.tag.number_tag(&salt, &cpr()));
            assert_eq!(keys.tag.text_tag().finish(), old.tag.text_tag().finish());
            assert_eq!(keys.tagging(), old.finding());
        }
    }

    #[test]
    fn a_frikort_id_has_another_tag_for_each_person() {
        let (keys, id) = (keys(&[("find", A)]), "12345".parse::<FrikortId>().unwrap());
        assert_eq!(keys.tag.frikort_tag(&[1; 16], id), keys.tag.frikort_tag(&[1; 16], id));
        assert_ne!(keys.tag.frikort_tag(&[1; 16], id), keys.tag.frikort_tag(&[2; 16], id));
    }

    #[test]
    fn keys_are_told_apart_by_what_shows_none() {
        let both = keys(&[("find", A), ("find", B), ("seal", C), ("tag", A)]);
        let found = both.finding();
        let (one, two) = found.split_once(' ').unwrap();
        assert!(one != two && one.len() == 8 && both.tagging() == one, "{found}");
        assert!(!found.contains("abab") && both.unsealing() != one);
        assert_eq!(keys(&[("find", A)]).unsealing(), "");
        assert!(both == keys(&[("find", A), ("find", B), ("seal", C), ("tag", A)]));
        for other in [
            keys(&[("find", B), ("find", A), ("seal", C), ("tag", A)]),
            keys(&[("find", A), ("find", B), ("seal", C), ("tag", B)]),
            keys(&[("find", A), ("find", B), ("seal", B), ("tag", A)]),
        ] {
            assert!(both != other);
        }
        assert_eq!(format!("{both:?}"), "Keys(hidden)");
    }
}
