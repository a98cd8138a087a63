//! What a service is told about its callers: certificates, tokens and a directory, or, on loopback
//! and asked for by name, that whoever calls is the operator.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use axum::http::HeaderMap;
use frikort_process::{
    clock::Clock,
    renewed, serve,
    tls::{Files, Shown, Tls},
};
use serde::Deserialize;
use tokio::sync::watch;

use crate::{
    Caller, Directory, Places,
    fetch::Times,
    limits::{self, Limits, Share},
    token::{Tokens, Unknown},
};

/// How often keys of tokens are fetched, and how long at least between two times.
const TIMES: Times = Times { every: Duration::from_secs(5 * 60), pause: Duration::from_secs(30) };

/// Options of a service.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Callers")]
pub struct Args {
    /// The server's certificate, PEM, with the intermediate ones after it.
    #[arg(long, env = "FRIKORT_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "FRIKORT_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The authorities whose certificates callers show, PEM.
    #[arg(long, env = "FRIKORT_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// What those authorities have revoked, PEM, a list (CRL) of each: whoever's certificate no list
    /// tells of is refused. Without it revocations are not looked at.
    #[arg(long, env = "FRIKORT_TLS_CLIENT_CRL", value_name = "FILE")]
    tls_client_crl: Option<PathBuf>,
    /// The directory of callers: whose certificate is whose, and whose token, with role and scope
    /// (TOML). It and the certificates are read anew when they change.
    #[arg(long, env = "FRIKORT_CALLERS", value_name = "FILE")]
    callers: Option<PathBuf>,
    /// The keys that callers' tokens (JWT) are checked with, a JWK set: a file, read anew when it
    /// changes, or a URL (https; http on loopback alone), fetched every five minutes. Without it no
    /// token is taken.
    #[arg(long, env = "FRIKORT_TOKEN_KEYS", value_name = "FILE|URL")]
    token_keys: Option<String>,
    /// Who issues the tokens: their `iss`.
    #[arg(long, env = "FRIKORT_TOKEN_ISSUER")]
    token_issuer: Option<String>,
    /// For whom they must be issued: among their `aud`.
    #[arg(long, env = "FRIKORT_TOKEN_AUDIENCE")]
    token_audience: Option<String>,
    /// Seconds between two fetches of the keys. For tests.
    #[arg(long, env = "FRIKORT_TOKEN_KEYS_EVERY", hide = true)]
    token_keys_every: Option<u64>,
    /// Seconds between two fetches at least. For tests.
    #[arg(long, env = "FRIKORT_TOKEN_KEYS_PAUSE", hide = true)]
    token_keys_pause: Option<u64>,
    /// A directory where look-ups are noted before they are answered, on their way to the access log's
    /// table; made if it is not there. It must outlive the process: what it left there, the next one
    /// brings on. Several processes may share it.
    #[arg(long, env = "FRIKORT_LOOKUP_JOURNAL", value_name = "DIR")]
    lookup_journal: Option<PathBuf>,
    /// No TLS, and whoever calls is the operator. For trying it out; on loopback alone.
    #[arg(long, env = "FRIKORT_INSECURE_ON_LOOPBACK")]
    insecure_on_loopback: bool,
    #[command(flatten)]
    limits: limits::LimitArgs,
}

/// The same in a settings file, as the table `[access]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    tls_client_crl: Option<PathBuf>,
    callers: Option<PathBuf>,
    token_keys: Option<String>,
    token_issuer: Option<String>,
    token_audience: Option<String>,
    lookup_journal: Option<PathBuf>,
    insecure_on_loopback: bool,
    limits: limits::Settings,
}

/// How a service knows its callers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    tls: Option<Tls>,
    known: Known,
    limits: Limits,
    clock: Clock,
    lookup_journal: PathBuf,
}

#[derive(Clone, Debug)]
enum Known {
    /// Whoever calls is this one.
    As(Arc<Caller>),
    Directory(watch::Receiver<Arc<Directory>>, Option<Tokens>),
}

impl Args {
    /// Options, else the settings file; started: files are watched from now on.
    pub fn start(self, file: Settings) -> anyhow::Result<Access> {
        let files = (
            self.tls_certificate.or(file.tls_certificate),
            self.tls_key.or(file.tls_key),
            self.tls_client_ca.or(file.tls_client_ca),
            self.callers.or(file.callers),
        );
        let tokens = (
            self.token_keys.or(file.token_keys),
            self.token_issuer.or(file.token_issuer),
            self.token_audience.or(file.token_audience),
        );
        let client_crl = self.tls_client_crl.or(file.tls_client_crl);
        let limits = self.limits.limits(file.limits);
        let insecure = self.insecure_on_loopback || file.insecure_on_loopback;
        let lookup_journal = self.lookup_journal.or(file.lookup_journal).context(
            "where are look-ups noted? set lookup-journal, a directory that outlives the process",
        );
        let (certificate, key, client_ca, callers) = match (files, insecure) {
            ((Some(certificate), Some(key), Some(client_ca), Some(callers)), false) => {
                (certificate, key, client_ca, callers)
            }
            ((None, None, None, None), true) if tokens == (None, None, None) => {
                return Ok(Access { limits, ..Access::insecure_on_loopback(lookup_journal?) });
            }
            ((None, None, None, None), false) => bail!(
                "who may call? set tls-certificate, tls-key, tls-client-ca and callers; or, to try \
                 it out on this machine, insecure-on-loopback"
            ),
            (_, true) => {
                bail!("insecure-on-loopback goes with no certificate, no callers and no tokens")
            }
            (_, false) => bail!(
                "tls-certificate, tls-key, tls-client-ca and callers go together: all of them"
            ),
        };
        let seconds = |given: Option<u64>, usual| given.map_or(usual, Duration::from_secs);
        let times = Times {
            every: seconds(self.token_keys_every, TIMES.every),
            pause: seconds(self.token_keys_pause, TIMES.pause),
        };
        let clock = Clock::system();
        let tokens = match tokens {
            (Some(keys), Some(issuer), Some(audience)) => {
                Some(Tokens::start(&keys, &issuer, &audience, times, clock.clone())?)
            }
            (None, None, None) => None,
            _ => bail!("token-keys, token-issuer and token-audience go together: all of them"),
        };
        let tls =
            Some(Tls::start(Files { certificate, key, client_ca, client_crl }, clock.clone())?);
        let known = Known::Directory(directory(callers, tokens.is_some())?, tokens);
        Ok(Access { tls, known, limits, clock, lookup_journal: lookup_journal? })
    }
}

/// The directory, which may name tokens only where they are taken.
fn directory(file: PathBuf, takes_tokens: bool) -> anyhow::Result<watch::Receiver<Arc<Directory>>> {
    renewed::read("callers", vec![file.clone()], move || {
        let directory = Directory::load(&file)?;
        ensure!(
            takes_tokens || !directory.takes_tokens(),
            "there is a token_subject, but no token is taken: set token-keys, token-issuer and \
             token-audience"
        );
        Ok(directory)
    })
}

impl Access {
    /// Whoever calls is the operator. Where it listens is looked at when it binds.
    pub fn insecure_on_loopback(lookup_journal: PathBuf) -> Self {
        tracing::warn!("INSECURE: no TLS, and whoever calls is the operator");
        let limits = limits::LimitArgs::default().limits(limits::Settings::default());
        let (known, clock) = (Known::As(Caller::local()), Clock::system());
        Self { tls: None, known, limits, clock, lookup_journal }
    }

    /// How connections are secured; `None` where whoever calls is believed.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The directory where look-ups are noted first.
    pub fn lookup_journal(&self) -> &Path {
        &self.lookup_journal
    }

    /// How many connections there may be.
    pub fn connections(&self) -> serve::Limits {
        self.limits.connections()
    }

    /// How often callers were refused since they had too much, as Prometheus text.
    pub fn metrics(&self) -> String {
        self.limits.metrics()
    }

    /// Places for something that takes long or much; where whoever calls is believed, all of them are
    /// whoever's comes.
    pub fn places(&self, purpose: &'static str, number: usize) -> Places {
        let of_one_caller = match self.known {
            Known::As(_) => number,
            Known::Directory(..) => self.limits.share(number),
        };
        Places::new(purpose, number, of_one_caller, self.limits.clone())
    }

    /// What this caller has had; `None` where whoever calls is believed.
    pub(crate) fn share(&self, caller: &Caller) -> Option<Arc<Share>> {
        matches!(self.known, Known::Directory(..)).then(|| self.limits.of(&caller.name))
    }

    /// Who shows this certificate, or a token among these headers, if they are good now; whoever shows
    /// both is the same.
    pub(crate) fn caller(
        &self,
        certificate: Option<&Arc<Shown>>,
        headers: &HeaderMap,
    ) -> Result<Arc<Caller>, Unknown> {
        let (directory, tokens) = match &self.known {
            Known::As(caller) => return Ok(caller.clone()),
            Known::Directory(directory, tokens) => (directory.borrow().clone(), tokens),
        };
        let holder = certificate.map(|shown| {
            if !shown.is_genuine() {
                return Err(Unknown::Since(
                    "the certificate was revoked, or its authority is none",
                ));
            }
            let now = self.clock.now().unix_timestamp();
            directory.holder(&shown.certificate, now).map_err(Unknown::Since)
        });
        let subject = tokens.as_ref().map(|tokens| tokens.subject(headers)).transpose()?.flatten();
        let bearer = subject.map(|subject| {
            directory.bearer(&subject).ok_or(Unknown::Since("the token's subject is nobody"))
        });
        match (holder.transpose()?, bearer.transpose()?) {
            (Some(holder), Some(bearer)) if holder != bearer => {
                Err(Unknown::Since("the certificate is of one caller, the token of another"))
            }
            (Some(caller), _) | (None, Some(caller)) => Ok(caller),
            (None, None) => Err(Unknown::Since("neither a certificate nor a token is shown")),
        }
    }

    /// Asks for newer keys of tokens; returns when there may be some.
    pub(crate) async fn renew_keys(&self) {
        if let Known::Directory(_, Some(tokens)) = &self.known {
            tokens.renew().await;
        }
    }
}
