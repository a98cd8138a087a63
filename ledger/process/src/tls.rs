//! TLS 1.3 towards callers: our certificate, the authorities that callers' certificates come from, and
//! what those have revoked. The files are looked at again and again, so that they are renewed without a
//! restart; connections that are open keep our certificate, and the callers' are judged anew.
//!
//! A caller may come without a certificate: health and reflection are for everybody. What must stay
//! out: who the holder of a certificate is, and what the holder may do.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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
    io,
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use crate::{clock::Clock, door::Place, renewed};

/// How long a caller may take to agree on a connection.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How often it is looked whether a list of revocations should be newer.
const OVERDUE: Duration = Duration::from_mins(10);

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

    /// Agrees with a caller, within a time; gives the certificate too that was shown.
    pub(crate) async fn agree(
        &self,
        io: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Arc<Shown>>)> {
        let secured = self.0.borrow().clone();
        let acceptor = TlsAcceptor::from(secured.config.clone());
        let stream = timeout(HANDSHAKE, acceptor.accept(io)).await??;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::split_first);
        let shown = shown.map(|(certificate, intermediates)| {
            Arc::new(Shown {
                certificate: Arc::from(certificate.as_ref()),
                intermediates: intermediates.iter().map(|one| one.clone().into_owned()).collect(),
                tls: self.clone(),
                judged: AtomicU64::new(judged(secured.number, true)),
            })
        });
        Ok((stream, shown))
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
    pub(crate) place: Option<Arc<Place>>,
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

    /// A call is refused since its caller has had too many: the connection's next ones wait a while
    /// before they are read.
    pub fn pause(&self) {
        self.place.iter().for_each(|place| place.ask_too_much());
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
