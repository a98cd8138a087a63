//! Civil dates and persons between our types and the contract's messages. What must stay out:
//! checks; the services are the one authority on what is well formed.

use anyhow::Context;
use frikort_proto::{
    Date as WireDate, Timestamp, timestamp,
    v1::{PersonRef, person_ref::Person},
};
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339};

/// A date as a message.
pub(crate) fn date(date: Date) -> WireDate {
    WireDate {
        year: date.year(),
        month: i32::from(u8::from(date.month())),
        day: i32::from(date.day()),
    }
}

/// `2023-02-28`; empty where there is none.
pub(crate) fn show(date: Option<WireDate>) -> String {
    date.map(|d| format!("{:04}-{:02}-{:02}", d.year, d.month, d.day)).unwrap_or_default()
}

/// A person by CPR number, with the Frikort-ID where one is given.
pub(crate) fn by_cpr(cpr: String, frikort_id: String) -> PersonRef {
    PersonRef { person: Some(Person::CprNumber(cpr)), frikort_id }
}

/// A person by the ledger's own id.
pub(crate) fn by_id(person_id: String) -> PersonRef {
    PersonRef { person: Some(Person::PersonId(person_id)), frikort_id: String::new() }
}

/// An instant as it is typed.
pub(crate) fn instant(text: &str) -> anyhow::Result<Timestamp> {
    let read = OffsetDateTime::parse(text, &Rfc3339);
    Ok(timestamp(read.context("an instant is written as 2023-05-31T12:00:00Z")?))
}
