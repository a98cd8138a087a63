//! TLS 1.3 towards callers: our certificate, and the authorities that callers' certificates come
//! from. The files are looked at every few seconds, so that certificates are renewed without a
//! restart; connections that are open keep what they began with.
//!
//! A caller may come without a certificate: health and reflection are for everybody. What must stay
//! out: who the holder of a certificate is, and what the holder may do.

use std::{
    io::IoSlice,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use tokio::{
    io::{self, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::renewed;

/// How long a caller may take to agree on a connection.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Where the certificates lie, all PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// Our certificate, and the intermediate ones after it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates callers show.
    pub client_ca: PathBuf,
}

/// How connections are secured. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(watch::Receiver<Arc<ServerConfig>>);

impl Tls {
    /// Reads the files, and goes on looking at them for as long as the runtime lives. Fails if they
    /// make no sense now; later, such ones are logged, and what was read before is kept.
    pub fn start(files: Files) -> anyhow::Result<Self> {
        let read = [&files.certificate, &files.key, &files.client_ca].map(PathBuf::clone);
        Ok(Self(renewed::read("certificates", read.to_vec(), move || files.config())?))
    }

    async fn accept(&self, io: TcpStream) -> io::Result<Connection> {
        let acceptor = TlsAcceptor::from(self.0.borrow().clone());
        let stream = timeout(HANDSHAKE, acceptor.accept(io)).await??;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|certificate| Arc::from(certificate.as_ref()));
        let peer = Peer { certificate };
        Ok(Connection { io: Either::Right(Box::new(stream)), peer })
    }
}

impl Files {
    fn config(&self) -> anyhow::Result<ServerConfig> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.client_ca)? {
            roots.add(authority).with_context(|| named("not an authority", &self.client_ca))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .with_context(|| named("no authority", &self.client_ca))?;
        let key = PrivateKeyDer::from_pem_file(&self.key);
        // The error's text may quote the file.
        let key = key.ok().with_context(|| named("cannot read a private key", &self.key))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.certificate)?, key)
            .with_context(|| named("certificate and key do not fit", &self.certificate))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.with_context(|| named("cannot read certificates", file))?;
    if read.is_empty() {
        bail!(named("no certificate", file));
    }
    Ok(read)
}

fn named(what: &str, file: &Path) -> String {
    format!("{what} in {}", file.display())
}

/// Who is at the other end of a connection; in the extensions of each request.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The certificate that was shown and verified, DER; `None` without one.
    pub certificate: Option<Arc<[u8]>>,
}

/// One connection, secured or not.
pub(crate) struct Connection {
    io: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    peer: Peer,
}

impl Connection {
    /// Agrees with the caller on a connection, within a time.
    pub(crate) async fn accept(io: std::net::TcpStream, tls: Option<Tls>) -> io::Result<Self> {
        let io = TcpStream::from_std(io)?;
        match tls {
            Some(tls) => tls.accept(io).await,
            None => Ok(Self { io: Either::Left(io), peer: Peer::default() }),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
