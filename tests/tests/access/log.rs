//! The access log (W4): a note of each look-up before the answer, and soon an entry; no note, no answer.

use std::{
    fs,
    time::{Duration, Instant},
};

use frikort_proto::{
    error::Failure,
    v1::{
        BatchGetAllowancesRequest, ErrorReason, GetAllowanceRequest, GetCardRequest,
        GetStatementRequest, ListLookupsRequest, ListPaymentsRequest, Lookup, ReadEventsRequest,
        ReportPaymentsRequest, RunOptions, access_log_service_client::AccessLogServiceClient,
        allowance_service_client::AllowanceServiceClient,
        overview_service_client::OverviewServiceClient,
    },
};
use frikort_tests::{
    client::{CVR, by_cpr, new_cpr, report},
    process::{LOOKUPS, Service, signal},
};
use futures::{StreamExt, stream};
use sqlx::PgPool;
use tonic::{Request, transport::Channel};

use crate::{Secured, purpose};

/// An entry: caller, role, purpose, method, what was asked, whether somebody was found.
type Entry = (String, String, String, String, String, bool);

/// All entries, of all who were looked up until now, in the order in which they were.
async fn entries(secured: &Secured, pool: &PgPool) -> Vec<Entry> {
    secured.until_noted().await;
    sqlx::query_as(
        "SELECT caller, role, purpose, method, asked,
                person_id <> '00000000-0000-0000-0000-000000000000'
         FROM access.entry ORDER BY at, lookup_id",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Caller, role, and purpose.
type By<'a> = (&'a str, &'a str, &'a str);

const BUREAU: By<'_> = ("Lønbureauet", "employer", "PAYROLL");
const TOWN: By<'_> = ("Kommunen", "municipality", "VISITATION");

fn entry((caller, role, purpose): By<'_>, method: &str, asked: &str, found: bool) -> Entry {
    let [caller, role, purpose, method, asked] =
        [caller, role, purpose, method, asked].map(str::to_owned);
    (caller, role, purpose, method, asked, found)
}

async fn count(secured: &Secured, pool: &PgPool) -> i64 {
    i64::try_from(entries(secured, pool).await.len()).unwrap()
}

async fn channel(secured: &Secured, service: &Service, name: &str) -> Channel {
    let shown = secured.authority.sign(&format!("{name}.test")).unwrap();
    secured.connect(service, Some(&shown)).await.unwrap()
}

fn allowance(cpr: &str) -> GetAllowanceRequest {
    GetAllowanceRequest { person: by_cpr(cpr), year: 2022, ..GetAllowanceRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn w4_every_way_to_look_somebody_up_is_noted_and_what_is_recorded_is_not() {
    let secured = Secured::start().await;
    let pool = secured.database.pool().await.unwrap();
    let (cpr, nobody) = (new_cpr(), new_cpr());
    secured.as_caller("operator").await.set_limit(2022, 20_000).await.unwrap();
    let mut municipality = secured.as_caller("municipality").await;
    let mut employer = secured.as_caller("employer").await;
    // Of nobody: noted as well.
    let card = |cpr: &str| GetCardRequest { person: by_cpr(cpr) };
    municipality.visitations.get_card(card(&nobody)).await.unwrap_err();
    employer.payments.report_payment(report(&nobody, "1", 1_000)).await.unwrap_err();
    municipality.grant(&cpr).await.unwrap();
    let before = count(&secured, &pool).await;
    assert_eq!(before, 3, "{:?}", entries(&secured, &pool).await);
    employer.payments.report_payment(report(&cpr, "1", 1_000)).await.unwrap();
    assert_eq!(count(&secured, &pool).await, before, "what is recorded tells of itself");

    let mut expected: Vec<Entry> = Vec::new();
    let mut expect = |who, method, found| expected.push(entry(who, method, "", found));
    // Repeated, and tried.
    employer.payments.report_payment(report(&cpr, "1", 1_000)).await.unwrap();
    expect(BUREAU, "PaymentService/ReportPayment", true);
    let tried =
        frikort_proto::v1::ReportPaymentRequest { validate_only: true, ..report(&cpr, "2", 1_000) };
    employer.payments.report_payment(tried).await.unwrap();
    expect(BUREAU, "PaymentService/ReportPayment", true);
    // A run that is planned; of the persons of its lines, each time.
    let options = RunOptions { validate_only: true, ..RunOptions::default() };
    let run = ReportPaymentsRequest { run: Some(options), ..ReportPaymentsRequest::default() };
    let line = |cpr: &str| ReportPaymentsRequest {
        payment: Some(report(cpr, "3", 1_000)),
        ..ReportPaymentsRequest::default()
    };
    let lines = stream::iter([run, line(&cpr), line(&nobody)]);
    let results = employer.payments.report_payments(lines).await.unwrap().into_inner();
    assert_eq!(results.count().await, 3);
    expect(BUREAU, "PaymentService/ReportPayments", true);
    expect(BUREAU, "PaymentService/ReportPayments", false);
    municipality.visitations.get_card(card(&cpr)).await.unwrap();
    expect(TOWN, "VisitationService/GetCard", true);
    let events = ReadEventsRequest { person: by_cpr(&cpr), ..ReadEventsRequest::default() };
    secured.as_caller("auditor").await.audits.read_events(events).await.unwrap();
    expect(("revisor", "auditor", "AUDIT"), "AuditService/ReadEvents", true);
    assert_eq!(
        entries(&secured, &pool).await.split_off(usize::try_from(before).unwrap()),
        expected
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn w4_every_question_about_allowances_and_every_list_is_noted() {
    let secured = Secured::start().await;
    let pool = secured.database.pool().await.unwrap();
    let (cpr, nobody) = (new_cpr(), new_cpr());
    secured.as_caller("operator").await.set_limit(2022, 20_000).await.unwrap();
    secured.as_caller("municipality").await.grant(&cpr).await.unwrap();
    let mut employer = secured.as_caller("employer").await;
    let recorded = employer.payments.report_payment(report(&cpr, "1", 1_000)).await.unwrap();
    let position = recorded.into_inner().position.unwrap().position;
    let before = usize::try_from(count(&secured, &pool).await).unwrap();
    let mut expected: Vec<Entry> = Vec::new();
    let benefit = channel(&secured, &secured.projector, "benefit").await;
    let mut benefit = AllowanceServiceClient::new(benefit);
    let mut question = allowance(&cpr);
    question.min_position = position;
    benefit.get_allowance(purpose(Request::new(question), "KONTANTHJAELP")).await.unwrap();
    let office = |purpose| ("Ydelse", "benefit", purpose);
    let get = "AllowanceService/GetAllowance";
    expected.push(entry(office("KONTANTHJAELP"), get, "year 2022", true));
    let many = BatchGetAllowancesRequest {
        persons: [&cpr, &nobody].map(|cpr| by_cpr(cpr).unwrap()).to_vec(),
        year: 2022,
        ..BatchGetAllowancesRequest::default()
    };
    benefit.batch_get_allowances(purpose(Request::new(many), "X")).await.unwrap();
    for found in [true, false] {
        let batch = "AllowanceService/BatchGetAllowances";
        expected.push(entry(office("X"), batch, "year 2022", found));
    }
    let past = frikort_proto::v1::AsOf {
        known_at: Some(frikort_proto::v1::as_of::KnownAt::KnownPosition(position)),
        paid_through: None,
    };
    let statement = GetStatementRequest {
        person: by_cpr(&cpr),
        as_of: Some(past),
        ..GetStatementRequest::default()
    };
    benefit.get_statement(purpose(Request::new(statement), "X")).await.unwrap();
    let asked = format!("all years, known at position {position}");
    expected.push(entry(office("X"), "AllowanceService/GetStatement", &asked, true));
    let employer = channel(&secured, &secured.projector, "employer").await;
    let list =
        ListPaymentsRequest { employer_cvr: CVR.to_owned(), ..ListPaymentsRequest::default() };
    OverviewServiceClient::new(employer).list_payments(list).await.unwrap();
    expected.push(entry(BUREAU, "OverviewService/ListPayments", "list", true));
    assert_eq!(entries(&secured, &pool).await.split_off(before), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn w4_an_auditor_reads_all_of_it_and_a_citizen_when_and_what_for() {
    let secured = Secured::start().await;
    let pool = secured.database.pool().await.unwrap();
    let (cpr, other) = (new_cpr(), new_cpr());
    secured.as_caller("operator").await.set_limit(2022, 20_000).await.unwrap();
    let mut municipality = secured.as_caller("municipality").await;
    municipality.grant(&cpr).await.unwrap();
    municipality.grant(&other).await.unwrap();
    let tax = channel(&secured, &secured.projector, "tax").await;
    let mut tax = AllowanceServiceClient::new(tax);
    for cpr in [&cpr, &other, &cpr] {
        let mut question = allowance(cpr);
        question.min_position = 3;
        tax.get_allowance(purpose(Request::new(question), "AARSOPGOERELSE")).await.unwrap();
    }
    secured.until_noted().await;
    let read = async |name: &str, person: Option<&String>| -> Result<Vec<Lookup>, Failure> {
        let channel = channel(&secured, &secured.ledger, name).await;
        let person = person.and_then(|cpr| by_cpr(cpr));
        let request = ListLookupsRequest { person, ..ListLookupsRequest::default() };
        let answer = AccessLogServiceClient::new(channel).list_lookups(request).await;
        let answer = answer.map_err(|status| Failure::from_status(&status).unwrap())?;
        let answers: Vec<_> = answer.into_inner().collect().await;
        secured.until_noted().await;
        Ok(answers.into_iter().map(|answer| answer.unwrap().lookup.unwrap()).collect())
    };
    let all = read("auditor", None).await.unwrap();
    assert_eq!(i64::try_from(all.len()).unwrap(), count(&secured, &pool).await);
    let by_tax: Vec<_> = all.iter().filter(|lookup| lookup.caller == "Skat").collect();
    assert_eq!(by_tax.len(), 3);
    assert_eq!(by_tax[0].person_id, by_tax[2].person_id);
    assert_eq!(by_tax[0].method, "AllowanceService/GetAllowance");
    assert_eq!(by_tax[0].asked, "year 2022");
    // Twice the tax system; who it was is not told. The grant found nobody yet.
    let citizen = read("municipality", Some(&cpr)).await.unwrap();
    let purposes: Vec<_> = citizen.iter().map(|lookup| lookup.purpose.as_str()).collect();
    assert_eq!(purposes, ["AARSOPGOERELSE", "AARSOPGOERELSE"]);
    assert!(citizen.iter().all(|l| l.caller.is_empty() && l.person_id.is_empty()));
    // That was a look-up as well.
    let again = read("municipality", Some(&cpr)).await.unwrap();
    assert_eq!(again.last().unwrap().purpose, "VISITATION");
    assert_eq!(again.len(), 3);
    assert_eq!(read("neighbour", Some(&cpr)).await.unwrap_err().reason, ErrorReason::NoCard);
    assert_eq!(read("municipality", None).await.unwrap_err().reason, ErrorReason::InvalidField);
    assert_eq!(read("tax", Some(&cpr)).await.unwrap_err().reason, ErrorReason::NotAllowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn w4_as_many_entries_as_answers_under_load_and_across_kill_9() {
    const QUESTIONS: usize = 4_000;
    let mut secured = Secured::start().await;
    let pool = secured.database.pool().await.unwrap();
    let cpr = new_cpr();
    secured.as_caller("operator").await.set_limit(2022, 20_000).await.unwrap();
    secured.as_caller("municipality").await.grant(&cpr).await.unwrap();
    let ask = async |secured: &Secured, of: usize| -> i64 {
        let client = channel(secured, &secured.projector, "tax").await;
        let client = AllowanceServiceClient::new(client);
        let asked =
            stream::iter(0..of).map(|_| {
                let (mut client, mut question) = (client.clone(), allowance(&cpr));
                question.min_position = 2;
                async move {
                    client.get_allowance(purpose(Request::new(question), "LOAD")).await.is_ok()
                }
            });
        let answers: Vec<bool> = asked.buffer_unordered(64).collect().await;
        i64::try_from(answers.into_iter().filter(|answered| *answered).count()).unwrap()
    };
    let noted = "SELECT count(*) FROM access.entry WHERE purpose = 'LOAD'";
    let noted = async || sqlx::query_scalar::<_, i64>(noted).fetch_one(&pool).await.unwrap();
    let answered = ask(&secured, QUESTIONS).await;
    assert_eq!(answered, i64::try_from(QUESTIONS).unwrap());
    secured.until_noted().await;
    assert_eq!(noted().await, answered);

    // Killed in the midst: what was answered is noted, if need be by the next process; what was under
    // way may be, unanswered.
    let (killed, answered_before) = tokio::join!(
        async {
            while noted().await < answered + 500 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            signal(secured.projector.id(), "KILL")
        },
        ask(&secured, QUESTIONS)
    );
    killed.unwrap();
    assert!(answered_before < i64::try_from(QUESTIONS).unwrap(), "it was to be killed meanwhile");
    secured.start_projector().await;
    secured.until_noted().await;
    let (answered, noted_now) = (answered + answered_before, noted().await);
    assert!((answered..=answered + 64).contains(&noted_now), "{answered}, {noted_now}");

    // Killed while the table takes nothing: all of it is the next process's.
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE access.lookup").execute(&mut *tx).await.unwrap();
    assert_eq!(ask(&secured, 100).await, 100);
    signal(secured.projector.id(), "KILL").unwrap();
    tx.rollback().await.unwrap();
    secured.start_projector().await;
    secured.until_noted().await;
    assert_eq!(noted().await, noted_now + 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn w4_where_the_log_takes_nothing_nobody_is_answered_and_payments_go_on() {
    let secured = Secured::start().await;
    let pool = secured.database.pool().await.unwrap();
    let cpr = new_cpr();
    secured.as_caller("operator").await.set_limit(2022, 20_000).await.unwrap();
    secured.as_caller("municipality").await.grant(&cpr).await.unwrap();
    let client = channel(&secured, &secured.projector, "tax").await;
    let mut client = AllowanceServiceClient::new(client);
    let mut ask = async || {
        let mut question = allowance(&cpr);
        question.min_position = 2;
        let answer = client.get_allowance(purpose(Request::new(question), "LOAD")).await;
        answer.map(drop).map_err(|status| Failure::from_status(&status).unwrap())
    };
    sqlx::query("REVOKE INSERT ON access.lookup FROM frikort_projector")
        .execute(&pool)
        .await
        .unwrap();
    // What is answered until it is found out is in the journal.
    let (mut answered, began) = (0, Instant::now());
    let refused = loop {
        match ask().await {
            Ok(()) => answered += 1,
            Err(refused) => break refused,
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it goes on answering");
    };
    assert!(answered > 0, "{refused:?}");
    assert_eq!(refused.reason, ErrorReason::StoreUnavailable);
    assert!(refused.message.contains("cannot be noted"), "{}", refused.message);
    let mut employer = secured.as_caller("employer").await;
    employer.payments.report_payment(report(&cpr, "1", 1_000)).await.unwrap();
    ask().await.unwrap_err();

    sqlx::query("GRANT INSERT ON access.lookup TO frikort_projector").execute(&pool).await.unwrap();
    secured.until_noted().await;
    while ask().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not answer again");
    }
    let noted = entries(&secured, &pool).await.into_iter().filter(|entry| entry.2 == "LOAD");
    assert_eq!(noted.count(), answered + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn w4_a_service_that_stops_leaves_no_look_up_behind() {
    let mut secured = Secured::start().await;
    let pool = secured.database.pool().await.unwrap();
    let before = count(&secured, &pool).await;
    let mut municipality = secured.as_caller("municipality").await;
    for _ in 0..20 {
        let nobody = GetCardRequest { person: by_cpr(&new_cpr()) };
        municipality.visitations.get_card(nobody).await.unwrap_err();
    }
    assert!(secured.ledger.stop().await.unwrap().success());
    assert!(secured.projector.stop().await.unwrap().success());
    let left: Vec<_> = fs::read_dir(secured.dir.path().join(LOOKUPS)).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(count(&secured, &pool).await, before + 20);
}
