//! OverviewService: what employers and municipalities list.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use frikort_proto::{
    error::Failure,
    v1::{
        CorrectPaymentRequest, DayPeriod, DeactivateCardRequest, ErrorReason,
        GetProcessingTimesRequest, GrantCardRequest, LedgerPosition, ListDueControlsRequest,
        ListPaymentsRequest, Payment, ProcessingTimes, RecordControlRequest,
        RejectApplicationRequest, ReportPaymentRequest, TransferCardRequest,
        overview_service_client::OverviewServiceClient,
    },
};
use frikort_tests::{
    client::{CVR, Ledger, by_cpr, date, facts, grant, new_cpr, report},
    stack::Stack,
};
use time::OffsetDateTime;
use tonic::transport::Channel;

/// Another employer.
const OTHER: &str = "29189706";

/// How many partitions; lists come from all of them.
const PARTITIONS: i32 = 3;

type Overview = OverviewServiceClient<Channel>;

async fn ground() -> (Stack, Ledger, Overview) {
    let stack = Stack::start(PARTITIONS).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    ledger.set_limit(2023, 20_000).await.unwrap();
    let overview = OverviewServiceClient::new(stack.projector.channel().await.unwrap());
    (stack, ledger, overview)
}

/// A position that no partition has passed, once everything so far is in the projection.
async fn latest(stack: &Stack) -> i64 {
    let pool = stack.database.pool().await.unwrap();
    let highest = "SELECT max(position) FROM ledger.partition_head";
    sqlx::query_scalar(highest).fetch_one(&pool).await.unwrap()
}

fn by_other(request: ReportPaymentRequest) -> ReportPaymentRequest {
    ReportPaymentRequest { employer_cvr: OTHER.to_owned(), ..request }
}

fn listing(employer: &str, min_position: i64) -> ListPaymentsRequest {
    let employer_cvr = employer.to_owned();
    ListPaymentsRequest { employer_cvr, min_position, ..ListPaymentsRequest::default() }
}

/// All pages of a listing, and as of which positions it is.
async fn list(
    overview: &mut Overview,
    request: ListPaymentsRequest,
) -> (Vec<Payment>, Vec<LedgerPosition>) {
    let (mut all, mut request) = (Vec::new(), request);
    loop {
        let page = overview.list_payments(request.clone()).await.unwrap().into_inner();
        let most = if request.page_size == 0 { 100 } else { request.page_size };
        assert!(i32::try_from(page.payments.len()).unwrap() <= most);
        all.extend(page.payments);
        if page.next_page_token.is_empty() {
            return (all, page.positions);
        }
        request.page_token = page.next_page_token;
    }
}

fn references(payments: &[Payment]) -> Vec<&str> {
    payments.iter().map(|payment| payment.reference.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_employer_lists_its_own_payments_page_by_page() {
    let (stack, mut ledger, mut overview) = ground().await;
    let persons: Vec<String> = (0..5).map(|_| new_cpr()).collect();
    for cpr in &persons {
        ledger.grant(cpr).await.unwrap();
        for number in 0..7 {
            let request = report(cpr, &format!("{}-{number}", &cpr[..4]), 1_000 + number);
            ledger.payments.report_payment(request.clone()).await.unwrap();
            ledger.payments.report_payment(by_other(request)).await.unwrap();
        }
    }
    let min_position = latest(&stack).await;
    let (whole, positions) = list(&mut overview, listing(CVR, min_position)).await;
    assert_eq!((whole.len(), positions.len()), (35, 3));
    assert!(whole.iter().all(|payment| payment.employer_cvr == CVR && payment.facts.is_some()));
    for page_size in [1, 2, 34, 35, 1000] {
        let request = ListPaymentsRequest { page_size, ..listing(CVR, min_position) };
        assert_eq!(list(&mut overview, request).await, (whole.clone(), positions.clone()));
    }
    let person = by_cpr(&persons[3]);
    let of_one = ListPaymentsRequest { person, page_size: 3, ..listing(CVR, min_position) };
    let (of_one, _) = list(&mut overview, of_one).await;
    let expected: Vec<_> =
        whole.iter().filter(|p| p.person_id == of_one[0].person_id).cloned().collect();
    assert_eq!((of_one.len(), of_one), (7, expected));
    let elsewhere = ListPaymentsRequest { year: 2023, ..listing(CVR, min_position) };
    assert_eq!(list(&mut overview, elsewhere).await.0, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_an_employer_finds_what_another_employers_event_did_to_its_splits() {
    let (stack, mut ledger, mut overview) = ground().await;
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    ledger.payments.report_payment(report(&cpr, "a", 1_200_000)).await.unwrap();
    ledger.payments.report_payment(by_other(report(&cpr, "b", 900_000))).await.unwrap();
    ledger.payments.report_payment(by_other(report(&cpr, "c", 100))).await.unwrap();
    let (before, known) = list(&mut overview, listing(OTHER, latest(&stack).await)).await;
    assert_eq!(references(&before), ["b", "c"]);
    assert_eq!((before[0].exempt_oere, before[0].taxable_oere), (800_000, 100_000));

    // Nothing is new until the other employer corrects its payment.
    let news = |min_position| ListPaymentsRequest {
        changed_after: known.clone(),
        ..listing(OTHER, min_position)
    };
    assert_eq!(list(&mut overview, news(0)).await.0, []);
    let correction = CorrectPaymentRequest {
        person: by_cpr(&cpr),
        employer_cvr: CVR.to_owned(),
        reference: "a".to_owned(),
        expected_revision: 1,
        facts: Some(facts(1_100_000)),
        validate_only: false,
    };
    ledger.payments.correct_payment(correction).await.unwrap();
    let (after, _) = list(&mut overview, news(latest(&stack).await)).await;
    assert_eq!(references(&after), ["b"]);
    assert_eq!((after[0].exempt_oere, after[0].taxable_oere), (900_000, 0));
    assert_eq!(after[0].revision, 1, "it is not a change by its employer");

    // So does a changed limit, once it has reached the person.
    let (_, known) = list(&mut overview, listing(OTHER, 0)).await;
    ledger.set_limit(2022, 21_000).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..500 {
        let news = ListPaymentsRequest { changed_after: known.clone(), ..listing(OTHER, 0) };
        found = list(&mut overview, news).await.0;
        if !found.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(references(&found), ["c"]);
    assert_eq!((found[0].exempt_oere, found[0].taxable_oere), (100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_as_of_the_first_and_what_changes_meanwhile_comes_next_time() {
    let (stack, mut ledger, mut overview) = ground().await;
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    for number in 0..10 {
        ledger.payments.report_payment(report(&cpr, &format!("p{number}"), 100)).await.unwrap();
    }
    let first = ListPaymentsRequest { page_size: 4, ..listing(CVR, latest(&stack).await) };
    let page = overview.list_payments(first.clone()).await.unwrap().into_inner();
    assert_eq!(references(&page.payments), ["p0", "p1", "p2", "p3"]);
    ledger.payments.report_payment(report(&cpr, "new", 100)).await.unwrap();
    let correction = CorrectPaymentRequest {
        person: by_cpr(&cpr),
        employer_cvr: CVR.to_owned(),
        reference: "p6".to_owned(),
        expected_revision: 1,
        facts: Some(facts(200)),
        validate_only: false,
    };
    ledger.payments.correct_payment(correction).await.unwrap();
    let min_position = latest(&stack).await;
    let rest = ListPaymentsRequest {
        page_token: page.next_page_token.clone(),
        min_position,
        ..first.clone()
    };
    let (rest, positions) = list(&mut overview, rest).await;
    assert_eq!(references(&rest), ["p4", "p5", "p7", "p8", "p9"]);
    assert_eq!(positions, page.positions);
    let next = ListPaymentsRequest { changed_after: positions, ..listing(CVR, 0) };
    assert_eq!(references(&list(&mut overview, next).await.0), ["new", "p6"]);

    // A token belongs to its list.
    for request in [
        ListPaymentsRequest { employer_cvr: OTHER.to_owned(), ..first.clone() },
        ListPaymentsRequest { year: 2022, ..first.clone() },
        ListPaymentsRequest { person: by_cpr(&cpr), ..first.clone() },
    ] {
        let page_token = page.next_page_token.clone();
        let request = ListPaymentsRequest { page_token, ..request };
        assert_eq!(bad(overview.list_payments(request).await), ["page_token"]);
    }
}

/// The fields at fault.
fn bad<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Vec<String> {
    let failure = Failure::from_status(&answer.unwrap_err()).unwrap();
    assert_eq!(failure.reason, ErrorReason::InvalidField);
    failure.fields.into_iter().map(|(field, _)| field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn w3_whom_an_employer_has_never_paid_is_nobody_to_it_with_a_card_or_without() {
    let (stack, mut ledger, mut overview) = ground().await;
    let holder = new_cpr();
    ledger.grant(&holder).await.unwrap();
    ledger.payments.report_payment(by_other(report(&holder, "b", 100))).await.unwrap();
    let min_position = latest(&stack).await;
    let mut told = Vec::new();
    for person in [by_cpr(&holder), by_cpr(&new_cpr())] {
        let request = ListPaymentsRequest { person, ..listing(CVR, min_position) };
        told.push(overview.list_payments(request).await.unwrap().into_inner());
    }
    assert_eq!(told[0].payments, []);
    assert_eq!(told[0], told[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_is_refused_by_field() {
    let (_stack, _ledger, mut overview) = ground().await;
    let request = ListPaymentsRequest {
        employer_cvr: "12345678".to_owned(),
        year: 2018,
        changed_after: vec![
            LedgerPosition { partition: 9, position: -1, recorded_time: None },
            LedgerPosition { partition: 0, position: 1, recorded_time: None },
            LedgerPosition { partition: 0, position: 2, recorded_time: None },
        ],
        page_size: 1001,
        min_position: -1,
        ..ListPaymentsRequest::default()
    };
    let expected = [
        "employer_cvr",
        "year",
        "changed_after[0].partition",
        "changed_after[0].position",
        "changed_after[1].recorded_time",
        "changed_after[2].partition",
        "changed_after[2].recorded_time",
        "page_size",
        "min_position",
    ];
    assert_eq!(bad(overview.list_payments(request).await), expected);
    let unreadable = ListPaymentsRequest { page_token: "x".to_owned(), ..listing(CVR, 0) };
    assert_eq!(bad(overview.list_payments(unreadable).await), ["page_token"]);
    let of_year = ListPaymentsRequest {
        year: 2022,
        changed_after: vec![LedgerPosition::default()],
        ..listing(CVR, 0)
    };
    assert_eq!(bad(overview.list_payments(of_year).await), ["year"]);
    let end = LedgerPosition::new(0, i64::MAX, Some(OffsetDateTime::UNIX_EPOCH));
    let lost = ListPaymentsRequest { changed_after: vec![end], ..listing(CVR, 0) };
    let lost = Failure::from_status(&overview.list_payments(lost).await.unwrap_err()).unwrap();
    assert_eq!(lost.reason, ErrorReason::ResumePositionLost);

    let request = ListDueControlsRequest {
        municipality_code: "411".to_owned(),
        due_by: Some(date(2025, 2, 30)),
        page_size: -1,
        min_position: -1,
        ..ListDueControlsRequest::default()
    };
    let expected = ["municipality_code", "due_by", "page_size", "min_position"];
    assert_eq!(bad(overview.list_due_controls(request).await), expected);
    let backwards =
        DayPeriod { first_day: Some(date(2022, 2, 1)), last_day: Some(date(2022, 1, 1)) };
    let request = GetProcessingTimesRequest {
        municipality_code: "1".to_owned(),
        decided: Some(backwards),
        min_position: 0,
    };
    let expected = ["municipality_code", "decided.last_day"];
    assert_eq!(bad(overview.get_processing_times(request).await), expected);
    let request = GetProcessingTimesRequest::default();
    assert_eq!(bad(overview.get_processing_times(request).await), ["decided"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn c9_a_municipality_lists_the_controls_that_are_due() {
    let (stack, mut ledger, mut overview) = ground().await;
    let granted_in = |year: i32| GrantCardRequest {
        decision_date: Some(date(year, 3, 1)),
        effective_date: Some(date(year, 3, 1)),
        ..grant(&new_cpr())
    };
    let mut persons = Vec::new();
    for year in [2021, 2019, 2022, 2020, 2019, 2022, 2019, 2019] {
        let request = granted_in(year);
        let card = ledger.visitations.grant_card(request.clone()).await.unwrap().into_inner().card;
        persons.push((request.person, card.unwrap().person_id));
    }
    let id = |at: usize| persons[at].1.clone();
    // One was controlled, one has moved away, one has no active card any more.
    let control = RecordControlRequest {
        person: persons[3].0.clone(),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        control_date: Some(date(2022, 9, 1)),
        ..RecordControlRequest::default()
    };
    ledger.visitations.record_control(control).await.unwrap();
    let transfer = TransferCardRequest {
        person: persons[4].0.clone(),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 9, 1)),
        to_municipality_code: "147".to_owned(),
        validate_only: false,
    };
    ledger.visitations.transfer_card(transfer).await.unwrap();
    let deactivation = DeactivateCardRequest {
        person: persons[6].0.clone(),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 9, 1)),
        ..DeactivateCardRequest::default()
    };
    ledger.visitations.deactivate_card(deactivation).await.unwrap();

    let min_position = latest(&stack).await;
    let mut due = async |code: &str, due_by, page_size| {
        let mut request = ListDueControlsRequest {
            municipality_code: code.to_owned(),
            due_by,
            page_size,
            min_position,
            ..ListDueControlsRequest::default()
        };
        let mut all = Vec::new();
        loop {
            let page = overview.list_due_controls(request.clone()).await.unwrap().into_inner();
            let told = page.controls.into_iter();
            all.extend(told.map(|due| (due.due_date.unwrap().year, due.person_id)));
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    };
    let sorted = |mut rows: Vec<(i32, String)>| {
        rows.sort();
        rows
    };
    let by_2023 = sorted(vec![(2021, id(1)), (2021, id(7)), (2023, id(0))]);
    let all = [by_2023.clone(), sorted(vec![(2024, id(2)), (2024, id(3)), (2024, id(5))])].concat();
    for page_size in [0, 1, 2, 1000] {
        assert_eq!(due("101", Some(date(2023, 12, 31)), page_size).await, by_2023);
        // By the end of this year everything is due that was controlled until two years ago.
        assert_eq!(due("101", None, page_size).await, all);
    }
    assert_eq!(due("101", Some(date(2023, 12, 30)), 0).await, by_2023[..2]);
    assert_eq!(due("147", None, 0).await, [(2021, id(4))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn processing_times_are_told_by_municipality() {
    let (stack, mut ledger, mut overview) = ground().await;
    // 101: days 1 to 10, of which every third is a rejection. 147: one of 40 days.
    for days in 1..=10 {
        let cpr = new_cpr();
        let (applied, decided) = (date(2022, 5, 1), date(2022, 5, 1 + days));
        if days % 3 == 0 {
            let request = RejectApplicationRequest {
                person: by_cpr(&cpr),
                municipality_code: "101".to_owned(),
                reference: "S-1".to_owned(),
                application_date: Some(applied),
                decision_date: Some(decided),
                ..RejectApplicationRequest::default()
            };
            ledger.visitations.reject_application(request).await.unwrap();
        } else {
            let request = GrantCardRequest {
                application_date: Some(applied),
                decision_date: Some(decided),
                ..grant(&cpr)
            };
            ledger.visitations.grant_card(request).await.unwrap();
        }
    }
    let slow = GrantCardRequest {
        municipality_code: "147".to_owned(),
        application_date: Some(date(2022, 4, 21)),
        decision_date: Some(date(2022, 5, 31)),
        ..grant(&new_cpr())
    };
    ledger.visitations.grant_card(slow).await.unwrap();
    // Who does not tell when the citizen had applied is not counted.
    ledger.grant(&new_cpr()).await.unwrap();

    let min_position = latest(&stack).await;
    let mut times = async |code: &str, first_day, last_day| {
        let decided = DayPeriod { first_day: Some(first_day), last_day: Some(last_day) };
        let request = GetProcessingTimesRequest {
            municipality_code: code.to_owned(),
            decided: Some(decided),
            min_position,
        };
        overview.get_processing_times(request).await.unwrap().into_inner().municipalities
    };
    let told = |code: &str, decision_count, median_days, percentile_90_days| ProcessingTimes {
        municipality_code: code.to_owned(),
        decision_count,
        median_days,
        percentile_90_days,
    };
    let (may, june) = (date(2022, 5, 1), date(2022, 6, 1));
    let both = [told("101", 10, 5, 9), told("147", 1, 40, 40)];
    assert_eq!(times("", may, june).await, both);
    assert_eq!(times("147", may, june).await, both[1..]);
    assert_eq!(times("101", may, date(2022, 5, 5)).await, [told("101", 4, 2, 4)]);
    assert_eq!(times("", june, june).await, []);
}
