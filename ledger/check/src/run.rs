//! The order of a check: every partition's ground, its records in order of position, then its
//! streams. What must stay out: what is right and wrong.

use std::collections::BTreeMap;

use frikort_event_store::{AcceptedLoss, ConnectionPool, accepted_incidents};
use frikort_proof::{Hash, VerifierKey, leaf_hash};
use time::Date;

use crate::{
    Check, CheckError, Checked, Concluded, Kept, Log, Seen, Teller,
    finding::{Kind, Notes},
    order::{Order, Row},
    projection,
    read::{self, Ground},
    rows::application,
    streams::Streams,
    tree::{Keeper, Signed, Tiles, Tree, WIDTH},
};

/// Positions read at a time: two tiles of leaf hashes, so that a page ends where tiles end.
const PAGE: i64 = 2 * WIDTH;

/// Checks everything.
pub(crate) async fn run(
    check: Check,
    pool: ConnectionPool,
    mut teller: Teller,
) -> Result<Concluded, CheckError> {
    let Check { partition, logs, .. } = check;
    teller.begin().await;
    let mut partitions = read::partitions(&pool).await?;
    // A partition that the caller knows of does not go unseen because its rows are gone.
    partitions.extend(logs.keys().copied().chain(partition));
    partitions.sort_unstable();
    partitions.dedup();
    partitions.retain(|known| partition.is_none_or(|wanted| *known == wanted));
    let mut grounds = Vec::new();
    for partition in partitions {
        let ground = read::ground(&pool, partition).await?;
        teller.far.send_modify(|far| far.total = far.total.saturating_add(2 * ground.count()));
        grounds.push((partition, ground));
    }
    let losses = accepted_incidents(&mut *pool.acquire().await?).await?;
    let mut concluded = Concluded::default();
    let none = Log::default();
    for (partition, ground) in grounds {
        let log = logs.get(&partition).unwrap_or(&none);
        let mut notes = Notes::new(partition);
        teller.until = teller.until.saturating_add(2 * ground.count());
        let (end, at) = (ground.end(), ground.head.and_then(|(_, at)| at));
        let of_it = losses.iter().filter(|loss| loss.partition == partition).cloned();
        let losses: Vec<AcceptedLoss> = of_it.collect();
        let mut walk = Walk::new(&pool, partition, ground, log, &losses, &mut notes);
        concluded.accepted_losses.extend(losses);
        walk.in_order(&mut notes, &mut teller).await?;
        let root = walk.tree.root();
        by_stream(&pool, partition, end, &mut notes, &mut teller).await?;
        teller.far.send_modify(|far| far.done = teller.until);
        let position = notes.unchecked_from.map_or(end, |from| (from - 1).clamp(0, end));
        let recorded_at = at.filter(|_| position == end);
        let root = root.filter(|_| position == end);
        concluded.checked.push(Checked { partition, position, recorded_at, root });
        concluded.not_checked.append(&mut notes.not_checked);
    }
    concluded.findings = teller.told;
    Ok(concluded)
}

impl Ground {
    /// How many records there are to look at, as far as positions tell; at most half of what a
    /// number holds.
    fn count(&self) -> i64 {
        self.last.clamp(0, i64::MAX / 2)
    }
}

/// Checks a partition stream by stream.
async fn by_stream(
    pool: &ConnectionPool,
    partition: i32,
    end: i64,
    notes: &mut Notes,
    teller: &mut Teller,
) -> Result<(), CheckError> {
    let mut streams = Streams::new(partition, end);
    loop {
        let chunk = streams.chunk(pool, notes).await?;
        if chunk.last {
            streams.conclude(notes);
        }
        teller.tell(notes.take(), chunk.records).await;
        if chunk.last {
            return Ok(());
        }
    }
}

/// The way through a partition in order of position.
struct Walk<'a> {
    pool: &'a ConnectionPool,
    partition: i32,
    ground: Ground,
    keys: &'a [VerifierKey],
    /// Checkpoints kept elsewhere that are about records that are there, by size.
    kept: BTreeMap<i64, Vec<Signed>>,
    order: Order,
    tree: Tree,
}

/// What is read of some positions.
struct Page {
    from: i64,
    to: i64,
    rows: Vec<Row>,
    tiles: Tiles,
    checkpoints: Vec<(i64, String)>,
    /// Where the projection stands, and what it has of applications.
    projected: i64,
    applications: BTreeMap<i64, (i16, Date, i32)>,
}

impl<'a> Walk<'a> {
    fn new(
        pool: &'a ConnectionPool,
        partition: i32,
        ground: Ground,
        log: &'a Log,
        losses: &[AcceptedLoss],
        notes: &mut Notes,
    ) -> Self {
        let end = ground.end();
        let is_lost = |size: i64| {
            losses.iter().any(|of| (of.first_lost_position..=of.last_lost_position).contains(&size))
        };
        let mut kept: BTreeMap<i64, Vec<Signed>> = BTreeMap::new();
        for Kept { name, note } in &log.kept {
            match Signed::read(note, &log.keys, Keeper::Elsewhere(name.clone())) {
                Ok(signed) if signed.size > end && is_lost(signed.size) => {}
                Ok(signed) if signed.size > end => beyond(&signed, end, notes),
                Ok(signed) => {
                    let is_accepted_loss = is_lost(signed.size);
                    let signed = Signed { is_accepted_loss, ..signed };
                    kept.entry(signed.size).or_default().push(signed);
                }
                Err(error) => notes.find(0, Kind::Checkpoint, None, format!("{name}: {error}")),
            }
        }
        if let Some(Seen { position, root }) = log.seen {
            let keeper = Keeper::Elsewhere("what an earlier check has verified".to_owned());
            let is_accepted_loss = is_lost(position);
            let signed = Signed { keeper, size: position, root, is_accepted_loss };
            if position > end && !is_accepted_loss {
                beyond(&signed, end, notes);
            } else {
                kept.entry(position).or_default().push(signed);
            }
        }
        let mut tree = Tree::new(ground.signed);
        kept.remove(&0).iter().flatten().for_each(|signed| tree.hold(signed, notes));
        let walk = Self {
            pool,
            partition,
            keys: &log.keys,
            kept,
            order: Order::new(partition),
            tree,
            ground,
        };
        walk.look_at_ends(!log.kept.is_empty(), notes);
        walk
    }

    /// What the head, the tiles and the checkpoints say of where the history ends.
    fn look_at_ends(&self, kept: bool, notes: &mut Notes) {
        let (partition, end) = (self.partition, self.ground.end());
        match self.ground.head {
            None => notes.find(0, Kind::Position, None, "the partition's head is missing"),
            Some((head, _)) if head < self.ground.last => {
                let last = self.ground.last;
                let what = format!("the head says {head}, and records stand up to {last}");
                notes.find(head + 1, Kind::Position, None, what);
            }
            Some(_) => {}
        }
        if let Some((position, note)) = &self.ground.beyond {
            match Signed::read(note, self.keys, Keeper::Table) {
                Ok(signed) => beyond(&signed, end, notes),
                Err(error) => {
                    let what = format!("the checkpoint of {position} records: {error}");
                    notes.find(end + 1, Kind::Checkpoint, None, what);
                }
            }
        }
        if let Some((level, number)) = self.ground.tile_beyond {
            let what = format!(
                "tile {level}/{number} is full, and the history ends at position {end}: records \
                 are missing, or nobody made the tile of any"
            );
            notes.find(end.saturating_add(1), Kind::Tile, None, what);
        }
        if end == 0 {
            return;
        }
        if self.ground.signed == 0 && self.ground.beyond.is_none() && !kept {
            notes.leave_out(
                None,
                format!(
                    "partition {partition}: whether these are all records, and those first \
                     written: nothing was signed about them"
                ),
            );
        } else if self.keys.is_empty() {
            let what = "who signed its checkpoints: no verifier key is known";
            notes.leave_out(None, format!("partition {partition}: {what}"));
        }
    }

    /// Goes all the way.
    async fn in_order(&mut self, notes: &mut Notes, teller: &mut Teller) -> Result<(), CheckError> {
        let end = self.ground.end();
        let mut from = 1;
        while from <= end {
            let page = self.read(from).await?;
            if page.rows.is_empty() && page.tiles.is_empty() {
                from = self.skip(&page, notes).await?;
            } else {
                self.take(&page, notes);
                from = page.to + 1;
            }
            let done = i64::try_from(page.rows.len()).unwrap_or_default();
            teller.tell(notes.take(), done).await;
        }
        self.look_behind(notes).await?;
        notes.end_runs(i64::MAX);
        self.order.conclude(notes);
        if let Some(position) = self.tree.lost {
            let partition = self.partition;
            let what = "a record is missing, and no tile has its hash: no tile and no checkpoint";
            let what = format!("partition {partition}, from position {position} on: {what}");
            notes.leave_out(Some(position), what);
        }
        let (head, last) = (self.ground.head.unwrap_or_default(), self.order.last());
        if head.0 == self.ground.last && head.1 != last {
            let what = "the head's instant is not the last record's";
            notes.find(head.0, Kind::Position, None, what);
        }
        teller.tell(notes.take(), 0).await;
        Ok(())
    }

    async fn read(&self, from: i64) -> Result<Page, sqlx::Error> {
        let partition = self.partition;
        let mut tx = self.pool.begin_snapshot().await?;
        // A page ends where tiles end, or at the end.
        let full = (from - 1).saturating_add(PAGE) / PAGE * PAGE;
        let to = full.min(self.ground.end());
        let page = Page {
            from,
            to,
            rows: read::records(&mut tx, partition, from, to).await?,
            tiles: read::tiles(&mut tx, partition, from, to).await?,
            checkpoints: read::checkpoints(&mut tx, partition, from, to).await?,
            projected: projection::position(&mut tx, partition).await?,
            applications: projection::applications(&mut tx, partition, from, to)
                .await?
                .into_iter()
                .collect(),
        };
        tx.commit().await?;
        Ok(page)
    }

    /// Passes over positions that have neither record nor hash; where the next page begins.
    async fn skip(&mut self, page: &Page, notes: &mut Notes) -> Result<i64, sqlx::Error> {
        let end = self.ground.end();
        let mut connection = self.pool.acquire().await?;
        let next = read::next_position(&mut connection, self.partition, page.to + 1).await?;
        let next = next.filter(|next| *next <= end).unwrap_or(end.saturating_add(1));
        // Where that page begins, or the end.
        let from = if next > end { next } else { (next - 1) / PAGE * PAGE + 1 };
        missing((page.from, from - 1), notes);
        self.tree.lose(page.from);
        Ok(from)
    }

    /// Takes the positions of a page.
    fn take(&mut self, page: &Page, notes: &mut Notes) {
        let mut rows = page.rows.iter().peekable();
        let mut checkpoints = page.checkpoints.iter().peekable();
        let mut applications = page.applications.clone();
        for position in page.from..=page.to {
            let mut leaf: Option<Hash> = None;
            while let Some(row) = rows.next_if(|row| row.position == position) {
                if leaf.is_some() {
                    let what = "another record stands at the same position";
                    notes.find(position, Kind::Position, row.person(), what);
                    continue;
                }
                leaf = Some(leaf_hash(row.record.as_bytes()));
                let record = self.order.take(row, notes);
                let ours = record.as_ref().and_then(|record| application(&record.event));
                let theirs = applications.remove(&position);
                // Of a record that does not read, nothing is known here.
                if position <= page.projected && record.is_some() && ours != theirs {
                    let what = "the projection has the decision about an application otherwise";
                    notes.find(position, Kind::Projection, row.person(), what);
                }
            }
            if leaf.is_none() {
                missing((position, position), notes);
            }
            self.tree.push(position, leaf, &page.tiles, notes);
            // First what the table's owner cannot have changed: where one of these agrees, the
            // table's own of the same size is found here, and not somewhere before.
            for signed in self.kept.remove(&position).iter().flatten() {
                self.tree.hold(signed, notes);
            }
            while let Some((_, note)) = checkpoints.next_if(|(size, _)| *size == position) {
                self.hold(position, note, notes);
            }
            notes.end_runs(position);
        }
        for position in applications.into_keys() {
            let what = "the projection has a decision about an application that is not on record";
            notes.find(position, Kind::Projection, None, what);
        }
    }

    /// Holds a checkpoint of the table against the records up to where it stands.
    fn hold(&mut self, position: i64, note: &str, notes: &mut Notes) {
        let what = match Signed::read(note, self.keys, Keeper::Table) {
            Ok(signed) if signed.size == position => {
                self.tree.hold(&signed, notes);
                return;
            }
            Ok(signed) => format!("it is of {} records", signed.size),
            Err(error) => error.to_string(),
        };
        let what = format!("in the place of the checkpoint of {position} records: {what}");
        notes.find(position, Kind::Checkpoint, None, what);
    }

    /// What the projection has beyond where it stands.
    async fn look_behind(&self, notes: &mut Notes) -> Result<(), sqlx::Error> {
        let mut tx = self.pool.begin_snapshot().await?;
        let served = projection::served(&mut tx, self.partition).await?;
        let at = served.unwrap_or_default().max(self.ground.end());
        let from = at.saturating_add(1);
        let behind = projection::applications(&mut tx, self.partition, from, i64::MAX).await?;
        tx.commit().await?;
        if served.is_none() {
            notes.find(0, Kind::Projection, None, "no generation of the projection is served");
        }
        for (position, _) in behind {
            let what = "the projection has a decision about an application that is not on record";
            notes.find(position, Kind::Projection, None, what);
        }
        Ok(())
    }
}

/// A checkpoint that is about more records than there are.
fn beyond(signed: &Signed, end: i64, notes: &mut Notes) {
    let name = signed.name();
    let what =
        format!("{name} is about records that are missing: the history ends before this one");
    notes.find(end.saturating_add(1), Kind::Checkpoint, None, what);
}

fn missing(positions: (i64, i64), notes: &mut Notes) {
    notes.find_run(positions, Kind::Position, None, "there is no record");
}
