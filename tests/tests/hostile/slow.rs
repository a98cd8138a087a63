//! Connections that are slow, and that do nothing: so many that strangers' places are all taken, and
//! then some.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    Ground, open_files, show,
    wire::{PREFACE, Way, address},
};

/// Until when whoever has sent no request is cut off: ten seconds, or a handshake of five and ten.
const CUT_OFF: Duration = Duration::from_secs(18);

/// How long an honest caller may take to come in, with other callers' connections beside it.
const COMES_IN: Duration = Duration::from_secs(2);

/// Sends bytes one by one, for as long as they are taken, and then takes what comes until the
/// connection is closed. Gives how long that took.
async fn dribble(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    bytes: &[u8],
) -> Duration {
    let began = Instant::now();
    let sending = async {
        for byte in bytes {
            let sent = stream.write_all(&[*byte]).await.is_ok() && stream.flush().await.is_ok();
            if !sent {
                break;
            }
            // Is it closed?
            let mut answer = [0; 256];
            let read = timeout(Duration::from_millis(300), stream.read(&mut answer)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
        crate::wire::read_to_the_end(stream).await;
    };
    let _ = timeout(CUT_OFF * 2, sending).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_or_idle_is_cut_off_and_keeps_nobody_out() {
    let ground = Ground::start().await;
    idle_connections(&ground).await;
    slow_connections(&ground).await;
}

async fn slow_connections(ground: &Ground) {
    let (stranger, caller) = (Way::to(ground, None), Way::to(ground, Some("hostile")));
    // A record of a handshake that never ends; then a preface, and headers of HTTP/1.1.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat();
    let headers = [&b"GET /log/partition/0/checkpoint HTTP/1.1\r\nx: "[..], &[b'x'; 200]].concat();
    let before = open_files(ground.ledger.id());
    let attack = || {
        let (stranger, caller) = (stranger.clone(), caller.clone());
        let (hello, headers) = (hello.clone(), headers.clone());
        async move {
            let mut all: Vec<futures::future::BoxFuture<'static, Duration>> = Vec::new();
            for number in 0..600 {
                let (way, hello) = (stranger.clone(), hello.clone());
                all.push(Box::pin(async move {
                    let Ok(mut stream) = way.plain(address(number / 60)).await else {
                        return Duration::ZERO;
                    };
                    dribble(&mut stream, &hello).await
                }));
            }
            for number in 0..120 {
                let (way, headers) = (if number % 2 == 0 { &stranger } else { &caller }, &headers);
                let (way, headers) = (way.clone(), headers.clone());
                all.push(Box::pin(async move {
                    let Ok(mut stream) = way.secured(address(20 + number / 60)).await else {
                        return Duration::ZERO;
                    };
                    let bytes = match number % 3 {
                        0 => PREFACE,
                        1 => &headers,
                        _ => &[],
                    };
                    dribble(&mut stream, bytes).await
                }));
            }
            futures::future::join_all(all).await
        }
    };
    let comes_in = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let began = Instant::now();
            let mut honest = ground.honest.clone();
            honest.ledger = ground.as_caller("employer").await;
            honest.report().await;
            slowest = slowest.max(began.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
        slowest
    };
    let (times, slowest) = tokio::join!(ground.endures("slow connections", attack), comes_in);
    let longest = times.iter().max().unwrap();
    show(&format!(
        "    the last was cut off after {longest:?}; an honest one came in within {slowest:?}"
    ));
    assert!(*longest <= CUT_OFF, "somebody is slow for {longest:?}");
    assert!(slowest <= COMES_IN, "an honest caller came in after {slowest:?}");
    // Nothing is left of them.
    let deadline = Instant::now() + CUT_OFF;
    while open_files(ground.ledger.id()) > before + 40 {
        assert!(Instant::now() < deadline, "{} open files", open_files(ground.ledger.id()));
        sleep(Duration::from_millis(100)).await;
    }
}

/// By the thousand.
async fn idle_connections(ground: &Ground) {
    let (stranger, ledger) = (Way::to(ground, None), ground.ledger.id());
    let before = open_files(ledger);
    let attack = || {
        let stranger = stranger.clone();
        async move {
            let mut idle: Vec<TcpStream> = Vec::new();
            for number in 0..2500 {
                let from = address(100 + number / 100);
                if let Ok(Ok(stream)) = timeout(Duration::from_secs(1), stranger.plain(from)).await
                {
                    idle.push(stream);
                }
            }
            sleep(Duration::from_millis(500)).await;
            (idle.len(), open_files(ledger))
        }
    };
    let comes_in = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            let began = Instant::now();
            let mut honest = ground.honest.clone();
            honest.ledger = ground.as_caller("employer").await;
            honest.report().await;
            slowest = slowest.max(began.elapsed());
            sleep(Duration::from_millis(50)).await;
        }
        slowest
    };
    let ((came, files), slowest) =
        tokio::join!(ground.endures("idle connections", attack), comes_in);
    show(&format!("    {came} came, {files} open files; an honest one came in within {slowest:?}"));
    assert!(came > 2000, "{came} came");
    assert!(files < before + 1024 + 200, "{files} open files, {before} before");
    assert!(slowest <= COMES_IN, "an honest caller came in after {slowest:?}");
}
