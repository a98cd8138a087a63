//! The reasons that questions are refused for.

use std::time::Duration;

use frikort_proto::v1::{
    BatchGetAllowancesRequest, GetAllowanceRequest, GetStatementRequest, ReadEventsRequest,
    read_events_response::Item,
};
use frikort_tests::{
    client::{by_cpr, grant, new_cpr},
    stack::Stack,
};
use tonic::{
    Code::{FailedPrecondition, NotFound, Unavailable},
    Request,
};

use super::status::{Refused, refused};

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_nobody_or_a_year_without_limit_are_refused() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let mut allowances = stack.allowances().await.unwrap();
    let (cpr, nobody) = (new_cpr(), new_cpr());
    ledger.grant(&cpr).await.unwrap();

    let no_card = refused(NotFound, "NO_CARD");
    let get = |cpr: &str| GetAllowanceRequest {
        person: by_cpr(cpr),
        year: 2022,
        min_position: 1,
        ..GetAllowanceRequest::default()
    };
    no_card.check("an allowance", allowances.get_allowance(get(&nobody)).await);
    let request = GetStatementRequest {
        person: by_cpr(&nobody),
        min_position: 1,
        ..GetStatementRequest::default()
    };
    no_card.check("a statement", allowances.get_statement(request).await);
    let request = ReadEventsRequest { person: by_cpr(&nobody), ..ReadEventsRequest::default() };
    no_card.check("events", ledger.audits.read_events(request).await);

    let not_set =
        Refused { metadata: &[("year", "2022")], ..refused(FailedPrecondition, "LIMIT_NOT_SET") };
    not_set.check("an allowance", allowances.get_allowance(get(&cpr)).await);
    let persons = [&nobody, &cpr].map(|cpr| by_cpr(cpr).unwrap()).to_vec();
    let batch = BatchGetAllowancesRequest {
        persons,
        year: 2022,
        min_position: 1,
        ..BatchGetAllowancesRequest::default()
    };
    not_set.check("a batch", allowances.batch_get_allowances(batch.clone()).await);
    // P9, W3: whoever in it has a card.
    let nobodys =
        BatchGetAllowancesRequest { persons: batch.persons[..1].to_vec(), ..batch.clone() };
    not_set.check("a batch of nobody", allowances.batch_get_allowances(nobodys).await);

    // With a limit, one person without a card fails nobody else's answer.
    ledger.set_limit(2022, 20_000).await.unwrap();
    let batch = BatchGetAllowancesRequest { min_position: 2, ..batch };
    let answer = allowances.batch_get_allowances(batch).await.unwrap().into_inner();
    assert_eq!(answer.results.iter().map(|result| result.index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(answer.results[0].allowance, None);
    assert_eq!(answer.results[1].allowance.as_ref().unwrap().remaining_oere, 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_not_reached_in_time_says_how_far_it_is_and_when_to_repeat() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let allowances = stack.allowances().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let get = |min_position| {
        let person = by_cpr(&cpr);
        GetAllowanceRequest { person, year: 2022, min_position, ..GetAllowanceRequest::default() }
    };
    let there = allowances.clone().get_allowance(get(2)).await.unwrap().into_inner();
    assert_eq!(there.position.unwrap().position, 2);

    fn in_two_seconds<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(2));
        request
    }
    let statement = GetStatementRequest {
        person: by_cpr(&cpr),
        min_position: 1002,
        ..GetStatementRequest::default()
    };
    let persons = vec![by_cpr(&cpr).unwrap()];
    let batch = BatchGetAllowancesRequest {
        persons,
        year: 2022,
        min_position: 1002,
        ..BatchGetAllowancesRequest::default()
    };
    let (mut one, mut two, mut three) = (allowances.clone(), allowances.clone(), allowances);
    let (allowance, statement, batch) = tokio::join!(
        one.get_allowance(in_two_seconds(get(1002))),
        two.get_statement(in_two_seconds(statement)),
        three.batch_get_allowances(in_two_seconds(batch)),
    );
    let metadata = &[("position", "2"), ("lag", "1000")];
    let behind = Refused { metadata, ..refused(Unavailable, "PROJECTION_BEHIND") };
    behind.check("an allowance", allowance);
    behind.check("a statement", statement);
    behind.check("a batch", batch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_events_are_in_the_persons_partition_and_in_no_other() {
    let stack = Stack::start(2).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = new_cpr();
    let granted = ledger.visitations.grant_card(grant(&cpr)).await.unwrap().into_inner();
    let home = granted.position.unwrap().partition;
    for (partition, expected) in [(None, 1), (Some(home), 1), (Some(1 - home), 0)] {
        let person = by_cpr(&cpr);
        let request = ReadEventsRequest { person, partition, ..ReadEventsRequest::default() };
        let mut events = ledger.audits.read_events(request).await.unwrap().into_inner();
        let (mut records, mut marks) = (0, Vec::new());
        while let Some(item) = events.message().await.unwrap() {
            match item.item.unwrap() {
                Item::Event(event) => {
                    assert_eq!(event.partition, home);
                    records += 1;
                }
                Item::CaughtUp(mark) => marks.push(mark.partition),
            }
        }
        assert_eq!(records, expected, "asked for {partition:?}, the person is in {home}");
        assert_eq!(marks, [partition.unwrap_or(home)]);
    }
}
