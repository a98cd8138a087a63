//! Doors to this crate's parsers for the fuzz targets in `tests`, and for nobody else: they are
//! private because only the services here may ask them. What must stay out: anything that the
//! services do not do in the same way.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use frikort_process::{clock::Clock, config, serve};
use frikort_proto::error::Failure;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Caller, Directory, Misses, Role,
    access_log::Rows,
    keys::Keys,
    limits::{LimitArgs, Settings},
    note,
    token::Tokens,
};

/// The look-ups of a file of the journal, written again; how many persons' and how many calls' they are;
/// and how many lines are none.
///
/// # Panics
/// If a note that was read cannot be written.
pub fn lookups(lines: &[u8]) -> (Vec<u8>, [usize; 2], usize) {
    let (notes, unreadable) = note::read(lines);
    let again = notes.iter().flat_map(|note| note.line().expect("a note"));
    let again = again.collect();
    let persons = Rows::of(Uuid::max(), &notes).persons();
    (again, [persons, notes.len()], unreadable)
}

/// Name (`kid`) and algorithm of each key of a set that is taken.
pub fn token_keys(text: &[u8]) -> anyhow::Result<Vec<(Option<String>, String)>> {
    Ok(Keys::parse(text)?.named())
}

/// Whom a token names, given as the value of `authorization`; `None` of one that is refused.
///
/// # Panics
/// Of `keys` that are no set.
pub fn bearer(
    keys: &[u8],
    (issuer, audience): (&str, &str),
    now: OffsetDateTime,
    authorization: &[u8],
) -> Option<String> {
    let keys = Keys::parse(keys).expect("a set of keys");
    let tokens = Tokens::checked_with(keys, issuer, audience, Clock::fixed(now));
    let value = HeaderValue::from_bytes(authorization).ok()?;
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    Some(tokens.subject(&headers).ok()??.to_string())
}

/// Everybody in a directory; once for each name by which they are known.
pub fn callers(directory: &Directory) -> Vec<Arc<Caller>> {
    directory.callers()
}

/// The caller whose tokens have this `sub`.
pub fn by_token(directory: &Directory, subject: &str) -> Option<Arc<Caller>> {
    directory.bearer(subject)
}

/// Reads the table `[access.limits]`: the connections there may be, and how calls of one caller end
/// that come at once, before each of which it was answered so often that nobody is there.
pub fn limits(
    text: &str,
    role: Role,
    misses: &[u32],
) -> anyhow::Result<(serve::Limits, Vec<Result<(), Failure>>)> {
    let limits = LimitArgs::default().limits(config::parse::<Settings>(text)?);
    let share = limits.of("somebody");
    let guesses = Misses::of(role, &share);
    let calls = misses.iter().map(|misses| {
        guesses.count(*misses);
        share.call().and_then(|_under_way| guesses.allowed())
    });
    let calls = calls.collect();
    Ok((limits.connections(), calls))
}
