//! Every way in which an append can go wrong between us and the database, and what callers are
//! told: never a guess, and never an event too many.

use std::net::SocketAddr;

use frikort_tests::{
    audit::{assert_sound, events},
    client::{Ledger, new_cpr, report},
    database::Database,
    process::{Kind, Service},
    proxy::{Fault, Proxy},
};
use tempfile::TempDir;

struct Setting {
    database: Database,
    proxy: Proxy,
    ledger: Ledger,
    cpr: String,
    _service: Service,
    _dir: TempDir,
}

/// A ledger whose database is behind a proxy, and one person with a card.
async fn setting() -> Setting {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let database = Database::create(1).await.unwrap();
    let proxy = Proxy::start(dir.path(), database.cluster().socket_dir()).unwrap();
    let url = proxy.url(&database.url("frikort_ledger"));
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let service = Service::start_at(Kind::Ledger, &url, dir.path(), anywhere).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    Setting { database, proxy, ledger, cpr, _service: service, _dir: dir }
}

impl Setting {
    /// Reports a payment whose append meets the fault; the caller notices nothing.
    async fn strike(&mut self, fault: Fault) {
        let pool = self.database.pool().await.unwrap();
        let before = events(&pool).await;
        self.proxy.arm("marked", fault);
        let request = report(&self.cpr, "marked", 10_000);
        let answer =
            self.ledger.payments.report_payment(request.clone()).await.unwrap().into_inner();
        self.proxy.struck().await;
        assert!(!answer.replayed);
        assert_eq!(answer.payment.unwrap().exempt_oere, 10_000);
        if fault == Fault::Late {
            self.proxy.deliver().await;
        }
        assert_eq!(assert_sound(&pool).await, before + 1);
        let again = self.ledger.payments.report_payment(request).await.unwrap().into_inner();
        assert!(again.replayed);
        assert_eq!(again.position, answer.position);
        // Life goes on.
        let next = report(&self.cpr, "next", 5_000);
        let next = self.ledger.payments.report_payment(next).await.unwrap().into_inner();
        assert_eq!(next.allowance.unwrap().total_oere, 15_000);
        assert_eq!(assert_sound(&pool).await, before + 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_never_arrived_is_decided_again() {
    setting().await.strike(Fault::CutBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_was_lost_is_found_and_not_repeated() {
    setting().await.strike(Fault::CutAfter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_arrives_after_it_was_given_up_does_nothing() {
    setting().await.strike(Fault::Late).await;
}
