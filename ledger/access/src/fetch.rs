//! Keys of tokens from a URL, as an issuer publishes them: fetched at the start, again and again, and
//! sooner when a token names a key that is not among them. While they cannot be had, what was read
//! before is kept; a service starts without any, and takes no token until they are there.
//!
//! What must stay out: redirects and proxies. Whoever could answer in the issuer's place could say
//! who everybody is.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use axum::http::header::{ACCEPT, HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

use crate::keys::Keys;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a URL of keys must be.
const ALLOWED: &str = "token-keys must be a file, an https URL, or an http URL on loopback";

/// Bytes of an answer that are read at most.
const MOST: usize = 256 * 1024;

/// Calls that may wait for newer keys; those beyond are refused.
const WAITING: usize = 1024;

/// How often keys are fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// While all is well.
    pub(crate) every: Duration,
    /// At least between two times: after a failure, or when unknown keys are named.
    pub(crate) pause: Duration,
}

/// Asks for newer keys. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Renewal(mpsc::Sender<Waiting>);

/// Whoever waits; dropped when there is nothing more to wait for.
type Waiting = oneshot::Sender<()>;

impl Renewal {
    /// Returns when newer keys are there, or when it is not yet time for any.
    pub(crate) async fn ask(&self) {
        let (waiting, done) = oneshot::channel();
        if self.0.try_send(waiting).is_ok() {
            // That the other end is dropped is the answer.
            let _ = done.await;
        }
    }
}

/// Fetches keys from now on, for as long as somebody holds what is given.
pub(crate) fn start(source: Source, times: Times) -> (watch::Receiver<Arc<Keys>>, Renewal) {
    let (told, keys) = watch::channel(Arc::default());
    let (ask, asked) = mpsc::channel(WAITING);
    tokio::spawn(renew(source, times, told, asked));
    (keys, Renewal(ask))
}

async fn renew(
    source: Source,
    times: Times,
    told: watch::Sender<Arc<Keys>>,
    mut asked: mpsc::Receiver<Waiting>,
) {
    let (mut before, mut waiting) = (Bytes::new(), None);
    loop {
        let fetched = source.fetch().await.and_then(|text| {
            // The same keys stay, and with them what was found genuine under them.
            if text != before {
                told.send_replace(Arc::new(Keys::parse(&text)?));
                tracing::info!("the keys of tokens were fetched, and are new");
                before = text;
            }
            Ok(())
        });
        if let Err(error) = &fetched {
            let error: &dyn std::error::Error = error.as_ref();
            tracing::error!(error, "the keys of tokens cannot be fetched; kept");
        }
        let now = Instant::now();
        let due = now + if fetched.is_ok() { times.every } else { times.pause };
        drop(waiting.take());
        while waiting.is_none() {
            tokio::select! {
                () = sleep_until(due) => break,
                // Whoever asks too soon is told so by being dropped.
                ask = asked.recv() => match ask {
                    Some(ask) if now.elapsed() >= times.pause => waiting = Some(ask),
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }
}

/// Where keys are fetched.
pub(crate) struct Source {
    uri: Uri,
    host: String,
    port: u16,
    /// `None` on loopback alone.
    tls: Option<TlsConnector>,
}

impl Source {
    /// A URL, whose server is known by the authorities that this machine trusts.
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::trusting(url, roots)
    }

    fn trusting(url: &str, roots: RootCertStore) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().ok().context(ALLOWED)?;
        let authority = uri.authority().context(ALLOWED)?;
        // It would be shown in the log.
        ensure!(!authority.as_str().contains('@'), "token-keys must hold no user or password");
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_loopback =
            host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
        let tls = match uri.scheme_str() {
            Some("http") if is_loopback => None,
            Some("https") => {
                ensure!(!roots.is_empty(), "this machine knows no authorities to trust for https");
                let config = ClientConfig::builder_with_provider(ring::default_provider().into())
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                Some(TlsConnector::from(Arc::new(config)))
            }
            _ => bail!(ALLOWED),
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { uri, host, port, tls })
    }

    async fn fetch(&self) -> anyhow::Result<Bytes> {
        let fetched = timeout(PATIENCE, async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            match &self.tls {
                None => self.get(stream).await,
                Some(tls) => {
                    let name = ServerName::try_from(self.host.clone())?;
                    self.get(tls.connect(name, stream).await?).await
                }
            }
        });
        let fetched = fetched.await.unwrap_or_else(|_| bail!("no answer in time"));
        fetched.with_context(|| self.uri.to_string())
    }

    async fn get<T>(&self, stream: T) -> anyhow::Result<Bytes>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what goes wrong is told there.
        tokio::spawn(connection);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path).header(HOST, host).header(ACCEPT, "application/json");
        let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let status = answer.status();
        ensure!(status == StatusCode::OK, "answered with {status}");
        let body = Limited::new(answer.into_body(), MOST).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use rcgen::{CertificateParams, KeyPair};
    use rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::sleep,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::testing::Signer;

    /// Long enough for nothing to happen by itself.
    const NEVER: Duration = Duration::from_secs(3600);

    /// A server of one answer.
    #[derive(Clone)]
    struct Server {
        answer: Arc<Mutex<Vec<u8>>>,
        asked: Arc<AtomicUsize>,
        port: u16,
    }

    impl Server {
        async fn start(tls: Option<TlsAcceptor>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = Self { answer: Arc::default(), asked: Arc::default(), port };
            let started = server.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    match &tls {
                        None => server.answer(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                server.answer(stream).await;
                            }
                        }
                    }
                }
            });
            started
        }

        async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
            let _ = stream.read(&mut [0; 4096]).await;
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = self.answer.lock().unwrap().clone();
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }

        fn says(&self, status: &str, body: &[u8]) {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            *self.answer.lock().unwrap() = [head.as_bytes(), body].concat();
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        fn source(&self) -> Source {
            Source::new(&format!("http://127.0.0.1:{}/keys", self.port)).unwrap()
        }
    }

    fn has(keys: &watch::Receiver<Arc<Keys>>, kid: &str) -> bool {
        keys.borrow().find(Some(kid)).is_some()
    }

    #[tokio::test]
    async fn keys_are_fetched_again_when_asked_for_but_not_too_often() {
        let server = Server::start(None).await;
        server.says("200 OK", &Signer::ec().set("one"));
        let pause = Duration::from_millis(500);
        let (keys, renewal) = start(server.source(), Times { every: NEVER, pause });
        // Whoever comes before the first ones are there waits for them.
        renewal.ask().await;
        assert!(has(&keys, "one"));
        let before = keys.borrow().clone();
        server.says("200 OK", &Signer::ec().set("two"));
        for _ in 0..10 {
            renewal.ask().await;
        }
        assert_eq!(server.asked(), 1, "asked too often");
        assert!(Arc::ptr_eq(&before, &keys.borrow()));
        sleep(pause).await;
        futures::future::join_all((0..10).map(|_| renewal.ask())).await;
        assert!(has(&keys, "two") && !has(&keys, "one"));
        assert_eq!(server.asked(), 2);
        // The same keys stay, with what is remembered beside them.
        let before = keys.borrow().clone();
        sleep(pause).await;
        renewal.ask().await;
        assert_eq!(server.asked(), 3);
        assert!(Arc::ptr_eq(&before, &keys.borrow()));
    }

    #[tokio::test]
    async fn keys_are_fetched_by_themselves_and_what_fails_changes_nothing() {
        let server = Server::start(None).await;
        let often = Duration::from_millis(20);
        server.says("503 Service Unavailable", b"");
        let (mut keys, _renewal) = start(server.source(), Times { every: often, pause: often });
        while server.asked() < 2 {
            sleep(often).await;
        }
        assert!(keys.borrow().find(None).is_none(), "none are there yet");
        server.says("200 OK", &Signer::ec().set("one"));
        keys.changed().await.unwrap();
        assert!(has(&keys, "one"));
        let other = Signer::ec().set("two");
        let too_long = [other.clone(), vec![b' '; MOST]].concat();
        for (status, body) in [
            ("404 Not Found", &other[..]),
            ("302 Found", &other),
            ("201 Created", &other),
            ("200 OK", b"{\"keys\":[]}"),
            ("200 OK", b"<html>"),
            ("200 OK", &too_long),
        ] {
            server.says(status, body);
            let before = server.asked();
            while server.asked() < before + 3 {
                sleep(often).await;
            }
            assert!(has(&keys, "one"), "lost to {status}");
        }
        server.says("200 OK", &other);
        keys.changed().await.unwrap();
        assert!(has(&keys, "two"));
    }

    #[tokio::test]
    async fn a_server_with_tls_is_one_whose_authority_is_trusted() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = params.self_signed(&key).unwrap().into();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private)
            .unwrap();
        let server = Server::start(Some(TlsAcceptor::from(Arc::new(config)))).await;
        server.says("200 OK", b"keys");
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate).unwrap();
        let other = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let other = other.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut others = RootCertStore::empty();
        others.add(other.into()).unwrap();
        let url = |host: &str| format!("https://{host}:{}/keys", server.port);
        let fetch = async |url: &str, roots: &RootCertStore| {
            Source::trusting(url, roots.clone()).unwrap().fetch().await
        };
        assert_eq!(fetch(&url("localhost"), &trusted).await.unwrap(), "keys");
        assert!(fetch(&url("localhost"), &others).await.is_err());
        assert!(fetch(&url("127.0.0.1"), &trusted).await.is_err(), "another name");
        assert_eq!(server.asked(), 1);
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        let mut roots = RootCertStore::empty();
        let key = KeyPair::generate().unwrap();
        let authority = CertificateParams::default().self_signed(&key).unwrap();
        roots.add(authority.into()).unwrap();
        let told = |url: &str, roots: &RootCertStore| {
            Source::trusting(url, roots.clone()).err().map(|error| error.to_string())
        };
        for url in [
            "https://issuer.example/keys",
            "https://issuer.example:8443/keys?x=1",
            "http://127.0.0.1:8080/keys",
            "http://localhost/keys",
            "http://[::1]:8080/keys",
        ] {
            assert_eq!(told(url, &roots), None, "{url}");
        }
        for (url, expected) in [
            ("http://issuer.example/keys", "an https URL"),
            ("http://10.0.0.1/keys", "an https URL"),
            ("http://localhost.example/keys", "an https URL"),
            ("http://127.0.0.1.example/keys", "an https URL"),
            ("file:///etc/keys", "an https URL"),
            ("ftp://127.0.0.1/keys", "an https URL"),
            ("https://somebody:password@issuer.example/keys", "no user or password"),
            ("https:// /keys", "an https URL"),
        ] {
            let told = told(url, &roots).unwrap_or_default();
            assert!(told.contains(expected) && !told.contains("password@"), "{url}: {told}");
        }
        let nobody = RootCertStore::empty();
        let said = told("https://issuer.example/keys", &nobody);
        assert!(said.unwrap().contains("no authorities"));
        assert_eq!(told("http://127.0.0.1/keys", &nobody), None);
    }
}
