//! Lets everybody's splits follow a limit that has changed (A5, A6): person by person, through
//! the partition's sequencer like any other event, while payments go on.
//!
//! No answer waits for it: decisions and statements settle by the limits that took effect meanwhile, one after
//! the other (A9). Recalculation puts on record, for employers and auditors, what moved.
//!
//! The persons that a change may reach are read from the projection, which has every person's year; what it
//! does to them the account decides, so a row that is wrong or old can only be a question too
//! many. There is nothing to resume: who is settled is not found again, and asking somebody twice
//! records nothing, so any number of ledgers may do it at a time, and be killed doing it.
//!
//! What must stay out: how a limit is shared (the domain has it).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use frikort_domain::{Actor, Amount, Command, EffectiveFrom, PersonId, Role, copenhagen_date};
use frikort_event_store::{DatabaseSessions, EventStore};
use frikort_process::clock::Clock;
use futures::{StreamExt, TryStreamExt, stream};
use rust_decimal::Decimal;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    limits::Limits,
    sequencer::{Ask, Body, Handle, Refused},
};

/// Persons read at a time.
const PAGE: i64 = 500;

/// Persons asked about at a time; few, since callers wait in the same queue.
const AT_A_TIME: usize = 16;

/// How often it looks whether a new day has put another limit in force.
const LOOK: Duration = Duration::from_secs(60);

/// A pass is done again so long after a change: an event that was decided before the change, by a
/// ledger whose clock is behind, may have come after the first.
const SECOND_LOOK: Duration = Duration::from_secs(60);

/// Pause while the projection is behind.
const BEHIND_PAUSE: Duration = Duration::from_millis(100);

/// Pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The limit in force of each year.
type InForce = BTreeMap<i32, Amount>;

/// Why a pass was broken off. It is done again from the beginning.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the tables cannot be read")]
    Tables(#[from] sqlx::Error),
    #[error("the store failed")]
    Store(#[from] frikort_event_store::StoreError),
    #[error("the partition does not answer: {0:?}")]
    Refused(Refused),
    #[error("the database does not answer")]
    Unreachable,
}

/// One partition's recalculation.
pub(crate) struct Recalculation {
    pub(crate) partition: i32,
    pub(crate) sessions: DatabaseSessions,
    pub(crate) store: EventStore,
    pub(crate) sequencer: Handle,
    pub(crate) clock: Clock,
    /// The schedule on record, told by the sequencer.
    pub(crate) limits: watch::Receiver<Limits>,
}

/// The limits that took effect, as columns of one length.
#[derive(Debug, Default)]
struct LimitEffects {
    /// The calendar year of each.
    years: Vec<i32>,
    /// Each may reach persons whose year was settled at a lower position.
    reaches_below: Vec<i64>,
    /// In kroner.
    limits: Vec<Decimal>,
}

/// What splits should follow: the limits in force, and how many limits were ever recorded. A limit
/// that is changed and changed back is in force as before, and splits moved in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Target {
    version: i64,
    in_force: InForce,
}

/// How far a target is followed.
#[derive(Debug)]
struct Progress {
    target: Target,
    since: Instant,
    /// Nobody is left.
    done: bool,
}

impl Progress {
    /// Aims at a target; whether somebody may be left.
    fn aim(&mut self, target: &Target, now: Instant) -> bool {
        if self.target != *target {
            *self = Self { target: target.clone(), since: now, done: false };
        }
        !self.done
    }

    /// A pass that had begun at `begun` has asked everybody; how long to wait for the next.
    fn passed(&mut self, begun: Instant) -> Duration {
        let after = begun.duration_since(self.since);
        self.done = after >= SECOND_LOOK;
        SECOND_LOOK.saturating_sub(after)
    }
}

impl Recalculation {
    /// Follows changed limits for ever.
    pub(crate) async fn run(mut self) {
        let nothing = Target::default();
        let mut progress = Progress { target: nothing, since: Instant::now(), done: true };
        loop {
            let target = self.target();
            let pause = if progress.aim(&target, Instant::now()) {
                let begun = Instant::now();
                let passed = self.sessions.while_reachable(self.pass()).await;
                match passed.unwrap_or(Err(Fault::Unreachable)) {
                    Ok(()) => progress.passed(begun),
                    Err(fault) => {
                        self.tell(&fault);
                        RETRY_PAUSE
                    }
                }
            } else {
                LOOK
            };
            // Either may come; a closed channel means that the ledger stops.
            if let Ok(Err(_)) = timeout(pause, self.limits.changed()).await {
                return;
            }
        }
    }

    fn tell(&self, fault: &Fault) {
        let error = fault as &dyn std::error::Error;
        tracing::warn!(partition = self.partition, error, "recalculation begins again");
    }

    fn target(&mut self) -> Target {
        let today = copenhagen_date(self.clock.now());
        let limits = self.limits.borrow_and_update();
        let schedule = &limits.schedule;
        let years = schedule.entries().iter().map(|entry| entry.year);
        let in_force =
            years.filter_map(|year| Some((year, schedule.limit_on(year, today)?))).collect();
        Target { version: limits.version, in_force }
    }

    /// Asks about everybody whose splits a limit may move.
    async fn pass(&self) -> Result<(), Fault> {
        self.wait_for_projection().await?;
        let LimitEffects { years, reaches_below, limits } = self.limit_effects().await?;
        let (mut after, mut persons) = ((uuid::Uuid::nil(), 0), 0_usize);
        loop {
            let page = sqlx::query!(
                "SELECT t.person_id, t.year
                 FROM projection.annual_total AS t
                 WHERE t.partition = $1
                   AND t.generation = (SELECT generation FROM projection.checkpoint
                                       WHERE partition = $1 AND state = 'serving')
                   AND (t.person_id, t.year) > ($5, $6)
                   AND EXISTS (
                       SELECT FROM unnest($2::integer[], $3::bigint[], $4::numeric[])
                           AS e (year, position, amount)
                       WHERE e.year = t.year AND e.position > t.position
                         AND least(t.total, t.applied_limit) <> least(t.total, e.amount))
                 ORDER BY t.person_id, t.year LIMIT $7",
                self.partition,
                &years,
                &reaches_below,
                &limits,
                after.0,
                after.1,
                PAGE
            )
            .fetch_all(&mut *self.store.pool().acquire().await?)
            .await?;
            let Some(last) = page.last() else { break };
            after = (last.person_id, last.year);
            persons += page.len();
            let asked: Vec<_> =
                page.into_iter().map(|row| self.ask(PersonId(row.person_id), row.year)).collect();
            stream::iter(asked).buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
            tracing::info!(partition = self.partition, persons, "limits changed; recalculating");
        }
        if persons > 0 {
            tracing::info!(partition = self.partition, persons, "recalculated");
        }
        Ok(())
    }

    /// The limits that took effect one after the other (A9).
    async fn limit_effects(&self) -> Result<LimitEffects, Fault> {
        let today = copenhagen_date(self.clock.now());
        let schedule = self.limits.borrow().schedule.clone();
        let of_years: BTreeSet<i32> = schedule.entries().iter().map(|entry| entry.year).collect();
        let mut effects = LimitEffects::default();
        for year in of_years {
            for (effect, limit) in schedule.effects(year, None, today) {
                let reaches_below = match effect {
                    EffectiveFrom::Recording(position) => position,
                    // Up to two hours after midnight in Copenhagen, so it reaches some persons too many.
                    EffectiveFrom::Day(day) => {
                        let begins = day.midnight().assume_utc();
                        self.store.position_at(self.partition, begins).await? + 1
                    }
                };
                effects.years.push(year);
                effects.reaches_below.push(reaches_below);
                effects.limits.push(limit.decimal());
            }
        }
        Ok(effects)
    }

    /// The projection must have all that was recorded before the change.
    async fn wait_for_projection(&self) -> Result<(), Fault> {
        let head = self.store.head(self.partition).await?.position;
        let mut told = false;
        loop {
            let position = sqlx::query_scalar!(
                "SELECT position FROM projection.checkpoint
                 WHERE partition = $1 AND state = 'serving'",
                self.partition
            )
            .fetch_one(&mut *self.store.pool().acquire().await?)
            .await?;
            if position >= head {
                return Ok(());
            }
            if !told {
                let (partition, lag) = (self.partition, head - position);
                tracing::info!(partition, lag, "limits changed; waiting for the projection");
                told = true;
            }
            sleep(BEHIND_PAUSE).await;
        }
    }

    async fn ask(&self, person: PersonId, year: i32) -> Result<(), Fault> {
        let actor = Actor { role: Role::Operator, organisation: "ledger".to_owned() };
        let ask = Ask::Command(person.into(), Command::Recalculate { year });
        let answer = self.sequencer.ask_in_turn(ask, actor).await.map_err(Fault::Refused)?;
        debug_assert!(matches!(answer.body, Body::Settled));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(version: i64, kroner: i64) -> Target {
        let limit = Amount::from_oere(kroner * 100).unwrap();
        Target { version, in_force: InForce::from([(2025, limit)]) }
    }

    #[test]
    fn a_limit_that_is_changed_and_changed_back_is_followed_back() {
        let start = Instant::now();
        let mut progress = Progress { target: Target::default(), since: start, done: true };
        assert!(progress.aim(&target(1, 20_000), start));
        progress.passed(start + SECOND_LOOK);
        assert!(!progress.aim(&target(1, 20_000), start));
        assert!(progress.aim(&target(2, 12_000), start));
        // Before everybody had followed the mistake it was corrected.
        assert!(progress.aim(&target(3, 20_000), start));
        progress.passed(start + SECOND_LOOK);
        // Both changes may also come between two looks.
        assert!(progress.aim(&target(5, 20_000), start));
    }

    #[test]
    fn a_change_is_followed_twice_and_then_no_more() {
        let start = Instant::now();
        let mut progress = Progress { target: Target::default(), since: start, done: true };
        assert!(progress.aim(&target(1, 20_000), start));
        assert_eq!(progress.passed(start), SECOND_LOOK);
        assert!(progress.aim(&target(1, 20_000), start + SECOND_LOOK));
        assert_eq!(progress.passed(start + SECOND_LOOK), Duration::ZERO);
        assert!(!progress.aim(&target(1, 20_000), start + SECOND_LOOK));
        // A new day puts another limit in force.
        assert!(progress.aim(&target(1, 40_000), start + SECOND_LOOK));
    }
}
