//! Floods of HTTP/2: frames that cost their sender little. By strangers, and by a caller whom the
//! ledger knows.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Ground, show,
    wire::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, Way, address, call, frame, header,
    },
};

const REPORT: &str = "/frikort.v1.PaymentService/ReportPayment";

/// How long each goes on.
const TIME: Duration = Duration::from_millis(400);

/// Connections at the same time, each beginning anew when it is cut off.
const CONNECTIONS: usize = 4;

/// What adds the next frames of a flood; the number rises from one, and is odd.
type Next = fn(&mut Vec<u8>, u32);

const FLOODS: &[(&str, Next)] = &[
    ("many streams", |to, stream| {
        frame(to, HEADERS, END_HEADERS, stream, &call(REPORT));
    }),
    ("rapid reset", |to, stream| {
        frame(to, HEADERS, END_HEADERS, stream, &call(REPORT));
        frame(to, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }),
    ("calls of nothing", |to, stream| {
        frame(to, HEADERS, END_HEADERS | END_STREAM, stream, &call(REPORT));
    }),
    ("SETTINGS", |to, _| frame(to, SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
    ("PING", |to, _| frame(to, PING, 0, 0, &[0; 8])),
    ("WINDOW_UPDATE", |to, _| frame(to, WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
    ("PRIORITY", |to, stream| frame(to, PRIORITY, 0, stream, &[0, 0, 0, 0, 1])),
    ("empty DATA", |to, stream| {
        if stream == 1 {
            frame(to, HEADERS, END_HEADERS, 1, &call(REPORT));
        }
        frame(to, DATA, 0, 1, &[]);
    }),
    ("CONTINUATION", |to, stream| {
        if stream == 1 {
            frame(to, HEADERS, 0, 1, &call(REPORT));
        }
        let mut block = Vec::new();
        header(&mut block, &format!("x-{stream}"), &"x".repeat(200));
        frame(to, CONTINUATION, 0, 1, &block);
    }),
    ("large headers", |to, stream| {
        let mut block = call(REPORT);
        header(&mut block, "x-large", &"x".repeat(15_000));
        frame(to, HEADERS, END_HEADERS | END_STREAM, stream, &block);
    }),
];

/// One flood, by so many connections from an address each. Gives how many frames were sent, and how
/// often a connection was cut off.
async fn flood(way: Way, next: Next, takes: bool) -> (usize, usize) {
    let until = Instant::now() + TIME;
    let each = (0..CONNECTIONS).map(|number| {
        let way = way.clone();
        async move {
            let (mut sent, mut cut_off) = (0, 0);
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return (sent, cut_off);
                }
                let Ok(connection) = way.http2(address(number)).await else { continue };
                let mut stream = 1;
                let with_stream = |to: &mut Vec<u8>| {
                    next(to, stream);
                    stream += 2;
                };
                sent += connection.flood(with_stream, left, takes).await;
                cut_off += 1;
            }
        }
    });
    let all = futures::future::join_all(each).await;
    all.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

async fn all_floods(shown: Option<&str>) {
    let ground = Ground::start().await;
    let way = Way::to(&ground, shown);
    let who = shown.unwrap_or("nobody");
    for (name, next) in FLOODS {
        for takes in [true, false] {
            // Whoever takes nothing floods with what is answered.
            if !takes && !["SETTINGS", "PING", "calls of nothing"].contains(name) {
                continue;
            }
            let what = format!("{name} by {who}{}", if takes { "" } else { ", who takes nothing" });
            let (sent, cut_off) = ground.endures(&what, || flood(way.clone(), *next, takes)).await;
            show(&format!("    {sent} sent, {cut_off} connections"));
            assert!(sent > 0, "{what}: nothing was sent");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_strangers_are_endured() {
    all_floods(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_a_caller_are_endured() {
    all_floods(Some("hostile")).await;
}
