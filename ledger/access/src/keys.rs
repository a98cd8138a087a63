//! The keys that tokens are checked with, a JWK set (RFC 7517), and beside them the tokens that were
//! found genuine under them: with the keys, these are forgotten.
//!
//! A key has one algorithm, RS256, PS256, ES256 or EdDSA. It is what the key says; where it says
//! none, the one that its kind leaves, and of an RSA key RS256. Others (symmetric ones above all,
//! those that are for encrypting, RSA below 2048 bits) are left out, as the standard has it.
//!
//! What must stay out: where the set comes from, and what is in a token.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, anyhow, ensure};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{
        AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
    },
};

/// Tokens that are remembered, so that not every call pays for a signature; forgotten together when
/// there are more that are good.
const REMEMBERED: usize = 10_000;

/// A set of keys; an empty one where none was read yet.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    keys: Vec<Key>,
    genuine: Mutex<HashMap<TokenHash, Genuine>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Key {
    kid: Option<String>,
    /// The one algorithm of its signatures.
    pub(crate) algorithm: Algorithm,
    /// The key itself.
    pub(crate) decoding: DecodingKey,
}

/// SHA-256 of a token: the token itself is kept nowhere.
pub(crate) type TokenHash = [u8; 32];

/// A token whose signature and claims were found to be right.
#[derive(Clone, Debug)]
pub(crate) struct Genuine {
    /// Whom it names.
    pub(crate) subject: Arc<str>,
    /// From then on it is good for nothing, in seconds since 1970.
    pub(crate) until: f64,
}

impl Keys {
    /// Reads a file.
    pub(crate) fn load(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    /// Reads the text of a set. The error quotes nothing of it.
    pub(crate) fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let set: JwkSet = serde_json::from_slice(text)
            .map_err(|error| anyhow!("line {}: this is no JWK set", error.line()))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::usable).collect();
        ensure!(
            !keys.is_empty(),
            "none of {} keys is for RS256, PS256, ES256 or EdDSA signatures",
            set.keys.len()
        );
        let is_alone = |key: &Key| keys.iter().filter(|other| other.kid == key.kid).count() == 1;
        ensure!(
            keys.len() == 1 || keys.iter().all(|key| key.kid.is_some() && is_alone(key)),
            "each of several keys must have a kid of its own"
        );
        Ok(Self { keys, genuine: Mutex::default() })
    }

    /// Name and algorithm of each.
    pub(crate) fn named(&self) -> Vec<(Option<String>, String)> {
        let named = |key: &Key| (key.kid.clone(), format!("{:?}", key.algorithm));
        self.keys.iter().map(named).collect()
    }

    /// The key that a token names; the only one need not be named.
    pub(crate) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (&*self.keys, kid) {
            ([only], None) => Some(only),
            ([only], Some(_)) if only.kid.is_none() => Some(only),
            (_, None) => None,
            (keys, Some(_)) => keys.iter().find(|key| key.kid.as_deref() == kid),
        }
    }

    /// What is known of a token that is good now.
    pub(crate) fn remembered(&self, token: &TokenHash, now: f64) -> Option<Genuine> {
        let genuine = self.genuine.lock().unwrap_or_else(PoisonError::into_inner);
        genuine.get(token).filter(|genuine| now < genuine.until).cloned()
    }

    /// Remembers a token.
    pub(crate) fn remember(&self, token: TokenHash, found: Genuine, now: f64) {
        let mut genuine = self.genuine.lock().unwrap_or_else(PoisonError::into_inner);
        if genuine.len() >= REMEMBERED {
            genuine.retain(|_, genuine| now < genuine.until);
        }
        if genuine.len() >= REMEMBERED {
            genuine.clear();
        }
        genuine.insert(token, found);
    }
}

impl Key {
    /// The key, where it is one for signatures that are taken.
    fn usable(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let is_meant = common
            .public_key_use
            .as_ref()
            .is_none_or(|of| *of == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|of| of.contains(&KeyOperations::Verify));
        let algorithm = match (&jwk.algorithm, common.key_algorithm) {
            (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Algorithm::RS256,
            (AlgorithmParameters::RSA(_), Some(KeyAlgorithm::PS256)) => Algorithm::PS256,
            (AlgorithmParameters::EllipticCurve(of), None | Some(KeyAlgorithm::ES256))
                if of.curve == EllipticCurve::P256 =>
            {
                Algorithm::ES256
            }
            (AlgorithmParameters::OctetKeyPair(of), None | Some(KeyAlgorithm::EdDSA))
                if of.curve == EllipticCurve::Ed25519 =>
            {
                Algorithm::EdDSA
            }
            _ => return None,
        };
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let is_whole = match (algorithm, decoding.kind()) {
            (_, DecodingKeyKind::RsaModulusExponent { n, .. }) => n.len() >= 2048 / 8,
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => point.len() == 1 + 2 * 32,
            (_, DecodingKeyKind::SecretOrDer(point)) => point.len() == 32,
        };
        let kid = common.key_id.clone();
        (is_meant && is_whole).then_some(Self { kid, algorithm, decoding })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Signer, set};

    fn algorithms(keys: &[Value]) -> Vec<Algorithm> {
        let set = Keys::parse(&set(keys)).map_or_else(|_| Vec::new(), |set| set.keys);
        set.iter().map(|key| key.algorithm).collect()
    }

    #[test]
    fn a_key_has_one_algorithm_and_those_of_others_are_left_out() {
        let (rsa, ec, ed) = (Signer::rsa(), Signer::ec(), Signer::ed());
        for (key, more, expected) in [
            (&rsa, json!({}), Some(Algorithm::RS256)),
            (&rsa, json!({ "alg": "RS256", "use": "sig" }), Some(Algorithm::RS256)),
            (&rsa, json!({ "alg": "PS256", "key_ops": ["verify"] }), Some(Algorithm::PS256)),
            (&ec, json!({}), Some(Algorithm::ES256)),
            (&ec, json!({ "alg": "ES256" }), Some(Algorithm::ES256)),
            (&ed, json!({}), Some(Algorithm::EdDSA)),
            (&ed, json!({ "alg": "EdDSA" }), Some(Algorithm::EdDSA)),
            (&rsa, json!({ "alg": "RS512" }), None),
            (&rsa, json!({ "alg": "HS256" }), None),
            (&rsa, json!({ "alg": "RSA-OAEP" }), None),
            (&rsa, json!({ "alg": "ES256" }), None),
            (&rsa, json!({ "alg": "none" }), None),
            (&rsa, json!({ "use": "enc" }), None),
            (&rsa, json!({ "key_ops": ["encrypt"] }), None),
            (&rsa, json!({ "n": &rsa.jwk()["n"].as_str().unwrap()[..340] }), None),
            (&ec, json!({ "alg": "RS256" }), None),
            (&ec, json!({ "crv": "P-384" }), None),
            (&ec, json!({ "x": "AQAB" }), None),
            (&ed, json!({ "alg": "ES256" }), None),
            (&ed, json!({ "crv": "X25519" }), None),
            (&ed, json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }), None),
        ] {
            let key = key.jwk_with(&more);
            let found = algorithms(std::slice::from_ref(&key));
            assert_eq!(found, Vec::from_iter(expected), "{key}");
            // Beside another one it is left out just so.
            let mut both = [key.clone(), ec.jwk_with(&json!({ "kid": "other" }))];
            both[0]["kid"] = json!("kid");
            assert_eq!(algorithms(&both).len(), 1 + usize::from(expected.is_some()), "{key}");
        }
    }

    #[test]
    fn one_key_need_not_be_named_and_several_must() {
        let (ec, ed) = (Signer::ec(), Signer::ed());
        let algorithm = |keys: &[Value], kid: Option<&str>| {
            Keys::parse(&set(keys)).unwrap().find(kid).map(|key| key.algorithm)
        };
        let named = |key: &Signer, kid: &str| key.jwk_with(&json!({ "kid": kid }));
        assert_eq!(algorithm(&[ec.jwk()], None), Some(Algorithm::ES256));
        assert_eq!(algorithm(&[ec.jwk()], Some("any")), Some(Algorithm::ES256));
        let one = [named(&ec, "one")];
        assert_eq!(algorithm(&one, None), Some(Algorithm::ES256));
        assert_eq!(algorithm(&one, Some("one")), Some(Algorithm::ES256));
        assert_eq!(algorithm(&one, Some("two")), None);
        let two = [named(&ec, "one"), named(&ed, "two")];
        assert_eq!(algorithm(&two, Some("one")), Some(Algorithm::ES256));
        assert_eq!(algorithm(&two, Some("two")), Some(Algorithm::EdDSA));
        for kid in [None, Some("three"), Some("")] {
            assert_eq!(algorithm(&two, kid), None, "{kid:?}");
        }
        assert!(Keys::default().find(None).is_none());
    }

    #[test]
    fn what_is_no_set_of_keys_is_refused_and_not_quoted() {
        let (ec, ed) = (Signer::ec().jwk(), Signer::ed());
        let named = ed.jwk_with(&json!({ "kid": "same" }));
        for (text, told) in [
            (b"no set, c2VjcmV0".to_vec(), "line 1: this is no JWK set"),
            (b"{\"keys\":\"c2VjcmV0\"}".to_vec(), "line 1: this is no JWK set"),
            (set(&[]), "none of 0 keys"),
            (set(&[json!({ "kty": "oct", "k": "c2VjcmV0" })]), "none of 1 keys"),
            (set(&[ec, named.clone()]), "a kid of its own"),
            (set(&[named.clone(), named]), "a kid of its own"),
        ] {
            let Err(error) = Keys::parse(&text) else { panic!("taken: {text:?}") };
            let error = format!("{error:?}");
            assert!(error.contains(told) && !error.contains("c2VjcmV0"), "{error}");
        }
    }

    #[test]
    fn no_more_tokens_are_remembered_than_a_bound() {
        let keys = Keys::parse(&Signer::ec().set("kid")).unwrap();
        let remember = |number: u32, until: f64| {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            keys.remember(hash, Genuine { subject: "x".into(), until }, 10.0);
            keys.remembered(&hash, 10.0).is_some()
        };
        assert!(remember(0, 11.0), "one that is good");
        assert!(!remember(1, 10.0), "one that is good no longer");
        let held = || keys.genuine.lock().unwrap().len();
        for number in 2..u32::try_from(REMEMBERED).unwrap() {
            assert!(remember(number, 11.0));
        }
        assert_eq!(held(), REMEMBERED);
        assert!(remember(u32::MAX, 11.0));
        assert_eq!(held(), REMEMBERED, "what is good no longer made room");
        assert!(remember(u32::MAX - 1, 11.0));
        assert_eq!(held(), 1, "all were good, and are forgotten together");
    }
}
