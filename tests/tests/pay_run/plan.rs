//! A plan tells what every line would do after the lines before it, and records nothing.

use frikort_proto::{
    error::Failure,
    v1::{ErrorReason, ReportPaymentRequest, ReportPaymentResponse, Warning},
};
use frikort_tests::{
    client::{Ledger, cancel, date, new_cpr, report},
    database::Database,
    process::{Kind, Service},
    stack::Stack,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use super::run::{Ran, commit, item, options, plan, record};

/// So many persons with a card, and a limit of 20.000 kr.
async fn persons(ledger: &mut Ledger, count: usize) -> Vec<String> {
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cprs: Vec<String> = (0..count).map(|_| new_cpr()).collect();
    for cpr in &cprs {
        ledger.grant(cpr).await.unwrap();
    }
    cprs
}

/// Answers without the place of what they are about: of a plan that is the head.
fn contents(ran: &Ran) -> Vec<ReportPaymentResponse> {
    let content = |answer: &ReportPaymentResponse| {
        let mut answer = answer.clone();
        answer.position = None;
        answer.payment.as_mut().unwrap().position = 0;
        answer
    };
    ran.answers().map(content).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_plan_sees_the_lines_before_it() {
    let stack = Stack::start(4).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cprs = persons(&mut ledger, 8).await;
    // Everybody has 1.000,00 on record; the second of these two crosses the limit.
    for cpr in &cprs {
        ledger.payments.report_payment(report(cpr, "before", 100_000)).await.unwrap();
    }
    let lines: Vec<_> = cprs
        .iter()
        .map(|cpr| report(cpr, "a", 1_500_000))
        .chain(cprs.iter().map(|cpr| report(cpr, "b", 1_500_000)))
        .collect();
    let before = stack.recorded().await.unwrap();
    let planned = plan(&ledger, &lines).await;
    assert_eq!(stack.recorded().await.unwrap(), before, "a plan has recorded something");
    assert_eq!(planned.splits()[..8], [(1_500_000, 0); 8]);
    assert_eq!(planned.splits()[8..], [(400_000, 1_100_000); 8]);
    let alike = [i32::from(Warning::PossibleDuplicate)];
    assert!(planned.answers().skip(8).all(|answer| answer.warnings == alike), "{planned:?}");

    let totals = planned.totals();
    assert_eq!((totals.lines, totals.sum_oere), (16, 24_000_000));
    assert_eq!((totals.exempt_oere, totals.taxable_oere), (8 * 1_900_000, 8 * 1_100_000));
    assert_eq!((totals.recorded, totals.already_there), (16, 0));
    // P11: warnings are counted.
    assert_eq!((totals.possible_duplicates, totals.changed_since), (8, 0));

    // And so it comes, line by line, with the same totals.
    let committed = commit(&ledger, &totals.plan_token, &lines).await;
    assert_eq!(contents(&committed), contents(&planned));
    let mut same = totals.clone();
    same.plan_token.clear();
    assert_eq!(committed.totals(), &same);
    assert_eq!(stack.recorded().await.unwrap().events, before.events + 16);
}

/// One of each: new, new above the limit, there already, changed, twice in the run, refused by a
/// rule, malformed, of somebody unknown.
fn mixed(cpr: &str) -> Vec<ReportPaymentRequest> {
    let mut uncovered = report(cpr, "uncovered", 100);
    uncovered.facts.as_mut().unwrap().work_period = None;
    uncovered.facts.as_mut().unwrap().payment_date = Some(date(2021, 12, 31));
    let mut exceeding = report(cpr, "exceeding", 100);
    exceeding.reject_if_exceeds = true;
    vec![
        report(cpr, "new", 1_500_000),
        report(cpr, "above", 400_000),
        report(cpr, "there", 200_000),
        report(cpr, "other", 200_001),
        report(cpr, "new", 1_500_000),
        report(cpr, "new", 1_500_001),
        uncovered,
        exceeding,
        report(cpr, "malformed", 0),
        report(&new_cpr(), "nobody", 700),
    ]
}

const REFUSED: [&str; 6] = [
    "REFERENCE_REUSED",
    "REFERENCE_REUSED",
    "NOT_COVERED",
    "LIMIT_EXCEEDED",
    "INVALID_FIELD",
    "NO_CARD",
];

#[tokio::test(flavor = "multi_thread")]
async fn totals_count_what_is_new_there_changed_and_refused() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = persons(&mut ledger, 1).await.remove(0);
    for (reference, oere) in [("there", 200_000), ("other", 200_000)] {
        ledger.payments.report_payment(report(&cpr, reference, oere)).await.unwrap();
    }
    let lines = mixed(&cpr);
    let before = stack.recorded().await.unwrap();
    let planned = plan(&ledger, &lines).await;
    assert_eq!(stack.recorded().await.unwrap(), before);
    let totals = planned.totals();
    assert_eq!(planned.refusals(), REFUSED);
    let counts = (totals.recorded, totals.already_there, totals.changed, totals.refused);
    assert_eq!(counts, (2, 2, 2, 4));
    // 15.000 + 4.000 (1.000 of it exempt) are new; 2.000 and once more 15.000 are there.
    assert_eq!(
        planned.splits(),
        [(1_500_000, 0), (100_000, 300_000), (200_000, 0), (1_500_000, 0)]
    );
    assert_eq!((totals.exempt_oere, totals.taxable_oere), (3_300_000, 300_000));
    let sent = 1_500_000 + 400_000 + 200_000 + 200_001 + 1_500_000 + 1_500_001 + 100 + 100 + 700;
    assert_eq!(totals.sum_oere, sent);

    // As of the head: nothing has a place of its own but what is recorded.
    let places: Vec<_> =
        planned.answers().map(|answer| answer.position.unwrap().position).collect();
    assert_eq!(
        places,
        [before.positions, before.positions, before.positions - 1, before.positions]
    );

    // A run that is recorded at once has the same results and totals.
    let recorded = record(&ledger, &lines).await;
    assert_eq!(contents(&recorded), contents(&planned));
    assert_eq!(recorded.refusals(), REFUSED);
    let mut same = totals.clone();
    same.plan_token.clear();
    assert_eq!(recorded.totals(), &same);
    assert_eq!(stack.recorded().await.unwrap().events, before.events + 2);

    // P11: a line that is there and was changed since is counted.
    ledger.payments.cancel_payment(cancel(&cpr, "there", 1)).await.unwrap();
    assert_eq!(plan(&ledger, &lines).await.totals().changed_since, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_no_lines_has_totals_of_zero() {
    let stack = Stack::start(1).await.unwrap();
    let ledger = stack.ledger().await.unwrap();
    let empty = plan(&ledger, &[]).await;
    let totals = empty.totals();
    assert_eq!((totals.lines, totals.sum_oere, totals.recorded), (0, 0, 0));
    assert_eq!(commit(&ledger, &totals.plan_token, &[]).await.totals().lines, 0);
}

/// More than a plan keeps accounts of: those let go are copied again, with their lines so far.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_lets_accounts_go_still_sees_every_line_before() {
    const PERSONS: usize = 150;
    const BEFORE: usize = 160;
    const ROUNDS: usize = 3;
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cprs = persons(&mut ledger, PERSONS).await;
    // 24.000 payments on record, of 1,00 each.
    let history: Vec<_> = (0..BEFORE)
        .flat_map(|n| cprs.iter().map(move |cpr| report(cpr, &format!("before {n}"), 100)))
        .collect();
    assert_eq!(record(&ledger, &history).await.totals().recorded, 24_000);
    let lines: Vec<_> = (0..ROUNDS)
        .flat_map(|n| cprs.iter().map(move |cpr| report(cpr, &format!("now {n}"), 900_000)))
        .collect();
    let planned = plan(&ledger, &lines).await;
    let splits = planned.splits();
    assert_eq!(splits.len(), PERSONS * ROUNDS);
    assert_eq!(splits[..2 * PERSONS], [(900_000, 0); 2 * PERSONS]);
    // 20.000 less 160 less 18.000.
    assert_eq!(splits[2 * PERSONS..], [(184_000, 716_000); PERSONS]);
    let committed = commit(&ledger, &planned.totals().plan_token, &lines).await;
    assert_eq!(contents(&committed), contents(&planned));
}

/// Also while others record: a plan is about each person as of when it was looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_is_there_when_others_have_recorded_the_run_meanwhile() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cprs = persons(&mut ledger, 2).await;
    let lines: Vec<_> = cprs.iter().map(|cpr| report(cpr, "a", 100_000)).collect();
    let first = plan(&ledger, &lines).await;
    assert_eq!(first.totals().recorded, 2);
    ledger.payments.report_payment(lines[0].clone()).await.unwrap();
    let second = plan(&ledger, &lines).await;
    let totals = second.totals();
    assert_eq!((totals.recorded, totals.already_there), (1, 1));
    // The token is about the run, and the run is the same.
    assert_eq!(totals.plan_token, first.totals().plan_token);
}

/// A plan with holes would be taken for what happens: it is refused as a whole, and comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_made_whole_ends_with_an_error_to_be_repeated() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let database = Database::create_alone(dir.path().join("postgres"), 1).await.unwrap();
    let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    let cprs = persons(&mut ledger, 2).await;

    let (sender, messages) = mpsc::unbounded_channel();
    sender.send(options(true, "")).unwrap();
    sender.send(item(report(&cprs[0], "one", 100))).unwrap();
    let messages = UnboundedReceiverStream::new(messages);
    let mut payments = ledger.payments.clone();
    let mut results = payments.report_payments(messages).await.unwrap().into_inner();
    results.next().await.unwrap().unwrap();
    database.stop_cluster().await.unwrap();
    sender.send(item(report(&cprs[1], "two", 100))).unwrap();
    drop(sender);
    let status = results.next().await.unwrap().unwrap_err();
    let failure = Failure::from_status(&status).unwrap();
    assert_eq!(failure.reason, ErrorReason::StoreUnavailable);
    assert!(failure.retry_delay().is_some());
    assert!(results.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_plan_counts_its_own_lines_into_the_year() {
    let most = vec![("FRIKORT_PAYMENTS_PER_YEAR", "3".to_owned())];
    let stack = Stack::start_with(1, most).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = persons(&mut ledger, 1).await.remove(0);
    ledger.payments.report_payment(report(&cpr, "before", 100)).await.unwrap();
    let lines: Vec<_> = ["a", "b", "c", "a"].map(|line| report(&cpr, line, 100)).into();
    let planned = plan(&ledger, &lines).await;
    assert_eq!(planned.refusals(), ["TOO_MANY_PAYMENTS"]);
    assert_eq!((planned.totals().recorded, planned.totals().already_there), (2, 1));
    let committed = commit(&ledger, &planned.totals().plan_token, &lines).await;
    assert_eq!(committed.refusals(), ["TOO_MANY_PAYMENTS"]);
    assert_eq!((committed.totals().recorded, committed.totals().already_there), (2, 1));
}
