//! The follower of a partition's records: hashes them into tiles, and signs what it has hashed, about
//! once a second. It is not on the way of an append: it reads what is committed.
//!
//! Before it signs, it holds the history against what was signed before, in the file and in the
//! table. Where the history is shorter or another one, it signs nothing, says the first position
//! that differs, and looks again until it is mended or an operator has accepted the loss.
//!
//! It signs only what a commit of its own has covered that was acknowledged cleanly: an event that is
//! visible may still be missing on a synchronous standby, and a checkpoint over it would be
//! contradicted when that is promoted.
//!
//! Not here: proofs.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use frikort_event_store::{Appender, EventHash, EventStore, ServerRun, StoreError};
use frikort_proof::{Checkpoint, Edge, Hash, KeyName, TILE_WIDTH, VerifierKey, leaf_hash};
use tokio::{sync::watch, time::timeout};

use super::{
    Signed, Signing, SigningKeys,
    memory::{self, Memory, MemoryError},
    position,
    tiles::Tiles,
    whole,
};
use crate::history::{KnownEvent, SignedEvidence};

/// Pause between two looks; a checkpoint is signed after each that has found something new.
const PAUSE: Duration = Duration::from_secs(1);

/// Records read at a time; sixteen tiles.
const PAGE: i64 = 4096;

/// So many records take seconds, and are told of.
const MANY: u64 = 100_000;

/// Tiles whose records are read and hashed again after each look, in turn, so that a record that
/// was changed long after it was hashed is found.
const PATROLLED: u64 = 4;

/// What the follower of one partition needs.
pub(super) struct Follower {
    pub(super) partition: i32,
    pub(super) store: EventStore,
    /// For the commits that cover what is signed.
    pub(super) appender: Appender,
    pub(super) keys: Arc<SigningKeys>,
    pub(super) name: KeyName,
    pub(super) verifiers: Vec<VerifierKey>,
    /// The last checkpoint's file.
    pub(super) file: PathBuf,
    /// What is signed, for the services.
    pub(super) signing: watch::Sender<Signing>,
    /// Whether the history is what was signed, for health.
    pub(super) sound: watch::Sender<bool>,
    /// What the history must hold, for the sequencer.
    pub(super) evidence: watch::Sender<SignedEvidence>,
}

/// Why it cannot go on.
enum Trouble {
    /// The sessions are with another server run.
    NewRun,
    Store(StoreError),
    Memory(MemoryError),
    Differs(Difference),
}

/// The history is not what was signed, or what was hashed.
#[derive(Clone, Copy)]
struct Difference {
    first_position: i64,
    what: &'static str,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<MemoryError> for Trouble {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

fn differs<T>(first_position: i64, what: &'static str) -> Result<T, Trouble> {
    Err(Trouble::Differs(Difference { first_position, what }))
}

impl Follower {
    /// Follows until dropped.
    pub(super) async fn run(mut self) {
        let mut suspect = None;
        let mut said = String::new();
        loop {
            let sessions = self.appender.sessions().clone();
            let trouble = tokio::select! {
                followed = self.follow(suspect) => {
                    let Err(trouble) = followed;
                    trouble
                }
                // What waits for the server is given up, with its connections.
                () = sessions.unreachable() => {
                    StoreError::Unavailable(sqlx::Error::PoolTimedOut).into()
                }
            };
            let partition = self.partition;
            let (text, first) = match &trouble {
                Trouble::NewRun => continue,
                Trouble::Store(error) => (chain(error), None),
                Trouble::Memory(error) => (chain(error), None),
                Trouble::Differs(found) => (found.what.to_owned(), Some(found.first_position)),
            };
            if let Trouble::Store(_) = trouble {
                if said != text {
                    tracing::warn!(partition, error = text, "the proof log cannot go on yet");
                }
            } else {
                if said != text || suspect != first {
                    tracing::error!(
                        partition,
                        first_different_position = first,
                        "NOT SIGNING: {text}"
                    );
                }
                self.refuse(first, &text);
                self.report_changed(first).await;
                suspect = first.or(suspect);
            }
            said = text;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn refuse(&self, first_different_position: Option<i64>, what: &str) {
        let last = self.signing.borrow().last();
        let what = what.to_owned();
        self.signing.send_replace(Signing::Refused { last, first_different_position, what });
        self.sound.send_replace(false);
    }

    /// Reports a record that is not what was hashed of it, so that nothing more is appended either.
    async fn report_changed(&self, first_different_position: Option<i64>) {
        let Some(position) = first_different_position else { return };
        let Ok(Some(leaf)) = self.tiles().hashed_leaf(position).await else { return };
        let changed = Some(KnownEvent { position, hash: EventHash(leaf) });
        let is_new = |evidence: &mut SignedEvidence| {
            std::mem::replace(&mut evidence.changed, changed) != changed
        };
        self.evidence.send_if_modified(is_new);
    }

    fn tell(&self, signed: Option<&Signed>, run: ServerRun) {
        let begins = Signing::Begins { last: 0 };
        let signing = signed.map_or(begins, |signed| Signing::Signed(signed.clone(), run));
        self.signing.send_replace(signing);
        self.sound.send_replace(true);
    }

    /// So far was signed, whatever comes of it now.
    fn signed_before(&self, checkpoint: Option<&Checkpoint>) {
        let size = checkpoint.map_or(0, |checkpoint| whole(checkpoint.size));
        self.signing.send_if_modified(|signing| match signing {
            Signing::Begins { last } | Signing::Refused { last, .. } => {
                *last = size.max(*last);
                true
            }
            Signing::Signed(..) => false,
        });
    }

    fn tiles(&self) -> Tiles<'_> {
        Tiles::new(&self.store, self.partition)
    }

    /// Goes on from what is there. `suspect`: a position that differed when it was looked at last.
    async fn follow(&mut self, suspect: Option<i64>) -> Result<Infallible, Trouble> {
        let sessions = self.appender.sessions().clone();
        let mut reachability = sessions.reachability();
        let run = sessions.server_run();
        let (mut edge, mut signed) = self.begin(suspect).await?;
        self.tell(signed.as_ref(), run);
        let mut patrolled = 0;
        loop {
            if sessions.server_run() != run {
                // What is known of the history is looked at anew.
                return Err(Trouble::NewRun);
            }
            let head = position(self.store.head(self.partition).await?.position);
            if head < edge.size() {
                return differs(whole(head) + 1, "the history is shorter than it was");
            }
            self.advance(&mut edge, head).await?;
            if signed.as_ref().is_none_or(|signed| signed.checkpoint.size < edge.size())
                && edge.size() > 0
            {
                signed = Some(self.sign(&edge).await?);
                self.tell(signed.as_ref(), run);
            }
            for _ in 0..PATROLLED.min(edge.size() / TILE_WIDTH as u64) {
                patrolled = (patrolled + 1) % (edge.size() / TILE_WIDTH as u64);
                self.check_tile(patrolled).await?;
            }
            // A session that has ended is a reason to look sooner.
            let _ = timeout(PAUSE, reachability.changed()).await;
        }
    }

    /// Holds the history against what was signed; answers the edge of the tiles, and what was
    /// signed last.
    async fn begin(&self, suspect: Option<i64>) -> Result<(Edge, Option<Signed>), Trouble> {
        // The file before the head: what it speaks of was committed then.
        let remembered = self.remembered().await?;
        self.evidence.send_replace(remembered.as_ref().map(memory::evidence).unwrap_or_default());
        self.signed_before(remembered.as_ref().map(|memory| &memory.checkpoint));
        let published = self.published().await?;
        let head = position(self.store.head(self.partition).await?.position);
        if let Some(suspect) = suspect {
            self.check_tile(position(suspect - 1) / TILE_WIDTH as u64).await?;
        }
        let Some(edge) = self.tiles().edge().await? else {
            let first = self.tiles().first_difference(head, None).await?;
            return differs(first, "the tiles do not fit together");
        };
        for (checkpoint, of) in [
            (remembered.as_ref().map(|memory| &memory.checkpoint), remembered.as_ref()),
            (published.as_ref().map(|signed| &signed.checkpoint), None),
        ] {
            if let Some(checkpoint) = checkpoint {
                self.hold(checkpoint, of, &edge, head).await?;
            }
        }
        let remembered =
            remembered.map(|Memory { checkpoint, note, .. }| Signed { checkpoint, note });
        if remembered.is_none() && published.is_some() {
            tracing::warn!(
                partition = self.partition,
                file = %self.file.display(),
                "no last checkpoint is kept outside the database; trusting the one in it"
            );
        }
        let signed = remembered.into_iter().chain(published).max_by_key(|s| s.checkpoint.size);
        // Nobody has signed what the tiles beyond say: they may be anybody's.
        let covered = signed.as_ref().map_or(0, |signed| signed.checkpoint.size);
        for number in covered / TILE_WIDTH as u64..edge.size() / TILE_WIDTH as u64 {
            self.check_tile(number).await?;
        }
        Ok((edge, signed))
    }

    /// The last checkpoint in the file, unless it is of a history whose loss was accepted: then the file
    /// is put aside, and signing begins with the history that is there.
    async fn remembered(&self) -> Result<Option<Memory>, Trouble> {
        let Some(memory) = memory::read(&self.file, &self.verifiers)? else { return Ok(None) };
        let size = whole(memory.checkpoint.size);
        let Some(leaf) = memory.last_leaf.map(EventHash) else { return Ok(Some(memory)) };
        if self.store.event_hash(self.partition, size).await? == Some(leaf)
            || !self.store.is_loss_accepted(self.partition, size, leaf).await?
        {
            return Ok(Some(memory));
        }
        let aside = memory::put_aside(&self.file, &memory)?;
        tracing::warn!(
            partition = self.partition,
            position = size,
            file = %aside.display(),
            "the last checkpoint is of a history whose loss was accepted: put aside as evidence"
        );
        Ok(None)
    }

    /// The last checkpoint in the table.
    async fn published(&self) -> Result<Option<Signed>, Trouble> {
        let Some(note) = self.tiles().last_checkpoint().await? else { return Ok(None) };
        match Checkpoint::verify(&note, &self.verifiers) {
            Ok(checkpoint) => Ok(Some(Signed { checkpoint, note })),
            Err(_) => {
                let claimed = Checkpoint::parse_unverified(&note).map_or(0, |c| whole(c.size));
                differs(claimed, "the last checkpoint in the table is not signed by a key of ours")
            }
        }
    }

    /// Fails unless the history begins with what a checkpoint is about.
    async fn hold(
        &self,
        checkpoint: &Checkpoint,
        memory: Option<&Memory>,
        edge: &Edge,
        head: u64,
    ) -> Result<(), Trouble> {
        let size = checkpoint.size;
        if size > head {
            return differs(whole(head) + 1, "the history is shorter than what was signed");
        }
        let mut tiles = self.tiles();
        let root = if size <= edge.size() {
            tiles.root(size).await?
        } else {
            // Not hashed yet as far as this table tells: what is missing of it is not written
            // before it is known to be right.
            let mut beyond = edge.clone();
            self.hash(&mut beyond, size).await?;
            Some(beyond.root())
        };
        if root == Some(checkpoint.root) {
            return Ok(());
        }
        let first = tiles.first_difference(size, memory.map(|memory| &memory.edge)).await?;
        differs(first, "the history is not what was signed")
    }

    async fn check_tile(&self, number: u64) -> Result<(), Trouble> {
        match self.tiles().differs_in(number).await? {
            Some(first) => differs(first, "the records are not what was hashed of them"),
            None => Ok(()),
        }
    }

    /// Hashes the records up to `head` and writes the tiles that they fill.
    async fn advance(&self, edge: &mut Edge, head: u64) -> Result<(), Trouble> {
        // Long only when the log is begun on a history that is there.
        let records = head.saturating_sub(edge.size());
        if records > MANY {
            tracing::info!(partition = self.partition, records, "hashing what is not hashed yet");
        }
        while edge.size() < head {
            let upto = head.min(edge.size() + position(PAGE));
            let filled = self.hash(edge, upto).await?;
            if !self.tiles().write(&filled).await? {
                let number = filled.first().map_or(0, |tile| tile.number);
                let first = whole(number * TILE_WIDTH as u64) + 1;
                return differs(first, "another tile stands where one belongs");
            }
        }
        if records > MANY {
            tracing::info!(partition = self.partition, records, "hashed");
        }
        Ok(())
    }

    /// Adds the records up to position `upto`; answers the tiles that they fill.
    async fn hash(&self, edge: &mut Edge, upto: u64) -> Result<Vec<frikort_proof::Tile>, Trouble> {
        let mut filled: Vec<frikort_proof::Tile> = Vec::new();
        while edge.size() < upto {
            // The records must go on from the last one that was hashed, in this history.
            let full = filled.iter().rev().find(|tile| tile.level == 0);
            let last =
                match full.filter(|tile| (tile.number + 1) * TILE_WIDTH as u64 == edge.size()) {
                    Some(tile) => tile.hashes.last().copied().unwrap_or_default(),
                    None => self.last_leaf(edge).await?,
                };
            let next = whole(edge.size()) + 1;
            let wanted = PAGE.min(whole(upto) - next + 1);
            let after = (next - 1, EventHash(last));
            let records = self.store.read_all_after(self.partition, after, wanted).await?;
            for (record, expected) in records.iter().zip(next..) {
                if record.position != expected {
                    return differs(expected, "a record is missing");
                }
                filled.extend(edge.push(leaf_hash(record.record.as_bytes())));
            }
            if whole(records.len() as u64) < wanted {
                return differs(whole(edge.size()) + 1, "a record is missing");
            }
        }
        Ok(filled)
    }

    /// The hash of the last leaf of an edge, whose full tiles are in the table; 32 zero bytes where
    /// there is none.
    async fn last_leaf(&self, edge: &Edge) -> Result<Hash, Trouble> {
        if let Some(leaf) = edge.levels().first().and_then(|leaves| leaves.last()) {
            return Ok(*leaf);
        }
        let Some(number) = (edge.size() / TILE_WIDTH as u64).checked_sub(1) else {
            return Ok(Hash::default());
        };
        let mut tiles = self.tiles();
        match tiles.tile(0, number).await?.last() {
            Some(leaf) => Ok(*leaf),
            None => differs(whole(edge.size()), "a tile is missing"),
        }
    }

    /// Signs the edge once it is covered, keeps that in the file, then publishes it.
    async fn sign(&mut self, edge: &Edge) -> Result<Signed, Trouble> {
        let (size, last_leaf) = (whole(edge.size()), self.last_leaf(edge).await?);
        self.appender.cover().await?;
        // In the session that has covered it: what was hashed may be of an earlier history.
        if self.appender.event_hash(size).await? != Some(EventHash(last_leaf)) {
            let (partition, position) = (self.partition, size);
            return Err(StoreError::HistoryChanged { partition, position }.into());
        }
        let checkpoint =
            Checkpoint { origin: self.name.clone(), size: edge.size(), root: edge.root() };
        let note = self.keys.sign.sign(&checkpoint);
        let (file, keys) = (self.file.clone(), self.verifiers.clone());
        let (kept, of) = (note.clone(), edge.clone());
        let write = move || memory::write(&file, &keys, &kept, &of, &last_leaf);
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let memory = Memory {
            checkpoint: checkpoint.clone(),
            edge: edge.clone(),
            last_leaf: Some(last_leaf),
            note: note.clone(),
        };
        self.evidence.send_replace(memory::evidence(&memory));
        let there = self.tiles().publish(&checkpoint, &note).await?;
        if there.is_ok_and(|there| there.root == checkpoint.root) {
            return Ok(Signed { checkpoint, note });
        }
        differs(size, "another checkpoint of this size is in the table")
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
