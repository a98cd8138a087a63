//! `frikort audit mirror`: a log's static files, kept in a directory that is itself such a log
//! (c2sp.org/tlog-tiles), so that any tool of the format can read it without the ledger.
//!
//! From the root downwards: the right edge must hash to the signed root, each full tile to its hash in
//! the tile above, each record to its hash in the tile of leaves. So nothing is kept that the
//! checkpoint does not cover, and memory is that of a few tiles. What must stay out: what records say.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use frikort_proof::{Checkpoint, Edge, HASH_BYTES, Hash, TILE_WIDTH, Tile, VerifierKey, leaf_hash};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{
    Contradicted, files, keys,
    published::Published,
    tiles::{self, Stored, TileDir},
};
use crate::{Ending, client::QUERY_PATIENCE, events, output, profile::Us, progress::Progress};

const AFTER: &str = "\
Each partition's log goes to DIR/partition-N; with --url one log goes to DIR itself:
  checkpoint, tile/<L>/<N>[.p/<W>], tile/entries/<N>[.p/<W>]    as c2sp.org/tlog-tiles has them
  keys                                                          the verifier keys it was checked with
All of it is verified against the signed checkpoint before it is kept: signature, every tile, every
record. Run again, it goes on: full tiles are never fetched twice, those that are there must be those
of the new checkpoint, and parts of tiles that have grown are taken away. The checkpoint is written
last, so DIR is a whole log at any time.

Without --key the keys are those that the server tells the first time, and only its word.

--json prints one object a log: dir, size, fetched (files), verdict. Members are only ever added.

Exit codes: 0 all of it is there and verified; 1 a contradiction: false signature, a tile or record
that the checkpoint does not cover, a log that does not go on from what is there; 2 not finished.

Examples:
  frikort audit mirror mirror
  frikort audit mirror one --url http://127.0.0.1:50051/log/partition/0 --key log.vkey";

/// Bytes of a full tile.
const TILE: usize = TILE_WIDTH * HASH_BYTES;

/// How often a first checkpoint is asked for.
const LOOK: Duration = Duration::from_millis(200);

/// Hashes of a full tile.
const FULL: u64 = TILE_WIDTH as u64;

/// Bytes of an entry bundle at most: each record tells its length in two bytes.
const BUNDLE: usize = TILE_WIDTH * (2 + 65_535);

/// Options of `frikort audit mirror`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Where the files are, or will be.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// One log by its URL; otherwise those of all partitions of the ledger.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    keys: keys::Keys,
    /// Print one JSON object a log.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

/// What came of one log.
#[derive(Serialize)]
struct Mirrored {
    dir: String,
    size: u64,
    fetched: u64,
    verdict: &'static str,
}

pub(super) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let given = args.keys.read()?;
    let mut logs = Vec::new();
    match &args.url {
        Some(url) => logs.push((args.dir.clone(), Published::new(url, &us.credentials)?)),
        None => {
            let ledger = args.ledger.service(us)?;
            let heads = events::heads(&ledger, None).await?;
            // Of a partition without records nothing is ever signed.
            for (partition, _) in heads.into_iter().filter(|(_, head)| *head > 0) {
                let dir = args.dir.join(format!("partition-{partition}"));
                logs.push((dir, Published::of_partition(&ledger, partition)?));
            }
        }
    }
    for (dir, published) in logs {
        let shown = dir.display().to_string();
        let mirrored = Mirror::open(dir, published, &given).await;
        let mirrored = match mirrored {
            Ok(mirror) => mirror.fill().await,
            Err(error) => Err(error),
        };
        let Mirrored { dir, size, fetched, .. } = &mirrored.with_context(|| shown)?;
        output::line(&if args.json {
            let verdict = "verified";
            serde_json::to_string(&Mirrored {
                dir: dir.clone(),
                size: *size,
                fetched: *fetched,
                verdict,
            })?
        } else {
            format!("{dir}: {size} records, {fetched} files fetched, all verified")
        })?;
    }
    Ok(Ending::Done)
}

/// A log being fetched.
struct Mirror {
    dir: PathBuf,
    tiles: TileDir,
    published: Published,
    keys: Vec<VerifierKey>,
    note: String,
    checkpoint: Checkpoint,
    /// The right edge at the checkpoint: of each level the hashes of the last tile, which is not full.
    edge: Vec<Vec<Hash>>,
    /// The tile above the one that is looked at, as it was verified.
    above: Option<(u32, u64, Vec<Hash>)>,
    fetched: u64,
}

impl Mirror {
    /// Fetches the checkpoint and the edge, and verifies them.
    async fn open(
        dir: PathBuf,
        mut published: Published,
        given: &[VerifierKey],
    ) -> anyhow::Result<Self> {
        let keys = match files::text(&dir.join("keys"))? {
            _ if !given.is_empty() => given.to_vec(),
            Some(text) => keys::parse(&text).context("keys")?,
            None => {
                let text = published.text("keys").await?.context("the log has no keys; --key")?;
                keys::parse(&text).context("the log's keys")?
            }
        };
        let note = first_checkpoint(&mut published).await?;
        let checkpoint = Checkpoint::verify(&note, &keys)
            .map_err(|error| Contradicted(format!("the checkpoint: {error}")))?;
        let tiles = TileDir(dir.clone());
        let edge = Vec::new();
        let mut mirror =
            Self { dir, tiles, published, keys, note, checkpoint, edge, above: None, fetched: 0 };
        for (level, hashes) in tiles::levels(mirror.checkpoint.size) {
            let (number, width) = (hashes / FULL, hashes % FULL);
            let hashes = match width {
                0 => Vec::new(),
                _ => mirror.fetch_tile(level, number, width).await?,
            };
            mirror.edge.push(hashes);
        }
        let edge = Edge::new(mirror.edge.clone()).context("the log's edge has no form")?;
        if edge.root() != mirror.checkpoint.root {
            return Err(Contradicted("the tiles are not those of the checkpoint".into()).into());
        }
        mirror.check_continues().await?;
        Ok(mirror)
    }

    /// What was mirrored before must be the beginning of the log as it is now.
    async fn check_continues(&mut self) -> anyhow::Result<()> {
        let Some(note) = files::text(&self.dir.join("checkpoint"))? else { return Ok(()) };
        let before = Checkpoint::verify(&note, &self.keys)
            .map_err(|error| Contradicted(format!("the checkpoint that is here: {error}")))?;
        let (old, new) = (before.size, self.checkpoint.size);
        if before.origin != self.checkpoint.origin {
            bail!("{} is a mirror of another log: {}", self.dir.display(), before.origin.as_str());
        }
        if old > new {
            let what = format!("{old} records are here, and the log has {new}: it was set back");
            return Err(Contradicted(what).into());
        }
        let mut edge = Vec::new();
        for (level, hashes) in tiles::levels(old) {
            let (number, width) = (hashes / FULL, usize::try_from(hashes % FULL)?);
            let mut tile = match width {
                0 => Vec::new(),
                _ => self.verified(level, number).await?,
            };
            tile.truncate(width);
            edge.push(tile);
        }
        if Edge::new(edge).is_some_and(|edge| edge.root() == before.root) {
            return Ok(());
        }
        let at = self.first_difference(old).await?;
        let what = format!("the log does not go on from the {old} records that are here{at}");
        Err(Contradicted(what).into())
    }

    /// Where the tiles of leaves that are here, of a log of a size, depart from the log as it is now.
    async fn first_difference(&mut self, old: u64) -> anyhow::Result<String> {
        for number in 0..old.div_ceil(FULL) {
            let Stored::Hashes(here) = self.tiles.read(0, number)? else { continue };
            let there = self.verified(0, number).await?;
            if let Some(at) = here.iter().zip(&there).position(|(here, there)| here != there) {
                let position = number * FULL + at as u64 + 1;
                return Ok(format!(": the first that differs is at position {position}"));
            }
        }
        Ok(String::new())
    }

    /// A tile of the log as it is now, verified from the root downwards.
    async fn verified(&mut self, level: u32, number: u64) -> anyhow::Result<Vec<Hash>> {
        let mut path = Vec::new();
        let (mut at, mut of) = (level, number);
        while of < self.full(at) {
            path.push((at, of));
            (at, of) = (at + 1, of / FULL);
        }
        let mut tile = self.edge.get(usize::try_from(at)?).cloned().unwrap_or_default();
        for (level, number) in path.into_iter().rev() {
            let expected = tile.get(usize::try_from(number % FULL)?).copied();
            tile = match self.tiles.read(level, number)? {
                Stored::Hashes(here) if expected == Some(root(level, number, &here)) => here,
                _ => self.fetch_tile(level, number, FULL).await?,
            };
            if Some(root(level, number, &tile)) != expected {
                return Err(self.not_covered(level, number));
            }
        }
        Ok(tile)
    }

    /// How many full tiles a level has.
    fn full(&self, level: u32) -> u64 {
        self.checkpoint.size.checked_shr(8 * (level + 1)).unwrap_or_default()
    }

    fn not_covered(&self, level: u32, number: u64) -> anyhow::Error {
        let name = tiles::tile_path(level, number, FULL);
        Contradicted(format!("{name} is not the one that the checkpoint covers")).into()
    }

    /// Fetches all that is missing, upper levels first, and writes the checkpoint last.
    async fn fill(mut self) -> anyhow::Result<Mirrored> {
        let size = self.checkpoint.size;
        let mut progress = Progress::new("mirror", size);
        for (level, _) in tiles::levels(size).collect::<Vec<_>>().into_iter().rev() {
            for number in 0..self.full(level) {
                self.full_tile(level, number).await?;
                if level == 0 {
                    progress.more(i64::try_from(FULL)?);
                }
            }
        }
        for (level, hashes) in (0_u32..).zip(self.edge.clone()) {
            let (number, width) = (self.full(level), hashes.len() as u64);
            if hashes.is_empty() || self.tiles.has(level, number, width) {
                continue;
            }
            if level == 0 {
                self.entries(number, &hashes).await?;
            }
            files::replace(
                &self.dir.join(tiles::tile_path(level, number, width)),
                &hashes.concat(),
            )?;
        }
        files::replace(&self.dir.join("keys"), keys::text(&self.keys).as_bytes())?;
        files::replace(&self.dir.join("checkpoint"), self.note.as_bytes())?;
        self.remove_outgrown()?;
        progress.finish();
        let dir = self.dir.display().to_string();
        Ok(Mirrored { dir, size, fetched: self.fetched, verdict: "verified" })
    }

    /// One full tile, and of leaves the records: kept as they are if they are here.
    async fn full_tile(&mut self, level: u32, number: u64) -> anyhow::Result<()> {
        let expected = self.hash_above(level, number)?;
        let here = match self.tiles.read(level, number)? {
            Stored::Hashes(here) if here.len() == TILE_WIDTH => Some(here),
            _ => None,
        };
        if let Some(here) = &here {
            if root(level, number, here) != expected {
                return Err(self.not_covered(level, number));
            }
            // The records were written before their tile.
            return Ok(());
        }
        let tile = self.fetch_tile(level, number, FULL).await?;
        if root(level, number, &tile) != expected {
            return Err(self.not_covered(level, number));
        }
        if level == 0 {
            self.entries(number, &tile).await?;
        }
        self.tiles.write(level, number, &tile.concat())
    }

    /// The hash of a full tile, from the tile above, which is verified and here.
    fn hash_above(&mut self, level: u32, number: u64) -> anyhow::Result<Hash> {
        let (above, of) = (level + 1, number / FULL);
        if self.above.as_ref().is_none_or(|(level, number, _)| (*level, *number) != (above, of)) {
            let hashes = match of < self.full(above) {
                false => self.edge.get(usize::try_from(above)?).cloned().unwrap_or_default(),
                true => match self.tiles.read(above, of)? {
                    Stored::Hashes(hashes) => hashes,
                    _ => bail!("{} is gone", tiles::tile_path(above, of, FULL)),
                },
            };
            self.above = Some((above, of, hashes));
        }
        let hashes = self.above.as_ref().map(|(_, _, hashes)| hashes);
        let at = usize::try_from(number % FULL)?;
        hashes.and_then(|hashes| hashes.get(at)).copied().context("a tile above is too short")
    }

    /// Fetches a tile of a width.
    async fn fetch_tile(
        &mut self,
        level: u32,
        number: u64,
        width: u64,
    ) -> anyhow::Result<Vec<Hash>> {
        let name = tiles::tile_path(level, number, width);
        let bytes = self.fetch(&name, tiles::tile_path(level, number, FULL), TILE).await?;
        let mut hashes = tiles::hashes(&bytes).unwrap_or_default();
        let width = usize::try_from(width)?;
        if hashes.len() < width {
            return Err(Contradicted(format!("{name} is not as long as its name says")).into());
        }
        hashes.truncate(width);
        Ok(hashes)
    }

    /// A file; a part that has been outgrown meanwhile may be had from the full one.
    async fn fetch(&mut self, name: &str, full: String, most: usize) -> anyhow::Result<Vec<u8>> {
        self.fetched += 1;
        if let Some(bytes) = self.published.get(name, most).await? {
            return Ok(bytes);
        }
        let full = self.published.get(&full, most).await?;
        full.with_context(|| format!("{}/{name} is not there", self.published.url))
    }

    /// Fetches the records below a tile of leaves, verifies them, and writes them.
    async fn entries(&mut self, number: u64, leaves: &[Hash]) -> anyhow::Result<()> {
        let name = tiles::entries_path(number, leaves.len() as u64);
        let mut bundle = self.fetch(&name, tiles::entries_path(number, FULL), BUNDLE).await?;
        let mut rest = bundle.as_slice();
        for (at, leaf) in leaves.iter().enumerate() {
            let entry = split_entry(&mut rest);
            if entry.map(leaf_hash).as_ref() != Some(leaf) {
                let position = number * FULL + at as u64 + 1;
                let what =
                    format!("position {position}: the record is not the one that was logged");
                return Err(Contradicted(what).into());
            }
        }
        let behind = rest.len();
        bundle.truncate(bundle.len() - behind);
        files::replace(&self.dir.join(&name), &bundle)?;
        match leaves.len() {
            TILE_WIDTH => tiles::remove_parts(&self.dir.join(format!("{name}.p")), FULL),
            _ => Ok(()),
        }
    }

    /// Takes away the parts of the last tiles that the new ones have outgrown.
    fn remove_outgrown(&self) -> anyhow::Result<()> {
        for (level, hashes) in (0_u32..).zip(&self.edge) {
            let (last, width) = (self.full(level), hashes.len() as u64);
            let parts = |name: String| self.dir.join(format!("{name}.p"));
            tiles::remove_parts(&parts(tiles::tile_path(level, last, FULL)), width)?;
            if level == 0 {
                tiles::remove_parts(&parts(tiles::entries_path(last, FULL)), width)?;
            }
        }
        Ok(())
    }
}

/// The log's checkpoint; of a log that has just begun it is waited for.
async fn first_checkpoint(published: &mut Published) -> anyhow::Result<String> {
    let deadline = Instant::now() + QUERY_PATIENCE;
    loop {
        match published.text("checkpoint").await? {
            Some(note) => return Ok(note),
            None if Instant::now() + LOOK > deadline => bail!("nothing is signed yet"),
            None => sleep(LOOK).await,
        }
    }
}

/// The root over a full tile.
fn root(level: u32, number: u64, hashes: &[Hash]) -> Hash {
    Tile { level, number, hashes: hashes.to_vec() }.root()
}

/// The next entry of a bundle: two bytes of length, and the record.
fn split_entry<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<2>()?;
    let (entry, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
    *rest = behind;
    Some(entry)
}
