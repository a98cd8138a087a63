//! The text that the register's keys are kept in, and the steps of a rotation as changes of it.
//!
//! `find=<64 hex digits>`, `seal=<64 hex digits>` and `tag=<64 hex digits>`, separated by white
//! space. Steps are for files that are ours; whoever keeps the text elsewhere takes the same by hand.
//!
//! What must stay out: the rows of the register; whether a step may be taken by them is for the caller.

use std::{fs, io, path::Path};

use frikort_process::secret::{self, KEY_BYTES};
use zeroize::Zeroizing;

use crate::{Keys, KeysError, keys::KeyId};

/// The bytes of a key.
pub(crate) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// Keys of a kind that there may be: two while they are rotated, and room for a mishap. Each one more
/// is a hash more for everybody who is looked up.
const MOST: usize = 4;

/// The keys as they are written.
pub struct KeysText {
    pub(crate) find: Vec<Key>,
    pub(crate) seal: Vec<Key>,
    tag: Option<Key>,
}

impl KeysText {
    /// Reads it. The error shows nothing of the text.
    pub(crate) fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys = Self { find: Vec::new(), seal: Vec::new(), tag: None };
        for word in text.split_ascii_whitespace() {
            let (kind, hex) = word.split_once('=').ok_or(KeysError::Malformed)?;
            let key = secret::unhex(hex).ok_or(KeysError::Malformed)?;
            let several = match kind {
                "find" => &mut keys.find,
                "seal" => &mut keys.seal,
                "tag" if keys.tag.is_none() => {
                    keys.tag = Some(key);
                    continue;
                }
                _ => return Err(KeysError::Malformed),
            };
            if several.contains(&key) || several.len() == MOST {
                return Err(KeysError::Malformed);
            }
            several.push(key);
        }
        keys.tag()?;
        Ok(keys)
    }

    /// From a file.
    pub fn read(file: &Path) -> Result<Self, KeysError> {
        let text = fs::read_to_string(file).map(Zeroizing::new);
        Self::parse(&text.map_err(failed(file))?)
    }

    /// Makes `file`, mode 0600 and with new keys, if it is not there.
    pub(crate) fn create(file: &Path) -> Result<(), KeysError> {
        let keys = Self { find: vec![new()?], seal: vec![new()?], tag: Some(new()?) };
        secret::create(file, &keys.text()).map_err(failed(file))
    }

    /// Puts it in the place of what is in `file`, in one step.
    pub fn replace(&self, file: &Path) -> Result<(), KeysError> {
        secret::replace(file, &self.text()).map_err(failed(file))
    }

    /// The key of what stands in events: the one that is said to be; else the only one that finds.
    /// Among several nobody could tell which was the only one once.
    pub(crate) fn tag(&self) -> Result<&Key, KeysError> {
        match (&self.tag, &self.find[..]) {
            (_, []) => Err(KeysError::Malformed),
            (Some(tag), _) | (None, [tag]) => Ok(tag),
            (None, _) => Err(KeysError::NoTag),
        }
    }

    /// The same, as it is loaded.
    pub fn keys(&self) -> Result<Keys, KeysError> {
        Ok(Keys::of(self, self.tag()?))
    }

    /// A new key of each kind, as the last: everybody finds and unseals by it, and nobody enters
    /// anything under it yet. What stands in events goes on being made with the key that it was made
    /// with.
    pub fn add(self) -> Result<Self, KeysError> {
        if self.find.len() > 1 || self.seal.len() > 1 {
            return Err(KeysError::UnderWay);
        }
        let tag = self.tag()?.clone();
        let (mut find, mut seal) = (self.find, self.seal);
        find.push(new()?);
        seal.push(new()?);
        Ok(Self { find, seal, tag: Some(tag) })
    }

    /// The key that finds with this fingerprint, and the one that seals which came with it, first:
    /// new rows are entered under them.
    pub fn put_first(mut self, fingerprint: &str) -> Result<Self, KeysError> {
        let at = self.place(fingerprint)?;
        self.find[..=at].rotate_right(1);
        self.seal[..=at].rotate_right(1);
        Ok(self)
    }

    /// Without the key that finds with this fingerprint, and the one that seals which came with it.
    pub fn without(mut self, fingerprint: &str) -> Result<Self, KeysError> {
        let at = self.place(fingerprint)?;
        if at == 0 {
            return Err(KeysError::First);
        }
        let tag = self.tag()?.clone();
        self.find.remove(at);
        self.seal.remove(at);
        Ok(Self { tag: Some(tag), ..self })
    }

    /// Where a key stands, which has the same place among those that seal.
    fn place(&self, fingerprint: &str) -> Result<usize, KeysError> {
        if self.find.len() != self.seal.len() {
            return Err(KeysError::Unpaired);
        }
        let is_it = |key: &Key| KeyId::of(key).to_string() == fingerprint;
        self.find.iter().position(is_it).ok_or(KeysError::Unknown)
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity((2 * MOST + 1) * (6 + 2 * KEY_BYTES)));
        let lines = self.find.iter().map(|key| ("find", key));
        let lines = lines.chain(self.seal.iter().map(|key| ("seal", key)));
        for (kind, key) in lines.chain(self.tag.iter().map(|key| ("tag", key))) {
            [kind, "=", &secret::hex(key), "\n"].iter().for_each(|part| text.push_str(part));
        }
        text
    }
}

fn new() -> Result<Key, KeysError> {
    let hex = secret::new_key().map_err(KeysError::NoRandom)?;
    secret::unhex(&hex).ok_or(KeysError::Malformed)
}

fn failed(file: &Path) -> impl FnOnce(io::Error) -> KeysError {
    let file = file.display().to_string();
    move |error| KeysError::File(file, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &[(&str, &str)]) -> String {
        words.iter().map(|(kind, byte)| format!("{kind}={}\n", byte.repeat(32))).collect()
    }

    fn parse(words: &[(&str, &str)]) -> KeysText {
        KeysText::parse(&text(words)).unwrap()
    }

    #[test]
    fn malformed_keys_are_refused_without_being_shown() {
        let many: Vec<String> = (10..15).map(|byte| byte.to_string()).collect();
        let many: Vec<_> = many.iter().map(|byte| ("seal", byte.as_str())).collect();
        for bad in [
            String::new(),
            "seal=00".to_owned(),
            "find=zz".to_owned(),
            "find".to_owned(),
            format!("find={}", "é".repeat(32)),
            text(&[("seal", "ab"), ("tag", "ab")]),
            text(&[("find", "ab"), ("find", "ab"), ("tag", "ab")]),
            text(&[("find", "ab"), ("tag", "ab"), ("tag", "cd")]),
            text(&[("find", "ab"), ("salt", "cd")]),
            format!("{}{}", text(&[("find", "ab")]), text(&many)),
        ] {
            assert!(matches!(KeysText::parse(&bad), Err(KeysError::Malformed)), "{bad}");
        }
        let several = text(&[("find", "ab"), ("find", "cd")]);
        let error = KeysText::parse(&several).err().unwrap();
        assert!(
            matches!(error, KeysError::NoTag) && !format!("{error} {error:?}").contains("abab")
        );
    }

    #[test]
    fn a_rotation_is_three_steps_and_keeps_the_tags() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("register.keys");
        fs::write(&file, text(&[("find", "ab"), ("seal", "cd")])).unwrap();
        let fingerprints = |text: &KeysText| {
            let keys = text.keys().unwrap();
            let split = |ids: String| ids.split(' ').map(str::to_owned).collect::<Vec<_>>();
            (split(keys.finding()), split(keys.unsealing()), keys.tagging())
        };
        let (old_find, old_seal, tag) = fingerprints(&KeysText::read(&file).unwrap());

        KeysText::read(&file).unwrap().add().unwrap().replace(&file).unwrap();
        let added = KeysText::read(&file).unwrap();
        let (find, seal, same_tag) = fingerprints(&added);
        assert_eq!((&find[..1], &seal[..1]), (&old_find[..], &old_seal[..]));
        assert_eq!((find.len(), seal.len(), &same_tag), (2, 2, &tag));
        assert!(matches!(KeysText::read(&file).unwrap().add(), Err(KeysError::UnderWay)));
        let refused = added.without(&find[0]);
        assert!(matches!(refused, Err(KeysError::First)));

        let step = |text: KeysText| text.put_first(&find[1]).unwrap();
        step(KeysText::read(&file).unwrap()).replace(&file).unwrap();
        let (new_find, new_seal, same_tag) = fingerprints(&KeysText::read(&file).unwrap());
        assert_eq!(new_find, [find[1].clone(), find[0].clone()]);
        assert_eq!(new_seal, [seal[1].clone(), seal[0].clone()]);
        assert_eq!(same_tag, tag);
        // The same step again changes nothing.
        assert_eq!(fingerprints(&step(KeysText::read(&file).unwrap())).0, new_find);

        let last = KeysText::read(&file).unwrap().without(&find[0]).unwrap();
        last.replace(&file).unwrap();
        let end = (vec![find[1].clone()], vec![seal[1].clone()], tag);
        assert_eq!(fingerprints(&KeysText::read(&file).unwrap()), end);
        let unknown = KeysText::read(&file).unwrap().put_first(&find[0]);
        assert!(matches!(unknown, Err(KeysError::Unknown)));
    }

    #[test]
    fn keys_that_do_not_come_in_pairs_are_left_alone() {
        let unpaired = parse(&[("find", "ab"), ("seal", "cd"), ("seal", "ef")]);
        assert!(matches!(unpaired.put_first("00000000"), Err(KeysError::Unpaired)));
    }

    #[test]
    fn a_new_file_has_a_key_of_each_kind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("register.keys");
        KeysText::create(&file).unwrap();
        let made = fs::read_to_string(&file).unwrap();
        KeysText::create(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), made);
        let keys = KeysText::read(&file).unwrap().keys().unwrap();
        let all = [keys.finding(), keys.unsealing(), keys.tagging()];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }
}
