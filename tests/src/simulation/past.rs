//! Questions about the past, on both axes, when all is done: what was known at a position or an
//! instant, of what was paid up to a day. The model folds its log again for each.

use std::collections::BTreeMap;

use futures::{TryStreamExt, stream};
use time::Duration;

use super::{
    dice::Dice,
    expect::Someone,
    history::Event,
    list::{Ask, Beside, Named, Question},
    run::{Ground, Run, TURNS},
};
use crate::model::{AsOf, Day, Instant, Known, Limits};

/// Questions for each person.
const QUESTIONS: usize = 6;

/// Questions about everybody.
const BATCHES: usize = 5;

/// Positions of each partition, with instants.
type Moments = BTreeMap<i32, Vec<(i64, Instant)>>;

impl Run<'_> {
    pub(super) async fn look_back(&mut self, events: &[Event], seed: u64) -> anyhow::Result<()> {
        let mut moments = Moments::new();
        for event in events {
            moments.entry(event.partition).or_default().push((event.position, event.at));
        }
        let mut questions = Vec::new();
        for someone in &self.people {
            // Of each person the same, whoever else is there.
            let mut dice = Dice::new(seed + u64::try_from(someone.number)?);
            for _ in 0..QUESTIONS {
                let moments = moments.get(&someone.partition).map_or(&[][..], Vec::as_slice);
                let as_of = as_of(&mut dice, someone, someone.limits(&self.limits), moments);
                questions.push((someone, ask(&mut dice, someone), as_of));
            }
        }
        let count = questions.len();
        let ground = Ground::of(self.stack, &self.limits, self.today);
        stream::iter(questions.into_iter().map(anyhow::Ok))
            .try_for_each_concurrent(TURNS, |(someone, ask, as_of)| async move {
                ground.ask(someone, &ask, as_of).await
            })
            .await?;
        self.counts.answers += count;
        self.counts.past += count;
        self.look_back_together(&moments, &mut Dice::new(seed)).await
    }

    /// Everybody at once: at an instant, or at a position, which is all of a partition that has
    /// fewer.
    async fn look_back_together(
        &mut self,
        moments: &Moments,
        dice: &mut Dice,
    ) -> anyhow::Result<()> {
        let everybody: Vec<usize> = (0..self.people.len()).take(1000).collect();
        let all: Vec<(i64, Instant)> = moments.values().flatten().copied().collect();
        if everybody.is_empty() || all.is_empty() {
            return Ok(());
        }
        for _ in 0..BATCHES {
            let year = year(dice);
            let (position, instant) = *dice.pick(&all);
            let through = dice.percent(50).then(|| any_day(dice));
            let by_position = dice.percent(50);
            let as_of = |partition| {
                let none = Vec::new();
                let of_it = moments.get(&partition).unwrap_or(&none);
                let known = if by_position {
                    let last = of_it.iter().rfind(|(at, _)| *at <= position);
                    Known::At(position, last.map_or(instant, |(_, instant)| *instant))
                } else {
                    when(of_it, instant)
                };
                AsOf { known: Some(known), through }
            };
            self.batch(&everybody, year, as_of).await?;
            self.counts.past += everybody.len();
        }
        Ok(())
    }
}

fn ask(dice: &mut Dice, someone: &Someone) -> Ask {
    let question = if dice.percent(50) {
        Question::Allowance(year(dice))
    } else {
        let year = dice.percent(40).then(|| year(dice));
        Question::Statement { year, hours_through: any_day(dice) }
    };
    let frikort = if dice.percent(10) { Beside::Right } else { Beside::Nothing };
    let number = dice.percent(90).then(|| dice.below(4));
    Ask { person: someone.number, named: Named { number, frikort }, question, past: None }
}

fn year(dice: &mut Dice) -> i32 {
    i32::try_from(dice.between(2021, 2026)).unwrap_or(2022)
}

fn any_day(dice: &mut Dice) -> Day {
    Day::new(2021, 6, 1).plus(dice.between(0, 5 * 365))
}

/// On either axis, both or none; with a liking for what the person was met by.
fn as_of(dice: &mut Dice, someone: &Someone, limits: &Limits, moments: &[(i64, Instant)]) -> AsOf {
    let own: Vec<(i64, Instant)> =
        someone.log.entries().iter().map(|entry| (entry.position, entry.at)).collect();
    let near = if own.is_empty() || dice.percent(50) { moments } else { &own };
    let known = if near.is_empty() || dice.percent(20) {
        None
    } else {
        let (position, instant) = *dice.pick(near);
        Some(if dice.percent(50) {
            let before = i64::from(dice.percent(30));
            let at = moments.iter().find(|(at, _)| *at == position - before);
            Known::At(position - before, at.map_or(instant, |(_, instant)| *instant))
        } else {
            let before = Duration::microseconds(i64::from(dice.percent(30)));
            when(moments, instant - before)
        })
    };
    AsOf { known, through: through(dice, someone, limits) }
}

fn when(moments: &[(i64, Instant)], instant: Instant) -> Known {
    let last = moments.iter().filter(|(_, at)| *at <= instant).map(|(position, _)| *position).max();
    Known::When(instant, last.unwrap_or(0))
}

fn through(dice: &mut Dice, someone: &Someone, limits: &Limits) -> Option<Day> {
    let payments = someone.now.payments();
    match dice.below(10) {
        0..=2 => None,
        3..=5 if !payments.is_empty() => {
            Some(dice.pick(payments).facts.attributed().plus(dice.between(-1, 1)))
        }
        6 | 7 if !limits.recorded().is_empty() => {
            Some(dice.pick(limits.recorded()).1.from.plus(dice.between(-1, 1)))
        }
        _ => Some(any_day(dice)),
    }
}
