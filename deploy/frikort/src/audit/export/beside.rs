//! What an export has beside a partition's records: the projector's totals, the log's keys and
//! tiles, and the signed checkpoint, which gets its name last.

use std::{fmt, fs::File, io::BufWriter, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use frikort_domain::Amount;
use frikort_proof::{Checkpoint, HASH_BYTES, TILE_WIDTH, VerifierKey};
use frikort_proto::v1::{
    AnnualTotal, ErrorReason, ListAnnualTotalsRequest, ListAnnualTotalsResponse,
    overview_service_client::OverviewServiceClient,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tonic::Streaming;

use crate::{
    audit::{
        claims, files, keys,
        published::Published,
        signed::{self, Signed},
        tiles::{self, TileDir},
    },
    client::{CallError, MAX_ANSWER_BYTES, Service},
};

/// How long a checkpoint is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often it is asked for meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// Bytes of a tile.
const TILE: usize = TILE_WIDTH * HASH_BYTES;

/// A partition's, and where it is from.
pub(super) struct Beside<'a> {
    pub(super) ledger: &'a Service,
    pub(super) projector: Service,
    pub(super) partition: i32,
    /// What the names of the files begin with.
    pub(super) base: PathBuf,
    /// What is not written, and why.
    pub(super) not_written: &'a mut Vec<String>,
}

/// What is written of it.
#[derive(Default, Serialize)]
pub(super) struct Written {
    checkpoint: Option<u64>,
    tiles: Option<u64>,
    totals: Option<u64>,
}

/// Totals that are written, but have no name yet.
pub(super) struct Totals {
    file: File,
    pub(super) position: i64,
    lines: u64,
}

/// A checkpoint, and the keys that check it.
pub(super) struct Covering {
    pub(super) signed: Signed,
    keys: Vec<VerifierKey>,
}

impl Beside<'_> {
    fn path(&self, end: &str) -> PathBuf {
        let mut path = self.base.clone().into_os_string();
        path.push(end);
        path.into()
    }

    fn not_written(&mut self, what: &str, why: &dyn fmt::Display) {
        self.not_written.push(format!("partition {}: {what}: {why}", self.partition));
    }

    /// The projector's totals as of the head or later, to a file without its name.
    pub(super) async fn totals(&mut self, head: i64) -> anyhow::Result<Option<Totals>> {
        if head == 0 {
            return Ok(None);
        }
        let partition = self.partition;
        let request = ListAnnualTotalsRequest { partition, min_position: head };
        let call = self.projector.stream(request, |channel, request| async move {
            let client = OverviewServiceClient::new(channel);
            client.max_decoding_message_size(MAX_ANSWER_BYTES).list_annual_totals(request).await
        });
        match call.await {
            Ok(answer) => match self.write_totals(answer).await {
                Ok(totals) => return Ok(Some(totals)),
                Err(error) => self.not_written("the projector's totals", &format!("{error:#}")),
            },
            Err(error) => self.not_written("the projector's totals", &anyhow::Error::from(error)),
        }
        Ok(None)
    }

    async fn write_totals(
        &self,
        mut answer: Streaming<ListAnnualTotalsResponse>,
    ) -> anyhow::Result<Totals> {
        let path = self.path(".totals.jsonl");
        let shown = || path.display().to_string();
        let mut out = BufWriter::new(File::create(files::unfinished(&path)).with_context(shown)?);
        let (mut head, mut lines) = (None, 0);
        loop {
            let message = answer.message().await?.context("the projector's answer was cut off")?;
            let at = message.position.context("totals without a position")?.position;
            if head.is_none() {
                claims::write(&mut out, &claims::Head { partition: self.partition, position: at })?;
            }
            ensure!(*head.get_or_insert(at) == at, "totals as of several positions");
            if message.totals.is_empty() {
                break;
            }
            for total in &message.totals {
                claims::write(&mut out, &claim(total)?)?;
                lines += 1;
            }
        }
        claims::write(&mut out, &claims::End { lines })?;
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(Totals { file, position: head.unwrap_or_default(), lines })
    }

    /// A checkpoint that reaches `needed`; of one that does not in time, the last one.
    pub(super) async fn checkpoint(&mut self, needed: i64) -> anyhow::Result<Option<Covering>> {
        if needed == 0 {
            return Ok(None);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (note, keys) = match signed::last(self.ledger, self.partition).await {
                Ok(last) => last,
                Err(error) => {
                    self.unsigned(error).await?;
                    return Ok(None);
                }
            };
            if keys.is_empty() {
                let why = "this server does not sign, and tells no keys";
                self.not_written("the signed checkpoint", &why);
                return Ok(None);
            }
            let signed = Signed::verify(self.partition, note, &keys)?;
            let behind = signed.position() < needed;
            if behind && Instant::now() + LOOK < deadline {
                sleep(LOOK).await;
                continue;
            }
            if behind {
                let why = format!("none reaches position {needed} yet; run it again");
                self.not_written("the rest, of which there is no checkpoint", &why);
            }
            self.check_continues(&signed).await?;
            return Ok(Some(Covering { signed, keys }));
        }
    }

    /// The ledger has no checkpoint for us. What it stored of the records is evidence all the same.
    async fn unsigned(&mut self, error: CallError) -> anyhow::Result<()> {
        let last = match &error {
            CallError::Refused(failure) if failure.reason == ErrorReason::NotSigning => {
                failure.metadata.get("position").and_then(|position| position.parse().ok())
            }
            _ => None,
        };
        self.not_written("the signed checkpoint", &format!("{:#}", anyhow::Error::from(error)));
        if let Some(last) = last {
            self.tiles(last).await?;
        }
        Ok(())
    }

    /// The checkpoint that is there already must be about the beginning of this one.
    async fn check_continues(&self, signed: &Signed) -> anyhow::Result<()> {
        let path = self.path(".checkpoint");
        let Some(note) = files::text(&path)? else { return Ok(()) };
        let before = Checkpoint::parse_unverified(&note);
        let before = before.with_context(|| path.display().to_string())?;
        signed::check_continues(self.ledger, self.partition, &before, &signed.checkpoint).await
    }

    /// Writes tiles, and gives everything its name.
    pub(super) async fn finish(
        mut self,
        totals: Option<Totals>,
        signed: Option<Covering>,
    ) -> anyhow::Result<Written> {
        let mut written = Written::default();
        if let Some(Totals { file, lines, .. }) = totals {
            files::finish(&file, &self.path(".totals.jsonl"))?;
            written.totals = Some(lines);
        }
        if let Some(Covering { signed, keys }) = signed {
            let size = signed.checkpoint.size;
            written.tiles = self.tiles(size).await?;
            files::replace(&self.path(".keys"), keys::text(&keys).as_bytes())?;
            files::replace(&self.path(".checkpoint"), signed.note.as_bytes())?;
            written.checkpoint = Some(size);
        }
        Ok(written)
    }

    /// The tiles of a log of a size, as the ledger stored them; those that are there are kept.
    /// Answers how many there are, or nothing when some could not be had.
    async fn tiles(&mut self, size: u64) -> anyhow::Result<Option<u64>> {
        let dir = TileDir(self.path(".tiles"));
        let mut published = Published::of_partition(self.ledger, self.partition)?;
        let (mut count, mut missing) = (0, None);
        for (level, number, width) in tiles::all(size) {
            count += 1;
            if dir.has(level, number, width) {
                continue;
            }
            let name = tiles::tile_path(level, number, width);
            match tile(&mut published, level, number, width).await {
                Ok(Some(tile)) => dir.write(level, number, &tile)?,
                Ok(None) => {
                    missing.get_or_insert(format!("{name} is not there"));
                }
                Err(error) => {
                    missing.get_or_insert(format!("{error:#}"));
                    break;
                }
            }
        }
        let Some(why) = missing else { return Ok(Some(count)) };
        self.not_written("all tiles", &why);
        Ok(None)
    }
}

/// A tile as wide as this. A part of a tile that is full by now may be had from that one only.
async fn tile(
    published: &mut Published,
    level: u32,
    number: u64,
    width: u64,
) -> anyhow::Result<Option<Vec<u8>>> {
    let bytes = usize::try_from(width)? * HASH_BYTES;
    let mut tile = published.get(&tiles::tile_path(level, number, width), TILE).await?;
    if tile.is_none() && bytes < TILE {
        tile = published.get(&tiles::tile_path(level, number, TILE_WIDTH as u64), TILE).await?;
        if let Some(full) = &mut tile {
            full.truncate(bytes);
        }
    }
    Ok(tile.filter(|tile| tile.len() == bytes))
}

fn claim(total: &AnnualTotal) -> anyhow::Result<claims::Claim> {
    Ok(claims::Claim {
        person_id: serde_json::from_value(total.person_id.clone().into())?,
        year: total.year,
        total: Amount::from_oere(total.total_oere)?,
        payments: u32::try_from(total.payments)?,
        exempt: Amount::from_oere(total.exempt_oere)?,
    })
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(size) = self.checkpoint {
            write!(f, "; a signed checkpoint of {size}")?;
        }
        if let Some(tiles) = self.tiles {
            write!(f, ", {tiles} tiles")?;
        }
        if let Some(totals) = self.totals {
            write!(f, "; {totals} totals of the projector")?;
        }
        Ok(())
    }
}
