//! The lines of `golden/records.jsonl` decode for ever, and encode to the same bytes.
//!
//! The file is append-only: a line that stands there may be in somebody's ledger, hashed and
//! signed. A new event type, field or form gets new lines at the end; no line is ever changed or
//! taken out. The lines were written by hand, not by the encoder that they test.

use std::collections::BTreeSet;

use frikort_domain::{Account, LimitHistory, Record, RecordError, Replay};

const GOLDEN: &str = include_str!("golden/records.jsonl");

/// The first golden line of a type.
fn line(r#type: &str) -> &'static str {
    let name = format!(r#""type":"{type}""#);
    GOLDEN.lines().find(|line| line.contains(&name)).expect("a golden line of the type")
}

/// A golden line with one part replaced, which must be there.
fn altered(r#type: &str, part: &str, by: &str) -> String {
    let line = line(r#type);
    assert!(line.contains(part), "{part} is not in {line}");
    line.replacen(part, by, 1)
}

const TYPES: [&str; 14] = [
    "annual_limit_set",
    "allowance_recalculated",
    "application_rejected",
    "decision_reversed",
    "card_granted",
    "card_deactivated",
    "card_reactivated",
    "card_reissued",
    "card_transferred",
    "control_recorded",
    "cpr_number_changed",
    "payment_reported",
    "payment_corrected",
    "payment_cancelled",
];

#[test]
fn every_golden_line_decodes_and_encodes_to_the_same_bytes() {
    assert!(GOLDEN.ends_with('\n') && !GOLDEN.contains('\r'));
    for (number, line) in (1..).zip(GOLDEN.lines()) {
        let record = Record::decode(line).unwrap_or_else(|e| panic!("line {number}: {e:?}"));
        assert_eq!(record.encode(), line, "line {number}");
        assert_eq!(Record::decode(&record.encode()).ok(), Some(record), "line {number}");
    }
}

#[test]
fn every_type_and_every_optional_part_has_a_golden_line_with_it_and_without() {
    for name in TYPES {
        assert!(line(name).contains("\"schema\":1"));
    }
    let parts = [
        ("control_recorded", "\"dispensation\":"),
        ("control_recorded", "\"criteria\":"),
        ("card_deactivated", "\"criteria\":"),
        ("card_granted", "\"criteria\":"),
        ("card_granted", "\"applied_on\":"),
        ("application_rejected", "\"criteria\":"),
        ("payment_reported", "\"work\":"),
        ("payment_reported", "\"hours\":"),
        ("payment_reported", "\"components\":"),
        ("payment_reported", "\"production_unit\":"),
        ("payment_reported", "\"possible_duplicate\":"),
        ("payment_corrected", "\"work\":"),
        ("payment_corrected", "\"hours\":"),
        ("payment_corrected", "\"components\":"),
        ("payment_corrected", "\"left_year\":"),
        ("payment_corrected", "\"changed\":"),
        ("payment_cancelled", "\"changed\":"),
        ("card_deactivated", "\"payments_after\":"),
        ("card_deactivated", "\"outcome\":{\"active\":true}"),
        ("card_granted", "\"outcome\":{\"active\":false}"),
        ("card_reactivated", "\"outcome\":{\"active\":false}"),
    ];
    let traced = TYPES.map(|name| (name, "\"trace_id\":"));
    for (name, part) in parts.into_iter().chain(traced) {
        let of_type = format!("\"type\":\"{name}\"");
        let found: BTreeSet<bool> = GOLDEN
            .lines()
            .filter(|line| line.contains(&of_type))
            .map(|line| line.contains(part))
            .collect();
        assert_eq!(found.len(), 2, "{name} with and without {part}");
    }
}

#[test]
fn the_first_persons_golden_lines_are_a_history_that_folds() {
    let records = GOLDEN.lines().map(|line| Record::decode(line).expect("it decodes"));
    let first = "0b54b1a6-9c1e-4f0e-8a39-5d2a6f3b7c11";
    let mut account = Account::default();
    for record in records {
        if record.person_id.is_some_and(|person| person.to_string() == first) {
            account
                .apply(&record.event, record.version, record.position, record.recorded_at)
                .expect("it follows");
        }
    }
    assert_eq!(account.version(), 32);
    assert_eq!(account.year_total(2020).0.to_string(), "11000.00");
}

#[test]
fn c12_the_golden_lines_about_days_are_decided_anew_as_they_stand() {
    let mut replay = Replay::default();
    let of_person = |record: &Record| {
        let person = record.person_id.map(|person| person.to_string());
        person.as_deref() == Some("7c1f0a52-3d4e-4c7b-9f7e-2b8a6d5e4c31")
    };
    let records = GOLDEN.lines().map(|line| Record::decode(line).expect("it decodes"));
    for record in records.filter(of_person) {
        replay.take(&record, Some(&LimitHistory::default())).expect("the rules give it again");
    }
    assert_eq!(replay.account().version(), 7);
}

#[test]
fn a_record_of_an_unknown_type_is_named_and_not_skipped() {
    let line = altered("payment_reported", "payment_reported", "payment_refunded");
    let error = Record::decode(&line).expect_err("unknown");
    assert!(matches!(&error, RecordError::UnknownType(name) if name == "payment_refunded"));
    assert_eq!(error.to_string(), "record of unknown type \"payment_refunded\"");
}

#[test]
fn a_record_of_an_unknown_schema_is_named_and_not_skipped() {
    for schema in ["0", "2", "65535"] {
        let line = altered("card_granted", "\"schema\":1", &format!("\"schema\":{schema}"));
        let error = Record::decode(&line).expect_err("unknown");
        assert!(matches!(error, RecordError::UnknownSchema(n) if n.to_string() == schema));
    }
}

#[test]
fn a_newer_schema_is_named_also_when_its_form_is_not_understood() {
    for (part, by) in [
        ("\"version\":", "\"stream\":\"x\",\"version\":"),
        ("\"version\":", "\"revision\":"),
        ("\"recorded_at\":\"2019", "\"recorded_at\":\"in 2019"),
    ] {
        let line = altered("card_granted", part, by).replacen("\"schema\":1", "\"schema\":2", 1);
        let error = Record::decode(&line).expect_err("newer");
        assert!(matches!(error, RecordError::UnknownSchema(2)), "{error:?}");
    }
}

#[test]
fn an_unknown_field_is_malformed_wherever_it_stands() {
    for (name, part) in [
        ("card_granted", "\"partition\":"),
        ("card_granted", "\"organisation\":"),
        ("card_granted", "\"decided_on\":"),
        ("card_deactivated", "\"last_day\":"),
        ("card_deactivated", "\"payments_after\":"),
        ("card_reactivated", "\"decided_on\":"),
        ("card_transferred", "\"to\":"),
        ("control_recorded", "\"decided_on\":"),
        ("cpr_number_changed", "\"number\":"),
        ("application_rejected", "\"applied_on\":"),
        ("card_reissued", "\"frikort\":"),
        ("decision_reversed", "\"reversed\":"),
        ("decision_reversed", "\"active\":"),
        ("allowance_recalculated", "\"year\":2020}"),
        ("allowance_recalculated", "\"changed\":"),
        ("payment_reported", "\"facts\":"),
        ("payment_reported", "\"payment_date\":"),
        ("payment_reported", "\"wage\":"),
        ("payment_reported", "\"last\":"),
        ("payment_reported", "\"taxable\":"),
        ("payment_reported", "\"limit\":"),
        ("payment_corrected", "\"expected_revision\":"),
        ("payment_cancelled", "\"reason\":"),
        ("annual_limit_set", "\"citation\":"),
    ] {
        let line = altered(name, part, &format!("\"unknown\":0,{part}"));
        let error = Record::decode(&line).expect_err("an unknown field");
        assert!(matches!(error, RecordError::Malformed(_)), "{name} {part}: {error:?}");
    }
}

/// Decoding fails because the type has another set of parts.
fn wrong_parts(line: &str, of: &str) {
    let error = Record::decode(line).expect_err("a part missing or too many");
    assert!(matches!(&error, RecordError::WrongParts(name) if name == of), "{error:?}");
}

#[test]
fn a_missing_outcome_is_an_error_of_its_own() {
    for name in [
        "card_deactivated",
        "decision_reversed",
        "payment_reported",
        "payment_corrected",
        "payment_cancelled",
        "allowance_recalculated",
    ] {
        let line = line(name);
        let outcome = line.find(",\"outcome\":").expect("an outcome");
        wrong_parts(&format!("{}}}", &line[..outcome]), name);
    }
}

#[test]
fn an_outcome_where_none_belongs_is_the_same_error() {
    for name in [
        "application_rejected",
        "card_reissued",
        "card_transferred",
        "control_recorded",
        "cpr_number_changed",
        "annual_limit_set",
    ] {
        let line = line(name).strip_suffix('}').expect("an object");
        wrong_parts(&format!("{line},\"outcome\":{{}}}}"), name);
    }
}

#[test]
fn an_event_about_a_person_names_the_person_and_a_limit_does_not() {
    let person = "\"person_id\":\"0b54b1a6-9c1e-4f0e-8a39-5d2a6f3b7c11\",";
    for name in
        TYPES.into_iter().filter(|name| !["annual_limit_set", "payment_cancelled"].contains(name))
    {
        wrong_parts(&altered(name, person, ""), name);
    }
    let line = altered("annual_limit_set", "\"version\":", &format!("{person}\"version\":"));
    wrong_parts(&line, "annual_limit_set");
}

#[test]
fn amounts_dates_and_identifiers_in_another_form_are_malformed() {
    for (name, part, by) in [
        ("payment_reported", "\"amount\":\"12000.00\"", "\"amount\":12000.00"),
        ("payment_reported", "\"amount\":\"12000.00\"", "\"amount\":\"12000\""),
        ("payment_reported", "\"amount\":\"12000.00\"", "\"amount\":\"12.000,00\""),
        ("payment_reported", "\"amount\":\"12000.00\"", "\"amount\":\"-1.00\""),
        ("payment_reported", "\"hours\":\"74.05\"", "\"hours\":\"0.00\""),
        ("payment_reported", "\"employer_cvr\":\"13748136\"", "\"employer_cvr\":\"13748137\""),
        ("payment_reported", "\"first\":\"2019-02-01\"", "\"first\":\"2019-03-01\""),
        ("payment_reported", "\"first\":\"2019-02-01\"", "\"first\":\"2019-02-29\""),
        ("card_granted", "\"municipality\":\"751\"", "\"municipality\":\"411\""),
        ("card_granted", "00112233445566778899aabbccddeeff", "00112233445566778899AABBCCDDEEFF"),
        ("payment_cancelled", "\"WRONG_PERSON\"", "\"wrong_person\""),
        ("card_granted", "\"role\":\"municipality\"", "\"role\":\"citizen\""),
    ] {
        let error = Record::decode(&altered(name, part, by)).expect_err("malformed");
        assert!(matches!(error, RecordError::Malformed(_)), "{by}: {error:?}");
    }
}

#[test]
fn an_instant_has_one_form_only() {
    let right = "2019-01-02T09:30:00.120000Z";
    for wrong in [
        "2019-01-02T09:30:00Z",
        "2019-01-02T09:30:00.12Z",
        "2019-01-02T09:30:00.120000",
        "2019-01-02T09:30:00.120000+00:00",
        "2019-01-02 09:30:00.120000Z",
        "2019-01-02T9:30:00.120000Z",
        "2019-01-02T+9:30:00.120000Z",
        "2019-01-02T09:30:00.+20000Z",
        "2019-01-02T09:30:00:00.120000Z",
        "2019-01-02T24:00:00.000000Z",
        "2019-02-30T09:30:00.120000Z",
    ] {
        let error = Record::decode(&altered("card_granted", right, wrong)).expect_err(wrong);
        assert!(matches!(error, RecordError::Malformed(_)), "{wrong}: {error:?}");
    }
}

#[test]
fn what_is_no_json_object_is_malformed() {
    let cut = line("payment_reported");
    for text in ["", "null", "{}", "[]", "\"x\"", &cut[..cut.len() - 1], &format!("{cut}{cut}")] {
        let error = Record::decode(text).expect_err("malformed");
        assert!(matches!(error, RecordError::Malformed(_)), "{error:?}");
    }
}

#[test]
fn w5_an_error_text_shows_nothing_of_the_record() {
    let line = altered("payment_reported", "løn-æøå-ÆØÅ\"", "010160-5001\",\"x\":1");
    let error = Record::decode(&line).expect_err("malformed");
    assert_eq!(error.to_string(), "malformed record");
}

#[test]
fn criteria_in_another_order_or_twice_or_none_are_malformed() {
    let written = "[\"EDUCATION_LAST_YEAR\",\"INCOME_LAST_YEAR\"]";
    let line = GOLDEN.lines().find(|line| line.contains(written)).expect("a line with two");
    for other in [
        "[\"INCOME_LAST_YEAR\",\"EDUCATION_LAST_YEAR\"]",
        "[\"INCOME_LAST_YEAR\",\"INCOME_LAST_YEAR\"]",
        "[\"DIAGNOSIS\"]",
        "[]",
    ] {
        let error = Record::decode(&line.replacen(written, other, 1)).expect_err("not canonical");
        assert!(matches!(error, RecordError::Malformed(_)), "{other}: {error:?}");
    }
}
