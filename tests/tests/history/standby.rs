//! A streaming standby that is paused, and promoted when the primary has ended as in a crash. With
//! synchronous replication nothing acknowledged is lost and no signed checkpoint is contradicted,
//! whatever waits are cancelled or sessions terminated; without it the loss is found and named.
//!
//! `FRIKORT_SCHEDULES` says how many schedules (a handful without it), `FRIKORT_SEED` the first
//! one's seed.

use std::{collections::BTreeMap, fs, sync::Arc};

use frikort_proof::Checkpoint;
use frikort_tests::{
    audit::{assert_projection_is_the_fold, assert_sound, is_at_rest},
    chance::Chance,
    history::{
        Caller, Claim, Histories, Journal, Pair, Payroll, Replication, Services, Streams,
        accept_history, audit_everything, eventually, judge_checkpoint, judge_claim,
    },
    process::signing_key,
};
use tokio::task::JoinSet;

use crate::{
    checks::{REASON, assert_none_false, lost_in_log},
    ground::{PARTITIONS, PERSONS, YEAR},
    schedule::{Calls, PairStep, generate_pair, schedules},
    schedules::ended,
};

/// Services on a pair; each schedule goes on where the one before ended.
struct Run {
    pair: Pair,
    services: Services,
    payroll: Arc<Payroll>,
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronous_nothing_acknowledged_or_signed_is_lost() {
    let (first_seed, count) = schedules();
    println!("FRIKORT_SEED={first_seed} FRIKORT_SCHEDULES={count}");
    let mut run = Run::start(Replication::Synchronous).await;
    for seed in first_seed..first_seed + count {
        run.schedule(seed, Replication::Synchronous).await;
    }
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_the_loss_is_found_and_named() {
    let (first_seed, count) = schedules();
    println!("FRIKORT_SEED={first_seed} FRIKORT_SCHEDULES={count}");
    let mut run = Run::start(Replication::Asynchronous).await;
    for seed in first_seed..first_seed + count {
        run.schedule(seed, Replication::Asynchronous).await;
    }
    run.finish().await;
}

/// All that the clients of one schedule have.
struct Clients {
    journal: Arc<Journal>,
    callers: Vec<Caller>,
    streams: Streams,
    calls: JoinSet<()>,
    chance: Chance,
}

/// What is known of a failover.
struct Known {
    /// First lost position and number of lost events of each partition that has lost any.
    lost: BTreeMap<i32, (i64, i64)>,
    /// The last checkpoint of each partition that was signed before.
    signed: Vec<(i32, Checkpoint)>,
    /// A service was killed before, and with it what it remembered.
    is_killed: bool,
}

impl Run {
    async fn start(replication: Replication) -> Self {
        let pair = Pair::start(replication, PARTITIONS).await.unwrap();
        let services = Services::start_at(|role| pair.url(role), pair.dir()).await.unwrap();
        let run = Self { pair, services, payroll: Arc::default() };
        let journal = Arc::new(Journal::new(run.pair.epoch.clone()));
        let caller = run.services.caller(0, 0, &journal).unwrap();
        caller.set_limit(YEAR, 2_000).await.unwrap();
        for person in PERSONS {
            caller.grant(person).await.unwrap();
            caller.report(&run.payroll.next(person, YEAR)).await.unwrap();
        }
        run
    }

    fn clients(&self, seed: u64) -> Clients {
        let journal = Arc::new(Journal::new(self.pair.epoch.clone()));
        let caller = |(ledger, projector)| self.services.caller(ledger, projector, &journal);
        let pairs = [(0, 0), (1, 1), (0, 1), (1, 0)];
        let callers: Vec<Caller> = pairs.into_iter().map(|pair| caller(pair).unwrap()).collect();
        let mut streams = Streams::default();
        for caller in &callers[..2] {
            streams.watch(caller.clone());
            streams.read(caller.clone(), 0);
        }
        Clients { journal, callers, streams, calls: JoinSet::new(), chance: Chance::of(seed) }
    }

    /// One schedule: what it says, a failover, and what must hold after it.
    #[expect(clippy::print_stdout, reason = "whoever sees the test fail needs it")]
    async fn schedule(&mut self, seed: u64, replication: Replication) {
        let steps = generate_pair(&mut Chance::of(seed), replication);
        println!("seed {seed}: {steps:?}");
        let mut clients = self.clients(seed);
        for step in &steps {
            self.step(step, &mut clients).await;
        }
        self.pair.crash_primary().await.unwrap();
        // Whatever is answered now, or signed, is of the primary.
        ended(&mut clients.calls).await;
        clients.streams.drain().await;
        let signed = self.signed();
        self.pair.promote().await.unwrap();
        self.spawn(&mut clients, Calls::New, 8);
        self.spawn(&mut clients, Calls::Repeated, 12);
        self.spawn(&mut clients, Calls::Questions, 8);
        ended(&mut clients.calls).await;
        let histories = self.pair.histories().await.unwrap();
        let is_killed = steps.iter().any(|step| matches!(step, PairStep::Kill { .. }));
        let known = Known { lost: self.lost(&histories), signed, is_killed };
        match replication {
            Replication::Synchronous => {
                assert_nothing_acknowledged_is_lost(&clients.journal, &histories, seed);
                for (partition, checkpoint) in &known.signed {
                    let judged = judge_checkpoint(checkpoint, *partition, histories.last());
                    assert_eq!(judged, Ok(()), "seed {seed}: signed, partition {partition}");
                }
            }
            Replication::Asynchronous => self.accept(&clients, &known).await,
        }
        self.go_on(&clients, replication).await;
        self.spawn(&mut clients, Calls::Questions, 8);
        self.spawn(&mut clients, Calls::Repeated, 8);
        ended(&mut clients.calls).await;
        self.assert_all_is_consistent(clients).await;
        self.pair.add_standby().await.unwrap();
    }

    fn spawn(&self, clients: &mut Clients, what: Calls, count: usize) {
        for number in 0..count {
            let caller = clients.callers[number % clients.callers.len()].clone();
            let (payroll, chance) = (self.payroll.clone(), clients.chance.fork());
            clients.calls.spawn(what.call(caller, payroll, &PERSONS, YEAR, chance));
        }
    }

    async fn step(&mut self, step: &PairStep, clients: &mut Clients) {
        match *step {
            PairStep::Calls { what, count, waits } => {
                self.spawn(clients, what, count);
                if waits {
                    ended(&mut clients.calls).await;
                }
            }
            PairStep::Pause => self.pair.pause().await.unwrap(),
            PairStep::Resume => self.pair.resume().await.unwrap(),
            PairStep::EndWaits { terminate } => {
                self.spawn(clients, Calls::New, 4);
                // A service that has given up its session makes no commit that waits.
                for _ in 0..100 {
                    if self.pair.waits().await.unwrap() > 0 {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                self.pair.end_waits(terminate).await.unwrap();
            }
            PairStep::Kill { service } => self.services.kill_and_restart(service).unwrap(),
        }
    }

    /// The last checkpoint that was signed of each partition, by the signer's file.
    fn signed(&self) -> Vec<(i32, Checkpoint)> {
        let key = signing_key(self.pair.dir());
        let mut signed = Vec::new();
        for partition in 0..PARTITIONS {
            let file = format!("{}.partition-{partition}.checkpoint", key.display());
            let Ok(text) = fs::read_to_string(file) else { continue };
            let note = text.split_once("\n\n").unwrap().1;
            signed.push((partition, Checkpoint::parse_unverified(note).unwrap()));
        }
        signed
    }

    /// First lost position and number of lost events of each partition that has lost any.
    fn lost(&self, histories: &Histories) -> BTreeMap<i32, (i64, i64)> {
        let before = histories.of(self.pair.epoch.now() - 1);
        let lost = |partition| Some((partition, before.lost_in(histories.last(), partition)?));
        (0..PARTITIONS).filter_map(lost).collect()
    }

    /// Where signed events were lost, or acknowledged ones by ledgers that still run, the log names
    /// them; an operator accepts it.
    async fn accept(&self, clients: &Clients, known: &Known) {
        let epoch = self.pair.epoch.now() - 1;
        for (partition, lost) in &known.lost {
            let acknowledged = clients.journal.count(|answer| match &answer.claim {
                Claim::Reported(told) if answer.is_within(epoch) && !told.1.replayed => {
                    let at = told.1.position.unwrap_or_default();
                    at.partition == *partition && at.position >= lost.0
                }
                _ => false,
            });
            let signed = known.signed.iter().find(|(of, _)| of == partition);
            let is_signed = signed.is_some_and(|(_, c)| i64::try_from(c.size).unwrap() >= lost.0);
            if !is_signed && (acknowledged == 0 || known.is_killed) {
                continue;
            }
            let is_told = eventually("the loss is in a log", async || {
                let logs = self.services.ledgers.iter().map(|l| l.logged().unwrap());
                Ok(logs.into_iter().any(|log| !lost_in_log(&log, *partition, *lost).is_empty()))
            });
            if let Err(error) = is_told.await {
                let logs = self.services.log_tails(30);
                panic!("{error:#}: {lost:?} of partition {partition}, {signed:?} signed\n{logs}");
            }
        }
        for partition in known.lost.keys() {
            accept_history(&self.pair.owner_url(), *partition, REASON).unwrap();
        }
    }

    /// Waits until both ledgers record in both partitions again, with nothing to accept where
    /// nothing acknowledged was lost.
    async fn go_on(&mut self, clients: &Clients, replication: Replication) {
        for caller in &clients.callers[..2] {
            let Self { services, payroll, pair, .. } = self;
            let recorded = eventually("payments are recorded again", async || {
                // One that was started while there was no server gives up after a while.
                services.revive()?;
                let mut partitions = BTreeMap::new();
                for person in PERSONS {
                    match caller.report(&payroll.next(person, YEAR)).await {
                        Ok(answer) => partitions.insert(answer.position.unwrap().partition, ()),
                        Err(_) if replication == Replication::Asynchronous => {
                            for partition in 0..PARTITIONS {
                                accept_history(&pair.owner_url(), partition, REASON)?;
                            }
                            return Ok(false);
                        }
                        Err(_) => return Ok(false),
                    };
                }
                Ok(partitions.len() == usize::try_from(PARTITIONS)?)
            });
            if let Err(error) = recorded.await {
                let histories = self.pair.histories().await.unwrap();
                assert_none_false(&clients.journal.all(), &histories);
                panic!("{error:#}\n{}", self.services.log_tails(12));
            }
        }
        self.services.revive().unwrap();
        self.services.serve().await.unwrap();
    }

    async fn assert_all_is_consistent(&self, mut clients: Clients) {
        let pool = self.pair.pool().await.unwrap();
        eventually("the projection is at the head", async || Ok(is_at_rest(&pool).await))
            .await
            .unwrap();
        let epoch = self.pair.epoch.now();
        let streams = &clients.streams;
        eventually("every stream goes on", async || Ok(streams.are_told_in(epoch))).await.unwrap();
        let answered = clients.journal.count(|answer| {
            answer.is_within(epoch) && answer.service.starts_with("projector") && answer.is_claim()
        });
        assert!(answered > 0, "no projector has answered anything since");
        clients.streams.end().await;
        let histories = self.pair.histories().await.unwrap();
        assert_none_false(&clients.journal.all(), &histories);
        assert_sound(&pool).await;
        assert_projection_is_the_fold(&pool).await;
        pool.close().await;
    }

    /// An audit of everything passes.
    async fn finish(mut self) {
        let to = self.pair.dir().join("export");
        let report = audit_everything(&self.services, self.pair.dir(), PARTITIONS, &to).unwrap();
        for (name, command) in report.all() {
            assert_eq!(command.code, 0, "audit {name}: {}", command.text);
        }
        self.services.stop().await.unwrap();
    }
}

/// Whatever was acknowledged, or answered as signed, before the failover is in the promoted history.
fn assert_nothing_acknowledged_is_lost(journal: &Journal, histories: &Histories, seed: u64) {
    let mut acknowledged = 0;
    for answer in journal.all() {
        let is_durable = matches!(
            answer.claim,
            Claim::Reported(_) | Claim::Corrected(_) | Claim::Cancelled(_) | Claim::Checkpoint(_)
        );
        if is_durable {
            let judged = judge_claim(&answer.claim, histories.last());
            assert_eq!(judged, Ok(()), "seed {seed}: acknowledged by {}", answer.service);
            acknowledged += 1;
        }
    }
    assert!(acknowledged > 0, "seed {seed}: nothing was acknowledged, so it shows nothing");
}
