//! The certificates of the local stack: an authority of its own, the services' certificate, and one
//! caller a role, with the directory and the profiles that go with them. Made once; the authority's
//! key is thrown away, so that nobody signs another.
//!
//! What must stay out: what a caller may do.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context;
use frikort_process::clock::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use time::Duration;

use super::Place;
use crate::profile::{self, Credentials, Profile};

/// The callers: one a role, each called as it, and a second operator, since forgetting takes two.
const CALLERS: &str = include_str!("callers.toml");
const NAMES: [&str; 7] =
    ["operator", "second-operator", "employer", "municipality", "benefit", "tax", "auditor"];

/// The name in the services' certificate, wherever they listen.
const SERVER: &str = "localhost";

/// How long they last: as long as a stack on one machine may.
const LIFE: Duration = Duration::days(3650);

/// Makes what is not there yet, and writes the profiles for services at these addresses.
pub(super) fn prepare(
    place: &Place,
    ledger: SocketAddr,
    projector: SocketAddr,
) -> anyhow::Result<()> {
    let dir = place.tls();
    if !dir.exists() {
        // All or nothing: whoever is cut off begins anew.
        let begun = dir.with_extension("new");
        if begun.exists() {
            fs::remove_dir_all(&begun)?;
        }
        DirBuilder::new().mode(0o700).create(&begun)?;
        make(&begun).context("cannot make certificates")?;
        fs::rename(&begun, &dir)?;
    }
    let file = place.dir().join(profile::FILE);
    let begun = file.with_extension("new");
    fs::write(&begun, profiles(ledger, projector)?)?;
    fs::rename(begun, &file).with_context(|| format!("cannot write {}", file.display()))
}

/// What we show the services, as the operator.
pub(super) fn credentials(place: &Place) -> anyhow::Result<Credentials> {
    Ok(of_role(NAMES[0], &place.tls()).us()?.credentials)
}

fn make(dir: &Path) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    name(&mut params, "frikort on this machine");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(dir.join("ca.crt"), authority.pem())?;
    fs::write(dir.join("callers.toml"), CALLERS)?;
    let signed = |file: &str, names: &[&str], usage| -> anyhow::Result<()> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        name(&mut params, file);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        fs::write(dir.join(format!("{file}.crt")), certificate.pem())?;
        let key_file = dir.join(format!("{file}.key"));
        let mut key_file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(key_file)?;
        Ok(key_file.write_all(key.serialize_pem().as_bytes())?)
    };
    signed("server", &[SERVER, "127.0.0.1", "::1"], ExtendedKeyUsagePurpose::ServerAuth)?;
    for caller in NAMES {
        signed(caller, &[&format!("{caller}.frikort.local")], ExtendedKeyUsagePurpose::ClientAuth)?;
    }
    Ok(())
}

fn name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
    let now = Clock::system().now();
    (params.not_before, params.not_after) = (now - Duration::DAY, now + LIFE);
}

fn profiles(ledger: SocketAddr, projector: SocketAddr) -> anyhow::Result<String> {
    let profile = |role: &str| {
        let (ledger, projector) = (Some(ledger.to_string()), Some(projector.to_string()));
        (role.to_owned(), Profile { ledger, projector, ..of_role(role, Path::new("tls")) })
    };
    let profile: BTreeMap<_, _> = NAMES.into_iter().map(profile).collect();
    let file = profile::File { default: Some(NAMES[0].to_owned()), profile };
    let head = "# Written by `frikort up` at each start: one profile a role of this stack.\n";
    Ok(head.to_owned() + &toml::to_string(&file)?)
}

fn of_role(role: &str, dir: &Path) -> Profile {
    Profile {
        ca: Some(dir.join("ca.crt")),
        certificate: Some(dir.join(format!("{role}.crt"))),
        certificate_key: Some(dir.join(format!("{role}.key"))),
        server_name: Some(SERVER.to_owned()),
        ..Profile::default()
    }
}
