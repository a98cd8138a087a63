//! Beside the services: while payments are recorded and questions asked, of two projectors.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use frikort_proto::v1::{GetStatementRequest, allowance_service_client::AllowanceServiceClient};
use frikort_tests::{
    audit::{assert_projection_is_the_fold, assert_sound},
    client::{Ledger, allowances, by_cpr, new_cpr, report},
    files::{assert_expected_totals_and_splits, import, load_limits},
    process::{Kind, Service},
    stack::Stack,
};
use tonic::transport::Channel;

use crate::ground::{
    asking, fill, generations, generations_with_rows, rebuild, serving, wait_until,
};

/// Who records and asks at the same time.
const CALLERS: usize = 4;

/// Goes on until it is told to stop, and counts what was answered.
#[derive(Clone, Default)]
struct Traffic {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
}

impl Traffic {
    /// Records a payment to somebody new, then asks both projectors for an answer that contains
    /// it: the sum must be that of all so far. Every call must be answered.
    async fn pay_and_ask(self, mut ledger: Ledger, mut both: [AllowanceServiceClient<Channel>; 2]) {
        let cpr = new_cpr();
        ledger.grant(&cpr).await.unwrap();
        for number in 1.. {
            let request = report(&cpr, &format!("r{number}"), 10_000);
            let answer = ledger.payments.report_payment(request).await.unwrap().into_inner();
            let position = answer.position.unwrap().position;
            for projector in &mut both {
                let answer = projector.get_allowance(asking(&cpr, position)).await.unwrap();
                let answer = answer.into_inner();
                assert!(answer.position.unwrap().position >= position);
                let allowance = answer.allowance.unwrap();
                assert_eq!(allowance.total_oere, number * 10_000, "after {number} payments");
                assert_eq!(allowance.used_oere, (number * 10_000).min(2_000_000));
                self.answers.fetch_add(1, Relaxed);
            }
            let statement = GetStatementRequest {
                person: by_cpr(&cpr),
                min_position: position,
                ..GetStatementRequest::default()
            };
            let told = both[0].get_statement(statement).await.unwrap().into_inner();
            assert_eq!(i64::try_from(told.payments.len()), Ok(number));
            if self.stop.load(Relaxed) {
                return;
            }
        }
    }

    /// Waits for so many answers from now on.
    async fn answers(&self, count: u64) {
        let before = self.answers.load(Relaxed);
        wait_until("it is answered", async || self.answers.load(Relaxed) >= before + count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_proved_and_switched_to_while_payments_are_recorded_and_questions_asked() {
    let stack = Stack::start(1).await.unwrap();
    let dir = stack.dir.path();
    let pool = stack.database.pool().await.unwrap();
    let beside = Service::start(Kind::Projector, &stack.database, dir).await.unwrap();
    load_limits(&stack.ledger, &stack.projector).unwrap();
    import(&stack.ledger, &stack.projector, dir).unwrap();

    let traffic = Traffic::default();
    let mut running = Vec::new();
    for _ in 0..CALLERS {
        let both = [stack.allowances().await.unwrap(), allowances(beside.channel().await.unwrap())];
        let ledger = stack.ledger().await.unwrap();
        running.push(tokio::spawn(traffic.clone().pay_and_ask(ledger, both)));
    }
    traffic.answers(20).await;
    for generation in 2..5 {
        let before = traffic.answers.load(Relaxed);
        let (code, told, log) = rebuild(&stack.database, &[]).await;
        assert_eq!(code, 0, "{told}\n{log}");
        assert_eq!(
            (&told["verdict"], &told["generation"]),
            (&"switched".into(), &generation.into())
        );
        assert_eq!((&told["differing_persons"], &told["differing_others"]), (&0.into(), &0.into()));
        assert!(told["events"].as_i64().unwrap() > 22_000, "{told}");
        assert!(told["persons"].as_i64().unwrap() > 1_000, "{told}");
        assert_eq!(told["positions"][0]["replaced"], generation - 1);
        assert_eq!(serving(&pool).await, generation);
        assert!(traffic.answers.load(Relaxed) > before, "nothing was answered meanwhile");
        // Both go on from the new one.
        traffic.answers(40).await;
    }
    traffic.stop.store(true, Relaxed);
    for caller in running {
        caller.await.unwrap();
    }
    let listed = generations(&stack.database, &[]).await;
    let states: Vec<&str> = listed.iter().map(|(_, state, _)| state.as_str()).collect();
    assert_eq!(states, ["retired", "retired", "retired", "serving"]);
    assert_eq!(generations(&stack.database, &["--drop-old"]).await, [(4, "serving".into(), 1)]);
    assert_eq!(generations_with_rows(&pool).await, [4]);
    assert_sound(&pool).await;
    assert_projection_is_the_fold(&pool).await;
    assert_expected_totals_and_splits(&stack.ledger, &stack.projector, dir).unwrap();
    assert_expected_totals_and_splits(&stack.ledger, &beside, dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_partitions_switch_together() {
    let stack = Stack::start(3).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    fill(&stack, 30, 2).await;
    wait_until("all is folded", async || {
        let behind = "SELECT count(*) = 0 FROM ledger.partition_head AS h
                      JOIN projection.checkpoint AS c USING (partition)
                      WHERE c.position <> h.position";
        sqlx::query_scalar(behind).fetch_one(&pool).await.unwrap()
    })
    .await;
    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!(code, 0, "{log}");
    assert_eq!((&told["verdict"], &told["persons"]), (&"switched".into(), &30.into()), "{told}");
    let served: Vec<(i32, i32, i64, i64)> = sqlx::query_as(
        "SELECT h.partition, c.generation, c.position, h.position FROM ledger.partition_head AS h
         JOIN projection.checkpoint AS c USING (partition)
         WHERE c.state = 'serving' ORDER BY 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(served.len(), 3);
    for (partition, generation, position, head) in served {
        assert_eq!((generation, position), (2, head), "of partition {partition}");
        let proved = &told["positions"][usize::try_from(partition).unwrap()];
        assert_eq!((&proved["partition"], &proved["position"]), (&partition.into(), &head.into()));
    }
    // One that is added is served like the others, and rebuilt with them.
    frikort_event_store::migrate(&pool.clone().into(), 4).await.unwrap();
    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!((code, told["positions"].as_array().unwrap().len()), (0, 4), "{log}");
}
