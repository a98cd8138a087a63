//! A client in another language, made from our .proto files by somebody else's tools: what it
//! needs of the contract is what everybody needs.

use std::{ffi::OsStr, process::Command};

use frikort_tests::{
    python::{environment, run, source},
    stack::Stack,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_made_from_our_protos_gets_every_value_right() {
    let python =
        tokio::task::spawn_blocking(|| environment("requirements.txt")).await.unwrap().unwrap();
    let stack = Stack::start(1).await.unwrap();
    let mut client = Command::new(python);
    let (ledger, projector) = (stack.ledger.address(), stack.projector.address());
    client
        .arg(source("python/client.py"))
        .args([OsStr::new("--protos"), source("../proto").as_os_str()])
        .args(["--ledger", &ledger.to_string(), "--projector", &projector.to_string()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONIOENCODING", "utf-8")
        // A proxy for the network has no say over loopback.
        .env("no_grpc_proxy", "127.0.0.1");
    let said = tokio::task::spawn_blocking(move || run(&mut client)).await.unwrap().unwrap();
    assert!(said.contains("refused: ALREADY_EXISTS REFERENCE_REUSED"), "{said}");
    assert!(said.contains("refused: FAILED_PRECONDITION LIMIT_EXCEEDED"), "{said}");
    assert!(said.ends_with("every value is as it must be\n"), "{said}");
    assert_eq!(stack.recorded().await.unwrap().events, 5);
}
