//! What holds of every parser, whatever bytes it is given: one function each, which panics where it
//! does not hold.
//!
//! `tests/fuzz.rs` runs them in the suite over the corpus in `fuzz/corpus` and over bytes that chance
//! makes of it; `fuzz/` is the same under libFuzzer, which looks for long. What must stay out: that
//! nothing crashes, by itself; each says what must be true of what was read.

mod access;
mod import;
mod proofs;
mod records;
mod settings;
mod values;
mod wire;

/// A name, which is that of the corpus too, and what holds of any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("amount", values::amount),
    ("callers", access::callers),
    ("cpr", values::cpr),
    ("csv_payments", import::payments),
    ("csv_visitations", import::visitations),
    ("cvr", values::cvr),
    ("date", values::date),
    ("frames", wire::frames),
    ("history", records::history),
    ("identifiers", values::identifiers),
    ("keys", settings::keys),
    ("ledger_request", wire::ledger),
    ("limits", access::limits),
    ("lookups", access::lookups),
    ("note", proofs::note),
    ("page_token", wire::page_token),
    ("projector_request", wire::projector),
    ("receipt", proofs::receipt),
    ("record", records::record),
    ("settings", settings::settings),
    ("token", access::token),
    ("token_keys", access::token_keys),
    ("tree", proofs::tree),
];

/// Runs the target with this name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, holds) = target.unwrap_or_else(|| panic!("there is no target {name}"));
    holds(data);
}

/// The bytes as text, which all parsers of text are given as such.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Every CPR number that stands in the bytes, with or without its hyphen.
fn cpr_numbers(data: &[u8]) -> Vec<frikort_domain::Cpr> {
    let numbers = [10, 11].into_iter().flat_map(|length| data.windows(length));
    numbers.filter_map(|window| text(window)?.parse().ok()).collect()
}
