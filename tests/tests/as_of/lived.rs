//! A ledger that lived through 2023: asked on 31 May it said 20.000, on 1 August 40.000, and so it
//! does today when asked as of then.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
};

use frikort_ledger::Settings;
use frikort_process::clock::Clock;
use frikort_proto::{
    timestamp,
    v1::{AnnualLimit, AsOf, SetAnnualLimitRequest, as_of::KnownAt},
};
use frikort_register::Keys;
use frikort_tests::{
    client::{Ledger, allowances, date, grant, new_cpr, paid_on, report},
    database::Database,
    process::{Kind, Service},
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
    async fn start(database: &Database, keys: &std::path::Path, now: OffsetDateTime) -> Self {
        let free = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let settings = Settings {
            listen,
            allow_remote: false,
            database_url: database.url("frikort_ledger"),
            keys: Keys::load(Some(keys), true).unwrap(),
            cached_payments: 1000,
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

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_2023_is_20_000_as_of_31_may_and_40_000_as_of_1_august() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let keys = dir.path().join("register.keys");
    let cpr = new_cpr();

    let winter = datetime!(2023-01-02 10:00 UTC);
    let mut then = Then::start(&database, &keys, winter).await;
    then.ledger.policies.set_annual_limit(limit_of_2023(20_000, 1)).await.unwrap();
    then.ledger.visitations.grant_card(grant(&cpr)).await.unwrap();
    then.end().await;

    let may = datetime!(2023-05-31 10:00 UTC);
    let mut then = Then::start(&database, &keys, may).await;
    let request = frikort_proto::v1::ReportPaymentRequest {
        facts: Some(paid_on(date(2023, 5, 31), 3_000_000)),
        ..report(&cpr, "may", 0)
    };
    let told = then.ledger.payments.report_payment(request).await.unwrap().into_inner();
    let in_may = told.position.unwrap().position;
    let told = told.payment.unwrap();
    assert_eq!((told.exempt_oere, told.taxable_oere), (2_000_000, 1_000_000));
    then.end().await;

    // The law of June is recorded before it is in force.
    let june = datetime!(2023-06-20 10:00 UTC);
    let mut then = Then::start(&database, &keys, june).await;
    then.ledger.policies.set_annual_limit(limit_of_2023(40_000, 7)).await.unwrap();
    then.end().await;

    let august = datetime!(2023-08-01 10:00 UTC);
    let mut then = Then::start(&database, &keys, august).await;
    let request = frikort_proto::v1::ReportPaymentRequest {
        facts: Some(paid_on(date(2023, 8, 1), 1_500_000)),
        ..report(&cpr, "august", 0)
    };
    let told = then.ledger.payments.report_payment(request).await.unwrap().into_inner();
    let in_august = told.position.unwrap().position;
    then.end().await;

    let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut allowances = allowances(projector.channel().await.unwrap());
    let both = |known_at, day| AsOf { known_at: Some(known_at), paid_through: Some(day) };
    let (summer, autumn) = (datetime!(2023-07-01 10:00 UTC), datetime!(2023-10-01 10:00 UTC));
    let before_august = datetime!(2023-07-31 21:59:59 UTC);
    let instant = |time| KnownAt::KnownTime(timestamp(time));
    for (what, as_of, limit, used) in [
        ("May, by instant", on(timestamp(may)), 20_000, 20_000),
        ("May, by position", at(in_may), 20_000, 20_000),
        ("recorded in June, and not in force", on(timestamp(june)), 20_000, 20_000),
        (
            "the evening before, in Copenhagen",
            on(timestamp(summer - time::Duration::hours(13))),
            20_000,
            20_000,
        ),
        ("in force from July, of all of the year", on(timestamp(summer)), 40_000, 30_000),
        ("the last second of July", on(timestamp(before_august)), 40_000, 30_000),
        ("August, by instant", on(timestamp(august)), 40_000, 40_000),
        ("August, by position", at(in_august), 40_000, 40_000),
        ("paid through May", through(date(2023, 5, 31)), 20_000, 20_000),
        ("paid through 1 August", through(date(2023, 8, 1)), 40_000, 40_000),
        (
            "known in October, paid through May",
            both(instant(autumn), date(2023, 5, 31)),
            20_000,
            20_000,
        ),
        ("known in May, paid through August", both(instant(may), date(2023, 8, 1)), 20_000, 20_000),
        (
            "known in October, paid through July",
            both(instant(autumn), date(2023, 7, 31)),
            40_000,
            30_000,
        ),
        (
            "known by position, paid through June",
            both(KnownAt::KnownPosition(in_august), date(2023, 6, 30)),
            20_000,
            20_000,
        ),
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
