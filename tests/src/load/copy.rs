//! The ceiling of a stream: binary COPY of the same bytes into a table of the same shape with the
//! same two keys, from this process, in transactions of some thousand rows.

use std::time::Duration;

use anyhow::ensure;
use futures::TryStreamExt;
use tokio::time::Instant;

use super::{bench::Bench, cpu::Cpu, figures::say};

/// Rows in one transaction.
const ROWS: i64 = 5_000;

/// Copies the events after `from` once more, and answers how many a second. Only the writing is
/// timed.
pub(super) async fn again(bench: &Bench<'_>, from: &[(i32, i64)]) -> anyhow::Result<f64> {
    let mut connection = bench.pool.acquire().await?;
    let heads = bench.heads().await?;
    let before = Cpu::now(&bench.stack.pids());
    let (mut copied, mut elapsed) = (0_u64, Duration::ZERO);
    for ((partition, mut position), (_, head)) in from.iter().copied().zip(heads) {
        while position < head {
            let until = head.min(position + ROWS);
            let read = format!(
                "COPY (SELECT * FROM ledger.event WHERE partition = {partition}
                 AND position > {position} AND position <= {until} ORDER BY position)
                 TO STDOUT (FORMAT binary)"
            );
            let rows = connection.copy_out_raw(&read).await?;
            let rows = rows
                .try_fold(Vec::new(), async |mut rows, bytes| {
                    rows.extend_from_slice(&bytes);
                    Ok(rows)
                })
                .await?;
            let begun = Instant::now();
            let write = "COPY load_baseline.copied FROM STDIN (FORMAT binary)";
            let mut copying = connection.copy_in_raw(write).await?;
            copying.send(rows).await?;
            copied += copying.finish().await?;
            elapsed += begun.elapsed();
            position = until;
        }
    }
    ensure!(copied > 0, "there was nothing to copy");
    let cpu = Cpu::now(&bench.stack.pids()).since(&before, usize::try_from(copied)?).text;
    let rate = copied as f64 / elapsed.as_secs_f64();
    say(&format!("  COPY of the same rows: {rate:.0}/s; reading them back included, {cpu}"))?;
    Ok(rate)
}
