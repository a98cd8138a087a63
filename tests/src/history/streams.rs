//! Clients that follow: watchers of allowances and readers of events, which go on from the last
//! position that they were told of whenever they are cut off, and begin again where that is refused.
//!
//! Not here: whether what they were told is true.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use frikort_proto::v1::{
    LedgerPosition, ReadEventsRequest, WatchAllowancesRequest, read_events_response,
    watch_allowances_response,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use super::{
    calls::Caller,
    journal::{Claim, reason_of, refused, silence},
};

/// Between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// How long a stream may take to begin.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason that tells a client to begin again without a position.
const BEGIN_AGAIN: &str = "RESUME_POSITION_LOST";

/// One thing that a stream was told.
#[derive(Clone, Debug)]
pub enum Item {
    /// By WatchAllowances.
    Watched(watch_allowances_response::Item),
    /// By ReadEvents.
    Read(read_events_response::Item),
}

/// What one stream was told, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What it was to go on from, at most one position a partition.
    pub after: Vec<LedgerPosition>,
    /// In the order in which it came, each with the epoch in which it came.
    pub items: Vec<(usize, Item)>,
    /// How it ended.
    pub ended: String,
}

type Drain = oneshot::Sender<()>;

/// Streams that are under way.
#[derive(Debug, Default)]
pub struct Streams {
    tasks: JoinSet<()>,
    drains: Vec<mpsc::Sender<Drain>>,
    told: Vec<Told>,
}

/// What was told last, and when: one more than the epoch; 0 before anything was.
type Told = Arc<AtomicUsize>;

impl Streams {
    /// Watches all allowances through the caller's projector.
    pub fn watch(&mut self, caller: Caller) {
        self.follow(caller, Follows::Allowances);
    }

    /// Reads the events of a partition through the caller's ledger, and those to come.
    pub fn read(&mut self, caller: Caller, partition: i32) {
        self.follow(caller, Follows::Events(partition));
    }

    fn follow(&mut self, caller: Caller, follows: Follows) {
        let (drain, drains) = mpsc::channel(1);
        let told = Told::default();
        self.drains.push(drain);
        self.told.push(told.clone());
        self.tasks.spawn(follow(caller, drains, follows, told));
    }

    /// Whether every stream was told something in an epoch, or a later one.
    pub fn are_told_in(&self, epoch: usize) -> bool {
        self.told.iter().all(|told| told.load(Ordering::SeqCst) > epoch)
    }

    /// Returns when every stream has taken all that has reached this process.
    pub async fn drain(&self) {
        for drain in &self.drains {
            let (done, is_done) = oneshot::channel();
            // A stream that has ended has taken everything.
            if drain.send(done).await.is_ok() {
                let _ = is_done.await;
            }
        }
    }

    /// Ends all of them; what they were told is in the journal then.
    pub async fn end(&mut self) {
        self.drains.clear();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Follows {
    Allowances,
    Events(i32),
}

impl Follows {
    fn method(self) -> &'static str {
        match self {
            Self::Allowances => "WatchAllowances",
            Self::Events(_) => "ReadEvents",
        }
    }
}

/// Goes on until its drain channel is closed.
async fn follow(caller: Caller, mut drains: mpsc::Receiver<Drain>, follows: Follows, told: Told) {
    let mut after: Vec<LedgerPosition> = Vec::new();
    let service = match follows {
        Follows::Allowances => caller.projector.0.clone(),
        Follows::Events(_) => caller.ledger.0.clone(),
    };
    loop {
        let asked = caller.journal.ask();
        let mut watched = Watched { after: after.clone(), items: Vec::new(), ended: String::new() };
        let ended = run(&caller, &mut drains, follows, &mut watched, (&mut after, &told)).await;
        let is_over = matches!(ended, Ended::Closed);
        if let Ended::Status(status) = ended {
            watched.ended = reason_of(&status);
            if watched.ended == BEGIN_AGAIN {
                after.clear();
            }
            if watched.items.is_empty() {
                caller.journal.add(asked, &service, follows.method(), refused(&status));
            }
        }
        if !watched.items.is_empty() {
            let claim = Claim::Watched(Box::new(watched));
            caller.journal.add(asked, &service, follows.method(), claim);
        }
        if is_over || wait(&mut drains).await {
            return;
        }
    }
}

/// Waits a moment; whether the channel was closed.
async fn wait(drains: &mut mpsc::Receiver<Drain>) -> bool {
    tokio::select! {
        () = sleep(RETRY_DELAY) => false,
        drain = drains.recv() => drain.is_none_or(|done| done.send(()).is_err()),
    }
}

enum Ended {
    Status(Status),
    Closed,
}

/// One stream. `after` is moved on with each item that can be gone on from; `told` with every one.
async fn run(
    caller: &Caller,
    drains: &mut mpsc::Receiver<Drain>,
    follows: Follows,
    watched: &mut Watched,
    (after, told): (&mut Vec<LedgerPosition>, &Told),
) -> Ended {
    let mut next = match timeout(START_TIMEOUT, start(caller, follows, after)).await {
        Ok(Ok(next)) => next,
        Ok(Err(status)) => return Ended::Status(status),
        Err(_) => return Ended::Status(silence()),
    };
    loop {
        tokio::select! {
            biased;
            message = next.message() => match message {
                Ok(Some(item)) => {
                    if let Some(place) = place(&item) {
                        after.retain(|other| other.partition != place.partition);
                        after.push(place);
                    }
                    let epoch = caller.journal.epoch();
                    watched.items.push((epoch, item));
                    told.store(epoch + 1, Ordering::SeqCst);
                }
                Ok(None) => return Ended::Status(Status::new(Code::Unknown, "it ended")),
                Err(status) => return Ended::Status(status),
            },
            drain = drains.recv() => match drain {
                Some(done) => drop(done.send(())),
                None => return Ended::Closed,
            },
        }
    }
}

enum Next {
    Watching(tonic::Streaming<frikort_proto::v1::WatchAllowancesResponse>),
    Reading(tonic::Streaming<frikort_proto::v1::ReadEventsResponse>),
}

impl Next {
    async fn message(&mut self) -> Result<Option<Item>, Status> {
        let item = match self {
            Self::Watching(stream) => {
                stream.message().await?.map(|message| message.item.map(Item::Watched))
            }
            Self::Reading(stream) => {
                stream.message().await?.map(|message| message.item.map(Item::Read))
            }
        };
        item.map(|item| item.ok_or_else(|| Status::new(Code::Unknown, "an empty item"))).transpose()
    }
}

async fn start(
    caller: &Caller,
    follows: Follows,
    after: &[LedgerPosition],
) -> Result<Next, Status> {
    match follows {
        Follows::Allowances => {
            let after = after.to_vec();
            let request = WatchAllowancesRequest { after, ..WatchAllowancesRequest::default() };
            let stream = caller.projector.1.clone().watch_allowances(request).await?;
            Ok(Next::Watching(stream.into_inner()))
        }
        Follows::Events(partition) => {
            let request = ReadEventsRequest {
                partition: Some(partition),
                from_position: after.first().map_or(1, |last| last.position + 1),
                follow: true,
                ..ReadEventsRequest::default()
            };
            let stream = caller.ledger.1.audits.clone().read_events(request).await?;
            Ok(Next::Reading(stream.into_inner()))
        }
    }
}

/// The position that a client can go on from: that of a change or a limit, which has an instant, or
/// of an event.
fn place(item: &Item) -> Option<LedgerPosition> {
    match item {
        Item::Watched(watch_allowances_response::Item::Change(change)) => change.position,
        Item::Watched(watch_allowances_response::Item::Limit(change)) => change.position,
        Item::Read(read_events_response::Item::Event(event)) => {
            Some(LedgerPosition::new(event.partition, event.position, None))
        }
        Item::Watched(watch_allowances_response::Item::CaughtUp(_))
        | Item::Read(read_events_response::Item::CaughtUp(_)) => None,
    }
}
