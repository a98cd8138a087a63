//! Two ledger processes on one database: the head row is the fence, and nobody else's.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]

use frikort_proto::v1::{PersonRef, ReportPaymentRequest, person_ref::Person};
use frikort_tests::{
    audit::assert_sound,
    client::{self, Ledger, new_cpr, report},
    database::Database,
    process::{Kind, Service},
};
use futures::future::try_join_all;

async fn two_ledgers(partitions: i32) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(partitions).await.unwrap();
    let one = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let two = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledgers =
        [Ledger::new(one.channel().await.unwrap()), Ledger::new(two.channel().await.unwrap())];
    ledgers[0].set_limit(2022, 20_000).await.unwrap();

    // Everybody's last 500 kr., asked for through both at the same instant, twice each.
    let persons: Vec<String> = (0..40).map(|_| new_cpr()).collect();
    for cpr in &persons {
        ledgers[0].grant(cpr).await.unwrap();
        ledgers[1].payments.report_payment(report(cpr, "before", 1_950_000)).await.unwrap();
    }
    let last = persons.iter().flat_map(|cpr| {
        let ledgers = &ledgers;
        [(0, "a"), (1, "b"), (1, "a"), (0, "b")].map(move |(ledger, reference)| {
            let mut payments = ledgers[ledger].payments.clone();
            let request = report(cpr, reference, 50_000);
            async move {
                let answer = payments.report_payment(request).await?.into_inner();
                let payment = answer.payment.unwrap_or_default();
                Ok::<_, tonic::Status>((reference, payment.exempt_oere, answer.replayed))
            }
        })
    });
    let answers = try_join_all(last).await.unwrap();
    for person in answers.chunks(4) {
        let first = |reference| {
            let mut of_it: Vec<_> = person.iter().filter(|(r, ..)| *r == reference).collect();
            of_it.sort_by_key(|(_, _, replayed)| *replayed);
            assert!(!of_it[0].2 && of_it[1].2, "one recorded, one replayed: {person:?}");
            assert_eq!(of_it[0].1, of_it[1].1, "the same answer twice: {person:?}");
            of_it[0].1
        };
        let mut exempt = [first("a"), first("b")];
        exempt.sort_unstable();
        assert_eq!(exempt, [0, 50_000], "exactly one of two is exempt");
    }
    // One limit for each partition, one grant and three payments for each person.
    let events = assert_sound(&database.pool().await.unwrap()).await;
    assert_eq!(events, i64::from(partitions) + 40 * 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ledgers_share_one_partition() {
    two_ledgers(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ledgers_share_four_partitions() {
    two_ledgers(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_granted_through_one_ledger_is_seen_at_once_by_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let one = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let two = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let (mut one, mut two) =
        (Ledger::new(one.channel().await.unwrap()), Ledger::new(two.channel().await.unwrap()));
    one.set_limit(2022, 20_000).await.unwrap();
    for round in 0..20 {
        let cpr = new_cpr();
        let refused = two.payments.report_payment(report(&cpr, "r", 100)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound, "round {round}");
        let person_id = one.grant(&cpr).await.unwrap();
        let by_id = ReportPaymentRequest {
            person: Some(PersonRef {
                person: Some(Person::PersonId(person_id)),
                frikort_id: "12345".to_owned(),
            }),
            ..report(&cpr, "r", 100)
        };
        let answer = two.payments.report_payment(by_id).await.unwrap().into_inner();
        assert_eq!(answer.payment.unwrap().employer_cvr, client::CVR);
    }
}
