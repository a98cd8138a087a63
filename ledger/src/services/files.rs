//! The proof logs as the static files of c2sp.org/tlog-tiles, by plain HTTP GET, so that existing
//! tools and witnesses can read them. Below `/log/partition/<N>/`:
//!
//! ```text
//!   checkpoint                  the last signed checkpoint
//!   keys                        the log's verifier keys, one a line, the present one first
//!   tile/<L>/<N>[.p/<W>]        hashes
//!   tile/entries/<N>[.p/<W>]    records
//! ```
//!
//! What must stay out: anything that is not in these files.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use frikort_proto::error::Failure;
use tokio::time::Instant;
use tonic::Status;

use super::proof::unproved;
use crate::{
    ledger::Ledger,
    proof::{Log, Unproved},
};

/// Tile levels of a log of any length that has room for its positions.
const LEVELS: u32 = 8;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// A full tile never changes.
const FOR_EVER: &str = "max-age=604800, immutable";
const NOT_KEPT: &str = "no-cache";

/// The routes of the files.
pub(crate) fn routes(ledger: Arc<Ledger>) -> Router {
    Router::new()
        .route("/log/partition/{partition}/checkpoint", get(checkpoint))
        .route("/log/partition/{partition}/keys", get(keys))
        .route("/log/partition/{partition}/tile/{level}/{*number}", get(tile))
        .with_state(ledger)
}

async fn checkpoint(State(ledger): State<Arc<Ledger>>, Path(partition): Path<i32>) -> Response {
    let Some(log) = ledger.logs.get(&partition) else { return absent() };
    match log.checkpoint(1, Instant::now()).await {
        Ok(signed) => found(TEXT, NOT_KEPT, signed.note.into_bytes()),
        Err(Unproved::Behind { .. }) => absent(),
        Err(error) => failed(&ledger, error),
    }
}

async fn keys(State(ledger): State<Arc<Ledger>>, Path(partition): Path<i32>) -> Response {
    let Some(log) = ledger.logs.get(&partition) else { return absent() };
    let keys = log.verifiers().iter().map(|key| format!("{key}\n")).collect::<String>();
    if keys.is_empty() { absent() } else { found(TEXT, NOT_KEPT, keys.into_bytes()) }
}

async fn tile(
    State(ledger): State<Arc<Ledger>>,
    Path((partition, level, path)): Path<(i32, String, String)>,
) -> Response {
    let Some(log) = ledger.logs.get(&partition) else { return absent() };
    let Some((number, width)) = parse_number(&path) else { return absent() };
    let kept = if width == frikort_proof::TILE_WIDTH { FOR_EVER } else { NOT_KEPT };
    match read(log, &level, number, width).await {
        Ok(Some(bytes)) => found(BYTES, kept, bytes),
        Ok(None) => absent(),
        Err(error) => failed(&ledger, error),
    }
}

async fn read(
    log: &Log,
    level: &str,
    number: u64,
    width: usize,
) -> Result<Option<Vec<u8>>, Unproved> {
    if level == "entries" {
        return log.entries(number, width).await;
    }
    match level.parse().ok().filter(|read: &u32| *read < LEVELS && read.to_string() == level) {
        Some(level) => log.tile(level, number, width).await,
        None => Ok(None),
    }
}

/// Number and width of a tile from its path: `x001/x234/067`, or with `.p/<width>` behind.
fn parse_number(path: &str) -> Option<(u64, usize)> {
    let (number, width) = match path.split_once(".p/") {
        None => (path, frikort_proof::TILE_WIDTH),
        Some((number, digits)) => {
            let width = digits.parse().ok().filter(|width: &usize| width.to_string() == digits)?;
            (number, (1..frikort_proof::TILE_WIDTH).contains(&width).then_some(width)?)
        }
    };
    let (above, last) = match number.rsplit_once('/') {
        Some((above, last)) => (above.split('/').collect(), last),
        None => (Vec::new(), number),
    };
    let three = |digits: &str| {
        let sound = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        sound.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let mut read = 0_u64;
    for part in &above {
        read = read.checked_mul(1000)?.checked_add(three(part.strip_prefix('x')?)?)?;
    }
    // One name only for each.
    let canonical = above.first().is_none_or(|first| *first != "x000");
    read = read.checked_mul(1000)?.checked_add(three(last)?)?;
    canonical.then_some((read, width))
}

fn found(form: &'static str, kept: &'static str, bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, form), (header::CACHE_CONTROL, kept)], bytes).into_response()
}

fn absent() -> Response {
    (StatusCode::NOT_FOUND, "no such file in this log\n").into_response()
}

fn failed(ledger: &Ledger, error: Unproved) -> Response {
    let failure: Failure = unproved(ledger, error);
    let text = format!("{}: {}\n", failure.reason_name(), Status::from(failure).message());
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    #[test]
    fn a_tile_has_one_name() {
        assert_eq!(parse_number("000"), Some((0, 256)));
        assert_eq!(parse_number("067.p/5"), Some((67, 5)));
        assert_eq!(parse_number("x001/x234/067"), Some((1_234_067, 256)));
        assert_eq!(parse_number("x001/000.p/255"), Some((1_000, 255)));
        for bad in [
            "",
            "0",
            "67",
            "0067",
            "x001",
            "001/002",
            "x000/001",
            "x001/x002/3",
            "000.p/0",
            "000.p/256",
            "000.p/05",
            "000.p/",
            "000/",
            "/000",
            "x001//000",
            "+01",
            "x+01/000",
            "x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }
}
