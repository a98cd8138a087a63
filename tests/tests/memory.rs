//! 100.000 payments at once, and what that takes: the ledger and `frikort import` each stay below
//! 200 MB. The peak resident memory is what the kernel has noted (VmHWM).

#![expect(clippy::unwrap_used, reason = "a helper of a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "the figures, for whoever asks with --nocapture")]

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use frikort_proto::v1::{
    GetCardRequest, GetReceiptRequest, ReportPaymentRequest, ReportPaymentsRequest, RunOptions,
    RunTotals, report_payments_response::Result as Became,
};
use frikort_tests::{
    audit::events,
    client::{CVR, Ledger, by_cpr, cpr, facts, grant},
    database::Database,
    files::frikort,
    process::{Kind, Service},
    stack::Stack,
};
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};

const LINES: usize = 100_000;
const PERSONS: usize = 5_000;

/// 200 MB.
const MOST_KB: u64 = 200 * 1000 * 1000 / 1024;

/// How long nothing must be taken from us until we say that we are held up.
const HELD_UP: Duration = Duration::from_millis(500);

/// The peak resident memory of a process, in KiB; `None` when it has ended.
fn peak_kb(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn assert_small(what: &str, kb: u64, took: Duration) {
    println!("{what}: at most {} MB resident, {took:.1?}", kb * 1024 / 1_000_000);
    assert!(kb < MOST_KB, "{what} took {kb} KiB");
}

/// Everybody gets a card; no more at a time than the ledger has connections for, which each takes.
async fn grant_all(ledger: &Ledger) {
    let granted = stream::iter(0..PERSONS).map(|number| {
        let mut visitations = ledger.visitations.clone();
        async move { visitations.grant_card(grant(&cpr(u32::try_from(number).unwrap()))).await }
    });
    granted.buffer_unordered(16).for_each(async |granted| drop(granted.unwrap())).await;
}

/// A line of a run: everybody in turn, 100,00 kr. each time.
fn line(run: &str, number: usize) -> ReportPaymentRequest {
    ReportPaymentRequest {
        person: by_cpr(&cpr(u32::try_from(number % PERSONS).unwrap())),
        employer_cvr: CVR.to_owned(),
        reference: format!("{run} {number}"),
        facts: Some(facts(10_000)),
        ordinary_work: true,
        ..ReportPaymentRequest::default()
    }
}

/// Sends 100.000 lines on one stream. Takes no result but the first until nothing is taken from us
/// any more, where `held_up`; then each in order, once.
async fn send(
    ledger: &Ledger,
    run: &'static str,
    options: Option<RunOptions>,
    held_up: bool,
) -> Option<RunTotals> {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let options = options.map(|run| ReportPaymentsRequest { run: Some(run), ..Default::default() });
    let lines = (0..LINES).map(move |number| {
        counted.fetch_add(1, Ordering::Relaxed);
        ReportPaymentsRequest { payment: Some(line(run, number)), ..Default::default() }
    });
    let messages = stream::iter(options.into_iter().chain(lines));
    let mut payments = ledger.payments.clone();
    let mut results = payments.report_payments(messages).await.unwrap().into_inner();
    let mut totals = None;
    let mut next = 0;
    while let Some(result) = results.message().await.unwrap() {
        assert_eq!(usize::try_from(result.index).unwrap(), next, "out of order");
        match result.result.unwrap() {
            Became::Recorded(answer) => {
                let payment = answer.payment.unwrap();
                assert_eq!(payment.reference, format!("{run} {next}"));
                assert_eq!(payment.exempt_oere, 10_000);
                next += 1;
            }
            Became::Totals(of_run) => totals = Some(of_run),
            Became::Refused(refusal) => panic!("{next}: {refusal:?}"),
        }
        if held_up && next == 1 {
            let (mut before, mut since) = (0, Instant::now());
            while since.elapsed() < HELD_UP {
                sleep(Duration::from_millis(10)).await;
                if sent.load(Ordering::Relaxed) != before {
                    (before, since) = (sent.load(Ordering::Relaxed), Instant::now());
                }
            }
            println!("{run}: held up after {before} lines");
            assert!(before < LINES / 2, "{before} lines were taken though no result was");
        }
    }
    assert_eq!(next, LINES, "one result a line");
    totals
}

/// Runs `frikort import` on 100.000 rows; its peak, and what it said.
async fn import(stack: &Stack, run: &str, arguments: &[&str]) -> (u64, String) {
    let mut rows = "cpr,employer_cvr,reference,amount,paid_on,work_first,work_last\n".to_owned();
    for number in 0..LINES {
        let person = cpr(u32::try_from(number % PERSONS).unwrap());
        let dates = "2022-03-01,2022-02-28,2022-02-28";
        writeln!(rows, "{person},{CVR},{run} {number},100.00,{dates}").unwrap();
    }
    let file = stack.dir.path().join("payments.csv");
    fs::write(&file, rows).unwrap();
    let answers = stack.dir.path().join("answers.csv");
    let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
    command.args(["import", "--payments"]).arg(&file).arg("--answers").arg(&answers);
    let mut importing =
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    // A process that has ended has no memory, and its last pages are not its largest.
    while importing.try_wait().unwrap().is_none() {
        peak = peak.max(peak_kb(importing.id()).unwrap_or_default());
        sleep(Duration::from_millis(10)).await;
    }
    let output = importing.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert_answers(
        &answers,
        if arguments.contains(&"--validate-only") { "planned" } else { "recorded" },
    );
    (peak, said)
}

fn assert_answers(file: &Path, result: &str) {
    let answers = fs::read_to_string(file).unwrap();
    let mut lines = 0;
    for (number, line) in (1..).zip(answers.lines().skip(1)) {
        assert_eq!(line, format!("{number},{result},100.00,0.00"));
        lines = number;
    }
    assert_eq!(lines, LINES);
}

async fn ledger_of(service: &Service) -> Ledger {
    Ledger::new(service.channel().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_100_000_payments_and_a_plan_of_as_many_stay_small() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let mut service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = ledger_of(&service).await;
    ledger.set_limit(2022, 20_000).await.unwrap();
    grant_all(&ledger).await;
    let pool = database.pool().await.unwrap();
    let before = events(&pool).await;
    let begun = Instant::now();
    send(&ledger, "stream", None, true).await;
    let streamed = before + i64::try_from(LINES).unwrap();
    assert_eq!(events(&pool).await, streamed);
    let peak = peak_kb(service.id()).unwrap();
    assert_small("the ledger, 100.000 payments on one stream", peak, begun.elapsed());

    assert!(service.stop().await.unwrap().success());
    let service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let ledger = ledger_of(&service).await;
    let begun = Instant::now();
    let plan = RunOptions { validate_only: true, ..RunOptions::default() };
    let planned = send(&ledger, "run", Some(plan), true).await.unwrap();
    assert_eq!(usize::try_from(planned.recorded).unwrap(), LINES);
    assert_eq!(events(&pool).await, streamed, "a plan has recorded something");
    let peak = peak_kb(service.id()).unwrap();
    assert_small("the ledger, a plan of 100.000 lines", peak, begun.elapsed());

    let begun = Instant::now();
    let commit = RunOptions { plan_token: planned.plan_token.clone(), ..RunOptions::default() };
    let committed = send(&ledger, "run", Some(commit), false).await.unwrap();
    assert_eq!(committed, RunTotals { plan_token: String::new(), ..planned });
    let peak = peak_kb(service.id()).unwrap();
    assert_small("the same ledger, that run committed", peak, begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_100_000_rows_stays_small() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    grant_all(&ledger).await;
    let begun = Instant::now();
    let (peak, said) = import(&stack, "run", &["--validate-only"]).await;
    assert_small("frikort import --validate-only", peak, begun.elapsed());
    let token = said.split("--plan ").nth(1).unwrap().trim();
    let begun = Instant::now();
    let (peak, _) = import(&stack, "run", &["--plan", token]).await;
    assert_small("frikort import --plan", peak, begun.elapsed());
    let begun = Instant::now();
    let (peak, _) = import(&stack, "plain", &[]).await;
    assert_small("frikort import", peak, begun.elapsed());
}

/// Waits for the checkpoint that reaches a position.
async fn until_proved(ledger: &mut Ledger, position: i64) {
    let receipt = || GetReceiptRequest { partition: 0, position };
    let bound = Instant::now() + Duration::from_secs(60);
    while let Err(behind) = ledger.audits.get_receipt(receipt()).await {
        assert!(Instant::now() < bound, "{behind:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A few persons with many payments, and room for the payments of hardly one: whoever asks after
/// all of them, one by one, must not make the ledger keep all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_only_asked_lets_accounts_go_too() {
    const HOLDERS: usize = 200;
    const EACH: usize = 300;
    /// Two accounts are some 300 KB, and all of them some 30 MB.
    const MOST_MORE_KB: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let mut service = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut ledger = ledger_of(&service).await;
    ledger.set_limit(2022, 20_000).await.unwrap();
    let holders: Vec<String> = (0..HOLDERS).map(|n| cpr(u32::try_from(n).unwrap())).collect();
    for holder in &holders {
        ledger.grant(holder).await.unwrap();
    }
    let lines = (0..HOLDERS * EACH).map(|number| {
        let mut payment = line("n", number);
        payment.person = by_cpr(&cpr(u32::try_from(number % HOLDERS).unwrap()));
        ReportPaymentsRequest { payment: Some(payment), ..Default::default() }
    });
    let mut payments = ledger.payments.clone();
    let mut results = payments.report_payments(stream::iter(lines)).await.unwrap().into_inner();
    let mut last = 0;
    while let Some(result) = results.message().await.unwrap() {
        let Some(Became::Recorded(answer)) = result.result else { panic!("{result:?}") };
        last = last.max(answer.position.unwrap().position);
    }
    // The proof log is behind no more: what it holds while it catches up is not what is measured.
    until_proved(&mut ledger, last).await;
    assert!(service.stop().await.unwrap().success());

    let settings = vec![("FRIKORT_CACHED_PAYMENTS", EACH.to_string())];
    let service = Service::start_with(Kind::Ledger, &database, dir.path(), settings).await.unwrap();
    let mut ledger = ledger_of(&service).await;
    until_proved(&mut ledger, last).await;
    let mut peaks = Vec::new();
    for holder in &holders {
        let request = GetCardRequest { person: by_cpr(holder) };
        ledger.visitations.get_card(request).await.unwrap();
        peaks.push(peak_kb(service.id()).unwrap());
    }
    // The first ten are its warming up. The kernel's figures waver by some pages.
    let more = peaks.last().unwrap().saturating_sub(peaks[10]);
    println!("{} KiB after ten accounts, {more} KiB more after {HOLDERS}", peaks[10]);
    assert!(more < MOST_MORE_KB, "{more} KiB more");
}
