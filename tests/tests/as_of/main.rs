//! Questions about the past, on both axes: each of them alone and both together, around
//! corrections, cancellations, payments that move between years, and limits that change.
//!
//! What a plain question was answered then is what a question as of then is answered now; and
//! what no plain question answers is held against sums that the tests make themselves.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod axes;
mod history;
mod lived;
mod refusals;
mod then;

use frikort_proto::{
    Date, Timestamp,
    v1::{AsOf, GetAllowanceRequest, GetStatementRequest, as_of::KnownAt},
};
use frikort_tests::{
    client::{Ledger, by_cpr},
    stack::Stack,
};

/// As of a position.
fn at(position: i64) -> AsOf {
    AsOf { known_at: Some(KnownAt::KnownPosition(position)), paid_through: None }
}

/// As of an instant.
fn on(time: Timestamp) -> AsOf {
    AsOf { known_at: Some(KnownAt::KnownTime(time)), paid_through: None }
}

/// Only payments up to a day.
fn through(day: Date) -> AsOf {
    AsOf { known_at: None, paid_through: Some(day) }
}

fn allowance(cpr: &str, year: i32, as_of: AsOf) -> GetAllowanceRequest {
    GetAllowanceRequest { person: by_cpr(cpr), year, min_position: 0, as_of: Some(as_of) }
}

fn statement(cpr: &str, as_of: AsOf) -> GetStatementRequest {
    let person = by_cpr(cpr);
    GetStatementRequest { person, as_of: Some(as_of), ..GetStatementRequest::default() }
}

/// A stack with the limits of 2022 (20.000 kr.) and a client of its ledger.
async fn ground(partitions: i32) -> (Stack, Ledger) {
    let stack = Stack::start(partitions).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    (stack, ledger)
}
