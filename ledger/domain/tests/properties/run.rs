//! One random life: each command goes to the program and to the model, and then everything that
//! must hold is looked at.

use std::collections::BTreeMap;

use frikort_domain::{
    Account, Actor, CancelPayment, CancelReason, Command, CorrectPayment, Criteria, DeactivateCard,
    Decision, DecisionKey, Event, FrikortTag, GrantCard, LimitEntry, LimitSchedule, PaymentAnswer,
    PaymentKey, PaymentOutcome, PaymentState, PersonId, ReactivateCard, Record, ReportPayment,
    Role, YearTotals, decide, decide_within, settled_payments,
};
use time::{Duration, OffsetDateTime, macros::datetime};

use crate::{
    convert::{EMPLOYERS, employer_key, facts, kr, model_key, name, oere, payment_key},
    model::{Expected, Key, Model, Stated, date_of},
};

const MUNICIPALITIES: [&str; 2] = ["751", "101"];
const REASONS: [CancelReason; 3] =
    [CancelReason::NotPaid, CancelReason::Duplicate, CancelReason::Other];

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Report {
        key: Key,
        stated: Stated,
        unit: Option<u8>,
        ordinary: bool,
        strict: bool,
    },
    Correct {
        key: Key,
        stated: Stated,
        stale: bool,
    },
    CorrectAmount {
        key: Key,
        oere: u32,
    },
    Cancel {
        key: Key,
        reason: usize,
        stale: bool,
    },
    Limit {
        year: i32,
        later: Option<usize>,
        oere: u32,
    },
    /// No event comes between the two.
    LimitTwice {
        year: i32,
        lowered: u32,
        raised: u32,
    },
    Wait {
        days: usize,
    },
    Grant {
        municipality: usize,
        from: usize,
    },
    Deactivate {
        municipality: usize,
        last_day: usize,
    },
    Reactivate {
        municipality: usize,
        from: usize,
    },
}

/// Exempt and taxable øre of every payment.
type Splits = BTreeMap<Key, (u32, u32)>;

pub(crate) struct Run {
    account: Account,
    limits: LimitSchedule,
    model: Model,
    /// The recorded lines: all that a restart has.
    lines: Vec<String>,
    /// Every accepted report, and the last change of every payment, with the answer given.
    reports: Vec<(Command, PaymentAnswer)>,
    changes: BTreeMap<Key, (Command, PaymentAnswer)>,
    /// The limit applied when a year was last touched.
    applied: BTreeMap<i32, u32>,
    decisions: u32,
    position: i64,
}

impl Run {
    pub(crate) fn new(payments_per_year: usize) -> Self {
        Self {
            account: Account::default(),
            limits: LimitSchedule::default(),
            model: Model::new(payments_per_year),
            lines: Vec::new(),
            reports: Vec::new(),
            changes: BTreeMap::new(),
            applied: BTreeMap::new(),
            decisions: 0,
            position: 0,
        }
    }

    pub(crate) fn happen(&mut self, op: &Op) {
        match *op {
            Op::Wait { days } => self.model.wait(days),
            Op::Limit { year, later, oere } => self.set_limit(year, later.unwrap_or(0), oere),
            Op::LimitTwice { year, lowered, raised } => {
                self.set_limit(year, 0, lowered);
                self.set_limit(year, 0, raised);
            }
            _ => self.command(op),
        }
        self.repeats_get_their_answers();
        self.no_year_has_too_many_payments();
        self.the_log_gives_the_same_account();
    }

    fn set_limit(&mut self, year: i32, later: usize, oere: u32) {
        let from = if year == 2024 { 0 } else { 366 } + later;
        let in_force_from = date_of(from);
        let citation = "LOV 616 af 11/6/2024".to_owned();
        let entry = LimitEntry { year, limit: kr(oere), in_force_from, citation };
        let (position, recorded_at) = self.next_place();
        self.limits.record(entry, position, recorded_at);
        self.model.set_limit(year, from, oere);
    }

    fn command(&mut self, op: &Op) {
        let command = self.build(op);
        let splits_before = self.splits();
        let expected = self.expect(op);
        let today = date_of(self.model.today);
        let most = u32::try_from(self.model.payments_per_year).expect("a small number");
        let decided = || decide_within(&self.account, &self.limits, most, &command, today);
        let result = decided();
        assert_eq!(result, decided(), "deterministic");
        match (&result, &expected) {
            (Ok(Decision::Record(event)), Expected::Recorded) => {
                let answer = self.record(event);
                if let Some(answer) = answer {
                    let key = own_key(op).expect("a payment's event is about a payment");
                    self.the_rules_hold(key, op, &answer.outcome, &splits_before);
                    self.keep(op, key, command, answer);
                } else if let Event::CardDeactivated(data, outcome) = event {
                    assert_eq!(date_of_deactivation(op), data.last_day);
                    let mut listed = outcome.payments_after.clone();
                    listed.sort();
                    assert_eq!(listed, self.after(op), "C3: the payments listed");
                    assert_eq!(outcome.active, self.model.is_active(), "C12: still active");
                }
            }
            (Ok(Decision::ReplayPayment(..)), Expected::Replayed) => {}
            (Err(reason), Expected::Refused(expected)) => assert_eq!(&name(reason), expected),
            _ => panic!("{result:?}, expected {expected:?}"),
        }
    }

    fn expect(&mut self, op: &Op) -> Expected {
        let revision = |stale, key: &Key, model: &Model| {
            let now = model.payments.get(key).map_or(1, |payment| payment.revision);
            if stale { now - 1 } else { now }
        };
        match *op {
            Op::Report { key, stated, unit, ordinary, strict } => {
                self.model.report(key, stated, unit, ordinary, strict)
            }
            Op::Correct { key, stated, stale } => {
                let revision = revision(stale, &key, &self.model);
                self.model.correct(key, stated, revision)
            }
            Op::CorrectAmount { key, oere } => {
                let stated = self.restated(key, oere);
                let revision = revision(false, &key, &self.model);
                self.model.correct(key, stated, revision)
            }
            Op::Cancel { key, reason, stale } => {
                let revision = revision(stale, &key, &self.model);
                self.model.cancel(key, reason, revision)
            }
            Op::Grant { municipality, from } => self.model.grant(municipality, from),
            Op::Deactivate { municipality, last_day } => {
                self.model.deactivate(municipality, last_day)
            }
            Op::Reactivate { municipality, from } => self.model.reactivate(municipality, from),
            Op::Limit { .. } | Op::LimitTwice { .. } | Op::Wait { .. } => {
                unreachable!("no command")
            }
        }
    }

    /// The same dates, another amount.
    fn restated(&self, key: Key, oere: u32) -> Stated {
        let plain = Stated { oere, paid: 10, work: None };
        self.model.payments.get(&key).map_or(plain, |payment| Stated { oere, ..payment.stated })
    }

    fn build(&mut self, op: &Op) -> Command {
        self.decisions += 1;
        let decision = |municipality: usize| DecisionKey {
            municipality: MUNICIPALITIES[municipality].parse().expect("a municipality"),
            reference: format!("d{}", self.decisions).parse().expect("a reference"),
        };
        let revision = |key: &Key, stale: bool| {
            let now = self.model.payments.get(key).map_or(1, |payment| payment.revision);
            if stale { now - 1 } else { now }
        };
        let correct = |key: Key, stated: Stated, stale: bool| {
            Command::CorrectPayment(CorrectPayment {
                key: payment_key(key),
                facts: facts(stated),
                frikort: None,
                expected_revision: revision(&key, stale),
            })
        };
        match *op {
            Op::Report { key, stated, unit, ordinary, strict } => {
                Command::ReportPayment(ReportPayment {
                    key: payment_key(key),
                    facts: facts(stated),
                    production_unit: unit.map(|n| format!("{n:010}").parse().expect("a unit")),
                    frikort: None,
                    ordinary_work: ordinary,
                    reject_if_exceeds: strict,
                })
            }
            Op::Correct { key, stated, stale } => correct(key, stated, stale),
            Op::CorrectAmount { key, oere } => correct(key, self.restated(key, oere), false),
            Op::Cancel { key, reason, stale } => Command::CancelPayment(CancelPayment {
                key: payment_key(key),
                reason: REASONS[reason],
                frikort: None,
                expected_revision: revision(&key, stale),
            }),
            Op::Grant { municipality, from } => Command::GrantCard(GrantCard {
                key: decision(municipality),
                frikort: FrikortTag([7; 16]),
                decided_on: date_of(from),
                effective_from: date_of(from),
                born: datetime!(1870-05-17 00:00 UTC).date(),
                criteria: Criteria::default(),
                applied_on: None,
            }),
            Op::Deactivate { municipality, last_day } => Command::DeactivateCard(DeactivateCard {
                key: decision(municipality),
                frikort: None,
                decided_on: date_of(last_day),
                last_day: date_of(last_day),
                criteria: Criteria::default(),
            }),
            Op::Reactivate { municipality, from } => Command::ReactivateCard(ReactivateCard {
                key: decision(municipality),
                frikort: None,
                decided_on: date_of(from),
                effective_from: date_of(from),
            }),
            Op::Limit { .. } | Op::LimitTwice { .. } | Op::Wait { .. } => {
                unreachable!("no command")
            }
        }
    }

    /// The next position, on the day that it is.
    fn next_place(&mut self) -> (i64, OffsetDateTime) {
        self.position += 1;
        let morning = date_of(self.model.today).with_hms(8, 0, 0).expect("a time").assume_utc();
        (self.position, morning + Duration::microseconds(self.position))
    }

    /// Writes the line and folds the event in, as the sequencer does.
    fn record(&mut self, event: &Event) -> Option<PaymentAnswer> {
        let (position, recorded_at) = self.next_place();
        let version = self.account.version() + 1;
        self.account.apply(event, version, position, recorded_at).expect("it follows");
        let record = Record {
            partition: 1,
            position,
            person_id: Some(PersonId(uuid::Uuid::from_u128(1))),
            version,
            recorded_at,
            actor: Actor { role: Role::Employer, organisation: EMPLOYERS[0].to_owned() },
            trace_id: None,
            event: event.clone(),
        };
        self.lines.push(record.encode());
        let (Event::PaymentReported(_, outcome)
        | Event::PaymentCorrected(_, outcome)
        | Event::PaymentCancelled(_, outcome)) = event
        else {
            return None;
        };
        Some(PaymentAnswer { outcome: outcome.clone(), position, recorded_at })
    }

    fn keep(&mut self, op: &Op, key: Key, command: Command, answer: PaymentAnswer) {
        let outcome = &answer.outcome;
        for totals in [Some(outcome.year), outcome.left_year].into_iter().flatten() {
            self.applied.insert(totals.year, oere(totals.limit));
            self.model.lowest.remove(&totals.year);
        }
        if matches!(op, Op::Report { .. }) {
            self.reports.push((command, answer));
        } else {
            self.changes.insert(key, (command, answer));
        }
    }

    fn splits(&self) -> Splits {
        let split = |(key, state): (&PaymentKey, &PaymentState)| {
            (model_key(key), (oere(state.exempt), oere(state.taxable())))
        };
        self.account.payments().map(split).collect()
    }

    fn the_rules_hold(&self, key: Key, op: &Op, outcome: &PaymentOutcome, before: &Splits) {
        let after = self.splits();
        let model: Splits = self
            .model
            .payments
            .iter()
            .map(|(key, p)| {
                let amount = if p.cancelled { 0 } else { p.stated.oere };
                (*key, (p.exempt, amount - p.exempt))
            })
            .collect();
        // Years that the event did not touch are settled by every limit on record when they are asked about.
        let keys: Vec<PaymentKey> = self.account.payments().map(|(key, _)| key.clone()).collect();
        let today = date_of(self.model.today);
        let settled = settled_payments(&self.account, &self.limits, today, &keys);
        let split = |(key, state): &(PaymentKey, PaymentState)| {
            (model_key(key), (oere(state.exempt), oere(state.taxable())))
        };
        assert_eq!(settled.iter().map(split).collect::<Splits>(), model, "the plain model");
        assert_eq!((oere(outcome.exempt), oere(outcome.taxable)), after[&key], "the answer");
        assert_eq!(outcome.revision, self.model.payments[&key].revision);
        let twin = matches!(op, Op::Report { .. }) && self.model.has_twin(key);
        assert_eq!(outcome.possible_duplicate, twin, "P4");

        // The splits told as changed are exactly those that changed.
        let told: Splits = outcome
            .changed
            .iter()
            .map(|c| (employer_key(c), (oere(c.exempt), oere(c.taxable))))
            .collect();
        assert_eq!(told.len(), outcome.changed.len(), "each payment once");
        let changed = after.iter().filter(|(k, split)| **k != key && before.get(k) != Some(split));
        assert_eq!(told, changed.map(|(k, split)| (*k, *split)).collect(), "what changed");

        for totals in [Some(&outcome.year), outcome.left_year.as_ref()].into_iter().flatten() {
            self.the_year_adds_up(totals, &after);
            self.nobody_lost_to_another_payment(totals, key, op, before, &after);
        }
    }

    /// A2 and A5 of one year that the event touched.
    fn the_year_adds_up(&self, totals: &YearTotals, after: &Splits) {
        let keys = self.model.in_year(totals.year);
        let sum = |part: fn(&(u32, u32)) -> u32| keys.iter().map(|k| part(&after[k])).sum::<u32>();
        let (used, taxable) = (sum(|split| split.0), sum(|split| split.1));
        let limit = oere(totals.limit);
        assert_eq!(Some(limit), self.model.limit(totals.year), "the limit in force");
        assert_eq!(oere(totals.total), used + taxable, "A2: the sum");
        assert_eq!(usize::try_from(totals.payments).expect("few"), keys.len());
        assert_eq!(used, limit.min(used + taxable), "A2: used");
        assert!(used == limit || taxable == 0, "A5: nothing is free while something is taxed");
    }

    /// A4 and A6 of one year that the event touched.
    fn nobody_lost_to_another_payment(
        &self,
        totals: &YearTotals,
        own: Key,
        op: &Op,
        before: &Splits,
        after: &Splits,
    ) {
        let now = oere(totals.limit);
        let lowest = self.model.lowest.get(&totals.year).copied().unwrap_or(now).min(now);
        let lowered = self.applied.get(&totals.year).is_some_and(|was| lowest < *was);
        let keys = self.model.in_year(totals.year);
        for (at, key) in keys.iter().enumerate().filter(|(_, key)| **key != own) {
            if after[key].0 >= before[key].0 {
                continue;
            }
            assert!(lowered, "A4: {key:?} lost through {op:?}");
            if matches!(op, Op::Report { .. }) {
                let later_have = keys[at + 1..].iter().map(|later| after[later].0).sum::<u32>();
                assert_eq!(later_have, 0, "A6: {key:?} lost before those after it");
            }
        }
    }

    /// The payments that a deactivation must list, in order of key.
    fn after(&self, op: &Op) -> Vec<PaymentKey> {
        let Op::Deactivate { last_day, .. } = op else { unreachable!("a deactivation") };
        let mut keys: Vec<PaymentKey> =
            self.model.after(*last_day).into_iter().map(payment_key).collect();
        keys.sort();
        keys
    }

    /// P3 and P9: whatever happened since.
    fn repeats_get_their_answers(&self) {
        let today = date_of(self.model.today);
        for (command, answer) in self.reports.iter().chain(self.changes.values()) {
            let again = decide(&self.account, &self.limits, command, today);
            // P11.
            let changed_since = match command {
                Command::ReportPayment(report) => {
                    let revision = self.model.payments[&model_key(&report.key)].revision;
                    Some(revision).filter(|revision| *revision > 1)
                }
                _ => None,
            };
            let expected = Decision::ReplayPayment(answer.clone(), changed_since);
            assert_eq!(again, Ok(expected), "{command:?}");
        }
    }

    /// P10: as the account counts them, and as the model does.
    fn no_year_has_too_many_payments(&self) {
        for year in [2024, 2025] {
            let recorded = self.model.recorded_in(year);
            assert_eq!(usize::try_from(self.account.recorded_in(year)), Ok(recorded));
            assert!(recorded <= self.model.payments_per_year, "{recorded} of {year}");
        }
    }

    fn the_log_gives_the_same_account(&self) {
        let mut account = Account::default();
        for line in &self.lines {
            let record = Record::decode(line).expect("our own line");
            assert_eq!(&record.encode(), line);
            account
                .apply(&record.event, record.version, record.position, record.recorded_at)
                .expect("it follows");
        }
        assert_eq!(account, self.account);
    }
}

fn own_key(op: &Op) -> Option<Key> {
    match *op {
        Op::Report { key, .. }
        | Op::Correct { key, .. }
        | Op::CorrectAmount { key, .. }
        | Op::Cancel { key, .. } => Some(key),
        _ => None,
    }
}

fn date_of_deactivation(op: &Op) -> time::Date {
    let Op::Deactivate { last_day, .. } = op else { unreachable!("a deactivation") };
    date_of(*last_day)
}
