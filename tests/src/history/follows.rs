//! Whether what a stream was told is the history, without a gap: each change once and in order from
//! where it was to go on, in the history of the epoch in which it came.
//!
//! A stream may outlive a change of the history only as far as both histories are the same.

use std::collections::BTreeMap;

use frikort_proto::v1::{
    Allowance, LedgerPosition, read_events_response, watch_allowances_response,
};

use super::{
    events::{Event, Histories, History},
    judge::{equal, limit_is, totals},
    streams::{Item, Watched},
};

/// Where a stream is in a partition, and in which epoch that is known to be so.
#[derive(Clone, Copy, Debug)]
struct At {
    position: i64,
    epoch: usize,
}

/// Judges what one stream was told. `asked` is the epoch in which it began.
pub(super) fn judge_stream(
    watched: &Watched,
    asked: usize,
    histories: &Histories,
) -> Result<(), String> {
    let mut places: BTreeMap<i32, At> = BTreeMap::new();
    for after in &watched.after {
        // What answers may have been given in a later epoch than it was asked in, and reading
        // events goes on from a number alone.
        let first = watched.items.first().map_or(asked, |(epoch, _)| *epoch);
        let known = (asked..=first).find(|epoch| {
            after.recorded_time.is_none() || histories.of(*epoch).named(after).is_ok()
        });
        let Some(epoch) = known else {
            let why = histories.of(first).named(after).err().unwrap_or_default();
            return Err(format!("it goes on after a position that was lost: {why}"));
        };
        let epoch = if after.recorded_time.is_none() { first } else { epoch };
        places.insert(after.partition, At { position: after.position, epoch });
    }
    for (epoch, item) in &watched.items {
        let (partition, position) = place(item);
        let start = At { position: 0, epoch: *epoch };
        let at = places.entry(partition).or_insert(start);
        let history = histories.of(*epoch);
        goes_on(histories, partition, at, *epoch)?;
        let missing = |upto: i64| {
            (at.position + 1..upto).find(|between| {
                history.at(partition, *between).is_some_and(|event| is_told(item, event))
            })
        };
        let next = |position: i64| -> Result<&Event, String> {
            if position <= at.position {
                return Err(format!("{position} comes after {}", at.position));
            }
            if let Some(missing) = missing(position) {
                return Err(format!("{missing} is missing before {position}"));
            }
            let event = history.at(partition, position);
            event.ok_or_else(|| {
                format!("{position} was told, the head is {}", history.head(partition))
            })
        };
        match item {
            Item::Watched(watch_allowances_response::Item::Change(change)) => {
                let event = next(position)?;
                named(history, change.position.as_ref())?;
                change_is(event, &change.allowances)?;
            }
            Item::Watched(watch_allowances_response::Item::Limit(change)) => {
                let event = next(position)?;
                named(history, change.position.as_ref())?;
                limit_is(event, change.limit.as_ref().ok_or("no limit")?)?;
            }
            Item::Read(read_events_response::Item::Event(told)) => {
                let event = next(position)?;
                equal("record", event.line.as_bytes(), told.record.as_slice())?;
            }
            Item::Watched(watch_allowances_response::Item::CaughtUp(_))
            | Item::Read(read_events_response::Item::CaughtUp(_)) => {
                if position > history.head(partition) {
                    let head = history.head(partition);
                    return Err(format!("a mark at {position}, the head is {head}"));
                }
                if let Some(missing) = missing(position + 1) {
                    return Err(format!("{missing} is missing before the mark at {position}"));
                }
            }
        }
        *at = At { position: position.max(at.position), epoch: *epoch };
    }
    Ok(())
}

/// Fails where a stream goes on although the history before it is another one.
fn goes_on(histories: &Histories, partition: i32, at: &mut At, epoch: usize) -> Result<(), String> {
    let (then, now) = (histories.of(at.epoch), histories.of(epoch));
    let line =
        |history: &History| history.at(partition, at.position).map(|event| event.line.clone());
    if at.epoch != epoch && at.position > 0 && line(then) != line(now) {
        return Err(format!("it goes on after {}, which is another event now", at.position));
    }
    at.epoch = epoch;
    Ok(())
}

fn named(history: &History, place: Option<&LedgerPosition>) -> Result<(), String> {
    history.named(place.ok_or("no position")?)?;
    Ok(())
}

fn place(item: &Item) -> (i32, i64) {
    let of = |place: Option<&LedgerPosition>| {
        place.map_or((0, 0), |place| (place.partition, place.position))
    };
    match item {
        Item::Watched(watch_allowances_response::Item::Change(change)) => {
            of(change.position.as_ref())
        }
        Item::Watched(watch_allowances_response::Item::Limit(change)) => {
            of(change.position.as_ref())
        }
        Item::Watched(watch_allowances_response::Item::CaughtUp(mark))
        | Item::Read(read_events_response::Item::CaughtUp(mark)) => (mark.partition, mark.position),
        Item::Read(read_events_response::Item::Event(event)) => (event.partition, event.position),
    }
}

/// Whether a stream that gave this item is told of an event.
fn is_told(item: &Item, event: &Event) -> bool {
    let kind = event.kind();
    match item {
        Item::Read(_) => true,
        Item::Watched(_) => {
            kind.starts_with("payment_")
                || matches!(kind, "annual_limit_set" | "allowance_recalculated")
        }
    }
}

fn change_is(event: &Event, told: &[Allowance]) -> Result<(), String> {
    let outcome = &event.record["outcome"];
    let recorded: Vec<_> =
        [&outcome["year"], &outcome["left_year"]].into_iter().filter(|of| !of.is_null()).collect();
    equal("number of allowances", recorded.len(), told.len())?;
    for (recorded, told) in recorded.into_iter().zip(told) {
        equal("person", &event.person_id.to_string(), &told.person_id)?;
        totals(recorded, told)?;
    }
    Ok(())
}
