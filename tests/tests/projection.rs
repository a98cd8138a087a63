//! The projector: reads one's own write, is killed anywhere, runs twice, and never counts double.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use frikort_proto::{
    error::Failure,
    v1::{
        BatchGetAllowancesRequest, CancelPaymentRequest, CancelReason, CorrectPaymentRequest,
        ErrorReason, GetAllowanceRequest, GetStatementRequest,
    },
};
use frikort_tests::{
    audit::assert_projection_is_the_fold,
    client::{CVR, Ledger, allowances, by_cpr, date, facts, new_cpr, report},
    database::Database,
    process::{Kind, Service, signal, stop_in_transaction},
};
use tokio::time::timeout;
use tonic::Request;

async fn report_some(ledger: &mut Ledger, cpr: &str, from: i64, count: i64) -> i64 {
    let mut position = 0;
    for number in from..from + count {
        let request = report(cpr, &format!("p-{number}"), 10_000);
        let answer = ledger.payments.report_payment(request).await.unwrap().into_inner();
        position = answer.position.unwrap().position;
    }
    position
}

fn asking(cpr: &str, min_position: i64) -> GetAllowanceRequest {
    GetAllowanceRequest {
        person: by_cpr(cpr),
        year: 2022,
        min_position,
        ..GetAllowanceRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_the_position_of_a_write_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let ledger = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(ledger.channel().await.unwrap());
    let mut allowances = allowances(projector.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    // 250 payments of 100 kr.: the limit of 20.000 kr. is crossed on the way.
    for number in 0..250_i64 {
        let position = report_some(&mut ledger, &cpr, number, 1).await;
        let answer = allowances.get_allowance(asking(&cpr, position)).await.unwrap().into_inner();
        let allowance = answer.allowance.unwrap();
        let total = (number + 1) * 10_000;
        assert_eq!(allowance.total_oere, total);
        assert_eq!(allowance.used_oere, total.min(2_000_000));
        assert_eq!(allowance.remaining_oere, 2_000_000 - total.min(2_000_000));
        assert_eq!(allowance.taxable_oere, total - total.min(2_000_000));
        assert_eq!(i64::from(allowance.payment_count), number + 1);
        assert!(answer.position.unwrap().position >= position);
    }
    // A position that is not there yet: told when the caller's deadline comes near, with the lag.
    let mut request = Request::new(asking(&cpr, 1_000_000));
    request.set_timeout(Duration::from_millis(300));
    let failure = Failure::from_status(&allowances.get_allowance(request).await.unwrap_err());
    let failure = failure.unwrap();
    assert_eq!(failure.reason, ErrorReason::ProjectionBehind);
    assert_eq!(failure.metadata["position"], "252");
    assert_eq!(failure.metadata["lag"], "999748");
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_and_cancellations_move_splits_in_statement_and_totals() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let ledger = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let projector = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(ledger.channel().await.unwrap());
    let mut allowances = allowances(projector.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    // A5: A 12.000, B 9.000 (8.000 + 1.000); A corrected to 11.000 → B 9.000 + 0.
    for (reference, oere) in [("A", 1_200_000), ("B", 900_000), ("C", 100)] {
        ledger.payments.report_payment(report(&cpr, reference, oere)).await.unwrap();
    }
    let correction = CorrectPaymentRequest {
        person: by_cpr(&cpr),
        employer_cvr: CVR.to_owned(),
        reference: "A".to_owned(),
        expected_revision: 1,
        facts: Some(facts(1_100_000)),
        validate_only: false,
    };
    ledger.payments.correct_payment(correction).await.unwrap();
    let cancellation = CancelPaymentRequest {
        person: by_cpr(&cpr),
        employer_cvr: CVR.to_owned(),
        reference: "C".to_owned(),
        expected_revision: 1,
        reason: CancelReason::Duplicate.into(),
        validate_only: false,
    };
    let answer = ledger.payments.cancel_payment(cancellation).await.unwrap().into_inner();
    let min_position = answer.position.unwrap().position;
    let request = GetStatementRequest {
        person: by_cpr(&cpr),
        min_position,
        hours_through: Some(date(2023, 2, 27)),
        ..GetStatementRequest::default()
    };
    let statement = allowances.get_statement(request).await.unwrap().into_inner();
    let splits: Vec<_> = statement
        .payments
        .iter()
        .map(|p| (p.reference.as_str(), p.exempt_oere, p.taxable_oere, p.revision, p.cancelled))
        .collect();
    assert_eq!(
        splits,
        [("A", 1_100_000, 0, 2, false), ("B", 900_000, 0, 1, false), ("C", 0, 0, 2, true)]
    );
    assert_eq!(statement.allowances[0].total_oere, 2_000_000);
    assert_eq!(statement.allowances[0].payment_count, 2);
    // March, by the day of payment; nothing said of hours, by any of the two that are left.
    let month = &statement.months[..];
    assert_eq!((month[0].year, month[0].month, month[0].payment_count), (2022, 3, 2));
    assert_eq!((month[0].total_oere, month[0].exempt_oere, month.len()), (2_000_000, 2_000_000, 1));
    let hours = statement.hours.unwrap();
    assert_eq!(hours.period.unwrap().first_day, Some(date(2022, 2, 28)));
    assert_eq!((hours.hours_hundredths, hours.payments_without_hours), (0, 2));
    assert_projection_is_the_fold(&database.pool().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_projectors_works_and_the_other_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(2).await.unwrap();
    let ledger = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let mut one = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let two = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(ledger.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let persons: Vec<String> = (0..8).map(|_| new_cpr()).collect();
    for cpr in &persons {
        ledger.grant(cpr).await.unwrap();
    }
    let mut both =
        [allowances(one.channel().await.unwrap()), allowances(two.channel().await.unwrap())];
    for round in 0..5_i64 {
        for cpr in &persons {
            let position = report_some(&mut ledger, cpr, round, 1).await;
            for projector in &mut both {
                let answer = projector.get_allowance(asking(cpr, position)).await.unwrap();
                let total = answer.into_inner().allowance.unwrap().total_oere;
                assert_eq!(total, (round + 1) * 10_000);
            }
        }
    }
    one.kill().unwrap();
    let [_, survivor] = &mut both;
    let mut last = 0;
    for cpr in &persons {
        let position = report_some(&mut ledger, cpr, 5, 1).await;
        last = last.max(position);
        let answer = survivor.get_allowance(asking(cpr, position)).await.unwrap();
        assert_eq!(answer.into_inner().allowance.unwrap().total_oere, 60_000);
    }
    // All of them in one snapshot, and somebody without a card between.
    let mut asked: Vec<_> = persons.iter().map(|cpr| by_cpr(cpr).unwrap()).collect();
    asked.insert(3, by_cpr(&new_cpr()).unwrap());
    // The partitions' heads differ: one of them may not have this position at all.
    let request = BatchGetAllowancesRequest {
        persons: asked,
        year: 2022,
        min_position: last,
        ..BatchGetAllowancesRequest::default()
    };
    let batch = survivor.batch_get_allowances(request).await.unwrap().into_inner();
    assert_eq!(batch.positions.len(), 2);
    for result in batch.results {
        let total = result.allowance.map(|allowance| allowance.total_oere);
        assert_eq!(total, (result.index != 3).then_some(60_000), "at {}", result.index);
    }
    assert_projection_is_the_fold(&database.pool().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_hangs_in_its_transaction_is_taken_over_from() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let pool = database.pool().await.unwrap();
    let ledger = Service::start(Kind::Ledger, &database, dir.path()).await.unwrap();
    let one = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut ledger = Ledger::new(ledger.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    // It has something to fold all the time.
    let recording = AtomicBool::new(true);
    let recorded = async {
        let (mut count, mut position) = (0, 0);
        while recording.load(Ordering::Relaxed) {
            position = report_some(&mut ledger, &cpr, count, 1).await;
            count += 1;
        }
        (count, position)
    };
    let stopped = async {
        stop_in_transaction(one.id(), &pool, "frikort-projector").await.unwrap();
        recording.store(false, Ordering::Relaxed);
    };
    let ((count, position), ()) = tokio::join!(recorded, stopped);

    let two = Service::start(Kind::Projector, &database, dir.path()).await.unwrap();
    let mut survivor = allowances(two.channel().await.unwrap());
    let taken_over = async {
        loop {
            match survivor.get_allowance(asking(&cpr, position)).await {
                Ok(answer) => break answer.into_inner().allowance.unwrap().total_oere,
                Err(status) => {
                    let failure = Failure::from_status(&status).unwrap();
                    assert_eq!(failure.reason, ErrorReason::ProjectionBehind, "{status}");
                }
            }
        }
    };
    let total = timeout(Duration::from_secs(30), taken_over).await.expect("nobody took over");
    assert_eq!(total, count * 10_000);
    // The one that hung goes on, finds itself overtaken, and answers with the other's figures.
    signal(one.id(), "CONT").unwrap();
    let position = report_some(&mut ledger, &cpr, count, 1).await;
    let mut first = allowances(one.channel().await.unwrap());
    let answer = first.get_allowance(asking(&cpr, position)).await.unwrap().into_inner();
    assert_eq!(answer.allowance.unwrap().total_oere, (count + 1) * 10_000);
    assert_projection_is_the_fold(&pool).await;
}
