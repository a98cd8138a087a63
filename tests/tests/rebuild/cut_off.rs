//! Rebuilds that are killed, stopped, overtaken, or begun while another one is under way.

use frikort_tests::{
    audit::assert_projection_is_the_fold,
    chance::Chance,
    files::{assert_expected_totals_and_splits, import, load_limits},
    process::{signal, stop_in_transaction},
    stack::Stack,
};
use sqlx::PgPool;

use crate::ground::{
    built, end, fill, generations, generations_with_rows, rebuild, serving, start, wait_until,
};

/// A quarter of the sample's events.
const QUARTER: u64 = 5_500;

/// Waits until the generation that is being built stands beyond a position.
async fn wait_for(pool: &PgPool, position: i64) {
    wait_until("it is built", async || built(pool).await.is_some_and(|at| at > position)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_it_serves_nothing_half_built_and_goes_on_when_run_again() {
    let stack = Stack::start(1).await.unwrap();
    let (dir, pool) = (stack.dir.path(), stack.database.pool().await.unwrap());
    load_limits(&stack.ledger, &stack.projector).unwrap();
    import(&stack.ledger, &stack.projector, dir).unwrap();
    let mut chance = Chance::printed();
    let mut reached = 0;
    for round in 0..3 {
        let mut running = start(&stack.database, &[]);
        let until = round * QUARTER + chance.below(QUARTER);
        wait_for(&pool, i64::try_from(until).unwrap()).await;
        running.kill().unwrap();
        running.wait().unwrap();
        reached = built(&pool).await.unwrap_or_else(|| panic!("it was quicker, in round {round}"));
        assert_eq!(serving(&pool).await, 1);
    }
    assert_expected_totals_and_splits(&stack.ledger, &stack.projector, dir).unwrap();
    // Asked to stop, it says how to go on.
    let running = start(&stack.database, &["--fresh"]);
    wait_until("another one is begun", async || built(&pool).await.is_some_and(|at| at < reached))
        .await;
    signal(running.id(), "TERM").unwrap();
    let (code, _, log) = end(running).await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("run it again"), "{log}");
    assert_eq!(serving(&pool).await, 1);
    reached = built(&pool).await.unwrap();

    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!((code, &told["verdict"], &told["generation"]), (0, &"switched".into(), &3.into()));
    assert!(log.contains("going on with it"), "{log}");
    let head: i64 = sqlx::query_scalar("SELECT position FROM ledger.partition_head")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(told["events"], head - reached, "it went on where it was");
    assert_projection_is_the_fold(&pool).await;
    // The one that --fresh left is dropped with the one that was replaced; a drop that is cut off
    // is finished by the next.
    assert_eq!(generations(&stack.database, &["--drop-old"]).await, [(3, "serving".into(), 1)]);
    assert_eq!(generations_with_rows(&pool).await, [3]);
    assert_expected_totals_and_splits(&stack.ledger, &stack.projector, dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_rebuild_is_refused_while_the_first_lives_and_changes_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    fill(&stack, 3, 1).await;
    // A first one that says for as long as it takes that it lives.
    let begin = "INSERT INTO projection.checkpoint
                     (partition, generation, version, state, builder)
                 VALUES (0, 2, 1, 'building', gen_random_uuid()) RETURNING builder";
    let builder: uuid::Uuid = sqlx::query_scalar(begin).fetch_one(&pool).await.unwrap();
    let mut second = tokio::spawn({
        let child = start(&stack.database, &["--fresh"]);
        end(child)
    });
    let (code, _, log) = loop {
        let beat = "UPDATE projection.checkpoint SET beat = beat + 1 WHERE builder = $1";
        let beaten = sqlx::query(beat).bind(builder).execute(&pool).await.unwrap();
        assert_eq!(beaten.rows_affected(), 1, "it was taken over");
        let pause = tokio::time::sleep(std::time::Duration::from_millis(100));
        tokio::select! {
            ended = &mut second => break ended.unwrap(),
            () = pause => {}
        }
    };
    assert_eq!(code, 1);
    assert!(log.contains("another rebuild is under way: generation 2"), "{log}");
    // It falls silent: the next one takes it over.
    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!((code, &told["generation"]), (0, &2.into()), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_taken_for_dead_finds_that_it_was_replaced_and_has_done_no_harm() {
    let stack = Stack::start(1).await.unwrap();
    let (dir, pool) = (stack.dir.path(), stack.database.pool().await.unwrap());
    load_limits(&stack.ledger, &stack.projector).unwrap();
    import(&stack.ledger, &stack.projector, dir).unwrap();
    let first = start(&stack.database, &[]);
    wait_for(&pool, 0).await;
    // Where it does most harm: with the generation's row locked.
    stop_in_transaction(first.id(), &pool, "frikort-projector-rebuild").await.unwrap();
    let (code, told, log) = rebuild(&stack.database, &[]).await;
    assert_eq!((code, &told["verdict"]), (0, &"switched".into()), "{log}");
    signal(first.id(), "CONT").unwrap();
    let (code, told, log) = end(first).await;
    assert_eq!((code, told.is_null()), (1, true), "{told}");
    assert!(log.contains("another rebuild has taken it over"), "{log}");
    assert_eq!(serving(&pool).await, 2);
    assert_projection_is_the_fold(&pool).await;
    assert_expected_totals_and_splits(&stack.ledger, &stack.projector, dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_begun_at_once_build_one_generation_at_a_time() {
    let stack = Stack::start(1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    fill(&stack, 20, 2).await;
    let both = [start(&stack.database, &[]), start(&stack.database, &[])];
    let [first, second] = both.map(|child| tokio::spawn(end(child)));
    let ended = [first.await.unwrap(), second.await.unwrap()];
    let switched = ended.iter().filter(|(code, told, _)| {
        assert!(*code == 0 || told.is_null(), "{told}");
        *code == 0 && told["verdict"] == "switched"
    });
    let switched = i32::try_from(switched.count()).unwrap();
    assert!(switched >= 1, "{ended:?}");
    assert_eq!(serving(&pool).await, 1 + switched);
    assert_eq!(built(&pool).await, None);
    assert_projection_is_the_fold(&pool).await;
}
