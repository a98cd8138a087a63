//! Certificates that their authority has revoked: they open no connection, and end on those that are
//! open. A list that makes no sense changes nothing, and one that is overdue goes on telling; both are
//! told.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, ListAnnualLimitsRequest, ReadEventsRequest},
};
use frikort_tests::{client::Ledger, pki::Pair, tokens::now};
use futures::StreamExt;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use crate::{CALLERS, Secured, connections::NOTICED};

/// An authority beside that of the tests, which publishes what it has revoked.
struct Strict {
    authority: CertifiedIssuer<'static, KeyPair>,
    list: PathBuf,
}

impl Strict {
    /// One that is trusted by the services whose files lie in `dir`, and has revoked nothing; its list
    /// should be newer.
    fn trusted(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let trusted = fs::read_to_string(dir.join("ca.crt")).unwrap() + &authority.pem();
        fs::write(dir.join("ca.crt"), trusted).unwrap();
        let strict = Self { authority, list: dir.join("revoked.crl") };
        strict.publish(&[], -3600);
        strict
    }

    fn sign(&self, name: &str, serial: u64) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// Publishes which certificates are revoked, until a newer list is due in so many seconds.
    fn publish(&self, serials: &[u64], due: i64) {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(now() + seconds).unwrap();
        let revoked_certs = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: at(-10),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: at(-7200),
            next_update: at(due),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(&self.list, list.signed_by(&self.authority).unwrap().pem().unwrap()).unwrap();
    }
}

/// Something that every role may ask; what our own refusal says, or that there is no connection.
async fn ask(ledger: &Ledger) -> Result<(), Option<ErrorReason>> {
    let request = ListAnnualLimitsRequest::default();
    let answer = ledger.policies.clone().list_annual_limits(request).await;
    answer.map(drop).map_err(|status| Failure::from_status(&status).map(|failure| failure.reason))
}

/// Whether whoever shows this gets a connection, and an answer.
async fn may_come(secured: &Secured, shown: &Pair) -> bool {
    match secured.connect(&secured.ledger, Some(shown)).await {
        Ok(channel) => ask(&Ledger::new(channel)).await.is_ok(),
        Err(_) => false,
    }
}

async fn until_logged(secured: &Secured, told: &str) {
    let deadline = Instant::now() + NOTICED;
    while !secured.ledger.logged().unwrap().contains(told) {
        assert!(Instant::now() < deadline, "not told: {told}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_certificate_is_revoked_is_refused_also_on_what_is_open() {
    let mut strict = None;
    let secured = Secured::start_with(CALLERS, |dir| {
        let authority = strict.insert(Strict::trusted(dir));
        vec![("FRIKORT_TLS_CLIENT_CRL", authority.list.display().to_string())]
    })
    .await;
    let strict = strict.unwrap();
    let (kept, lost) = (strict.sign("operator.test", 1), strict.sign("auditor.test", 2));
    let connect =
        async |shown| Ledger::new(secured.connect(&secured.ledger, Some(shown)).await.unwrap());
    let (operator, mut auditor) = (connect(&kept).await, connect(&lost).await);
    assert_eq!((ask(&operator).await, ask(&auditor).await), (Ok(()), Ok(())));
    // An authority that publishes no list may have revoked anybody.
    assert!(!may_come(&secured, &secured.authority.sign("operator.test").unwrap()).await);
    let follow = ReadEventsRequest { follow: true, ..ReadEventsRequest::default() };
    let mut followed = auditor.audits.read_events(follow).await.unwrap().into_inner();

    // The list is overdue, and told to be; what it says counts.
    until_logged(&secured, "REVOCATIONS OVERDUE").await;
    strict.publish(&[2], -3600);
    let ended = async {
        loop {
            if let Err(status) = followed.next().await.expect("an error ends it") {
                break Failure::from_status(&status).unwrap().reason;
            }
        }
    };
    let ended = timeout(NOTICED, ended).await.expect("it goes on");
    assert_eq!(ended, ErrorReason::Unauthenticated);
    assert_eq!(ask(&auditor).await, Err(Some(ErrorReason::Unauthenticated)));
    assert!(!may_come(&secured, &lost).await);
    assert_eq!(ask(&operator).await, Ok(()));
    assert!(may_come(&secured, &kept).await);

    fs::write(&strict.list, "no list").unwrap();
    until_logged(&secured, "stays in use, and reading is tried again").await;
    assert!(!may_come(&secured, &lost).await);
    assert!(may_come(&secured, &kept).await);
}
