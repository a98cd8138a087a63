//! What cannot be answered as of then.

use std::time::Duration;

use frikort_proto::{
    error::Failure,
    v1::{
        BatchGetAllowancesRequest, ErrorReason, GetAllowanceRequest, GetStatementRequest, PersonRef,
    },
};
use frikort_tests::client::{by_cpr, new_cpr, report};
use tonic::{Request, Status};

use super::{allowance, at, ground, on, statement, through};

fn reason(status: &Status) -> ErrorReason {
    Failure::from_status(status).unwrap().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_without_a_card_then_is_nobody_then() {
    let (stack, mut ledger) = ground(1).await;
    let mut allowances = stack.allowances().await.unwrap();
    let (cpr, other) = (new_cpr(), new_cpr());
    ledger.grant(&other).await.unwrap();
    let granted = ledger.visitations.grant_card(frikort_tests::client::grant(&cpr)).await.unwrap();
    let granted = granted.into_inner().position.unwrap();
    let told = allowances.get_allowance(allowance(&cpr, 2022, at(granted.position))).await;
    let told = told.unwrap().into_inner();
    assert_eq!(told.position, Some(granted));
    assert_eq!(told.allowance.unwrap().remaining_oere, 2_000_000);

    let mut before = granted.recorded_time.unwrap();
    before.nanos -= 1_000;
    if before.nanos < 0 {
        before = frikort_proto::Timestamp { seconds: before.seconds - 1, nanos: 999_999_000 };
    }
    for as_of in [at(granted.position - 1), at(1), at(0), on(before)] {
        // Of somebody who is in nobody's register, the same to the letter (W3).
        let nobody = allowances.get_allowance(allowance(&new_cpr(), 2022, as_of)).await;
        let nobody = nobody.unwrap_err();
        let told = allowances.get_allowance(allowance(&cpr, 2022, as_of)).await.unwrap_err();
        assert_eq!(reason(&told), ErrorReason::NoCard);
        assert_eq!((told.message(), told.details()), (nobody.message(), nobody.details()));
        let told = allowances.get_statement(statement(&cpr, as_of)).await.unwrap_err();
        assert_eq!((told.message(), told.details()), (nobody.message(), nobody.details()));
    }
    let persons = [&cpr, &other, &new_cpr()].into_iter().filter_map(|cpr| by_cpr(cpr)).collect();
    let batch = BatchGetAllowancesRequest {
        persons,
        year: 2022,
        min_position: 0,
        as_of: Some(at(granted.position - 1)),
    };
    let told = allowances.batch_get_allowances(batch).await.unwrap().into_inner();
    let known: Vec<_> = told.results.iter().map(|result| result.allowance.is_some()).collect();
    assert_eq!(known, [false, true, false]);
    assert_eq!(told.positions[0].position, granted.position - 1);
    // A Frikort-ID that is another one.
    let mut wrong = allowance(&cpr, 2022, at(granted.position));
    wrong.person = Some(PersonRef { frikort_id: "54321".to_owned(), ..by_cpr(&cpr).unwrap() });
    let told = allowances.get_allowance(wrong).await.unwrap_err();
    assert_eq!(reason(&told), ErrorReason::NoCard);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_was_not_known_then_is_not_set() {
    let (stack, mut ledger) = ground(1).await;
    let mut allowances = stack.allowances().await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    ledger.set_limit(2023, 20_000).await.unwrap();
    // The limit of 2022, the grant, the limit of 2023.
    let told = allowances.get_allowance(allowance(&cpr, 2023, at(3))).await.unwrap().into_inner();
    assert_eq!(told.allowance.unwrap().limit_oere, 2_000_000);
    let told = allowances.get_allowance(allowance(&cpr, 2023, at(2))).await.unwrap_err();
    assert_eq!(reason(&told), ErrorReason::LimitNotSet);
    // The limit that opens a year counts before the year begins.
    let early = through(frikort_tests::client::date(2022, 6, 30));
    let told = allowances.get_allowance(allowance(&cpr, 2023, early)).await.unwrap().into_inner();
    assert_eq!(told.allowance.unwrap().limit_oere, 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_not_there_yet_is_waited_for() {
    let (stack, mut ledger) = ground(1).await;
    let allowances = stack.allowances().await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    fn soon<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(1));
        request
    }
    let batch = |position| BatchGetAllowancesRequest {
        persons: vec![by_cpr(&cpr).unwrap()],
        year: 2022,
        min_position: 0,
        as_of: Some(at(position)),
    };
    let (mut one, mut two, mut three) =
        (allowances.clone(), allowances.clone(), allowances.clone());
    let (get, state, all) = tokio::join!(
        one.get_allowance(soon(allowance(&cpr, 2022, at(1002)))),
        two.get_statement(soon(statement(&cpr, at(1002)))),
        three.batch_get_allowances(soon(batch(1002))),
    );
    for status in [get.unwrap_err(), state.unwrap_err(), all.unwrap_err()] {
        let failure = Failure::from_status(&status).unwrap();
        assert_eq!(failure.reason, ErrorReason::ProjectionBehind);
        assert_eq!(failure.metadata["lag"], "1000");
    }
    // Asked before it is there, answered when it is.
    let waiting = {
        let (mut allowances, cpr) = (allowances, cpr.clone());
        tokio::spawn(async move { allowances.get_allowance(allowance(&cpr, 2022, at(3))).await })
    };
    ledger.payments.report_payment(report(&cpr, "one", 50_000)).await.unwrap();
    ledger.payments.report_payment(report(&cpr, "two", 50_000)).await.unwrap();
    let told = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(told.position.unwrap().position, 3);
    assert_eq!(told.allowance.unwrap().used_oere, 50_000);
}

/// In a batch of one, with several partitions, an answer that names another number of positions
/// would tell who is in the register.
#[tokio::test(flavor = "multi_thread")]
async fn w3_a_batch_of_one_says_as_much_about_nobody_as_about_a_holder() {
    let (stack, mut ledger) = ground(2).await;
    let mut allowances = stack.allowances().await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let mut min_position = 1;
    for as_of in [None, Some(at(1))] {
        let mut positions = Vec::new();
        for person in [by_cpr(&cpr), by_cpr(&new_cpr())] {
            let persons = person.into_iter().collect();
            let batch = BatchGetAllowancesRequest { persons, year: 2022, min_position, as_of };
            let told = allowances.batch_get_allowances(batch).await.unwrap().into_inner();
            positions.push(told.positions.iter().map(|at| at.partition).collect::<Vec<_>>());
        }
        assert_eq!(positions, [[0, 1], [0, 1]]);
        min_position = 0;
    }
    // Sound questions are sound as of nothing, too.
    let request = GetStatementRequest {
        person: by_cpr(&cpr),
        as_of: Some(frikort_proto::v1::AsOf::default()),
        ..GetStatementRequest::default()
    };
    let now = GetStatementRequest { as_of: None, ..request.clone() };
    let told = allowances.get_statement(request).await.unwrap().into_inner();
    assert_eq!(told, allowances.get_statement(now).await.unwrap().into_inner());
    let nobody = GetAllowanceRequest { person: by_cpr(&new_cpr()), ..allowance(&cpr, 2022, at(0)) };
    let told = allowances.get_allowance(nobody).await.unwrap_err();
    assert_eq!(reason(&told), ErrorReason::NoCard);
}
