//! Requests as they come in: any message is a command, or a refusal that names what is wrong and
//! repeats no CPR number. The first byte says which type of request the rest is. And the frames that they
//! come in.

use frikort_ledger::fuzzing as services;
use frikort_process::frames::Frames;
use frikort_projector::fuzzing as queries;
use frikort_proto::{error::Failure, v1::ErrorReason};
use frikort_register::{Named, Who};
use time::{Date, OffsetDateTime, macros::datetime};

use super::{cpr_numbers, text};

/// What time it is for all of them.
const NOW: OffsetDateTime = datetime!(2025-06-30 12:00 UTC);
const TODAY: Date = NOW.date();

pub(super) fn ledger(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match services::request(*which, bytes, TODAY) {
        None => {}
        Some(Err(failure)) => refused(bytes, &failure),
        Some(Ok(asked)) => {
            let Some(Named { who: Who::Cpr(cpr), .. }) = &asked.named else { return };
            // A revision is a number of up to ten digits, and may be anything.
            let shown = asked.shown.split(", expected_revision:").next().unwrap_or_default();
            assert!(!cpr.is_in(shown), "W5: the person's number is in the command: {shown}");
        }
    }
}

pub(super) fn projector(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    if let Some(Err(failure)) = queries::request(*which, bytes, NOW) {
        refused(bytes, &failure);
    }
}

pub(super) fn page_token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match queries::page_token(text) {
        Ok(None) => assert!(text.is_empty()),
        Ok(Some(written)) => {
            let again = queries::page_token(&written);
            assert_eq!(again, Ok(Some(written)), "a token is read as it was written");
        }
        Err(failure) => refused(data, &failure),
    }
}

/// The first byte says how the rest is cut.
pub(super) fn frames(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    let whole = Frames::default().idle_in(bytes);
    let mut frames = Frames::default();
    let cut: u32 = bytes.chunks(usize::from(*step).max(1)).map(|cut| frames.idle_in(cut)).sum();
    assert_eq!(whole, cut, "frames are the same wherever they are cut");
    assert!(whole as usize * 9 <= bytes.len(), "each has a header");
}

fn refused(request: &[u8], failure: &Failure) {
    assert_eq!(failure.reason, ErrorReason::InvalidField, "{failure:?}");
    assert!(!failure.fields.is_empty(), "the bad fields are named");
    for (field, allowed) in &failure.fields {
        assert!(!field.is_empty() && !allowed.is_empty(), "{failure:?}");
        let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
        assert!(field.chars().all(is_path), "a field is a path: {field}");
    }
    let said = format!("{failure:?}");
    for cpr in cpr_numbers(request) {
        assert!(!cpr.is_in(&said), "W5: the refusal repeats a CPR number");
    }
    let status = tonic::Status::from(failure.clone());
    assert_eq!(Failure::from_status(&status).as_ref(), Some(failure), "a client reads the same");
}
