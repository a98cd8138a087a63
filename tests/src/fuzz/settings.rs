//! What programs are configured with: settings files and key files. What is wrong is told without a
//! value from the file, since one of them may be a secret.

use frikort_ledger::fuzzing as ledger;
use frikort_projector::fuzzing as projector;
use frikort_proof::{KeyName, VerifierKey};
use frikort_register::Keys;

use super::text;

/// Shorter values than this are found in any text by chance; others may be words of an error, so that
/// an address of a database is looked for.
const SHORTEST_VALUE: usize = 8;

pub(super) fn settings(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for read in [ledger::settings, projector::settings] {
        match read(text) {
            Ok(()) => {
                let misspelt = format!("databse_url = \"x\"\n{text}");
                assert!(read(&misspelt).is_err(), "an unknown key is refused");
            }
            Err(error) => {
                let said = format!("{error:#} {error:?}");
                assert!(said.contains("line "), "it says where: {said}");
                for value in values(text) {
                    assert!(!said.contains(value), "a value of the file is shown: {said}");
                }
            }
        }
    }
}

/// What stands in quotation marks behind the first `=` of each line.
fn values(text: &str) -> impl Iterator<Item = &str> {
    let quoted = |line: &'_ str| -> Option<(usize, usize)> {
        let from = line.find('=')? + 1;
        let from = from + line[from..].find(['"', '\''])? + 1;
        let to = line[from..].find(['"', '\'']).map_or(line.len(), |length| from + length);
        (to - from >= SHORTEST_VALUE && line[from..to].contains("://")).then_some((from, to))
    };
    text.lines().filter_map(move |line| quoted(line).map(|(from, to)| &line[from..to]))
}

pub(super) fn keys(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match Keys::parse(text) {
        Ok(keys) => assert_eq!(format!("{keys:?}"), "Keys(hidden)"),
        Err(error) => shows_none(text, &format!("{error} {error:?}")),
    }
    let Some(keys) = ledger::signing_keys(text) else { return };
    assert_eq!(format!("{keys:?}"), "SigningKeys(hidden)");
    let name: KeyName = "local/frikort/partition/0".parse().expect("a name");
    // A retired key that is no point of the curve is found here at the latest.
    let Ok(verifiers) = keys.verifiers(&name) else { return };
    assert_eq!(verifiers.len(), text.split_ascii_whitespace().count());
    for key in verifiers {
        assert_eq!(key.to_string().parse::<VerifierKey>().as_ref(), Ok(&key));
    }
}

/// No word of a text that is as long as a key is said.
pub(super) fn shows_none(text: &str, said: &str) {
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
        assert!(word.len() < 16 || !said.contains(word), "a key is shown: {said}");
    }
}
