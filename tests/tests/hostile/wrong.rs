//! Frames, messages and paths that are none.

use std::time::Duration;

use frikort_tests::chance::Chance;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tonic::{
    body::Body,
    codegen::{Bytes, Service as _, http},
    transport::Channel,
};

use crate::{
    Ground, connect,
    wire::{
        CONTINUATION, DATA, END_HEADERS, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, Way,
        address, frame,
    },
};

/// A message as gRPC frames it: a flag, a length that may be a lie, and bytes.
fn framed(flag: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[flag][..], &length.to_be_bytes(), bytes].concat()
}

/// The status of an answer, from its headers or trailers.
async fn ask(channel: &mut Channel, path: &str, bytes: Vec<u8>) -> Option<i32> {
    let request = http::Request::post(format!("https://127.0.0.1{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(http_body_util::Full::new(Bytes::from(bytes))))
        .unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    let code = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    if let Some(code) = code(response.headers()) {
        return Some(code);
    }
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    body.trailers().and_then(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_none_is_refused_and_harms_nobody() {
    let ground = Ground::start().await;
    frames(&ground).await;
    messages(&ground).await;
    paths(&ground).await;
}

/// Messages that are none, and that lie about their length.
async fn messages(ground: &Ground) {
    let chance = Chance::printed();
    let channel = connect(&ground.authority, &ground.ledger, "operator").await;
    let attack = || {
        let (mut chance, mut channel) = (chance.clone(), channel.clone());
        async move {
            let methods = [
                "PaymentService/ReportPayment",
                "PaymentService/ReportPayments",
                "PaymentService/CorrectPayment",
                "VisitationService/GrantCard",
                "VisitationService/GetCard",
                "PolicyService/SetAnnualLimit",
                "AuditService/GetReceipt",
            ];
            let (mut asked, mut told) = (0, 0);
            for round in 0..80_u64 {
                for method in methods {
                    let number = usize::try_from(chance.below(60)).unwrap();
                    let mut bytes = Vec::new();
                    for _ in 0..number {
                        bytes.push(u8::try_from(chance.below(256)).unwrap());
                    }
                    let length = u32::try_from(bytes.len()).unwrap();
                    let message = match round % 5 {
                        0 => framed(0, u32::MAX, &bytes),
                        1 => framed(1, length, &bytes),
                        2 => framed(0, length + 10, &bytes),
                        // A field that says it is longer than everything.
                        3 => framed(0, 6, &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
                        _ => framed(0, length, &bytes),
                    };
                    let path = format!("/frikort.v1.{method}");
                    let status =
                        timeout(Duration::from_secs(10), ask(&mut channel, &path, message));
                    asked += 1;
                    // What chance made may be a message that asks for nothing.
                    told += usize::from(status.await.unwrap().is_some_and(|code| code != 0));
                }
            }
            (asked, told)
        }
    };
    let (asked, told) = ground.endures("messages that are none", attack).await;
    assert!(told * 10 >= asked * 9, "{told} of {asked} were refused");
}

/// Paths out of the log's files.
async fn paths(ground: &Ground) {
    let way = Way::to(ground, Some("auditor"));
    let long = format!("/log/partition/0/tile/{}", "a/".repeat(20_000));
    let paths = [
        "/log/../../../../etc/passwd",
        "/log/partition/0/../../../../etc/passwd",
        "/log/partition/0/tile/0/../../../../../../etc/passwd",
        "/log/partition/0/tile/entries/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/log/partition/0/tile/entries/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/log/partition/0/tile/entries/....//....//etc/passwd",
        "/log/partition/0/tile/entries/..\\..\\etc\\passwd",
        "/log/partition/0/tile/entries//etc/passwd",
        "/log/partition/0/tile/entries/000%00",
        "/log/partition/0/tile/entries/%c0%ae%c0%ae/etc/passwd",
        "/log/partition/-1/keys",
        "/log/partition/99999999999999999999/keys",
        "/log/partition/0/tile/-1/000",
        "/log/partition/0/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "//etc/passwd",
        "/./etc/passwd",
        "https://example.org/etc/passwd",
        "*",
        &long,
    ]
    .map(str::to_owned);
    let attack = || {
        let (way, paths) = (way.clone(), paths.clone());
        async move {
            let mut answers = Vec::new();
            for (number, path) in paths.iter().cycle().take(paths.len() * 5).enumerate() {
                let mut stream = way.secured(address(number)).await.unwrap();
                let request =
                    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
                read.expect("it is not answered").ok();
                let answer = String::from_utf8_lossy(&answer).into_owned();
                answers.push((path.chars().take(80).collect::<String>(), answer));
            }
            answers
        }
    };
    let answers = ground.endures("paths", attack).await;
    for (path, answer) in answers {
        assert!(!answer.contains("root:"), "{path}: {answer}");
        // Nothing is there, or it is no file; gRPC says the former with 200 and a status.
        let is_none = !answer.starts_with("HTTP/1.1 200") || answer.contains("grpc-status: 12");
        assert!(is_none, "{path}: {answer}");
    }
}

/// Frames that are none: one connection each.
async fn frames(ground: &Ground) {
    let way = Way::to(ground, Some("hostile"));
    let mut wrong: Vec<Vec<u8>> = vec![
        // Longer than any may be, and than it is.
        vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1],
        vec![0, 0, 100, HEADERS, END_HEADERS, 0, 0, 0, 1, 0],
        // Cut off within the head.
        vec![0, 0],
        // No such kind, at no such stream.
        vec![0, 0, 0, 0xee, 0xff, 0x7f, 0xff, 0xff, 0xff],
    ];
    for (kind, flags, stream, payload) in [
        // Of a size that the kind does not have.
        (SETTINGS, 0, 0, &[0; 5][..]),
        (PING, 0, 0, &[0; 7]),
        (WINDOW_UPDATE, 0, 0, &[0; 4]),
        (RST_STREAM, 0, 1, &[0; 3]),
        // At a stream where it has no place.
        (DATA, 0, 0, &[0; 5]),
        (HEADERS, END_HEADERS, 0, &[0x82]),
        (SETTINGS, 0, 1, &[]),
        (CONTINUATION, END_HEADERS, 1, &[0x82]),
        // Padding that is longer than the frame, and an index that no table has.
        (DATA, 8, 1, &[200, 0]),
        (HEADERS, END_HEADERS | 8, 1, &[200, 0x82]),
        (HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0x7f]),
        // A table of headers of two gigabytes.
        (HEADERS, END_HEADERS, 1, &[0x3f, 0xe1, 0xff, 0xff, 0xff, 0x07]),
        (SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        (SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
    ] {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind, flags, stream, payload);
        wrong.push(bytes);
    }
    let attack = || {
        let (way, wrong) = (way.clone(), wrong.clone());
        async move {
            for bytes in wrong.iter().cycle().take(wrong.len() * 8) {
                let mut connection = way.http2(address(9)).await.unwrap();
                let _ = connection.write.write_all(bytes).await;
                let _ = connection.write.shutdown().await;
            }
        }
    };
    ground.endures("wrong frames", attack).await;
}
