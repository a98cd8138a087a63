//! What ends with a credential: calls that go on, and new calls on a connection that is open. A token
//! or certificate runs out, a caller is taken out of the directory or changed there.

use std::{fs, io::Write, path::Path, time::Duration};

use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, ListAnnualLimitsRequest, ReadEventsRequest, ReportPaymentsRequest, RunOptions,
        WatchAllowancesRequest, report_payments_response::Result as Became,
        watch_allowances_response::Item,
    },
};
use frikort_tests::{
    audit,
    client::{Ledger, allowances, by_cpr, new_cpr, report},
    pki::Pair,
    process::Service,
    tokens::{AUDIENCE, ISSUER, Issuer, claims, now, published},
};
use futures::{Stream, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use time::OffsetDateTime;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::{CALLERS, Secured, purpose};

/// How long a credential of these tests is good, in seconds; and within which time after its end a call
/// that goes on has ended, on a machine that does other things too.
const GOOD_FOR: i64 = 5;
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// By how many seconds a token may be older than it says.
const SKEW: i64 = 60;

/// A request that shows a token.
fn bearing<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// Watches one person, as a benefit system.
async fn watch(
    channel: Channel,
    cpr: &str,
    token: Option<&str>,
) -> Streaming<frikort_proto::v1::WatchAllowancesResponse> {
    let request =
        WatchAllowancesRequest { persons: by_cpr(cpr).into_iter().collect(), ..<_>::default() };
    let request = purpose(bearing(request, token), "KONTANTHJAELP");
    allowances(channel).watch_allowances(request).await.unwrap().into_inner()
}

/// Follows the history, as an auditor.
async fn follow(
    mut ledger: Ledger,
    token: Option<&str>,
) -> Streaming<frikort_proto::v1::ReadEventsResponse> {
    let request = ReadEventsRequest { follow: true, ..ReadEventsRequest::default() };
    ledger.audits.read_events(bearing(request, token)).await.unwrap().into_inner()
}

/// The error that ends a stream, and when it came.
async fn end<T>(
    mut items: impl Stream<Item = Result<T, Status>> + Unpin,
) -> (ErrorReason, Instant) {
    loop {
        match items.next().await {
            Some(Ok(_)) => {}
            Some(Err(status)) => {
                assert!(items.next().await.is_none(), "something after the end");
                let failure = Failure::from_status(&status).unwrap_or_else(|| panic!("{status:?}"));
                return (failure.reason, Instant::now());
            }
            None => panic!("it ended without an error"),
        }
    }
}

/// Reports payments until it is told no more, and gives how many were recorded, and what ended it.
async fn report_on(mut ledger: Ledger, cpr: String, token: Option<&str>) -> (usize, ErrorReason) {
    let (items, sent) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let payment = Some(report(&cpr, &format!("line {number}"), 1));
            let line = ReportPaymentsRequest { payment, ..ReportPaymentsRequest::default() };
            if items.send(line).is_err() {
                break;
            }
            sleep(Duration::from_millis(2)).await;
        }
    });
    let request = bearing(UnboundedReceiverStream::new(sent), token);
    let mut results = ledger.payments.report_payments(request).await.unwrap().into_inner();
    let mut recorded = 0;
    while let Some(result) = results.next().await {
        match result {
            Ok(result) => {
                assert_eq!(usize::try_from(result.index).unwrap(), recorded, "out of order");
                assert!(matches!(result.result, Some(Became::Recorded(_))), "{result:?}");
                recorded += 1;
            }
            Err(status) => {
                assert!(results.next().await.is_none(), "something after the end");
                return (recorded, Failure::from_status(&status).unwrap().reason);
            }
        }
    }
    panic!("it ended without an error");
}

/// A run that is committed under a token, and never comes to its last line.
async fn commit_on(mut ledger: Ledger, cpr: String, token: Option<&str>) -> (ErrorReason, Instant) {
    let run = RunOptions { validate_only: false, plan_token: format!("1-{}", "0".repeat(64)) };
    let first = ReportPaymentsRequest { run: Some(run), ..ReportPaymentsRequest::default() };
    let payment = Some(report(&cpr, "committed", 1));
    let line = ReportPaymentsRequest { payment, ..ReportPaymentsRequest::default() };
    let lines = futures::stream::iter([first, line]).chain(futures::stream::pending());
    end(ledger.payments.report_payments(bearing(lines, token)).await.unwrap().into_inner()).await
}

/// Payments on record.
async fn payments(secured: &Secured) -> usize {
    let pool = secured.database.pool().await.unwrap();
    audit::assert_sound(&pool).await;
    let count = "SELECT count(*) FROM ledger.event
                 WHERE record::json ->> 'type' = 'payment_reported'";
    let count: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.unwrap();
    usize::try_from(count).unwrap()
}

/// A limit, and somebody with a card.
async fn holder(secured: &Secured) -> String {
    let mut operator = secured.as_caller("operator").await;
    operator.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    operator.grant(&cpr).await.unwrap();
    cpr
}

fn may_ask(answer: &Result<(), Status>) -> Option<ErrorReason> {
    let status = answer.as_ref().err()?;
    Some(Failure::from_status(status).unwrap_or_else(|| panic!("{status:?}")).reason)
}

/// Something that every role may ask.
async fn ask(ledger: &Ledger) -> Result<(), Status> {
    let request = ListAnnualLimitsRequest::default();
    ledger.policies.clone().list_annual_limits(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_goes_on_ends_with_its_token_and_loses_no_line() {
    let issuer = Issuer::new("one").unwrap();
    let mut callers = CALLERS.to_owned();
    for name in ["employer", "benefit", "auditor"] {
        let certificate = format!("certificate_san = \"{name}.test\"");
        callers = callers.replace(&certificate, &format!("token_subject = \"{name}\""));
    }
    let secured = Secured::start_with(&callers, |dir| {
        let keys = dir.join("keys.json");
        fs::write(&keys, published(&[&issuer])).unwrap();
        vec![
            ("FRIKORT_TOKEN_KEYS", keys.display().to_string()),
            ("FRIKORT_TOKEN_ISSUER", ISSUER.to_owned()),
            ("FRIKORT_TOKEN_AUDIENCE", AUDIENCE.to_owned()),
        ]
    })
    .await;
    let cpr = holder(&secured).await;
    let token = |name: &str| {
        let mut claims = claims(name);
        claims["exp"] = json!(now() - SKEW + GOOD_FOR);
        issuer.sign(&issuer.header(), &claims).unwrap()
    };
    let ledger = Ledger::new(secured.connect(&secured.ledger, None).await.unwrap());
    let projector = secured.connect(&secured.projector, None).await.unwrap();
    let (began, [employer, benefit, auditor]) =
        (Instant::now(), ["employer", "benefit", "auditor"].map(token));
    let all = async {
        tokio::join!(
            end(watch(projector, &cpr, Some(&benefit)).await),
            end(follow(ledger.clone(), Some(&auditor)).await),
            report_on(ledger.clone(), cpr.clone(), Some(&employer)),
            commit_on(ledger.clone(), cpr.clone(), Some(&employer)),
        )
    };
    let good_for = Duration::from_secs(GOOD_FOR.unsigned_abs());
    let (watched, followed, (recorded, reported), committed) =
        timeout(good_for + ENDED_WITHIN, all).await.expect("they go on");
    for (reason, at) in [watched, followed, committed] {
        assert_eq!(reason, ErrorReason::Unauthenticated);
        // The second in which it was signed had begun.
        assert!(at - began > good_for - Duration::from_secs(1), "too early: {:?}", at - began);
    }
    assert_eq!(reported, ErrorReason::Unauthenticated);
    assert!(recorded > 20, "{recorded} lines");
    assert_eq!(
        payments(&secured).await,
        recorded,
        "each line is on record and answered, or neither"
    );
}

/// An authority of its own beside that of the tests, whose certificates run out soon.
struct Brief(CertifiedIssuer<'static, KeyPair>);

impl Brief {
    /// One that is trusted by the services whose files lie in `dir`.
    fn trusted(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(dir.join("ca.crt")).unwrap();
        file.write_all(authority.pem().as_bytes()).unwrap();
        Self(authority)
    }

    fn sign(&self, name: &str, until: OffsetDateTime) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = until;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_runs_out_ends_what_goes_on_and_opens_nothing_more() {
    let mut brief = None;
    let secured = Secured::start_with(CALLERS, |dir| {
        brief = Some(Brief::trusted(dir));
        Vec::new()
    })
    .await;
    let (brief, cpr) = (brief.unwrap(), holder(&secured).await);
    let until = OffsetDateTime::from_unix_timestamp(now() + GOOD_FOR).unwrap();
    let connect = async |service: &Service, name: &str| {
        let shown = brief.sign(&format!("{name}.test"), until);
        secured.connect(service, Some(&shown)).await.unwrap()
    };
    let employer = Ledger::new(connect(&secured.ledger, "employer").await);
    let auditor = Ledger::new(connect(&secured.ledger, "auditor").await);
    let benefit = connect(&secured.projector, "benefit").await;
    // Good until its last second.
    assert_eq!(may_ask(&ask(&auditor).await), None);
    let all = async {
        tokio::join!(
            end(watch(benefit, &cpr, None).await),
            end(follow(auditor.clone(), None).await),
            report_on(employer, cpr.clone(), None),
        )
    };
    let good_for = Duration::from_secs(GOOD_FOR.unsigned_abs());
    let (watched, followed, (recorded, reported)) =
        timeout(good_for + ENDED_WITHIN, all).await.expect("they go on");
    assert!(now() > until.unix_timestamp(), "too early");
    for reason in [watched.0, followed.0, reported] {
        assert_eq!(reason, ErrorReason::Unauthenticated);
    }
    assert_eq!(payments(&secured).await, recorded);
    // The connection is there still: it is the ledger that says so, and not the handshake.
    assert_eq!(may_ask(&ask(&auditor).await), Some(ErrorReason::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_out_or_changed_is_told_no_more_and_others_are() {
    let secured = Secured::start().await;
    let cpr = holder(&secured).await;
    let connect = async |service: &Service, name: &str| {
        let shown = secured.authority.sign(&format!("{name}.test")).unwrap();
        secured.connect(service, Some(&shown)).await.unwrap()
    };
    let employer = Ledger::new(connect(&secured.ledger, "employer").await);
    let auditor = Ledger::new(connect(&secured.ledger, "auditor").await);
    let (benefit, tax) =
        (connect(&secured.projector, "benefit").await, connect(&secured.projector, "tax").await);
    let followed = tokio::spawn(end(follow(auditor.clone(), None).await));
    let watched = tokio::spawn(end(watch(benefit, &cpr, None).await));
    let mut others = watch(tax, &cpr, None).await;
    let reported = {
        let cpr = cpr.clone();
        tokio::spawn(async move { report_on(employer, cpr, None).await })
    };
    // They go on for longer than it takes to judge them.
    sleep(Duration::from_secs(2)).await;
    assert!(!followed.is_finished() && !watched.is_finished() && !reported.is_finished());

    let changed = CALLERS
        .replace("auditor.test", "gone.test")
        .replace("role = \"benefit\"", "role = \"auditor\"")
        .replace("[\"13748136\", \"29189706\"]", "[\"29189706\"]");
    fs::write(secured.dir.path().join("callers.toml"), changed).unwrap();
    let all = async { tokio::join!(followed, watched, reported) };
    let (followed, watched, reported) = timeout(ENDED_WITHIN, all).await.expect("they go on");
    assert_eq!(followed.unwrap().0, ErrorReason::Unauthenticated, "nobody's certificate");
    assert_eq!(watched.unwrap().0, ErrorReason::NotAllowed, "another role");
    let (recorded, reason) = reported.unwrap();
    assert_eq!(reason, ErrorReason::NotAllowed, "another scope");
    assert_eq!(payments(&secured).await, recorded);
    // What a new call is told is the same.
    assert_eq!(may_ask(&ask(&auditor).await), Some(ErrorReason::Unauthenticated));

    // Who stayed as it was hears of what comes after.
    let operator = secured.as_caller("operator").await;
    let last = report(&cpr, "last", 7);
    operator.payments.clone().report_payment(last).await.unwrap();
    let hears = async {
        let mut total = 0;
        while total < i64::try_from(recorded).unwrap() + 7 {
            if let Some(Item::Change(change)) = others.next().await.unwrap().unwrap().item {
                total = change.allowances[0].total_oere;
            }
        }
    };
    timeout(ENDED_WITHIN, hears).await.expect("it is not told");
}
