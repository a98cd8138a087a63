//! A ledger that lived through 2023: asked on 31 May it said 20.000, on 1 August 40.000, and so it
//! does today when asked as of then.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    thread,
};

use frikort_access::Access;
use frikort_event_store::Durability;
use frikort_ledger::Settings;
use frikort_process::clock::Clock;
use frikort_proto::{
    Date, timestamp,
    v1::{AnnualLimit, AsOf, ReportPaymentRequest, SetAnnualLimitRequest},
};
use frikort_register::Source;
use frikort_tests::{
    client::{Ledger, allowances, date, grant, new_cpr, paid_on, report},
    database::Database,
    process::{Kind, Service, receive_notices},
};
use time::{OffsetDateTime, macros::datetime};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{allowance, at, on, statement, through};

/// A ledger in this process, whose clock stands still.
struct Then {
    ledger: Ledger,
    stop: CancellationToken,
    serving: thread::JoinHandle<anyhow::Result<()>>,
}

impl Then {
    async fn start(database: &Database, keys: &Path, now: OffsetDateTime) -> Self {
        receive_notices();
        let free = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let source = Source::File(keys.to_owned());
        source.create().unwrap();
        let settings = Settings {
            listen,
            access: Access::insecure_on_loopback(keys.with_extension("lookups")),
            database_url: database.url("frikort_ledger").into(),
            durability: Durability::NotRequired,
            keys: source.start(true).await.unwrap(),
            signer: None,
            cached_payments: 1000,
            payments_per_year: frikort_domain::PAYMENTS_PER_YEAR,
        };
        let stop = CancellationToken::new();
        let (clock, stopping) = (Clock::fixed(now), stop.clone());
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(frikort_ledger::serve(settings, clock, stopping))
        });
        let channel = loop {
            let uri = format!("http://{listen}");
            match Channel::from_shared(uri).unwrap().connect().await {
                Ok(channel) => break channel,
                Err(error) => assert!(!serving.is_finished(), "{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        Self { ledger: Ledger::new(channel), stop, serving }
    }

    /// A payment for one day, the split that is told for it, and its position.
    async fn pay(&mut self, cpr: &str, day: Date, oere: i64, split: (i64, i64)) -> i64 {
        let facts = Some(paid_on(day, oere));
        let request = ReportPaymentRequest { facts, ..report(cpr, &day.month.to_string(), 0) };
        let told = self.ledger.payments.report_payment(request).await.unwrap().into_inner();
        let payment = told.payment.unwrap();
        assert_eq!((payment.exempt_oere, payment.taxable_oere), split);
        told.position.unwrap().position
    }

    async fn end(self) {
        drop(self.ledger);
        self.stop.cancel();
        tokio::task::spawn_blocking(|| self.serving.join()).await.unwrap().unwrap().unwrap();
    }
}

fn limit_of_2023(kroner: i64, month: i32) -> SetAnnualLimitRequest {
    let limit = AnnualLimit {
        year: 2023,
        limit_oere: kroner * 100,
        in_force_date: Some(date(2023, month, 1)),
        citation: "for a test".to_owned(),
    };
    SetAnnualLimitRequest { limit: Some(limit), validate_only: false }
}

/// The first half of 2023 and a month more, at its own times. The positions of two payments: 30.000
/// on 31 May, 15.000 on 1 August.
async fn live(database: &Database, keys: &Path, cpr: &str) -> (i64, i64) {
    let mut then = Then::start(database, keys, datetime!(2023-01-02 10:00 UTC)).await;
    then.ledger.policies.set_annual_limit(limit_of_2023(20_000, 1)).await.unwrap();
    then.ledger.visitations.grant_card(grant(cpr)).await.unwrap();
    then.end().await;

    let mut then = Then::start(database, keys, MAY).await;
    let in_may = then.pay(cpr, date(2023, 5, 31), 3_000_000, (2_000_000, 1_000_000)).await;
    then.end().await;

    // The law is recorded before it is in force.
    let mut then = Then::start(database, keys, JUNE).await;
    then.ledger.policies.set_annual_limit(limit_of_2023(40_000, 7)).await.unwrap();
    then.end().await;

    let mut then = Then::start(database, keys, AUGUST).await;
    let in_august = then.pay(cpr, date(2023, 8, 1), 1_500_000, (1_000_000, 500_000)).await;
    then.end().await;
    (in_may, in_august)
}

const MAY: OffsetDateTime = datetime!(2023-05-31 10:00 UTC);
const JUNE: OffsetDateTime = datetime!(2023-06-20 10:00 UTC);
const AUGUST: OffsetDateTime = datetime!(2023-08-01 10:00 UTC);

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_2023_is_20_000_as_of_31_may_and_40_000_as_of_1_august() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let cpr = new_cpr();
    let (in_may, in_august) = live(&database, &dir.path().join("register.keys"), &cpr).await;

    let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut allowances = allowances(projector.channel().await.unwrap());
    let then = |instant| on(timestamp(instant));
    let both = |known: AsOf, day| AsOf { paid_through: Some(day), ..known };
    let (end_of_may, end_of_june) = (date(2023, 5, 31), date(2023, 6, 30));
    let (end_of_july, august) = (date(2023, 7, 31), date(2023, 8, 1));
    // 30 June ends in Copenhagen at 22:00 UTC.
    let (june_ends, october) = (datetime!(2023-06-30 22:00 UTC), datetime!(2023-10-01 10:00 UTC));
    let before = june_ends - time::Duration::MICROSECOND;
    for (what, as_of, limit, used) in [
        ("known in May", then(MAY), 20_000, 20_000),
        ("known at the position of May", at(in_may), 20_000, 20_000),
        ("recorded in June, and not in force", then(JUNE), 20_000, 20_000),
        ("the last of June in Copenhagen", then(before), 20_000, 20_000),
        ("in force from July, for all of the year", then(june_ends), 40_000, 30_000),
        ("known in August", then(AUGUST), 40_000, 40_000),
        ("known at the position of August", at(in_august), 40_000, 40_000),
        ("paid through May", through(end_of_may), 20_000, 20_000),
        ("paid through 1 August", through(august), 40_000, 40_000),
        ("known in October, paid in May", both(then(october), end_of_may), 20_000, 20_000),
        ("known in May, paid in August", both(then(MAY), august), 20_000, 20_000),
        ("known in October, paid in July", both(then(october), end_of_july), 40_000, 30_000),
        ("known in August, paid in June", both(at(in_august), end_of_june), 20_000, 20_000),
    ] {
        let told = allowances.get_allowance(allowance(&cpr, 2023, as_of)).await.unwrap();
        let told = told.into_inner().allowance.unwrap();
        assert_eq!((told.limit_oere, told.used_oere), (limit * 100, used * 100), "{what}");
        let told = allowances.get_statement(statement(&cpr, as_of)).await.unwrap().into_inner();
        let exempt: i64 = told.payments.iter().map(|payment| payment.exempt_oere).sum();
        assert_eq!(exempt, used * 100, "the exempt parts add up to what is used: {what}");
        assert_eq!(told.allowances[0].used_oere, exempt, "{what}");
    }
}
