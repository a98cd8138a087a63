//! What is read of the ledger's own tables. Every query is of one page at most, and reads a range
//! of a key.

use frikort_event_store::{ConnectionPool, PARTITION_STREAM};
use frikort_proof::HASH_BYTES;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    order::Row,
    tree::{Stored, Tiles, WIDTH, span},
};

/// Tile levels that a log of any length has.
const LEVELS: i16 = 8;

/// A partition as it is when its check begins: seen at one moment.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The head's position and instant; `None` where its row is gone.
    pub(crate) head: Option<(i64, Option<OffsetDateTime>)>,
    /// The last position of the event table; 0 for none.
    pub(crate) last: i64,
    /// Up to which position it was signed, of those that are there; 0 where it was not.
    pub(crate) signed: i64,
    /// The last checkpoint of more records than there are.
    pub(crate) beyond: Option<(i64, String)>,
    /// A full tile of more records than there are: level and number.
    pub(crate) tile_beyond: Option<(u32, u64)>,
}

impl Ground {
    /// The last position that is there, or that the head says is.
    pub(crate) fn end(&self) -> i64 {
        self.head.map_or(0, |(position, _)| position).max(self.last)
    }
}

/// Every partition of which there is a head or a projection, ascending.
pub(crate) async fn partitions(pool: &ConnectionPool) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT partition AS "partition!" FROM ledger.partition_head
           UNION SELECT partition FROM projection.checkpoint WHERE state = 'serving'
           ORDER BY 1"#
    )
    .fetch_all(&mut *pool.acquire().await?)
    .await
}

/// How a partition stands.
pub(crate) async fn ground(pool: &ConnectionPool, partition: i32) -> Result<Ground, sqlx::Error> {
    let mut tx = pool.begin_snapshot().await?;
    let head = sqlx::query!(
        "SELECT position, recorded_at FROM ledger.partition_head WHERE partition = $1",
        partition
    )
    .fetch_optional(&mut *tx)
    .await?;
    let head = head.map(|row| (row.position, row.recorded_at));
    let last = sqlx::query_scalar!(
        r#"SELECT coalesce(max(position), 0) AS "last!" FROM ledger.event WHERE partition = $1"#,
        partition
    )
    .fetch_one(&mut *tx)
    .await?;
    let end = head.map_or(0, |(position, _)| position).max(last);
    let signed = sqlx::query!(
        "SELECT position FROM ledger.checkpoint WHERE partition = $1 AND position <= $2
         ORDER BY position DESC LIMIT 1",
        partition,
        end
    )
    .fetch_optional(&mut *tx)
    .await?;
    let beyond = sqlx::query!(
        "SELECT position, note FROM ledger.checkpoint WHERE partition = $1 AND position > $2
         ORDER BY position DESC LIMIT 1",
        partition,
        end
    )
    .fetch_optional(&mut *tx)
    .await?;
    let levels: Vec<i16> = (0..LEVELS).collect();
    let bounds: Vec<i64> = (0_u32..).zip(&levels).map(|(level, _)| end / span(level)).collect();
    let tile_beyond = sqlx::query!(
        r#"SELECT level AS "level!", number AS "number!"
           FROM unnest($2::smallint[], $3::bigint[]) AS bound (of_level, first),
                LATERAL (SELECT level, number FROM ledger.tile
                         WHERE partition = $1 AND level = of_level AND number >= first
                         ORDER BY number LIMIT 1) AS tile
           ORDER BY level LIMIT 1"#,
        partition,
        &levels,
        &bounds
    )
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Ground {
        head,
        last,
        signed: signed.map_or(0, |row| row.position),
        beyond: beyond.map(|row| (row.position, row.note)),
        tile_beyond: tile_beyond
            .map(|row| (u32::try_from(row.level).unwrap_or_default(), row.number.unsigned_abs())),
    })
}

/// The records at positions `from` to `to`.
pub(crate) async fn records(
    connection: &mut PgConnection,
    partition: i32,
    from: i64,
    to: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        "SELECT position, person_id, version, recorded_at, record FROM ledger.event
         WHERE partition = $1 AND position >= $2 AND position <= $3 ORDER BY position",
        partition,
        from,
        to
    )
    .fetch_all(connection)
    .await
}

/// The first position from `from` on that has a record.
pub(crate) async fn next_position(
    connection: &mut PgConnection,
    partition: i32,
    from: i64,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT min(position) FROM ledger.event WHERE partition = $1 AND position >= $2",
        partition,
        from
    )
    .fetch_one(connection)
    .await
}

/// The tiles that a page of positions fills, as they are stored. The page begins where a tile of
/// leaf hashes begins.
pub(crate) async fn tiles(
    connection: &mut PgConnection,
    partition: i32,
    from: i64,
    to: i64,
) -> Result<Tiles, sqlx::Error> {
    let (mut levels, mut firsts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (level, stored) in (0_u32..).zip(0..LEVELS) {
        levels.push(stored);
        firsts.push((from - 1) / span(level));
        // Of leaf hashes also the tile that the page ends within: its hashes may be asked for.
        ends.push(if level == 0 { (to - 1) / WIDTH } else { to / span(level) - 1 });
    }
    let rows = sqlx::query!(
        r#"SELECT level AS "level!", number AS "number!", root AS "root!", hashes AS "hashes!"
           FROM unnest($2::smallint[], $3::bigint[], $4::bigint[]) AS page (of_level, first, last),
                LATERAL (SELECT level, number, root, hashes FROM ledger.tile
                         WHERE partition = $1 AND level = of_level
                           AND number >= first AND number <= last) AS tile"#,
        partition,
        &levels,
        &firsts,
        &ends
    )
    .fetch_all(connection)
    .await?;
    let stored = rows.into_iter().map(|row| {
        let (hashes, rest) = row.hashes.as_chunks::<HASH_BYTES>();
        let whole = rest.is_empty() && i64::try_from(hashes.len()) == Ok(WIDTH);
        let hashes = whole.then(|| hashes.to_vec());
        let key = (u32::try_from(row.level).unwrap_or_default(), row.number.unsigned_abs());
        (key, Stored { root: row.root, hashes })
    });
    Ok(stored.collect())
}

/// The checkpoints of `from` to `to` records: position and note.
pub(crate) async fn checkpoints(
    connection: &mut PgConnection,
    partition: i32,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT position, note FROM ledger.checkpoint
         WHERE partition = $1 AND position >= $2 AND position <= $3 ORDER BY position",
        partition,
        from,
        to
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.position, row.note)).collect())
}

/// Up to `limit` records after a version of a stream, stream by stream in order of version, of
/// persons alone and up to position `until`.
pub(crate) async fn streams(
    connection: &mut PgConnection,
    partition: i32,
    after: (Uuid, i64),
    until: i64,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        "SELECT position, person_id, version, recorded_at, record FROM ledger.event
         WHERE partition = $1 AND (person_id, version) > ($2, $3) AND position <= $4
         ORDER BY person_id, version LIMIT $5",
        partition,
        after.0,
        after.1,
        until,
        limit
    )
    .fetch_all(connection)
    .await
}

/// The records of the partition itself after a version.
pub(crate) async fn of_partition(
    connection: &mut PgConnection,
    partition: i32,
    after: i64,
    until: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        "SELECT position, person_id, version, recorded_at, record FROM ledger.event
         WHERE partition = $1 AND person_id = $2 AND version > $3 AND position <= $4
         ORDER BY version",
        partition,
        PARTITION_STREAM,
        after,
        until
    )
    .fetch_all(connection)
    .await
}

/// The last position of a partition, by its head and by its records, whichever is higher.
pub(crate) async fn last_position(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT greatest(
               (SELECT position FROM ledger.partition_head WHERE partition = $1),
               (SELECT max(position) FROM ledger.event WHERE partition = $1), 0) AS "last!""#,
        partition
    )
    .fetch_one(connection)
    .await
}
