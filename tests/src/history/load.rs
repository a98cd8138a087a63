//! Several clients that call all the time: new payments, repeats of earlier ones, questions and
//! lists, chosen by chance. Not here: streams, and what concerns the whole ledger.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use frikort_proto::v1::{LedgerPosition, ListPaymentsRequest};
use tokio::{task::JoinSet, time::sleep};

use super::calls::{Caller, Payroll};
use crate::chance::Chance;

/// Between two calls of one client, so that a test has hundreds of events and not thousands.
const PAUSE: Duration = Duration::from_millis(15);

/// Payments on one stream.
const STREAMED: usize = 5;

/// The year of the payments.
const YEAR: i32 = 2022;

/// Clients that are at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts a client for each of the callers, who know these persons and this payroll.
    pub fn start(
        callers: Vec<Caller>,
        persons: &[u32],
        payroll: &Arc<Payroll>,
        chance: &mut Chance,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for caller in callers {
            let client = Client {
                caller,
                persons: persons.to_vec(),
                payroll: payroll.clone(),
                chance: chance.fork(),
                listed: Vec::new(),
            };
            tasks.spawn(client.run(stop.clone()));
        }
        Self { stop, tasks }
    }

    /// Ends it; every call is answered or given up then.
    pub async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

struct Client {
    caller: Caller,
    persons: Vec<u32>,
    payroll: Arc<Payroll>,
    chance: Chance,
    /// As of which positions its last list was.
    listed: Vec<LedgerPosition>,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::SeqCst) {
            self.call().await;
            sleep(PAUSE).await;
        }
    }

    /// One call. What comes of it is in the journal; a refusal changes nothing here.
    async fn call(&mut self) {
        let person = *self.chance.one_of(&self.persons);
        match self.chance.below(12) {
            0..3 => drop(self.caller.report(&self.payroll.next(person, YEAR)).await),
            3 => {
                let all: Vec<_> = (0..STREAMED).map(|_| self.payroll.next(person, YEAR)).collect();
                self.caller.report_streamed(&all).await;
            }
            4..6 => {
                let all = self.payroll.all();
                drop(self.caller.report(self.chance.one_of(&all)).await);
            }
            6..8 => drop(self.caller.allowance(person, YEAR).await),
            8 => self.caller.statement(person, YEAR).await,
            9 => self.caller.batch(&self.persons, YEAR).await,
            10 => self.list().await,
            _ => drop(self.caller.checkpoint(0).await),
        }
    }

    /// What has changed since its last list; all of it again where that is refused.
    async fn list(&mut self) {
        let mut request = ListPaymentsRequest {
            changed_after: self.listed.clone(),
            page_size: 50,
            ..ListPaymentsRequest::default()
        };
        loop {
            match self.caller.list(request.clone()).await {
                Ok(answer) if answer.next_page_token.is_empty() => {
                    self.listed = answer.positions;
                    return;
                }
                Ok(answer) => request.page_token = answer.next_page_token,
                Err(status) => {
                    if super::journal::reason_of(&status) == "RESUME_POSITION_LOST" {
                        self.listed.clear();
                    }
                    return;
                }
            }
        }
    }
}
