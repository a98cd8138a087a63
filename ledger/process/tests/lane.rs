//! What is due before a lane's connections send more, over real connections.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{Router, routing::get};
use frikort_process::{lane, serve};
use tokio_util::sync::CancellationToken;

/// An HTTP/1.1 answer to a plain GET on an open connection; `None` where the connection ends instead.
fn answer(connection: &mut TcpStream, path: &str) -> Option<String> {
    write!(connection, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut buffer = [0; 1024];
    let read = connection.read(&mut buffer).unwrap_or_default();
    (read > 0).then(|| String::from_utf8(buffer[..read].to_vec()).unwrap())
}

fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_done_before_an_answer_and_if_it_fails_there_is_none() {
    let listener = serve::bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
    let address = listener.local_addr().unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let due = |is_done: bool| {
        let done = done.clone();
        get(async move || {
            assert!(lane::is_here());
            let before = done.load(Ordering::SeqCst);
            lane::before_sending(move || {
                done.fetch_add(1, Ordering::SeqCst);
                is_done
            });
            // Not while it is worked on.
            format!("before: {before}")
        })
    };
    let routes = Router::new()
        .route("/fine", get(async || "fine"))
        .route("/done", due(true))
        .route("/failed", due(false));
    let stop = CancellationToken::new();
    let limits = serve::Limits::default();
    let serving = tokio::spawn(serve::serve(listener, None, limits, routes.into(), stop.clone()));
    let lanes = thread::available_parallelism().map_or(1, usize::from);
    tokio::task::spawn_blocking(move || {
        // Dealt out in turn: the last is on the first one's lane.
        let mut all: Vec<_> = (0..=lanes).map(|_| connect(address)).collect();
        for connection in &mut all {
            assert!(answer(connection, "/fine").unwrap().ends_with("fine"));
        }
        assert!(answer(&mut all[0], "/done").unwrap().ends_with("before: 0"));
        assert_eq!(done.load(Ordering::SeqCst), 1);

        assert_eq!(answer(&mut all[0], "/failed"), None);
        assert_eq!(answer(&mut all[lanes], "/fine"), None);
        for connection in &mut all[1..lanes] {
            assert!(answer(connection, "/fine").unwrap().ends_with("fine"));
        }
        for _ in 0..lanes {
            assert!(answer(&mut connect(address), "/done").is_some());
        }
    })
    .await
    .unwrap();
    stop.cancel();
    serving.await.unwrap().unwrap();
}
