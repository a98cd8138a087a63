//! A statement of any length: in pages below what a client accepts, all as of one position.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use frikort_proto::{
    error::Failure,
    v1::{
        AsOf, CorrectPaymentRequest, ErrorReason, GetStatementRequest, GetStatementResponse,
        ReportPaymentsRequest, allowance_service_client::AllowanceServiceClient, as_of::KnownAt,
        report_payments_response::Result as Became,
    },
};
use frikort_tests::{
    client::{Ledger, by_cpr, correct, facts, new_cpr, report},
    files::{frikort, run},
    stack::Stack,
};
use prost::Message;
use tokio_stream::{StreamExt, iter};
use tonic::transport::Channel;

/// As many payments as make one answer larger than this client accepts. By default clients accept
/// 4 MiB; less needs fewer payments.
const MANY: usize = 4_000;

const CLIENT_LIMIT_BYTES: usize = 512 * 1024;

async fn holder(stack: &Stack) -> (Ledger, String) {
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    (ledger, cpr)
}

/// A reference as long as may be, so that fewer payments are large.
fn reference(number: usize) -> String {
    format!("{}{number:06}", "ø".repeat(58))
}

/// Reports payments of 1,00 kr. on a stream; the position of the last one.
async fn report_many(ledger: &mut Ledger, cpr: &str, count: usize) -> i64 {
    let items: Vec<_> = (0..count)
        .map(|number| ReportPaymentsRequest {
            payment: Some(report(cpr, &reference(number), 100)),
            ..ReportPaymentsRequest::default()
        })
        .collect();
    let mut results = ledger.payments.report_payments(iter(items)).await.unwrap().into_inner();
    let (mut last, mut recorded) = (0, 0);
    while let Some(result) = results.next().await {
        let Some(Became::Recorded(answer)) = result.unwrap().result else { panic!("refused") };
        last = answer.position.unwrap().position;
        recorded += 1;
    }
    assert_eq!(recorded, count);
    last
}

/// All pages of a statement.
async fn pages(
    client: &mut AllowanceServiceClient<Channel>,
    mut request: GetStatementRequest,
) -> Vec<GetStatementResponse> {
    let mut pages = Vec::new();
    loop {
        let page = client.get_statement(request.clone()).await.unwrap().into_inner();
        request.page_token.clone_from(&page.next_page_token);
        pages.push(page);
        if request.page_token.is_empty() {
            return pages;
        }
        assert!(pages.len() < 1000, "no end of pages");
    }
}

/// The pages put together as any client of protobuf can: their bytes one after the other.
fn merged(pages: &[GetStatementResponse]) -> GetStatementResponse {
    let mut whole = GetStatementResponse::default();
    for page in pages {
        whole.merge(&*page.encode_to_vec()).unwrap();
    }
    whole.next_page_token.clear();
    whole
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_above_what_a_client_accepts_comes_in_pages() {
    let stack = Stack::start(1).await.unwrap();
    let (mut ledger, cpr) = holder(&stack).await;
    let min_position = report_many(&mut ledger, &cpr, MANY).await;
    let request = GetStatementRequest {
        person: by_cpr(&cpr),
        min_position,
        ..GetStatementRequest::default()
    };
    let client = stack.allowances().await.unwrap();
    let mut client = client.max_decoding_message_size(CLIENT_LIMIT_BYTES);
    let pages = pages(&mut client, request).await;
    assert_eq!(pages.len(), MANY / 1000);
    let whole = merged(&pages);
    assert!(whole.encoded_len() > CLIENT_LIMIT_BYTES, "{} bytes", whole.encoded_len());
    let mut in_order = whole.payments.iter().zip(0..MANY);
    assert!(in_order.all(|(payment, number)| payment.reference == reference(number)));
    assert_eq!(whole.payments.len(), MANY);
    let [allowance] = &whole.allowances[..] else { panic!("{:?}", whole.allowances) };
    let sum =
        |of: fn(&frikort_proto::v1::Payment) -> i64| whole.payments.iter().map(of).sum::<i64>();
    assert_eq!(allowance.total_oere, sum(|payment| payment.amount_oere));
    assert_eq!(allowance.used_oere, sum(|payment| payment.exempt_oere));
    assert_eq!((whole.months.len(), whole.hours.is_some()), (1, true));

    let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
    let csv = run(command.args(["statement", "--csv", "--cpr", &cpr])).unwrap();
    assert_eq!(csv.lines().count(), 1 + MANY);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_statement_are_as_of_the_first_whatever_happens_meanwhile() {
    let stack = Stack::start(1).await.unwrap();
    let (mut ledger, cpr) = holder(&stack).await;
    let last = report_many(&mut ledger, &cpr, 25).await;
    let mut client = stack.allowances().await.unwrap();
    let now = GetStatementRequest {
        person: by_cpr(&cpr),
        min_position: last,
        ..GetStatementRequest::default()
    };
    let then = AsOf { known_at: Some(KnownAt::KnownPosition(last)), paid_through: None };
    for (as_of, with_history) in
        [(None, false), (None, true), (Some(then), false), (Some(then), true)]
    {
        let asked = GetStatementRequest { as_of, with_history, ..now.clone() };
        let whole = client.get_statement(asked.clone()).await.unwrap().into_inner();
        assert_eq!(whole.next_page_token, "", "a small statement is one answer");
        let paged = GetStatementRequest { page_size: 10, ..asked };
        let first = client.get_statement(paged.clone()).await.unwrap().into_inner();

        // A payment more, a changed one on each page, and another limit.
        let number = usize::from(with_history) + 2 * usize::from(as_of.is_some());
        let reference = format!("later-{number}");
        ledger.payments.report_payment(report(&cpr, &reference, 100)).await.unwrap();
        let mut position = 0;
        for payment in whole.payments.iter().step_by(10) {
            let oere = 1000 + i64::try_from(number).unwrap();
            let request = CorrectPaymentRequest {
                facts: Some(facts(oere)),
                ..correct(&cpr, &payment.reference, i32::try_from(number).unwrap() + 1, facts(oere))
            };
            let answer = ledger.payments.correct_payment(request).await.unwrap().into_inner();
            position = answer.position.unwrap().position;
        }
        let moved = GetStatementRequest { min_position: position, ..now.clone() };
        let moved = client.get_statement(moved).await.unwrap().into_inner();
        assert_ne!(moved.payments, whole.payments);

        let token = first.next_page_token.clone();
        let mut all = vec![first];
        all.extend(pages(&mut client, GetStatementRequest { page_token: token, ..paged }).await);
        let sizes: Vec<usize> = all.iter().map(|page| page.payments.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), whole.payments.len());
        assert!(sizes[..2] == [10, 10] && *sizes.last().unwrap() <= 10, "{sizes:?}");
        assert_eq!(merged(&all), whole, "with_history: {with_history}, as of {as_of:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_of_another_statement_is_refused() {
    let stack = Stack::start(1).await.unwrap();
    let (mut ledger, cpr) = holder(&stack).await;
    let min_position = report_many(&mut ledger, &cpr, 3).await;
    let other = new_cpr();
    ledger.grant(&other).await.unwrap();
    let mut client = stack.allowances().await.unwrap();
    let request = GetStatementRequest {
        person: by_cpr(&cpr),
        min_position,
        page_size: 2,
        ..GetStatementRequest::default()
    };
    let first = client.get_statement(request.clone()).await.unwrap().into_inner();
    let request = GetStatementRequest { page_token: first.next_page_token, ..request };
    let last = client.get_statement(request.clone()).await.unwrap().into_inner();
    assert_eq!((last.payments.len(), last.next_page_token.as_str()), (1, ""));
    let of_the_past = Some(AsOf { known_at: Some(KnownAt::KnownPosition(3)), paid_through: None });
    for refused in [
        GetStatementRequest { person: by_cpr(&other), ..request.clone() },
        GetStatementRequest { year: 2022, ..request.clone() },
        GetStatementRequest { with_history: true, ..request.clone() },
        GetStatementRequest { as_of: of_the_past, ..request.clone() },
        GetStatementRequest { page_token: "e30".to_owned(), ..request.clone() },
    ] {
        let status = client.get_statement(refused.clone()).await.expect_err("another statement");
        let failure = Failure::from_status(&status).unwrap();
        assert_eq!(failure.reason, ErrorReason::InvalidField, "{refused:?}");
        assert_eq!(failure.fields[0].0, "page_token", "{refused:?}");
    }
    for page_size in [-1, 1001] {
        let refused = GetStatementRequest { page_size, ..request.clone() };
        let status = client.get_statement(refused).await.expect_err("no size");
        assert_eq!(Failure::from_status(&status).unwrap().fields[0].0, "page_size");
    }
}
