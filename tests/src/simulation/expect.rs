//! What the model expects of one call or question, and holding what was told against it. No I/O:
//! the generator asks it as well, to know where its persons stand.

use std::collections::BTreeMap;

use anyhow::Context;
use frikort_proto::v1::{PersonRef, person_ref};
use time::Duration;

use super::{
    Difference,
    list::{Ask, Beside, Call, Named, Past, Question},
    wire::Told,
};
use crate::{
    client,
    model::{
        Allowance, Answer, AsOf, CardAnswer, Command, Day, Decision, Entry, Kind, Known, Limits,
        Log, OnRecord, Person, Recorded, Refusal, Statement,
    },
};

/// CPR numbers that a person can have in one run.
pub(super) const NUMBERS: u32 = 4;

/// The limits of each partition.
pub(super) type AllLimits = BTreeMap<i32, Limits>;

/// One person of a run.
#[derive(Debug, Default)]
pub(super) struct Someone {
    pub(super) number: usize,
    pub(super) log: Log,
    /// The log, folded.
    pub(super) now: Person,
    /// The ledger's id, once it was told.
    pub(super) id: Option<String>,
    pub(super) partition: i32,
    /// What came of each call.
    pub(super) outcomes: Vec<String>,
}

/// What a question comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Card(CardAnswer, Vec<OnRecord>),
    Allowance(Allowance),
    Statement(Box<Statement>),
    Refused(Refusal),
}

/// What a call must be answered with; `person` moves on when it records something.
pub(super) fn expect(
    person: &mut Person,
    call: &Call,
    limit: &dyn Fn(i32) -> Option<i64>,
    position: i64,
) -> Answer {
    let faults = call.command.faults();
    if !faults.is_empty() {
        return Answer::Refused(Refusal::new("INVALID_FIELD").of_fields(&faults));
    }
    if let Command::Decide(Decision { kind: Kind::Renumber { number }, .. }) = &call.command {
        // C14: the number that the person has is refused, unless it repeats the change to it.
        let of_nobody = call.named.frikort == Beside::Wrong;
        let mut of = if of_nobody { Person::default() } else { person.clone() };
        let tried = of.decide(&call.command, limit, position);
        let names_it = call.named.number.is_some_and(|at| nth(&person.numbers(), at) == *number);
        let is_new = !matches!(tried, Answer::Refused(_)) && !is_replayed(&tried);
        let changes_nothing = is_new && person.numbers().contains(number);
        if names_it && !is_replayed(&tried) || changes_nothing {
            return Answer::Refused(Refusal::new("INVALID_FIELD").of_fields(&["new_cpr_number"]));
        }
    }
    if call.named.frikort == Beside::Wrong && !call.command.needs_no_card() {
        // N4: as somebody without a card.
        return Person::default().decide(&call.command, limit, position);
    }
    if call.dry {
        return person.clone().decide(&call.command, limit, position);
    }
    person.decide(&call.command, limit, position)
}

fn nth(numbers: &[u32], named: usize) -> u32 {
    numbers[named % numbers.len()]
}

/// The CPR number that is a person's so-many-th.
pub(super) fn cpr_of(person: usize, number: u32) -> String {
    client::cpr(u32::try_from(person).unwrap_or(u32::MAX) * NUMBERS + number)
}

impl Someone {
    pub(super) fn new(number: usize) -> Self {
        Self { number, ..Self::default() }
    }

    /// As a request names the person.
    pub(super) fn name(&self, named: Named, needs_no_card: bool) -> PersonRef {
        let person = match (named.number, &self.id) {
            (None, Some(id)) => person_ref::Person::PersonId(id.clone()),
            (number, _) => {
                let number = nth(&self.now.numbers(), number.unwrap_or(0));
                person_ref::Person::CprNumber(cpr_of(self.number, number))
            }
        };
        let frikort_id = match named.frikort {
            _ if needs_no_card => String::new(),
            Beside::Nothing => String::new(),
            Beside::Right => self.now.frikort_ids().last().map_or("", |id| id.as_str()).to_owned(),
            Beside::Wrong => "99999".to_owned(),
        };
        PersonRef { person: Some(person), frikort_id }
    }

    pub(super) fn limits<'a>(&self, limits: &'a AllLimits) -> &'a Limits {
        limits.get(&self.partition).unwrap_or_else(|| &limits[&0])
    }

    /// Holds an answer against what is expected, and takes in what was recorded. `lost`: the call
    /// was sent before and its answer never came, so that it may have been recorded then.
    pub(super) fn judge(
        &mut self,
        call: &Call,
        mut told: Told,
        lost: bool,
        limits: &AllLimits,
        today: Day,
    ) -> anyhow::Result<()> {
        let place = told.place.clone();
        if let Some(place) = &place {
            self.meet(call, &place.person_id, place.partition)?;
        }
        let position = place.as_ref().map_or(0, |place| place.position);
        let of_partition = self.limits(limits);
        let limit = |year| of_partition.on(year, today, i64::MAX);
        let expected = expect(&mut self.now, call, &limit, position);
        if lost && !is_replayed(&expected) && is_replayed(&told.answer) && !call.dry {
            as_if_first(&mut told.answer);
        }
        if told.answer != expected {
            return Err(Difference::of(&expected, &told.answer).into());
        }
        self.outcomes.push(outcome(&expected, call.dry));
        let recorded = !call.dry && !is_replayed(&expected);
        if let (Some(place), true) = (place, recorded) {
            if place.position <= self.log.last_position() {
                return Err(Difference::new(format!("recorded at {position}, out of order")).into());
            }
            let at = place.at.context("an answer without the instant")?;
            let recorded = Recorded::Call(call.command.clone());
            self.log.record(Entry { position, at, recorded });
        }
        Ok(())
    }

    /// The person's id and partition are the same for ever.
    fn meet(&mut self, call: &Call, id: &str, partition: i32) -> anyhow::Result<()> {
        if uuid::Uuid::parse_str(id)?.is_nil() {
            let unknown = call.dry && self.now.card().is_none();
            return unknown.then_some(()).ok_or_else(|| Difference::new("the nil UUID").into());
        }
        let known = self.id.get_or_insert_with(|| {
            self.partition = partition;
            id.to_owned()
        });
        if (known.as_str(), self.partition) != (id, partition) {
            return Err(Difference::new(format!("told of {id} in {partition}")).into());
        }
        Ok(())
    }

    /// As of when a question is asked. An instant just before an event is one at which the
    /// partition had what is before it, since instants increase.
    pub(super) fn as_of(&self, past: Option<Past>) -> AsOf {
        let Some(past) = past else { return AsOf::default() };
        let entries = self.log.entries();
        let entry = past.event.and_then(|event| entries.iter().rev().cycle().nth(event));
        let known = entry.map(|entry| {
            let before = i64::from(past.before);
            let position = entry.position - before;
            if past.by_time {
                Known::When(entry.at - Duration::microseconds(before), position)
            } else {
                Known::At(position, entry.at)
            }
        });
        AsOf { known, through: past.through }
    }

    /// What a question must come to.
    pub(super) fn expect_finding(
        &self,
        ask: &Ask,
        limits: &AllLimits,
        today: Day,
        as_of: AsOf,
    ) -> Finding {
        if ask.named.frikort == Beside::Wrong {
            return Finding::Refused(Refusal::new("NO_CARD"));
        }
        let limits = self.limits(limits);
        if ask.named.frikort == Beside::Right {
            // One that was given later was not the person's then.
            let (now, then) = (&self.now, self.log.fold(limits, as_of.position()));
            if now.frikort_ids().last().is_some_and(|id| !then.frikort_ids().contains(id)) {
                return Finding::Refused(Refusal::new("NO_CARD"));
            }
        }
        let found = match ask.question {
            Question::Card => self.now.tell_card().map(|(card, mut decisions)| {
                for on_record in &mut decisions {
                    keep_secret(&mut on_record.decision.kind);
                }
                Finding::Card(card, decisions)
            }),
            Question::Allowance(year) => {
                self.log.allowance(limits, year, as_of, today).map(Finding::Allowance)
            }
            Question::Statement { year, hours_through } => {
                let statement = self.log.statement(limits, year, hours_through, as_of, today);
                statement.map(|statement| Finding::Statement(Box::new(statement)))
            }
        };
        found.unwrap_or_else(Finding::Refused)
    }
}

/// Neither Frikort-ID nor CPR number is told.
fn keep_secret(kind: &mut Kind) {
    match kind {
        Kind::Grant { frikort_id, .. } | Kind::Reissue { frikort_id } => frikort_id.clear(),
        Kind::Renumber { number } => *number = 0,
        _ => {}
    }
}

fn outcome(answer: &Answer, dry: bool) -> String {
    match answer {
        Answer::Refused(refusal) => refusal.reason.clone(),
        Answer::Payment(answer) if answer.changed_since.is_some() => {
            "replayed, changed since".to_owned()
        }
        _ if is_replayed(answer) => "replayed".to_owned(),
        _ if dry => "dry".to_owned(),
        Answer::Payment(answer) if answer.possible_duplicate => "recorded, a twin".to_owned(),
        Answer::Payment(answer) if answer.payment.taxable > 0 => "recorded, taxable".to_owned(),
        Answer::Card(answer) if answer.still_active => "recorded, still active".to_owned(),
        Answer::Card(answer) if !answer.payments_after.is_empty() => {
            "recorded, with payments after".to_owned()
        }
        Answer::Payment(_) | Answer::Card(_) | Answer::Noted { .. } => "recorded".to_owned(),
    }
}

pub(super) fn is_replayed(answer: &Answer) -> bool {
    match answer {
        Answer::Payment(answer) => answer.replayed,
        Answer::Card(answer) => answer.replayed,
        Answer::Noted { replayed, .. } => *replayed,
        Answer::Refused(_) => false,
    }
}

pub(super) fn as_if_first(answer: &mut Answer) {
    match answer {
        Answer::Payment(answer) => answer.replayed = false,
        Answer::Card(answer) => answer.replayed = false,
        Answer::Noted { replayed, .. } => *replayed = false,
        Answer::Refused(_) => {}
    }
}
