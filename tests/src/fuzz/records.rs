//! Records: what is read is written in one form, and read again as the same; what an export holds is
//! replayed without believing it.

use std::collections::HashMap;

use frikort_domain::{
    Event, LimitHistory, RECORD_TYPES, Record, Replay, Upcasts, contains_cpr, record_type,
};

use super::text;

/// Lines of a history that are replayed.
const MOST_LINES: usize = 64;

/// An older form without a step: alike in both.
const ALIKE: Upcasts = Upcasts { oldest: 0, steps: &[] };

pub(super) fn record(data: &[u8]) {
    let Some(line) = text(data) else { return };
    let Ok(record) = Record::decode(line) else { return };
    let written = record.encode();
    assert_eq!(decoded(&written), record, "what is written is read as the same");
    assert_eq!(record.fault_of_form(&written), None, "what is written is in the one form");
    assert_eq!(
        record.fault_of_form(line).is_none(),
        line == written,
        "a line is in the one form only where it is these bytes"
    );
    assert!(!written.contains('\n'), "a record is one line");
    let named = record_type(&written);
    assert!(named.is_some_and(|name| RECORD_TYPES.contains(&name)), "{named:?}");
    let today = Record::decode_with(&written, &ALIKE);
    assert_eq!(today.ok().as_ref(), Some(&record), "no step touches the form of today");
    let older = written.replacen("{\"schema\":1,", "{\"schema\":0,", 1);
    assert!(Record::decode(&older).is_err(), "an older form is read by its steps only");
    let older = Record::decode_with(&older, &ALIKE);
    assert_eq!(older.ok(), Some(record), "what is alike in both forms is the same record");
}

/// Lines of records, as an auditor replays them.
pub(super) fn history(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (mut limits, mut persons) = (LimitHistory::default(), HashMap::<_, Replay>::new());
    for record in text.lines().take(MOST_LINES).filter_map(|line| Record::decode(line).ok()) {
        if let Event::AnnualLimitSet(set) = &record.event {
            limits.record(set.clone(), record.position, record.recorded_at);
        }
        let Some(person) = record.person_id else { continue };
        let replay = persons.entry(person).or_default();
        let before = replay.account().version();
        let taken = replay.take(&record, Some(&limits));
        let after = replay.account().version();
        match taken {
            Ok(()) => assert_eq!(after, record.version, "it is folded in"),
            Err(unsound) if unsound.goes_on() => assert_eq!(after, before + 1, "{unsound}"),
            Err(unsound) => {
                assert_eq!(after, before, "{unsound}");
                assert!(!contains_cpr(&unsound.to_string()), "W5");
            }
        }
    }
}

fn decoded(line: &str) -> Record {
    Record::decode(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
