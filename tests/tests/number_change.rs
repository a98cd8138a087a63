//! `ChangeCprNumber` and the register: the event and the number are recorded together or not at all,
//! whoever races and whatever is killed (N5, C14).
//!
//! Not here: what one municipality sees of another's persons (`access/scopes.rs`).

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    fs,
    time::{Duration, Instant},
};

use frikort_proto::{
    error::Failure,
    v1::{
        ChangeCprNumberRequest, ChangeCprNumberResponse, ErrorReason, GetCardRequest,
        GrantCardRequest, PersonRef, person_ref::Person,
    },
};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, by_cpr, grant, new_cpr},
    database::Database,
    decisions::renumber,
    process::{Kind, Service},
    stack::Stack,
};
use sqlx::PgPool;

/// How many pairs of municipalities race for a number.
const ROUNDS: usize = 60;

fn by_id(id: &str) -> Option<PersonRef> {
    let person = Some(Person::PersonId(id.to_owned()));
    Some(PersonRef { person, frikort_id: String::new() })
}

/// Every person has one number more in the register than changes on record: the first one.
async fn assert_numbers_are_the_changes(pool: &PgPool) {
    let differing: Vec<(uuid::Uuid, i64, i64)> = sqlx::query_as(
        "SELECT * FROM (
             SELECT person_id, count(*) - 1 AS numbers,
                    (SELECT count(*) FROM ledger.event AS e WHERE e.person_id = p.person_id
                     AND e.record::json ->> 'type' = 'cpr_number_changed') AS changes
             FROM register.person AS p GROUP BY person_id) AS each
         WHERE numbers <> changes",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(differing, [], "numbers in the register and changes on record differ");
}

/// `Ok` with whether it was a repeat, or the field that was refused.
fn outcome(
    answer: Result<tonic::Response<ChangeCprNumberResponse>, tonic::Status>,
) -> Result<bool, String> {
    match answer {
        Ok(answer) => Ok(answer.into_inner().replayed),
        Err(status) => {
            let failure = Failure::from_status(&status).unwrap();
            assert_eq!(failure.reason, ErrorReason::InvalidField, "{failure:?}");
            Err(failure.fields[0].0.clone())
        }
    }
}

async fn change(
    ledger: &Ledger,
    request: &ChangeCprNumberRequest,
) -> Result<tonic::Response<ChangeCprNumberResponse>, tonic::Status> {
    ledger.visitations.clone().change_cpr_number(request.clone()).await
}

async fn race(partitions: i32, keys: Option<String>) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(keys) = keys {
        fs::write(dir.path().join("register.keys"), keys).unwrap();
    }
    let database = Database::create(partitions).await.unwrap();
    let pool = database.pool().await.unwrap();
    let one = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let two = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledgers =
        [Ledger::new(one.channel().await.unwrap()), Ledger::new(two.channel().await.unwrap())];
    ledgers[0].set_limit(2022, 20_000).await.unwrap();
    for round in 0..ROUNDS {
        let (first, second, number) = (new_cpr(), new_cpr(), new_cpr());
        ledgers[0].grant(&first).await.unwrap();
        let here = GrantCardRequest { municipality_code: "147".to_owned(), ..grant(&second) };
        ledgers[1].visitations.grant_card(here).await.unwrap();
        let requests = [
            renumber(&first, "C-1", &number),
            ChangeCprNumberRequest {
                municipality_code: "147".to_owned(),
                ..renumber(&second, "C-1", &number)
            },
        ];
        // In every other round through the same ledger, where both may be in one batch.
        let other = if round % 2 == 0 { &ledgers[1] } else { &ledgers[0] };
        let both = tokio::join!(change(&ledgers[0], &requests[0]), change(other, &requests[1]));
        let outcomes = [outcome(both.0), outcome(both.1)];
        let refused = Err("new_cpr_number".to_owned());
        assert!(outcomes.contains(&Ok(false)), "round {round}: {outcomes:?}");
        assert!(outcomes.contains(&refused), "round {round}: {outcomes:?}");
        // Repeated, each is answered as before.
        for (request, before) in requests.iter().zip(outcomes) {
            for ledger in &ledgers {
                let again = outcome(change(ledger, request).await);
                assert_eq!(again, before.clone().map(|_| true), "round {round}");
            }
        }
    }
    assert_numbers_are_the_changes(&pool).await;
    // One limit for each partition; in each round two grants and one change.
    let events = assert_sound(&pool).await;
    assert_eq!(events, i64::from(partitions) + 3 * i64::try_from(ROUNDS).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_two_municipalities_race_for_is_recorded_once_in_one_partition() {
    race(1, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_two_municipalities_race_for_is_recorded_once_in_four_partitions() {
    race(4, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_two_municipalities_race_for_is_recorded_once_while_keys_are_rotated() {
    let keys = [("find", "a1"), ("find", "b2"), ("seal", "c3"), ("seal", "d4"), ("tag", "a1")];
    let lines = keys.map(|(kind, byte)| format!("{kind}={}\n", byte.repeat(32)));
    race(2, Some(lines.concat())).await;
}

/// A number that is granted a card while another person is changed to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_and_a_change_that_race_for_a_number_do_not_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(2).await.unwrap();
    let pool = database.pool().await.unwrap();
    let one = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let two = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut one = Ledger::new(one.channel().await.unwrap());
    let two = Ledger::new(two.channel().await.unwrap());
    one.set_limit(2022, 20_000).await.unwrap();
    for round in 0..ROUNDS {
        let (first, number) = (new_cpr(), new_cpr());
        one.grant(&first).await.unwrap();
        let request = renumber(&first, "C-1", &number);
        // The same decision as the one that the person has: it is a grant of its own, or a repeat.
        let mut granting = two.visitations.clone();
        let (changed, granted) =
            tokio::join!(change(&one, &request), granting.grant_card(grant(&number)));
        let granted = granted.unwrap().into_inner();
        assert_eq!(outcome(changed).is_ok(), granted.replayed, "round {round}");
    }
    assert_numbers_are_the_changes(&pool).await;
    assert_sound(&pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_a_change_is_repeated_by_either_number_or_the_id() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let (old, new) = (new_cpr(), new_cpr());
    let id = ledger.grant(&old).await.unwrap();
    let names = [by_cpr(&old), by_cpr(&new), by_id(&id)];
    let request = |person: &Option<PersonRef>, reference: &str, new: &str, validate_only| {
        let person = person.clone();
        ChangeCprNumberRequest { person, validate_only, ..renumber(&old, reference, new) }
    };
    // The number that the person has, before there is another.
    let before = stack.recorded().await.unwrap();
    for name in [&names[0], &names[2]] {
        for dry in [true, false] {
            let own = change(&ledger, &request(name, "C-0", &old, dry)).await;
            assert_eq!(outcome(own), Err("new_cpr_number".to_owned()), "{name:?}");
        }
    }
    assert_eq!(stack.recorded().await.unwrap(), before);

    let first = request(&names[0], "C-1", &new, false);
    let first = change(&ledger, &first).await.unwrap().into_inner();
    assert!(!first.replayed);
    let after = stack.recorded().await.unwrap();
    for name in &names {
        for dry in [true, false] {
            let again = change(&ledger, &request(name, "C-1", &new, dry)).await.unwrap();
            let mut again = again.into_inner();
            assert!(std::mem::replace(&mut again.replayed, false), "{name:?}");
            assert_eq!(again, first, "{name:?}");
            for number in [&old, &new] {
                let own = change(&ledger, &request(name, "C-2", number, dry)).await;
                assert_eq!(outcome(own), Err("new_cpr_number".to_owned()), "{name:?}");
            }
        }
    }
    assert_eq!(stack.recorded().await.unwrap(), after);
    // Two calls that change to the same number under two references: one of them has come first.
    let third = new_cpr();
    let requests =
        [request(&names[0], "C-3", &third, false), request(&names[2], "C-4", &third, false)];
    let both = tokio::join!(change(&ledger, &requests[0]), change(&ledger, &requests[1]));
    let outcomes = [outcome(both.0), outcome(both.1)];
    assert!(outcomes.contains(&Ok(false)), "{outcomes:?}");
    assert!(outcomes.contains(&Err("new_cpr_number".to_owned())), "{outcomes:?}");
    assert_numbers_are_the_changes(&stack.database.pool().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_a_change_that_is_sent_twice_at_once_is_recorded_once_and_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let one = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let two = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut one = Ledger::new(one.channel().await.unwrap());
    let two = Ledger::new(two.channel().await.unwrap());
    for round in 0..ROUNDS {
        let old = new_cpr();
        let id = one.grant(&old).await.unwrap();
        let by_number = renumber(&old, "C-1", &new_cpr());
        let by_id = ChangeCprNumberRequest { person: by_id(&id), ..by_number.clone() };
        let other = if round % 2 == 0 { &two } else { &one };
        let both = tokio::join!(change(&one, &by_number), change(other, &by_id));
        let mut outcomes = [outcome(both.0), outcome(both.1)];
        outcomes.sort();
        assert_eq!(outcomes, [Ok(false), Ok(true)], "round {round}");
    }
    assert_numbers_are_the_changes(&database.pool().await.unwrap()).await;
}

/// Waits until a session of the ledger waits for a lock on this table.
async fn until_one_waits(pool: &PgPool, table: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    // Also a lock on a row: whoever waits for one has the table.
    let waiting = "SELECT count(*) FROM pg_stat_activity AS a JOIN pg_locks AS l USING (pid)
                   WHERE a.datname = current_database() AND a.usename = 'frikort_ledger'
                     AND a.wait_event_type = 'Lock' AND l.relation = $1::regclass";
    loop {
        let count = sqlx::query_scalar::<_, i64>(waiting).bind(table).fetch_one(pool);
        if count.await.unwrap() > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "nobody waits for {table}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the ledger that was killed has no session any more.
async fn until_it_is_gone(pool: &PgPool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let sessions = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND usename = 'frikort_ledger'";
    while sqlx::query_scalar::<_, i64>(sessions).fetch_one(pool).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "sessions of the ledger are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Killed while it waits for `lock`, on the way between the event and the number.
async fn killed_between(lock: &str, table: &str) {
    let mut stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    for by_the_other in [false, true] {
        let (first, second, number) = (new_cpr(), new_cpr(), new_cpr());
        let id = ledger.grant(&first).await.unwrap();
        ledger.grant(&second).await.unwrap();
        let mut holding = pool.begin().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *holding).await.unwrap();
        let request = renumber(&first, "C-1", &number);
        let called = {
            let (ledger, request) = (ledger.clone(), request.clone());
            tokio::spawn(async move { change(&ledger, &request).await })
        };
        until_one_waits(&pool, table).await;
        stack.ledger.kill().unwrap();
        called.await.unwrap().unwrap_err();
        holding.commit().await.unwrap();
        until_it_is_gone(&pool).await;
        assert_numbers_are_the_changes(&pool).await;

        stack.ledger.kill_and_restart().unwrap();
        stack.ledger.wait_until_ready().await.unwrap();
        ledger = stack.ledger().await.unwrap();
        if by_the_other {
            // Somebody else has the number meanwhile, if nothing was recorded.
            let other = outcome(change(&ledger, &renumber(&second, "C-1", &number)).await);
            let late = outcome(change(&ledger, &request).await);
            assert_ne!(other.is_ok(), late.is_ok(), "{other:?} {late:?}");
        } else {
            let recorded = outcome(change(&ledger, &request).await).unwrap();
            let mut answers = Vec::new();
            for person in [by_cpr(&first), by_cpr(&number), by_id(&id)] {
                let request = ChangeCprNumberRequest { person, ..request.clone() };
                let answer = change(&ledger, &request).await.unwrap().into_inner();
                assert!(answer.replayed, "the first answer was {recorded}");
                answers.push(answer);
            }
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            let asked = GetCardRequest { person: by_cpr(&number) };
            let card = ledger.visitations.get_card(asked).await.unwrap().into_inner();
            assert_eq!(card.card.unwrap().person_id, id);
        }
        assert_numbers_are_the_changes(&pool).await;
    }
    assert_sound(&pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_killed_before_the_number_is_entered_leaves_both_or_neither() {
    // Reading goes on; nobody enters.
    killed_between("LOCK TABLE register.person IN SHARE ROW EXCLUSIVE MODE", "register.person")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_killed_before_the_event_is_appended_leaves_both_or_neither() {
    killed_between("SELECT FROM ledger.partition_head FOR UPDATE", "ledger.partition_head").await;
}
