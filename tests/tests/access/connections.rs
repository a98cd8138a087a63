//! Connections: who may have one, and certificates and callers that change while services run.

use std::{fs, sync::Arc, time::Duration};

use frikort_proto::{error::Failure, v1::ErrorReason};
use frikort_tests::{
    client::{Ledger, new_cpr},
    pki::{self, Authority, CALLERS},
    process::{Kind, program},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::Secured;

/// How long a change may take to be noticed.
pub(crate) const NOTICED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn whose_certificate_is_not_genuine_gets_no_connection_and_harms_nobody() {
    let secured = Secured::start().await;
    let mut honest = secured.as_caller("operator").await;
    honest.set_limit(2022, 20_000).await.unwrap();
    let other = Authority::new().unwrap();
    for shown in [
        other.sign("operator.test").unwrap(),
        secured.authority.sign_expired("operator.test").unwrap(),
    ] {
        // With TLS 1.3 the client learns of it with the first answer at the latest.
        let refused = match secured.connect(&secured.ledger, Some(&shown)).await {
            Err(_) => true,
            Ok(channel) => {
                let status = Ledger::new(channel).set_limit(2023, 1).await.unwrap_err();
                Failure::from_status(&status).is_none()
            }
        };
        assert!(refused, "a certificate that is not genuine was taken");
    }
    // A client that expects somebody else's server goes away by itself.
    assert!(pki::connect(&other.pem(), secured.ledger.address(), None).await.is_err());
    // Plain text, noise, and silence.
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0x16, 3, 1, 255, 255, 0], &[]] {
        let mut stream = TcpStream::connect(secured.ledger.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "a connection that is none is kept: {bytes:?}");
    }
    honest.grant(&new_cpr()).await.unwrap();
    assert_eq!(secured.events().await, 2, "nothing but what the honest one did");
}

/// Agrees with the ledger on a connection of one version, or says why not.
async fn agree(
    secured: &Secured,
    version: &'static rustls::SupportedProtocolVersion,
) -> std::io::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(secured.authority.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(secured.ledger.address()).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_tls_1_3_and_nothing_older() {
    let secured = Secured::start().await;
    agree(&secured, &TLS13).await.unwrap();
    let error = agree(&secured, &TLS12).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_and_certificates_change_while_it_runs() {
    let secured = Secured::start().await;
    let mut operator = secured.as_caller("operator").await;
    operator.set_limit(2022, 20_000).await.unwrap();
    // What makes no sense changes nothing.
    let callers = secured.dir.path().join("callers.toml");
    fs::write(&callers, "[[caller]]\nname = 1").unwrap();
    let deadline = Instant::now() + NOTICED;
    while !secured.ledger.logged().unwrap().contains("stays in use, and reading is tried again") {
        assert!(Instant::now() < deadline, "not told");
        sleep(Duration::from_millis(50)).await;
    }
    operator.set_limit(2023, 20_000).await.unwrap();
    // Somebody is taken out: on connections that are open too.
    fs::write(&callers, CALLERS.replace("operator.test", "gone.test")).unwrap();
    let deadline = Instant::now() + NOTICED;
    let refused = loop {
        match operator.set_limit(2022, 20_000).await {
            Ok(()) => assert!(Instant::now() < deadline, "still known"),
            Err(status) => break Failure::from_status(&status).unwrap().reason,
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(refused, ErrorReason::Unauthenticated);
    // Another authority, and another certificate of ours: for new connections.
    let other = Authority::new().unwrap();
    other.write(secured.dir.path(), CALLERS).unwrap();
    let shown = other.sign("operator.test").unwrap();
    let deadline = Instant::now() + NOTICED;
    loop {
        let address = secured.ledger.address();
        if let Ok(channel) = pki::connect(&other.pem(), address, Some(&shown)).await
            && Ledger::new(channel).set_limit(2022, 20_000).await.is_ok()
        {
            break;
        }
        assert!(Instant::now() < deadline, "the new certificate is not used");
        sleep(Duration::from_millis(50)).await;
    }
}

/// How a service ends that is started so.
pub(crate) fn refusal(kind: Kind, settings: &[(&str, &str)]) -> String {
    let name = if kind == Kind::Ledger { "ledger" } else { "projector" };
    let mut command = std::process::Command::new(program(name).unwrap());
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("DATABASE_URL", "postgresql://x/x");
    command.env("FRIKORT_KEYS", format!("find={0} seal={0}", "ab".repeat(32)));
    let output = command.envs(settings.iter().copied()).output().unwrap();
    assert!(!output.status.success(), "{name} started");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn without_being_told_who_may_call_nothing_starts() {
    for kind in [Kind::Ledger, Kind::Projector] {
        for (settings, told) in [
            (&[][..], "who may call?"),
            (&[("FRIKORT_CALLERS", "x")], "go together"),
            (&[("FRIKORT_INSECURE_ON_LOOPBACK", "true")], "where are look-ups noted?"),
            (
                &[("FRIKORT_CALLERS", "x"), ("FRIKORT_INSECURE_ON_LOOPBACK", "true")],
                "goes with no certificate",
            ),
        ] {
            let said = refusal(kind, settings);
            assert!(said.contains(told), "{settings:?}: {said}");
        }
        let name = if kind == Kind::Ledger { "LEDGER" } else { "PROJECTOR" };
        let anywhere = format!("FRIKORT_{name}_LISTEN");
        let mut command = std::process::Command::new(program(&name.to_lowercase()).unwrap());
        command.args(["serve", "--insecure-on-loopback"]).env(anywhere, "0.0.0.0:0");
        command.env("DATABASE_URL", "postgresql://x/x").env("FRIKORT_LOOKUP_JOURNAL", "nowhere");
        command.env("FRIKORT_KEYS", format!("find={0} seal={0}", "ab".repeat(32)));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("not a loopback address"), "{said}");
    }
}
