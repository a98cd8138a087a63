//! Tokens that callers show: JWTs of one issuer, as OpenID Connect and OAuth have them, for one
//! audience. Whom a token names is its `sub`.
//!
//! ```text
//!   authorization: Bearer … ──▶ key, by kid ──▶ signature ──▶ iss, aud, exp, nbf ──▶ sub
//! ```
//!
//! The algorithm is that of the key: what a token says of itself is compared with it and chooses
//! nothing. Why a token is refused is for the log; of the token itself nothing is shown or kept.
//!
//! What must stay out: who the subject is, and what it may do.

use std::{path::PathBuf, sync::Arc};

use anyhow::ensure;
use axum::http::{HeaderMap, header::AUTHORIZATION};
use frikort_process::{clock::Clock, renewed};
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::{
    fetch::{self, Renewal, Source, Times},
    keys::{Genuine, Key, Keys},
    signature,
};

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// By how many seconds an issuer's clock may differ from ours.
const SKEW: f64 = 60.0;

/// Which tokens are taken, and what they are checked with. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    keys: watch::Receiver<Arc<Keys>>,
    /// Where they come from somewhere that can be asked again.
    renewal: Option<Renewal>,
    issuer: Arc<str>,
    audience: Arc<str>,
    clock: Clock,
}

/// Why a caller is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// This, for the log.
    Since(&'static str),
    /// The token is signed with a key that is not among ours; newer ones may have it.
    KeyNotAmongOurs,
}

/// What is read of a token. The audience is the library's to look at: it may be one or a list.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970, which may have a fraction.
    exp: f64,
    nbf: Option<f64>,
    /// One, and a text: the library would take a list too.
    #[serde(rename = "iss")]
    _iss: String,
}

impl Tokens {
    /// Tokens of an issuer for an audience. `keys` is a file, read anew when it changes, or a URL.
    pub(crate) fn start(
        keys: &str,
        issuer: &str,
        audience: &str,
        times: Times,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        ensure!(!issuer.is_empty(), "token-issuer is empty");
        ensure!(!audience.is_empty(), "token-audience is empty");
        let (keys, renewal) = if keys.contains("://") {
            let (keys, renewal) = fetch::start(Source::new(keys)?, times);
            (keys, Some(renewal))
        } else {
            let file = PathBuf::from(keys);
            let files = vec![file.clone()];
            (renewed::read("keys of tokens", files, move || Keys::load(&file))?, None)
        };
        signature::install();
        Ok(Self { keys, renewal, issuer: issuer.into(), audience: audience.into(), clock })
    }

    /// Tokens that are checked with these keys and no others, ever.
    pub(crate) fn checked_with(keys: Keys, issuer: &str, audience: &str, clock: Clock) -> Self {
        signature::install();
        let keys = watch::channel(Arc::new(keys)).1;
        Self { keys, renewal: None, issuer: issuer.into(), audience: audience.into(), clock }
    }

    /// Asks for newer keys; returns when they are there, or when it is not yet time for any.
    pub(crate) async fn renew(&self) {
        if let Some(renewal) = &self.renewal {
            renewal.ask().await;
        }
    }

    /// Whom the token in these headers names; `None` without one.
    pub(crate) fn subject(&self, headers: &HeaderMap) -> Result<Option<Arc<str>>, Unknown> {
        let Some(token) = shown(headers)? else { return Ok(None) };
        let hash = Sha256::digest(token).into();
        let now = self.clock.now().unix_timestamp() as f64;
        let keys = self.keys.borrow().clone();
        if let Some(Genuine { subject, .. }) = keys.remembered(&hash, now) {
            return Ok(Some(subject));
        }
        let genuine = self.verified(token, &keys, now)?;
        let subject = genuine.subject.clone();
        keys.remember(hash, genuine, now);
        Ok(Some(subject))
    }

    fn verified(&self, token: &str, keys: &Keys, now: f64) -> Result<Genuine, Unknown> {
        let header = decode_header(token).map_err(|_| {
            Unknown::Since("the token is none, or its algorithm is unknown or none at all")
        })?;
        if header.crit.is_some() {
            return Err(Unknown::Since("the token has critical headers"));
        }
        let key = keys.find(header.kid.as_deref());
        let Key { algorithm, decoding, .. } = key.ok_or(Unknown::KeyNotAmongOurs)?;
        let mut validation = Validation::new(*algorithm);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        // Below, by the clock that we are given.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, decoding, &validation);
        let claims = claims.map_err(|error| Unknown::Since(reason(error.kind())))?.claims;
        let until = claims.exp + SKEW;
        if now >= until {
            return Err(Unknown::Since("the token has expired"));
        }
        if claims.nbf.is_some_and(|from| now < from - SKEW) {
            return Err(Unknown::Since("the token is not valid yet"));
        }
        Ok(Genuine { subject: claims.sub.into(), until })
    }
}

/// The token in these headers.
fn shown(headers: &HeaderMap) -> Result<Option<&str>, Unknown> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Unknown::Since("there is more than one authorization"));
    }
    let value = value.to_str().ok().and_then(|value| value.split_once(' '));
    match value {
        Some((_, token)) if token.len() > LONGEST => Err(Unknown::Since("the token is too long")),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token)),
        _ => Err(Unknown::Since("the authorization is no bearer token")),
    }
}

/// What the library found, without anything of the token.
fn reason(found: &ErrorKind) -> &'static str {
    match found {
        ErrorKind::InvalidAlgorithm => "the token's algorithm is not that of its key",
        ErrorKind::InvalidSignature => "the token's signature is not of its key",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks iss, aud, sub or exp",
        _ => "the token's claims make no sense",
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::{Value, json};
    use time::OffsetDateTime;

    use super::*;
    use crate::testing::{Signer, base64, set, with};

    /// Now, in these tests.
    const NOW: i64 = 1_767_225_600;

    fn at(seconds: i64) -> Clock {
        Clock::fixed(OffsetDateTime::from_unix_timestamp(seconds).unwrap())
    }

    /// What is taken under a set of keys.
    fn tokens(keys: &[u8]) -> Tokens {
        let keys = Keys::parse(keys).unwrap();
        Tokens::checked_with(keys, "https://issuer.example/", "frikort", at(NOW))
    }

    fn claims() -> Value {
        json!({
            "iss": "https://issuer.example/", "aud": "frikort", "sub": "payroll",
            "exp": NOW + 300, "iat": NOW,
        })
    }

    fn headers(authorization: &str) -> HeaderMap {
        let value = HeaderValue::from_str(authorization).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    fn ask(tokens: &Tokens, token: &str) -> Result<String, Unknown> {
        let subject = tokens.subject(&headers(&format!("Bearer {token}")))?;
        Ok(subject.expect("there is a token").to_string())
    }

    #[test]
    fn a_token_names_its_subject_whatever_the_kind_of_key() {
        for (signer, alg) in [
            (Signer::rsa(), "RS256"),
            (Signer::rsa(), "PS256"),
            (Signer::ec(), "ES256"),
            (Signer::ed(), "EdDSA"),
        ] {
            let keys = set(&[signer.jwk_with(&json!({ "kid": "one", "alg": alg }))]);
            let tokens = tokens(&keys);
            let header = json!({ "alg": alg, "kid": "one", "typ": "JWT" });
            let token = signer.sign(&header, &claims());
            for _ in 0..2 {
                assert_eq!(ask(&tokens, &token).as_deref(), Ok("payroll"), "{alg}");
            }
            // Of several audiences one must be ours; a time may have a fraction.
            let more = json!({ "aud": ["other", "frikort"], "exp": 2e9 + 0.5, "nbf": NOW });
            let token = signer.sign(&header, &with(&claims(), &more));
            assert_eq!(ask(&tokens, &token).as_deref(), Ok("payroll"), "{alg}");
            // What is signed is the whole of it.
            let (message, signature) = token.rsplit_once('.').unwrap();
            let other = with(&claims(), &json!({ "sub": "operator" }));
            let other = signer.sign(&header, &other);
            let (other, _) = other.rsplit_once('.').unwrap();
            assert!(message != other);
            let forged = Unknown::Since("the token's signature is not of its key");
            assert_eq!(ask(&tokens, &format!("{other}.{signature}")), Err(forged), "{alg}");
            assert_eq!(ask(&tokens, &format!("{message}.")), Err(forged), "{alg}");
        }
    }

    #[test]
    fn the_algorithm_is_that_of_the_key() {
        let rsa = Signer::rsa();
        let other = Unknown::Since("the token's algorithm is not that of its key");
        let none = Unknown::Since("the token is none, or its algorithm is unknown or none at all");
        for (of_key, of_token, expected) in [
            ("RS256", "PS256", other),
            ("PS256", "RS256", other),
            ("RS256", "RS512", other),
            ("RS256", "ES256", other),
            ("RS256", "HS256", other),
            ("RS256", "none", none),
            ("RS256", "None", none),
            ("RS256", "", none),
        ] {
            let tokens = tokens(&set(&[rsa.jwk_with(&json!({ "alg": of_key }))]));
            let token = rsa.sign(&json!({ "alg": of_token }), &claims());
            assert_eq!(ask(&tokens, &token), Err(expected), "{of_token} under {of_key}");
            let (message, _) = token.rsplit_once('.').unwrap();
            assert_eq!(ask(&tokens, &format!("{message}.")), Err(expected), "{of_token}");
        }
        // Whatever of the public key is taken for a secret.
        let jwk = rsa.jwk();
        let tokens = tokens(&set(std::slice::from_ref(&jwk)));
        let header = base64(json!({ "alg": "HS256" }).to_string());
        let message = format!("{header}.{}", base64(claims().to_string()));
        for secret in [jwk.to_string(), jwk["n"].as_str().unwrap().to_owned()] {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
            let signature = base64(ring::hmac::sign(&key, message.as_bytes()));
            assert_eq!(ask(&tokens, &format!("{message}.{signature}")), Err(other));
        }
    }

    #[test]
    fn every_claim_counts() {
        let signer = Signer::ec();
        let tokens = tokens(&signer.set("one"));
        let lacks = "the token lacks iss, aud, sub or exp";
        let (issuer, audience) =
            ("the token is of another issuer", "the token is for another audience");
        let nonsense = "the token's claims make no sense";
        for (more, expected) in [
            (json!({ "exp": NOW - 59 }), None),
            (json!({ "exp": NOW - 60 }), Some("the token has expired")),
            (json!({ "exp": 0 }), Some("the token has expired")),
            (json!({ "nbf": NOW + 60 }), None),
            (json!({ "nbf": NOW + 61 }), Some("the token is not valid yet")),
            (json!({ "nbf": "soon" }), Some(nonsense)),
            (json!({ "exp": (NOW + 300).to_string() }), Some(nonsense)),
            (json!({ "exp": null }), Some(nonsense)),
            (json!({ "sub": null }), Some(nonsense)),
            (json!({ "sub": 7 }), Some(nonsense)),
            (json!({ "iss": null }), Some(nonsense)),
            (json!({ "iss": ["https://issuer.example/"] }), Some(nonsense)),
            (json!({ "iss": "https://issuer.example" }), Some(issuer)),
            (json!({ "aud": null }), Some(lacks)),
            (json!({ "aud": "frikort2" }), Some(audience)),
            (json!({ "aud": [] }), Some(audience)),
            (json!({ "aud": { "frikort": true } }), Some(lacks)),
        ] {
            let claims = with(&claims(), &more);
            let token = signer.sign(&json!({ "alg": "ES256", "kid": "one" }), &claims);
            let expected =
                expected.map_or(Ok("payroll".to_owned()), |why| Err(Unknown::Since(why)));
            assert_eq!(ask(&tokens, &token), expected, "{claims}");
            // What is refused is not remembered as good.
            assert_eq!(ask(&tokens, &token), expected, "{claims}");
        }
    }

    #[test]
    fn a_key_that_is_not_named_or_not_ours_takes_nothing() {
        let (ours, theirs) = (Signer::ec(), Signer::ec());
        let named = |key: &Signer, kid: &str| key.jwk_with(&json!({ "kid": kid }));
        let several = tokens(&set(&[named(&ours, "one"), named(&Signer::ed(), "two")]));
        let sign = |key: &Signer, header: Value| key.sign(&header, &claims());
        let unnamed = sign(&ours, json!({ "alg": "ES256" }));
        assert_eq!(ask(&several, &unnamed), Err(Unknown::KeyNotAmongOurs));
        assert!(ask(&tokens(&ours.set("one")), &unnamed).is_ok());
        let unknown = sign(&ours, json!({ "alg": "ES256", "kid": "three" }));
        assert_eq!(ask(&several, &unknown), Err(Unknown::KeyNotAmongOurs));
        let forged = Err(Unknown::Since("the token's signature is not of its key"));
        assert_eq!(ask(&several, &sign(&theirs, json!({ "alg": "ES256", "kid": "one" }))), forged);
        // A key that comes with the token is not looked at.
        let brought = json!({ "alg": "ES256", "kid": "one", "jwk": theirs.jwk() });
        assert_eq!(ask(&several, &sign(&theirs, brought)), forged);
        let critical = json!({ "alg": "ES256", "kid": "one", "crit": ["b64"], "b64": true });
        let critical = ask(&several, &sign(&ours, critical));
        assert_eq!(critical, Err(Unknown::Since("the token has critical headers")));
    }

    #[test]
    fn a_token_that_is_remembered_expires_and_goes_with_its_key() {
        let (signer, next) = (Signer::ec(), Signer::ec());
        let (told, keys) = watch::channel(Arc::new(Keys::parse(&signer.set("one")).unwrap()));
        let mut tokens = tokens(&signer.set("one"));
        tokens.keys = keys;
        let token = signer.sign(&json!({ "alg": "ES256", "kid": "one" }), &claims());
        assert!(ask(&tokens, &token).is_ok());
        let hash = Sha256::digest(&token).into();
        assert!(tokens.keys.borrow().remembered(&hash, 0.0).is_some(), "it is remembered");
        tokens.clock = at(NOW + 300 + 59);
        assert!(ask(&tokens, &token).is_ok());
        tokens.clock = at(NOW + 300 + 60);
        assert_eq!(ask(&tokens, &token), Err(Unknown::Since("the token has expired")));
        tokens.clock = at(NOW);
        assert!(ask(&tokens, &token).is_ok());
        told.send_replace(Arc::new(Keys::parse(&next.set("two")).unwrap()));
        assert_eq!(ask(&tokens, &token), Err(Unknown::KeyNotAmongOurs));
        // Another key under the same name takes it as little.
        told.send_replace(Arc::new(Keys::parse(&next.set("one")).unwrap()));
        assert!(ask(&tokens, &token).is_err());
    }

    #[test]
    fn only_one_bearer_token_of_a_bounded_length_is_read() {
        let signer = Signer::ec();
        let tokens = tokens(&signer.set("one"));
        let sign = |claims: &Value| signer.sign(&json!({ "alg": "ES256" }), claims);
        let token = sign(&claims());
        assert_eq!(tokens.subject(&HeaderMap::new()), Ok(None));
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert!(tokens.subject(&headers(&format!("{scheme} {token}"))).is_ok(), "{scheme}");
        }
        let no_bearer = Err(Unknown::Since("the authorization is no bearer token"));
        for authorization in ["", "Bearer", "Basic eDp5", &token] {
            assert_eq!(tokens.subject(&headers(authorization)), no_bearer, "{authorization}");
        }
        let mut twice = headers(&format!("Bearer {token}"));
        twice.append(AUTHORIZATION, twice[AUTHORIZATION].clone());
        let several = Err(Unknown::Since("there is more than one authorization"));
        assert_eq!(tokens.subject(&twice), several);
        // 8 KiB; base64 makes four bytes of three.
        let padded = |length: usize| with(&claims(), &json!({ "pad": "x".repeat(length) }));
        let rest = (8192 - sign(&padded(0)).len()) / 4 * 3;
        let fits = sign(&padded(rest - 4));
        assert!(fits.len() <= 8192 && fits.len() > 8180 && ask(&tokens, &fits).is_ok());
        let too_long = sign(&padded(rest + 8));
        let refused = Err(Unknown::Since("the token is too long"));
        assert!(too_long.len() > 8192 && too_long.len() < 8210);
        assert_eq!(ask(&tokens, &too_long), refused);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let tokens = tokens(&Signer::ec().set("one"));
        let many = "a.".repeat(100);
        for token in ["", ".", "..", "...", "a.b.c", "e30.e30.", "e30.e30.e30", &many, "æ"] {
            let value = HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()).unwrap();
            let asked = tokens.subject(&HeaderMap::from_iter([(AUTHORIZATION, value)]));
            assert!(matches!(asked, Err(Unknown::Since(_))), "{token}: {asked:?}");
        }
    }
}
