//! A position that a client goes on from names a state of one history: where that is not this one, it
//! is refused with a reason of its own, whether the head is before it or beyond it.

use std::time::Duration;

use frikort_proto::v1::{
    GetAllowanceRequest, GetStatementRequest, GetStatementResponse, LedgerPosition,
    ListPaymentsRequest, ReadEventsRequest, WatchAllowancesRequest,
};
use frikort_tests::{
    client::{CVR, by_cpr},
    history::{Caller, cpr_of, reason_of, settled},
};
use tokio::time::timeout;
use tonic::{Code, Request, Status};

use crate::{
    ground::{Ground, PERSONS, YEAR},
    variants::{NOTHING, write_others},
};

/// How long a stream may take for its first message.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What clients have from the history before.
struct Kept {
    /// As of which positions a list was, and the token of its second page.
    listed: (Vec<LedgerPosition>, String),
    /// The token of a statement's second page.
    statement: String,
    /// The last position of a payment in partition 0.
    position: LedgerPosition,
}

fn listing(request: ListPaymentsRequest) -> ListPaymentsRequest {
    ListPaymentsRequest { employer_cvr: CVR.to_owned(), page_size: 2, ..request }
}

fn statement_of(page_token: String) -> GetStatementRequest {
    let person = by_cpr(&cpr_of(PERSONS[0]));
    GetStatementRequest {
        person,
        year: YEAR,
        page_size: 1,
        page_token,
        ..GetStatementRequest::default()
    }
}

async fn statement(caller: &Caller, page_token: String) -> Result<GetStatementResponse, Status> {
    let request = statement_of(page_token);
    Ok(caller.allowances().get_statement(request).await?.into_inner())
}

async fn keep(ground: &Ground) -> Kept {
    let caller = &ground.callers[0];
    let request = listing(ListPaymentsRequest::default());
    let listed = settled(async || caller.list(request.clone()).await).await.unwrap();
    let told = settled(async || statement(caller, String::new()).await).await.unwrap();
    let place = listed.positions.iter().find(|place| place.partition == 0);
    assert!(!listed.next_page_token.is_empty() && !told.next_page_token.is_empty());
    Kept {
        position: *place.unwrap(),
        listed: (listed.positions.clone(), listed.next_page_token),
        statement: told.next_page_token,
    }
}

/// What each projector answers to whatever goes on from the history before, unless it refuses.
async fn not_refused(ground: &Ground, kept: &Kept) -> Vec<String> {
    let mut found = Vec::new();
    for caller in &ground.callers[..2] {
        let changed = ListPaymentsRequest {
            changed_after: kept.listed.0.clone(),
            ..ListPaymentsRequest::default()
        };
        let next = ListPaymentsRequest { page_token: kept.listed.1.clone(), ..Default::default() };
        for (what, request) in [("changed_after", changed), ("page_token", next)] {
            let request = listing(request);
            let refused = settled(async || caller.list(request.clone()).await).await;
            found.extend(otherwise(what, refused));
        }
        let refused = settled(async || statement(caller, kept.statement.clone()).await).await;
        found.extend(otherwise("page_token of a statement", refused));
        let refused = settled(async || {
            let after = vec![kept.position];
            let request = WatchAllowancesRequest { after, ..WatchAllowancesRequest::default() };
            let mut stream = caller.allowances().watch_allowances(request).await?.into_inner();
            let first = timeout(FIRST_MESSAGE_TIMEOUT, stream.message()).await;
            first.unwrap_or(Ok(None))
        });
        found.extend(otherwise("after", refused.await));
    }
    found
}

/// What was answered instead of the refusal, if anything was.
fn otherwise<T: std::fmt::Debug>(what: &str, answer: Result<T, Status>) -> Option<String> {
    match answer {
        Err(status)
            if reason_of(&status) == "RESUME_POSITION_LOST"
                && status.code() == Code::FailedPrecondition =>
        {
            None
        }
        Err(status) => Some(format!("{what}: {} {}", reason_of(&status), status.message())),
        Ok(answer) => Some(format!("{what}: {answer:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_head_it_is_refused() {
    let mut ground = Ground::start(true).await;
    ground.until_answered_often().await;
    let kept = keep(&ground).await;
    ground.end_load().await;
    ground.go_back(NOTHING).await;
    let mut found = not_refused(&ground, &kept).await;

    // A reader of events goes on from a number alone, which is not in this history either.
    let refused = settled(async || {
        let request = ReadEventsRequest {
            partition: Some(0),
            from_position: kept.position.position + 1,
            follow: true,
            ..ReadEventsRequest::default()
        };
        let mut audits = ground.callers[0].audits();
        let mut stream = audits.read_events(request).await?.into_inner();
        let first = timeout(FIRST_MESSAGE_TIMEOUT, stream.message()).await;
        first.unwrap_or(Ok(None))
    });
    found.extend(otherwise("from_position", refused.await));
    assert!(found.is_empty(), "not refused: {found:#?}");

    // `min_position` is waited for, and ends in a clear answer.
    let waited = settled(async || {
        let mut request = Request::new(GetAllowanceRequest {
            person: by_cpr(&cpr_of(PERSONS[0])),
            year: YEAR,
            min_position: kept.position.position + 10_000,
            ..GetAllowanceRequest::default()
        });
        request.set_timeout(Duration::from_secs(2));
        match ground.callers[0].allowances().get_allowance(request).await {
            Err(status) if reason_of(&status) == "PROJECTION_BEHIND" => Ok(()),
            Err(status) => Err(status),
            Ok(answer) => panic!("{answer:?}"),
        }
    });
    waited.await.unwrap();
    ground.failing = false;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_event_there_it_is_refused() {
    let mut ground = Ground::start(true).await;
    ground.until_answered_often().await;
    let kept = keep(&ground).await;
    ground.end_load().await;
    let meanwhile = async |ground: &mut Ground| {
        let heads = ground.heads_before().await;
        write_others(ground, &heads).await;
    };
    ground.go_back(Some(meanwhile)).await;
    let found = not_refused(&ground, &kept).await;
    assert!(found.is_empty(), "not refused: {found:#?}");
    ground.failing = false;
}
