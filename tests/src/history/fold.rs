//! What a person's events come to, folded from the JSON of the records and from nothing else, so
//! that it shares no code with what it judges. Not here: the partition's limits in force by date
//! of today are a function of [`limit_in_force`] alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::events::{Event, History};

/// A payment's identity within a person: employer and reference.
pub(super) type Key = (String, String);

/// A payment after some event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payment {
    pub(super) year: i64,
    /// Zero when cancelled.
    pub(super) amount: i64,
    pub(super) exempt: i64,
    pub(super) revision: i64,
    pub(super) cancelled: bool,
    /// Position of the event that last changed facts or split.
    pub(super) position: i64,
}

/// A person's events so far, with every state of every payment.
#[derive(Debug, Default)]
pub(super) struct Person {
    /// The states of each payment, oldest first.
    payments: BTreeMap<Key, Vec<Payment>>,
}

impl Person {
    /// Takes the person's next event.
    pub(super) fn take(&mut self, position: i64, event: &Event) {
        let (data, outcome) = (&event.record["data"], &event.record["outcome"]);
        let kind = event.kind();
        if matches!(kind, "payment_reported" | "payment_corrected" | "payment_cancelled") {
            let cancelled = kind == "payment_cancelled";
            let amount = if cancelled { 0 } else { oere(&data["facts"]["amount"]) };
            let payment = Payment {
                year: outcome["year"]["year"].as_i64().unwrap_or_default(),
                amount,
                exempt: oere(&outcome["exempt"]),
                revision: outcome["revision"].as_i64().unwrap_or_default(),
                cancelled,
                position,
            };
            self.payments.entry(key(data)).or_default().push(payment);
        }
        for split in outcome["changed"].as_array().into_iter().flatten() {
            let states = self.payments.entry(key(split)).or_default();
            if let Some(before) = states.last() {
                let exempt = oere(&split["exempt"]);
                states.push(Payment { exempt, position, ..before.clone() });
            }
        }
    }

    /// Every payment as it was after the event at `position`.
    pub(super) fn payments_at(&self, position: i64) -> BTreeMap<&Key, &Payment> {
        let at = |states: &'_ Vec<Payment>| states.iter().rposition(|p| p.position <= position);
        self.payments.iter().filter_map(|(key, states)| Some((key, &states[at(states)?]))).collect()
    }

    /// Sum in øre, number, and exempt part of the payments of a year that count, after the event at
    /// `position`.
    pub(super) fn year_at(&self, year: i64, position: i64) -> (i64, i64, i64) {
        let of_year = self.payments_at(position);
        let of_year = of_year.values().filter(|p| p.year == year && !p.cancelled);
        of_year.fold((0, 0, 0), |(sum, count, exempt), p| {
            (sum + p.amount, count + 1, exempt + p.exempt)
        })
    }
}

/// The limit of a year in øre that is in force today, by the events up to a position (Y5); `None`
/// where none is on record.
pub(super) fn limit_in_force(
    history: &History,
    partition: i32,
    year: i64,
    position: i64,
) -> Option<i64> {
    let upto = usize::try_from(position).ok()?.min(history.events(partition).len());
    let mut entries: BTreeMap<&str, i64> = BTreeMap::new();
    for event in &history.events(partition)[..upto] {
        let data = &event.record["data"];
        if event.kind() == "annual_limit_set" && data["year"].as_i64() == Some(year) {
            entries.insert(data["in_force_from"].as_str()?, oere(&data["limit"]));
        }
    }
    // All entries of these tests are in force since years ago.
    entries.last_key_value().map(|(_, limit)| *limit)
}

fn key(of: &Value) -> Key {
    let text = |name: &str| of[name].as_str().unwrap_or_default().to_owned();
    (text("employer_cvr"), text("reference"))
}

/// An amount of a record, in øre; 0 where there is none.
pub(super) fn oere(amount: &Value) -> i64 {
    let digits = amount.as_str().unwrap_or_default().replace('.', "");
    digits.parse().unwrap_or_default()
}
