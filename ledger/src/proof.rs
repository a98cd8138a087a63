//! The proof log: each partition's records as a transparency log in open formats, so that nobody has
//! to believe this program, its operator or its database.
//!
//! ```text
//!   ledger.event ──▶ follow.rs ──hash──▶ ledger.tile ──sign──▶ file outside ──▶ ledger.checkpoint
//!                                            └──────────▶ proofs, receipts, static files
//! ```
//!
//! The mathematics and the texts are `frikort-proof`'s. What must stay out: what a record says, and
//! anything that an append waits for.

mod follow;
mod keys;
mod memory;
mod tiles;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use frikort_event_store::{Appender, DatabaseSessions, EventStore, ServerRun, StoreError};
use frikort_process::secret;
use frikort_proof::{
    Checkpoint, Hash, KeyName, NoteError, Receipt, VerifierKey, consistency_ranges,
    inclusion_ranges, leaf_hash, verify_consistency, verify_inclusion,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

pub use keys::{SigningKeys, SigningKeysError};

use self::{follow::Follower, tiles::Tiles};
use crate::history::SignedEvidence;

/// A signed checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: String,
}

/// What this process signs of a partition.
#[derive(Clone, Debug)]
enum Signing {
    /// Nothing yet since the start; so far was signed before, as far as it is known.
    Begins { last: i64 },
    /// This, last, which the history was found to hold in a server run.
    Signed(Signed, ServerRun),
    /// Nothing more.
    Refused { last: i64, first_different_position: Option<i64>, what: String },
}

impl Signing {
    /// The position up to which was signed.
    fn last(&self) -> i64 {
        match self {
            Self::Signed(signed, _) => whole(signed.checkpoint.size),
            Self::Begins { last } | Self::Refused { last, .. } => *last,
        }
    }
}

/// Why there is no proof.
#[derive(Debug)]
pub(crate) enum Unproved {
    /// No checkpoint reaches so far yet.
    Behind { last: i64 },
    /// No checkpoint reaches so far, and none will.
    NotSigning { last: i64, first_different_position: Option<i64> },
    /// The tables cannot be read.
    Unread(StoreError),
}

impl From<StoreError> for Unproved {
    fn from(error: StoreError) -> Self {
        Self::Unread(error)
    }
}

/// A proof that a record stands at its place.
pub(crate) struct Inclusion {
    pub(crate) size: u64,
    pub(crate) leaf: Hash,
    pub(crate) hashes: Vec<Hash>,
}

/// The log of one partition, as the services need it.
pub(crate) struct Log {
    partition: i32,
    store: EventStore,
    verifiers: Vec<VerifierKey>,
    /// Absent where this process does not sign.
    signing: Option<watch::Receiver<Signing>>,
    sessions: DatabaseSessions,
    /// Whether the history is what was signed.
    sound: Option<watch::Receiver<bool>>,
    /// Where it keeps the last checkpoint that it signed.
    file: Option<PathBuf>,
    /// What was signed, and so must be in the history.
    evidence: watch::Receiver<SignedEvidence>,
}

/// Where the signing keys and the last checkpoints are, and whose logs these are.
#[derive(Debug)]
pub struct Signer {
    /// The keys.
    pub keys: Arc<SigningKeys>,
    /// The file that they are of; the last checkpoints are kept beside it.
    pub key_file: PathBuf,
    /// The operator's name, which the logs' names begin with.
    pub operator: String,
}

impl Signer {
    /// The signer with the keys in `key_file`, made if `create`.
    pub fn load(key_file: &Path, create: bool, operator: String) -> Result<Self, SigningKeysError> {
        let keys = Arc::new(SigningKeys::load(key_file, create)?);
        Ok(Self { keys, key_file: key_file.to_owned(), operator })
    }

    /// The keys that check what is signed of a partition, the present one first. Fails where the
    /// operator's name cannot stand in a signature.
    pub fn verifiers(&self, partition: i32) -> Result<(KeyName, Vec<VerifierKey>), NoteError> {
        let name = log_name(&self.operator, partition)?;
        let verifiers = self.keys.verifiers(&name)?;
        Ok((name, verifiers))
    }

    /// Writes the verifier keys of all partitions beside the signing key, one a line, for who checks
    /// on this machine.
    pub(crate) fn write_verifiers(&self, partitions: &[i32]) -> anyhow::Result<()> {
        let mut text = String::new();
        for partition in partitions {
            let verifiers = self.verifiers(*partition);
            for key in verifiers.with_context(|| format!("the operator {:?}", self.operator))?.1 {
                text.push_str(&format!("{key}\n"));
            }
        }
        let mut name = self.key_file.as_os_str().to_owned();
        name.push(".verifiers");
        let file = PathBuf::from(name);
        secret::replace(&file, &text).with_context(|| file.display().to_string())
    }
}

/// The name of a partition's log, and of the keys that sign it.
fn log_name(operator: &str, partition: i32) -> Result<KeyName, NoteError> {
    format!("{operator}/frikort/partition/{partition}").parse()
}

impl Log {
    /// The log of a partition, and the follower of its records, to be spawned.
    pub(crate) fn signed(
        appender: Appender,
        partition: i32,
        store: EventStore,
        signer: &Signer,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), NoteError> {
        let (name, verifiers) = signer.verifiers(partition)?;
        let (signing, is_signed) = watch::channel(Signing::Begins { last: 0 });
        let (sound, is_sound) = watch::channel(false);
        let file = memory::path(&signer.key_file, partition);
        // From the start: what was signed must be in the history before anything is appended. A file
        // that cannot be read is the follower's to report.
        let kept = memory::read(&file, &verifiers).ok().flatten();
        let evidence = watch::Sender::new(kept.as_ref().map(memory::evidence).unwrap_or_default());
        let must_hold = evidence.subscribe();
        let sessions = appender.sessions().clone();
        let follower = Follower {
            appender,
            partition,
            store: store.clone(),
            keys: signer.keys.clone(),
            name,
            verifiers: verifiers.clone(),
            file: file.clone(),
            signing,
            sound,
            evidence,
        };
        let (signing, sound, file) = (Some(is_signed), Some(is_sound), Some(file));
        let evidence = must_hold;
        let log = Self { partition, store, verifiers, signing, sessions, sound, file, evidence };
        Ok((log, follower.run()))
    }

    /// The log of a partition that another process signs.
    pub(crate) fn read_only(sessions: DatabaseSessions, partition: i32, store: EventStore) -> Self {
        let (verifiers, evidence) = (Vec::new(), watch::Sender::default().subscribe());
        let (signing, sound, file) = (None, None, None);
        Self { partition, store, verifiers, signing, sessions, sound, file, evidence }
    }

    /// What was signed, and so must be in the history.
    pub(crate) fn evidence(&self) -> watch::Receiver<SignedEvidence> {
        self.evidence.clone()
    }

    /// Whether the history is what was signed, where this process knows that.
    pub(crate) fn sound(&self) -> Option<watch::Receiver<bool>> {
        self.sound.clone()
    }

    pub(crate) fn partition(&self) -> i32 {
        self.partition
    }

    /// The keys that check this log, the present one first; none where this process does not sign.
    pub(crate) fn verifiers(&self) -> &[VerifierKey] {
        &self.verifiers
    }

    /// What is known of this log beside the tables, for who checks them.
    pub(crate) fn known(&self) -> frikort_check::Log {
        let keys = self.verifiers.clone();
        let kept = self.file.as_ref().and_then(|file| match memory::read(file, &keys) {
            Ok(memory) => memory,
            // The follower refuses to sign, and says so.
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, partition = self.partition, "no last checkpoint");
                None
            }
        });
        let name = "the ledger's last checkpoint".to_owned();
        let kept = kept.map(|memory| frikort_check::Kept { name, note: memory.note });
        frikort_check::Log { keys, kept: kept.into_iter().collect(), seen: None }
    }

    /// The last signed checkpoint, if it reaches `position`; waits for one that does until
    /// `deadline`.
    pub(crate) async fn checkpoint(
        &self,
        position: i64,
        deadline: Instant,
    ) -> Result<Signed, Unproved> {
        let Some(signing) = &self.signing else {
            let published = self.tiles().last_checkpoint().await?;
            let published = published.and_then(|note| {
                let checkpoint = Checkpoint::parse_unverified(&note).ok()?;
                Some(Signed { checkpoint, note })
            });
            let last = published.as_ref().map_or(0, |signed| whole(signed.checkpoint.size));
            let reaches = published.filter(|_| last >= position.max(1));
            let not_signing = Unproved::NotSigning { last, first_different_position: None };
            return reaches.ok_or(not_signing);
        };
        let mut signing = signing.clone();
        let enough = |signing: &Signing| match signing {
            Signing::Begins { .. } => false,
            // In another run it may be of a history that is gone, until that is looked at.
            Signing::Signed(_, run) => {
                signing.last() >= position.max(1) && self.sessions.can_answer_from_memory(*run)
            }
            Signing::Refused { .. } => true,
        };
        // The time-out leaves what there is.
        let _ = timeout_at(deadline, signing.wait_for(enough)).await;
        let signing = signing.borrow().clone();
        let last = signing.last();
        match signing {
            Signing::Signed(_, run) if !self.sessions.can_answer_from_memory(run) => {
                Err(Unproved::Unread(StoreError::Unavailable(sqlx::Error::PoolTimedOut)))
            }
            Signing::Signed(signed, _) if last >= position => Ok(signed),
            Signing::Refused { first_different_position, what, .. } => {
                tracing::debug!(partition = self.partition, what, "not signing");
                Err(Unproved::NotSigning { last, first_different_position })
            }
            _ => Err(Unproved::Behind { last }),
        }
    }

    /// The proof that the record at `position` stands there, in the tree of `size` records, which
    /// `signed` reaches.
    pub(crate) async fn inclusion(
        &self,
        position: u64,
        size: u64,
        signed: &Signed,
    ) -> Result<Inclusion, Unproved> {
        let index = position - 1;
        let mut tiles = self.tiles();
        let leaf = tiles.range(&(index..position)).await?;
        let hashes = tiles.hashes(&inclusion_ranges(index, size)).await?;
        let root = self.root(&mut tiles, size, signed).await?;
        if let (Some(leaf), Some(hashes), Some(root)) = (leaf, hashes, root)
            && verify_inclusion(&hashes, index, size, &leaf, &root)
        {
            return Ok(Inclusion { size, leaf, hashes });
        }
        Err(self.contradicted(position, size).await)
    }

    /// The proof that the tree of `earlier` records is the beginning of that of `later`, which
    /// `signed` reaches.
    pub(crate) async fn consistency(
        &self,
        earlier: u64,
        later: u64,
        signed: &Signed,
    ) -> Result<Vec<Hash>, Unproved> {
        let mut tiles = self.tiles();
        let hashes = tiles.hashes(&consistency_ranges(earlier, later)).await?;
        let (old, new) = (tiles.root(earlier).await?, self.root(&mut tiles, later, signed).await?);
        if let (Some(hashes), Some(old), Some(new)) = (hashes, old, new)
            && verify_consistency(&hashes, (earlier, &old), (later, &new))
        {
            return Ok(hashes);
        }
        Err(self.contradicted(1, later).await)
    }

    /// The receipt of the record at `position`, as of a checkpoint that reaches it.
    pub(crate) async fn receipt(
        &self,
        position: u64,
        signed: &Signed,
    ) -> Result<Receipt, Unproved> {
        let proof = self.inclusion(position, signed.checkpoint.size, signed).await?;
        let records = self.store.read_all(self.partition, whole(position), 1).await?;
        match records.into_iter().next().map(|event| event.record.into_bytes()) {
            Some(record) if leaf_hash(&record) == proof.leaf => Ok(Receipt {
                record,
                index: position - 1,
                proof: proof.hashes,
                note: signed.note.clone(),
            }),
            _ => Err(self.contradicted(position, signed.checkpoint.size).await),
        }
    }

    /// The first `width` hashes of a tile, if the last checkpoint reaches them.
    pub(crate) async fn tile(
        &self,
        level: u32,
        number: u64,
        width: usize,
    ) -> Result<Option<Vec<u8>>, Unproved> {
        let reached = self.size().await? >> (8 * level);
        if number.saturating_mul(256).saturating_add(width as u64) > reached {
            return Ok(None);
        }
        let mut tiles = self.tiles();
        let hashes = tiles.tile(level, number).await?;
        Ok(hashes.get(..width).map(<[Hash]>::concat))
    }

    /// The first `width` records of an entry bundle, each after its length in two bytes, if the last
    /// checkpoint reaches them. `None`, too, where one of them is longer than a bundle can tell.
    pub(crate) async fn entries(
        &self,
        number: u64,
        width: usize,
    ) -> Result<Option<Vec<u8>>, Unproved> {
        let first = number.saturating_mul(256);
        if first.saturating_add(width as u64) > self.size().await? {
            return Ok(None);
        }
        let wanted = whole(width as u64);
        let records = self.store.read_all(self.partition, whole(first) + 1, wanted).await?;
        let mut bundle = Vec::new();
        for record in &records {
            let bytes = record.record.as_bytes();
            let Ok(length) = u16::try_from(bytes.len()) else { return Ok(None) };
            bundle.extend(length.to_be_bytes());
            bundle.extend(bytes);
        }
        Ok((records.len() == width).then_some(bundle))
    }

    /// How far the last checkpoint reaches; 0 where there is none. A history that is not what was
    /// signed is read all the same: what was stored of it is what shows where it differs.
    async fn size(&self) -> Result<u64, Unproved> {
        match self.checkpoint(0, Instant::now()).await {
            Ok(signed) => Ok(signed.checkpoint.size),
            Err(Unproved::Behind { last } | Unproved::NotSigning { last, .. }) => {
                Ok(position(last))
            }
            Err(unproved) => Err(unproved),
        }
    }

    /// The root at a size: what was signed, where that is the size.
    async fn root(
        &self,
        tiles: &mut Tiles<'_>,
        size: u64,
        signed: &Signed,
    ) -> Result<Option<Hash>, StoreError> {
        if size == signed.checkpoint.size {
            return Ok(Some(signed.checkpoint.root));
        }
        tiles.root(size).await
    }

    /// What is told where the tables give no proof of what was signed.
    async fn contradicted(&self, near: u64, size: u64) -> Unproved {
        let mut tiles = self.tiles();
        let found = match tiles.differs_in((near - 1) / 256).await {
            Ok(None) => tiles.first_difference(size, None).await.map(Some),
            found => found,
        };
        match found {
            Ok(first_different_position) => {
                let partition = self.partition;
                tracing::error!(partition, first_different_position, "no proof can be made");
                Unproved::NotSigning { last: whole(size), first_different_position }
            }
            Err(error) => error.into(),
        }
    }

    fn tiles(&self) -> Tiles<'_> {
        Tiles::new(&self.store, self.partition)
    }
}

/// A number of records as a position of the store.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A position of the store as a number of records.
fn position(position: i64) -> u64 {
    u64::try_from(position).unwrap_or_default()
}

/// A number below the width of a tile.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
