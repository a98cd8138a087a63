//! The days on which a card is active come of the decisions that stand, whatever order they were recorded
//! in (C12).

use frikort_domain::{
    Account, Card, Command, Criteria, DeactivateCard, Decision, DecisionKey, FrikortTag, GrantCard,
    LimitSchedule, ReactivateCard, ReverseDecision, decide,
};
use proptest::{prelude::*, test_runner::Config};
use time::{Date, Duration, OffsetDateTime, macros::date};

const TODAY: Date = date!(2024 - 06 - 01);

/// A decision about days, under a reference of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dated {
    reference: usize,
    kind: Kind,
    day: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grant,
    Deactivate,
    Reactivate,
}

fn date_of(day: i64) -> Date {
    date!(2024 - 01 - 01) + Duration::days(day)
}

fn key(reference: usize) -> DecisionKey {
    let reference = format!("d{reference}").parse().expect("a reference");
    DecisionKey { municipality: "751".parse().expect("a municipality"), reference }
}

impl Dated {
    fn command(self) -> Command {
        let (key, day) = (key(self.reference), date_of(self.day));
        match self.kind {
            Kind::Grant => Command::GrantCard(GrantCard {
                key,
                frikort: FrikortTag([7; 16]),
                decided_on: day,
                effective_from: day,
                born: date!(1870 - 05 - 17),
                criteria: Criteria::default(),
                applied_on: None,
            }),
            Kind::Deactivate => Command::DeactivateCard(DeactivateCard {
                key,
                frikort: None,
                decided_on: day,
                last_day: day,
                criteria: Criteria::default(),
            }),
            Kind::Reactivate => Command::ReactivateCard(ReactivateCard {
                key,
                frikort: None,
                decided_on: day,
                effective_from: day,
            }),
        }
    }
}

/// One person's decisions: those that were accepted, and what came of them.
#[derive(Clone, Debug, Default)]
struct Holder {
    account: Account,
    accepted: Vec<Dated>,
}

impl Holder {
    fn after(decisions: &[Dated]) -> Self {
        let mut holder = Self::default();
        for decision in decisions {
            if holder.record(&decision.command()) {
                holder.accepted.push(*decision);
            }
        }
        holder
    }

    /// Whether it is accepted.
    fn record(&mut self, command: &Command) -> bool {
        let limits = LimitSchedule::default();
        let Ok(Decision::Record(event)) = decide(&self.account, &limits, command, TODAY) else {
            return false;
        };
        let version = self.account.version() + 1;
        let follows = self.account.apply(&event, version, version, OffsetDateTime::UNIX_EPOCH);
        follows.expect("an event that was just decided follows");
        true
    }

    fn reverse(&mut self, reversed: Dated) {
        let accepted = self.record(&Command::ReverseDecision(ReverseDecision {
            key: key(1_000 + reversed.reference),
            frikort: None,
            decided_on: TODAY,
            reversed: key(reversed.reference),
        }));
        assert!(accepted, "a deactivation that stands is reversed");
    }

    fn card(&self) -> Option<Card> {
        self.account.card()
    }

    fn is_active(&self, day: i64) -> bool {
        let day = date_of(day);
        let holds = |(first, last): &(Date, Option<Date>)| {
            *first <= day && last.is_none_or(|last| day <= last)
        };
        self.card().is_some_and(|card| card.periods.iter().any(holds))
    }
}

/// Up to seven decisions, of which some are late.
fn decisions() -> impl Strategy<Value = Vec<Dated>> {
    let kind = prop_oneof![
        1 => Just(Kind::Grant),
        3 => Just(Kind::Deactivate),
        3 => Just(Kind::Reactivate),
    ];
    prop::collection::vec((kind, 0..40_i64), 0..7).prop_map(|rest| {
        let first = std::iter::once((Kind::Grant, 10));
        let all = first.chain(rest).enumerate();
        all.map(|(reference, (kind, day))| Dated { reference, kind, day }).collect()
    })
}

/// As they were given, with no two on one day: of those the later recorded one says what the day is.
fn on_days_of_their_own() -> impl Strategy<Value = Vec<Dated>> {
    decisions().prop_map(|mut decisions| {
        let mut taken = std::collections::BTreeSet::new();
        decisions.retain(|decision| taken.insert(decision.day));
        decisions
    })
}

proptest! {
    #![proptest_config(Config { cases: 3_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn c12_periods_are_disjoint_and_sorted_and_the_longest(decisions in decisions()) {
        let card = Holder::after(&decisions).card().expect("granted first");
        for pair in card.periods.windows(2) {
            let (_, end) = pair[0];
            let after_end = end.and_then(Date::next_day).expect("only the last one has no end");
            prop_assert!(after_end < pair[1].0, "{:?}", card.periods);
        }
        for (first, last) in card.periods {
            prop_assert!(last.is_none_or(|last| first <= last));
        }
    }

    #[test]
    fn c12_the_same_decisions_give_the_same_days_in_whatever_order_they_were_accepted(
        (decisions, shuffled) in on_days_of_their_own()
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let (one, other) = (Holder::after(&decisions), Holder::after(&shuffled));
        let sorted = |holder: &Holder| {
            let mut accepted = holder.accepted.clone();
            accepted.sort_by_key(|decision| decision.reference);
            accepted
        };
        if sorted(&one) == sorted(&other) {
            prop_assert_eq!(one.card().map(|c| c.periods), other.card().map(|c| c.periods));
        }
        // Those that one order took are taken in the order of their dates, or give the same days without.
        let mut by_date = one.accepted.clone();
        by_date.sort_by_key(|decision| decision.day);
        let again = Holder::after(&by_date);
        if again.accepted.len() == one.accepted.len() {
            prop_assert_eq!(again.card().map(|c| c.periods), one.card().map(|c| c.periods));
        }
    }

    #[test]
    fn c5_a_reversal_undoes_exactly_the_reversed_decision(
        decisions in decisions(),
        which in any::<prop::sample::Index>(),
    ) {
        let mut holder = Holder::after(&decisions);
        let deactivations: Vec<Dated> = holder
            .accepted
            .iter()
            .copied()
            .filter(|decision| decision.kind == Kind::Deactivate)
            .collect();
        if !deactivations.is_empty() {
            let reversed = deactivations[which.index(deactivations.len())];
            let rest: Vec<Dated> =
                holder.accepted.iter().copied().filter(|decision| *decision != reversed).collect();
            holder.reverse(reversed);
            let without = Holder::after(&rest);
            if without.accepted == rest {
                prop_assert_eq!(
                    holder.card().map(|c| c.periods),
                    without.card().map(|c| c.periods)
                );
            }
        }
    }

    #[test]
    fn c12_a_day_is_as_the_decisions_dated_up_to_it_say(decisions in decisions(), day in 0..45_i64) {
        let holder = Holder::after(&decisions);
        let up_to: Vec<Dated> =
            holder.accepted.iter().copied().filter(|decision| decision.day <= day).collect();
        let without_later = Holder::after(&up_to);
        if without_later.accepted == up_to {
            prop_assert_eq!(holder.is_active(day), without_later.is_active(day));
        }
    }
}
