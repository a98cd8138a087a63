//! What a watcher sees: all changes, in order, and marks; of some persons and a year where it asks
//! so; by the command too; at whichever projector. What bounds it is in `bounds.rs`.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, GetAllowanceRequest, GetStatementRequest, LedgerPosition, PaymentChangeKind,
        PersonRef, WatchAllowancesRequest, person_ref::Person, watch_allowances_response::Item,
    },
};
use frikort_tests::{
    audit::{events, is_at_rest},
    chance::Chance,
    client::{Ledger, by_cpr, cancel, correct, date, new_cpr, paid_on, report},
    database::Database,
    files::frikort,
    process::{Kind, Service, signal},
    stack::Stack,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::{PATIENCE, Seen, may_repeat, place_of, recorded, seen, until_mark, watch};

/// Watches until the marks say that all of `until` was sent, cut off at random, by itself or by
/// whatever happens to the projector, and resumed with nothing but what it was sent.
async fn watch_and_be_cut_off(
    address: SocketAddr,
    mut chance: Chance,
    mut until: tokio::sync::watch::Receiver<Option<BTreeMap<i32, i64>>>,
) -> (Vec<Seen>, u32) {
    let (mut all, mut cuts) = (Vec::new(), 0);
    let mut reached: BTreeMap<i32, LedgerPosition> = BTreeMap::new();
    loop {
        let after = reached.values().copied().collect();
        let request = WatchAllowancesRequest { after, ..WatchAllowancesRequest::default() };
        let mut items = watch(address, &request).await;
        // Some are let go on for long, others are cut at once.
        let mut left = chance.below(400) * chance.below(3);
        loop {
            let positions = reached.iter().map(|(partition, at)| (*partition, at.position));
            let positions: BTreeMap<i32, i64> = positions.collect();
            if until.borrow().as_ref().is_some_and(|until| *until == positions) {
                return (all, cuts);
            }
            let message = tokio::select! {
                message = timeout(PATIENCE, items.message()) => message.expect("a word in time"),
                // What is waited for may have come already, and nothing come after it.
                told = until.changed() => {
                    told.unwrap();
                    continue;
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => panic!("a watch has no end"),
                Err(status) => {
                    assert!(may_repeat(&status), "{status:?}");
                    break;
                }
            };
            let item = message.item.unwrap();
            let at = place_of(&item);
            let before = reached.insert(at.partition, at).map_or(0, |before| before.position);
            match seen(item) {
                Ok(item) => {
                    assert!(item.1 > before, "{item:?} after {before}");
                    all.push(item);
                }
                Err(mark) => assert!(mark.position >= before),
            }
            if left == 0 {
                break;
            }
            left -= 1;
        }
        cuts += 1;
    }
}

/// Reports, corrects, moves between years and cancels, until told to stop; outages are waited out.
async fn keep_busy(address: SocketAddr, cprs: Vec<String>, stop: Arc<AtomicBool>) {
    let uri = format!("http://{address}");
    let channel = Channel::from_shared(uri).unwrap().connect_lazy();
    let mut ledger = Ledger::new(channel);
    for number in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let cpr = &cprs[number as usize % cprs.len()];
        let reference = format!("p-{number}");
        let deadline = Instant::now() + PATIENCE;
        macro_rules! insist {
            ($call:expr) => {
                while let Err(status) = $call.await {
                    assert!(may_repeat(&status) && Instant::now() < deadline, "{status:?}");
                    sleep(Duration::from_millis(10)).await;
                }
            };
        }
        insist!(ledger.payments.report_payment(report(cpr, &reference, 40_000)));
        if number % 3 == 0 {
            let facts = paid_on(date(2022 + i32::from(number % 2 == 0), 5, 1), 30_000);
            let request = correct(cpr, &reference, 1, facts);
            insist!(ledger.payments.correct_payment(request.clone()));
        }
        if number % 9 == 0 {
            insist!(ledger.payments.cancel_payment(cancel(cpr, &reference, 2)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_cut_off_and_resumes_sees_every_change_once_and_in_order() {
    let mut stack = Stack::start(2).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    for year in [2022, 2023] {
        ledger.set_limit(year, 20_000).await.unwrap();
    }
    let mut groups = vec![Vec::new(); 4];
    for number in 0..24 {
        let cpr = new_cpr();
        ledger.grant(&cpr).await.unwrap();
        groups[number % 4].push(cpr);
    }
    let (told, until) = tokio::sync::watch::channel(None);
    let address = stack.projector.address();
    let mut chance = Chance::printed();
    let watchers: Vec<_> = (0..3)
        .map(|_| chance.fork())
        .map(|chance| tokio::spawn(watch_and_be_cut_off(address, chance, until.clone())))
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let at = stack.ledger.address();
    let busy: Vec<_> =
        groups.into_iter().map(|cprs| tokio::spawn(keep_busy(at, cprs, stop.clone()))).collect();

    let pool = stack.database.pool().await.unwrap();
    for round in 0..6_i64 {
        let enough = events(&pool).await + 150 + i64::try_from(chance.below(150)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while events(&pool).await < enough {
            assert!(Instant::now() < deadline && busy.iter().all(|task| !task.is_finished()));
            sleep(Duration::from_millis(5)).await;
        }
        match round {
            0 | 2 => stack.projector.kill_and_restart().unwrap(),
            1 => stack.ledger.kill_and_restart().unwrap(),
            // A limit that changes everybody's allowance, and the splits of those who have more.
            3 => Ledger::new(stack.ledger.channel().await.unwrap())
                .set_limit(2022, 20)
                .await
                .unwrap(),
            4 => {
                signal(stack.projector.id(), "TERM").unwrap();
                assert!(stack.projector.wait().await.unwrap().success());
                stack.projector.kill_and_restart().unwrap();
            }
            _ => {}
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in busy {
        task.await.unwrap();
    }
    let heads: Vec<(i32, i64)> =
        sqlx::query_as("SELECT partition, position FROM ledger.partition_head")
            .fetch_all(&pool)
            .await
            .unwrap();
    told.send_replace(Some(heads.into_iter().collect()));
    let expected = recorded(&pool).await;
    assert!(expected.len() > 800 && expected.iter().any(|(_, _, said)| said.contains("; ")));
    for watcher in watchers {
        let (mut all, cuts) = timeout(PATIENCE, watcher).await.unwrap().unwrap();
        assert!(cuts >= 3, "it was hardly cut off");
        // Stable: within a partition as they came.
        all.sort_by_key(|(partition, ..)| *partition);
        assert_eq!(all, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_what_a_limit_did_by_itself_is_watched_and_stands_in_histories() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let mut client = stack.allowances().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    let person_id = ledger.grant(&cpr).await.unwrap();
    for reference in ["a", "b"] {
        ledger.payments.report_payment(report(&cpr, reference, 100)).await.unwrap();
    }
    ledger.set_limit(2022, 1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !is_at_rest(&pool).await {
        assert!(Instant::now() < deadline, "the limit reaches nobody");
        sleep(Duration::from_millis(5)).await;
    }
    // The limit, the grant, two payments, the limit, and what it did.
    let watching = client.watch_allowances(WatchAllowancesRequest::default()).await.unwrap();
    let (all, mark) = until_mark(&mut watching.into_inner()).await;
    assert_eq!(mark.position, 6);
    assert_eq!(all, recorded(&pool).await);
    assert_eq!(all.last(), Some(&(0, 6, format!("{person_id} 2022 100 200 2"))));

    let asked = GetStatementRequest {
        person: by_cpr(&cpr),
        with_history: true,
        ..GetStatementRequest::default()
    };
    let told = client.get_statement(asked).await.unwrap().into_inner();
    let histories: Vec<Vec<_>> = told
        .payments
        .iter()
        .map(|payment| {
            let links = payment.history.iter();
            links.map(|link| (link.kind(), link.position, link.taxable_oere)).collect()
        })
        .collect();
    let (reported, moved) = (PaymentChangeKind::Reported, PaymentChangeKind::SplitChanged);
    assert_eq!(histories, [vec![(reported, 3, 0)], vec![(reported, 4, 0), (moved, 6, 100)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_after_a_change_sees_it_and_marks_say_when_all_was_sent() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let mut client = stack.allowances().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    let person_id = ledger.grant(&cpr).await.unwrap();
    let everything = WatchAllowancesRequest::default();
    let mut items = client.watch_allowances(everything).await.unwrap().into_inner();
    let (all, mark) = until_mark(&mut items).await;
    assert_eq!((all.len(), mark.position), (1, 2), "the limit; the grant changes no allowance");
    for number in 1..=60_i64 {
        let request = report(&cpr, &format!("p-{number}"), 100);
        ledger.payments.report_payment(request).await.unwrap();
        let mut change = None;
        while change.is_none() {
            let message = timeout(PATIENCE, items.message()).await.unwrap().unwrap().unwrap();
            change = match message.item.unwrap() {
                Item::Change(change) => Some(change),
                Item::CaughtUp(_) => None,
                Item::Limit(limit) => panic!("{limit:?}"),
            };
        }
        let change = change.unwrap();
        let at = change.position.unwrap();
        assert_eq!(at.position, number + 2);
        let question =
            GetAllowanceRequest { person: by_cpr(&cpr), year: 2022, ..Default::default() };
        let told = client.get_allowance(question).await.unwrap().into_inner();
        assert_eq!(told.position, Some(at));
        assert_eq!(told.allowance.as_ref(), change.allowances.first());
        assert_eq!(change.allowances[0].person_id, person_id);
    }
    assert_eq!(until_mark(&mut items).await.1.position, 62);

    // An event that is not projected yet is waited for: nothing until then, not even a mark.
    let report_61 = ledger.payments.report_payment(report(&cpr, "p-61", 100)).await.unwrap();
    let at_63 = report_61.into_inner().position.unwrap();
    let from_63 = WatchAllowancesRequest { after: vec![at_63], ..Default::default() };
    let mut later = client.watch_allowances(from_63).await.unwrap().into_inner();
    ledger.payments.report_payment(report(&cpr, "p-62", 100)).await.unwrap();
    // The mark at 63 may come between, if the projection stops there.
    let mut first = until_mark(&mut later).await;
    if first.1.position == 63 {
        assert_eq!(first.0, []);
        first = until_mark(&mut later).await;
    }
    assert_eq!(first.0.iter().map(|item| item.1).collect::<Vec<_>>(), [64]);
    assert_eq!(first.1.position, 64);

    // One that is not in the history is refused: not there at all, or another event.
    let other = LedgerPosition { position: 64, ..at_63 };
    for lost in [other, LedgerPosition { position: 65, ..at_63 }] {
        let request = WatchAllowancesRequest { after: vec![lost], ..Default::default() };
        let status = client.watch_allowances(request).await.err().unwrap();
        let failure = Failure::from_status(&status).unwrap();
        assert_eq!(failure.reason, ErrorReason::ResumePositionLost);
        assert_eq!(failure.metadata["position"], lost.position.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_lets_through_some_persons_and_a_year_and_says_nothing_of_nobody() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let mut client = stack.allowances().await.unwrap();
    for year in [2022, 2023] {
        ledger.set_limit(year, 20_000).await.unwrap();
    }
    let cprs: Vec<String> = (0..3).map(|_| new_cpr()).collect();
    let mut ids = Vec::new();
    for cpr in &cprs {
        ids.push(ledger.grant(cpr).await.unwrap());
        ledger.payments.report_payment(report(cpr, "one", 100)).await.unwrap();
    }
    // The last one's payment moves to 2023: one event, two years.
    let facts = paid_on(date(2023, 5, 1), 300);
    let told = ledger.payments.correct_payment(correct(&cprs[2], "one", 1, facts)).await.unwrap();
    let moved = told.into_inner().position.unwrap().position;
    let question = GetAllowanceRequest {
        person: by_cpr(&cprs[0]),
        year: 2022,
        min_position: moved,
        as_of: None,
    };
    client.get_allowance(question).await.unwrap();

    let mut ask = async |persons: Vec<PersonRef>, year| {
        let request = WatchAllowancesRequest { persons, year, after: Vec::new() };
        let mut items = client.watch_allowances(request).await.unwrap().into_inner();
        let (all, mark) = until_mark(&mut items).await;
        assert_eq!(mark.position, moved);
        all.into_iter().map(|(_, position, said)| (position, said)).collect::<Vec<_>>()
    };
    let change = |position: i64, person: usize, year: i32, total: i64, count: i32| {
        (position, format!("{} {year} 2000000 {total} {count}", ids[person]))
    };
    let limit = |position: i64, year: i32| (position, format!("{year} 2000000"));
    let of = |index: usize| by_cpr(&cprs[index]).unwrap();
    let with_id = |index: usize, frikort_id: &str| PersonRef {
        frikort_id: frikort_id.to_owned(),
        ..of(index)
    };
    let both = (9, format!("{0} 2023 2000000 300 1; {0} 2022 2000000 0 0", ids[2]));
    let (one, two, three) =
        (change(4, 0, 2022, 100, 1), change(6, 1, 2022, 100, 1), change(8, 2, 2022, 100, 1));

    let all =
        [limit(1, 2022), limit(2, 2023), one.clone(), two.clone(), three.clone(), both.clone()];
    assert_eq!(ask(Vec::new(), 0).await, all);
    let all = [limit(2, 2023), change(9, 2, 2023, 300, 1)];
    assert_eq!(ask(Vec::new(), 2023).await, all);
    let all = [limit(1, 2022), one.clone(), two, three, change(9, 2, 2022, 0, 0)];
    assert_eq!(ask(Vec::new(), 2022).await, all);
    let all = [limit(1, 2022), limit(2, 2023), one.clone(), change(8, 2, 2022, 100, 1), both];
    let by_id = PersonRef { person: Some(Person::PersonId(ids[2].clone())), ..of(2) };
    assert_eq!(ask(vec![with_id(0, "12345"), by_id], 0).await, all);
    // Nobody: one who is unknown, one under another Frikort-ID, an id that is nobody's.
    let none = [limit(1, 2022), limit(2, 2023)];
    let id = "6f9619ff-8b86-4011-b42d-00c04fc964ff".to_owned();
    let unknown = PersonRef { person: Some(Person::PersonId(id)), ..of(0) };
    for nobody in [by_cpr(&new_cpr()).unwrap(), with_id(0, "54321"), unknown] {
        assert_eq!(ask(vec![nobody], 0).await, none);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_goes_on_where_it_was_cut_off() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    let person_id = ledger.grant(&cpr).await.unwrap();
    for number in 1..=3 {
        let request = report(&cpr, &format!("p-{number}"), 100_050);
        ledger.payments.report_payment(request).await.unwrap();
    }
    let lines = |args: &[&str], count: usize| {
        let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
        let mut running = command.arg("watch").args(args).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(running.stdout.take().unwrap());
        let lines: Vec<String> = out.lines().take(count).map(Result::unwrap).collect();
        running.kill().unwrap();
        running.wait().unwrap();
        lines
    };
    let first = lines(&[], 4);
    assert_eq!(first[0].split(',').next(), Some("position"));
    let fields: Vec<&str> = first[1].split(',').collect();
    let limit = ["limit", "", "2022", "20000.00", "", "", "", "", ""];
    assert_eq!((fields[0], &fields[2..]), ("0:1", limit.as_slice()));
    let fields: Vec<&str> = first[3].split(',').collect();
    let sums = ["2022", "20000.00", "2001.00", "2001.00", "17999.00", "0.00", "2"];
    assert_eq!((fields[0], fields[3], &fields[4..]), ("0:4", person_id.as_str(), sums.as_slice()));
    // What it printed last is where it goes on.
    let second = lines(&["--after", &fields[..2].join(","), "--cpr", &cpr, "--year", "2022"], 2);
    assert!(second[1].starts_with("0:5,"), "{second:?}");
}

/// Two partitions on two projectors: one folds, the other stands by, and both are watched.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_by_is_watched_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(2).await.unwrap();
    let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let one = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let two = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let mut both = [
        watch(one.address(), &WatchAllowancesRequest::default()).await,
        watch(two.address(), &WatchAllowancesRequest::default()).await,
    ];
    for _ in 0..10 {
        let cpr = new_cpr();
        ledger.grant(&cpr).await.unwrap();
        ledger.payments.report_payment(report(&cpr, "one", 100)).await.unwrap();
    }
    let expected = recorded(&database.pool().await.unwrap()).await;
    for items in &mut both {
        let mut all = Vec::new();
        while all.len() < expected.len() {
            let message = timeout(PATIENCE, items.message()).await.unwrap().unwrap().unwrap();
            all.extend(seen(message.item.unwrap()).ok());
        }
        all.sort_by_key(|(partition, ..)| *partition);
        assert_eq!(all, expected);
    }
}
