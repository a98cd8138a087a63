//! What callers, health and log have seen of a fault, and the bounds within which it must be.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use frikort_tests::history::{Answer, Claim};

use crate::health::HealthSample;

/// Callers are answered or refused within this.
const ANSWER_BOUND: Duration = Duration::from_secs(2);

/// Health is right after this.
const HEALTH_BOUND: Duration = Duration::from_secs(5);

/// Everything goes on after this.
const RECOVERY_BOUND: Duration = Duration::from_secs(2);

/// What a machine adds that has two processors for everything.
const ALLOWANCE: Duration = Duration::from_millis(250);

/// Sessions that were at work when a fault was begun by ending them are replaced after this.
const SETTLING_TIME: Duration = Duration::from_secs(1);

/// Services are counted ledgers first.
const LEDGERS: usize = 2;

/// Callers give a call up after this; an answer was due long before.
const CALLERS_DEADLINE: Duration = Duration::from_secs(9);

/// How a service is while the fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedHealth {
    /// Serving all the time.
    Serving,
    /// Not serving all the time, after health's bound.
    NotServing,
    /// Either, or now and then.
    Any,
}

/// When all goes on, from the end of the fault.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// Each ledger has recorded a payment of every person.
    pub(crate) recorded: Vec<Duration>,
    /// Each projector has answered with the last one.
    pub(crate) projected: Vec<Duration>,
    /// All say that they serve.
    pub(crate) healthy: Duration,
}

/// What a service logged.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) during: String,
    pub(crate) after: String,
}

#[derive(Debug)]
pub(crate) struct Measured {
    /// Whether times are judged.
    pub(crate) is_judged: bool,
    /// Just before the fault began.
    pub(crate) began: Instant,
    /// It is there.
    pub(crate) established: Instant,
    /// Just before it was ended.
    pub(crate) ending: Instant,
    /// It is over.
    pub(crate) ended: Instant,
    pub(crate) answers: Vec<Answer>,
    /// Of each service, ledgers first, as all that follows.
    pub(crate) health: Vec<Vec<HealthSample>>,
    pub(crate) recovery: Recovery,
    pub(crate) logs: Vec<Log>,
}

impl Measured {
    /// Holds everything against the bounds, and prints it. Ledgers and projectors are as they must be;
    /// where a kind has texts, each of that kind logged the first one while the fault lasted, and the
    /// second one after the last time that it logged the first.
    pub(crate) fn assert_bounds(
        &self,
        name: &str,
        ledgers: (ExpectedHealth, Option<(&str, &str)>),
        projectors: (ExpectedHealth, Option<(&str, &str)>),
    ) {
        self.print(name);
        let mut found = self.late_answers();
        for number in 0..self.health.len() {
            let (kind, (expected, texts)) =
                if number < LEDGERS { ("ledger", ledgers) } else { ("projector", projectors) };
            let of = format!("{kind} {}", number % LEDGERS);
            if self.is_judged {
                found.extend(self.wrong_health(number, expected).map(|why| format!("{of}: {why}")));
            }
            if let Some((begin, end)) = texts {
                let Log { during, after } = &self.logs[number];
                if !during.contains(begin) {
                    found.push(format!("{of} does not log {begin:?}"));
                }
                let all = format!("{during}{after}");
                if all.rfind(begin) > all.rfind(end) {
                    found.push(format!("{of} does not log {end:?} after {begin:?}"));
                }
            }
        }
        if self.is_judged {
            let bound = RECOVERY_BOUND + ALLOWANCE;
            let Recovery { recorded, projected, healthy } = &self.recovery;
            if recorded.iter().chain(projected).chain([healthy]).any(|took| *took > bound) {
                found.push(format!("late: {:?}", self.recovery));
            }
        }
        assert!(found.is_empty(), "{name}:\n{}", found.join("\n"));
    }

    /// Those that were on their way while the fault was there, or until all went on.
    fn answers(&self) -> impl Iterator<Item = &Answer> {
        let streams = ["WatchAllowances", "ReadEvents"];
        self.answers.iter().filter(move |answer| {
            !streams.contains(&answer.method)
                && answer.asked_at + answer.took >= self.began
                && answer.asked_at <= self.ended + RECOVERY_BOUND
        })
    }

    /// Refusals of what was asked while the fault was there, after the moment in which it began.
    pub(crate) fn refused_meanwhile(&self) -> Vec<&Answer> {
        let while_there = self.established + SETTLING_TIME..self.ending;
        let asked = self.answers().filter(|answer| while_there.contains(&answer.asked_at));
        asked.filter(|answer| !answer.is_claim()).collect()
    }

    fn late_answers(&self) -> Vec<String> {
        let bound = if self.is_judged { ANSWER_BOUND + ALLOWANCE } else { CALLERS_DEADLINE };
        let late: Vec<&Answer> = self.answers().filter(|answer| answer.took > bound).collect();
        let shown = late.iter().take(12).map(|answer| {
            let (took, from) = (answer.took.as_secs_f64(), self.since_began(answer.asked_at));
            let what = what(answer);
            let Answer { service, method, .. } = answer;
            format!("{service} {method}, asked at {from:.2} s, took {took:.2} s: {what}")
        });
        let mut shown: Vec<String> = shown.collect();
        if late.len() > shown.len() {
            shown.push(format!("… {} in all", late.len()));
        }
        let unclear = self.answers().filter(|answer| {
            matches!(&answer.claim, Claim::Refused { reason, .. }
                if reason != "STORE_UNAVAILABLE" && reason != "OVERLOADED"
                    && reason != "RESUME_POSITION_LOST")
        });
        let unclear: BTreeMap<String, usize> = unclear.fold(BTreeMap::new(), |mut all, answer| {
            *all.entry(format!("{} is refused: {:?}", answer.method, answer.claim)).or_default() +=
                1;
            all
        });
        shown.extend(unclear.into_iter().map(|(text, count)| format!("{count} × {text}")));
        shown
    }

    fn since_began(&self, at: Instant) -> f64 {
        let before = self.began.saturating_duration_since(at).as_secs_f64();
        at.saturating_duration_since(self.began).as_secs_f64() - before
    }

    fn wrong_health(&self, number: usize, expected: ExpectedHealth) -> Option<String> {
        let silent = self.health[number].iter().find(|(_, said)| said.is_none());
        if let Some((at, _)) = silent {
            return Some(format!("says nothing of its health at {:.2} s", self.since_began(*at)));
        }
        let wrong = self.health[number].iter().find(|(at, said)| match expected {
            ExpectedHealth::Serving => *said != Some(true),
            ExpectedHealth::NotServing => {
                *at > self.established + HEALTH_BOUND && *at < self.ending && *said != Some(false)
            }
            ExpectedHealth::Any => false,
        });
        wrong.map(|(at, said)| format!("says {said:?} at {:.2} s", self.since_began(*at)))
    }

    #[expect(clippy::print_stdout, reason = "the measurements are for the reader of the output")]
    fn print(&self, name: &str) {
        let lasted = (self.ended - self.began).as_secs_f64();
        println!("\n{name}, {lasted:.1} s");
        let mut kinds: BTreeMap<(String, String), Vec<Duration>> = BTreeMap::new();
        for answer in self.answers() {
            let kind = (answer.method.to_owned(), what(answer));
            kinds.entry(kind).or_default().push(answer.took);
        }
        for ((method, what), mut took) in kinds {
            took.sort();
            let at = |share: usize| took[(took.len() - 1) * share / 100].as_millis();
            let (count, half, most, max) = (took.len(), at(50), at(99), at(100));
            println!("{count:>6}  {method}: {what}; p50 {half}, p99 {most}, max {max} ms");
        }
        for (number, said) in self.health.iter().enumerate() {
            let kind = if number < LEDGERS { "ledger" } else { "projector" };
            let mut changes = Vec::new();
            let mut last = None;
            for (at, said) in said {
                if last != Some(*said) {
                    changes.push(format!("{:.2} s {said:?}", self.since_began(*at)));
                    last = Some(*said);
                }
            }
            println!("        {kind} {}: {}", number % LEDGERS, changes.join(", "));
        }
        println!("        {:?}", self.recovery);
        for (number, log) in self.logs.iter().enumerate() {
            for (when, text) in [("during", &log.during), ("after", &log.after)] {
                let notable = text.lines().filter(|line| {
                    line.contains(" WARN ")
                        || line.contains(" ERROR ")
                        || (line.contains(" INFO ") && line.contains("again"))
                        || line.contains("can be written")
                });
                let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
                for line in notable {
                    let text = line.split_once(' ').map_or(line, |(_, rest)| rest.trim());
                    let text: String = text.chars().take(150).collect();
                    *kinds.entry(text).or_default() += 1;
                }
                for (text, count) in kinds.iter().take(12) {
                    println!("        {number} {when} {count}× {text}");
                }
            }
        }
    }
}

fn what(answer: &Answer) -> String {
    match &answer.claim {
        Claim::Refused { reason, .. } => reason.clone(),
        _ => "answered".to_owned(),
    }
}
