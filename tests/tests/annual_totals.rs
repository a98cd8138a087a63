//! OverviewService.ListAnnualTotals: every total of a partition, of one snapshot, in pages.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use frikort_proto::{
    error::Failure,
    v1::{
        AnnualTotal, ErrorReason, LedgerPosition, ListAnnualTotalsRequest,
        overview_service_client::OverviewServiceClient,
    },
};
use frikort_tests::{
    client::{cancel, new_cpr, report},
    files::{import, load_limits},
    stack::Stack,
};
use tonic::{Request, Status, transport::Channel};

type Overview = OverviewServiceClient<Channel>;

async fn overview(stack: &Stack) -> Overview {
    OverviewServiceClient::new(stack.projector.channel().await.unwrap())
}

fn of(partition: i32, min_position: i64) -> ListAnnualTotalsRequest {
    ListAnnualTotalsRequest { partition, min_position }
}

/// A whole listing: as of where, the totals, and how many messages they came in.
async fn list(
    overview: &mut Overview,
    request: ListAnnualTotalsRequest,
) -> Result<(LedgerPosition, Vec<AnnualTotal>, usize), Status> {
    let mut stream = overview.list_annual_totals(request).await?.into_inner();
    let (mut at, mut totals, mut messages) = (None, Vec::new(), 0);
    while let Some(message) = stream.message().await? {
        assert_eq!(at.get_or_insert_with(|| message.position.unwrap()), &message.position.unwrap());
        assert!(message.totals.len() <= 1000);
        messages += 1;
        if message.totals.is_empty() {
            assert!(stream.message().await?.is_none(), "something after the last message");
            return Ok((at.unwrap(), totals, messages));
        }
        totals.extend(message.totals);
    }
    panic!("a listing without its last message");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_total_is_listed_once_as_it_stands_in_the_tables() {
    let stack = Stack::start(1).await.unwrap();
    let dir = stack.dir.path();
    load_limits(&stack.ledger, &stack.projector).unwrap();
    import(&stack.ledger, &stack.projector, dir).unwrap();
    let pool = stack.database.pool().await.unwrap();
    let mut overview = overview(&stack).await;
    let head: i64 = sqlx::query_scalar("SELECT position FROM ledger.partition_head")
        .fetch_one(&pool)
        .await
        .unwrap();
    let (at, totals, messages) = list(&mut overview, of(0, head)).await.unwrap();
    assert_eq!((at.partition, at.position, messages), (0, head, 3));
    let listed: Vec<String> = totals
        .iter()
        .map(|t| {
            let (person, year, payments) = (&t.person_id, t.year, t.payments);
            format!("{person},{year},{},{payments},{}", t.total_oere, t.exempt_oere)
        })
        .collect();
    // From the records alone: what was last stated of each payment, and its last exempt part.
    let expected: Vec<String> = sqlx::query_scalar(
        "WITH stated AS (
             SELECT person_id, position, r #>> '{data,employer_cvr}' AS cvr,
                    r #>> '{data,reference}' AS reference, (r #>> '{outcome,year,year}')::int AS year,
                    CASE WHEN r ->> 'type' = 'payment_cancelled' THEN NULL
                         ELSE (r #>> '{data,facts,amount}')::numeric END AS amount,
                    (r #>> '{outcome,exempt}')::numeric AS exempt
             FROM (SELECT person_id, position, record::jsonb AS r FROM ledger.event) AS e
             WHERE r ->> 'type' LIKE 'payment_%'
         ), split AS (
             SELECT person_id, position, cvr, reference, exempt FROM stated
             UNION ALL
             SELECT person_id, position, s ->> 'employer_cvr', s ->> 'reference',
                    (s ->> 'exempt')::numeric
             FROM ledger.event, jsonb_array_elements(record::jsonb #> '{outcome,changed}') AS s
         ), last_split AS (
             SELECT DISTINCT ON (person_id, cvr, reference) person_id, cvr, reference,
                    exempt AS last_exempt
             FROM split ORDER BY person_id, cvr, reference, position DESC
         ), payment AS (
             SELECT DISTINCT ON (person_id, cvr, reference) *
             FROM stated JOIN last_split USING (person_id, cvr, reference)
             ORDER BY person_id, cvr, reference, position DESC
         )
         SELECT format('%s,%s,%s,%s,%s', y.person_id, y.year,
                       (coalesce(sum(amount), 0) * 100)::bigint, count(amount),
                       (coalesce(sum(last_exempt) FILTER (WHERE amount IS NOT NULL), 0) * 100)::bigint)
         FROM (SELECT DISTINCT person_id, year FROM stated) AS y
         LEFT JOIN payment USING (person_id, year)
         GROUP BY y.person_id, y.year ORDER BY y.person_id, y.year",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(expected.len() > 1000, "{}", expected.len());
    assert_eq!(listed.len(), expected.len());
    for (listed, expected) in listed.iter().zip(&expected) {
        assert_eq!(listed, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_contains_what_its_caller_has_written_and_is_of_one_partition() {
    let stack = Stack::start(2).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let mut overview = overview(&stack).await;
    let mut paid = [0, 0];
    for number in 0..20_i64 {
        let cpr = new_cpr();
        ledger.grant(&cpr).await.unwrap();
        for reference in ["a", "b"] {
            ledger.payments.report_payment(report(&cpr, reference, 1_500_000)).await.unwrap();
        }
        let cancelled = cancel(&cpr, "a", 1);
        let answer = ledger.payments.cancel_payment(cancelled).await.unwrap().into_inner();
        let (at, person) = (answer.position.unwrap(), answer.payment.unwrap().person_id);
        paid[usize::try_from(at.partition).unwrap()] += 1;
        let request = of(at.partition, at.position);
        let (as_of, totals, _) = list(&mut overview, request).await.unwrap();
        assert!(as_of.position >= at.position && as_of.partition == at.partition, "{number}");
        let total = totals.iter().find(|total| total.person_id == person).unwrap();
        // What is left was the second of two: 5.000 kr. of it exempt, then all of it (A5).
        assert_eq!(
            (total.total_oere, total.payments, total.exempt_oere),
            (1_500_000, 1, 1_500_000)
        );
        assert_eq!(totals.len(), paid[usize::try_from(at.partition).unwrap()]);
    }
    assert!(paid.iter().all(|persons| *persons > 0), "{paid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listed_is_refused() {
    let stack = Stack::start(1).await.unwrap();
    let mut overview = overview(&stack).await;
    let refused = list(&mut overview, of(1, -1)).await.unwrap_err();
    let failure = Failure::from_status(&refused).unwrap();
    assert_eq!(failure.reason, ErrorReason::InvalidField);
    let fields: Vec<&str> = failure.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(fields, ["partition", "min_position"]);
    let mut request = Request::new(of(0, 1_000));
    request.set_timeout(Duration::from_millis(300));
    let behind = overview.list_annual_totals(request).await.unwrap_err();
    assert_eq!(Failure::from_status(&behind).unwrap().reason, ErrorReason::ProjectionBehind);
    // Nothing is a listing too.
    let (at, totals, messages) = list(&mut overview, of(0, 0)).await.unwrap();
    assert_eq!((at.position, totals.len(), messages), (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_may_take_its_time() {
    let stack = Stack::start(1).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    // More than lies on the way between the two: the listing waits for its caller.
    let many = "INSERT INTO projection.annual_total (partition, generation, person_id, year, total,
                    applied_limit, payments, position)
                SELECT 0, 1, gen_random_uuid(), 2022, 1, 1, 1, 1 FROM generate_series(1, 100000)";
    sqlx::query(many).execute(&pool).await.unwrap();
    let mut overview = overview(&stack).await;
    let mut stream = overview.list_annual_totals(of(0, 0)).await.unwrap().into_inner();
    let mut listed = stream.message().await.unwrap().unwrap().totals.len();
    // Longer than any other transaction of a service may wait for its client.
    tokio::time::sleep(Duration::from_secs(4)).await;
    while let Some(message) = stream.message().await.unwrap() {
        listed += message.totals.len();
    }
    assert_eq!(listed, 100_000);
}
