//! VisitationService.

use frikort_proto::v1::{
    ChangeCprNumberRequest, Criterion, DeactivateCardRequest, GetCardRequest, GrantCardRequest,
    ReactivateCardRequest, RecordControlRequest, ReissueCardRequest, RejectApplicationRequest,
    ReverseDecisionRequest, TransferCardRequest, person_ref::Person,
};
use frikort_tests::client::{by_cpr, date, grant, new_cpr};

use super::{
    case::{Ground, case},
    fields::{
        decision_date, in_days, municipality, optional_date, person, reference, required_date,
        texts,
    },
};

const EFFECTIVE: &str = "effective_date";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_grant_is_refused_by_field_and_enters_nobody() {
    type Grant = GrantCardRequest;
    let ground = Ground::new().await;
    // Of somebody new, who must not come into the register by a bad request.
    let sound = grant(&new_cpr());
    let mut cases = person("person", |r: &mut Grant| &mut r.person);
    cases.extend(municipality(|r: &mut Grant| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Grant| &mut r.reference));
    let bad = ["", "1234", "123456", "1234a", " 1234", "-1234"];
    cases.extend(texts("frikort_id", |r: &mut Grant| &mut r.frikort_id, &bad));
    cases.extend(decision_date(|r: &mut Grant| &mut r.decision_date));
    cases.extend(required_date(EFFECTIVE, |r: &mut Grant| &mut r.effective_date));
    cases.extend([
        case("effective before the scheme", &[EFFECTIVE], |r: &mut Grant| {
            r.effective_date = Some(date(2018, 12, 31));
        }),
        case("applied after the decision", &["application_date"], |r: &mut Grant| {
            r.application_date = Some(date(2022, 1, 2));
        }),
        case("a criterion that is none", &["criteria"], |r: &mut Grant| {
            r.criteria = vec![Criterion::Age.into(), Criterion::Unspecified.into()];
        }),
        case("an unknown criterion", &["criteria"], |r: &mut Grant| r.criteria = vec![99]),
        case("a Frikort-ID beside the person", &["person.frikort_id"], |r: &mut Grant| {
            r.person.get_or_insert_default().frikort_id = "12345".to_owned();
        }),
        case("an id that nobody has", &["person.person_id"], |r: &mut Grant| {
            let nobody = "6f9619ff-8b86-4011-b42d-00c04fc964ff".to_owned();
            r.person.get_or_insert_default().person = Some(Person::PersonId(nobody));
        }),
        case(
            "nothing",
            &["person", "municipality_code", "reference", "frikort_id", "decision_date", EFFECTIVE],
            |r| *r = Grant::default(),
        ),
    ]);
    let mut visitations = ground.ledger.visitations.clone();
    ground
        .refuses(&sound, cases, async |r| ground.ledger.visitations.clone().grant_card(r).await)
        .await;
    visitations.grant_card(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_deactivation_is_refused_by_field_and_records_nothing() {
    type Deactivate = DeactivateCardRequest;
    let ground = Ground::new().await;
    let sound = DeactivateCardRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        ..DeactivateCardRequest::default()
    };
    let mut cases = person("person", |r: &mut Deactivate| &mut r.person);
    cases.extend(municipality(|r: &mut Deactivate| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Deactivate| &mut r.reference));
    cases.extend(decision_date(|r: &mut Deactivate| &mut r.decision_date));
    cases.extend(optional_date(EFFECTIVE, |r: &mut Deactivate| &mut r.effective_date));
    cases.extend([
        case("deactivated before its decision", &[EFFECTIVE], |r: &mut Deactivate| {
            r.effective_date = Some(date(2022, 5, 31));
        }),
        case("a criterion that is none", &["criteria"], |r: &mut Deactivate| {
            r.criteria = vec![Criterion::Age.into(), Criterion::Unspecified.into()];
        }),
        case("an unknown criterion", &["criteria"], |r: &mut Deactivate| r.criteria = vec![99]),
        case("deactivated before the scheme", &[EFFECTIVE], |r: &mut Deactivate| {
            r.effective_date = Some(date(2018, 12, 31));
        }),
        case("nothing", &["person", "municipality_code", "reference", "decision_date"], |r| {
            *r = Deactivate::default();
        }),
    ]);
    let mut visitations = ground.ledger.visitations.clone();
    ground
        .refuses(&sound, cases, async |r| {
            ground.ledger.visitations.clone().deactivate_card(r).await
        })
        .await;
    visitations.deactivate_card(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_rejection_is_refused_by_field_and_enters_nobody() {
    type Reject = RejectApplicationRequest;
    const APPLIED: &str = "application_date";
    let ground = Ground::new().await;
    let sound = RejectApplicationRequest {
        person: by_cpr(&new_cpr()),
        municipality_code: "101".to_owned(),
        reference: "A-1".to_owned(),
        application_date: Some(date(2022, 5, 1)),
        decision_date: Some(date(2022, 6, 1)),
        ..RejectApplicationRequest::default()
    };
    let mut cases = person("person", |r: &mut Reject| &mut r.person);
    cases.extend(municipality(|r: &mut Reject| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Reject| &mut r.reference));
    cases.extend([
        // P9: what is wrong between two dates is named once each is right by itself.
        case("decided before the scheme", &["decision_date"], |r: &mut Reject| {
            r.decision_date = Some(date(2018, 12, 31));
        }),
        case("decided in the future", &["decision_date"], |r: &mut Reject| {
            r.decision_date = Some(in_days(1));
        }),
        case("applied after the decision", &[APPLIED], |r: &mut Reject| {
            r.application_date = Some(date(2022, 6, 2));
        }),
        case("applied on no day", &[APPLIED], |r: &mut Reject| {
            r.application_date = Some(date(2022, 2, 30));
        }),
        case("an unknown criterion", &["criteria"], |r: &mut Reject| r.criteria = vec![99]),
        case("a Frikort-ID beside the person", &["person.frikort_id"], |r: &mut Reject| {
            r.person.get_or_insert_default().frikort_id = "12345".to_owned();
        }),
        case("an id that nobody has", &["person.person_id"], |r: &mut Reject| {
            let nobody = "6f9619ff-8b86-4011-b42d-00c04fc964ff".to_owned();
            r.person.get_or_insert_default().person = Some(Person::PersonId(nobody));
        }),
        case(
            "nothing",
            &["person", "municipality_code", "reference", "decision_date", APPLIED],
            |r| *r = Reject::default(),
        ),
    ]);
    let mut visitations = ground.ledger.visitations.clone();
    ground
        .refuses(&sound, cases, async |r| {
            ground.ledger.visitations.clone().reject_application(r).await
        })
        .await;
    visitations.reject_application(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_reversal_is_refused_by_field_and_records_nothing() {
    type Reverse = ReverseDecisionRequest;
    const REFERENCE: &str = "reversed_reference";
    const MUNICIPALITY: &str = "reversed_municipality_code";
    let ground = Ground::new().await;
    let deactivation = DeactivateCardRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        ..DeactivateCardRequest::default()
    };
    let mut visitations = ground.ledger.visitations.clone();
    visitations.deactivate_card(deactivation).await.expect("a deactivation");
    let sound = ReverseDecisionRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "K-1".to_owned(),
        decision_date: Some(date(2022, 7, 1)),
        reversed_reference: "S-2".to_owned(),
        ..ReverseDecisionRequest::default()
    };
    let mut cases = person("person", |r: &mut Reverse| &mut r.person);
    cases.extend(municipality(|r: &mut Reverse| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Reverse| &mut r.reference));
    cases.extend(decision_date(|r: &mut Reverse| &mut r.decision_date));
    let bad = ["", " S-2", "S\"2", "010160-5001"];
    cases.extend(texts(REFERENCE, |r: &mut Reverse| &mut r.reversed_reference, &bad));
    let bad = ["1", "411", "1010", "x"];
    cases.extend(texts(MUNICIPALITY, |r: &mut Reverse| &mut r.reversed_municipality_code, &bad));
    cases.push(case(
        "nothing",
        &["person", "municipality_code", "reference", "decision_date", REFERENCE],
        |r| *r = Reverse::default(),
    ));
    ground
        .refuses(&sound, cases, async |r| {
            ground.ledger.visitations.clone().reverse_decision(r).await
        })
        .await;
    visitations.reverse_decision(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_reissue_is_refused_by_field_and_records_nothing() {
    type Reissue = ReissueCardRequest;
    let ground = Ground::new().await;
    let sound = ReissueCardRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        frikort_id: "54321".to_owned(),
        validate_only: false,
    };
    let mut cases = person("person", |r: &mut Reissue| &mut r.person);
    cases.extend(municipality(|r: &mut Reissue| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Reissue| &mut r.reference));
    cases.extend(decision_date(|r: &mut Reissue| &mut r.decision_date));
    let bad = ["", "1234", "123456", "1234a"];
    cases.extend(texts("frikort_id", |r: &mut Reissue| &mut r.frikort_id, &bad));
    cases.push(case(
        "nothing",
        &["person", "municipality_code", "reference", "decision_date", "frikort_id"],
        |r| *r = Reissue::default(),
    ));
    let mut visitations = ground.ledger.visitations.clone();
    ground
        .refuses(&sound, cases, async |r| ground.ledger.visitations.clone().reissue_card(r).await)
        .await;
    visitations.reissue_card(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_transfer_is_refused_by_field_and_records_nothing() {
    type Transfer = TransferCardRequest;
    const TO: &str = "to_municipality_code";
    let ground = Ground::new().await;
    let sound = TransferCardRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        to_municipality_code: "751".to_owned(),
        validate_only: false,
    };
    let mut cases = person("person", |r: &mut Transfer| &mut r.person);
    cases.extend(municipality(|r: &mut Transfer| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Transfer| &mut r.reference));
    cases.extend(decision_date(|r: &mut Transfer| &mut r.decision_date));
    // 411 is no municipality, and 101 is the one that hands over.
    let bad = ["", "75", "0751", "75a", "411", "999", "101"];
    cases.extend(texts(TO, |r: &mut Transfer| &mut r.to_municipality_code, &bad));
    cases.push(case(
        "nothing",
        &["person", "municipality_code", "reference", "decision_date", TO],
        |r| *r = Transfer::default(),
    ));
    let mut visitations = ground.ledger.visitations.clone();
    ground
        .refuses(&sound, cases, async |r| ground.ledger.visitations.clone().transfer_card(r).await)
        .await;
    visitations.transfer_card(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_change_of_number_is_refused_by_field_and_records_nothing() {
    type Change = ChangeCprNumberRequest;
    const NEW: &str = "new_cpr_number";
    let ground = Ground::new().await;
    let sound = ChangeCprNumberRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        new_cpr_number: new_cpr(),
        validate_only: false,
    };
    let (old, taken) = (ground.cpr.clone(), new_cpr());
    let mut visitations = ground.ledger.visitations.clone();
    visitations.grant_card(grant(&taken)).await.unwrap();
    let mut cases = person("person", |r: &mut Change| &mut r.person);
    cases.extend(municipality(|r: &mut Change| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Change| &mut r.reference));
    cases.extend(decision_date(|r: &mut Change| &mut r.decision_date));
    let bad = ["", "123456789", "3002605001", "010160+5001", &old, &taken];
    cases.extend(texts(NEW, |r: &mut Change| &mut r.new_cpr_number, &bad));
    cases.extend([
        case("the new number in the reference", &["reference"], |r: &mut Change| {
            r.reference = format!("x{}x", r.new_cpr_number);
        }),
        case("nothing", &["person", "municipality_code", "reference", "decision_date", NEW], |r| {
            *r = Change::default();
        }),
    ]);
    ground
        .refuses(&sound, cases, async |r| {
            ground.ledger.visitations.clone().change_cpr_number(r).await
        })
        .await;
    visitations.change_cpr_number(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_control_is_refused_by_field_and_records_nothing() {
    type Control = RecordControlRequest;
    const DAY: &str = "control_date";
    let ground = Ground::new().await;
    let sound = RecordControlRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        control_date: Some(date(2022, 6, 1)),
        dispensation: true,
        criteria: vec![Criterion::Residence.into()],
        validate_only: false,
    };
    let mut cases = person("person", |r: &mut Control| &mut r.person);
    cases.extend(municipality(|r: &mut Control| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Control| &mut r.reference));
    cases.extend(required_date(DAY, |r: &mut Control| &mut r.control_date));
    cases.extend([
        case("controlled before the scheme", &[DAY], |r: &mut Control| {
            r.control_date = Some(date(2018, 12, 31));
        }),
        case("a criterion that is none", &["criteria"], |r: &mut Control| {
            r.criteria = vec![Criterion::Age.into(), Criterion::Unspecified.into()];
        }),
        case("an unknown criterion", &["criteria"], |r: &mut Control| r.criteria = vec![99]),
        case("controlled in the future", &[DAY], |r: &mut Control| {
            r.control_date = Some(date(2100, 1, 1));
        }),
        case("nothing", &["person", "municipality_code", "reference", DAY], |r| {
            *r = Control::default();
        }),
    ]);
    let mut visitations = ground.ledger.visitations.clone();
    ground
        .refuses(&sound, cases, async |r| ground.ledger.visitations.clone().record_control(r).await)
        .await;
    visitations.record_control(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_reactivation_is_refused_by_field_and_records_nothing() {
    type Reactivate = ReactivateCardRequest;
    let ground = Ground::new().await;
    let mut visitations = ground.ledger.visitations.clone();
    let deactivation = DeactivateCardRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        ..DeactivateCardRequest::default()
    };
    visitations.deactivate_card(deactivation).await.unwrap();
    let sound = ReactivateCardRequest {
        person: by_cpr(&ground.cpr),
        municipality_code: "101".to_owned(),
        reference: "S-3".to_owned(),
        decision_date: Some(date(2022, 7, 1)),
        effective_date: Some(date(2022, 7, 1)),
        validate_only: false,
    };
    let mut cases = person("person", |r: &mut Reactivate| &mut r.person);
    cases.extend(municipality(|r: &mut Reactivate| &mut r.municipality_code));
    cases.extend(reference(|r: &mut Reactivate| &mut r.reference));
    cases.extend(decision_date(|r: &mut Reactivate| &mut r.decision_date));
    cases.extend(required_date(EFFECTIVE, |r: &mut Reactivate| &mut r.effective_date));
    cases.extend([
        case("effective before the scheme", &[EFFECTIVE], |r: &mut Reactivate| {
            r.effective_date = Some(date(2018, 12, 31));
        }),
        case(
            "nothing",
            &["person", "municipality_code", "reference", "decision_date", EFFECTIVE],
            |r| *r = Reactivate::default(),
        ),
    ]);
    ground
        .refuses(&sound, cases, async |r| {
            ground.ledger.visitations.clone().reactivate_card(r).await
        })
        .await;
    visitations.reactivate_card(sound).await.expect("what the cases start from is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_for_a_card_is_refused_by_field() {
    let ground = Ground::new().await;
    let sound = GetCardRequest { person: by_cpr(&ground.cpr) };
    let cases = person("person", |r: &mut GetCardRequest| &mut r.person);
    ground
        .refuses(&sound, cases, async |r| ground.ledger.visitations.clone().get_card(r).await)
        .await;
    ground.ledger.visitations.clone().get_card(sound).await.expect("sound");
}
