//! Certificates for tests: an authority, what it signs, as files and as a client shows them, and the
//! callers whom services are told of.

use std::{fs, net::SocketAddr, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Everybody who is known to the services of tests, as the file of callers says it.
pub const CALLERS: &str = r#"
    [[caller]]
    name = "Lønbureauet"
    role = "employer"
    cvr_numbers = ["13748136", "29189706"]
    certificate_san = "employer.test"

    [[caller]]
    name = "Konkurrenten"
    role = "employer"
    cvr_numbers = ["25048482"]
    certificate_san = "rival.test"

    [[caller]]
    name = "Gætteværket"
    role = "employer"
    cvr_numbers = ["29189706"]
    certificate_san = "hostile.test"

    [[caller]]
    name = "Kommunen"
    role = "municipality"
    municipality_code = "101"
    certificate_san = "municipality.test"

    [[caller]]
    name = "Naboen"
    role = "municipality"
    municipality_code = "147"
    certificate_san = "neighbour.test"

    [[caller]]
    name = "Ydelse"
    role = "benefit"
    certificate_san = "benefit.test"

    [[caller]]
    name = "Skat"
    role = "tax"
    certificate_san = "tax.test"

    [[caller]]
    name = "revisor"
    role = "auditor"
    certificate_san = "auditor.test"

    [[caller]]
    name = "driften"
    role = "operator"
    certificate_san = "operator.test"
"#;

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// A connection to a service whose certificate the authority `trusted` (PEM) has signed, showing a
/// certificate or none.
pub async fn connect(
    trusted: &str,
    address: SocketAddr,
    shown: Option<&Pair>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted));
    if let Some(Pair { certificate, key }) = shown {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
    endpoint.tls_config(tls)?.connect().await
}

impl Authority {
    /// A new one.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for a name, a DNS name or an address.
    pub fn sign(&self, name: &str) -> anyhow::Result<Pair> {
        self.sign_with(name, |_| {})
    }

    /// The same, one that has run out.
    pub fn sign_expired(&self, name: &str) -> anyhow::Result<Pair> {
        self.sign_with(name, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    fn sign_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        change(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Writes what a service at 127.0.0.1 needs into `dir`, and gives it as its environment.
    pub fn write(&self, dir: &Path, callers: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
        let Pair { certificate, key } = self.sign("127.0.0.1")?;
        let mut settings = vec![("FRIKORT_INSECURE_ON_LOOPBACK", String::new())];
        for (name, file, text) in [
            ("FRIKORT_TLS_CERTIFICATE", "server.crt", certificate.as_str()),
            ("FRIKORT_TLS_KEY", "server.key", &key),
            ("FRIKORT_TLS_CLIENT_CA", "ca.crt", &self.pem()),
            ("FRIKORT_CALLERS", "callers.toml", callers),
        ] {
            fs::write(dir.join(file), text)?;
            settings.push((name, dir.join(file).display().to_string()));
        }
        Ok(settings)
    }
}
