//! Random schedules of a database that stops, goes back and starts again, of services that are
//! killed, and of calls that are new or repeated, in any order: no answer is false, and in the end
//! everything goes on.
//!
//! `FRIKORT_SCHEDULES` says how many (a handful without it), `FRIKORT_SEED` the first one's seed.

use std::{collections::BTreeMap, sync::Arc};

use frikort_tests::{
    audit::{assert_projection_is_the_fold, assert_sound, is_at_rest},
    chance::Chance,
    history::{Caller, Journal, Payroll, Services, Site, Streams, audit_everything, eventually},
};
use tokio::task::JoinSet;

use crate::{
    checks::assert_none_false,
    ground::{PARTITIONS, PERSONS, YEAR},
    schedule::{Calls, Step, generate, schedules},
};

/// What the schedules share: each goes on where the one before ended.
struct Run {
    site: Site,
    services: Services,
    payroll: Arc<Payroll>,
    copies: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn random_schedules_make_no_answer_false() {
    let (first_seed, count) = schedules();
    println!("FRIKORT_SEED={first_seed} FRIKORT_SCHEDULES={count}");
    let site = Site::start(PARTITIONS).await.unwrap();
    let services = Services::start(&site, true).await.unwrap();
    let mut run = Run { site, services, payroll: Arc::default(), copies: 0 };
    run.begin().await;
    for seed in first_seed..first_seed + count {
        let steps = generate(&mut Chance::of(seed));
        println!("seed {seed}: {steps:?}");
        run.schedule(seed, &steps).await;
    }
    let to = run.site.dir().join("export");
    let report = audit_everything(&run.services, run.site.dir(), PARTITIONS, &to).unwrap();
    for (name, command) in report.all() {
        assert_eq!(command.code, 0, "audit {name}: {}", command.text);
    }
    run.services.stop().await.unwrap();
}

/// An operator accepts whatever is lost.
fn accept(site: &Site) {
    for partition in 0..PARTITIONS {
        // There may be nothing to accept, and the server may not know of it yet.
        site.accept_history(partition, "restored a copy").unwrap();
    }
}

impl Run {
    async fn begin(&mut self) {
        let journal = Arc::new(Journal::new(self.site.epoch.clone()));
        let callers = self.callers(&journal);
        callers[0].set_limit(YEAR, 2_000).await.unwrap();
        for person in PERSONS {
            callers[0].grant(person).await.unwrap();
            callers[1].report(&self.payroll.next(person, YEAR)).await.unwrap();
        }
        self.site.stop_server().await.unwrap();
        self.copy();
        self.site.start_server().await.unwrap();
    }

    fn callers(&self, journal: &Arc<Journal>) -> Vec<Caller> {
        let pairs = [(0, 0), (1, 1), (0, 1), (1, 0)];
        let caller = |(ledger, projector)| self.services.caller(ledger, projector, journal);
        pairs.into_iter().map(|pair| caller(pair).unwrap()).collect()
    }

    /// One more copy; the server must be stopped.
    fn copy(&mut self) {
        self.site.copy(&self.copies.to_string()).unwrap();
        self.copies += 1;
        // The first one, and the last few.
        if let Some(old) = self.copies.checked_sub(4).filter(|old| *old > 0) {
            self.site.remove_copy(&old.to_string()).unwrap();
        }
    }

    /// The name of the copy that this number chooses.
    fn copy_name(&self, number: u64) -> String {
        let kept: Vec<u64> =
            (0..self.copies).filter(|copy| *copy == 0 || copy + 4 > self.copies).collect();
        kept[usize::try_from(number).unwrap() % kept.len()].to_string()
    }

    async fn schedule(&mut self, seed: u64, steps: &[Step]) {
        let journal = Arc::new(Journal::new(self.site.epoch.clone()));
        let callers = self.callers(&journal);
        let mut streams = Streams::default();
        for caller in &callers[..2] {
            streams.watch(caller.clone());
            streams.read(caller.clone(), 0);
            streams.read(caller.clone(), 1);
        }
        let mut chance = Chance::of(seed);
        let mut calls = JoinSet::new();
        for step in steps {
            match step {
                Step::Calls { what, count, waits } => {
                    for number in 0..*count {
                        let caller = callers[number % callers.len()].clone();
                        let (payroll, chance) = (self.payroll.clone(), chance.fork());
                        calls.spawn(what.call(caller, payroll, &PERSONS, YEAR, chance));
                    }
                    if *waits {
                        ended(&mut calls).await;
                    }
                }
                Step::Stop { crash: false } => self.site.stop_server().await.unwrap(),
                Step::Stop { crash: true } => self.site.crash_server().await.unwrap(),
                Step::Copy => self.copy(),
                Step::PutBack { copy } => {
                    streams.drain().await;
                    self.site.put_back(&self.copy_name(*copy)).unwrap();
                }
                Step::Start => self.site.start_server().await.unwrap(),
                Step::Kill { service } => self.services.kill_and_restart(*service).unwrap(),
                Step::Accept => accept(&self.site),
            }
        }
        ended(&mut calls).await;
        self.go_on(&callers, &journal).await;
        for number in 0..20 {
            let caller = callers[number % callers.len()].clone();
            let (payroll, chance) = (self.payroll.clone(), chance.fork());
            let what = [Calls::New, Calls::Repeated, Calls::Questions][number % 3];
            calls.spawn(what.call(caller, payroll, &PERSONS, YEAR, chance));
        }
        ended(&mut calls).await;
        self.assert_all_is_consistent(&journal, streams).await;
    }

    /// Waits until both ledgers record in both partitions again; losses are accepted.
    async fn go_on(&mut self, callers: &[Caller], journal: &Journal) {
        for caller in &callers[..2] {
            let Self { services, payroll, site, .. } = self;
            let recorded = eventually("payments are recorded again", async || {
                // One that was started while there was no server gives up after a while.
                services.revive()?;
                let mut partitions = BTreeMap::new();
                for person in PERSONS {
                    match caller.report(&payroll.next(person, YEAR)).await {
                        Ok(answer) => partitions.insert(answer.position.unwrap().partition, ()),
                        Err(_) => {
                            accept(site);
                            return Ok(false);
                        }
                    };
                }
                Ok(partitions.len() == usize::try_from(PARTITIONS)?)
            });
            if let Err(error) = recorded.await {
                assert_none_false(&journal.all(), &self.site.histories().await.unwrap());
                panic!("{error:#}\n{}", self.services.log_tails(12));
            }
        }
        self.services.revive().unwrap();
        self.services.serve().await.unwrap();
    }

    async fn assert_all_is_consistent(&self, journal: &Journal, mut streams: Streams) {
        let pool = self.site.database.pool().await.unwrap();
        eventually("the projection is at the head", async || Ok(is_at_rest(&pool).await))
            .await
            .unwrap();
        let epoch = self.site.epoch.now();
        eventually("every stream goes on", async || Ok(streams.are_told_in(epoch))).await.unwrap();
        let answered = journal.count(|answer| {
            answer.is_within(epoch) && answer.service.starts_with("projector") && answer.is_claim()
        });
        assert!(answered > 0, "no projector has answered anything since");
        streams.end().await;
        let answers = journal.all();
        let histories = self.site.histories().await.unwrap();
        assert_none_false(&answers, &histories);
        assert_sound(&pool).await;
        assert_projection_is_the_fold(&pool).await;
        pool.close().await;
    }
}

/// Waits until every call is answered or given up.
pub(crate) async fn ended(calls: &mut JoinSet<()>) {
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
}
