//! A projector that folds otherwise than the generation that is served: an older one is replaced
//! by itself, a newer one left alone.

use std::time::Duration;

use frikort_proto::{error::Failure, v1::ErrorReason};
use frikort_tests::{
    audit::assert_projection_is_the_fold,
    client::{allowances, report},
    process::{Kind, Service},
    stack::Stack,
};
use sqlx::PgPool;
use tonic::Request;

use crate::ground::{asking, fill, generations, serving, wait_until};

async fn set_version(pool: &PgPool, version: i32) {
    let set = "UPDATE projection.checkpoint SET version = $1 WHERE state = 'serving'";
    sqlx::query(set).bind(version).execute(pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_replaced_at_the_start_while_questions_are_answered() {
    let mut stack = Stack::start(2).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    let (cprs, _) = fill(&stack, 10, 3).await;
    stack.projector.stop().await.unwrap();
    // What the older version made of it.
    set_version(&pool, 0).await;
    let tampered = "UPDATE projection.annual_total SET total = total + 1 WHERE partition = 0";
    sqlx::query(tampered).execute(&pool).await.unwrap();
    let dir = stack.dir.path();
    let projector = Service::start(Kind::Projector, &stack.database, dir).await.unwrap();
    let mut asked = allowances(projector.channel().await.unwrap());
    let mut ledger = stack.ledger().await.unwrap();
    let mut paid = 0;
    wait_until("the new one is served", async || {
        // Recorded and told all the while, whichever is served.
        paid += 1;
        let request = report(&cprs[0], &format!("more {paid}"), 100);
        let answer = ledger.payments.report_payment(request).await.unwrap().into_inner();
        let position = answer.position.unwrap().position;
        let answer = asked.get_allowance(asking(&cprs[0], position)).await.unwrap().into_inner();
        assert_eq!(answer.allowance.unwrap().payment_count, 3 + paid);
        serving(&pool).await == 2
    })
    .await;
    let listed = generations(&stack.database, &[]).await;
    let of_each = [(1, "retired".to_owned(), 0), (2, "serving".to_owned(), 1)];
    assert_eq!(listed, [of_each.clone(), of_each].concat());
    let log = projector.logged().unwrap();
    assert!(log.contains("of an older version: rebuilding it"), "{log}");
    assert!(log.contains("a row differs"), "{log}");
    for cpr in &cprs[1..] {
        let right = async || {
            let answer = asked.clone().get_allowance(asking(cpr, 0)).await.unwrap();
            answer.into_inner().allowance.unwrap().total_oere == 30_000
        };
        wait_until("the answers are of the new one", right).await;
    }
    wait_until("all is folded", async || {
        let behind = "SELECT count(*) = 0 FROM ledger.partition_head AS h
                      JOIN projection.checkpoint AS c USING (partition)
                      WHERE c.state = 'serving' AND c.position <> h.position";
        sqlx::query_scalar(behind).fetch_one(&pool).await.unwrap()
    })
    .await;
    assert_projection_is_the_fold(&pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_is_not_folded_on_and_said_to_be_newer() {
    let mut stack = Stack::start(1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    let (cprs, last) = fill(&stack, 2, 1).await;
    stack.projector.stop().await.unwrap();
    set_version(&pool, 2).await;
    let dir = stack.dir.path();
    let projector = Service::start(Kind::Projector, &stack.database, dir).await.unwrap();
    let mut asked = allowances(projector.channel().await.unwrap());
    // What the newer one has folded is answered.
    let answer = asked.get_allowance(asking(&cprs[0], last)).await.unwrap().into_inner();
    assert_eq!(answer.allowance.unwrap().total_oere, 10_000);
    let mut ledger = stack.ledger().await.unwrap();
    let answer = ledger.payments.report_payment(report(&cprs[0], "more", 100)).await.unwrap();
    let position = answer.into_inner().position.unwrap().position;
    wait_until("it says so", async || !projector.is_serving().await).await;
    let log = projector.logged().unwrap();
    assert!(log.contains("a newer projector has begun the generation"), "{log}");
    let mut request = Request::new(asking(&cprs[0], position));
    request.set_timeout(Duration::from_millis(300));
    let failure = Failure::from_status(&asked.get_allowance(request).await.unwrap_err()).unwrap();
    assert_eq!(failure.reason, ErrorReason::ProjectionBehind);
    assert_eq!(serving(&pool).await, 1);
    // The newer one is there again, or is given up.
    set_version(&pool, 1).await;
    let answer = asked.get_allowance(asking(&cprs[0], position)).await.unwrap().into_inner();
    assert_eq!(answer.allowance.unwrap().total_oere, 10_100);
    wait_until("it serves", async || projector.is_serving().await).await;
}
