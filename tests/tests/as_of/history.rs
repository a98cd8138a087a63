//! What happened to a payment, as a chain.

use frikort_proto::v1::{AsOf, GetStatementRequest, PaymentChange, PaymentChangeKind as Kind};
use frikort_tests::{
    client::{by_cpr, cancel, correct, date, new_cpr, paid_on, report},
    files::{frikort, run},
};

use super::{at, ground, statement};

/// Kind, revision, amount, exempt and taxable part in kroner.
fn link(change: &PaymentChange) -> (Kind, i32, i64, i64, i64) {
    let amount = change.facts.as_ref().unwrap().amount_oere;
    let (exempt, taxable) = (change.exempt_oere / 100, change.taxable_oere / 100);
    (change.kind(), change.revision, amount / 100, exempt, taxable)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_tells_what_happened_to_it() {
    let (stack, mut ledger) = ground(1).await;
    ledger.set_limit(2023, 20_000).await.unwrap();
    let mut allowances = stack.allowances().await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let mut places = Vec::new();
    for (reference, oere) in [("A", 1_200_000), ("B", 900_000)] {
        let told = ledger.payments.report_payment(report(&cpr, reference, oere)).await.unwrap();
        places.push(told.into_inner().position.unwrap());
    }
    // 1.000 flows to B; A goes to 2023, and 11.000 more is free; then A is cancelled there.
    let facts = paid_on(date(2022, 3, 1), 1_100_000);
    let told = ledger.payments.correct_payment(correct(&cpr, "A", 1, facts)).await.unwrap();
    places.push(told.into_inner().position.unwrap());
    let facts = paid_on(date(2023, 3, 1), 2_100_000);
    let told = ledger.payments.correct_payment(correct(&cpr, "A", 2, facts)).await.unwrap();
    places.push(told.into_inner().position.unwrap());
    let told = ledger.payments.cancel_payment(cancel(&cpr, "A", 3)).await.unwrap();
    places.push(told.into_inner().position.unwrap());

    let asked = |as_of: Option<AsOf>| GetStatementRequest {
        person: by_cpr(&cpr),
        min_position: places[4].position,
        as_of,
        with_history: true,
        ..GetStatementRequest::default()
    };
    let told = allowances.get_statement(asked(None)).await.unwrap().into_inner();
    let chains: Vec<Vec<_>> =
        told.payments.iter().map(|payment| payment.history.iter().map(link).collect()).collect();
    let a = [
        (Kind::Reported, 1, 12_000, 12_000, 0),
        (Kind::Corrected, 2, 11_000, 11_000, 0),
        (Kind::Corrected, 3, 21_000, 20_000, 1_000),
        (Kind::Cancelled, 4, 21_000, 0, 0),
    ];
    let b = [(Kind::Reported, 1, 9_000, 8_000, 1_000), (Kind::SplitChanged, 1, 9_000, 9_000, 0)];
    assert_eq!(chains, [a.to_vec(), b.to_vec()]);
    let paid: Vec<_> = told.payments[0]
        .history
        .iter()
        .map(|change| change.facts.as_ref().unwrap().payment_date.unwrap().year)
        .collect();
    assert_eq!(paid, [2022, 2022, 2023, 2023]);
    // Where and when: of the events that did it.
    let at_of = |index: usize| {
        let changes = told.payments[index].history.iter();
        changes.map(|change| (change.position, change.recorded_time)).collect::<Vec<_>>()
    };
    let place = |index: usize| (places[index].position, places[index].recorded_time);
    assert_eq!(at_of(0), [0, 2, 3, 4].map(place));
    assert_eq!(at_of(1), [1, 2].map(place));

    // As of then, the chain ends then; without being asked for, there is none.
    let told = allowances.get_statement(asked(Some(at(places[2].position)))).await.unwrap();
    let lengths: Vec<_> = told.into_inner().payments.iter().map(|p| p.history.len()).collect();
    assert_eq!(lengths, [2, 2]);
    let plain = statement(&cpr, at(places[4].position));
    let told = allowances.get_statement(plain).await.unwrap().into_inner();
    assert!(told.payments.iter().all(|payment| payment.history.is_empty()));

    // But for the chain, the answer with it is the answer without it.
    let mut with = allowances.get_statement(asked(None)).await.unwrap().into_inner();
    let without = GetStatementRequest { with_history: false, ..asked(None) };
    let without = allowances.get_statement(without).await.unwrap().into_inner();
    with.payments.iter_mut().for_each(|payment| payment.history.clear());
    assert_eq!(with, without);

    // The command shows it.
    let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
    command.args(["statement", "--history", "--cpr", &cpr, "--known-at"]);
    let shown = run(command.arg(places[2].position.to_string())).unwrap();
    assert_eq!(shown.matches("split changed").count(), 1, "{shown}");
    assert!(!shown.contains("cancelled"), "{shown}");
    let mut command = frikort(&stack.ledger, &stack.projector).unwrap();
    command.args(["allowance", "--csv", "--year", "2022", "--cpr", &cpr]);
    let shown = run(command.args(["--paid-through", "2022-02-28"])).unwrap();
    let row = format!("{cpr},2022,20000.00,0.00,0.00,20000.00,0.00,0");
    assert_eq!(shown.lines().nth(1), Some(row.as_str()));
}
