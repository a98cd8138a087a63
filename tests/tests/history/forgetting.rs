//! A person is forgotten on the primary while the standby does not receive, and the wait for the standby
//! is cancelled: that is not acknowledged, since the standby may be promoted.

use std::{sync::Arc, time::Duration};

use frikort_proto::v1::{ConfirmForgettingRequest, register_service_client::RegisterServiceClient};
use frikort_tests::history::{Journal, Pair, Replication, Services, reason_of, settled};

use crate::between::{register, request_forgetting};

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_primary_has_forgotten_is_not_acknowledged() {
    let mut pair = Pair::start(Replication::Synchronous, 1).await.unwrap();
    let mut services = Services::start_at(|role| pair.url(role), pair.dir()).await.unwrap();
    let journal = Arc::new(Journal::new(pair.epoch.clone()));
    let person_id = services.caller(0, 0, &journal).unwrap().grant(1).await.unwrap();
    let register = register(&pair.url("frikort_ledger"), pair.dir());
    let asked = request_forgetting(&register, &person_id).await;
    let client = RegisterServiceClient::new(services.ledgers[0].channel().await.unwrap());
    let request = ConfirmForgettingRequest { request_id: asked.request_id.to_string() };
    let confirm = async || client.clone().confirm_forgetting(request.clone()).await;

    pair.pause().await.unwrap();
    let cancel = async {
        loop {
            pair.end_waits(false).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::select! {
        answer = confirm() => answer.unwrap_err(),
        () = cancel => unreachable!("it goes on until there is an answer"),
    };
    assert_eq!(reason_of(&refused), "STORE_UNAVAILABLE", "{refused:?}");

    pair.resume().await.unwrap();
    settled(confirm).await.unwrap();
    pair.fail_over().await.unwrap();
    let forgotten = "SELECT count(*) FROM register.forgotten";
    let pool = pair.pool().await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(forgotten).fetch_one(&pool).await.unwrap(), 1);
    pool.close().await;
    services.stop().await.unwrap();
}
