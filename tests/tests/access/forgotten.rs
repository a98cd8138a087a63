//! A watcher of somebody who is forgotten: from then on that is nobody, as whoever was never known, and
//! the others whom it watches are told of as before.

use std::time::Duration;

use frikort_proto::v1::{WatchAllowancesRequest, watch_allowances_response::Item};
use frikort_tests::client::{Ledger, allowances, by_cpr, new_cpr, report};
use futures::StreamExt;
use tokio::time::timeout;
use tonic::{Request, Streaming};

use crate::{
    Secured,
    forgetting::{asking, channel, confirming, registers, secured_with},
    purpose,
};

/// How long a change may take to be told.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose change comes next, and whether by a limit of so many kroner; marks and limits are passed over.
async fn next(
    watched: &mut Streaming<frikort_proto::v1::WatchAllowancesResponse>,
) -> (String, i64) {
    let next = async {
        loop {
            if let Some(Item::Change(change)) = watched.next().await.unwrap().unwrap().item {
                let allowance = &change.allowances[0];
                return (allowance.person_id.clone(), allowance.limit_oere / 100);
            }
        }
    };
    timeout(PATIENCE, next).await.expect("nothing is told")
}

async fn forget(secured: &Secured, cpr: &str) {
    let (mut one, mut other) =
        (registers(secured, "operator").await, registers(secured, "watch").await);
    let asked = one.request_forgetting(asking(by_cpr(cpr), "SAG-1")).await.unwrap();
    let request = confirming(&asked.into_inner().forgetting.unwrap());
    other.confirm_forgetting(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn w3_a_watcher_is_told_no_more_of_somebody_who_is_forgotten() {
    let secured = secured_with(|_| Vec::new()).await;
    let mut operator: Ledger = secured.as_caller("operator").await;
    operator.set_limit(2022, 100).await.unwrap();
    let cprs = [new_cpr(), new_cpr()];
    let mut ids = Vec::new();
    for cpr in &cprs {
        ids.push(operator.grant(cpr).await.unwrap());
        // Above the limit, so that a higher one changes their allowance.
        operator.payments.report_payment(report(cpr, "one", 50_000)).await.unwrap();
    }
    let tax = channel(&secured, &secured.projector, "tax").await;
    let persons = cprs.iter().filter_map(|cpr| by_cpr(cpr)).collect();
    let request = WatchAllowancesRequest { persons, ..WatchAllowancesRequest::default() };
    let watched = allowances(tax).watch_allowances(purpose(Request::new(request), "SKAT")).await;
    let mut watched = watched.unwrap().into_inner();
    for id in &ids {
        assert_eq!(next(&mut watched).await, (id.clone(), 100));
    }
    operator.set_limit(2022, 200).await.unwrap();
    let mut both = [next(&mut watched).await, next(&mut watched).await];
    let mut expected = [(ids[0].clone(), 200), (ids[1].clone(), 200)];
    both.sort();
    expected.sort();
    assert_eq!(both, expected);

    forget(&secured, &cprs[0]).await;
    operator.set_limit(2022, 300).await.unwrap();
    assert_eq!(next(&mut watched).await, (ids[1].clone(), 300));
    // The history goes on about both.
    let pool = secured.database.pool().await.unwrap();
    let recalculated = "SELECT count(DISTINCT person_id) FROM ledger.event
                        WHERE record::json ->> 'type' = 'allowance_recalculated'
                          AND (record::json #>> '{outcome,year,limit}')::numeric = 300";
    let until_both = async {
        loop {
            let count: i64 = sqlx::query_scalar(recalculated).fetch_one(&pool).await.unwrap();
            if count == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, until_both).await.expect("it was to go on");
    // What comes last comes after whatever there was to tell.
    operator.payments.report_payment(report(&cprs[1], "two", 1)).await.unwrap();
    assert_eq!(next(&mut watched).await, (ids[1].clone(), 300));
}
