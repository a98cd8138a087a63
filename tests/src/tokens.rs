//! Tokens for tests: an issuer's keys, what it publishes of them, and what it signs.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use frikort_process::clock::Clock;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

/// The issuer of good tokens.
pub const ISSUER: &str = "https://issuer.test/";

/// For whom they are.
pub const AUDIENCE: &str = "frikort-test";

/// A key of the issuer's, with which it signs by ES256.
pub struct Issuer {
    kid: &'static str,
    key: EcdsaKeyPair,
}

impl Issuer {
    /// A new key under a name.
    pub fn new(kid: &'static str) -> anyhow::Result<Self> {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let failed = |error: &dyn std::fmt::Display| anyhow::anyhow!("no key: {error}");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).map_err(|error| failed(&error))?;
        let key = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random);
        Ok(Self { kid, key: key.map_err(|error| failed(&error))? })
    }

    /// The public half.
    pub fn jwk(&self) -> Value {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (encoded(x), encoded(y));
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self.kid, "x": x, "y": y })
    }

    /// The usual header of its tokens.
    pub fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": "ES256", "kid": self.kid })
    }

    /// A token with any header and claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> anyhow::Result<String> {
        let message = unsigned(header, claims);
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        let signature = signature.map_err(|error| anyhow::anyhow!("not signed: {error}"))?;
        Ok(format!("{message}.{}", encoded(signature)))
    }

    /// A good token of somebody's.
    pub fn token(&self, subject: &str) -> anyhow::Result<String> {
        self.sign(&self.header(), &claims(subject))
    }
}

/// Claims that are good for five minutes.
pub fn claims(subject: &str) -> Value {
    let until = now() + 300;
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": until })
}

/// Seconds since 1970.
pub fn now() -> i64 {
    Clock::system().now().unix_timestamp()
}

/// Header and claims of a token, without a signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()))
}

/// Base64 as tokens have it.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What an issuer publishes of these keys.
pub fn published(keys: &[&Issuer]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}
