//! The warnings that the server sends along with an acknowledgement.
//!
//! A commit whose wait for a synchronous standby was cancelled succeeds with a WARNING, and nothing else
//! tells it from a commit that the standby has. The database client hands notices to nobody but
//! `tracing`, with a text in the server's language. So [`warning_counter`] counts the warnings of each
//! thread, and a writer that works on a thread of its own compares the count before and after a
//! commit. Which warning it was does not matter: a commit that was acknowledged with one is uncertain.
//!
//! Not here: what is done about an uncertain commit.

use std::cell::Cell;

use sqlx::{Executor, PgConnection};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, layer::Context, registry::LookupSpan};

use crate::StoreError;

/// Where the database client reports notices.
const NOTICE_TARGET: &str = "sqlx::postgres::notice";

/// A notice without a meaning, to find out whether notices are received.
const TEST_NOTICE: &str = "DO $$ BEGIN RAISE NOTICE 'frikort: are notices received?'; END $$";

/// The notices that a thread has received.
#[derive(Clone, Copy, Default)]
struct Received {
    all: u64,
    warnings: u64,
}

thread_local! {
    static RECEIVED: Cell<Received> = const { Cell::new(Received { all: 0, warnings: 0 }) };
}

struct WarningCounter;

impl<S: Subscriber> Layer<S> for WarningCounter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut received = RECEIVED.get();
        received.all += 1;
        // The more severe level is the lesser one.
        if *event.metadata().level() <= Level::WARN {
            received.warnings += 1;
        }
        RECEIVED.set(received);
    }
}

/// Counts the notices of the server for the thread that receives them. A process that writes must
/// install it: a writer finds out at the start of each session, and fails without.
pub fn warning_counter<S>() -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let is_notice = |metadata: &Metadata<'_>| metadata.target() == NOTICE_TARGET;
    // A notice is reported as information. Without this hint every trace point of every library would
    // be looked at.
    WarningCounter.with_filter(filter_fn(is_notice).with_max_level_hint(Level::INFO))
}

/// The warnings that this thread has received so far.
pub(crate) fn warnings() -> u64 {
    RECEIVED.get().warnings
}

/// Fails if this thread has received a warning since it had received `before` of them.
pub(crate) fn require_none_since(before: u64) -> Result<(), StoreError> {
    if warnings() == before { Ok(()) } else { Err(StoreError::UncertainCommit) }
}

/// Makes sure that the notices of a connection reach this thread.
pub(crate) async fn require_received(connection: &mut PgConnection) -> Result<(), StoreError> {
    let before = RECEIVED.get().all;
    connection.execute(TEST_NOTICE).await?;
    if RECEIVED.get().all == before { Err(StoreError::NoticesNotReceived) } else { Ok(()) }
}
