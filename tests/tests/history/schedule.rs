//! Schedules by chance. Not here: carrying them out.

use std::sync::Arc;

use frikort_tests::{
    chance::Chance,
    history::{Caller, Payroll, Replication},
};

/// Schedules without `FRIKORT_SCHEDULES`: what the quick suite has time for.
const FEW: u64 = 3;

/// Steps of a schedule, before those that bring everything back.
const STEPS: usize = 14;

/// Steps before a failover.
const PAIR_STEPS: usize = 9;

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Calls side by side; whether all are answered before the next step.
    Calls { what: Calls, count: usize, waits: bool },
    /// The server stops.
    Stop { crash: bool },
    /// The stopped server's directory is copied.
    Copy,
    /// A copy takes the place of the stopped server's directory.
    PutBack { copy: u64 },
    /// The server starts.
    Start,
    /// `kill -9` of a service, which is started again.
    Kill { service: usize },
    /// The operator accepts what is lost.
    Accept,
}

/// Which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Payments that nobody has reported before.
    New,
    /// Payments that were reported before, answered or not.
    Repeated,
    /// Questions and lists.
    Questions,
    /// Corrections and cancellations of payments that were reported before.
    Changes,
}

impl Calls {
    /// Makes one call; what comes of it is in the caller's journal.
    pub(crate) async fn call(
        self,
        caller: Caller,
        payroll: Arc<Payroll>,
        persons: &'static [u32],
        year: i32,
        mut chance: Chance,
    ) {
        let person = *chance.one_of(persons);
        let all = payroll.all();
        match self {
            Self::New => drop(caller.report(&payroll.next(person, year)).await),
            Self::Repeated => drop(caller.report(chance.one_of(&all)).await),
            Self::Questions => match chance.below(4) {
                0 => drop(caller.allowance(person, year).await),
                1 => caller.statement(person, year).await,
                2 => caller.batch(persons, year).await,
                _ => drop(caller.checkpoint(0).await),
            },
            Self::Changes => match chance.below(2) {
                0 => drop(caller.correct(chance.one_of(&all)).await),
                _ => drop(caller.cancel(chance.one_of(&all)).await),
            },
        }
    }

    pub(crate) fn any(chance: &mut Chance) -> Self {
        *chance.one_of(&[Self::New, Self::New, Self::Repeated, Self::Questions, Self::Changes])
    }
}

/// The first seed, and how many schedules.
pub(crate) fn schedules() -> (u64, u64) {
    let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = read("FRIKORT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    (seed, read("FRIKORT_SCHEDULES").unwrap_or(FEW))
}

/// Which calls, how many, and whether they are waited for, by chance.
fn calls(chance: &mut Chance) -> (Calls, usize, bool) {
    let count = usize::try_from(chance.below(12) + 1).unwrap();
    (Calls::any(chance), count, chance.below(2) == 0)
}

/// What is done next to a primary with a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairStep {
    /// Calls side by side; whether all are answered before the next step.
    Calls { what: Calls, count: usize, waits: bool },
    /// The standby receives nothing more.
    Pause,
    /// It receives again.
    Resume,
    /// Calls are made, and the commits that wait for the standby then are cancelled, or their
    /// sessions terminated.
    EndWaits { terminate: bool },
    /// `kill -9` of a service, which is started again.
    Kill { service: usize },
}

/// What happens before a failover. Calls are made while receiving is paused; what waits for a standby
/// that is paused is not waited for.
pub(crate) fn generate_pair(chance: &mut Chance, replication: Replication) -> Vec<PairStep> {
    let mut steps = vec![PairStep::Calls { what: Calls::New, count: 12, waits: true }];
    let (mut is_paused, mut writes_unreceived) = (false, false);
    while steps.len() < PAIR_STEPS || !writes_unreceived {
        let is_paused_now = is_paused;
        let step = match chance.below(9) {
            0..3 => {
                let (what, count, waits) = calls(chance);
                let waits = waits && !(is_paused && replication == Replication::Synchronous);
                PairStep::Calls { what, count, waits }
            }
            3 => PairStep::Kill { service: usize::try_from(chance.below(4)).unwrap() },
            4..7 if is_paused_now && replication == Replication::Synchronous => {
                PairStep::EndWaits { terminate: chance.below(2) == 0 }
            }
            7 if is_paused_now => PairStep::Resume,
            _ if !is_paused_now => PairStep::Pause,
            _ => PairStep::Calls { what: Calls::New, count: 4, waits: false },
        };
        is_paused = match step {
            PairStep::Pause => true,
            PairStep::Resume => false,
            _ => is_paused,
        };
        writes_unreceived |= is_paused
            && matches!(step, PairStep::Calls { what: Calls::New, .. } | PairStep::EndWaits { .. });
        steps.push(step);
    }
    steps
}

/// A schedule. The server goes back once at least, and runs in the end.
pub(crate) fn generate(chance: &mut Chance) -> Vec<Step> {
    let mut steps = vec![Step::Calls { what: Calls::New, count: 12, waits: true }];
    let (mut is_up, mut has_gone_back) = (true, false);
    while steps.len() < STEPS || !has_gone_back {
        let is_up_now = is_up;
        let step = match chance.below(10) {
            0..5 => {
                let (what, count, waits) = calls(chance);
                Step::Calls { what, count, waits }
            }
            5 => Step::Kill { service: usize::try_from(chance.below(4)).unwrap() },
            6 if is_up_now => Step::Accept,
            6 => Step::Copy,
            7 if !is_up_now => Step::PutBack { copy: chance.below(4) },
            _ if is_up_now => Step::Stop { crash: chance.below(2) == 0 },
            _ => Step::Start,
        };
        is_up = match step {
            Step::Stop { .. } => false,
            Step::Start => true,
            _ => is_up,
        };
        has_gone_back |= matches!(step, Step::PutBack { .. });
        steps.push(step);
    }
    if !is_up {
        steps.push(Step::Start);
    }
    steps
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_it_can_be_carried_out() {
    for seed in 0..200 {
        let steps = generate(&mut Chance::of(seed));
        assert_eq!(steps, generate(&mut Chance::of(seed)));
        let mut is_up = true;
        for step in steps {
            match step {
                Step::Stop { .. } | Step::Accept => assert!(is_up, "seed {seed}"),
                Step::Copy | Step::PutBack { .. } | Step::Start => assert!(!is_up, "seed {seed}"),
                Step::Calls { .. } | Step::Kill { .. } => {}
            }
            is_up = match step {
                Step::Stop { .. } => false,
                Step::Start => true,
                _ => is_up,
            };
        }
        assert!(is_up, "seed {seed}");
    }
}
