//! Who we are towards the services, and where they are: by option, else environment, else a profile.
//!
//! `frikort up` writes a profile for each role of its own, so that on one machine nothing need be
//! said. What must stay out: calling, and what is called.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use frikort_process::secret::Secret;
use hyper::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::{
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::stack;

/// The file of profiles in the data directory of `frikort up`.
pub(crate) const FILE: &str = "profiles.toml";

/// Where a call says what it is for (W4).
const PURPOSE: &str = "frikort-purpose";

/// Options of every command that calls a service.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Options {
    /// The profile to take what follows from, and the addresses [default: the file's own default].
    #[arg(long, global = true, env = "FRIKORT_PROFILE", value_name = "NAME")]
    profile: Option<String>,
    /// The file of profiles [default: profiles.toml where `frikort up` keeps its data].
    #[arg(long, global = true, env = "FRIKORT_PROFILES", value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// The authority that has signed the services' certificates, PEM.
    #[arg(long, global = true, env = "FRIKORT_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our certificate, PEM.
    #[arg(long, global = true, env = "FRIKORT_CERTIFICATE", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, global = true, env = "FRIKORT_CERTIFICATE_KEY", value_name = "FILE")]
    certificate_key: Option<PathBuf>,
    /// A file with a JWT; it is read for each call, so that it can be renewed.
    #[arg(long, global = true, env = "FRIKORT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What we ask for; benefit and tax systems must say it. Kept with each look-up of a person.
    #[arg(long, global = true, env = "FRIKORT_PURPOSE", value_name = "CODE")]
    purpose: Option<String>,
}

/// The file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The profile that is taken when none is named.
    pub(crate) default: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) profile: BTreeMap<String, Profile>,
}

/// One profile. Files are relative to the file that it stands in.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) ledger: Option<String>,
    pub(crate) projector: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) certificate_key: Option<PathBuf>,
    pub(crate) token_file: Option<PathBuf>,
    /// The name in the services' certificate, where it is not that of the address.
    pub(crate) server_name: Option<String>,
    pub(crate) purpose: Option<String>,
}

/// Where the services are, and who we are.
#[derive(Debug, Default)]
pub(crate) struct Us {
    /// The ledger's address.
    pub(crate) ledger: Option<String>,
    /// The projector's.
    pub(crate) projector: Option<String>,
    pub(crate) credentials: Credentials,
}

/// What is shown to a service, and what it must show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    ca: Option<String>,
    /// Our certificate and its key.
    pair: Option<(String, Secret)>,
    server_name: Option<String>,
    /// Said with each call.
    pub(crate) said: Said,
}

/// What each call says of us, beside the connection's certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    token_file: Option<PathBuf>,
    purpose: Option<MetadataValue<Ascii>>,
}

impl Options {
    /// Reads the profile and the files that it, or an option, names.
    pub(crate) fn us(self) -> anyhow::Result<Us> {
        let profile = self.profile()?;
        let chosen = Profile {
            // Another authority's services have names of their own.
            server_name: profile.server_name.filter(|_| self.ca.is_none()),
            ca: self.ca.or(profile.ca),
            certificate: self.certificate.or(profile.certificate),
            certificate_key: self.certificate_key.or(profile.certificate_key),
            token_file: self.token_file.or(profile.token_file),
            purpose: self.purpose.or(profile.purpose),
            ..profile
        };
        chosen.us()
    }

    /// The profile that is meant; without a file that anybody named, an empty one.
    fn profile(&self) -> anyhow::Result<Profile> {
        let file = match &self.profiles {
            Some(file) => file.clone(),
            // Whoever has no home has no such file either.
            None => stack::default_dir().unwrap_or_default().join(FILE),
        };
        if self.profiles.is_none() && self.profile.is_none() && !file.exists() {
            return Ok(Profile::default());
        }
        let shown = file.display();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {shown}"))?;
        let mut read: File = toml::from_str(&text).with_context(|| format!("in {shown}"))?;
        let Some(name) = self.profile.clone().or(read.default) else {
            return Ok(Profile::default());
        };
        let Some(profile) = read.profile.remove(&name) else {
            let names: Vec<&str> = read.profile.keys().map(String::as_str).collect();
            bail!("{shown} has no profile {name}; there are: {}", names.join(", "));
        };
        Ok(profile.beside(&file))
    }
}

impl Profile {
    /// With its files where they lie.
    fn beside(mut self, file: &Path) -> Self {
        let dir = file.parent().unwrap_or(Path::new(""));
        let files =
            [&mut self.ca, &mut self.certificate, &mut self.certificate_key, &mut self.token_file];
        for path in files.into_iter().flatten() {
            *path = dir.join(&*path);
        }
        self
    }

    /// Reads the files.
    pub(crate) fn us(self) -> anyhow::Result<Us> {
        let read = |file: PathBuf| {
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        let pair = match (self.certificate, self.certificate_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, Secret::from(read(key)?))),
            (None, None) => None,
            _ => bail!("a certificate and its key go together: certificate, certificate-key"),
        };
        let ca = self.ca.map(read).transpose()?;
        ensure!(
            ca.is_some() || (pair.is_none() && self.token_file.is_none()),
            "certificates and tokens are shown to whom we know alone: give the services' authority \
             (ca) too"
        );
        let purpose = self.purpose.map(|purpose| {
            purpose.parse().map_err(|_| anyhow::anyhow!("purpose must be plain text, ASCII"))
        });
        let said = Said { token_file: self.token_file, purpose: purpose.transpose()? };
        let credentials = Credentials { ca, pair, server_name: self.server_name, said };
        Ok(Us { ledger: self.ledger, projector: self.projector, credentials })
    }
}

impl Credentials {
    /// Whether a service at `address` is spoken to with TLS: if it says so, or if it says nothing
    /// and we know whom to expect.
    fn is_secure(&self, address: &str) -> anyhow::Result<bool> {
        let secure =
            address.starts_with("https://") || (!address.contains("://") && self.ca.is_some());
        ensure!(secure || self.said.token_file.is_none(), "{address}: a token goes over TLS alone");
        Ok(secure)
    }

    /// `address`, `HOST:PORT` or a URL, as a URL.
    pub(crate) fn url(&self, address: &str) -> anyhow::Result<String> {
        let scheme = match (address.contains("://"), self.is_secure(address)?) {
            (true, _) => "",
            (false, true) => "https://",
            (false, false) => "http://",
        };
        Ok(format!("{scheme}{address}"))
    }

    /// The way to a service, for gRPC.
    pub(crate) fn endpoint(&self, address: &str) -> anyhow::Result<Endpoint> {
        let endpoint = Endpoint::from_shared(self.url(address)?);
        let endpoint =
            endpoint.with_context(|| format!("{address} is no address; give HOST:PORT"))?;
        if !self.is_secure(address)? {
            return Ok(endpoint);
        }
        let ca = self.ca(address)?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let Some((certificate, key)) = &self.pair {
            tls = tls.identity(Identity::from_pem(certificate, key.expose()));
        }
        endpoint.tls_config(tls).context("the certificates make no sense")
    }

    /// A connection to a service, for plain GET.
    pub(crate) async fn connect(
        &self,
        url: &Uri,
    ) -> anyhow::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        let secure = self.is_secure(&url.to_string())?;
        let host = url.host().context("no host")?;
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((bare.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        if !secure {
            return Ok(Either::Left(stream));
        }
        let name = ServerName::try_from(self.server_name.clone().unwrap_or(bare))?;
        let config = Arc::new(self.client_config(host)?);
        Ok(Either::Right(TlsConnector::from(config).connect(name, stream).await?))
    }

    fn client_config(&self, address: &str) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(self.ca(address)?.as_bytes()) {
            roots.add(authority.context("the authority's certificate makes no sense")?)?;
        }
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.pair else { return Ok(config.with_no_client_auth()) };
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
        let chain = chain.collect::<Result<_, _>>().context("our certificate makes no sense")?;
        // The error's text may quote the file.
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).ok();
        let key = key.context("our private key makes no sense")?;
        config.with_client_auth_cert(chain, key).context("certificate and key do not fit")
    }

    fn ca(&self, address: &str) -> anyhow::Result<&str> {
        self.ca.as_deref().with_context(|| {
            format!("{address}: give the authority that has signed its certificate (--ca)")
        })
    }
}

impl Said {
    /// Writes it into the metadata of a call.
    pub(crate) fn say(&self, metadata: &mut MetadataMap) -> anyhow::Result<()> {
        if let Some(purpose) = &self.purpose {
            metadata.insert(PURPOSE, purpose.clone());
        }
        if let Some(file) = &self.token_file {
            let shown = file.display();
            let token = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
            let bearer = format!("Bearer {}", token.trim()).parse();
            let mut bearer: MetadataValue<Ascii> =
                bearer.ok().with_context(|| format!("there is no token in {shown}"))?;
            bearer.set_sensitive(true);
            metadata.insert("authorization", bearer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options that name a file of profiles with this text.
    fn options(dir: &Path, text: &str, profile: Option<&str>) -> Options {
        let file = dir.join("some.toml");
        fs::write(&file, text).unwrap();
        let (profiles, profile) = (Some(file), profile.map(str::to_owned));
        Options { profiles, profile, ..Options::default() }
    }

    const TEXT: &str = r#"
        default = "one"
        [profile.one]
        ledger = "127.0.0.1:1"
        ca = "ca.crt"
        certificate = "one.crt"
        certificate_key = "one.key"
        purpose = "A"
        server_name = "one.example"
        [profile.two]
        ledger = "127.0.0.1:2"
    "#;

    #[test]
    fn an_option_goes_before_the_profile_and_files_lie_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["ca.crt", "one.crt", "one.key", "other.crt"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let us = options(dir.path(), TEXT, None).us().unwrap();
        assert_eq!(us.ledger.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(us.credentials.ca.as_deref(), Some("ca.crt"));
        assert_eq!(us.credentials.pair.unwrap().0, "one.crt");
        assert_eq!(us.credentials.said.purpose.unwrap(), "A");
        let other = Some(dir.path().join("other.crt"));
        let given = Options { certificate: other, ..options(dir.path(), TEXT, None) };
        assert_eq!(given.us().unwrap().credentials.pair.unwrap().0, "other.crt");
        assert_eq!(us.credentials.server_name.as_deref(), Some("one.example"));
        let other = Some(dir.path().join("other.crt"));
        let given = Options { ca: other, ..options(dir.path(), TEXT, None) }.us().unwrap();
        assert_eq!(given.credentials.server_name, None, "the name of another authority's service");
        let two = options(dir.path(), TEXT, Some("two")).us().unwrap();
        assert_eq!((two.ledger.as_deref(), two.credentials.ca), (Some("127.0.0.1:2"), None));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for (text, profile, told) in [
            (TEXT, Some("three"), "no profile three; there are: one, two"),
            (TEXT, None, "one.crt"),
            ("[profile.one]\nledgre = \"x\"", Some("one"), "ledgre"),
            ("[profile.one]\ncertificate = \"x\"", Some("one"), "go together"),
            ("[profile.one]\ntoken_file = \"x\"", Some("one"), "(ca)"),
        ] {
            let error = options(dir.path(), text, profile).us().err().unwrap();
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
    }

    #[test]
    fn a_token_goes_over_tls_alone() {
        let said = Said { token_file: Some("x".into()), purpose: None };
        let ours = Credentials { ca: Some("x".to_owned()), said, ..Credentials::default() };
        assert_eq!(ours.url("127.0.0.1:1").unwrap(), "https://127.0.0.1:1");
        assert!(ours.url("http://127.0.0.1:1").is_err());
        assert_eq!(Credentials::default().url("127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert!(Credentials::default().endpoint("https://127.0.0.1:1").is_err());
    }
}
