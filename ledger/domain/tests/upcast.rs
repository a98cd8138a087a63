//! How an older form of records is read, by the example of one that never was: form 0, in which a
//! reported payment was called `payment` and said its amount in øre, and a grant said `decided` for
//! `decided_on`. All else was as it is today.
//!
//! `golden/schema-0.jsonl` holds lines of that form, `golden/schema-0-today.jsonl` the same records as
//! they would be written today; both by hand. When a form 2 comes, it gets steps like these in
//! `src/upcast.rs`, and golden lines of form 1 are there already.

use std::collections::BTreeSet;

use frikort_domain::{Account, Event, LimitSchedule, Record, RecordError, Step, Upcasts, redecide};
use serde_json::{Map, Value};

const OLD: &str = include_str!("golden/schema-0.jsonl");
const TODAY: &str = include_str!("golden/schema-0-today.jsonl");

/// From form 0 to form 1.
const FORM_0: Upcasts = Upcasts {
    oldest: 0,
    steps: &[
        Step { r#type: "payment", from: 0, to_next: payment },
        Step { r#type: "card_granted", from: 0, to_next: card_granted },
    ],
};

/// Another name, and an amount in kroner.
fn payment(line: &mut Map<String, Value>) -> Option<()> {
    line.insert("type".to_owned(), "payment_reported".into());
    let facts = line.get_mut("data")?.get_mut("facts")?.as_object_mut()?;
    let oere = facts.remove("oere")?.as_u64()?;
    facts.insert("amount".to_owned(), format!("{}.{:02}", oere / 100, oere % 100).into());
    Some(())
}

/// A key of another name.
fn card_granted(line: &mut Map<String, Value>) -> Option<()> {
    let data = line.get_mut("data")?.as_object_mut()?;
    let decided = data.remove("decided")?;
    data.insert("decided_on".to_owned(), decided);
    Some(())
}

fn old(line: &str) -> Result<Record, RecordError> {
    Record::decode_with(line, &FORM_0)
}

#[test]
fn an_older_line_is_read_as_the_record_that_would_be_written_today() {
    assert_eq!(OLD.lines().count(), TODAY.lines().count());
    for (line, today) in OLD.lines().zip(TODAY.lines()) {
        let record = old(line).expect("a golden line");
        assert_eq!(record, Record::decode(today).expect("a golden line of today"));
        assert_eq!(record.encode(), today, "what is written is the form of today");
        assert_ne!(record.encode(), line, "so what is stored is never what was read and encoded");
    }
}

#[test]
fn an_older_history_folds_and_is_decided_anew() {
    let (mut account, mut limits) = (Account::default(), LimitSchedule::default());
    for line in OLD.lines() {
        let record = old(line).expect("a golden line");
        if let Event::AnnualLimitSet(entry) = &record.event {
            limits.record(entry.clone(), record.position, record.recorded_at);
            continue;
        }
        redecide(&account, &limits, &record).expect("it was decided like this");
        account
            .apply(&record.event, record.version, record.position, record.recorded_at)
            .expect("it follows");
    }
    assert_eq!(account.year_total(2019).0.to_string(), "9000.05");
}

#[test]
fn every_step_has_a_golden_line() {
    let types: BTreeSet<String> = OLD
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| Some(line.get("type")?.as_str()?.to_owned()))
        .collect();
    for step in FORM_0.steps {
        assert!(types.contains(step.r#type), "{}", step.r#type);
    }
}

#[test]
fn what_is_not_of_the_older_form_is_malformed() {
    let line = |part: &str| OLD.lines().find(|line| line.contains(part)).expect("a golden line");
    for (of, part, by) in [
        ("\"payment\"", "\"oere\":1200000", "\"amount\":\"12000.00\""),
        ("\"payment\"", "\"oere\":1200000", "\"oere\":\"1200000\""),
        ("\"payment\"", "\"oere\":1200000", "\"oere\":1200000,\"tips\":1"),
        ("\"payment\"", "\"oere\":1200000", "\"oere\":-1"),
        ("\"card_granted\"", "\"decided\"", "\"decided_on\""),
        ("\"card_granted\"", "\"decided\":\"2019-01-02\"", "\"decided\":\"2019-02-30\""),
        ("\"payment\"", "\"revision\":1", "\"revision\":1,\"tips\":1"),
    ] {
        let altered = line(of).replacen(part, by, 1);
        assert_ne!(altered, line(of), "{part} is not there");
        assert!(matches!(old(&altered), Err(RecordError::Malformed(_))), "{by}");
    }
}

#[test]
fn a_type_of_the_older_form_is_none_of_today_and_the_other_way_round() {
    let payment = OLD.lines().find(|line| line.contains("\"payment\"")).expect("a golden line");
    let today = payment.replacen("\"schema\":0", "\"schema\":1", 1);
    assert!(matches!(old(&today), Err(RecordError::UnknownType(name)) if name == "payment"));
    let never = payment.replacen("\"payment\"", "\"refund\"", 1);
    assert!(matches!(old(&never), Err(RecordError::UnknownType(name)) if name == "refund"));
}

#[test]
fn a_form_without_steps_is_unknown() {
    let line = OLD.lines().next().expect("a golden line");
    assert!(matches!(Record::decode(line), Err(RecordError::UnknownSchema(0))));
    let newer = line.replacen("\"schema\":0", "\"schema\":2", 1);
    assert!(matches!(old(&newer), Err(RecordError::UnknownSchema(2))));
}
