//! The record: one event as one line of canonical JSON. The bytes are what is stored, exported
//! and hashed; they are written once and never re-encoded.
//!
//! Canonical: UTF-8, no white space, this order of keys, amounts as decimal strings, ISO dates,
//! no floats, absent instead of null. Unknown types, versions and fields stop a reader.
//!
//! Only the form of today is written. A line of an older form is read through the steps of
//! `upcast.rs`, which lead from each form to the next; the line itself stays as it was stored.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use time::{Date, OffsetDateTime, Time, UtcOffset};
use uuid::Uuid;

use crate::{
    CardOutcome, Event, PersonId,
    civil::{iso_text, parse_date},
    digits::Text,
    upcast::{UPCASTS, Upcasts},
};

/// Version of the record's form.
pub const SCHEMA: u16 = 1;

/// Most records fit, in bytes.
const USUAL_LENGTH: usize = 768;

/// Namespace of event ids: UUIDv5 of "partition:position", so that nothing random is needed.
const EVENT_IDS: Uuid = Uuid::from_u128(0x8c0f_54de_7a4e_4b1b_9d0a_6f1b_6e0e_52a7);

/// An event with its place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// 1, 2, 3 … within the partition.
    pub position: i64,
    /// Whose stream; `None` for events of the partition itself (limits).
    pub person_id: Option<PersonId>,
    /// 1, 2, 3 … within the stream.
    pub version: i64,
    /// Strictly increasing within the partition, in whole microseconds.
    pub recorded_at: OffsetDateTime,
    /// On whose behalf.
    pub actor: Actor,
    /// The caller's trace id, where one was given.
    pub trace_id: Option<String>,
    /// What happened.
    pub event: Event,
}

/// On whose behalf something is recorded; from the authenticated caller, never from a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The caller's role.
    pub role: Role,
    /// The caller's organisation: CVR number, municipality code, or the operator's name.
    pub organisation: String,
}

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reports payments.
    Employer,
    /// Decides about cards.
    Municipality,
    /// Runs the ledger.
    Operator,
}

/// Why a line is no record that this program can read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of the record's form.
    #[error("malformed record")]
    Malformed(#[source] serde_json::Error),
    /// A newer form.
    #[error("record of schema {0}; this program reads schema {SCHEMA}")]
    UnknownSchema(u16),
    /// A newer type of event.
    #[error("record of unknown type {0:?}")]
    UnknownType(String),
    /// A part that the type requires, or must not have.
    #[error("record of type {0:?} with a part missing or too many")]
    WrongParts(String),
}

/// The record as it is written; the order of the fields is the order of the keys.
#[derive(Serialize)]
struct Line<'a, D, O> {
    schema: u16,
    partition: i32,
    position: i64,
    event_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    person_id: Option<PersonId>,
    version: i64,
    #[serde(serialize_with = "write_instant")]
    recorded_at: OffsetDateTime,
    r#type: &'static str,
    actor: &'a Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    data: &'a D,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a O>,
}

/// The record as it is read: data and outcome wait until the type is known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadLine<'a> {
    schema: u16,
    partition: i32,
    position: i64,
    #[serde(rename = "event_id")]
    _event_id: Uuid,
    person_id: Option<PersonId>,
    version: i64,
    #[serde(deserialize_with = "read_instant")]
    recorded_at: OffsetDateTime,
    r#type: &'a str,
    actor: Actor,
    trace_id: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    outcome: Option<&'a RawValue>,
}

impl Record {
    /// The line, without a line feed.
    pub fn encode(&self) -> String {
        match &self.event {
            Event::CardGranted(data, outcome) => {
                self.line("card_granted", data, unless_active(outcome))
            }
            Event::ApplicationRejected(data) => {
                self.line("application_rejected", data, None::<&()>)
            }
            Event::CardDeactivated(data, outcome) => {
                self.line("card_deactivated", data, Some(outcome))
            }
            Event::CardReactivated(data, outcome) => {
                self.line("card_reactivated", data, unless_active(outcome))
            }
            Event::CardReissued(data) => self.line("card_reissued", data, None::<&()>),
            Event::CardTransferred(data) => self.line("card_transferred", data, None::<&()>),
            Event::CprNumberChanged(data) => self.line("cpr_number_changed", data, None::<&()>),
            Event::DecisionReversed(data, outcome) => {
                self.line("decision_reversed", data, Some(outcome))
            }
            Event::ControlRecorded(data) => self.line("control_recorded", data, None::<&()>),
            Event::PaymentReported(data, outcome) => {
                self.line("payment_reported", data, Some(outcome))
            }
            Event::PaymentCorrected(data, outcome) => {
                self.line("payment_corrected", data, Some(outcome))
            }
            Event::PaymentCancelled(data, outcome) => {
                self.line("payment_cancelled", data, Some(outcome))
            }
            Event::AllowanceRecalculated(data, outcome) => {
                self.line("allowance_recalculated", data, Some(outcome))
            }
            Event::AnnualLimitSet(data) => self.line("annual_limit_set", data, None::<&()>),
        }
    }

    fn line<D: Serialize, O: Serialize>(
        &self,
        r#type: &'static str,
        data: &D,
        outcome: Option<&O>,
    ) -> String {
        // Neither is ever negative.
        let (partition, position) = (self.partition.unsigned_abs(), self.position.unsigned_abs());
        let name = Text::<31>::new().number(partition.into(), 1).push(b':').number(position, 1);
        let line = Line {
            schema: SCHEMA,
            partition: self.partition,
            position: self.position,
            event_id: Uuid::new_v5(&EVENT_IDS, name.as_str().as_bytes()),
            person_id: self.person_id,
            version: self.version,
            recorded_at: self.recorded_at,
            r#type,
            actor: &self.actor,
            trace_id: self.trace_id.as_deref(),
            data,
            outcome,
        };
        let mut text = Vec::with_capacity(USUAL_LENGTH);
        serde_json::to_writer(&mut text, &line)
            .expect("a record has string keys, and no failing parts");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    /// What is wrong with a line that reads as this record, and would be written otherwise; `None`
    /// where it is in the one form in which a record is written.
    pub fn fault_of_form(&self, line: &str) -> Option<&'static str> {
        const ID: &str = "\"event_id\":\"";
        // A UUID and its quotation mark.
        const LENGTH: usize = 37;
        let written = self.encode();
        if written == line {
            return None;
        }
        let around = |text: &str| {
            let (before, after) = text.split_once(ID)?;
            Some((before.to_owned(), after.get(LENGTH..)?.to_owned()))
        };
        Some(match around(line) {
            Some(rest) if Some(&rest) == around(&written).as_ref() => {
                "its event id is not that of its partition and position"
            }
            _ => "it is not in the form in which a record is written",
        })
    }

    /// Reads a line, of this form or of an older one.
    pub fn decode(line: &str) -> Result<Self, RecordError> {
        Self::decode_with(line, &UPCASTS)
    }

    /// The same with other steps between forms than those of today.
    pub fn decode_with(line: &str, upcasts: &Upcasts) -> Result<Self, RecordError> {
        match Self::decode_today(line) {
            Err(RecordError::UnknownSchema(schema)) if upcasts.reads(schema) => {
                Self::decode_today(&upcasts.upcast(line, schema)?)
            }
            decoded => decoded,
        }
    }

    /// Reads a line of the form of today.
    fn decode_today(line: &str) -> Result<Self, RecordError> {
        let read: ReadLine<'_> = serde_json::from_str(line).map_err(|e| unreadable(line, e))?;
        if read.schema != SCHEMA {
            return Err(RecordError::UnknownSchema(read.schema));
        }
        let event = match (read.r#type, read.outcome) {
            ("payment_reported", Some(outcome)) => {
                Event::PaymentReported(part(read.data)?, part(outcome)?)
            }
            ("payment_corrected", Some(outcome)) => {
                Event::PaymentCorrected(part(read.data)?, part(outcome)?)
            }
            ("payment_cancelled", Some(outcome)) => {
                Event::PaymentCancelled(part(read.data)?, part(outcome)?)
            }
            ("card_granted", outcome) => {
                Event::CardGranted(part(read.data)?, active_unless(outcome)?)
            }
            ("card_deactivated", Some(outcome)) => {
                Event::CardDeactivated(part(read.data)?, part(outcome)?)
            }
            ("application_rejected", None) => Event::ApplicationRejected(part(read.data)?),
            ("decision_reversed", Some(outcome)) => {
                Event::DecisionReversed(part(read.data)?, part(outcome)?)
            }
            ("allowance_recalculated", Some(outcome)) => {
                Event::AllowanceRecalculated(part(read.data)?, part(outcome)?)
            }
            ("card_reactivated", outcome) => {
                Event::CardReactivated(part(read.data)?, active_unless(outcome)?)
            }
            ("card_reissued", None) => Event::CardReissued(part(read.data)?),
            ("card_transferred", None) => Event::CardTransferred(part(read.data)?),
            ("cpr_number_changed", None) => Event::CprNumberChanged(part(read.data)?),
            ("control_recorded", None) => Event::ControlRecorded(part(read.data)?),
            ("annual_limit_set", None) => Event::AnnualLimitSet(part(read.data)?),
            (known, _) if RECORD_TYPES.contains(&known) => {
                return Err(RecordError::WrongParts(known.to_owned()));
            }
            (unknown, _) => return Err(RecordError::UnknownType(unknown.to_owned())),
        };
        let of_person = !matches!(event, Event::AnnualLimitSet(_));
        if read.person_id.is_some() != of_person {
            return Err(RecordError::WrongParts(read.r#type.to_owned()));
        }
        Ok(Self {
            partition: read.partition,
            position: read.position,
            person_id: read.person_id,
            version: read.version,
            recorded_at: read.recorded_at,
            actor: read.actor,
            trace_id: read.trace_id,
            event,
        })
    }
}

/// The types of events, as records name them.
pub const RECORD_TYPES: [&str; 14] = [
    "card_granted",
    "application_rejected",
    "card_deactivated",
    "card_reactivated",
    "card_reissued",
    "card_transferred",
    "decision_reversed",
    "control_recorded",
    "cpr_number_changed",
    "payment_reported",
    "payment_corrected",
    "payment_cancelled",
    "allowance_recalculated",
    "annual_limit_set",
];

/// The type of a record, without reading the rest of it; `None` of a line that is no record. What
/// stands before the type cannot hold a quotation mark.
pub fn record_type(line: &str) -> Option<&str> {
    line.split_once(r#","type":""#)?.1.split('"').next()
}

/// A newer schema may have any form; it is named all the same.
fn unreadable(line: &str, error: serde_json::Error) -> RecordError {
    #[derive(Deserialize)]
    struct Versioned {
        schema: u16,
    }
    match serde_json::from_str(line) {
        Ok(Versioned { schema }) if schema != SCHEMA => RecordError::UnknownSchema(schema),
        _ => RecordError::Malformed(error),
    }
}

fn part<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, RecordError> {
    serde_json::from_str(raw.get()).map_err(RecordError::Malformed)
}

/// What is written of a decision that as a rule leaves the card active.
fn unless_active(outcome: &CardOutcome) -> Option<&CardOutcome> {
    Some(outcome).filter(|outcome| !outcome.active)
}

fn active_unless(outcome: Option<&RawValue>) -> Result<CardOutcome, RecordError> {
    outcome.map_or(Ok(CardOutcome::ACTIVE), part)
}

/// `2026-11-22T04:18:59.123456Z`: always six decimals, always UTC.
fn write_instant<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let at = at.to_offset(UtcOffset::UTC);
    let (hour, minute, second, micro) = at.to_hms_micro();
    let text = iso_text::<27>(at.date()).push(b'T').number(hour.into(), 2).push(b':');
    let text = text.number(minute.into(), 2).push(b':').number(second.into(), 2).push(b'.');
    serializer.serialize_str(text.number(micro.into(), 6).push(b'Z').as_str())
}

fn read_instant<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<OffsetDateTime, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    parse_instant(text).ok_or_else(|| serde::de::Error::custom("not an instant"))
}

fn parse_instant(text: &str) -> Option<OffsetDateTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let date: Date = parse_date(date)?;
    let form = time.bytes().enumerate().all(|(at, byte)| match at {
        2 | 5 => byte == b':',
        8 => byte == b'.',
        _ => byte.is_ascii_digit(),
    });
    if !form || time.len() != 15 {
        return None;
    }
    let part = |range: std::ops::Range<usize>| time.get(range)?.parse::<u8>().ok();
    let (hour, minute, second) = (part(0..2)?, part(3..5)?, part(6..8)?);
    let micro = time.get(9..)?.parse().ok()?;
    Some(date.with_time(Time::from_hms_micro(hour, minute, second, micro).ok()?).assume_utc())
}
