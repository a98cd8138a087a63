//! `frikort audit totals`: the whole history replayed, and the projector's totals held against it.
//!
//! Both are asked over the public contract, at one position of each partition. While the ledger
//! takes payments the projector may answer later than the replay stands: then the replay goes on,
//! and only what differed is asked again. What must stay out: the projector's own fold.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use frikort_domain::{PersonId, copenhagen_date};
use frikort_process::clock::Clock;
use frikort_proto::v1::{Allowance, BatchGetAllowancesRequest, EventRecord, ReadEventsRequest};
use serde::Serialize;
use time::Date;

use super::{
    Contradicted, Verdict,
    history::{self, Order, Persons},
};
use crate::{
    Ending, allowance,
    client::Service,
    events::{self, Events},
    output,
    profile::Us,
    progress::Progress,
    wire,
};

const AFTER: &str = "\
Every record is held against those before it and decided anew, as `frikort audit verify` does it,
but read from the ledger. Then the projector is asked for every holder of a card and every year that
has a limit: limit, total, exempt part and number of payments must be what the replay gives.

--json prints one object with
  verdict        verified, contradiction or incomplete
  records        replayed and decided anew
  persons        with a record
  compared       years of persons held against the projector
  differing      of each: person_id, year, and limit_oere, total_oere, used_oere, payments as
                 replayed and as answered (null: the projector does not know the person);
                 at most 100
  positions      of each partition as of which it was compared
Members are only ever added. A record that contradicts the history ends it at once, named on stderr.

Exit codes: 0 all are equal; 1 a record contradicts the history, or a total differs; 2 it could not
be finished, or the ledger was too busy to be met at one position.

Memory: about 0,5 kB a payment, persons included.";

/// Persons in one question.
const CHUNK: usize = 1000;

/// How often what differs is asked again while the ledger goes on.
const ROUNDS: u32 = 8;

/// Differences that are listed.
const MOST_DIFFERING: usize = 100;

/// Options of `frikort audit totals`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
    #[command(flatten)]
    projector: crate::cli::ProjectorAddress,
}

/// What came of a comparison; the names are those of `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    verdict: Verdict,
    pub(crate) records: u64,
    pub(crate) persons: usize,
    pub(crate) compared: usize,
    differing: Vec<Differing>,
    positions: BTreeMap<i32, i64>,
}

/// One person's year at both places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Differing {
    person_id: PersonId,
    year: i32,
    replayed: Totals,
    answered: Option<Totals>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Totals {
    limit_oere: i64,
    total_oere: i64,
    used_oere: i64,
    payments: i64,
}

impl From<&Allowance> for Totals {
    fn from(a: &Allowance) -> Self {
        Self {
            limit_oere: a.limit_oere,
            total_oere: a.total_oere,
            used_oere: a.used_oere,
            payments: a.payment_count.into(),
        }
    }
}

pub(super) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let (ledger, projector) = (args.ledger.service(us)?, args.projector.service(us)?);
    let compared = compare(&ledger, &projector).await?;
    if args.json {
        output::line(&serde_json::to_string_pretty(&compared)?)?;
    } else {
        output::line(&compared.told())?;
    }
    Ok(compared.verdict.ending())
}

impl Compared {
    /// Fails unless everything is equal.
    pub(crate) fn verified(self) -> anyhow::Result<Self> {
        match self.verdict {
            Verdict::Verified => Ok(self),
            Verdict::Contradiction | Verdict::Incomplete => anyhow::bail!("{}", self.told()),
        }
    }

    fn told(&self) -> String {
        let Self { records, persons, compared, differing, .. } = self;
        let mut told = format!(
            "{records} records of {persons} persons decided anew as they were recorded; {compared} \
             yearly totals held against the projector's"
        );
        for Differing { person_id, year, replayed, answered } in differing {
            told += &format!(
                "\n  person {person_id}, {year}: replayed {replayed:?}, answered {answered:?}"
            );
        }
        told + match self.verdict {
            Verdict::Verified => ": all are equal.",
            Verdict::Contradiction => "\nCONTRADICTION.",
            Verdict::Incomplete => {
                "\nINCOMPLETE: the ledger went on all the time, and these were not met at one \
                 position."
            }
        }
    }
}

/// Replays all there is, and compares.
pub(crate) async fn compare(ledger: &Service, projector: &Service) -> anyhow::Result<Compared> {
    let mut history = History::default();
    let wanted: i64 = events::heads(ledger, None).await?.values().sum();
    let mut progress = Progress::new("replay", wanted.unsigned_abs());
    replay(ledger, &mut history, &mut progress).await?;
    progress.finish();
    let today = copenhagen_date(Clock::system().now());
    let mut compared = 0;
    let mut asked = questions(&history, today);
    let mut verdict = Verdict::Incomplete;
    let mut differing = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            replay(ledger, &mut history, &mut progress).await?;
        }
        let (mut again, mut settled) = (Vec::new(), true);
        differing.clear();
        for question in asked {
            let answer = question.ask(projector, &history, today).await?;
            if round == 0 {
                compared += question.persons.len();
            }
            settled &= answer.at_head || answer.differing.is_empty();
            if !answer.differing.is_empty() {
                let persons = answer.differing.iter().map(|d| d.person_id).collect();
                again.push(Question { persons, ..question });
                differing.extend(answer.differing);
            }
        }
        asked = again;
        if differing.is_empty() || settled {
            let none = differing.is_empty();
            verdict = if none { Verdict::Verified } else { Verdict::Contradiction };
            break;
        }
    }
    differing.truncate(MOST_DIFFERING);
    Ok(Compared {
        verdict,
        records: history.records(),
        persons: history.persons.len(),
        compared,
        differing,
        positions: history.order.partitions.iter().map(|(&n, p)| (n, p.head)).collect(),
    })
}

/// The whole history, replayed.
#[derive(Default)]
struct History {
    order: Order,
    persons: Persons,
}

impl History {
    fn records(&self) -> u64 {
        let mut counts = self.order.counts;
        counts += self.persons.counts;
        counts.records()
    }

    fn head(&self, partition: i32) -> i64 {
        self.order.partitions.get(&partition).map_or(0, |partition| partition.head)
    }

    /// Takes the next record; anything that contradicts the history is an error.
    fn take(&mut self, event: &EventRecord) -> anyhow::Result<()> {
        let at = || format!("partition {}, position {}", event.partition, event.position);
        let record = match history::read(&event.record) {
            Ok(record) => record,
            Err(unread) if unread.unknown => bail!("{}: {}", at(), unread.what),
            Err(unread) => {
                return Err(Contradicted(format!("{}: {}", at(), unread.what)).into());
            }
        };
        if (record.partition, record.position) != (event.partition, event.position) {
            return Err(Contradicted(format!("{}: the record names another place", at())).into());
        }
        let mut faults = history::form(&event.record, &record).into_iter().collect::<Vec<_>>();
        faults.extend(self.order.take(&record));
        faults.extend(self.persons.take(&record, self.order.begins(record.partition)));
        match faults.first() {
            Some(fault) => Err(Contradicted(format!("{}: {}", at(), fault.what)).into()),
            None => Ok(()),
        }
    }
}

/// Takes what the ledger has beyond the history.
async fn replay(
    ledger: &Service,
    history: &mut History,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let next = history.order.partitions.values().map(|p| p.head + 1).min().unwrap_or(1);
    let request = ReadEventsRequest { from_position: next, ..ReadEventsRequest::default() };
    let mut events = Events::read(ledger, request).await?;
    while let Some(event) = events.next_event().await? {
        if event.position > history.head(event.partition) {
            history.take(&event)?;
            progress.step(history.records());
        }
    }
    Ok(())
}

/// Up to so many persons of one partition, about one year.
struct Question {
    partition: i32,
    year: i32,
    persons: Vec<PersonId>,
}

/// What was answered.
struct Answer {
    differing: Vec<Differing>,
    /// The projector stood where the replay stands.
    at_head: bool,
}

/// Everybody with a card, and every year with a limit.
fn questions(history: &History, today: Date) -> Vec<Question> {
    let mut questions = Vec::new();
    for &partition in history.order.partitions.keys() {
        let Some(limits) = history.persons.limits(partition) else { continue };
        let mut years: Vec<i32> = limits.entries().iter().map(|entry| entry.year).collect();
        years.dedup();
        years.retain(|&year| limits.limit_on(year, today).is_some());
        let holders = history.persons.accounts().filter_map(|(person, within, account)| {
            (within == partition && account.card().is_some()).then_some(person)
        });
        let mut persons: Vec<PersonId> = holders.collect();
        persons.sort_unstable();
        for chunk in persons.chunks(CHUNK) {
            let of_year = |&year| Question { partition, year, persons: chunk.to_vec() };
            questions.extend(years.iter().map(of_year));
        }
    }
    questions
}

impl Question {
    /// Asks for what the projector has at the replay's position or later.
    async fn ask(
        &self,
        projector: &Service,
        history: &History,
        today: Date,
    ) -> anyhow::Result<Answer> {
        let head = history.head(self.partition);
        let request = BatchGetAllowancesRequest {
            persons: self.persons.iter().map(|id| wire::by_id(id.to_string())).collect(),
            year: self.year,
            min_position: head,
            ..BatchGetAllowancesRequest::default()
        };
        let response = allowance::batch_at(projector, request).await?;
        let at = response.positions.iter().find(|at| at.partition == self.partition);
        let at_head = at.is_some_and(|at| at.position == head);
        let mut answers: BTreeMap<usize, Allowance> = BTreeMap::new();
        for result in response.results {
            if let (Ok(index), Some(allowance)) = (result.index.try_into(), result.allowance) {
                answers.insert(index, allowance);
            }
        }
        let limits = history.persons.limits(self.partition);
        let limit = limits.and_then(|limits| limits.limit_on(self.year, today));
        let limit = limit.context("a year lost its limit")?;
        let mut differing = Vec::new();
        for (index, &person_id) in self.persons.iter().enumerate() {
            let account = history.persons.account(person_id).context("a person is gone")?;
            let (total, payments) = account.year_total(self.year);
            let replayed = Totals {
                limit_oere: limit.oere(),
                total_oere: total.oere(),
                used_oere: limit.min(total).oere(),
                payments: payments.into(),
            };
            let answered = answers.get(&index).map(Totals::from);
            if answered != Some(replayed) {
                differing.push(Differing { person_id, year: self.year, replayed, answered });
            }
        }
        Ok(Answer { differing, at_head })
    }
}
