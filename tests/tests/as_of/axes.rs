//! Both axes over one person's few payments, each answer worked out by hand.

use frikort_proto::v1::{AsOf, GetStatementRequest, as_of::KnownAt};
use frikort_tests::client::{by_cpr, cancel, correct, date, new_cpr, paid_on, report};

use super::{at, ground, statement, through};

/// Splits by reference, and what is used of the limit of 2022.
type Told = (Vec<(String, i64, i64)>, i64);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_known_and_what_was_paid_are_two_questions() {
    let (stack, mut ledger) = ground(1).await;
    let mut allowances = stack.allowances().await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    // Kroner: A 12.000 of May, B 9.000 of March (8.000 + 1.000), C 500 of April (0 + 500).
    let mut position = 0;
    for (reference, month, oere) in [("A", 5, 1_200_000), ("B", 3, 900_000), ("C", 4, 50_000)] {
        let mut request = report(&cpr, reference, 0);
        request.facts = Some(paid_on(date(2022, month, 15), oere));
        let told = ledger.payments.report_payment(request).await.unwrap().into_inner();
        position = told.position.unwrap().position;
    }
    let reported = position;
    // A down to 11.000: 1.000 flows to B. Then B is cancelled, and C moves to 2023.
    ledger.set_limit(2023, 20_000).await.unwrap();
    let facts = paid_on(date(2022, 5, 15), 1_100_000);
    let told = ledger.payments.correct_payment(correct(&cpr, "A", 1, facts)).await.unwrap();
    let corrected = told.into_inner().position.unwrap().position;
    let told = ledger.payments.cancel_payment(cancel(&cpr, "B", 1)).await.unwrap();
    let cancelled = told.into_inner().position.unwrap().position;
    let facts = paid_on(date(2023, 4, 15), 50_000);
    let told = ledger.payments.correct_payment(correct(&cpr, "C", 1, facts)).await.unwrap();
    let moved = told.into_inner().position.unwrap().position;

    let mut told = async |as_of: AsOf| -> Told {
        // Read one's own write, where the past is not what waits for it.
        let request = GetStatementRequest { min_position: moved, ..statement(&cpr, as_of) };
        let told = allowances.get_statement(request).await.unwrap().into_inner();
        let splits = told.payments.iter().map(|payment| {
            (payment.reference.clone(), payment.exempt_oere / 100, payment.taxable_oere / 100)
        });
        let used = told.allowances.iter().find(|allowance| allowance.year == 2022);
        (splits.collect(), used.map_or(-1, |allowance| allowance.used_oere / 100))
    };
    let splits = |splits: &[(&str, i64, i64)], used| -> Told {
        let own =
            |&(reference, exempt, taxable): &(&str, _, _)| (reference.to_owned(), exempt, taxable);
        (splits.iter().map(own).collect(), used)
    };
    let both = |position, day| AsOf {
        known_at: Some(KnownAt::KnownPosition(position)),
        paid_through: Some(day),
    };
    let (march, april, may) = (date(2022, 3, 15), date(2022, 4, 30), date(2022, 5, 15));

    // What was known.
    let all = splits(&[("A", 12_000, 0), ("B", 8_000, 1_000), ("C", 0, 500)], 20_000);
    assert_eq!(told(at(reported)).await, all);
    let all = splits(&[("A", 11_000, 0), ("B", 9_000, 0), ("C", 0, 500)], 20_000);
    assert_eq!(told(at(corrected)).await, all);
    let all = splits(&[("A", 11_000, 0), ("B", 0, 0), ("C", 500, 0)], 11_500);
    assert_eq!(told(at(cancelled)).await, all);
    let all = splits(&[("A", 11_000, 0), ("B", 0, 0), ("C", 500, 0)], 11_000);
    assert_eq!(told(at(moved)).await, all);

    // What was paid, as it is known now.
    assert_eq!(told(through(march)).await, splits(&[("B", 0, 0)], 0));
    assert_eq!(told(through(may)).await, splits(&[("A", 11_000, 0), ("B", 0, 0)], 11_000));

    // Both: of what was known, only what was paid; the limit that A used is then free.
    assert_eq!(told(both(reported, march)).await, splits(&[("B", 9_000, 0)], 9_000));
    let both_known = splits(&[("B", 9_000, 0), ("C", 500, 0)], 9_500);
    assert_eq!(told(both(reported, april)).await, both_known);
    assert_eq!(told(both(corrected, april)).await, both_known);
    assert_eq!(told(both(cancelled, april)).await, splits(&[("B", 0, 0), ("C", 500, 0)], 500));
    assert_eq!(told(both(moved, april)).await, splits(&[("B", 0, 0)], 0));
    assert_eq!(told(both(reported, date(2021, 12, 31))).await, splits(&[], -1));

    // Months and hours follow from the same payments.
    let request = GetStatementRequest {
        person: by_cpr(&cpr),
        as_of: Some(both(reported, april)),
        ..GetStatementRequest::default()
    };
    let told = allowances.get_statement(request).await.unwrap().into_inner();
    let months: Vec<_> = told.months.iter().map(|m| (m.month, m.exempt_oere / 100)).collect();
    assert_eq!(months, [(3, 9_000), (4, 500)]);
    let hours = told.hours.unwrap();
    assert_eq!(hours.payments_without_hours, 2);
    assert_eq!(hours.period.unwrap().last_day, Some(april));
}
