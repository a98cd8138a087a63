//! Lanes: threads that serve connections, each with a scheduler of its own.
//!
//! A scheduler that is shared by all threads runs a woken task at once, and a task woken from
//! another thread when nothing else is left to do: either way each answer would be written to its
//! socket by itself. On a lane, what is woken together runs in order, and the connection after it
//! writes all of it at once. So whoever answers many calls of a lane hands it one errand that
//! wakes them.

use std::{cell::OnceCell, thread};

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
}

/// The way to a lane.
#[derive(Clone, Debug)]
pub struct Lane {
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
            let _ = end.send(runtime.block_on(run()));
        })?;
        Ok(ended)
    }

    /// The lane of this thread.
    pub fn current() -> Option<Self> {
        CURRENT.with(|current| current.get().cloned())
    }

    /// Tells lanes of a process apart.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Has `errand` done on the lane's thread; not at all when the lane has ended.
    pub fn run(&self, errand: impl FnOnce() + Send + 'static) {
        let _ = self.errands.send(Box::new(errand));
    }
}
