//! Doors to this crate's parsers for the fuzz targets in `tests`, and for nobody else: they are
//! private because only the services here may ask them. What must stay out: anything that the
//! services and the command do not do in the same way.

use frikort_domain::copenhagen_date;
use frikort_process::config;
use frikort_proto::error::Failure;
use prost::Message;
use time::OffsetDateTime;

use crate::{asked, cli, overview, page::PageToken, watch};

/// The types of request that [`request`] tells apart.
pub const REQUESTS: u8 = 8;

/// Partitions that a request may name.
const PARTITIONS: [i32; 2] = [0, 1];

/// Reads the bytes as a request of the type with this number and parses it as its service does;
/// `None` of bytes that are no message.
pub fn request(number: u8, bytes: &[u8], now: OffsetDateTime) -> Option<Result<(), Failure>> {
    match number % REQUESTS {
        0 => read(bytes, |r| asked::allowance(r, now).map(drop)),
        1 => read(bytes, |r| asked::allowances(r, now).map(drop)),
        2 => read(bytes, |r| asked::statement(r, now).map(drop)),
        3 => read(bytes, |r| asked::due_controls(&r, copenhagen_date(now)).map(drop)),
        4 => read(bytes, |r| asked::processing_times(&r).map(drop)),
        5 => read(bytes, |r| asked::annual_totals(r, &PARTITIONS)),
        6 => read(bytes, |r| overview::PaymentsAsked::parse(r, &PARTITIONS).map(drop)),
        _ => read(bytes, |r| watch::parse(r, &PARTITIONS).map(drop)),
    }
}

fn read<M: Message + Default>(
    bytes: &[u8],
    parse: impl FnOnce(M) -> Result<(), Failure>,
) -> Option<Result<(), Failure>> {
    M::decode(bytes).ok().map(parse)
}

/// Reads a page token of payments, and writes it again.
pub fn page_token(text: &str) -> Result<Option<String>, Failure> {
    type Token = PageToken<overview::PaymentFilter, overview::PaymentPlace>;
    Ok(Token::read(text, |_| true)?.map(|token| token.write()))
}

/// Reads the text of a settings file.
pub fn settings(text: &str) -> anyhow::Result<()> {
    config::parse::<cli::File>(text).map(drop)
}
