//! A limit that changes while payments go on: everybody's splits follow it, person by person,
//! through kill -9 of either process, and nobody's twice.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use frikort_proto::v1::{
    AnnualLimit, AsOf, DeactivateCardRequest, GetStatementRequest, SetAnnualLimitRequest,
    as_of::KnownAt,
};
use frikort_tests::{
    audit::{assert_projection_is_the_fold, assert_sound, is_at_rest, unsettled},
    client::{Ledger, by_cpr, correct, cpr, date, report},
    decisions::deactivate,
    process::{Kind, Service},
    stack::Stack,
};
use futures::{StreamExt, future::ready, stream};
use sqlx::PgPool;
use tokio::time::{interval, sleep};

/// Persons with a card and a payment.
const PERSONS: u32 = 10_000;

/// Of these, how many have 21.000 kr. in 2022, of which 20.000 kr. are exempt.
const ABOVE: u32 = 1_000;

/// Of these, how many get further payments, which settle who is paid before being reached. The
/// others are left to the recalculation, however slow it is beside the payments.
const PAID_ON: u32 = 250;

/// Time between two payments: what a projector that is not optimized follows, so that the
/// recalculation is waited for, and not a backlog.
const PACE: Duration = Duration::from_millis(2);

/// How many calls are under way at a time: no more than the ledger has connections, which each
/// person's entry into the register takes.
const AT_A_TIME: usize = 16;

async fn fill(ledger: &Ledger) {
    stream::iter(0..PERSONS)
        .for_each_concurrent(AT_A_TIME, |person| async move {
            let (mut ledger, number) = (ledger.clone(), cpr(person));
            ledger.grant(&number).await.unwrap();
            let oere = if person < ABOVE { 2_100_000 } else { 10_000 };
            ledger.payments.report_payment(report(&number, "first", oere)).await.unwrap();
        })
        .await;
}

/// Reports payments to persons in turn until told to stop; each is repeated until it is in.
async fn pay(ledger: Ledger, stop: Arc<AtomicBool>, paid: Arc<AtomicUsize>) {
    // In steps, so that those above the limit come up among the others.
    let turns = (0..).map(|number: u32| (number, number * 37 % PERSONS));
    let turns = turns.filter(|(_, person)| !(PAID_ON..ABOVE).contains(person));
    let paced = stream::unfold((turns, interval(PACE)), async |(mut turns, mut pace)| {
        pace.tick().await;
        Some((turns.next()?, (turns, pace)))
    });
    paced
        .take_while(|_| ready(!stop.load(Ordering::Relaxed)))
        .for_each_concurrent(8, |(number, person)| {
            let (mut payments, paid) = (ledger.payments.clone(), paid.clone());
            async move {
                let request = report(&cpr(person), &format!("p{number}"), 5_000);
                let deadline = Instant::now() + Duration::from_secs(60);
                while let Err(status) = payments.report_payment(request.clone()).await {
                    assert!(Instant::now() < deadline, "{status:?}");
                    sleep(Duration::from_millis(20)).await;
                }
                paid.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await;
}

/// What takes longer does not go on at all, also where much else is at work.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many persons were reached. Looked at often, so only among the last events.
async fn recalculated(pool: &PgPool) -> i64 {
    let count = "SELECT count(*) FROM ledger.event AS e
                 WHERE position > (SELECT max(position) FROM projection.annual_limit)
                   AND record LIKE '%\"type\":\"allowance_recalculated\"%'";
    sqlx::query_scalar(count).fetch_one(pool).await.unwrap()
}

#[expect(clippy::print_stdout, reason = "shows whether the kill came in the middle")]
async fn say_reached(pool: &PgPool) {
    println!("killed when {} persons were reached", recalculated(pool).await);
}

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not in time");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn set_limit(ledger: &mut Ledger, kroner: i64) {
    // The same year and in-force day: it replaces the limit.
    ledger.set_limit(2022, kroner).await.unwrap();
}

/// How often each person was reached, by the number of persons.
async fn times(pool: &PgPool) -> Vec<i64> {
    let times = "SELECT count(*) FROM ledger.event
                 WHERE record LIKE '%\"type\":\"allowance_recalculated\"%'
                 GROUP BY partition, person_id";
    sqlx::query_scalar(times).fetch_all(pool).await.unwrap()
}

async fn last_limit(pool: &PgPool) -> i64 {
    let position = "SELECT max(position) FROM projection.annual_limit";
    sqlx::query_scalar(position).fetch_one(pool).await.unwrap()
}

/// As of any position after the limit was raised, whether it had reached the person by then or
/// not: nothing is taxable, and the payments' parts say the same as the sum (A2).
async fn assert_used_as_of(stack: &Stack, position: i64, person: u32) {
    let known_at = Some(KnownAt::KnownPosition(position));
    let request = GetStatementRequest {
        person: by_cpr(&cpr(person)),
        as_of: Some(AsOf { known_at, paid_through: None }),
        ..GetStatementRequest::default()
    };
    let mut allowances = stack.allowances().await.unwrap();
    let told = allowances.get_statement(request).await.unwrap().into_inner();
    let year = &told.allowances[0];
    assert_eq!((year.limit_oere, year.taxable_oere), (4_000_000, 0), "{position}");
    assert!(year.total_oere >= 2_100_000);
    let exempt: i64 = told.payments.iter().map(|payment| payment.exempt_oere).sum();
    assert_eq!(exempt, year.used_oere, "{position}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_a_limit_raised_under_load_reaches_everybody_once_through_kills_of_both() {
    let mut stack = Stack::start(1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    set_limit(&mut ledger, 20_000).await;
    fill(&ledger).await;
    let (stop, paid) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn(pay(ledger.clone(), stop.clone(), paid.clone()));

    set_limit(&mut ledger, 40_000).await;
    for (reached, kill_ledger) in [(50, true), (250, false), (400, true)] {
        wait_until("it goes on", async || recalculated(&pool).await >= reached).await;
        say_reached(&pool).await;
        let service = if kill_ledger { &mut stack.ledger } else { &mut stack.projector };
        service.kill_and_restart().unwrap();
        service.wait_until_ready().await.unwrap();
    }
    wait_until("everybody is reached", async || unsettled(&pool).await == 0).await;
    let so_far = paid.load(Ordering::Relaxed);
    wait_until("payments go on", async || paid.load(Ordering::Relaxed) > so_far + 100).await;
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();

    wait_until("all is projected", async || is_at_rest(&pool).await).await;
    // At every position what is used is the limit or the sum: the history is decided anew.
    let events = assert_sound(&pool).await;
    assert_projection_is_the_fold(&pool).await;
    // Whoever was paid first was settled by that; nobody is reached twice.
    let times = times(&pool).await;
    assert!(times.iter().all(|times| *times == 1));
    let reached = u32::try_from(times.len()).unwrap();
    assert!((ABOVE - PAID_ON..=ABOVE).contains(&reached), "{reached}");
    let limit_at = last_limit(&pool).await;
    for step in 0..100 {
        let position = limit_at + step * (events - limit_at) / 100;
        assert_used_as_of(&stack, position, u32::try_from(step).unwrap() * 7919 % ABOVE).await;
    }
    let expected = 2 + 2 * PERSONS as usize + paid.load(Ordering::Relaxed) + times.len();
    assert_eq!(usize::try_from(events).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_a_mistake_that_is_corrected_takes_back_from_the_last_registered_first() {
    for partitions in [1, 4] {
        let stack = Stack::start(partitions).await.unwrap();
        let pool = stack.database.pool().await.unwrap();
        let mut ledger = stack.ledger().await.unwrap();
        set_limit(&mut ledger, 20_000).await;
        let persons: Vec<String> = (0..20).map(cpr).collect();
        for person in &persons {
            ledger.grant(person).await.unwrap();
            for (reference, oere) in [("a", 1_000_000), ("b", 900_000)] {
                ledger.payments.report_payment(report(person, reference, oere)).await.unwrap();
            }
        }
        set_limit(&mut ledger, 12_000).await;
        wait_until("everybody is reached", async || times(&pool).await == [1; 20]).await;
        wait_until("it is projected", async || is_at_rest(&pool).await).await;
        let splits: BTreeSet<(String, i64)> =
            sqlx::query_as("SELECT reference, (exempt * 100)::bigint FROM projection.payment")
                .fetch_all(&pool)
                .await
                .unwrap()
                .into_iter()
                .collect();
        let expected = [("a".to_owned(), 1_000_000), ("b".to_owned(), 200_000)];
        assert_eq!(splits, BTreeSet::from(expected));

        // The same limit again is no change; a limit of another year reaches nobody.
        set_limit(&mut ledger, 12_000).await;
        let limit = AnnualLimit {
            year: 2023,
            limit_oere: 100,
            in_force_date: Some(date(2023, 1, 1)),
            citation: "for a test".to_owned(),
        };
        let request = SetAnnualLimitRequest { limit: Some(limit), validate_only: false };
        ledger.policies.set_annual_limit(request).await.unwrap();
        set_limit(&mut ledger, 20_000).await;
        wait_until("everybody is reached again", async || times(&pool).await == [2; 20]).await;
        wait_until("it is projected", async || is_at_rest(&pool).await).await;
    }
}

/// What comes between the two changes of A9's example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    /// Everybody is reached by the first change.
    Pause,
    /// The ledger is killed and started again.
    Kill,
    /// The second change and all questions go to another ledger.
    OtherLedger,
}

/// Exempt øre of `a` and `b`: in a statement, and in the answer to a deactivation that is not recorded.
async fn exempt_parts(stack: &Stack, ledger: &Ledger, person: &str) -> [Vec<i64>; 2] {
    let statement = GetStatementRequest { person: by_cpr(person), ..Default::default() };
    let mut allowances = stack.allowances().await.unwrap();
    let statement = allowances.get_statement(statement).await.unwrap().into_inner();
    let day = Some(date(2022, 2, 1));
    let deactivation = DeactivateCardRequest {
        decision_date: day,
        validate_only: true,
        ..deactivate(person, "S-9")
    };
    let mut visitations = ledger.visitations.clone();
    let answer = visitations.deactivate_card(deactivation).await.unwrap().into_inner();
    [statement.payments, answer.payments_after].map(|mut payments| {
        payments.sort_by(|a, b| a.reference.cmp(&b.reference));
        payments.iter().map(|payment| payment.exempt_oere).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a9_limits_take_effect_one_after_the_other_with_and_without_time_between_them() {
    for between in [Between::Nothing, Between::Pause, Between::Kill, Between::OtherLedger] {
        let mut stack = Stack::start(2).await.unwrap();
        let pool = stack.database.pool().await.unwrap();
        let mut ledger = stack.ledger().await.unwrap();
        set_limit(&mut ledger, 15_000).await;
        let persons: Vec<String> = (0..20).map(cpr).collect();
        for person in &persons {
            ledger.grant(person).await.unwrap();
            for (reference, oere) in [("a", 500_000), ("b", 1_000_000)] {
                ledger.payments.report_payment(report(person, reference, oere)).await.unwrap();
            }
            let facts = report(person, "a", 1_000_000).facts.unwrap();
            ledger.payments.correct_payment(correct(person, "a", 1, facts)).await.unwrap();
        }
        set_limit(&mut ledger, 5_000).await;
        let mut other = None;
        match between {
            Between::Nothing => {}
            Between::Pause => {
                wait_until("all are reached", async || times(&pool).await == [1; 20]).await;
            }
            Between::Kill => {
                stack.ledger.kill_and_restart().unwrap();
                stack.ledger.wait_until_ready().await.unwrap();
                ledger = stack.ledger().await.unwrap();
            }
            Between::OtherLedger => {
                let service = Service::start(Kind::Ledger, &stack.database, stack.dir.path());
                let service = service.await.unwrap();
                ledger = Ledger::new(service.channel().await.unwrap());
                other = Some(service);
            }
        }
        set_limit(&mut ledger, 15_000).await;
        let projected = "SELECT bool_and(c.position >= (
                             SELECT max(e.position) FROM ledger.event AS e
                             WHERE e.partition = c.partition
                               AND e.record LIKE '%\"type\":\"annual_limit_set\"%'))
                         FROM projection.checkpoint AS c WHERE c.state = 'serving'";
        wait_until("the limit is projected", async || {
            sqlx::query_scalar(projected).fetch_one(&pool).await.unwrap()
        })
        .await;
        // Also before the changes have reached anybody.
        let settled = [vec![1_000_000, 500_000], vec![1_000_000, 500_000]];
        for person in persons.iter().step_by(5) {
            assert_eq!(exempt_parts(&stack, &ledger, person).await, settled, "{between:?}");
        }
        // One who is paid is settled by that.
        let paid = report(&persons[0], "c", 100);
        ledger.payments.report_payment(paid).await.unwrap();
        let moved = "SELECT count(*) FROM projection.payment
                     WHERE (reference, exempt) IN (('a', 10000), ('b', 5000), ('c', 0))";
        wait_until("all splits are on record", async || {
            let payments: i64 = sqlx::query_scalar(moved).fetch_one(&pool).await.unwrap();
            payments == 2 * 20 + 1
        })
        .await;
        wait_until("all is projected", async || is_at_rest(&pool).await).await;
        assert_sound(&pool).await;
        assert_projection_is_the_fold(&pool).await;
        assert_eq!(exempt_parts(&stack, &ledger, &persons[1]).await, settled, "{between:?}");
        drop(other);
    }
}
