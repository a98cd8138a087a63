//! `given(…).when(…).then(…)`: a very small ledger of one person.
//!
//! What is given must be accepted, or the scenario itself is wrong and the test stops. Everything
//! goes through `decide` and `Account::apply` only, as it does in the sequencer.

use frikort_domain::{
    Account, Actor, Amount, Command, Contradiction, Decision, Event, LimitEntry, LimitSchedule,
    PaymentAnswer, PaymentKey, PaymentOutcome, Record, Rejection, Role, decide_within, redecide,
};
use time::{Date, Duration, OffsetDateTime, macros::date, macros::datetime};

pub(crate) use crate::steps::*;

/// The ledger as far as one person is concerned.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) account: Account,
    pub(crate) limits: LimitSchedule,
    pub(crate) payments_per_year: u32,
    pub(crate) today: Date,
    pub(crate) position: i64,
    pub(crate) events: Vec<Event>,
    /// When each of them was recorded.
    pub(crate) moments: Vec<OffsetDateTime>,
}

/// What came of the step under test.
pub(crate) struct Then {
    pub(crate) before: Ledger,
    pub(crate) after: Ledger,
    pub(crate) result: Result<Decision, Rejection>,
}

/// The moment at which the event at `position` is recorded.
pub(crate) fn moment(position: i64) -> OffsetDateTime {
    datetime!(2019-06-01 08:00 UTC) + Duration::microseconds(position)
}

impl Ledger {
    fn empty() -> Self {
        Self {
            account: Account::default(),
            limits: LimitSchedule::default(),
            payments_per_year: u32::MAX,
            today: date!(2019 - 06 - 01),
            position: 0,
            events: Vec::new(),
            moments: Vec::new(),
        }
    }

    fn decide(&mut self, command: &Command) -> Result<Decision, Rejection> {
        let Self { account, limits, payments_per_year, today, .. } = self;
        let decision = decide_within(account, limits, *payments_per_year, command, *today)?;
        if let Decision::Record(event) = &decision {
            let recorded_at = self.note(event.clone());
            let version = self.account.version() + 1;
            self.check_anew(version, event).expect("the same decision");
            self.account
                .apply(event, version, self.position, recorded_at)
                .expect("an event that was just decided follows from the state");
        }
        Ok(decision)
    }

    /// Gives an event the next position, and tells when it is recorded: on the day that it is.
    fn note(&mut self, event: Event) -> OffsetDateTime {
        self.position += 1;
        let morning = self.today.with_hms(8, 0, 0).expect("a time").assume_utc();
        let recorded_at = morning + Duration::microseconds(self.position);
        self.events.push(event);
        self.moments.push(recorded_at);
        recorded_at
    }

    fn record_limit(&mut self, entry: LimitEntry) {
        // Before anything else it needs no place of its own.
        let (position, recorded_at) = if self.events.is_empty() {
            (0, self.today.midnight().assume_utc())
        } else {
            let recorded_at = self.note(Event::AnnualLimitSet(entry.clone()));
            (self.position, recorded_at)
        };
        self.limits.record(entry, position, recorded_at);
    }

    /// What is recorded is decided the same again from its data alone (A7).
    pub(crate) fn check_anew(&self, version: i64, event: &Event) -> Result<(), Contradiction> {
        // An instant of the day on which it is decided.
        let recorded_at = self.today.with_hms(12, 0, 0).expect("noon").assume_utc();
        let record = Record {
            partition: 0,
            position: self.position,
            person_id: None,
            version,
            recorded_at,
            actor: Actor { role: Role::Operator, organisation: "scenario".to_owned() },
            trace_id: None,
            event: event.clone(),
        };
        redecide(&self.account, &self.limits, &record)
    }

    fn happen(&mut self, step: Step) {
        match step {
            Step::Today(day) => self.today = day,
            Step::Limit(entry) => self.record_limit(entry),
            Step::PaymentsPerYear(most) => self.payments_per_year = most,
            Step::Do(command) => {
                let decision = self.decide(&command);
                assert!(
                    matches!(decision, Ok(Decision::Record(_))),
                    "given {command:?}, but it came to {decision:?}"
                );
            }
            Step::All(steps) => steps.into_iter().for_each(|step| self.happen(step)),
        }
    }

    pub(crate) fn split(&self, employer: &str, reference: &str) -> (String, String) {
        let state = self.account.payment(&key(employer, reference)).expect("the payment exists");
        (state.exempt.to_string(), state.taxable().to_string())
    }

    /// The sum of the exempt parts of a year, counted payment by payment.
    pub(crate) fn used(&self, year: i32) -> String {
        let of_year = self.account.payments().filter(|(_, state)| state.year == year);
        of_year.map(|(_, state)| state.exempt).sum::<Amount>().to_string()
    }
}

/// The past.
pub(crate) fn given(steps: impl IntoIterator<Item = Step>) -> Ledger {
    let mut ledger = Ledger::empty();
    steps.into_iter().for_each(|step| ledger.happen(step));
    ledger
}

/// What happened after that.
pub(crate) fn given_with(mut ledger: Ledger, steps: impl IntoIterator<Item = Step>) -> Ledger {
    steps.into_iter().for_each(|step| ledger.happen(step));
    ledger
}

impl Ledger {
    /// The command under test.
    pub(crate) fn when(self, step: Step) -> Then {
        let Step::Do(command) = step else { panic!("only a command can be tried: {step:?}") };
        let mut after = self.clone();
        let result = after.decide(&command);
        Then { before: self, after, result }
    }
}

impl Then {
    pub(crate) fn then(self, check: impl FnOnce(&Self)) -> Self {
        check(&self);
        self
    }

    pub(crate) fn and(self, check: impl FnOnce(&Self)) -> Self {
        self.then(check)
    }

    /// The outcome of a recorded payment event.
    pub(crate) fn outcome(&self) -> &PaymentOutcome {
        match &self.result {
            Ok(Decision::Record(
                Event::PaymentReported(_, outcome)
                | Event::PaymentCorrected(_, outcome)
                | Event::PaymentCancelled(_, outcome),
            )) => outcome,
            other => panic!("no payment event was recorded: {other:?}"),
        }
    }

    /// The same person, later.
    pub(crate) fn when(self, step: Step) -> Self {
        self.after.when(step)
    }
}

// What can be the case afterwards.

/// The payment was recorded with this exempt and this taxable part.
pub(crate) fn recorded(exempt: &str, taxable: &str) -> impl FnOnce(&Then) {
    move |then| {
        let outcome = then.outcome();
        let split = (outcome.exempt.to_string(), outcome.taxable.to_string());
        assert_eq!(split, (exempt.to_owned(), taxable.to_owned()), "the recorded split");
    }
}

/// A decision about the card was recorded.
pub(crate) fn card_recorded(then: &Then) {
    assert!(matches!(then.result, Ok(Decision::Record(_))), "{:?}", then.result);
}

/// A payment stands with this exempt and this taxable part.
pub(crate) fn split(
    employer: &str,
    reference: &str,
    exempt: &str,
    taxable: &str,
) -> impl FnOnce(&Then) {
    move |then| {
        let split = then.after.split(employer, reference);
        assert_eq!(split, (exempt.to_owned(), taxable.to_owned()), "{employer} {reference}");
    }
}

/// Exactly these other payments were told a new split, in this order.
pub(crate) fn moved<const N: usize>(expected: [(&str, &str, &str, &str); N]) -> impl FnOnce(&Then) {
    move |then| {
        let changed = then.outcome().changed.iter().map(|change| {
            let reference = change.reference.as_str().to_owned();
            let split = (change.exempt.to_string(), change.taxable.to_string());
            (change.employer_cvr.to_string(), reference, split.0, split.1)
        });
        let expected = expected.map(|(employer, reference, exempt, taxable)| {
            (employer.to_owned(), reference.to_owned(), exempt.to_owned(), taxable.to_owned())
        });
        assert_eq!(changed.collect::<Vec<_>>(), expected, "the splits that changed");
    }
}

/// So much of a year's allowance is used.
pub(crate) fn used(year: i32, amount: &str) -> impl FnOnce(&Then) {
    move |then| assert_eq!(then.after.used(year), amount, "used in {year}")
}

/// Refused for this reason, and nothing recorded.
pub(crate) fn refused(reason: Rejection) -> impl FnOnce(&Then) {
    move |then| {
        assert_eq!(then.result, Err(reason));
        nothing_recorded(then);
    }
}

/// Refused because the card was not active.
pub(crate) fn not_covered(first_uncovered_day: Date, split_at: Option<Date>) -> Rejection {
    Rejection::NotCovered { first_uncovered_day, split_at }
}

/// The account is what it was.
pub(crate) fn nothing_recorded(then: &Then) {
    assert_eq!(then.before.account, then.after.account);
    assert_eq!(then.before.position, then.after.position);
}

/// The answer that was given when the person's event at `position` was recorded, and nothing
/// recorded now.
pub(crate) fn replayed(position: i64) -> impl FnOnce(&Then) {
    move |then| {
        let at = usize::try_from(position - 1).expect("positions begin at 1");
        let (outcome, changed_since) = match &then.before.events[at] {
            Event::PaymentReported(data, outcome) => {
                let reference = data.reference.clone();
                let key = PaymentKey { employer_cvr: data.employer_cvr, reference };
                let now = then.before.account.payment(&key).expect("the payment").revision;
                (outcome.clone(), Some(now).filter(|now| *now > 1))
            }
            Event::PaymentCorrected(_, outcome) | Event::PaymentCancelled(_, outcome) => {
                (outcome.clone(), None)
            }
            other => panic!("no payment event at {position}: {other:?}"),
        };
        let recorded_at = then.before.moments[at];
        let answer = PaymentAnswer { outcome, position, recorded_at };
        assert_eq!(then.result, Ok(Decision::ReplayPayment(answer, changed_since)));
        nothing_recorded(then);
    }
}

/// The deactivation lists exactly these payments.
pub(crate) fn lists<const N: usize>(expected: [(&str, &str); N]) -> impl FnOnce(&Then) {
    move |then| {
        let Ok(Decision::Record(Event::CardDeactivated(_, outcome))) = &then.result else {
            panic!("no deactivation was recorded: {:?}", then.result)
        };
        assert_eq!(outcome.payments_after, expected.map(|(cvr, reference)| key(cvr, reference)));
    }
}
