//! The proof log of a database, made from its records by the formats alone: what the ledger's
//! follower writes, for tests that start none.

use std::path::Path;

use anyhow::Context;
use frikort_process::secret;
use frikort_proof::{Checkpoint, Edge, KeyName, SigningKey, VerifierKey, leaf_hash};
use sqlx::PgPool;

/// Who signs.
#[derive(Clone, Debug)]
pub struct Signer {
    secret: [u8; secret::KEY_BYTES],
    key: SigningKey,
    name: KeyName,
}

impl Signer {
    /// A signer of a partition's log; another `seed`, another key.
    pub fn new(partition: i32, seed: u8) -> anyhow::Result<Self> {
        let name = format!("local/frikort/partition/{partition}").parse()?;
        let secret = [seed; secret::KEY_BYTES];
        Ok(Self { secret, key: SigningKey::new(&secret), name })
    }

    /// The signer that a ledger is by this file.
    pub fn read(partition: i32, file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)?;
        let key = text.lines().find_map(|line| line.strip_prefix("sign="));
        let secret = key.and_then(secret::unhex).context("no signing key in the file")?;
        let name = format!("local/frikort/partition/{partition}").parse()?;
        Ok(Self { secret: *secret, key: SigningKey::new(&secret), name })
    }

    /// Writes the file by which a ledger is this signer.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        std::fs::write(file, format!("sign={}\n", *secret::hex(&self.secret)))
    }

    /// What checks its signatures.
    pub fn verifier(&self) -> VerifierKey {
        self.key.verifier(&self.name)
    }

    /// The signed note about a tree.
    pub fn sign(&self, size: u64, root: frikort_proof::Hash) -> String {
        self.key.sign(&Checkpoint { origin: self.name.clone(), size, root })
    }

    /// Writes the tiles of a partition's records, and a checkpoint after each `every` records and
    /// at the end. Gives the last one.
    pub async fn log(&self, owner: &PgPool, partition: i32, every: u64) -> anyhow::Result<String> {
        let records: Vec<String> = sqlx::query_scalar(
            "SELECT record FROM ledger.event WHERE partition = $1 ORDER BY position",
        )
        .bind(partition)
        .fetch_all(owner)
        .await?;
        let (mut edge, mut last) = (Edge::default(), None);
        for (at, record) in records.iter().enumerate() {
            for tile in edge.push(leaf_hash(record.as_bytes())) {
                sqlx::query("INSERT INTO ledger.tile VALUES ($1, $2, $3, $4, $5)")
                    .bind(partition)
                    .bind(i16::try_from(tile.level)?)
                    .bind(i64::try_from(tile.number)?)
                    .bind(tile.root().to_vec())
                    .bind(tile.hashes.concat())
                    .execute(owner)
                    .await?;
            }
            if edge.size() % every == 0 || at + 1 == records.len() {
                let note = self.sign(edge.size(), edge.root());
                sqlx::query("INSERT INTO ledger.checkpoint VALUES ($1, $2, $3)")
                    .bind(partition)
                    .bind(i64::try_from(edge.size())?)
                    .bind(&note)
                    .execute(owner)
                    .await?;
                last = Some(note);
            }
        }
        last.context("there are no records")
    }
}
