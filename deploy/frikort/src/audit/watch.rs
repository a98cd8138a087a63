//! `frikort audit watch`: a small witness. It remembers the last checkpoint of each partition in a
//! directory of its own and alarms when the ledger tells another history. What must stay out: records.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use frikort_proof::{Checkpoint, VerifierKey};
use frikort_proto::v1::ErrorReason;
use serde::Serialize;
use tokio::{signal, time::sleep};

use super::{
    Contradicted, files, keys,
    signed::{self, Signed},
};
use crate::{
    Ending,
    client::{CallError, Service},
    events, output,
    profile::Us,
};

const AFTER: &str = "\
In --state DIR it keeps of each partition
  partition-N.checkpoint   the last checkpoint that it has seen: use it with verify --checkpoint
  partition-N.keys         the keys that the first one was signed with, unless --key brings them
and on an alarm, which ends it with 1, as evidence
  partition-N.contradicts-SIZE.checkpoint   what the ledger told against it, of SIZE records
It alarms when a checkpoint is shorter than the last one, is not proved to go on from it, or is signed
by none of the keys, and when the ledger itself says that its history is not what was signed. Two notes
that contradict each other show anybody that two histories were signed. A new key (signing-key rotate)
is brought with --key.

A ledger that does not answer or does not sign is no alarm, but is said.

--json prints one object a line: partition, size, seen (begins, same, goes_on, alarm, unseen), what.
Members are only ever added.

Exit codes: 0 all was consistent (with --once, or when it was stopped); 1 an alarm; 2 the last look did
not see every partition.

Examples:
  frikort audit watch --once --state witness --key log.vkey     from cron
  frikort audit watch --interval 60 --json >> witness.log";

/// Options of `frikort audit watch`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Where the last checkpoints are kept, away from the ledger.
    #[arg(long, value_name = "DIR", default_value = "frikort-witness")]
    state: PathBuf,
    /// Look once.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    #[command(flatten)]
    keys: keys::Keys,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Seen {
    /// For the first time.
    Begins,
    Same,
    GoesOn,
    Alarm,
    /// Not at all.
    Unseen,
}

/// What was seen of a partition.
#[derive(Serialize)]
struct Look {
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    /// Of the last checkpoint that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    seen: Seen,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
}

pub(super) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let ledger = args.ledger.service(us)?;
    let witness = Witness { ledger, state: args.state, keys: args.keys.read()? };
    let mut ending = Ending::Unchecked;
    loop {
        let looks = tokio::select! {
            looks = witness.look() => looks?,
            () = stopped() => return Ok(ending),
        };
        for look in &looks {
            // What did not change is worth a line only to whoever looks once, or to a program.
            if look.seen != Seen::Same || args.once || args.json {
                let line = if args.json { serde_json::to_string(look)? } else { look.to_string() };
                output::line(&line)?;
            }
        }
        let any = |seen| looks.iter().any(|look| look.seen == seen);
        ending = match (any(Seen::Alarm), any(Seen::Unseen)) {
            (true, _) => return Ok(Ending::Contradicted),
            (false, true) => Ending::Unchecked,
            (false, false) => Ending::Done,
        };
        if args.once {
            return Ok(ending);
        }
        tokio::select! {
            () = sleep(Duration::from_secs(args.interval)) => {}
            () = stopped() => return Ok(ending),
        }
    }
}

async fn stopped() {
    let mut terminate = match signal::unix::signal(signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(_) => return std::future::pending().await,
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Where it looks, and what it knows.
struct Witness {
    ledger: Service,
    state: PathBuf,
    /// Those that were brought; otherwise those that were seen first.
    keys: Vec<VerifierKey>,
}

impl Witness {
    /// One look at every partition, also at those that were seen before and are gone.
    async fn look(&self) -> anyhow::Result<Vec<Look>> {
        let mut partitions = known(&self.state)?;
        let mut looks = Vec::new();
        match events::heads(&self.ledger, None).await {
            Ok(heads) => partitions.extend(heads.into_keys()),
            Err(error) => looks.push(Look {
                partition: None,
                size: None,
                seen: Seen::Unseen,
                what: Some(format!("{error:#}")),
            }),
        }
        partitions.sort_unstable();
        partitions.dedup();
        // One line says that nobody is there.
        if looks.is_empty() {
            for partition in partitions {
                looks.push(self.look_at(partition).await?);
            }
        }
        Ok(looks)
    }

    /// One look at a partition. An error is one of our own directory.
    async fn look_at(&self, partition: i32) -> anyhow::Result<Look> {
        let path = |end: &str| self.state.join(format!("partition-{partition}.{end}"));
        let kept = files::text(&path("checkpoint"))?;
        let before = kept.as_deref().map(Checkpoint::parse_unverified).transpose();
        let before = before.with_context(|| path("checkpoint").display().to_string())?;
        let size = before.as_ref().map(|before| before.size);
        let look = |seen, what| Look { partition: Some(partition), size, seen, what };
        let (note, told) = match signed::last(&self.ledger, partition).await {
            Ok(last) => last,
            Err(error) => {
                let seen = if says_differs(&error) { Seen::Alarm } else { Seen::Unseen };
                return Ok(look(seen, Some(format!("{:#}", anyhow::Error::from(error)))));
            }
        };
        let keys = match files::text(&path("keys"))? {
            _ if !self.keys.is_empty() => self.keys.clone(),
            Some(text) => keys::parse(&text).with_context(|| path("keys").display().to_string())?,
            None if told.is_empty() => {
                let what = "the ledger tells no keys; --key brings them".to_owned();
                return Ok(look(Seen::Unseen, Some(what)));
            }
            None => told.clone(),
        };
        match self.compare(partition, &note, &keys, before.as_ref()).await {
            Ok(signed) if Some(signed.checkpoint.size) == size => Ok(look(Seen::Same, None)),
            Ok(signed) => {
                if before.is_none() && self.keys.is_empty() {
                    files::replace(&path("keys"), keys::text(&keys).as_bytes())?;
                }
                files::replace(&path("checkpoint"), signed.note.as_bytes())?;
                let seen = if before.is_some() { Seen::GoesOn } else { Seen::Begins };
                Ok(Look { size: Some(signed.checkpoint.size), ..look(seen, None) })
            }
            Err(error) if error.is::<Contradicted>() => {
                let of = Checkpoint::parse_unverified(&note).map_or(0, |told| told.size);
                let evidence = path(&format!("contradicts-{of}.checkpoint"));
                files::replace(&evidence, note.as_bytes())?;
                let what = format!("{error}; kept as {}", evidence.display());
                Ok(look(Seen::Alarm, Some(what)))
            }
            Err(error) => Ok(look(Seen::Unseen, Some(format!("{error:#}")))),
        }
    }

    /// Holds a note against the last one.
    async fn compare(
        &self,
        partition: i32,
        note: &str,
        keys: &[VerifierKey],
        before: Option<&Checkpoint>,
    ) -> anyhow::Result<Signed> {
        let signed = Signed::verify(partition, note.to_owned(), keys)?;
        if let Some(before) = before {
            let (ledger, later) = (&self.ledger, &signed.checkpoint);
            signed::check_continues(ledger, partition, before, later).await?;
        }
        Ok(signed)
    }
}

/// Whether the ledger itself has found that its history is not what was signed.
fn says_differs(error: &CallError) -> bool {
    matches!(error, CallError::Refused(failure)
        if failure.reason == ErrorReason::NotSigning
            && failure.metadata.contains_key("first_different_position"))
}

/// The partitions that were seen before.
fn known(state: &Path) -> anyhow::Result<Vec<i32>> {
    let mut partitions = Vec::new();
    let shown = || state.display().to_string();
    std::fs::create_dir_all(state).with_context(shown)?;
    for entry in std::fs::read_dir(state).with_context(shown)? {
        let name = entry.with_context(shown)?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("partition-")) else {
            continue;
        };
        let Some(number) = number.strip_suffix(".checkpoint") else { continue };
        if number.contains(".contradicts-") {
            continue;
        }
        match number.parse() {
            Ok(partition) => partitions.push(partition),
            Err(_) => bail!("{}: {number} is no partition", state.display()),
        }
    }
    Ok(partitions)
}

impl std::fmt::Display for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(partition) = self.partition {
            write!(f, "partition {partition}: ")?;
        }
        let size = self.size.unwrap_or_default();
        match self.seen {
            Seen::Begins => write!(f, "first seen, with {size} records"),
            Seen::Same => write!(f, "still {size} records"),
            Seen::GoesOn => write!(f, "goes on to {size} records"),
            Seen::Alarm => {
                write!(f, "ALARM: {}", self.what.as_deref().unwrap_or_default())
            }
            Seen::Unseen => write!(f, "not seen: {}", self.what.as_deref().unwrap_or_default()),
        }
    }
}
