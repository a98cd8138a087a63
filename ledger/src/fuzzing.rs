//! Doors to this crate's parsers for the fuzz targets in `tests`, and for nobody else: they are
//! private because only the services here may ask them. What must stay out: anything that the
//! services and the command do not do in the same way.

use std::fmt::Debug;

use frikort_process::config;
use frikort_proto::{error::Failure, v1};
use frikort_register::Named;
use prost::Message;
use time::Date;

use crate::{SigningKeys, cli, parse};

/// The types of request that [`request`] tells apart.
pub const REQUESTS: u8 = 17;

/// Partitions that a request may name.
const PARTITIONS: [i32; 2] = [0, 1];

/// A request that is taken.
#[derive(Debug)]
pub struct Asked {
    /// Whom it names, where it names anybody.
    pub named: Option<Named>,
    /// What it asks for, shown as a log would.
    pub shown: String,
}

/// Reads the bytes as a request of the type with this number and parses it as its service does;
/// `None` of bytes that are no message.
pub fn request(number: u8, bytes: &[u8], today: Date) -> Option<Result<Asked, Failure>> {
    match number % REQUESTS {
        0 => read(bytes, |r| parse::report(r, today).map(of_person)),
        1 => read(bytes, |r: v1::ReportPaymentsRequest| {
            parse::report(r.payment.unwrap_or_default(), today).map(of_person)
        }),
        2 => read(bytes, |r| parse::correct(r, today).map(of_person)),
        3 => read(bytes, |r| parse::cancel(r).map(of_person)),
        4 => read(bytes, |r| {
            let parsed = parse::grant(r, today)?;
            let command = parsed.command;
            let shown = (command.key, command.decided_on, command.effective_from, command.criteria);
            Ok(asked(Some(parsed.named), &shown))
        }),
        5 => read(bytes, |r| parse::reject(r, today).map(of_person)),
        6 => read(bytes, |r| parse::deactivate(r, today).map(of_person)),
        7 => read(bytes, |r| parse::reactivate(r, today).map(of_person)),
        8 => read(bytes, |r| parse::transfer(r, today).map(of_person)),
        9 => read(bytes, |r| parse::reverse(r, today).map(of_person)),
        10 => read(bytes, |r| parse::control(r, today).map(of_person)),
        11 => read(bytes, |r| {
            let parsed = parse::reissue(r, today)?;
            Ok(asked(Some(parsed.named), &(parsed.command.key, parsed.command.decided_on)))
        }),
        12 => read(bytes, |r| {
            let parsed = parse::new_number(r, today)?;
            let command = parsed.command;
            Ok(asked(Some(parsed.named), &(command.key, command.decided_on, command.cpr)))
        }),
        13 => read(bytes, |r: v1::GetCardRequest| {
            parse::person(r.person).map(|named| asked(Some(named), &()))
        }),
        14 => read(bytes, |r| parse::limit(r).map(|entry| asked(None, &entry))),
        15 => read(bytes, |r| {
            let reading = parse::reading(r, &PARTITIONS)?;
            let (span, types) = (reading.span, reading.types);
            Ok(asked(reading.named, &(span.from, span.to, span.recorded_from, types)))
        }),
        _ => read(bytes, |r| {
            let wish = parse::checking(r, &PARTITIONS)?;
            Ok(asked(None, &(wish.partition, wish.kept.len())))
        }),
    }
}

fn read<M: Message + Default>(
    bytes: &[u8],
    parse: impl FnOnce(M) -> Result<Asked, Failure>,
) -> Option<Result<Asked, Failure>> {
    M::decode(bytes).ok().map(parse)
}

fn of_person<C: Debug>(parsed: parse::Parsed<C>) -> Asked {
    asked(Some(parsed.named), &parsed.command)
}

fn asked(named: Option<Named>, what: &impl Debug) -> Asked {
    Asked { named, shown: format!("{what:?}") }
}

/// Reads the text of a settings file.
pub fn settings(text: &str) -> anyhow::Result<()> {
    config::parse::<cli::File>(text).map(drop)
}

/// Reads the text of the signing key's file.
pub fn signing_keys(text: &str) -> Option<SigningKeys> {
    SigningKeys::parse(text)
}
