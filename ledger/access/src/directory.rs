//! The directory of callers: whose certificate is whose. A TOML file; unknown keys are refused, and
//! so is what would open nothing or more than was meant.
//!
//! ```toml
//! [[caller]]
//! name = "Lønbureauet"
//! role = "employer"
//! cvr_numbers = ["13748136", "29189706"]
//! certificate_san = "payroll.example"          # a DNS name, URI or mail address of the certificate
//!
//! [[caller]]
//! name = "Københavns Kommune"
//! role = "municipality"
//! municipality_code = "101"
//! certificate_subject = "CN=frikort, O=Kobenhavns Kommune"
//! ```
//!
//! What must stay out: whether the certificate is genuine, which the connection has seen to.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, bail, ensure};
use frikort_domain::contains_cpr;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{Caller, Role};

/// The longest name of a caller, in bytes: it stands in records.
const NAME: usize = 100;

/// Certificates whose holders are remembered, so that not every call reads one; forgotten together
/// when there are more.
const REMEMBERED: usize = 10_000;

/// Whose a certificate is, where it is anybody's.
type Holder = Option<Arc<Caller>>;

/// Who is who.
#[derive(Debug, Default)]
pub struct Directory {
    by_san: HashMap<String, Arc<Caller>>,
    by_subject: HashMap<String, Arc<Caller>>,
    remembered: Mutex<HashMap<Arc<[u8]>, Holder>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    caller: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    #[serde(default)]
    cvr_numbers: Vec<String>,
    municipality_code: Option<String>,
    certificate_san: Option<String>,
    certificate_subject: Option<String>,
}

impl Directory {
    /// Reads the file.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    /// Reads the text of the file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        ensure!(!file.caller.is_empty(), "no [[caller]]: nobody could call");
        let mut directory = Self::default();
        for entry in file.caller {
            let name = entry.name.clone();
            directory.add(entry).with_context(|| format!("caller \"{name}\""))?;
        }
        Ok(directory)
    }

    fn add(&mut self, entry: Entry) -> anyhow::Result<()> {
        let Entry { certificate_san, certificate_subject, .. } = &entry;
        let (san, subject) = (certificate_san.clone(), certificate_subject.clone());
        let caller = Arc::new(entry.caller()?);
        let (known, place) = match (san, subject) {
            (Some(san), None) => (&mut self.by_san, san),
            (None, Some(subject)) => (&mut self.by_subject, subject),
            _ => bail!("must have one of certificate_san and certificate_subject"),
        };
        ensure!(!place.is_empty(), "the certificate's name is empty");
        if known.insert(place.clone(), caller).is_some() {
            bail!("two callers have the certificate {place}");
        }
        Ok(())
    }

    /// The caller who holds a certificate, DER. A certificate that names several callers is
    /// nobody's: which one is meant would be a guess.
    pub fn holder(&self, certificate: &Arc<[u8]>) -> Option<Arc<Caller>> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = remembered.get(certificate) {
            return holder.clone();
        }
        let holder = self.named(certificate);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(certificate.clone(), holder.clone());
        holder
    }

    /// Whom a certificate names.
    fn named(&self, certificate: &[u8]) -> Option<Arc<Caller>> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut found = self.by_subject.get(&certificate.subject().to_string()).cloned();
        let names = certificate.subject_alternative_name().ok()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            let (GeneralName::DNSName(name)
            | GeneralName::URI(name)
            | GeneralName::RFC822Name(name)) = name
            else {
                continue;
            };
            let Some(caller) = self.by_san.get(*name) else { continue };
            if found.as_ref().is_some_and(|other| other != caller) {
                return None;
            }
            found = Some(caller.clone());
        }
        found
    }
}

impl Entry {
    fn caller(self) -> anyhow::Result<Caller> {
        let Self { name, role, cvr_numbers, municipality_code, .. } = self;
        let plain = |c: char| c.is_control() || matches!(c, '"' | '\\');
        ensure!(!name.is_empty() && name.len() <= NAME, "name must have 1 to {NAME} bytes");
        ensure!(!name.contains(plain), "name must have no quotation mark, backslash or control");
        ensure!(!contains_cpr(&name), "name must not hold a CPR number");
        let is_employer = role == Role::Employer;
        ensure!(
            is_employer != cvr_numbers.is_empty(),
            "cvr_numbers are for the role employer, which needs at least one"
        );
        ensure!(
            (role == Role::Municipality) == municipality_code.is_some(),
            "municipality_code is for the role municipality, which needs it"
        );
        let cvr = |text: &String| {
            text.parse().map_err(|allowed| anyhow::anyhow!("cvr_numbers: {text} {allowed}"))
        };
        let cvr_numbers = cvr_numbers.iter().map(cvr).collect::<anyhow::Result<_>>()?;
        let code = |text: String| {
            text.parse().map_err(|allowed| anyhow::anyhow!("municipality_code: {text} {allowed}"))
        };
        let municipality_code = municipality_code.map(code).transpose()?;
        Ok(Caller { name, role, cvr_numbers, municipality_code })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    const TEXT: &str = r#"
        [[caller]]
        name = "Lønbureauet"
        role = "employer"
        cvr_numbers = ["13748136", "29189706"]
        certificate_san = "payroll.example"

        [[caller]]
        name = "Kommunen"
        role = "municipality"
        municipality_code = "101"
        certificate_subject = "CN=frikort, O=Kommunen"

        [[caller]]
        name = "revisor"
        role = "auditor"
        certificate_san = "https://auditor.example/frikort"
    "#;

    fn certificate(sans: &[SanType], subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans.to_vec();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn a_certificate_is_its_callers() {
        let directory = Directory::parse(TEXT).unwrap();
        let name = |der: &[u8]| directory.holder(&der.into()).map(|caller| caller.name.clone());
        let bureau = certificate(&[dns("other.example"), dns("payroll.example")], &[]);
        assert_eq!(name(&bureau).as_deref(), Some("Lønbureauet"));
        let uri = SanType::URI("https://auditor.example/frikort".try_into().unwrap());
        assert_eq!(name(&certificate(&[uri], &[])).as_deref(), Some("revisor"));
        let subject = [(DnType::CommonName, "frikort"), (DnType::OrganizationName, "Kommunen")];
        assert_eq!(name(&certificate(&[], &subject)).as_deref(), Some("Kommunen"));
        // Only the whole name, and nobody by a name that lies elsewhere in the certificate.
        assert_eq!(name(&certificate(&[dns("payroll.example.org")], &[])), None);
        assert_eq!(name(&certificate(&[], &[(DnType::CommonName, "payroll.example")])), None);
        assert_eq!(name(&certificate(&[], &subject[..1])), None);
        // Two at once are neither.
        assert_eq!(name(&certificate(&[dns("payroll.example")], &subject)), None);
        assert_eq!(name(b"no certificate"), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let entry = |lines: &str| format!("[[caller]]\nname = \"x\"\n{lines}");
        for (text, told) in [
            (String::new(), "no [[caller]]"),
            (entry("role = \"boss\"\ncertificate_san = \"x\""), "unknown variant `boss`"),
            (entry("role = \"tax\""), "one of certificate_san and certificate_subject"),
            (entry("role = \"tax\"\ncertificate_san = \"\""), "is empty"),
            (entry("role = \"employer\"\ncertificate_san = \"x\""), "needs at least one"),
            (
                entry("role = \"employer\"\ncertificate_san = \"x\"\ncvr_numbers = [\"1\"]"),
                "cvr_numbers: 1",
            ),
            (
                entry("role = \"tax\"\ncertificate_san = \"x\"\ncvr_numbers = [\"13748136\"]"),
                "are for the role employer",
            ),
            (entry("role = \"municipality\"\ncertificate_san = \"x\""), "which needs it"),
            (
                entry(
                    "role = \"municipality\"\ncertificate_san = \"x\"\nmunicipality_code = \"999\"",
                ),
                "municipality_code: 999",
            ),
            (entry("role = \"tax\"\ncertificate_san = \"x\"\nsecret = 1"), "unknown field"),
            (
                "[[caller]]\nname = \"010160-5001\"\nrole = \"tax\"\ncertificate_san = \"x\""
                    .into(),
                "must not hold a CPR number",
            ),
            (format!("{TEXT}{TEXT}"), "two callers have the certificate payroll.example"),
        ] {
            let error = format!("{:#}", Directory::parse(&text).unwrap_err());
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
