//! Whether an answer is consistent with the event table of its epoch.
//!
//! Not here: streams, whose items are judged together (`follows.rs`).

use std::collections::BTreeMap;

use frikort_proof::Checkpoint;
use frikort_proto::v1::{
    self, Allowance, GetStatementResponse, LedgerPosition, ListPaymentsRequest,
    ListPaymentsResponse, Payment,
};
use uuid::Uuid;

use super::{
    events::{Event, Histories, History},
    fold::{self, limit_in_force, oere},
    follows::judge_stream,
    journal::{Answer, Claim},
};
use crate::client::CVR;

/// An answer that is not consistent with the table.
#[derive(Clone, Debug)]
pub struct FalseAnswer {
    /// The answer.
    pub answer: Answer,
    /// What is false in it.
    pub why: String,
}

impl std::fmt::Display for FalseAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Answer { asked, answered, service, method, .. } = &self.answer;
        write!(f, "{service} {method} (asked in epoch {asked}, answered in {answered}): ")?;
        write!(f, "{}", self.why)
    }
}

type Judged = Result<(), String>;

/// The false ones of these answers.
pub fn judge(answers: &[Answer], histories: &Histories) -> Vec<FalseAnswer> {
    let mut found = Vec::new();
    for answer in answers {
        let judged = match &answer.claim {
            Claim::Watched(watched) => judge_stream(watched, answer.asked, histories),
            claim => {
                let last = judge_claim(claim, histories.of(answer.answered));
                let any = (answer.asked..answer.answered)
                    .any(|epoch| judge_claim(claim, histories.of(epoch)).is_ok());
                if any { Ok(()) } else { last }
            }
        };
        if let Err(why) = judged {
            found.push(FalseAnswer { answer: answer.clone(), why });
        }
    }
    found
}

/// Holds one answer that is not a stream against one event table.
pub fn judge_claim(claim: &Claim, history: &History) -> Judged {
    match claim {
        Claim::Reported(told) => {
            let (request, answer) = &**told;
            let amount = request.facts.as_ref().map_or(0, |facts| facts.amount_oere);
            let told = Told::new("payment_reported", &answer.payment, &answer.allowance);
            told.judge(history, answer.position.as_ref(), &request.reference, amount)
        }
        Claim::Corrected(told) => {
            let (request, answer) = &**told;
            let amount = request.facts.as_ref().map_or(0, |facts| facts.amount_oere);
            let told = Told::new("payment_corrected", &answer.payment, &answer.allowance);
            told.judge(history, answer.position.as_ref(), &request.reference, amount)
        }
        Claim::Cancelled(told) => {
            let (request, answer) = &**told;
            let told = Told::new("payment_cancelled", &answer.payment, &answer.allowance);
            told.judge(history, answer.position.as_ref(), &request.reference, 0)
        }
        Claim::Decided { reference, kind, person_id, place } => {
            let event = history.named(place)?;
            equal("type", event.kind(), *kind)?;
            equal("reference", event.record["data"]["reference"].as_str(), Some(reference))?;
            equal("person", event.person_id.to_string(), person_id.clone())
        }
        Claim::LimitSet(answer) => limit_set(answer, history),
        Claim::Allowance(answer) => {
            let place = required(answer.position.as_ref())?;
            history.named(place)?;
            let allowance = answer.allowance.as_ref().ok_or("no allowance")?;
            allowance_at(history, place, allowance)
        }
        Claim::Allowances(answer) => allowances(answer, history),
        Claim::Statement(answer) => statement(answer, history),
        Claim::Listed(told) => listing(&told.0, &told.1, history),
        Claim::Checkpoint(answer) => checkpoint(answer, history),
        Claim::Watched(_) | Claim::Refused { .. } => Ok(()),
    }
}

fn required(place: Option<&LedgerPosition>) -> Result<&LedgerPosition, String> {
    place.ok_or_else(|| "no position".to_owned())
}

pub(super) fn equal<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    what: &str,
    recorded: T,
    told: U,
) -> Judged {
    if recorded == told {
        return Ok(());
    }
    Err(format!("{what}: {told:?} was answered, the events say {recorded:?}"))
}

/// An answer to a report, a correction or a cancellation.
struct Told<'a> {
    kind: &'static str,
    payment: &'a Option<Payment>,
    allowance: &'a Option<Allowance>,
}

impl<'a> Told<'a> {
    fn new(
        kind: &'static str,
        payment: &'a Option<Payment>,
        allowance: &'a Option<Allowance>,
    ) -> Self {
        Self { kind, payment, allowance }
    }

    fn judge(
        &self,
        history: &History,
        place: Option<&LedgerPosition>,
        reference: &str,
        amount: i64,
    ) -> Judged {
        let place = required(place)?;
        let event = history.named(place)?;
        let payment = self.payment.as_ref().ok_or("no payment")?;
        let (data, outcome) = (&event.record["data"], &event.record["outcome"]);
        equal("type", event.kind(), self.kind)?;
        equal("reference", data["reference"].as_str(), Some(reference))?;
        equal("employer", data["employer_cvr"].as_str(), Some(CVR))?;
        equal("person", event.person_id.to_string(), payment.person_id.clone())?;
        equal("position of the payment", place.position, payment.position)?;
        equal("amount", oere(&data["facts"]["amount"]), amount)?;
        equal("amount of the payment", amount, payment.amount_oere)?;
        equal("revision", outcome["revision"].as_i64(), Some(i64::from(payment.revision)))?;
        equal("exempt", oere(&outcome["exempt"]), payment.exempt_oere)?;
        equal("taxable", oere(&outcome["taxable"]), payment.taxable_oere)?;
        let allowance = self.allowance.as_ref().ok_or("no allowance")?;
        equal("person of the allowance", &payment.person_id, &allowance.person_id)?;
        totals(&outcome["year"], allowance)
    }
}

/// Holds an allowance against the totals in an event's outcome.
pub(super) fn totals(recorded: &serde_json::Value, told: &Allowance) -> Judged {
    let (limit, total) = (oere(&recorded["limit"]), oere(&recorded["total"]));
    equal("year", recorded["year"].as_i64(), Some(i64::from(told.year)))?;
    equal("payments", recorded["payments"].as_i64(), Some(i64::from(told.payment_count)))?;
    amounts(limit, total, told)
}

fn amounts(limit: i64, total: i64, told: &Allowance) -> Judged {
    equal("limit", limit, told.limit_oere)?;
    equal("total", total, told.total_oere)?;
    equal("used", total.min(limit), told.used_oere)?;
    equal("remaining", limit - total.min(limit), told.remaining_oere)?;
    equal("taxable of the year", total - total.min(limit), told.taxable_oere)
}

fn limit_set(answer: &v1::SetAnnualLimitResponse, history: &History) -> Judged {
    let limit = answer.limit.as_ref().ok_or("no limit")?;
    for place in &answer.positions {
        let event = history.named(place)?;
        limit_is(event, limit)?;
    }
    if answer.positions.is_empty() { Err("no positions".to_owned()) } else { Ok(()) }
}

pub(super) fn limit_is(event: &Event, limit: &v1::AnnualLimit) -> Judged {
    equal("type", event.kind(), "annual_limit_set")?;
    equal("year", event.record["data"]["year"].as_i64(), Some(i64::from(limit.year)))?;
    equal("limit", oere(&event.record["data"]["limit"]), limit.limit_oere)
}

/// Holds a person's allowance against the events up to a position.
fn allowance_at(history: &History, place: &LedgerPosition, told: &Allowance) -> Judged {
    let LedgerPosition { partition, position, .. } = *place;
    let year = i64::from(told.year);
    let id: Uuid = told.person_id.parse().map_err(|_| "the person's id is none".to_owned())?;
    let person = history.person(partition, id);
    let person = person.ok_or_else(|| format!("{id} has no event in partition {partition}"))?;
    let limit = limit_in_force(history, partition, year, position);
    let limit = limit.ok_or_else(|| format!("no limit of {year} is on record"))?;
    let (total, payments, _) = person.year_at(year, position);
    amounts(limit, total, told).map_err(|why| format!("{why}, as of position {position}"))?;
    equal("payments", payments, i64::from(told.payment_count))
}

fn allowances(answer: &v1::BatchGetAllowancesResponse, history: &History) -> Judged {
    let places: BTreeMap<i32, &LedgerPosition> =
        answer.positions.iter().map(|place| (place.partition, place)).collect();
    // A partition without events has no instant to name.
    for place in places.values().filter(|place| place.position > 0) {
        history.named(place)?;
    }
    for allowance in answer.results.iter().filter_map(|result| result.allowance.as_ref()) {
        let id: Uuid = allowance.person_id.parse().map_err(|_| "an id that is none".to_owned())?;
        let found = history.persons().find(|(_, person)| *person == id);
        let (partition, _) = found.ok_or_else(|| format!("{id} has no event"))?;
        let place = places.get(&partition);
        let place = place.ok_or_else(|| format!("no position of partition {partition}"))?;
        allowance_at(history, place, allowance)?;
    }
    Ok(())
}

fn statement(answer: &GetStatementResponse, history: &History) -> Judged {
    let place = required(answer.position.as_ref())?;
    history.named(place)?;
    for allowance in &answer.allowances {
        allowance_at(history, place, allowance)?;
    }
    let id: Uuid = answer.person_id.parse().map_err(|_| "the person's id is none".to_owned())?;
    let Some(person) = history.person(place.partition, id) else {
        return Err(format!("{id} has no event in partition {}", place.partition));
    };
    let years: Vec<i64> = answer.allowances.iter().map(|of| i64::from(of.year)).collect();
    let recorded = person.payments_at(place.position);
    let recorded: BTreeMap<_, _> =
        recorded.into_iter().filter(|(_, payment)| years.contains(&payment.year)).collect();
    equal("number of payments", recorded.len(), answer.payments.len())?;
    for told in &answer.payments {
        let key = (told.employer_cvr.clone(), told.reference.clone());
        let payment = recorded.get(&key);
        let payment = payment.ok_or_else(|| format!("{key:?} is not recorded by then"))?;
        payment_is(payment, told).map_err(|why| format!("{key:?}: {why}"))?;
    }
    for year in years {
        split_of_year(history, place, person, year, &answer.payments)?;
    }
    Ok(())
}

/// What does not depend on whether a changed limit has reached the person yet.
fn payment_is(recorded: &fold::Payment, told: &Payment) -> Judged {
    equal("amount", recorded.amount, told.amount_oere)?;
    equal("year", recorded.year, i64::from(told.year))?;
    equal("revision", recorded.revision, i64::from(told.revision))?;
    equal("cancelled", recorded.cancelled, told.cancelled)?;
    equal("position of the last change", recorded.position, told.position)?;
    equal("exempt and taxable part", told.amount_oere, told.exempt_oere + told.taxable_oere)
}

/// The exempt parts add up to what is used; they are the recorded ones where no changed limit has
/// still to reach the person.
fn split_of_year(
    history: &History,
    place: &LedgerPosition,
    person: &fold::Person,
    year: i64,
    payments: &[Payment],
) -> Judged {
    let limit = limit_in_force(history, place.partition, year, place.position).unwrap_or_default();
    let (total, _, _) = person.year_at(year, place.position);
    let of_year = payments.iter().filter(|payment| i64::from(payment.year) == year);
    let told: i64 = of_year.map(|payment| payment.exempt_oere).sum();
    equal("exempt parts of the year", total.min(limit), told)
}

fn listing(
    request: &ListPaymentsRequest,
    answer: &ListPaymentsResponse,
    history: &History,
) -> Judged {
    let places: BTreeMap<i32, &LedgerPosition> =
        answer.positions.iter().map(|place| (place.partition, place)).collect();
    for place in places.values().filter(|place| place.position > 0) {
        history.named(place)?;
    }
    for after in request.changed_after.iter().filter(|after| after.position > 0) {
        history.named(after).map_err(|why| format!("goes on after a lost position: {why}"))?;
    }
    let after = |partition: i32| {
        let of = request.changed_after.iter().find(|after| after.partition == partition);
        of.map_or(0, |after| after.position)
    };
    let mut expected: BTreeMap<(Uuid, fold::Key), fold::Payment> = BTreeMap::new();
    for (partition, person) in history.persons() {
        let Some(place) = places.get(&partition) else { continue };
        let Some(payments) = history.person(partition, person) else { continue };
        for (key, payment) in payments.payments_at(place.position) {
            if payment.position > after(partition) {
                expected.insert((person, key.clone()), payment.clone());
            }
        }
    }
    for told in &answer.payments {
        let id: Uuid = told.person_id.parse().map_err(|_| "an id that is none".to_owned())?;
        let key = (id, (told.employer_cvr.clone(), told.reference.clone()));
        let payment = expected.remove(&key);
        let payment = payment.ok_or_else(|| format!("{key:?} has not changed since then"))?;
        payment_is(&payment, told).map_err(|why| format!("{key:?}: {why}"))?;
    }
    let is_whole = request.page_token.is_empty() && answer.next_page_token.is_empty();
    match expected.first_key_value() {
        Some((key, payment)) if is_whole => {
            Err(format!("{} payments are missing: {key:?} {payment:?}", expected.len()))
        }
        _ => Ok(()),
    }
}

fn checkpoint(answer: &v1::GetCheckpointResponse, history: &History) -> Judged {
    let told = Checkpoint::parse_unverified(&answer.note).map_err(|error| error.to_string())?;
    judge_checkpoint(&told, answer.partition, history)
}

/// Holds a signed checkpoint against the records.
pub fn judge_checkpoint(told: &Checkpoint, partition: i32, history: &History) -> Judged {
    match history.root(partition, told.size) {
        Some(root) if root == told.root => Ok(()),
        Some(_) => Err(format!("the checkpoint of {} is of other records", told.size)),
        None => {
            let head = history.head(partition);
            Err(format!("a checkpoint of {}, the head is {head}", told.size))
        }
    }
}
