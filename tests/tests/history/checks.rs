//! What must hold after the database went back: nothing false, writing stopped, the acceptance, the
//! repeats, and an audit of everything at the end.

use std::{collections::BTreeMap, fs};

use frikort_tests::{
    audit::{assert_projection_is_the_fold, assert_sound},
    history::{Answer, Claim, Histories, Planned, audit_everything, eventually, judge, settled},
    process::signing_key,
};

use futures::{StreamExt, stream};

use crate::ground::{Ground, PARTITIONS};

/// The reason that an operator gives.
pub(crate) const REASON: &str = "restored the backup of the night";

/// First and last position, by partition.
pub(crate) type Ranges = BTreeMap<i32, (i64, i64)>;

impl Ground {
    /// Fails where an answer so far is false. The streams are judged when they have ended.
    pub(crate) async fn assert_no_false_answer(&self) {
        let answers = self.journal.all();
        let histories = self.site.histories().await.unwrap();
        assert_none_false(&answers, &histories);
    }

    /// Writing is refused by each ledger with HISTORY_CHANGED, health says so, and so does the log,
    /// with how much of which partition is lost.
    pub(crate) async fn assert_writing_has_stopped(&self, lost: &BTreeMap<i32, (i64, i64)>) {
        let epoch = self.site.epoch.now();
        for (number, ledger) in self.services.ledgers.iter().enumerate() {
            let name = format!("ledger {number}");
            eventually(&format!("{name} refuses to write"), async || {
                Ok(self.journal.count(|answer| {
                    answer.service == name
                        && answer.method.starts_with("ReportPayment")
                        && answer.is_within(epoch)
                        && answer.is_refused_with("HISTORY_CHANGED")
                }) > 0)
            })
            .await
            .unwrap();
            eventually("health is NOT_SERVING", async || Ok(!ledger.is_serving().await))
                .await
                .unwrap();
        }
        for (partition, lost) in lost {
            eventually(&format!("{lost:?} of partition {partition} in a log"), async || {
                let logs = self.services.ledgers.iter().map(|ledger| ledger.logged().unwrap());
                Ok(logs.into_iter().any(|log| !lost_in_log(&log, *partition, *lost).is_empty()))
            })
            .await
            .unwrap();
        }
    }

    /// An operator accepts the loss, and each ledger writes again without a restart. The old
    /// checkpoints are kept.
    ///
    /// Gives the range that is named of each partition.
    pub(crate) async fn accept(&self, lost: &BTreeMap<i32, (i64, i64)>) -> Ranges {
        let mut ranges = Ranges::new();
        for (partition, lost) in lost {
            let accepted = self.site.accept_history(*partition, REASON).unwrap();
            assert_eq!(accepted.code, 0, "{}", accepted.text);
            let named = range_in(&accepted.text);
            let named = named.unwrap_or_else(|| panic!("no range is named: {}", accepted.text));
            let acknowledged = self.last_acknowledged(*partition, self.site.epoch.now() - 1);
            let is_all = is_of(named, *lost) && named.1 >= acknowledged;
            assert!(is_all, "{named:?} is named, {lost:?} is lost, {acknowledged} acknowledged");
            ranges.insert(*partition, named);
        }
        self.until_recorded("after the acceptance").await;
        for ledger in &self.services.ledgers {
            eventually("health is SERVING", async || Ok(ledger.is_serving().await)).await.unwrap();
        }
        for partition in lost.keys() {
            eventually("the old checkpoint is kept beside the new one", async || {
                let name = signing_key(self.site.dir());
                let name = format!("{}.partition-{partition}", name.display());
                let mut kept = 0;
                for entry in fs::read_dir(self.site.dir())? {
                    let path = entry?.path();
                    let is_checkpoint = fs::read_to_string(&path)
                        .is_ok_and(|text| text.contains("local/frikort/partition"));
                    kept +=
                        usize::from(path.display().to_string().starts_with(&name) && is_checkpoint);
                }
                Ok(kept >= 2)
            })
            .await
            .unwrap();
        }
        ranges
    }

    /// The last position of a partition at which a payment was acknowledged in an epoch.
    fn last_acknowledged(&self, partition: i32, epoch: usize) -> i64 {
        let position = |answer: &Answer| match &answer.claim {
            Claim::Reported(told) if answer.answered == epoch => told.1.position,
            _ => None,
        };
        let all = self.journal.all();
        let of_partition = all.iter().filter_map(position).filter(|at| at.partition == partition);
        of_partition.map(|at| at.position).max().unwrap_or_default()
    }

    /// Every payment that was lost is recorded anew by its repeat, at a new position, and replayed
    /// by the next repeat through the other ledger.
    pub(crate) async fn repeat(&self, lost: &[Planned]) {
        assert!(!lost.is_empty(), "no payment was lost, so the test shows nothing");
        let present = self.site.history().await.unwrap();
        let repeats = lost.iter().map(|planned| {
            let present = &present;
            async move {
                let one = settled(async || self.callers[0].report(planned).await).await.unwrap();
                let two = settled(async || self.callers[1].report(planned).await).await.unwrap();
                let (at, again) = (one.position.unwrap(), two.position.unwrap());
                // The load may have repeated it a moment ago.
                assert!(at.position > present.head(at.partition) || one.replayed, "{planned:?}");
                assert!(two.replayed && at == again, "{planned:?}: {at:?}, then {again:?}");
            }
        });
        stream::iter(repeats).buffer_unordered(8).collect::<()>().await;
    }

    /// Ends the load; then everything is consistent, for whoever checks it, and no answer was false.
    pub(crate) async fn finish(mut self, accepted: &Ranges) {
        let epoch = self.site.epoch.now();
        self.until_answered_often().await;
        let answered = self.journal.count(|answer| {
            answer.is_within(epoch) && answer.service.starts_with("proj") && answer.is_claim()
        });
        assert!(answered > 0, "no projector has answered anything since");
        eventually("every stream goes on", async || Ok(self.streams.are_told_in(epoch)))
            .await
            .unwrap();
        self.end_load().await;
        self.until_at_rest().await;
        self.until_signed().await;
        self.streams.end().await;
        self.assert_no_false_answer().await;
        let pool = self.site.database.pool().await.unwrap();
        assert_sound(&pool).await;
        assert_projection_is_the_fold(&pool).await;
        pool.close().await;
        let to = self.site.dir().join("export");
        let report = audit_everything(&self.services, self.site.dir(), PARTITIONS, &to).unwrap();
        for (name, command) in report.all() {
            assert_eq!(command.code, 0, "audit {name}: {}", command.text);
        }
        for (first, last) in accepted.values() {
            let text = &report.check.text;
            let is_named = [&first.to_string(), &last.to_string(), REASON];
            let is_named = is_named.iter().all(|part| text.contains(*part));
            assert!(is_named, "positions {first} to {last} are not named: {text}");
        }
        self.services.stop().await.unwrap();
        self.failing = false;
    }
}

/// How much more than what is lost may be named as lost: a ledger keeps the hashes of some events,
/// not of all.
const IMPRECISION: i64 = 64;

/// Whether a range of positions (first and last) is named that begins where `lost` (first position and
/// number of events) does, or a little before, and names no position that never was.
fn is_of((first, last): (i64, i64), lost: (i64, i64)) -> bool {
    (lost.0 - IMPRECISION..=lost.0).contains(&first) && (lost.0..lost.0 + lost.1).contains(&last)
}

/// The range of positions in a text: `positions 4 to 7`.
fn range_in(text: &str) -> Option<(i64, i64)> {
    let mut words = text.split_once(" positions ")?.1.split_whitespace();
    let first = words.next()?.parse().ok()?;
    Some((first, words.nth(1)?.parse().ok()?))
}

/// What a log says is lost of a partition, first position and last, where `lost` is lost.
pub(crate) fn lost_in_log(log: &str, partition: i32, lost: (i64, i64)) -> Vec<(i64, i64)> {
    let told = log.lines().filter(|line| line.contains("ERROR")).filter_map(|line| {
        let is_of = number_in(line, "partition") == Some(partition.into());
        let first = number_in(line, "first_lost_position").filter(|_| is_of)?;
        Some((first, first + number_in(line, "lost_events")? - 1))
    });
    told.filter(|named| is_of(*named, lost)).collect()
}

/// The number behind `name=` in a line of a log.
fn number_in(line: &str, name: &str) -> Option<i64> {
    let of = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    of?.parse().ok()
}

/// Fails where an answer is false, and prints what kinds of answers there were.
#[expect(clippy::print_stdout, reason = "whoever sees the test fail needs it")]
pub(crate) fn assert_none_false(answers: &[Answer], histories: &Histories) {
    let found = judge(answers, histories);
    let mut kinds: BTreeMap<(&str, usize, String), usize> = BTreeMap::new();
    for answer in answers {
        let what = match &answer.claim {
            Claim::Refused { reason, .. } => reason.clone(),
            _ => "answered".to_owned(),
        };
        *kinds.entry((answer.method, answer.answered, what)).or_default() += 1;
    }
    for ((method, epoch, what), count) in kinds {
        println!("{count:>6}  epoch {epoch}  {method}: {what}");
    }
    let shown: Vec<String> = found.iter().take(12).map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} false answers:\n{}", found.len(), shown.join("\n"));
}
