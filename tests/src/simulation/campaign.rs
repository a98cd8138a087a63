//! List after list for as long as asked; the first difference is shrunk, kept, and ends it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::bail;

use super::{Counts, Difference, generate, list::List, run, shrink};

/// Lists that are tried to make a failing one smaller.
const TRIES: usize = 60;

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The seed of the first list; the next ones count on.
    pub seed: u64,
    /// No list is begun after so long.
    pub length: Duration,
    /// Operations of each list.
    pub operations: usize,
}

/// Where lists are kept that have failed once.
pub fn regressions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")
}

/// Runs list after list, and tells of each. Gives what was done, and how many lists that were.
pub async fn simulate(campaign: Campaign, tell: impl Fn(&str)) -> anyhow::Result<(Counts, usize)> {
    let begun = Instant::now();
    let mut sum = Counts::default();
    let mut lists = 0;
    for seed in campaign.seed.. {
        let list = generate(seed, campaign.operations);
        let counts = match run(&list, None).await {
            Ok(counts) => counts,
            Err(error) => return Err(kept(&list, error, &tell).await),
        };
        sum += counts;
        lists += 1;
        tell(&format!(
            "{:>5} s  seed {seed}: {} ledgers, {} partitions; so far {} operations, {} answers ({} of \
             the past), {} events, {} restarts, {} calls sent again",
            begun.elapsed().as_secs(),
            list.ledgers,
            list.partitions,
            sum.operations,
            sum.answers,
            sum.past,
            sum.events,
            sum.restarts,
            sum.lost
        ));
        if begun.elapsed() >= campaign.length {
            break;
        }
    }
    Ok((sum, lists))
}

/// Shrinks a list that failed, and keeps it.
async fn kept(list: &List, error: anyhow::Error, tell: &impl Fn(&str)) -> anyhow::Error {
    let seed = list.seed;
    let difference = match error.downcast::<Difference>() {
        Ok(difference) => difference,
        Err(error) => return error.context(format!("seed {seed}")),
    };
    tell(&format!("seed {seed}: {difference}\nshrinking…"));
    let fails = async |list: &List| run(list, None).await.err()?.downcast::<Difference>().ok();
    let small = shrink(list, difference, TRIES, fails).await;
    let path = regressions().join(format!("seed-{seed}.json"));
    let result: anyhow::Result<()> = (|| {
        small.write(&path)?;
        bail!("{}\n{} operations kept in {}", small.difference, small.ops.len(), path.display())
    })();
    result.err().unwrap_or_else(|| anyhow::anyhow!("seed {seed}"))
}
