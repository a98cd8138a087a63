//! Lists by chance. The generator keeps a model of its own, so that it knows where its persons stand
//! and meets what is rare: the last øre of a limit, the day after a deactivation, an old revision.

use std::collections::BTreeSet;

use super::{
    dice::Dice,
    expect::{NUMBERS, expect},
    list::{Ask, Beside, Call, List, Named, Op, Past, Question, Who},
};
use crate::model::{
    Answer, Command, Day, Decision, Facts, Kind, Limit, Limits, PaymentKey, Person,
};

const EMPLOYERS: [&str; 4] = ["13748136", "29189706", "29189692", "25048482"];
const MUNICIPALITIES: [u16; 4] = [101, 147, 461, 751];

/// Years of the limits that a list begins with; 2025 gets one on the way, 2021 none at first.
const YEARS: [i32; 3] = [2022, 2023, 2024];

/// A list of so many operations. The same seed gives the same list.
pub fn generate(seed: u64, operations: usize) -> List {
    let mut dice = Dice::new(seed);
    let ledgers = 1 + dice.below(2);
    let partitions = if dice.percent(70) { 1 } else { 3 };
    let persons = operations / 40 + 2;
    let mut world = World {
        dice,
        people: vec![Person::default(); persons],
        sent: vec![Vec::new(); persons],
        limits: Limits::default(),
        position: 0,
        today: Day::new(2026, 1, 31),
    };
    let mut ops: Vec<Op> = YEARS.iter().map(|year| world.first_limit(*year)).collect();
    while ops.len() < operations {
        let op = world.op(ledgers);
        ops.extend(op);
    }
    List { seed, ledgers, partitions, difference: String::new(), ops }
}

struct World {
    dice: Dice,
    people: Vec<Person>,
    /// The calls of each person so far, to be repeated.
    sent: Vec<Vec<Command>>,
    limits: Limits,
    position: i64,
    /// Later than every day used; a limit in force by then is in force when the list is run.
    today: Day,
}

impl World {
    fn op(&mut self, ledgers: usize) -> Option<Op> {
        match self.dice.below(1000) {
            0..=3 => self.limit(),
            4..=6 => Some(self.restart(ledgers)),
            7..=14 => Some(self.batch()),
            15..=24 => Some(self.stream()),
            25..=149 => Some(Op::Ask(self.ask())),
            _ => Some(Op::Call(self.call())),
        }
    }

    fn restart(&mut self, ledgers: usize) -> Op {
        let who = match self.dice.below(ledgers + 1) {
            0 => Who::Projector,
            ledger => Who::Ledger(ledger - 1),
        };
        Op::Restart { who, gently: self.dice.percent(30) }
    }

    fn first_limit(&mut self, year: i32) -> Op {
        // Not from the year's first day now and then: then the year has none until that day.
        let month = if self.dice.percent(85) { 1 } else { 5 };
        self.set_limit(year, Day::new(year, month, 1))
    }

    fn set_limit(&mut self, year: i32, from: Day) -> Op {
        // Small ones, so that they are met.
        let oere = self.dice.between(20, 250) * 10_000;
        let citation = format!("LOV {}", self.dice.between(1, 999));
        let limit = Limit { year, oere, from, citation };
        self.position += 1;
        self.limits.record(self.position, limit.clone());
        for person in &mut self.people {
            if let Some(limit) = self.limits.on(year, self.today, i64::MAX) {
                person.recalculate(year, limit, self.position);
            }
        }
        Op::Limit(limit)
    }

    /// Another limit, or one that is on record once more.
    fn limit(&mut self) -> Option<Op> {
        if self.dice.percent(20) {
            let recorded = self.limits.recorded();
            let (_, again) = self.dice.pick(recorded).clone();
            return self.limits.place(&again).map(|_| Op::Limit(again));
        }
        let year = i32::try_from(self.dice.between(2021, 2025)).ok()?;
        if self.limits.on(year, self.today, i64::MAX).is_none() {
            return Some(self.first_limit(year));
        }
        let month = u8::try_from(self.dice.between(1, 12)).ok()?;
        let from = Day::new(year, month, 1);
        Some(self.set_limit(year, from))
    }

    fn batch(&mut self) -> Op {
        let count = 1 + self.dice.below(self.people.len());
        let persons = (0..count).map(|_| self.dice.below(self.people.len())).collect();
        Op::Batch { persons, year: self.year() }
    }

    fn year(&mut self) -> i32 {
        i32::try_from(self.dice.between(2021, 2026)).unwrap_or_default()
    }

    fn ask(&mut self) -> Ask {
        let person = self.dice.below(self.people.len());
        let question = match self.dice.below(10) {
            0 | 1 => Question::Card,
            2..=5 => Question::Allowance(self.year()),
            _ => {
                let year = self.dice.percent(40).then(|| self.year());
                Question::Statement { year, hours_through: self.day(person) }
            }
        };
        let past = (question != Question::Card && self.dice.percent(40)).then(|| self.past(person));
        Ask { person, named: self.named(), question, past }
    }

    /// As of when something is asked: on either axis, or on both.
    fn past(&mut self, person: usize) -> Past {
        let event = self.dice.percent(75).then(|| self.dice.below(20));
        let (by_time, before) = (self.dice.percent(50), self.dice.percent(50));
        let payments = self.people[person].payments();
        let through = match self.dice.below(10) {
            0..=2 if event.is_some() => None,
            3..=6 if !payments.is_empty() => {
                Some(self.dice.pick(payments).facts.attributed().plus(self.dice.between(-1, 1)))
            }
            7 => {
                let limits = self.limits.recorded();
                Some(self.dice.pick(limits).1.from.plus(self.dice.between(-1, 1)))
            }
            _ => Some(self.day(person)),
        };
        Past { event, by_time, before, through }
    }

    fn named(&mut self) -> Named {
        let number = match self.dice.below(10) {
            0..=6 => Some(0),
            7 | 8 => Some(self.dice.below(4)),
            _ => None,
        };
        let frikort = match self.dice.below(20) {
            0..=2 => Beside::Right,
            3 => Beside::Wrong,
            _ => Beside::Nothing,
        };
        Named { number, frikort }
    }

    /// A pay run of one employer, or of several.
    fn stream(&mut self) -> Op {
        let count = 2 + self.dice.below(20);
        let via = self.dice.below(2);
        let calls = (0..count).map(|_| {
            let person = self.dice.below(self.people.len());
            let command = self.report(person, false);
            let named = self.named();
            self.sent(Call { person, named, via, dry: false, twice: false, command })
        });
        Op::Stream(calls.collect())
    }

    fn call(&mut self) -> Call {
        let person = self.dice.below(self.people.len());
        let command = self.command(person);
        let dry = self.dice.percent(5);
        let twice = !dry && self.dice.percent(8);
        let (named, via) = (self.named(), self.dice.below(2));
        self.sent(Call { person, named, via, dry, twice, command })
    }

    /// Takes in what comes of a call.
    fn sent(&mut self, call: Call) -> Call {
        let (limits, today) = (&self.limits, self.today);
        let limit = |year| limits.on(year, today, i64::MAX);
        let person = &mut self.people[call.person];
        if !matches!(expect(person, &call, &limit, self.position + 1), Answer::Refused(_)) {
            self.position += 1;
        }
        self.sent[call.person].push(call.command.clone());
        call
    }

    fn command(&mut self, person: usize) -> Command {
        if self.people[person].card().is_none() && self.dice.percent(80) {
            return self.decision(person, true);
        }
        if !self.sent[person].is_empty() && self.dice.percent(12) {
            return self.repeated(person);
        }
        match self.dice.below(100) {
            0..=11 => self.decision(person, false),
            12..=64 => self.report(person, true),
            65..=86 => self.correct(person),
            _ => self.cancel(person),
        }
    }

    /// Something that was sent before, as it was, or with a difference.
    fn repeated(&mut self, person: usize) -> Command {
        let mut command = self.dice.pick(&self.sent[person]).clone();
        if self.dice.percent(65) {
            return command;
        }
        match &mut command {
            Command::Decide(decision) if self.dice.percent(50) => {
                decision.reference = format!("S-{}", self.sent[person].len());
            }
            Command::Decide(decision) => decision.decided = decision.decided.plus(-1),
            Command::Report { facts, unit, .. } => match self.dice.below(5) {
                0 => facts.oere += 1,
                1 => facts.paid = facts.paid.plus(1),
                2 => facts.hours = None,
                3 => facts.work = Some((facts.paid, facts.paid)),
                _ => *unit = Some("1003388394".to_owned()),
            },
            Command::Correct { revision, .. } | Command::Cancel { revision, .. } => *revision += 1,
        }
        if let Command::Report { facts, .. } | Command::Correct { facts, .. } = &mut command {
            facts.parts = None;
        }
        command
    }

    fn decision(&mut self, person: usize, grant: bool) -> Command {
        let card = self.people[person].card();
        let responsible = card.map(|card| card.municipality);
        let any = *self.dice.pick(&MUNICIPALITIES);
        let municipality = responsible.filter(|_| self.dice.percent(88)).unwrap_or(any);
        let count = self.people[person].decisions().count();
        let reference = if self.dice.percent(97) {
            format!("S-{}", self.sent[person].len())
        } else {
            format!("S-{}", self.dice.below(count + 1))
        };
        let decided = self.day(person);
        let later = decided.plus(self.dice.between(0, 60));
        let kind = match self.dice.below(100) {
            _ if grant => self.grant(person),
            0..=7 => self.grant(person),
            8..=11 => {
                let applied = decided.plus(-self.dice.between(0, 90));
                Kind::Reject { applied, criteria: self.criteria() }
            }
            12..=25 if self.was_deactivated(person) => self.reverse(person, municipality),
            12..=47 => {
                let last_day = if self.dice.percent(50) { decided } else { later };
                let last_day = if self.dice.percent(3) { decided.plus(-1) } else { last_day };
                Kind::Deactivate { last_day, criteria: self.criteria() }
            }
            48..=64 => Kind::Reactivate { from: self.day(person) },
            65..=69 => Kind::Reissue { frikort_id: self.frikort_id() },
            70..=79 => Kind::Transfer { to: *self.dice.pick(&MUNICIPALITIES) },
            80..=92 => {
                let dispensation = self.dice.percent(30);
                Kind::Control { dispensation, criteria: self.criteria() }
            }
            _ => {
                let number = self.dice.between(1, i64::from(NUMBERS) - 1);
                Kind::Renumber { number: u32::try_from(number).unwrap_or(1) }
            }
        };
        Command::Decide(Decision { municipality, reference, decided, kind })
    }

    fn grant(&mut self, person: usize) -> Kind {
        let early = self.people[person].card().is_none() && self.dice.percent(70);
        let from = if early {
            Day::new(2021, 7, 1).plus(self.dice.between(0, 500))
        } else {
            self.day(person)
        };
        let frikort_id = self.frikort_id();
        let applied = self.dice.percent(50).then(|| from.plus(self.dice.between(-90, 5)));
        Kind::Grant { frikort_id, from, applied, criteria: self.criteria() }
    }

    fn frikort_id(&mut self) -> String {
        format!("{:05}", self.dice.between(0, 89_999))
    }

    /// Often enough that it does not matter, also of somebody who was not.
    fn was_deactivated(&mut self, person: usize) -> bool {
        let mut decisions = self.people[person].decisions();
        let any = decisions.any(|decision| matches!(decision.kind, Kind::Deactivate { .. }));
        any || self.dice.percent(10)
    }

    /// Mostly of a deactivation that is on record, sometimes of another decision, or of none.
    fn reverse(&mut self, person: usize, municipality: u16) -> Kind {
        let decisions: Vec<&Decision> = self.people[person].decisions().collect();
        let of = |decision: &&&Decision| matches!(decision.kind, Kind::Deactivate { .. });
        let deactivations: Vec<&Decision> = decisions.iter().filter(of).copied().collect();
        let reversed = decisions.iter().rev().find_map(|decision| match &decision.kind {
            Kind::Reverse { municipality, reference } => Some((*municipality, reference.clone())),
            _ => None,
        });
        if let Some((municipality, reference)) = reversed.filter(|_| self.dice.percent(30)) {
            return Kind::Reverse { municipality, reference };
        }
        let among = if self.dice.percent(90) { deactivations } else { decisions };
        if among.is_empty() {
            return Kind::Reverse { municipality, reference: "none".to_owned() };
        }
        let reversed = *self.dice.pick(&among);
        let (municipality, reference) = (reversed.municipality, reversed.reference.clone());
        Kind::Reverse { municipality, reference }
    }

    fn criteria(&mut self) -> BTreeSet<i32> {
        (1..=5).filter(|_| self.dice.percent(20)).collect()
    }

    fn report(&mut self, person: usize, alone: bool) -> Command {
        let payments = self.people[person].payments();
        let number = payments.len() + usize::from(self.dice.percent(10)) * 100;
        let twin = self.dice.percent(6).then(|| payments.last().cloned()).flatten();
        let reference = match self.dice.below(100) {
            0..=4 => format!("p{}", self.dice.below(number + 1)),
            _ => format!("p{}", self.sent[person].len()),
        };
        let employer = self.employer(person);
        if let Some(twin) = twin {
            let key = PaymentKey { employer: twin.key.employer, reference };
            let (facts, unit) = (twin.facts, twin.unit);
            return Command::Report { key, facts, unit, ordinary: true, strict: false };
        }
        Command::Report {
            key: PaymentKey { employer, reference },
            facts: self.facts(person),
            unit: self.dice.percent(10).then(|| "1003388395".to_owned()),
            ordinary: self.dice.percent(98),
            strict: alone && self.dice.percent(8),
        }
    }

    /// Each person has mostly one or two employers.
    fn employer(&mut self, person: usize) -> String {
        let usual = person + usize::from(self.dice.percent(40));
        let any = self.dice.below(EMPLOYERS.len());
        EMPLOYERS[if self.dice.percent(90) { usual % EMPLOYERS.len() } else { any }].to_owned()
    }

    /// A payment that was reported, mostly one that stands.
    fn known(&mut self, person: usize) -> Option<(PaymentKey, Facts, i32)> {
        let payments = self.people[person].payments();
        let standing: Vec<_> = payments.iter().filter(|payment| !payment.cancelled).collect();
        let any: Vec<_> = payments.iter().collect();
        let of = if standing.is_empty() || self.dice.percent(10) { any } else { standing };
        if of.is_empty() {
            return None;
        }
        let payment = self.dice.pick(&of);
        Some((payment.key.clone(), payment.facts.clone(), payment.revision))
    }

    /// The revision that is expected: nearly always the one that stands.
    fn revision(&mut self, revision: i32) -> i32 {
        if self.dice.percent(93) {
            return revision;
        }
        revision + i32::try_from(self.dice.between(-1, 1)).unwrap_or(0)
    }

    fn correct(&mut self, person: usize) -> Command {
        let Some((key, mut facts, revision)) = self.known(person) else {
            let key =
                PaymentKey { employer: EMPLOYERS[0].to_owned(), reference: "none".to_owned() };
            return Command::Correct { key, facts: self.facts(person), revision: 1 };
        };
        match self.dice.below(4) {
            0 => facts = self.facts(person),
            1 => facts.hours = Some(self.hours()),
            _ => facts.oere = self.amount(person, facts.attributed().year()),
        }
        if facts.parts.is_some() {
            facts.parts = Some(self.parts(facts.oere));
        }
        Command::Correct { key, facts, revision: self.revision(revision) }
    }

    fn cancel(&mut self, person: usize) -> Command {
        let reason = i32::try_from(self.dice.between(1, 5)).unwrap_or(1);
        let Some((key, _, revision)) = self.known(person) else {
            let key =
                PaymentKey { employer: EMPLOYERS[0].to_owned(), reference: "none".to_owned() };
            return Command::Cancel { key, reason, revision: 1 };
        };
        Command::Cancel { key, reason, revision: self.revision(revision) }
    }

    fn facts(&mut self, person: usize) -> Facts {
        let paid = self.covered_day(person);
        let length = if self.dice.percent(80) { 6 } else { 60 };
        let length = self.dice.between(0, length);
        let work = match self.dice.below(10) {
            0..=3 => None,
            // Paid in advance.
            4 => {
                let first = paid.plus(self.dice.between(1, 40));
                Some((first, first.plus(length)))
            }
            _ => {
                let last = paid.plus(-self.dice.between(0, 45));
                Some((last.plus(-length), last))
            }
        };
        let work = work
            .map(|(first, last)| if self.dice.percent(1) { (last, first) } else { (first, last) });
        let mut facts = Facts { oere: 0, paid, work, hours: None, parts: None };
        facts.oere = self.amount(person, facts.attributed().year());
        facts.hours = self.dice.percent(60).then(|| self.hours());
        facts.parts = self.dice.percent(10).then(|| self.parts(facts.oere));
        facts
    }

    fn hours(&mut self) -> i32 {
        i32::try_from(self.dice.between(1, 4_000)).unwrap_or(1)
    }

    /// Three that add up, or hardly ever do not.
    fn parts(&mut self, oere: i64) -> [i64; 3] {
        let wage = self.dice.between(0, oere.max(0));
        let pension = self.dice.between(0, oere.max(0) - wage) + i64::from(self.dice.percent(3));
        [wage, (oere.max(0) - wage - pension).max(0), pension]
    }

    /// Often what is left of the limit, to the øre, or one more or less.
    fn amount(&mut self, person: usize, year: i32) -> i64 {
        let limit = self.limits.on(year, self.today, i64::MAX).unwrap_or(0);
        let left = limit - self.people[person].total(year).0;
        match self.dice.below(20) {
            0 | 1 if left > 1 => left + self.dice.between(-1, 1),
            1 => limit + self.dice.between(-1, 1),
            2 if self.dice.percent(20) => 0,
            2..=12 => self.dice.between(1, 3_000) * 100,
            13..=17 => self.dice.between(1, 800_000),
            _ => self.dice.between(100_000, 3_000_000),
        }
        .clamp(0, 99_999_999)
    }

    /// A day on which the card was active, mostly.
    fn covered_day(&mut self, person: usize) -> Day {
        let day = self.day(person);
        let Some(card) = self.people[person].card() else { return day };
        for _ in 0..20 {
            let day = self.day(person);
            if card.is_active_on(day) {
                return day;
            }
        }
        day
    }

    /// Any day, with a liking for the turn of the year and for days at which a card begins or ends.
    fn day(&mut self, person: usize) -> Day {
        let periods = self.people[person].card().map_or_else(Vec::new, |card| card.periods);
        match self.dice.below(10) {
            0 | 1 => {
                let year = i32::try_from(self.dice.between(2022, 2026)).unwrap_or(2022);
                Day::new(year, 1, 1).plus(self.dice.between(-12, 9))
            }
            2..=4 if !periods.is_empty() => {
                let (first, last) = *self.dice.pick(&periods);
                let edge = last.filter(|_| self.dice.percent(60)).unwrap_or(first);
                edge.plus(self.dice.between(-2, 3)).min(self.today)
            }
            _ => Day::new(2022, 1, 1).plus(self.dice.between(0, 4 * 365)),
        }
    }
}
