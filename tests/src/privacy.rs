//! What must stand nowhere outside the register and the files that hold keys (W5): CPR numbers that
//! tests use, keys of services, and tokens of callers, found in any text.
//!
//! Logs, which tell what is refused, metrics, and exports beside them are looked through when a service is
//! dropped (`process.rs`), tables when a database is (`database.rs`). What must stay out: where the text
//! comes from.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Bytes before what was found that are shown. Itself it is shown nowhere.
const SHOWN: usize = 200;

/// The shortest text of a key that is looked for: the last line of a PEM file may stand anywhere.
const SHORTEST: usize = 40;

/// Behind these rustls shows, at trace level, numbers of a TLS session, of up to ten digits: a random
/// one, and an age with that added.
const BY_CHANCE: [&[u8]; 2] = [b" age_add: ", b" obfuscated_ticket_age: "];

/// The secret keys that services of this process have had.
static KEYS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What a text holds that it must not hold, and what stands before it.
pub fn find(text: &str) -> Option<String> {
    let found = [
        ("a CPR number", find_cpr(text)),
        ("a key", find_key(text)),
        ("a caller's token", find_token(text)),
    ];
    let (what, at) = found.into_iter().find_map(|(what, at)| Some((what, at?)))?;
    let before = &text.as_bytes()[at.saturating_sub(SHOWN)..at];
    Some(format!("{what} after: {}", String::from_utf8_lossy(before)))
}

/// The same of what `COPY` gives of a row; also of the bytes that stand in it as hexadecimal text.
pub fn find_in_row(row: &str) -> Option<String> {
    let in_bytes = || row.split("\\x").skip(1).find_map(|text| find(&unhex(text)));
    find(row).or_else(in_bytes)
}

/// The same of the logs of services in a directory, and of all that lies in directories of it, as whole
/// exports do: what lies beside the logs is what a test works with. Gives the file as well. What is taken
/// away meanwhile is nobody's.
pub fn find_in_files(dir: &Path) -> io::Result<Option<String>> {
    find_below(dir, |file| file.extension().is_some_and(|kind| kind == "log"))
}

fn find_below(dir: &Path, is_wanted: fn(&Path) -> bool) -> io::Result<Option<String>> {
    for entry in still_there(fs::read_dir(dir))?.into_iter().flatten() {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let found = match kind {
            kind if kind.is_dir() => find_below(&path, |_| true)?,
            kind if kind.is_file() && is_wanted(&path) => {
                let bytes = still_there(fs::read(&path))?.unwrap_or_default();
                let found = find(&String::from_utf8_lossy(&bytes));
                found.map(|found| format!("{}: {found}", path.display()))
            }
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn still_there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The bytes of the hexadecimal digits with which a text begins, as text.
fn unhex(text: &str) -> String {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|of| u8::try_from(of).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    let bytes = pairs.map_while(|pair| Some((value(pair[0])? << 4) | value(pair[1])?));
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

/// From now on the secret keys in the files of a directory are looked for.
pub fn learn_keys(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "key" || kind == "keys") {
            let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
            keys.extend(secrets(&fs::read_to_string(path)?).map(str::to_owned));
        }
    }
    Ok(())
}

/// What is secret in a file of keys: ours, or PEM. A verifier, `<name>+<8 digits>+<Base64>`, is public.
fn secrets(text: &str) -> impl Iterator<Item = &str> {
    let secrets = text.split_ascii_whitespace().map(|word| match word.split_once('=') {
        Some(("find" | "seal" | "tag" | "sign", key)) => key,
        // `retired=` is a public half.
        Some((_, rest)) if !rest.is_empty() => "",
        _ if is_verifier(word) => "",
        _ => word,
    });
    secrets.filter(|secret| secret.len() >= SHORTEST)
}

fn is_verifier(word: &str) -> bool {
    let hash = word.split('+').nth(1);
    hash.is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && word.contains('/')
}

/// Where a key of a service of this process stands in a text.
fn find_key(text: &str) -> Option<usize> {
    let keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    keys.iter().find_map(|key| text.find(key.as_str()))
}

/// Where a token stands in a text: header and claims, which are JSON objects in Base64, and a
/// signature.
fn find_token(text: &str) -> Option<usize> {
    let is_token = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
        let parts: Vec<&str> = text[..end.unwrap_or(text.len())].split('.').collect();
        matches!(parts[..], [_, claims, signature] if claims.starts_with("eyJ") && signature.len() > 20)
    };
    text.match_indices("eyJ").map(|(at, _)| at).find(|at| is_token(&text[*at..]))
}

/// Where a CPR number of a test's persons, who are born 1858 to 1880, stands in a text: ten digits, or
/// six and four with a hyphen or a space between, and no letter or digit beside them.
pub fn find_cpr(text: &str) -> Option<usize> {
    let (bytes, mut is_within) = (text.as_bytes(), false);
    for (at, byte) in bytes.iter().enumerate() {
        let begins = !is_within && byte.is_ascii_digit() && is_cpr(&bytes[at..]);
        if begins && !BY_CHANCE.iter().any(|before| bytes[..at].ends_with(before)) {
            return Some(at);
        }
        is_within = byte.is_ascii_alphanumeric();
    }
    None
}

/// Whether a text begins with one.
fn is_cpr(text: &[u8]) -> bool {
    let divided = matches!(text.get(6), Some(b'-' | b' '));
    let length = if divided { 11 } else { 10 };
    let Some(number) = text.get(..length) else { return false };
    if text.get(length).is_some_and(u8::is_ascii_alphanumeric) {
        return false;
    }
    let digits: Vec<u8> = number.iter().copied().filter(u8::is_ascii_digit).collect();
    let two = |at: usize| (digits[at] - b'0') * 10 + digits[at + 1] - b'0';
    digits.len() == 10
        && (1..=31).contains(&two(0))
        && (1..=12).contains(&two(2))
        && (58..=80).contains(&two(4))
        && (b'5'..=b'8').contains(&digits[6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::cpr;

    #[test]
    fn a_number_is_found_however_it_is_written() {
        for number in (0..20_000).step_by(777).map(cpr) {
            let (day, rest) = number.split_at(6);
            for form in [number.clone(), format!("{day}-{rest}"), format!("{day} {rest}")] {
                assert_eq!(find_cpr(&form), Some(0));
                assert_eq!(find_cpr(&format!("person=\"{form}\", x")), Some(8), "{form}");
            }
            assert_eq!(find_cpr(&format!("4{number}")), None);
            assert_eq!(find_cpr(&format!("a{number}")), None);
        }
        assert_eq!(find_cpr("2026-11-26T13:12:48.123456Z 13748136 0102030405"), None);
        assert_eq!(find_cpr("lifetime: 86400, age_add: 1101605001, nonce: 00"), None);
        assert_eq!(find_cpr("x, obfuscated_ticket_age: 1101605001, binders"), None);
        assert_eq!(find_cpr(", age_add: 1101605001, 1101605001"), Some(23));
    }

    #[test]
    fn a_row_is_looked_through_as_text_and_as_bytes() {
        let number = cpr(777);
        let hex: String = number.bytes().map(|byte| format!("{byte:02x}")).collect();
        for row in [
            format!("1\t{number}\t2026-11-26 13:12:48.123456+00\n"),
            format!("1\t{{\"reference\": \"{number}\"}}\n"),
            format!("\\\\x00{hex}ff\t1\n"),
            format!("{{\"\\\\\\\\x{hex}\"}}\n"),
        ] {
            let told = find_in_row(&row).expect("it is found");
            assert!(told.starts_with("a CPR number") && !told.contains(&number), "{told}");
        }
        assert_eq!(find_in_row("7\t\\\\x0011223344\t13748136\t{1,2}\t\\N\n"), None);
    }

    #[test]
    fn secret_keys_are_found_and_public_ones_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        // Nobody's: no service has a key of one digit.
        let [find_key, seal, tag, sign, public] =
            ["1", "2", "3", "4", "5"].map(|digit| digit.repeat(64));
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END", "x".repeat(64));
        let verifier = format!("local/frikort/partition/0+1e11daab+{}", "z".repeat(44));
        for (file, text) in [
            ("published.keys", verifier.clone()),
            ("register.keys", format!("find={find_key}\nseal={seal}\ntag={tag}\n")),
            ("signing.key", format!("sign={sign}\nretired={public}\n")),
            ("server.key", pem),
            ("server.crt", "y".repeat(64)),
        ] {
            fs::write(dir.path().join(file), text).expect("written");
        }
        assert_eq!(find(&format!("key={find_key}")), None, "not learnt yet");
        learn_keys(dir.path()).expect("read");
        for key in [find_key, seal, tag, sign, "x".repeat(64)] {
            let told = find(&format!("a line with {key} in it")).expect("it is found");
            assert_eq!(told, "a key after: a line with ");
            assert!(find_in_row(&format!("1\t\\\\x{key}\n")).is_some());
        }
        assert_eq!(find(&format!("{public} {} {verifier}", "y".repeat(64))), None);
    }

    #[test]
    fn a_token_is_found_and_other_base64_is_not() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlc2lnbmF0dXJlc2ln";
        let told = find(&format!("authorization: Bearer {token}\n")).expect("it is found");
        assert_eq!(told, "a caller's token after: authorization: Bearer ");
        for other in [&token[..40], "eyJhbGciOiJFUzI1NiJ9", "eyJ.x.y", &token[..60]] {
            assert_eq!(find(other).is_some(), other.len() > 58, "{other}");
        }
    }
}
