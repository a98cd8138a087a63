//! The reasons that payments are refused for.

use frikort_proto::v1::{
    CancelPaymentRequest, CancelReason, CheckLedgerRequest, CorrectPaymentRequest, DayPeriod,
    PaymentComponents, PaymentFacts, ReportPaymentRequest, check_ledger_response::Item,
};
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, date, facts, new_cpr, report},
    decisions::deactivate,
    process::{Kind, Service},
    stack::Stack,
};
use tonic::Code::{AlreadyExists, FailedPrecondition, NotFound};

use super::status::{Refused, cancel, correct, paid_on, refused};

/// Reports that are refused when "used" is on record with 500,00 kr., each with its reason.
pub(crate) fn refused_reports(cpr: &str) -> Vec<(ReportPaymentRequest, Refused<'static>)> {
    let worked = |first: (i32, i32, i32), last: (i32, i32, i32)| {
        let mut request = report(cpr, "worked", 50_000);
        let day = |(year, month, day)| Some(date(year, month, day));
        let period = DayPeriod { first_day: day(first), last_day: day(last) };
        request.facts.as_mut().unwrap().work_period = Some(period);
        request
    };
    let uncovered = |metadata| Refused { metadata, ..refused(FailedPrecondition, "NOT_COVERED") };
    vec![
        (report(&new_cpr(), "nobody", 50_000), refused(NotFound, "NO_CARD")),
        (
            ReportPaymentRequest { ordinary_work: false, ..report(cpr, "supported", 50_000) },
            refused(FailedPrecondition, "SUPPORTED_WORK"),
        ),
        (
            ReportPaymentRequest { ordinary_work: false, ..report(&new_cpr(), "both", 50_000) },
            refused(FailedPrecondition, "SUPPORTED_WORK"),
        ),
        (
            paid_on(cpr, "too early", (2021, 12, 31)),
            uncovered(&[("first_uncovered_day", "2021-12-31")]),
        ),
        (
            worked((2021, 12, 30), (2022, 1, 2)),
            uncovered(&[("first_uncovered_day", "2021-12-30"), ("split_at", "2022-01-01")]),
        ),
        (
            worked((2022, 5, 30), (2022, 6, 3)),
            uncovered(&[("first_uncovered_day", "2022-06-02"), ("split_at", "2022-06-02")]),
        ),
        (
            ReportPaymentRequest { reject_if_exceeds: true, ..report(cpr, "too much", 1_950_001) },
            Refused {
                metadata: &[("exempt_oere", "1950000"), ("taxable_oere", "1")],
                ..refused(FailedPrecondition, "LIMIT_EXCEEDED")
            },
        ),
        (report(cpr, "used", 50_001), reused(&["facts.amount_oere"])),
        (
            ReportPaymentRequest {
                production_unit: "1000000001".to_owned(),
                facts: Some(PaymentFacts {
                    amount_oere: 1,
                    payment_date: Some(date(2022, 3, 2)),
                    work_period: None,
                    hours_hundredths: Some(1),
                    components: Some(PaymentComponents {
                        wage_oere: 1,
                        ..PaymentComponents::default()
                    }),
                }),
                ..report(cpr, "used", 1)
            },
            reused(&[
                "facts.amount_oere",
                "facts.payment_date",
                "facts.work_period",
                "facts.hours_hundredths",
                "facts.components",
                "production_unit",
            ]),
        ),
    ]
}

fn reused(fields: &'static [&'static str]) -> Refused<'static> {
    Refused { fields, ..refused(AlreadyExists, "REFERENCE_REUSED") }
}

/// A card from 2022-01-01 to 2022-06-01, the limit of 2022, and a payment "used" of 500,00 kr.
pub(crate) async fn closed_card(ledger: &mut Ledger) -> String {
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    ledger.visitations.deactivate_card(deactivate(&cpr, "S-2")).await.unwrap();
    ledger.payments.report_payment(report(&cpr, "used", 50_000)).await.unwrap();
    cpr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_report_says_why_and_records_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = closed_card(&mut ledger).await;
    let before = stack.recorded().await.unwrap();
    for (request, expected) in refused_reports(&cpr) {
        let what = request.reference.clone();
        expected.check(&what, ledger.payments.report_payment(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_without_a_limit_is_named() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let not_set = |metadata| Refused { metadata, ..refused(FailedPrecondition, "LIMIT_NOT_SET") };
    let answer = ledger.payments.report_payment(report(&cpr, "r", 50_000)).await;
    not_set(&[("year", "2022")]).check("a report", answer);

    ledger.set_limit(2022, 20_000).await.unwrap();
    ledger.payments.report_payment(report(&cpr, "r", 50_000)).await.unwrap();
    let request = CorrectPaymentRequest {
        facts: paid_on(&cpr, "r", (2024, 2, 29)).facts,
        ..correct(&cpr, "r", 1, 1)
    };
    let answer = ledger.payments.correct_payment(request).await;
    not_set(&[("year", "2024")]).check("a correction into 2024", answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_correction_or_cancellation_says_why_and_records_nothing() {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    let cpr = closed_card(&mut ledger).await;
    ledger.payments.report_payment(report(&cpr, "gone", 10_000)).await.unwrap();
    ledger.payments.cancel_payment(cancel(&cpr, "gone", 1)).await.unwrap();
    let other = |request: CorrectPaymentRequest| {
        let employer_cvr = "29189706".to_owned();
        CorrectPaymentRequest { employer_cvr, ..request }
    };
    let before = stack.recorded().await.unwrap();

    let unknown = refused(NotFound, "PAYMENT_NOT_FOUND");
    let mismatch = |metadata| {
        let reason = "REVISION_MISMATCH";
        Refused { metadata, ..refused(FailedPrecondition, reason) }
    };
    let gone = refused(FailedPrecondition, "PAYMENT_CANCELLED");
    let uncovered = Refused {
        metadata: &[("first_uncovered_day", "2022-06-02")],
        ..refused(FailedPrecondition, "NOT_COVERED")
    };
    let nobody = new_cpr();
    let too_late = CorrectPaymentRequest {
        facts: paid_on(&cpr, "used", (2022, 6, 2)).facts,
        ..correct(&cpr, "used", 1, 1)
    };
    for (what, request, expected) in [
        ("another reference", correct(&cpr, "unused", 1, 1), &unknown),
        ("another employer", other(correct(&cpr, "used", 1, 1)), &unknown),
        ("another person", correct(&nobody, "used", 1, 1), &unknown),
        ("a revision ahead", correct(&cpr, "used", 2, 1), &mismatch(&[("revision", "1")])),
        ("cancelled", correct(&cpr, "gone", 2, 1), &gone),
        ("not covered", too_late, &uncovered),
    ] {
        expected.check(what, ledger.payments.correct_payment(request).await);
    }
    let for_another_reason =
        CancelPaymentRequest { reason: CancelReason::Other.into(), ..cancel(&cpr, "gone", 1) };
    for (what, request, expected) in [
        ("another reference", cancel(&cpr, "unused", 1), &unknown),
        ("another person", cancel(&nobody, "used", 1), &unknown),
        ("a revision ahead", cancel(&cpr, "used", 7), &mismatch(&[("revision", "1")])),
        ("a second time", cancel(&cpr, "gone", 2), &gone),
        ("for another reason", for_another_reason, &gone),
    ] {
        expected.check(what, ledger.payments.cancel_payment(request).await);
    }
    assert_eq!(stack.recorded().await.unwrap(), before);

    let corrected = ledger.payments.correct_payment(correct(&cpr, "used", 1, 40_000)).await;
    assert_eq!(corrected.unwrap().into_inner().payment.unwrap().revision, 2);
    let behind =
        CorrectPaymentRequest { facts: Some(facts(30_000)), ..correct(&cpr, "used", 1, 1) };
    let answer = ledger.payments.correct_payment(behind).await;
    mismatch(&[("revision", "2")]).check("a revision behind", answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_year_with_as_many_payments_as_may_be_takes_no_more() {
    let most = |most: &str| vec![("FRIKORT_PAYMENTS_PER_YEAR", most.to_owned())];
    let mut stack = Stack::start_with(1, most("3")).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    ledger.set_limit(2023, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let in_2023 = paid_on(&cpr, "next year", (2023, 2, 1));
    for request in [report(&cpr, "a", 100), report(&cpr, "b", 100), report(&cpr, "c", 100), in_2023]
    {
        ledger.payments.report_payment(request).await.unwrap();
    }
    ledger.payments.cancel_payment(cancel(&cpr, "a", 1)).await.unwrap();

    let before = stack.recorded().await.unwrap();
    let too_many = Refused {
        metadata: &[("year", "2022"), ("payments_per_year", "3")],
        ..refused(FailedPrecondition, "TOO_MANY_PAYMENTS")
    };
    for validate_only in [true, false] {
        let one_more = ReportPaymentRequest { validate_only, ..report(&cpr, "d", 100) };
        too_many.check("a report", ledger.payments.report_payment(one_more).await);
    }
    let moved = correct(&cpr, "next year", 1, 50_000);
    too_many.check("a correction into 2022", ledger.payments.correct_payment(moved).await);
    assert_eq!(stack.recorded().await.unwrap(), before);
    // What is on record goes on.
    let again = ledger.payments.report_payment(report(&cpr, "b", 100)).await.unwrap().into_inner();
    assert!(again.replayed);
    ledger.payments.correct_payment(correct(&cpr, "c", 1, 200)).await.unwrap();

    // With a lower number the history is as right as before.
    let (database, dir) = (&stack.database, stack.dir.path());
    stack.ledger.kill().unwrap();
    stack.ledger = Service::start_with(Kind::Ledger, database, dir, most("1")).await.unwrap();
    ledger = stack.ledger().await.unwrap();
    ledger.payments.correct_payment(correct(&cpr, "c", 2, 300)).await.unwrap();
    let lower = Refused { metadata: &[("year", "2022"), ("payments_per_year", "1")], ..too_many };
    lower.check("a report", ledger.payments.report_payment(report(&cpr, "d", 100)).await);
    let mut check = ledger.audits.check_ledger(CheckLedgerRequest::default()).await.unwrap();
    let mut concluded = None;
    while let Some(message) = check.get_mut().message().await.unwrap() {
        match message.item.unwrap() {
            Item::Finding(finding) => panic!("{finding:?}"),
            Item::Concluded(end) => concluded = Some(end),
            Item::Progress(_) => {}
        }
    }
    assert!(concluded.is_some());
    assert_sound(&stack.database.pool().await.unwrap()).await;
}
