//! What a service is told about its callers: certificates and a directory, or, on loopback and asked
//! for by name, that whoever calls is the operator.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use frikort_process::{
    serve,
    tls::{Files, Tls},
};
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};

use crate::{
    Caller, Directory,
    limits::{self, Limits, Share},
};

/// How often the directory's file is looked at.
const LOOK: Duration = Duration::from_secs(2);

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
    /// The directory of callers: whose certificate is whose, with role and scope (TOML). It and the
    /// certificates are read anew when they change.
    #[arg(long, env = "FRIKORT_CALLERS", value_name = "FILE")]
    callers: Option<PathBuf>,
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
    callers: Option<PathBuf>,
    insecure_on_loopback: bool,
    limits: limits::Settings,
}

/// How a service knows its callers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    tls: Option<Tls>,
    known: Known,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum Known {
    /// Whoever calls is this one.
    As(Arc<Caller>),
    Directory(watch::Receiver<Arc<Directory>>),
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
        let limits = self.limits.limits(file.limits);
        let insecure = self.insecure_on_loopback || file.insecure_on_loopback;
        match (files, insecure) {
            ((Some(certificate), Some(key), Some(client_ca), Some(callers)), false) => {
                let tls = Tls::start(Files { certificate, key, client_ca })?;
                let known = Known::Directory(watched(callers)?);
                Ok(Access { tls: Some(tls), known, limits })
            }
            ((None, None, None, None), true) => {
                Ok(Access { limits, ..Access::insecure_on_loopback() })
            }
            ((None, None, None, None), false) => bail!(
                "who may call? set tls-certificate, tls-key, tls-client-ca and callers; or, to try \
                 it out on this machine, insecure-on-loopback"
            ),
            (_, true) => bail!("insecure-on-loopback goes with no certificate and no callers"),
            (_, false) => bail!(
                "tls-certificate, tls-key, tls-client-ca and callers go together: all of them"
            ),
        }
    }
}

impl Access {
    /// Whoever calls is the operator. Where it listens is looked at when it binds.
    pub fn insecure_on_loopback() -> Self {
        tracing::warn!("INSECURE: no TLS, and whoever calls is the operator");
        let limits = limits::LimitArgs::default().limits(limits::Settings::default());
        Self { tls: None, known: Known::As(Caller::local()), limits }
    }

    /// How connections are secured; `None` where whoever calls is believed.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// How many connections there may be.
    pub fn connections(&self) -> serve::Limits {
        self.limits.connections()
    }

    /// How often callers were refused since they had too much, as Prometheus text.
    pub fn metrics(&self) -> String {
        self.limits.metrics()
    }

    /// What this caller has had; `None` where whoever calls is believed.
    pub(crate) fn share(&self, caller: &Caller) -> Option<Arc<Share>> {
        matches!(self.known, Known::Directory(_)).then(|| self.limits.of(&caller.name))
    }

    /// Who holds this certificate.
    pub(crate) fn caller(&self, certificate: Option<&Arc<[u8]>>) -> Option<Arc<Caller>> {
        match &self.known {
            Known::As(caller) => Some(caller.clone()),
            Known::Directory(directory) => {
                let directory = directory.borrow().clone();
                directory.holder(certificate?)
            }
        }
    }
}

/// The directory, read anew when its file changes. What makes no sense then is logged, and what was
/// read before is kept.
fn watched(file: PathBuf) -> anyhow::Result<watch::Receiver<Arc<Directory>>> {
    let mut before = written(&file);
    let (told, directory) = watch::channel(Arc::new(Directory::load(&file)?));
    tokio::spawn(async move {
        while !told.is_closed() {
            sleep(LOOK).await;
            let now = written(&file);
            if now == before {
                continue;
            }
            before = now;
            match Directory::load(&file) {
                Ok(read) => {
                    told.send_replace(Arc::new(read));
                    tracing::info!("the directory of callers was read anew");
                }
                Err(error) => {
                    let error: &dyn std::error::Error = error.as_ref();
                    tracing::error!(error, "the directory of callers makes no sense; kept");
                }
            }
        }
    });
    Ok(directory)
}

fn written(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|file| file.modified()).ok()
}
