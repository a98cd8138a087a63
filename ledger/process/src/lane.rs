//! Lanes: threads that serve connections, each with a scheduler of its own.
//!
//! A scheduler that is shared by all threads runs a woken task at once, and a task woken from
//! another thread when nothing else is left to do: either way each answer would be written to its
//! socket by itself. On a lane, what is woken together runs in order, and the connection after it
//! writes all of it at once. So whoever answers many calls of a lane hands it one errand that
//! wakes them. And what must be done before an answer leaves, and costs for many what it costs for
//! one, is done before the connection writes.

use std::{
    cell::{OnceCell, RefCell},
    mem, thread,
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
};

/// Tasks that run before what has come meanwhile, from callers and other threads, is looked at: in a
/// flood there is always another task, and everybody else would wait for as many as this.
const TURNS: u32 = 16;

type Errand = Box<dyn FnOnce() + Send>;

thread_local! {
    static CURRENT: OnceCell<Lane> = const { OnceCell::new() };
    static DUE: RefCell<Due> = const { RefCell::new(Due { first: Vec::new(), failures: 0 }) };
}

/// What is due before this lane's connections send more.
struct Due {
    first: Vec<Box<dyn FnOnce() -> bool>>,
    /// How often it failed.
    failures: u64,
}

/// The way to a lane.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// Tells lanes of a process apart.
    number: usize,
    /// Without a limit of its own: an errand is for calls that wait, and those have theirs.
    errands: mpsc::UnboundedSender<Errand>,
}

impl Lane {
    /// Starts a lane that ends with what `run` makes there; and says when, and how, it has.
    pub(crate) fn start<F>(
        number: usize,
        run: impl FnOnce() -> F + Send + 'static,
    ) -> std::io::Result<oneshot::Receiver<F::Output>>
    where
        F: Future<Output: Send + 'static>,
    {
        let mut runtime = Builder::new_current_thread();
        runtime.event_interval(TURNS).global_queue_interval(TURNS);
        let runtime = runtime.enable_all().build()?;
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            let (errands, mut to_do) = mpsc::unbounded_channel::<Errand>();
            CURRENT.with(|current| current.set(Self { number, errands })).ok();
            runtime.spawn(async move {
                while let Some(errand) = to_do.recv().await {
                    errand();
                }
            });
            let ended = runtime.block_on(run());
            settle();
            let _ = end.send(ended);
        })?;
        Ok(ended)
    }

    /// The lane of this thread.
    fn current() -> Option<Self> {
        CURRENT.with(|current| current.get().cloned())
    }

    /// Has `errand` done on the lane's thread; not at all when the lane has ended.
    fn run(&self, errand: impl FnOnce() + Send + 'static) {
        let _ = self.errands.send(Box::new(errand));
    }
}

/// Whether this thread is a lane.
pub fn is_here() -> bool {
    CURRENT.with(|current| current.get().is_some())
}

/// Has something done before any connection of this lane sends more, when what is ready has run. If it
/// fails, which it says with `false`, what those connections hold must not leave: they are cut off.
///
/// # Panics
/// On a thread that is no lane.
pub fn before_sending(first: impl FnOnce() -> bool + 'static) {
    let is_alone = DUE.with_borrow_mut(|due| {
        due.first.push(Box::new(first));
        due.first.len() == 1
    });
    assert!(is_here(), "only a lane's connections wait");
    if is_alone {
        // Also when no connection sends any more.
        tokio::spawn(async {
            settle();
        });
    }
}

/// Does what is due; says how often that has failed on this lane. Whoever has seen fewer failures may
/// send nothing.
pub(crate) fn settle() -> u64 {
    let first = DUE.with_borrow_mut(|due| mem::take(&mut due.first));
    let failed = first.into_iter().map(|first| first()).filter(|is_done| !is_done).count();
    DUE.with_borrow_mut(|due| {
        due.failures += failed as u64;
        due.failures
    })
}

/// Where an answer goes: to somebody who waits on a lane, or elsewhere.
#[derive(Debug)]
pub struct ReplyTo<T> {
    caller: oneshot::Sender<T>,
    lane: Option<Lane>,
}

impl<T> ReplyTo<T> {
    /// To who asks, on this thread's lane.
    pub fn here() -> (Self, oneshot::Receiver<T>) {
        let (caller, answer) = oneshot::channel();
        (Self { caller, lane: Lane::current() }, answer)
    }

    /// Whether who asked has gone.
    pub fn is_closed(&self) -> bool {
        self.caller.is_closed()
    }

    /// Answers at once.
    pub fn send(self, reply: T) {
        // Somebody who has gone meanwhile finds the answer by asking again.
        let _ = self.caller.send(reply);
    }
}

type Replies<T> = Vec<(ReplyTo<T>, T)>;

/// Answers everybody, with one errand a lane.
pub fn answer_all<T: Send + 'static>(replies: impl Iterator<Item = (ReplyTo<T>, T)>) {
    let mut lanes: Vec<(Lane, Replies<T>)> = Vec::new();
    for (to, reply) in replies {
        let Some(lane) = &to.lane else {
            to.send(reply);
            continue;
        };
        match lanes.iter_mut().find(|(known, _)| known.number == lane.number) {
            Some((_, replies)) => replies.push((to, reply)),
            None => lanes.push((lane.clone(), vec![(to, reply)])),
        }
    }
    for (lane, replies) in lanes {
        lane.run(move || replies.into_iter().for_each(|(to, reply)| to.send(reply)));
    }
}
