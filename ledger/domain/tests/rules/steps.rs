//! What can happen in a scenario: days that pass, limits, and commands built in a few words.

use frikort_domain::{
    Amount, CancelPayment, CancelReason, ChangeCprNumber, Command, CorrectPayment, Criteria,
    Criterion, DeactivateCard, DecisionKey, Facts, FrikortTag, GrantCard, LimitEntry, NumberTag,
    PaymentKey, Period, ReactivateCard, RecordControl, ReissueCard, RejectApplication,
    ReportPayment, ReverseDecision, TransferCard,
};
use time::{Date, macros::date};

/// Three employers that know nothing of each other.
pub(crate) const BAKERY: &str = "13748136";
pub(crate) const GARDEN: &str = "29189706";
pub(crate) const HARBOUR: &str = "29189692";

/// The person's Frikort-ID, and somebody else's.
pub(crate) const CARD: FrikortTag = FrikortTag([1; 16]);
pub(crate) const OTHER_CARD: FrikortTag = FrikortTag([2; 16]);

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Today(Date),
    Limit(LimitEntry),
    PaymentsPerYear(u32),
    Do(Command),
    All(Vec<Step>),
}

pub(crate) fn today(day: Date) -> Step {
    Step::Today(day)
}

/// From now on a year takes so many payments.
pub(crate) fn payments_per_year(most: u32) -> Step {
    Step::PaymentsPerYear(most)
}

pub(crate) fn limit(year: i32, amount: &str) -> Step {
    let first_day = Date::from_ordinal_date(year, 1).expect("every year has a first day");
    limit_from(year, amount, first_day)
}

pub(crate) fn limit_from(year: i32, amount: &str, in_force_from: Date) -> Step {
    let citation = "LOV 689 af 8/6/2018".to_owned();
    Step::Limit(LimitEntry { year, limit: kr(amount), in_force_from, citation })
}

/// A person with a card from 1 January 2019 and the limit of that year, 20.000 kr.
pub(crate) fn holder() -> Step {
    Step::All(vec![limit(2019, "20000.00"), grant("g1", date!(2019 - 01 - 01))])
}

pub(crate) fn grant(reference: &str, effective_from: Date) -> Step {
    Step::Do(Command::GrantCard(GrantCard {
        key: decision("751", reference),
        frikort: CARD,
        decided_on: effective_from,
        effective_from,
        born: date!(1870 - 05 - 17),
        criteria: Criteria::default(),
        applied_on: None,
    }))
}

pub(crate) fn reject(reference: &str, applied_on: Date, decided_on: Date) -> Step {
    Step::Do(Command::RejectApplication(RejectApplication {
        key: decision("751", reference),
        applied_on,
        decided_on,
        criteria: Criteria::default(),
    }))
}

/// Reverses a deactivation of Aarhus.
pub(crate) fn reverse(reference: &str, reversed: &str, decided_on: Date) -> Step {
    Step::Do(Command::ReverseDecision(ReverseDecision {
        key: decision("751", reference),
        frikort: None,
        decided_on,
        reversed: decision("751", reversed),
    }))
}

/// A new Frikort-ID for the holder.
pub(crate) fn reissue(reference: &str, reissued: FrikortTag, decided_on: Date) -> Step {
    Step::Do(Command::ReissueCard(ReissueCard {
        key: decision("751", reference),
        frikort: None,
        decided_on,
        reissued,
    }))
}

pub(crate) fn recalculate(year: i32) -> Step {
    Step::Do(Command::Recalculate { year })
}

pub(crate) fn transfer(reference: &str, to: &str, decided_on: Date) -> Step {
    Step::Do(Command::TransferCard(TransferCard {
        key: decision("751", reference),
        frikort: None,
        decided_on,
        to: to.parse().expect("a municipality"),
    }))
}

pub(crate) fn renumber(reference: &str, number: u8, decided_on: Date) -> Step {
    Step::Do(Command::ChangeCprNumber(ChangeCprNumber {
        key: decision("751", reference),
        frikort: None,
        decided_on,
        number: NumberTag([number; 16]),
    }))
}

pub(crate) fn control(reference: &str, decided_on: Date) -> Step {
    Step::Do(Command::RecordControl(RecordControl {
        key: decision("751", reference),
        frikort: None,
        decided_on,
        dispensation: false,
        criteria: Criteria::default(),
    }))
}

pub(crate) fn deactivate(reference: &str, last_day: Date) -> Step {
    let key = decision("751", reference);
    let (decided_on, criteria) = (last_day, Criteria::default());
    let command = DeactivateCard { key, frikort: None, decided_on, last_day, criteria };
    Step::Do(Command::DeactivateCard(command))
}

pub(crate) fn reactivate(reference: &str, effective_from: Date) -> Step {
    Step::Do(Command::ReactivateCard(ReactivateCard {
        key: decision("751", reference),
        frikort: None,
        decided_on: effective_from,
        effective_from,
    }))
}

/// A payment of 1 March 2019, unless another day is said.
pub(crate) fn report(employer: &str, reference: &str, amount: &str) -> Step {
    Step::Do(Command::ReportPayment(ReportPayment {
        key: key(employer, reference),
        facts: facts(amount),
        production_unit: None,
        frikort: None,
        ordinary_work: true,
        reject_if_exceeds: false,
    }))
}

pub(crate) fn correct(employer: &str, reference: &str, revision: u32, amount: &str) -> Step {
    Step::Do(Command::CorrectPayment(CorrectPayment {
        key: key(employer, reference),
        facts: facts(amount),
        frikort: None,
        expected_revision: revision,
    }))
}

pub(crate) fn cancel(employer: &str, reference: &str, revision: u32) -> Step {
    Step::Do(Command::CancelPayment(CancelPayment {
        key: key(employer, reference),
        reason: CancelReason::NotPaid,
        frikort: None,
        expected_revision: revision,
    }))
}

impl Step {
    /// The command, with a change to it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        let Self::Do(command) = &mut self else { panic!("no command: {self:?}") };
        change(command);
        self
    }

    pub(crate) fn with_facts(self, change: impl FnOnce(&mut Facts)) -> Self {
        self.with(|command| match command {
            Command::ReportPayment(command) => change(&mut command.facts),
            Command::CorrectPayment(command) => change(&mut command.facts),
            other => panic!("no facts in {other:?}"),
        })
    }

    pub(crate) fn with_report(self, change: impl FnOnce(&mut ReportPayment)) -> Self {
        self.with(|command| match command {
            Command::ReportPayment(command) => change(command),
            other => panic!("no report: {other:?}"),
        })
    }

    pub(crate) fn paid(self, day: Date) -> Self {
        self.with_facts(|facts| facts.payment_date = day)
    }

    pub(crate) fn worked(self, first: Date, last: Date) -> Self {
        let work = Period::new(first, last).expect("a period runs forwards");
        self.with_facts(|facts| facts.work = Some(work))
    }

    pub(crate) fn hours(self, hours: &str) -> Self {
        let hours = hours.parse().expect("hours");
        self.with_facts(|facts| facts.hours = Some(hours))
    }

    pub(crate) fn unless_exceeding(self) -> Self {
        self.with_report(|command| command.reject_if_exceeds = true)
    }

    pub(crate) fn supported_work(self) -> Self {
        self.with_report(|command| command.ordinary_work = false)
    }

    /// With a Frikort-ID beside the CPR number.
    pub(crate) fn naming(self, tag: FrikortTag) -> Self {
        self.with(|command| match command {
            Command::ReportPayment(command) => command.frikort = Some(tag),
            Command::CorrectPayment(command) => command.frikort = Some(tag),
            Command::CancelPayment(command) => command.frikort = Some(tag),
            Command::GrantCard(command) => command.frikort = tag,
            Command::DeactivateCard(command) => command.frikort = Some(tag),
            Command::ReactivateCard(command) => command.frikort = Some(tag),
            Command::TransferCard(command) => command.frikort = Some(tag),
            Command::RecordControl(command) => command.frikort = Some(tag),
            Command::ReverseDecision(command) => command.frikort = Some(tag),
            Command::ReissueCard(command) => command.frikort = Some(tag),
            Command::ChangeCprNumber(command) => command.frikort = Some(tag),
            other => panic!("no card is named in {other:?}"),
        })
    }

    pub(crate) fn because(self, reason: CancelReason) -> Self {
        self.with(|command| match command {
            Command::CancelPayment(command) => command.reason = reason,
            other => panic!("no cancellation: {other:?}"),
        })
    }

    /// A decision of another municipality than the one at hand.
    pub(crate) fn by(self, municipality: &str) -> Self {
        let municipality = municipality.parse().expect("a municipality");
        self.with(|command| match command {
            Command::GrantCard(command) => command.key.municipality = municipality,
            Command::DeactivateCard(command) => command.key.municipality = municipality,
            Command::ReactivateCard(command) => command.key.municipality = municipality,
            Command::TransferCard(command) => command.key.municipality = municipality,
            Command::RecordControl(command) => command.key.municipality = municipality,
            Command::ChangeCprNumber(command) => command.key.municipality = municipality,
            Command::RejectApplication(command) => command.key.municipality = municipality,
            Command::ReverseDecision(command) => command.key.municipality = municipality,
            Command::ReissueCard(command) => command.key.municipality = municipality,
            other => panic!("no decision about a card: {other:?}"),
        })
    }

    pub(crate) fn decided(self, day: Date) -> Self {
        self.with(|command| match command {
            Command::GrantCard(command) => command.decided_on = day,
            Command::DeactivateCard(command) => command.decided_on = day,
            Command::ReactivateCard(command) => command.decided_on = day,
            Command::TransferCard(command) => command.decided_on = day,
            Command::RecordControl(command) => command.decided_on = day,
            Command::ChangeCprNumber(command) => command.decided_on = day,
            other => panic!("no decision about a card: {other:?}"),
        })
    }

    /// A decision that rests on these criteria.
    pub(crate) fn resting_on(self, criteria: &[Criterion]) -> Self {
        let criteria = criteria.iter().copied().collect();
        self.with(|command| match command {
            Command::GrantCard(command) => command.criteria = criteria,
            Command::RejectApplication(command) => command.criteria = criteria,
            Command::DeactivateCard(command) => command.criteria = criteria,
            Command::RecordControl(command) => command.criteria = criteria,
            other => panic!("no decision with criteria: {other:?}"),
        })
    }

    /// A grant to somebody who was born on that day.
    pub(crate) fn born(self, day: Date) -> Self {
        self.with(|command| match command {
            Command::GrantCard(command) => command.born = day,
            other => panic!("no grant: {other:?}"),
        })
    }
}

pub(crate) fn kr(amount: &str) -> Amount {
    amount.parse().expect("an amount")
}

pub(crate) fn key(employer: &str, reference: &str) -> PaymentKey {
    PaymentKey {
        employer_cvr: employer.parse().expect("a CVR number"),
        reference: reference.parse().expect("a reference"),
    }
}

fn decision(municipality: &str, reference: &str) -> DecisionKey {
    DecisionKey {
        municipality: municipality.parse().expect("a municipality"),
        reference: reference.parse().expect("a reference"),
    }
}

fn facts(amount: &str) -> Facts {
    let payment_date = date!(2019 - 03 - 01);
    Facts { amount: kr(amount), payment_date, work: None, hours: None, components: None }
}
