//! Callers who show a token: what is taken in the place of a certificate, and that all else is
//! refused alike, tells its caller nothing, and leaves nothing of itself in the log.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use frikort_proto::{
    error::Failure,
    v1::{
        AnnualLimit, ErrorReason, SetAnnualLimitRequest, policy_service_client::PolicyServiceClient,
    },
};
use frikort_tests::{
    client::date,
    pki::{Authority, CALLERS, Pair},
    process::{Kind, Service},
    tokens::{AUDIENCE, ISSUER, Issuer, claims, encoded, now, published, unsigned},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};
use tonic::{
    Request, Status,
    body::Body,
    codegen::{Service as _, http},
    transport::Channel,
};

use crate::{
    Secured,
    connections::{NOTICED, refusal},
    scopes::told,
};

/// Those who may call here; two of them have tokens, one has nothing else.
fn callers() -> String {
    let operator = "certificate_san = \"operator.test\"";
    let with_token = format!("{operator}\ntoken_subject = \"operations\"");
    let auditor = "certificate_san = \"auditor.test\"";
    CALLERS.replace(operator, &with_token).replace(auditor, "token_subject = \"auditing\"")
}

/// Services that take tokens, their keys in this place.
async fn started(keys: &str, more: &[(&'static str, &str)]) -> Secured {
    Secured::start_with(&callers(), |dir| {
        let keys = match keys.contains("://") {
            true => keys.to_owned(),
            false => {
                fs::write(dir.join("keys.json"), keys).unwrap();
                dir.join("keys.json").display().to_string()
            }
        };
        let usual = [
            ("FRIKORT_TOKEN_KEYS", keys.as_str()),
            ("FRIKORT_TOKEN_ISSUER", ISSUER),
            ("FRIKORT_TOKEN_AUDIENCE", AUDIENCE),
            // No part of it is left out, and so it is of what a caller sends.
            ("FRIKORT_LOG", "debug"),
        ];
        let settings = usual.iter().chain(more);
        settings.map(|(name, value)| (*name, (*value).to_owned())).collect()
    })
    .await
}

/// Records a limit, which only the operator may, showing a token.
async fn set_limit(channel: &Channel, token: Option<&str>) -> Result<(), Status> {
    let limit = AnnualLimit {
        year: 2022,
        limit_oere: 2_000_000,
        in_force_date: Some(date(2022, 1, 1)),
        citation: "for a test".to_owned(),
    };
    let limit = SetAnnualLimitRequest { limit: Some(limit), validate_only: false };
    let mut request = Request::new(limit);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    PolicyServiceClient::new(channel.clone()).set_annual_limit(request).await.map(drop)
}

fn reason(status: &Status) -> ErrorReason {
    Failure::from_status(status).unwrap().reason
}

/// Every token that is not good, and what the log says of it.
fn bad_tokens(one: &Issuer) -> Vec<(String, &'static str)> {
    let with = |more: &[(&str, Value)]| {
        let mut claims = claims("operations");
        for (name, value) in more {
            claims[*name] = value.clone();
        }
        claims
    };
    let (usual, header) = (with(&[]), one.header());
    let sign = |header: &Value, claims: &Value| one.sign(header, claims).unwrap();
    let forger = Issuer::new("one").unwrap();
    let of_header = |alg: &str| json!({ "typ": "JWT", "alg": alg, "kid": "one" });
    let with_secret = |secret: &str| {
        let message = unsigned(&of_header("HS256"), &usual);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        format!("{message}.{}", encoded(ring::hmac::sign(&key, message.as_bytes())))
    };
    let (algorithm, none) =
        ("algorithm is not that of its key", "its algorithm is unknown or none");
    let unknown_key = "key is not among ours";
    vec![
        (sign(&header, &with(&[("exp", json!(now() - 61))])), "has expired"),
        (sign(&header, &with(&[("nbf", json!(now() + 120))])), "is not valid yet"),
        (forger.sign(&header, &usual).unwrap(), "signature is not of its key"),
        (format!("{}.", unsigned(&of_header("none"), &usual)), none),
        (with_secret(&one.jwk().to_string()), algorithm),
        (with_secret(one.jwk()["x"].as_str().unwrap()), algorithm),
        (sign(&header, &with(&[("iss", json!("https://other.test/"))])), "of another issuer"),
        (sign(&header, &with(&[("aud", json!("somebody"))])), "for another audience"),
        (sign(&header, &with(&[("sub", json!("stranger"))])), "subject is nobody"),
        (sign(&json!({ "alg": "ES256", "kid": "three" }), &usual), unknown_key),
        (sign(&json!({ "alg": "ES256" }), &usual), unknown_key),
        (sign(&header, &with(&[("pad", json!("x".repeat(7000)))])), "the token is too long"),
        ("no.token.atall".to_owned(), none),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_stands_for_a_certificate_and_every_other_is_refused_alike() {
    let (one, two) = (Issuer::new("one").unwrap(), Issuer::new("two").unwrap());
    let secured = started(&published(&[&one, &two]), &[]).await;
    let channel = secured.connect(&secured.ledger, None).await.unwrap();
    let good = one.token("operations").unwrap();
    set_limit(&channel, Some(&good)).await.unwrap();
    set_limit(&channel, Some(&two.token("operations").unwrap())).await.unwrap();
    // The role is that of the directory.
    let auditing = one.token("auditing").unwrap();
    let status = set_limit(&channel, Some(&auditing)).await.unwrap_err();
    assert_eq!(reason(&status), ErrorReason::NotAllowed);
    let by: String = sqlx::query_scalar(
        "SELECT record::jsonb #>> '{actor,organisation}' FROM ledger.event WHERE position = 1",
    )
    .fetch_one(&secured.database.pool().await.unwrap())
    .await
    .unwrap();
    assert_eq!(by, "driften");
    let events = secured.events().await;

    let nothing = told(&set_limit(&channel, None).await.unwrap_err());
    assert_eq!(nothing.0, i32::from(tonic::Code::Unauthenticated));
    let refused = bad_tokens(&one);
    for (token, why) in &refused {
        let before = secured.ledger.logged().unwrap().matches(why).count();
        let status = set_limit(&channel, Some(token)).await.expect_err(why);
        assert_eq!(told(&status), nothing, "{why}");
        let after = secured.ledger.logged().unwrap().matches(why).count();
        assert_eq!(after, before + 1, "it was refused for another reason than {why}");
    }
    assert_eq!(secured.events().await, events);
    set_limit(&channel, Some(&good)).await.unwrap();

    // The projector, by plain GET.
    let mut channel = secured.connect(&secured.projector, None).await.unwrap();
    for (token, expected) in [(&auditing, 200), (&refused[0].0, 401)] {
        assert_eq!(metrics(&mut channel, token).await, expected);
    }
    let logs = [&secured.ledger, &secured.projector].map(|service| service.logged().unwrap());
    let shown = refused.iter().map(|(token, _)| token).chain([&good, &auditing]);
    for part in shown.flat_map(|token| token.split('.')).filter(|part| part.len() > 5) {
        assert!(!logs.iter().any(|log| log.contains(part)), "in the log: {part}");
    }
    for subject in ["operations", "stranger"] {
        assert!(!logs.iter().any(|log| log.contains(subject)), "in the log: {subject}");
    }
}

/// The status of `GET /metrics`.
async fn metrics(channel: &mut Channel, token: &str) -> u16 {
    let request = http::Request::get("https://127.0.0.1/metrics")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    channel.call(request).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_and_a_token_are_of_the_same_caller() {
    let one = Issuer::new("one").unwrap();
    let secured = started(&published(&[&one]), &[]).await;
    let nobody = secured.connect(&secured.ledger, None).await.unwrap();
    let nothing = told(&set_limit(&nobody, None).await.unwrap_err());
    let token = |subject: &str| one.token(subject).unwrap();
    for (name, token, expected) in [
        ("operator", None, Ok(())),
        ("operator", Some(token("operations")), Ok(())),
        ("operator", Some(token("auditing")), Err("token of another")),
        ("employer", Some(token("operations")), Err("token of another")),
        ("stranger", Some(token("operations")), Err("certificate is nobody's")),
        ("operator", Some(token("stranger")), Err("subject is nobody")),
        ("operator", Some("none".to_owned()), Err("the token is none")),
    ] {
        let shown: Pair = secured.authority.sign(&format!("{name}.test")).unwrap();
        let channel = secured.connect(&secured.ledger, Some(&shown)).await.unwrap();
        match (set_limit(&channel, token.as_deref()).await, expected) {
            (Ok(()), Ok(())) => {}
            (Err(status), Err(why)) => {
                assert_eq!(told(&status), nothing, "{why}");
                let log = secured.ledger.logged().unwrap();
                assert!(log.contains(why), "{name}: another reason than {why}");
            }
            (answer, _) => panic!("{name}: {answer:?}, expected {expected:?}"),
        }
    }
}

/// Asks with a token again and again until it is refused.
async fn until_refused(channel: &Channel, token: &str) {
    let deadline = Instant::now() + NOTICED;
    loop {
        match set_limit(channel, Some(token)).await {
            Ok(()) => assert!(Instant::now() < deadline, "a key that is gone is still taken"),
            Err(status) => return assert_eq!(reason(&status), ErrorReason::Unauthenticated),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a service has logged something.
async fn until_logged(service: &Service, text: &str) {
    let deadline = Instant::now() + NOTICED;
    while !service.logged().unwrap().contains(text) {
        assert!(Instant::now() < deadline, "not told: {text}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_leaves_its_file_takes_its_tokens_along() {
    let (one, two) = (Issuer::new("one").unwrap(), Issuer::new("two").unwrap());
    let secured = started(&published(&[&one]), &[]).await;
    let channel = secured.connect(&secured.ledger, None).await.unwrap();
    let (old, new) = (one.token("operations").unwrap(), two.token("operations").unwrap());
    set_limit(&channel, Some(&old)).await.unwrap();
    assert!(set_limit(&channel, Some(&new)).await.is_err());
    fs::write(secured.dir.path().join("keys.json"), published(&[&two])).unwrap();
    until_refused(&channel, &old).await;
    set_limit(&channel, Some(&new)).await.unwrap();
    // What makes no sense changes nothing.
    fs::write(secured.dir.path().join("keys.json"), "{}").unwrap();
    until_logged(&secured.ledger, "stays in use, and reading is tried again").await;
    set_limit(&channel, Some(&new)).await.unwrap();
    assert!(set_limit(&channel, Some(&old)).await.is_err());
}

/// Serves what is in `body` to everybody who asks, or says that it cannot; the URL.
async fn serve(body: Arc<Mutex<Option<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let body = body.lock().unwrap().clone();
            let status = if body.is_some() { "200 OK" } else { "503 Service Unavailable" };
            let body = body.unwrap_or_default();
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_leaves_its_url_takes_its_tokens_along() {
    let pause = Duration::from_secs(1);
    let (one, two) = (Issuer::new("one").unwrap(), Issuer::new("two").unwrap());
    let published_now = Arc::new(Mutex::new(None));
    let url = serve(published_now.clone()).await;
    // By themselves they are not fetched again while the test runs.
    let times = [("FRIKORT_TOKEN_KEYS_EVERY", "3600"), ("FRIKORT_TOKEN_KEYS_PAUSE", "1")];
    let secured = started(&url, &times).await;
    let channel = secured.connect(&secured.ledger, None).await.unwrap();
    let (old, new) = (one.token("operations").unwrap(), two.token("operations").unwrap());
    // It starts without them, and they come when they can.
    assert!(set_limit(&channel, Some(&old)).await.is_err());
    *published_now.lock().unwrap() = Some(published(&[&one]));
    until_logged(&secured.ledger, "keys of tokens were fetched").await;
    set_limit(&channel, Some(&old)).await.unwrap();
    // The first token of a new key is waited for, not refused.
    *published_now.lock().unwrap() = Some(published(&[&two]));
    set_limit(&channel, Some(&old)).await.unwrap();
    sleep(pause).await;
    set_limit(&channel, Some(&new)).await.unwrap();
    let status = set_limit(&channel, Some(&old)).await.unwrap_err();
    assert_eq!(reason(&status), ErrorReason::Unauthenticated);
    // What cannot be had changes nothing.
    *published_now.lock().unwrap() = None;
    sleep(pause).await;
    let before = secured.ledger.logged().unwrap().matches("cannot be fetched; kept").count();
    assert!(set_limit(&channel, Some(&old)).await.is_err());
    let after = secured.ledger.logged().unwrap().matches("cannot be fetched; kept").count();
    assert!(after > before, "it was not asked");
    set_limit(&channel, Some(&new)).await.unwrap();
}

#[tokio::test]
async fn what_is_said_of_tokens_is_said_whole() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Authority::new().unwrap().write(dir.path(), &callers()).unwrap();
    let keys = dir.path().join("keys.json");
    fs::write(&keys, published(&[&Issuer::new("one").unwrap()])).unwrap();
    let keys = keys.display().to_string();
    let together = "token-keys, token-issuer and token-audience go together";
    for kind in [Kind::Ledger, Kind::Projector] {
        for (keys, issuer, audience, expected) in [
            (None, None, None, "there is a token_subject, but no token is taken"),
            (Some(keys.as_str()), None, None, together),
            (Some(&keys), Some(ISSUER), None, together),
            (None, Some(ISSUER), Some(AUDIENCE), together),
            (Some(&keys), Some(""), Some(AUDIENCE), "token-issuer is empty"),
            (Some(&keys), Some(ISSUER), Some(""), "token-audience is empty"),
            (Some("http://issuer.test/keys"), Some(ISSUER), Some(AUDIENCE), "an https URL"),
            (Some("/nowhere"), Some(ISSUER), Some(AUDIENCE), "cannot read /nowhere"),
        ] {
            let tokens = [
                ("FRIKORT_TOKEN_KEYS", keys),
                ("FRIKORT_TOKEN_ISSUER", issuer),
                ("FRIKORT_TOKEN_AUDIENCE", audience),
            ];
            let tokens = tokens.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
            let usual = certificates.iter().map(|(name, value)| (*name, value.as_str()));
            let settings: Vec<_> =
                usual.filter(|(_, value)| !value.is_empty()).chain(tokens).collect();
            let said = refusal(kind, &settings);
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let insecure = ("FRIKORT_INSECURE_ON_LOOPBACK", "true");
        let said = refusal(kind, &[insecure, ("FRIKORT_TOKEN_KEYS", &keys)]);
        assert!(said.contains("goes with no certificate, no callers and no tokens"), "{said}");
    }
}
