//! A stack under load on a cluster that goes back to a copy of itself, and what must hold then.

use std::{collections::BTreeMap, sync::Arc};

use frikort_tests::{
    audit::is_at_rest,
    chance::Chance,
    history::{
        Caller, Claim, Journal, Load, Payroll, Planned, Services, Site, Streams, eventually,
        reason_of,
    },
};

/// The copy that is put back.
pub(crate) const COPY: &str = "before";

/// Persons who have a card before the copy is made, by number.
///
/// Their ids are random, and so are their partitions: so many that each partition has some.
pub(crate) const PERSONS: [u32; 20] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];

/// The year of their payments.
pub(crate) const YEAR: i32 = 2022;

pub(crate) const PARTITIONS: i32 = 2;

/// Answers of each kind of service that are waited for.
const ENOUGH: usize = 40;

/// Services, clients, and all that they were answered.
pub(crate) struct Ground {
    pub(crate) site: Site,
    pub(crate) services: Services,
    pub(crate) journal: Arc<Journal>,
    pub(crate) payroll: Arc<Payroll>,
    /// One for each ledger with each projector.
    pub(crate) callers: Vec<Caller>,
    /// Persons by number, with their ids.
    granted: Vec<(u32, String)>,
    pub(crate) streams: Streams,
    load: Option<Load>,
    chance: Chance,
    /// Prints what the services logged, when the test fails.
    pub(crate) failing: bool,
}

impl Drop for Ground {
    #[expect(clippy::print_stdout, reason = "whoever sees the test fail needs it")]
    fn drop(&mut self) {
        if self.failing && std::thread::panicking() {
            println!("{}", self.services.log_tails(12));
        }
    }
}

impl Ground {
    /// A ledger with some history, of which a copy was made; nothing has happened since.
    pub(crate) async fn start(shares_signing_key: bool) -> Self {
        let chance = Chance::printed();
        let site = Site::start(PARTITIONS).await.unwrap();
        let services = Services::start(&site, shares_signing_key).await.unwrap();
        let journal = Arc::new(Journal::new(site.epoch.clone()));
        let mut callers = Vec::new();
        for (ledger, projector) in [(0, 0), (1, 1), (0, 1), (1, 0)] {
            callers.push(services.caller(ledger, projector, &journal).unwrap());
        }
        let payroll = Arc::new(Payroll::default());
        callers[0].set_limit(YEAR, 2_000).await.unwrap();
        let mut granted = Vec::new();
        for person in PERSONS {
            granted.push((person, callers[0].grant(person).await.unwrap()));
            callers[1].report(&payroll.next(person, YEAR)).await.unwrap();
        }
        let mut ground = Self {
            site,
            services,
            journal,
            payroll,
            callers,
            granted,
            streams: Streams::default(),
            load: None,
            chance,
            failing: true,
        };
        ground.until_at_rest().await;
        ground.site.stop_server().await.unwrap();
        ground.site.copy(COPY).unwrap();
        ground.site.start_server().await.unwrap();
        ground.until_recorded("after the copy").await;
        ground.begin_load();
        ground
    }

    /// Clients, watchers and readers at work.
    fn begin_load(&mut self) {
        for caller in &self.callers[..2] {
            self.streams.watch(caller.clone());
            self.streams.read(caller.clone(), 0);
            self.streams.read(caller.clone(), 1);
        }
        let callers = self.callers.clone();
        self.load = Some(Load::start(callers, &PERSONS, &self.payroll, &mut self.chance));
    }

    /// Waits until each ledger has recorded a new payment in each partition.
    pub(crate) async fn until_recorded(&self, when: &str) {
        for caller in &self.callers[..2] {
            eventually(&format!("payments are recorded {when}"), async || {
                let mut in_partition = BTreeMap::new();
                for person in PERSONS {
                    let answer = caller.report(&self.payroll.next(person, YEAR)).await?;
                    let place = answer.position.unwrap();
                    in_partition.insert(place.partition, answer.replayed);
                }
                Ok(in_partition.len() == usize::try_from(PARTITIONS)?)
            })
            .await
            .unwrap();
        }
    }

    /// Waits until the projection is at the head of every partition.
    pub(crate) async fn until_at_rest(&self) {
        let pool = self.site.database.pool().await.unwrap();
        eventually("the projection is at the head", async || Ok(is_at_rest(&pool).await))
            .await
            .unwrap();
        pool.close().await;
    }

    /// Waits until each projector knows what is recorded now.
    pub(crate) async fn until_at_projection(&self) {
        let heads = self.heads().await;
        for caller in &self.callers[..2] {
            for person in PERSONS {
                eventually("the projector has what is recorded", async || {
                    let answer = match caller.allowance(person, YEAR).await {
                        Ok(answer) => answer,
                        // A forgotten person.
                        Err(status) => return Ok(reason_of(&status) == "NO_CARD"),
                    };
                    let at = answer.position.unwrap_or_default();
                    Ok(at.position >= heads[&at.partition])
                })
                .await
                .unwrap();
            }
        }
    }

    /// The id that a person was granted a card under.
    pub(crate) fn person_id(&self, person: u32) -> String {
        let granted = self.granted.iter().find(|(number, _)| *number == person);
        granted.unwrap().1.clone()
    }

    /// Waits until every client was answered often since `from`, by whom and however.
    pub(crate) async fn until_answered_often(&self) {
        let epoch = self.site.epoch.now();
        let services = ["ledger 0", "ledger 1", "projector 0", "projector 1"];
        let before = services.map(|service| self.answers_of(service, epoch));
        eventually("every service answers", async || {
            let now = services.map(|service| self.answers_of(service, epoch));
            Ok(now.iter().zip(&before).all(|(now, before)| *now >= before + ENOUGH))
        })
        .await
        .unwrap();
    }

    /// Ends the load, when every call is answered or given up.
    pub(crate) async fn end_load(&mut self) {
        if let Some(load) = self.load.take() {
            load.end().await;
        }
    }

    fn answers_of(&self, service: &str, epoch: usize) -> usize {
        self.journal.count(|answer| answer.service == service && answer.is_within(epoch))
    }

    /// Waits until a checkpoint is signed that covers events after the copy, in each partition.
    pub(crate) async fn until_signed(&self) {
        for partition in 0..PARTITIONS {
            let head = self.site.history().await.unwrap().head(partition);
            eventually("a checkpoint covers what is recorded", async || {
                Ok(self.callers[0].checkpoint(partition).await?.position >= head)
            })
            .await
            .unwrap();
        }
    }

    /// The server stops, the copy is put in place and started. `meanwhile` happens between, while
    /// the services are stopped (SIGSTOP), so that they meet what it has done when they go on.
    pub(crate) async fn go_back(&mut self, meanwhile: Option<impl AsyncFnOnce(&mut Self)>) {
        self.site.stop_server().await.unwrap();
        self.streams.drain().await;
        if let Some(meanwhile) = meanwhile {
            self.services.signal("STOP").unwrap();
            self.site.put_back(COPY).unwrap();
            self.site.start_server().await.unwrap();
            meanwhile(self).await;
            self.services.signal("CONT").unwrap();
        } else {
            self.site.put_back(COPY).unwrap();
            self.site.start_server().await.unwrap();
        }
    }

    /// The same with a copy of what is there when the server has stopped.
    pub(crate) async fn go_back_to_the_same(&mut self) {
        self.site.stop_server().await.unwrap();
        self.streams.drain().await;
        self.site.copy("same").unwrap();
        self.site.put_back("same").unwrap();
        self.site.start_server().await.unwrap();
    }

    /// The head of each partition in the epoch before.
    pub(crate) async fn heads_before(&self) -> BTreeMap<i32, i64> {
        let histories = self.site.histories().await.unwrap();
        let before = histories.of(self.site.epoch.now() - 1);
        (0..PARTITIONS).map(|partition| (partition, before.head(partition))).collect()
    }

    /// What is lost of each partition, against the epoch before.
    pub(crate) async fn lost(&self) -> BTreeMap<i32, (i64, i64)> {
        let histories = self.site.histories().await.unwrap();
        let before = histories.of(self.site.epoch.now() - 1);
        let lost = |partition| Some((partition, before.lost_in(histories.last(), partition)?));
        (0..PARTITIONS).filter_map(lost).collect()
    }

    /// Payments that were acknowledged in an epoch and are not in the present history.
    pub(crate) async fn lost_payments(&self, epoch: usize) -> Vec<Planned> {
        let present = self.site.history().await.unwrap();
        let recorded: Vec<String> = (0..PARTITIONS)
            .flat_map(|partition| present.events(partition))
            .filter_map(|event| event.record["data"]["reference"].as_str().map(str::to_owned))
            .collect();
        let acknowledged: Vec<String> = self
            .journal
            .all()
            .iter()
            .filter(|answer| answer.answered == epoch)
            .filter_map(|answer| match &answer.claim {
                Claim::Reported(told) => Some(told.0.reference.clone()),
                _ => None,
            })
            .collect();
        let is_lost = |planned: &Planned| {
            let reference = planned.reference();
            acknowledged.contains(&reference) && !recorded.contains(&reference)
        };
        self.payroll.all().into_iter().filter(is_lost).collect()
    }

    /// The head of each partition.
    pub(crate) async fn heads(&self) -> BTreeMap<i32, i64> {
        let present = self.site.history().await.unwrap();
        (0..PARTITIONS).map(|partition| (partition, present.head(partition))).collect()
    }
}
