//! CheckLedger: the engine of `frikort-check`, run for one caller.
//!
//! One check at a time in a process: it reads everything, and two would only halve each other.
//! It works on a thread of its own, not where callers are served. What must stay out: what is
//! right and wrong.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use frikort_access::{Access, Caller, Places};
use frikort_check::{Check, CheckError, Running};
use frikort_process::feed::{Items, feed};
use frikort_proto::{
    error::Failure,
    v1::{CheckLedgerRequest, CheckLedgerResponse, check_ledger_response::Item},
};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{fail::internal, ledger::Ledger, parse, proof::Log};

/// A caller hears of progress so often.
const PROGRESS: Duration = Duration::from_millis(500);

/// How many times as long as a page took a check rests after it.
const REST: u32 = 1;

/// Messages that wait for a caller.
const AHEAD: usize = 100;

/// What all checks of a process share.
pub(crate) struct Checking {
    database: PgConnectOptions,
    places: Places,
}

impl Checking {
    pub(crate) fn new(database: PgConnectOptions, access: &Access) -> Self {
        Self { database, places: access.places("checks", 1) }
    }
}

/// Starts a check, and gives what it tells.
pub(crate) fn start(
    ledger: &Arc<Ledger>,
    who: &Arc<Caller>,
    request: CheckLedgerRequest,
) -> Result<ReceiverStream<Result<CheckLedgerResponse, Status>>, Failure> {
    let wish = parse::checking(request, &ledger.partitions())?;
    let place = ledger.checking.places.take(who)?;
    let known = |(partition, log): (&i32, &Log)| (*partition, log.known());
    let mut logs: BTreeMap<i32, frikort_check::Log> = ledger.logs.iter().map(known).collect();
    for (partition, kept) in wish.kept {
        logs.entry(partition).or_default().kept.push(kept);
    }
    let database = ledger.checking.database.clone();
    let check = Check { database, partition: wish.partition, logs, rest: REST };
    let running = check.start().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "no thread for a check");
        internal()
    })?;
    let (items, stream) = mpsc::channel(AHEAD);
    let (to, told_by) = (items.clone(), ledger.clone());
    let telling = async move {
        let _place = place;
        tell(running, &told_by, &to).await
    };
    tokio::spawn(feed(items, ledger.stop.clone(), telling));
    Ok(ReceiverStream::new(stream))
}

/// Tells what a check tells until its end, or until the caller goes; the check ends then too.
async fn tell(
    mut running: Running,
    ledger: &Ledger,
    items: &Items<CheckLedgerResponse>,
) -> Result<(), Status> {
    let message = |item| Ok(CheckLedgerResponse { item: Some(item) });
    let mut tick = tokio::time::interval(PROGRESS);
    loop {
        let item = tokio::select! {
            finding = running.findings.recv() => match finding {
                Some(finding) => Item::Finding(finding.into()),
                None => break,
            },
            _ = tick.tick() => {
                let progress = *running.progress.borrow();
                Item::Progress(progress.into())
            }
            () = items.closed() => return Ok(()),
        };
        if items.send(message(item)).await.is_err() {
            return Ok(());
        }
    }
    let last = *running.progress.borrow();
    let concluded = running.concluded().await.map_err(|error| match error {
        CheckError::Tables(error) => ledger.read_failed(error),
        CheckError::Ended => {
            tracing::error!("a check ended without a conclusion");
            internal()
        }
    })?;
    for item in [Item::Progress(last.into()), Item::Concluded(concluded.into())] {
        // The caller may be gone; then there is nobody to tell.
        let _ = items.send(message(item)).await;
    }
    Ok(())
}
