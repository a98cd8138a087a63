//! WatchAllowances: every change once and in order, however often a watcher is cut off; nothing
//! before a question sees it; nothing that a slow caller could make grow.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::BTreeMap,
    fs,
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
        Allowance, CaughtUp, ErrorReason, GetAllowanceRequest, GetStatementRequest, LedgerPosition,
        PaymentChangeKind, PersonRef, ReportPaymentsRequest, WatchAllowancesRequest,
        person_ref::Person, watch_allowances_response::Item,
    },
};
use frikort_tests::{
    audit::{events, is_at_rest},
    chance::Chance,
    client::{Ledger, allowances, by_cpr, cancel, correct, date, new_cpr, paid_on, report},
    database::Database,
    files::frikort,
    process::{Kind, Service, signal},
    stack::Stack,
};
use futures::{StreamExt, stream};
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Streaming, transport::Channel};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One message, in a form that both the watcher and the table give: partition and position, then
/// person, year, limit, total and number of payments; a limit has year and limit alone.
type Seen = (i32, i64, String);

fn after(partition: i32, position: i64) -> LedgerPosition {
    LedgerPosition { partition, position, recorded_time: None }
}

fn line(a: &Allowance) -> String {
    format!("{} {} {} {} {}", a.person_id, a.year, a.limit_oere, a.total_oere, a.payment_count)
}

/// What a message says; `Err` for a mark.
fn seen(item: Item) -> Result<Seen, CaughtUp> {
    match item {
        Item::Change(change) => {
            let at = change.position.unwrap();
            assert!(at.recorded_time.is_some());
            let lines: Vec<_> = change.allowances.iter().map(line).collect();
            Ok((at.partition, at.position, lines.join("; ")))
        }
        Item::Limit(change) => {
            let (at, limit) = (change.position.unwrap(), change.limit.unwrap());
            assert!(limit.in_force_date.is_some());
            Ok((at.partition, at.position, format!("{} {}", limit.year, limit.limit_oere)))
        }
        Item::CaughtUp(mark) => Err(mark),
    }
}

/// What a watcher must see, taken from the records by SQL.
async fn recorded(pool: &PgPool) -> Vec<Seen> {
    sqlx::query_as(
        "SELECT partition, position, concat_ws('; ', said, said_left) FROM (
             SELECT partition, position,
                 CASE WHEN r ->> 'type' = 'annual_limit_set' THEN
                     concat_ws(' ', r #>> '{data,year}', ((r #>> '{data,limit}')::numeric * 100)::bigint)
                 ELSE concat_ws(' ', person_id, y ->> 'year', ((y ->> 'limit')::numeric * 100)::bigint,
                     ((y ->> 'total')::numeric * 100)::bigint, y ->> 'payments') END AS said,
                 CASE WHEN l IS NOT NULL THEN
                     concat_ws(' ', person_id, l ->> 'year', ((l ->> 'limit')::numeric * 100)::bigint,
                     ((l ->> 'total')::numeric * 100)::bigint, l ->> 'payments') END AS said_left
             FROM (SELECT partition, position, person_id, record::json AS r,
                          record::json #> '{outcome,year}' AS y,
                          record::json #> '{outcome,left_year}' AS l FROM ledger.event) AS e
             WHERE r ->> 'type' LIKE 'payment_%'
                OR r ->> 'type' IN ('annual_limit_set', 'allowance_recalculated')) AS e
         ORDER BY partition, position",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Starts to watch, as soon as the projector is there.
async fn watch(
    address: SocketAddr,
    request: &WatchAllowancesRequest,
) -> Streaming<frikort_proto::v1::WatchAllowancesResponse> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let uri = format!("http://{address}");
        if let Ok(channel) = Channel::from_shared(uri).unwrap().connect().await {
            let started = allowances(channel).watch_allowances(request.clone()).await;
            match started {
                Ok(stream) => return stream.into_inner(),
                Err(status) => assert!(may_repeat(&status), "{status:?}"),
            }
        }
        assert!(Instant::now() < deadline, "the projector does not come back");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A cut connection, or an answer that says so itself.
fn may_repeat(status: &tonic::Status) -> bool {
    Failure::from_status(status).is_none_or(|failure| failure.retry_delay().is_some())
}

/// Watches until the marks say that all of `until` was sent, cut off at random, by itself or by
/// whatever happens to the projector, and resumed with nothing but what it was sent.
async fn watch_and_be_cut_off(
    address: SocketAddr,
    mut chance: Chance,
    until: tokio::sync::watch::Receiver<Option<BTreeMap<i32, i64>>>,
) -> (Vec<Seen>, u32) {
    let (mut all, mut reached, mut cuts) = (Vec::new(), BTreeMap::new(), 0);
    loop {
        let places = reached.iter().map(|(partition, position)| after(*partition, *position));
        let request =
            WatchAllowancesRequest { after: places.collect(), ..WatchAllowancesRequest::default() };
        let mut items = watch(address, &request).await;
        // Some are let go on for long, others are cut at once.
        let mut left = chance.below(400) * chance.below(3);
        loop {
            if until.borrow().as_ref().is_some_and(|until| *until == reached) {
                return (all, cuts);
            }
            let message = match timeout(PATIENCE, items.message()).await.expect("a word in time") {
                Ok(Some(message)) => message,
                Ok(None) => panic!("a watch has no end"),
                Err(status) => {
                    assert!(may_repeat(&status), "{status:?}");
                    break;
                }
            };
            match seen(message.item.unwrap()) {
                Ok(item) => {
                    let before = reached.insert(item.0, item.1).unwrap_or_default();
                    assert!(item.1 > before, "{item:?} after {before}");
                    all.push(item);
                }
                Err(mark) => {
                    let before = reached.insert(mark.partition, mark.position);
                    assert!(mark.position >= before.unwrap_or_default());
                }
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

/// Reads up to the first mark of the partition; all that came before it.
async fn until_mark(
    items: &mut Streaming<frikort_proto::v1::WatchAllowancesResponse>,
) -> (Vec<Seen>, CaughtUp) {
    let mut all = Vec::new();
    loop {
        let message = timeout(PATIENCE, items.message()).await.unwrap().unwrap().unwrap();
        match seen(message.item.unwrap()) {
            Ok(item) => all.push(item),
            Err(mark) => return (all, mark),
        }
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

    // A position that is not there yet is waited for: nothing until then, not even a mark.
    let from_63 = WatchAllowancesRequest { after: vec![after(0, 63)], ..Default::default() };
    let mut later = client.watch_allowances(from_63).await.unwrap().into_inner();
    for number in 61..=62 {
        let request = report(&cpr, &format!("p-{number}"), 100);
        ledger.payments.report_payment(request).await.unwrap();
    }
    // The mark at 63 may come between, if the projection stops there.
    let mut first = until_mark(&mut later).await;
    if first.1.position == 63 {
        assert_eq!(first.0, []);
        first = until_mark(&mut later).await;
    }
    assert_eq!(first.0.iter().map(|item| item.1).collect::<Vec<_>>(), [64]);
    assert_eq!(first.1.position, 64);
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

/// Memory of a process that is its own, in KiB.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Records many payments, fast; the last position.
async fn record_many(ledger: &mut Ledger, cprs: &[String], count: usize) -> i64 {
    let request = |number: usize| {
        let cpr = &cprs[number % cprs.len()];
        let payment = Some(report(cpr, &format!("p-{number}"), 100));
        ReportPaymentsRequest { payment, ..ReportPaymentsRequest::default() }
    };
    let requests: Vec<_> = (0..count).map(request).collect();
    let results = ledger.payments.report_payments(stream::iter(requests)).await.unwrap();
    let mut results = results.into_inner();
    let mut told = 0;
    while let Some(result) = results.next().await {
        assert!(result.is_ok());
        told += 1;
    }
    assert_eq!(told, count);
    1 + i64::try_from(cprs.len() + count).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_read_nothing_cost_a_page_each_and_lose_nothing() {
    const PAYMENTS: usize = 30_000;
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let mut cprs = Vec::new();
    for _ in 0..100 {
        cprs.push(new_cpr());
        ledger.grant(&cprs[cprs.len() - 1]).await.unwrap();
    }
    let last = record_many(&mut ledger, &cprs, PAYMENTS).await;
    let mut client = stack.allowances().await.unwrap();
    let question = GetAllowanceRequest {
        person: by_cpr(&cprs[0]),
        year: 2022,
        min_position: last,
        as_of: None,
    };
    client.get_allowance(question.clone()).await.unwrap();

    // Together they would hold 20 × 30.000 changes, of some hundred bytes each.
    let before = memory(stack.projector.id());
    let mut slow = Vec::new();
    for _ in 0..20 {
        let request = WatchAllowancesRequest::default();
        let mut client = allowances(stack.projector.channel().await.unwrap());
        let mut items = client.watch_allowances(request).await.unwrap().into_inner();
        let first = timeout(PATIENCE, items.message()).await.unwrap().unwrap().unwrap();
        assert!(matches!(first.item, Some(Item::Limit(_))));
        slow.push(items);
    }
    // All take turns at reading: when one that came last has all, each of the others could have.
    let quick = client.watch_allowances(WatchAllowancesRequest::default()).await;
    let (all, mark) = until_mark(&mut quick.unwrap().into_inner()).await;
    assert_eq!((all.len(), mark.position), (1 + PAYMENTS, last));
    let grown = memory(stack.projector.id()).saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB for 20 callers that read nothing");
    // Nor are questions kept waiting.
    let asked = Instant::now();
    client.get_allowance(question).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    let (all, mark) = until_mark(&mut slow[0]).await;
    assert_eq!((all.len(), mark.position), (PAYMENTS, last));
    let positions = all.iter().map(|(_, position, _)| *position);
    assert!(positions.eq(102..=last));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_watchers_and_there_is_a_place_for_so_many_and_no_more() {
    let mut stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let mut client = stack.allowances().await.unwrap();
    let mut watching = Vec::new();
    let refused = loop {
        match client.watch_allowances(WatchAllowancesRequest::default()).await {
            Ok(items) => watching.push(items.into_inner()),
            Err(status) => break status,
        }
        assert!(watching.len() <= 256);
    };
    assert_eq!(watching.len(), 256);
    assert_eq!(Failure::from_status(&refused).unwrap().reason, ErrorReason::Overloaded);
    // A place that is given up is free again.
    watching.truncate(250);
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = client.watch_allowances(WatchAllowancesRequest::default()).await {
        assert!(may_repeat(&status) && Instant::now() < deadline);
        sleep(Duration::from_millis(10)).await;
    }
    signal(stack.projector.id(), "TERM").unwrap();
    for items in &mut watching {
        let status = loop {
            match timeout(PATIENCE, items.message()).await.unwrap() {
                Ok(message) => assert!(message.is_some(), "it ended without a word"),
                Err(status) => break status,
            }
        };
        let failure = Failure::from_status(&status);
        assert_eq!(failure.map(|f| f.reason), Some(ErrorReason::ShuttingDown), "{status:?}");
    }
    drop(watching);
    assert!(stack.projector.wait().await.unwrap().success());
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
    let second = lines(&["--after", fields[0], "--cpr", &cpr, "--year", "2022"], 2);
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
