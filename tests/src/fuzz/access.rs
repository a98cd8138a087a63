//! What a service is told about its callers, and what they show: a directory, limits, keys of tokens,
//! and tokens. Whoever is let through has been looked at again here, by other means.

use std::sync::OnceLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use frikort_access::{Caller, Directory, Role, fuzzing as access};
use frikort_domain::contains_cpr;
use frikort_proto::v1::ErrorReason;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};

use super::{settings::shows_none, text};
use crate::tokens::{AUDIENCE, ISSUER, encoded};

/// What time it is for all tokens.
const NOW: OffsetDateTime = datetime!(2025-06-30 12:00 UTC);

/// By how many seconds an issuer's clock may differ.
const SKEW: f64 = 60.0;

/// Who signs what of the corpus is signed.
const SEED: [u8; 32] = [7; 32];

/// Beyond that a call is refused until the next hour.
const LONGEST_DELAY: u64 = 3600;

pub(super) fn callers(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let directory = match Directory::parse(text) {
        Ok(directory) => directory,
        Err(error) => {
            assert!(!contains_cpr(&format!("{error:#} {error:?}")), "W5: {error:#}");
            return;
        }
    };
    assert!(
        Directory::parse(&format!("calller = 1\n{text}")).is_err(),
        "an unknown key is refused"
    );
    let callers = access::callers(&directory);
    assert!(!callers.is_empty(), "nobody could call");
    for caller in &callers {
        let Caller { name, role, cvr_numbers, municipality_code } = &**caller;
        assert!((1..=100).contains(&name.len()) && !contains_cpr(name), "{name}");
        assert_eq!(*role == Role::Employer, !cvr_numbers.is_empty(), "{name}");
        assert_eq!(*role == Role::Municipality, municipality_code.is_some(), "{name}");
    }
    let by_token: Vec<_> = text.split(['"', '\'']).collect();
    let by_token = by_token.iter().filter_map(|subject| access::by_token(&directory, subject));
    for caller in by_token {
        assert!(directory.takes_tokens() && callers.contains(&caller), "{}", caller.name);
    }
    assert!(access::by_token(&directory, "").is_none(), "an empty subject is nobody's");
}

/// The first byte says what the caller is, the second how many calls it makes, the third how many it
/// asks about who are nobody, before each.
pub(super) fn limits(data: &[u8]) {
    let [role, calls, misses, rest @ ..] = data else { return };
    let Some(text) = text(rest) else { return };
    let role = Role::ALL[usize::from(*role) % Role::ALL.len()];
    // Doubled each time, so that many are soon owed.
    let misses: Vec<u32> = (0..*calls).map(|at| u32::from(*misses) << (at % 24)).collect();
    let Ok((connections, calls)) = access::limits(text, role, &misses) else { return };
    assert!(connections.connections >= 8 && connections.connections_per_caller >= 1);
    let is_counted = matches!(role, Role::Employer | Role::Benefit | Role::Tax);
    if let Some(first) = calls.first()
        && (misses[0] == 0 || !is_counted)
    {
        assert!(first.is_ok(), "whoever has had nothing is let through: {first:?}");
    }
    for failure in calls.into_iter().filter_map(Result::err) {
        assert_eq!(failure.reason, ErrorReason::Overloaded);
        let delay = failure.retry_delay().expect("it says when to ask again");
        assert!(!delay.is_zero() && delay.as_secs() <= LONGEST_DELAY, "{delay:?}");
    }
}

pub(super) fn token_keys(data: &[u8]) {
    let keys = match access::token_keys(data) {
        Ok(keys) => keys,
        Err(error) => {
            let text = String::from_utf8_lossy(data);
            shows_none(&text, &format!("{error:#} {error:?}"));
            return;
        }
    };
    assert!(!keys.is_empty(), "without keys there is nothing to check with");
    let set: Value = serde_json::from_slice(data).expect("JSON");
    let given = set["keys"].as_array().expect("a list of keys");
    for (at, (kid, algorithm)) in keys.iter().enumerate() {
        let is_it = |given: &&Value| {
            given.get("kid").and_then(Value::as_str) == kid.as_deref()
                && given.get("alg").is_none_or(|alg| alg.is_null() || alg == algorithm)
                && given.get("use").is_none_or(|of| of.is_null() || of == "sig")
                && kind(algorithm).is_some_and(|kind| given["kty"] == kind)
        };
        assert!(given.iter().any(|given| is_it(&given)), "{kid:?} {algorithm} is not in the set");
        let others = keys.iter().enumerate().filter(|(other, _)| *other != at);
        assert!(
            keys.len() == 1 || kid.is_some() && others.into_iter().all(|(_, key)| key.0 != *kid),
            "which key a token names would be a guess"
        );
    }
    for token in ["", "Bearer ", "Bearer e30.e30.", "Bearer eyJhbGciOiJub25lIn0.e30."] {
        assert_eq!(access::bearer(data, (ISSUER, AUDIENCE), NOW, token.as_bytes()), None);
    }
}

/// The kind of key that an algorithm has; symmetric ones have none here.
fn kind(algorithm: &str) -> Option<&'static str> {
    match algorithm {
        "RS256" | "PS256" => Some("RSA"),
        "ES256" => Some("EC"),
        "EdDSA" => Some("OKP"),
        _ => None,
    }
}

/// Two lines are header and claims of a token that is signed here; else it is the whole
/// `authorization`.
pub(super) fn token(data: &[u8]) {
    let authorization = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => signed(&data[..end], &data[end + 1..]).into_bytes(),
        None => data.to_vec(),
    };
    let Some(subject) = subject(&authorization) else { return };
    let shown = text(&authorization).expect("a token is text");
    let (scheme, token) = shown.split_once(' ').expect("scheme and token");
    assert!(scheme.eq_ignore_ascii_case("bearer"), "{scheme}");
    let (message, signature) = token.rsplit_once('.').expect("a signature");
    let public = key().public_key().as_ref();
    let verified =
        UnparsedPublicKey::new(&ED25519, public).verify(message.as_bytes(), &decoded(signature));
    assert!(verified.is_ok(), "it is the issuer's signature");
    let (header, claims) = message.split_once('.').expect("header and claims");
    let (header, claims): (Header, Claims) = (read(header), read(claims));
    assert_eq!(header.alg, "EdDSA", "the algorithm is that of the key");
    assert!(header.crit.is_null(), "what is critical and unknown is refused");
    assert_eq!(claims.sub, subject.as_str());
    assert_eq!(claims.iss, ISSUER);
    let is_ours = |audience: &Value| audience == AUDIENCE;
    let audience = claims.aud;
    assert!(is_ours(&audience) || audience.as_array().is_some_and(|of| of.iter().any(is_ours)));
    #[expect(clippy::cast_precision_loss, reason = "a second of this century is exact")]
    let now = NOW.unix_timestamp() as f64;
    assert!(claims.exp.as_f64().is_some_and(|until| now < until + SKEW), "it has expired");
    let from = claims.nbf;
    assert!(
        from.is_null() || from.as_f64().is_some_and(|from| from - SKEW <= now),
        "not valid yet"
    );
}

/// Whom an `authorization` names.
fn subject(authorization: &[u8]) -> Option<String> {
    static KEYS: OnceLock<Vec<u8>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(key().public_key()) });
        json!({ "keys": [jwk] }).to_string().into_bytes()
    });
    access::bearer(keys, (ISSUER, AUDIENCE), NOW, authorization)
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let signature = key().sign(message.as_bytes());
    format!("Bearer {message}.{}", encoded(signature))
}

fn key() -> &'static Ed25519KeyPair {
    static KEY: OnceLock<Ed25519KeyPair> = OnceLock::new();
    KEY.get_or_init(|| Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed"))
}

fn decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64")
}

/// What of a token's header counts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    alg: Value,
    crit: Value,
}

/// What of its claims counts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: Value,
    iss: Value,
    aud: Value,
    exp: Value,
    nbf: Value,
}

/// What nobody reads of a token that is signed may be no UTF-8, or a number that nothing holds: it is
/// passed over unseen.
fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(&String::from_utf8_lossy(&decoded(text))).expect("JSON")
}

/// Each line of a journal is a look-up or none, and one that is read is written and read again as it is.
pub(super) fn lookups(data: &[u8]) {
    let (again, read, unreadable) = access::lookups(data);
    let lines = data.iter().filter(|byte| **byte == b'\n').count();
    let [persons, calls] = read;
    assert_eq!(calls + unreadable, lines);
    assert!(persons >= calls, "a look-up of nobody");
    assert_eq!(access::lookups(&again), (again.clone(), read, 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that no token ever passes would hold of anything.
    #[test]
    fn a_good_token_is_taken_and_another_is_not() {
        let header = br#"{"alg":"EdDSA"}"#;
        let claims = |exp: i64| {
            json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "payroll", "exp": exp }).to_string()
        };
        let good = claims(NOW.unix_timestamp() + 1);
        let taken = subject(signed(header, good.as_bytes()).as_bytes());
        assert_eq!(taken.as_deref(), Some("payroll"));
        let late = claims(NOW.unix_timestamp() - 60);
        assert_eq!(subject(signed(header, late.as_bytes()).as_bytes()), None);
        assert_eq!(subject(signed(br#"{"alg":"RS256"}"#, good.as_bytes()).as_bytes()), None);
    }
}
