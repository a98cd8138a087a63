//! TLS 1.3 towards callers: our certificate, the authorities that callers' certificates come from, and
//! what those have revoked. The files are looked at again and again, so that they are renewed without a
//! restart; connections that are open keep our certificate, and the callers' are judged anew.
//!
//! A caller may come without a certificate: health and reflection are for everybody. What must stay
//! out: who the holder of a certificate is, and what the holder may do.

use std::{
    io::IoSlice,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem::PemObject,
    },
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use tokio::{
    io::{self, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;
use tonic::transport::server::Connected;
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use crate::{clock::Clock, door::Place, lane, renewed};

/// How long a caller may take to agree on a connection.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How often it is looked whether a list of revocations should be newer.
const OVERDUE: Duration = Duration::from_mins(10);

/// What is read of a connection, in bytes, before the others of its lane have their turn: some ten
/// calls, whose headers may have less than a hundred.
const TURN: usize = 1024;

/// What a stranger may send: bytes at once, and a second.
const BYTES_AT_ONCE: f64 = 256.0 * 1024.0;
const BYTES_PER_SECOND: f64 = 16.0 * 1024.0;

/// Where the certificates lie, all PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// Our certificate, and the intermediate ones after it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates callers show.
    pub client_ca: PathBuf,
    /// What those have revoked: a list of each. Without the file nobody looks.
    pub client_crl: Option<PathBuf>,
}

/// How connections are secured. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(watch::Receiver<Arc<Secured>>);

/// What was read of the files at one time.
#[derive(Debug)]
struct Secured {
    config: Arc<ServerConfig>,
    /// Judges callers' certificates.
    callers: Arc<dyn ClientCertVerifier>,
    /// Tells this reading from others.
    number: u64,
}

impl Tls {
    /// Reads the files, and goes on looking at them for as long as the runtime lives. Fails if they
    /// make no sense now; later, such ones are logged, and what was read before is kept.
    pub fn start(files: Files, clock: Clock) -> anyhow::Result<Self> {
        let read = [&files.certificate, &files.key, &files.client_ca].into_iter();
        let read = read.chain(&files.client_crl).map(PathBuf::clone).collect();
        if let Some(file) = files.client_crl.clone() {
            tokio::spawn(tell_overdue(file, clock));
        }
        let mut number = 0;
        let read = renewed::read("certificates", read, move || {
            number += 1;
            files.secured(number)
        });
        Ok(Self(read?))
    }

    async fn accept(&self, io: TcpStream, place: Arc<Place>) -> io::Result<Connection> {
        let secured = self.0.borrow().clone();
        let acceptor = TlsAcceptor::from(secured.config.clone());
        let agreed = timeout(HANDSHAKE, acceptor.accept(io));
        let stream = tokio::select! {
            agreed = agreed => agreed??,
            why = place.clone().until_it_has_to_go() => return Err(overstayed(why)),
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::split_first);
        let shown = shown.map(|(certificate, intermediates)| {
            Arc::new(Shown {
                certificate: Arc::from(certificate.as_ref()),
                intermediates: intermediates.iter().map(|one| one.clone().into_owned()).collect(),
                tls: self.clone(),
                judged: AtomicU64::new(judged(secured.number, true)),
            })
        });
        Ok(Connection::new(Either::Right(Box::new(stream)), shown, place))
    }
}

impl Files {
    fn secured(&self, number: u64) -> anyhow::Result<Secured> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.client_ca)? {
            roots.add(authority).with_context(|| named("not an authority", &self.client_ca))?;
        }
        let provider = Arc::new(ring::default_provider());
        let mut verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated();
        if let Some(file) = &self.client_crl {
            // Of whom no list tells is refused; a list whose time is over goes on telling.
            verifier = verifier.with_crls(revocations(file)?);
        }
        let callers = verifier.build().context("no authority, or a list of none")?;
        let key = PrivateKeyDer::from_pem_file(&self.key);
        // The error's text may quote the file.
        let key = key.ok().with_context(|| named("cannot read a private key", &self.key))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(callers.clone())
            .with_single_cert(certificates(&self.certificate)?, key)
            .with_context(|| named("certificate and key do not fit", &self.certificate))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Secured { config: Arc::new(config), callers, number })
    }
}

fn revocations(file: &Path) -> anyhow::Result<Vec<CertificateRevocationListDer<'static>>> {
    let read = CertificateRevocationListDer::pem_file_iter(file);
    let read = read.and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.with_context(|| named("cannot read revocations", file))?;
    if read.is_empty() {
        bail!(named("no list of revocations", file));
    }
    Ok(read)
}

/// Says again and again that there should be a newer list, where there should be.
async fn tell_overdue(file: PathBuf, clock: Clock) {
    loop {
        // What cannot be read is told where it is read for use.
        let lists = revocations(&file).unwrap_or_default();
        if lists.iter().any(|list| is_overdue(list, clock.now().unix_timestamp())) {
            let file = file.display();
            tracing::error!(%file, "REVOCATIONS OVERDUE: a newer list was due; the old one is used");
        }
        sleep(OVERDUE).await;
    }
}

fn is_overdue(list: &[u8], now: i64) -> bool {
    let list = CertificateRevocationList::from_der(list).ok();
    let due = list.and_then(|(_, list)| list.next_update());
    due.is_some_and(|due| due.timestamp() < now)
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

/// A certificate that was shown and verified when its connection began.
#[derive(Debug)]
pub struct Shown {
    /// The certificate, DER.
    pub certificate: Arc<[u8]>,
    intermediates: Vec<CertificateDer<'static>>,
    tls: Tls,
    /// By which reading of the files it was verified last, and whether it was genuine.
    judged: AtomicU64,
}

impl Shown {
    /// Whether it would be verified now too: its authority is still one, and has not revoked it.
    /// It is verified again only when the files have changed.
    pub fn is_genuine(&self) -> bool {
        let secured = self.tls.0.borrow().clone();
        let before = self.judged.load(Ordering::Relaxed);
        if before >> 1 == secured.number {
            return before & 1 == 1;
        }
        let certificate = CertificateDer::from(&*self.certificate);
        let verified =
            secured.callers.verify_client_cert(&certificate, &self.intermediates, UnixTime::now());
        let judged = judged(secured.number, verified.is_ok());
        self.judged.store(judged, Ordering::Relaxed);
        verified.is_ok()
    }
}

fn judged(number: u64, is_genuine: bool) -> u64 {
    number << 1 | u64::from(is_genuine)
}

/// Who is at the other end of a connection; in the extensions of each request.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The certificate that was shown and verified; `None` without one.
    pub certificate: Option<Arc<Shown>>,
    place: Option<Arc<Place>>,
}

impl Peer {
    /// Counts the connection as the caller's, whose call has come; `false` when the caller has as
    /// many as it may have.
    pub fn is_of(&self, caller: &str) -> bool {
        self.place.as_ref().is_none_or(|place| place.is_of(caller))
    }

    /// A call has been refused since nobody knows who calls: there are not many on one connection.
    pub fn refuse(&self) {
        self.place.iter().for_each(|place| place.refuse());
    }

    /// Counts one of what everybody may ask, known or not; else tells how long until the connection may
    /// have another.
    pub fn ask_openly(&self) -> Result<(), Duration> {
        self.place.as_ref().map_or(Ok(()), |place| place.ask_openly())
    }

    /// A request has come.
    pub(crate) fn ask(&self) {
        self.place.iter().for_each(|place| place.ask());
    }
}

/// One connection, secured or not.
pub(crate) struct Connection {
    io: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    peer: Peer,
    /// As long as it is a stranger's.
    stranger: Option<Box<Stranger>>,
    /// Bytes read since others had their turn.
    read: usize,
    /// Whether others have their turn now.
    waits: Arc<AtomicBool>,
    /// What its lane had failed to do in time before there was this connection.
    failures: u64,
}

struct Stranger {
    place: Arc<Place>,
    has_to_go: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    /// Bytes that it may still send now.
    left: f64,
    at: Instant,
}

impl Connection {
    /// Agrees with the caller on a connection, within a time.
    pub(crate) async fn accept(
        (io, place): (std::net::TcpStream, Arc<Place>),
        tls: Option<Tls>,
    ) -> io::Result<Self> {
        let io = TcpStream::from_std(io)?;
        match tls {
            Some(tls) => tls.accept(io, place).await,
            None => Ok(Self::new(Either::Left(io), None, place)),
        }
    }

    fn new(
        io: Either<TcpStream, Box<TlsStream<TcpStream>>>,
        certificate: Option<Arc<Shown>>,
        place: Arc<Place>,
    ) -> Self {
        let stranger = (!place.is_known()).then(|| {
            Box::new(Stranger {
                place: place.clone(),
                has_to_go: Box::pin(place.clone().until_it_has_to_go()),
                left: BYTES_AT_ONCE,
                at: Instant::now(),
            })
        });
        Self {
            io,
            peer: Peer { certificate, place: Some(place) },
            stranger,
            read: 0,
            waits: Arc::default(),
            failures: lane::settle(),
        }
    }

    /// Does what is due before it sends; fails when that does, or it has to go.
    fn may_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if lane::settle() != self.failures {
            return Err(io::Error::other("what was due before its answers has failed"));
        }
        self.may_stay(cx)
    }

    /// Fails when it has to go.
    fn may_stay(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.peer.place.as_ref().is_some_and(|place| place.has_to_go()) {
            return Err(overstayed("others need its place, or its calls were refused too often"));
        }
        let Some(stranger) = &mut self.stranger else { return Ok(()) };
        if stranger.place.is_known() {
            self.stranger = None;
            return Ok(());
        }
        match stranger.has_to_go.as_mut().poll(cx) {
            Poll::Ready(why) => Err(overstayed(why)),
            Poll::Pending => Ok(()),
        }
    }

    /// Reads nothing until what waits on this lane now has run: HTTP/2 would take one call, and read on,
    /// for as long as there is something to read.
    fn wait_for_others(&self, cx: &Context<'_>) {
        self.waits.store(true, Ordering::Relaxed);
        let (waits, reader) = (self.waits.clone(), cx.waker().clone());
        tokio::spawn(async move {
            waits.store(false, Ordering::Relaxed);
            reader.wake();
        });
    }

    /// Counts what was read.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.read += bytes;
        let Some(stranger) = &mut self.stranger else { return Ok(()) };
        let now = Instant::now();
        let since = (now - stranger.at).as_secs_f64();
        let left = (stranger.left + since * BYTES_PER_SECOND).min(BYTES_AT_ONCE);
        stranger.left = left - f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        stranger.at = now;
        if stranger.left < 0.0 { Err(overstayed("a stranger sends too much")) } else { Ok(()) }
    }
}

fn overstayed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
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
        self.may_stay(cx)?;
        if let Either::Left(io) = &mut self.io {
            // Whoever calls is believed.
            return Pin::new(io).poll_read(cx, buffer);
        }
        if self.read >= TURN {
            self.read = 0;
            self.wait_for_others(cx);
        }
        if self.waits.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let room = buffer.remaining().min(TURN);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, &mut part) else {
            self.read = 0;
            return Poll::Pending;
        };
        let bytes = part.filled().len();
        buffer.advance(bytes);
        Poll::Ready(read.and_then(|()| self.count(bytes)))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.may_send(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.may_send(cx)?;
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
