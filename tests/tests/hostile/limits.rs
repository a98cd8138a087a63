//! What one caller may have: connections, calls, and frames beside those. Another one's go on as usual.

use std::time::Duration;

use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, ListAnnualLimitsRequest},
};
use frikort_tests::client::Ledger;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};
use tonic::Status;

use crate::{
    Ground,
    wire::{END_HEADERS, HEADERS, PING, Way, address, call, frame},
};

/// Something that every role may ask.
async fn ask(ledger: &mut Ledger) -> Result<(), Status> {
    ledger.policies.list_annual_limits(ListAnnualLimitsRequest::default()).await.map(drop)
}

fn overloaded(status: &Status) -> Failure {
    let failure = Failure::from_status(status).unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(failure.reason, ErrorReason::Overloaded, "{status:?}");
    assert!(failure.retry_delay().is_some());
    failure
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_so_many_connections() {
    let ground = Ground::start_with(&[("FRIKORT_MAX_CONNECTIONS_PER_CALLER", "8")]).await;
    let mut connections = Vec::new();
    for number in 0..12 {
        let mut ledger = ground.as_caller("hostile").await;
        match ask(&mut ledger).await {
            Ok(()) => assert!(number < 8, "connection {number}"),
            Err(status) => {
                assert!(number >= 8, "connection {number}: {status:?}");
                assert!(overloaded(&status).message.contains("connections"));
            }
        }
        connections.push(ledger);
    }
    // Those that it has go on; another caller gets its own; and a place that is free is given anew.
    ask(&mut connections[0]).await.unwrap();
    ask(&mut ground.as_caller("auditor").await).await.unwrap();
    connections.truncate(4);
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(status) = ask(&mut ground.as_caller("hostile").await).await {
        overloaded(&status);
        assert!(Instant::now() < deadline, "no place is given back");
    }
    ground.is_as_before("connections").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_so_many_calls() {
    let ground = Ground::start_with(&[("FRIKORT_CALLS_PER_SECOND", "400")]).await;
    let hostile = ground.as_caller("hostile").await;
    let attack = || {
        let mut hostile = hostile.clone();
        async move {
            let (began, mut answered, mut refused) = (Instant::now(), 0_u32, 0_u32);
            // On a slow machine it takes longer until it has had too many.
            let goes_on = |refused| match refused {
                0 => began.elapsed() < Duration::from_secs(60),
                _ => began.elapsed() < Duration::from_secs(2),
            };
            while goes_on(refused) {
                let mut calls = Vec::new();
                for _ in 0..100 {
                    let mut ledger = hostile.clone();
                    calls.push(async move { ask(&mut ledger).await });
                }
                for answer in futures::future::join_all(calls).await {
                    match answer {
                        Ok(()) => answered += 1,
                        Err(status) => {
                            let wait = overloaded(&status).retry_delay().unwrap();
                            assert!(wait <= Duration::from_secs(1), "{wait:?}");
                            refused += 1;
                        }
                    }
                }
            }
            // After the delay it is answered again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            ask(&mut hostile).await.unwrap();
            (answered, refused, began.elapsed())
        }
    };
    let (answered, refused, time) = ground.endures("calls", attack).await;
    eprintln!("    {answered} answered, {refused} refused in {time:?}");
    let most = 2000.0 + 400.0 * (time.as_secs_f64() + 0.1);
    assert!(f64::from(answered) <= most, "{answered} answered in {time:?}");
    // Its connection is not read at once again: who sends on and on is not refused on and on. By turns
    // of a tenth of a second each, with some ten calls.
    assert!((1..1000).contains(&refused), "{refused} refused");
}

/// Calls that are begun and never ended: so many for one caller, on however many connections.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_never_end_are_bounded() {
    let ground = Ground::start_with(&[("FRIKORT_CALLS_PER_SECOND", "0")]).await;
    let (way, hostile) = (Way::to(&ground, Some("hostile")), ground.as_caller("hostile").await);
    let attack = || {
        let (way, mut hostile) = (way.clone(), hostile.clone());
        async move {
            let mut connections = Vec::new();
            for number in 0..20 {
                let mut connection = way.http2(address(number)).await.unwrap();
                let mut bytes = Vec::new();
                for stream in 0..250 {
                    let path = "/frikort.v1.PaymentService/ReportPayments";
                    frame(&mut bytes, HEADERS, END_HEADERS, stream * 2 + 1, &call(path));
                }
                connection.write.write_all(&bytes).await.unwrap();
                connection.write.flush().await.unwrap();
                connections.push(connection);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            overloaded(&ask(&mut hostile).await.unwrap_err())
        }
    };
    let refused = ground.endures("calls that never end", attack).await;
    assert!(refused.message.contains("under way"), "{refused:?}");
    let mut hostile = hostile;
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(status) = ask(&mut hostile).await {
        overloaded(&status);
        assert!(Instant::now() < deadline, "what was given up is still counted");
    }
}

/// A thousand at once, and four thousand a second: the last of many is answered when it may be.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_carry_nothing_are_read_at_their_pace() {
    const PINGS: u32 = 5000;
    let ground = Ground::start().await;
    let mut connection = Way::to(&ground, Some("hostile")).http2(address(0)).await.unwrap();
    let began = Instant::now();
    let mut bytes = Vec::new();
    (0..PINGS).for_each(|number| {
        frame(&mut bytes, PING, 0, 0, &u64::from(number).to_be_bytes());
    });
    let sending = async {
        connection.write.write_all(&bytes).await.unwrap();
        connection.write.flush().await.unwrap();
    };
    let answered = async {
        let mut answered = 0;
        while answered < PINGS {
            let mut header = [0; 9];
            connection.read.read_exact(&mut header).await.unwrap();
            let [_, high, low, kind, ..] = header;
            let mut payload = vec![0; u16::from_be_bytes([high, low]).into()];
            connection.read.read_exact(&mut payload).await.unwrap();
            answered += u32::from(kind == PING);
        }
    };
    tokio::join!(sending, answered);
    let time = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&time), "{time:?}");
    ground.is_as_before("frames").await;
}
