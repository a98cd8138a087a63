//! PaymentService, one call at a time.

use frikort_proto::v1::{
    CancelPaymentRequest, CancelReason, CorrectPaymentRequest, ReportPaymentRequest,
};
use frikort_tests::client::{CVR, by_cpr, facts as sound_facts, report};

use super::{
    case::{Case, Ground, case},
    facts::facts,
    fields::{employer, numbers, person, reference, texts},
};

/// Bad revisions.
const REVISIONS: [i32; 3] = [0, -1, i32::MIN];

/// Every bad report.
pub(crate) fn reports() -> Vec<Case<ReportPaymentRequest>> {
    let mut cases = person("person", |r: &mut ReportPaymentRequest| &mut r.person);
    cases.extend(employer(|r: &mut ReportPaymentRequest| &mut r.employer_cvr));
    cases.extend(reference(|r: &mut ReportPaymentRequest| &mut r.reference));
    cases.extend(facts(|r: &mut ReportPaymentRequest| &mut r.facts));
    cases.extend(texts(
        "production_unit",
        |r: &mut ReportPaymentRequest| &mut r.production_unit,
        &["123456789", "12345678901", "123456789a", " 123456789", "-123456789", " "],
    ));
    let all = ["person", "employer_cvr", "reference", "facts"];
    cases.push(case("nothing", &all, |r| *r = ReportPaymentRequest::default()));
    let all =
        ["person.cpr_number", "employer_cvr", "reference", "facts.amount_oere", "production_unit"];
    cases.push(case("something wrong in each part", &all, |r| {
        let cvr = "12345678".to_owned();
        let reference = "0101605001".to_owned();
        *r = ReportPaymentRequest {
            person: by_cpr("3002605001"),
            employer_cvr: cvr,
            reference,
            facts: Some(sound_facts(i64::MIN)),
            production_unit: "1".to_owned(),
            ..ReportPaymentRequest::default()
        };
    }));
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_report_is_refused_by_field_and_records_nothing() {
    let ground = Ground::new().await;
    let sound = report(&ground.cpr, "sound", 50_000);
    ground
        .refuses(&sound, reports(), async |r| {
            ground.ledger.payments.clone().report_payment(r).await
        })
        .await;
    let accepted = ground.ledger.payments.clone().report_payment(sound).await;
    accepted.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_correction_is_refused_by_field_and_records_nothing() {
    type Correct = CorrectPaymentRequest;
    let ground = Ground::new().await;
    let mut payments = ground.ledger.payments.clone();
    payments.report_payment(report(&ground.cpr, "sound", 40_000)).await.unwrap();
    let sound = CorrectPaymentRequest {
        person: by_cpr(&ground.cpr),
        employer_cvr: CVR.to_owned(),
        reference: "sound".to_owned(),
        expected_revision: 1,
        facts: Some(sound_facts(50_000)),
        validate_only: false,
    };
    let mut cases = person("person", |r: &mut Correct| &mut r.person);
    cases.extend(employer(|r: &mut Correct| &mut r.employer_cvr));
    cases.extend(reference(|r: &mut Correct| &mut r.reference));
    cases.extend(numbers(
        "expected_revision",
        |r: &mut Correct| &mut r.expected_revision,
        &REVISIONS,
    ));
    cases.extend(facts(|r: &mut Correct| &mut r.facts));
    let all = ["person", "employer_cvr", "reference", "expected_revision", "facts"];
    cases.push(case("nothing", &all, |r| *r = Correct::default()));
    ground
        .refuses(&sound, cases, async |r| ground.ledger.payments.clone().correct_payment(r).await)
        .await;
    payments.correct_payment(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_cancellation_is_refused_by_field_and_records_nothing() {
    type Cancel = CancelPaymentRequest;
    let ground = Ground::new().await;
    let mut payments = ground.ledger.payments.clone();
    payments.report_payment(report(&ground.cpr, "sound", 40_000)).await.unwrap();
    let sound = CancelPaymentRequest {
        person: by_cpr(&ground.cpr),
        employer_cvr: CVR.to_owned(),
        reference: "sound".to_owned(),
        expected_revision: 1,
        reason: CancelReason::NotPaid.into(),
        validate_only: false,
    };
    let mut cases = person("person", |r: &mut Cancel| &mut r.person);
    cases.extend(employer(|r: &mut Cancel| &mut r.employer_cvr));
    cases.extend(reference(|r: &mut Cancel| &mut r.reference));
    cases.extend(numbers(
        "expected_revision",
        |r: &mut Cancel| &mut r.expected_revision,
        &REVISIONS,
    ));
    // Unspecified, and numbers that no reason has.
    cases.extend(numbers("reason", |r: &mut Cancel| &mut r.reason, &[0, 6, 99, -1, i32::MAX]));
    let all = ["person", "employer_cvr", "reference", "expected_revision", "reason"];
    cases.push(case("nothing", &all, |r| *r = Cancel::default()));
    ground
        .refuses(&sound, cases, async |r| ground.ledger.payments.clone().cancel_payment(r).await)
        .await;
    payments.cancel_payment(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_just_inside_the_limits_is_accepted() {
    let ground = Ground::new().await;
    let mut ledger = ground.ledger.clone();
    let ok = |change: fn(&mut ReportPaymentRequest)| {
        let mut request = report(&ground.cpr, "edge", 50_000);
        change(&mut request);
        request.validate_only = true;
        request
    };
    for request in [
        ok(|r| r.facts = Some(sound_facts(1))),
        ok(|r| r.facts = Some(sound_facts(99_999_999))),
        ok(|r| r.facts.as_mut().unwrap().hours_hundredths = Some(1)),
        ok(|r| r.facts.as_mut().unwrap().hours_hundredths = Some(99_999)),
        ok(|r| r.reference = "å".repeat(64)),
        ok(|r| r.reference = "3002605001".to_owned()),
        ok(|r| r.production_unit = "0000000017".to_owned()),
        ok(|r| r.person.as_mut().unwrap().frikort_id = "12345".to_owned()),
        ok(|r| r.employer_cvr = "29189692".to_owned()),
    ] {
        let answer = ledger.payments.report_payment(request.clone()).await;
        assert!(answer.is_ok(), "{request:?}: {answer:?}");
    }
    let hyphen = format!("{}-{}", &ground.cpr[..6], &ground.cpr[6..]);
    ledger.payments.report_payment(report(&hyphen, "hyphen", 1)).await.unwrap();
}
