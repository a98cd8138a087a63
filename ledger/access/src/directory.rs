//! The directory of callers: whose certificate is whose, and whose token. A TOML file; unknown keys
//! are refused, and so is what would open nothing or more than was meant.
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
//! token_subject = "frikort@kk.example"         # the `sub` of its tokens
//! ```
//!
//! What must stay out: whether a certificate or a token is genuine, which the connection and
//! `token.rs` have seen to.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, anyhow, bail, ensure};
use frikort_domain::contains_cpr;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{Caller, Role};

/// The longest name of a caller, in bytes: it stands in records.
const NAME: usize = 100;

/// Certificates whose holders are remembered, so that not every call reads one; forgotten together
/// when there are more.
const REMEMBERED: usize = 10_000;

/// What is remembered of a certificate.
#[derive(Clone, Debug)]
struct Known {
    /// Whose it is, where it is anybody's.
    holder: Option<Arc<Caller>>,
    /// The last second in which it is good, since 1970.
    until: i64,
}

/// Who is who.
#[derive(Debug, Default)]
pub struct Directory {
    by_san: HashMap<String, Arc<Caller>>,
    by_subject: HashMap<String, Arc<Caller>>,
    by_token: HashMap<String, Arc<Caller>>,
    remembered: Mutex<HashMap<Arc<[u8]>, Known>>,
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
    token_subject: Option<String>,
}

impl Directory {
    /// Reads the file.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    /// Reads the text of the file. The error quotes what is wrong, save where it would put a CPR
    /// number into the log (W5).
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| told(error.into(), "the file"))?;
        ensure!(!file.caller.is_empty(), "no [[caller]]: nobody could call");
        let mut directory = Self::default();
        for (number, entry) in (1..).zip(file.caller) {
            let name = entry.name.clone();
            let added = directory.add(entry).with_context(|| format!("caller \"{name}\""));
            added.map_err(|error| told(error, &format!("caller {number}")))?;
        }
        Ok(directory)
    }

    fn add(&mut self, mut entry: Entry) -> anyhow::Result<()> {
        let (san, subject) = (entry.certificate_san.take(), entry.certificate_subject.take());
        let token = entry.token_subject.take();
        ensure!(
            san.is_none() || subject.is_none(),
            "must have at most one of certificate_san and certificate_subject"
        );
        ensure!(
            san.is_some() || subject.is_some() || token.is_some(),
            "must have certificate_san, certificate_subject or token_subject"
        );
        let caller = Arc::new(entry.caller()?);
        for (known, what, name) in [
            (&mut self.by_san, "certificate", san),
            (&mut self.by_subject, "certificate", subject),
            (&mut self.by_token, "token subject", token),
        ] {
            let Some(name) = name else { continue };
            ensure!(!name.is_empty(), "the name of the {what} is empty");
            if known.insert(name.clone(), caller.clone()).is_some() {
                bail!("two callers have the {what} {name}");
            }
        }
        Ok(())
    }

    /// Everybody, once for each name by which they are known.
    pub(crate) fn callers(&self) -> Vec<Arc<Caller>> {
        let all = [&self.by_san, &self.by_subject, &self.by_token];
        all.into_iter().flat_map(HashMap::values).cloned().collect()
    }

    /// Whether anybody is known by tokens.
    pub fn takes_tokens(&self) -> bool {
        !self.by_token.is_empty()
    }

    /// The caller whose tokens have this `sub`.
    pub(crate) fn bearer(&self, subject: &str) -> Option<Arc<Caller>> {
        self.by_token.get(subject).cloned()
    }

    /// The caller who holds a certificate, DER, that is good at `now`, in seconds since 1970; or why
    /// there is none. A certificate that names several callers is nobody's: which one is meant would
    /// be a guess.
    pub(crate) fn holder(
        &self,
        certificate: &Arc<[u8]>,
        now: i64,
    ) -> Result<Arc<Caller>, &'static str> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match remembered.get(certificate) {
            Some(known) => known.clone(),
            None => {
                let known = self.read(certificate);
                if remembered.len() >= REMEMBERED {
                    remembered.clear();
                }
                remembered.insert(certificate.clone(), known.clone());
                known
            }
        };
        let holder = known.holder.ok_or("the certificate is nobody's")?;
        // When it was shown it was good; its connection may have lasted longer.
        if now <= known.until { Ok(holder) } else { Err("the certificate has expired") }
    }

    fn read(&self, certificate: &[u8]) -> Known {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Known { holder: None, until: i64::MIN };
        };
        let until = certificate.validity().not_after.timestamp();
        Known { holder: self.named(&certificate), until }
    }

    /// Whom a certificate names.
    fn named(&self, certificate: &X509Certificate<'_>) -> Option<Arc<Caller>> {
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

/// What is wrong; only where, if it quotes a CPR number.
fn told(error: anyhow::Error, place: &str) -> anyhow::Error {
    if contains_cpr(&format!("{error:#}")) {
        return anyhow!("{place} holds a CPR number, and so is not shown");
    }
    error
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
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

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
        token_subject = "auditor@example"

        [[caller]]
        name = "Skat"
        role = "tax"
        token_subject = "skat"
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
        let name = |der: &[u8]| directory.holder(&der.into(), 0).ok().map(|of| of.name.clone());
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
    fn a_certificate_is_its_callers_as_long_as_it_is_good() {
        let directory = Directory::parse(TEXT).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![dns("payroll.example")];
        params.not_after = date_time_ymd(2026, 1, 1);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let (certificate, until) = (Arc::from(der), 1_767_225_600);
        // Read, and remembered.
        for _ in 0..2 {
            assert!(directory.holder(&certificate, until).is_ok());
            let expired = directory.holder(&certificate, until + 1);
            assert_eq!(expired, Err("the certificate has expired"));
        }
    }

    #[test]
    fn a_token_is_its_callers_by_its_whole_subject() {
        let directory = Directory::parse(TEXT).unwrap();
        let name = |sub: &str| directory.bearer(sub).map(|caller| caller.name.clone());
        assert_eq!(name("auditor@example").as_deref(), Some("revisor"));
        assert_eq!(name("skat").as_deref(), Some("Skat"));
        for nobody in ["", "Skat", "skat ", "payroll.example", "revisor"] {
            assert_eq!(name(nobody), None, "{nobody}");
        }
        assert!(directory.takes_tokens());
        let text = TEXT
            .replace("token_subject", "#")
            .replace("role = \"tax\"", "role = \"tax\"\ncertificate_san = \"x\"");
        assert!(!Directory::parse(&text).unwrap().takes_tokens());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let entry = |lines: &str| format!("[[caller]]\nname = \"x\"\n{lines}");
        for (text, told) in [
            (String::new(), "no [[caller]]"),
            (entry("role = \"boss\"\ncertificate_san = \"x\""), "unknown variant `boss`"),
            (entry("role = \"tax\""), "certificate_san, certificate_subject or token_subject"),
            (
                entry("role = \"tax\"\ncertificate_san = \"x\"\ncertificate_subject = \"x\""),
                "at most one of certificate_san and certificate_subject",
            ),
            (entry("role = \"tax\"\ntoken_subject = \"\""), "is empty"),
            (
                entry("role = \"tax\"\ntoken_subject = \"x\"\n").repeat(2),
                "two callers have the token subject x",
            ),
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
                "caller 1 holds a CPR number, and so is not shown",
            ),
            (format!("{TEXT}{TEXT}"), "two callers have the certificate payroll.example"),
        ] {
            let error = format!("{:#}", Directory::parse(&text).unwrap_err());
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn w5_a_cpr_number_in_the_directory_is_not_told() {
        for (text, told) in [
            ("[[caller]]\nname = \"010160-5001\"\nrole = \"tax\"", "caller 1"),
            (
                "[[caller]]\nname = \"x\"\nrole = \"employer\"\ncertificate_san = \"x\"\n\
              cvr_numbers = [\"0101605001\"]",
                "caller 1",
            ),
            ("[[caller]]\nname = \"x\"\nrole = \"0101605001\"", "the file"),
            ("[[caller]]\nname = 0101605001", "the file"),
        ] {
            let error = format!("{:?}", Directory::parse(text).unwrap_err());
            assert!(!contains_cpr(&error), "{error}");
            let expected = format!("{told} holds a CPR number, and so is not shown");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
