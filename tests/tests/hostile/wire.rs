//! Connections by hand: TLS from any loopback address, and HTTP/2 frames that no library would send.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use frikort_tests::pki::Pair;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::Ground;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// How an attacker comes to the ledger. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Way {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

/// A network's address, beside those of honest clients.
pub(crate) fn address(number: usize) -> IpAddr {
    let [high, low] = u16::try_from(number + 1).unwrap().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 66, high, low))
}

impl Way {
    /// Showing the certificate of somebody, or none.
    pub(crate) fn to(ground: &Ground, shown: Option<&str>) -> Self {
        let mut roots = RootCertStore::empty();
        let authority = ground.authority.pem();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            Some(name) => {
                let Pair { certificate, key } = ground.certificate(name);
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { address: ground.address(), config: Arc::new(config) }
    }

    /// Without TLS, from an address.
    pub(crate) async fn plain(&self, from: IpAddr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        socket.connect(self.address).await
    }

    /// With TLS, from an address.
    pub(crate) async fn secured(&self, from: IpAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(self.config.clone()).connect(name, self.plain(from).await?).await
    }

    /// HTTP/2 that has begun.
    pub(crate) async fn http2(&self, from: IpAddr) -> std::io::Result<Http2> {
        let (read, mut write) = split(self.secured(from).await?);
        let mut bytes = PREFACE.to_vec();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        // A window of its own for what is answered, so that nobody waits for us.
        frame(&mut bytes, WINDOW_UPDATE, 0, 0, &0x3fff_ffff_u32.to_be_bytes());
        write.write_all(&bytes).await?;
        Ok(Http2 { read, write })
    }
}

/// One connection.
pub(crate) struct Http2 {
    pub(crate) read: ReadHalf<TlsStream<TcpStream>>,
    pub(crate) write: WriteHalf<TlsStream<TcpStream>>,
}

impl Http2 {
    /// Sends the same again and again until the ledger has had enough or the time is over; takes
    /// what comes, if it is to. Gives how many were sent.
    pub(crate) async fn flood(
        mut self,
        mut next: impl FnMut(&mut Vec<u8>),
        time: Duration,
        takes: bool,
    ) -> usize {
        let mut sent = 0;
        let sending = async {
            loop {
                let mut bytes = Vec::new();
                (0..50).for_each(|_| next(&mut bytes));
                if self.write.write_all(&bytes).await.is_err() || self.write.flush().await.is_err()
                {
                    return;
                }
                sent += 50;
                tokio::task::yield_now().await;
            }
        };
        let taking = async {
            if takes {
                read_to_the_end(&mut self.read).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let _ = timeout(time, async {
            tokio::select! { () = sending => {}, () = taking => {} }
        })
        .await;
        sent
    }
}

/// Takes everything, and forgets it.
pub(crate) async fn read_to_the_end(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut bytes = vec![0; 16 * 1024];
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

/// Adds a frame.
pub(crate) fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    to.extend(length);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    to.extend(payload);
}

/// One header, in full.
pub(crate) fn header(to: &mut Vec<u8>, name: &str, value: &str) {
    to.push(0);
    for text in [name, value] {
        // Seven bits of length, and more in the next bytes.
        match text.len().checked_sub(127) {
            None => to.push(u8::try_from(text.len()).unwrap()),
            Some(mut rest) => {
                to.push(127);
                while rest >= 128 {
                    to.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                to.push(u8::try_from(rest).unwrap());
            }
        }
        to.extend(text.as_bytes());
    }
}

/// The headers of a call.
pub(crate) fn call(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "127.0.0.1"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        header(&mut block, name, value);
    }
    block
}
