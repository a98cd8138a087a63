//! Replays the whole history, as an auditor would: every event is decided anew from its data, and
//! every person's years are held against what the projector answers. What must stay out: the projector's own fold; the accounts here are
//! made by the domain from the records alone.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, ensure};
use frikort_domain::{Account, Amount, Event, LimitSchedule, PersonId, Record, redecide};
use frikort_proto::v1::{Allowance, BatchGetAllowancesRequest, EventRecord, ReadEventsRequest};
use tokio::time::Instant;

use crate::{allowance, client::Service, events::Events, output, wire};

/// Persons in one question.
const CHUNK: usize = 1000;

/// What the history says of one person's year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Year {
    person: PersonId,
    total: Amount,
    exempt: Amount,
    payments: u32,
}

/// Replays and compares; an error when anything differs.
pub(super) async fn check(ledger: &Service, projector: &Service) -> anyhow::Result<()> {
    output::line(
        "\n4. Replay: every event from the first on, decided anew, against the projector",
    )?;
    let start = Instant::now();
    let mut history = History::default();
    let mut events = Events::read(ledger, ReadEventsRequest::default()).await?;
    while let Some(event) = events.next_event().await? {
        history.take(&event)?;
    }
    let mut compared = 0;
    for (year, persons) in history.years() {
        for chunk in persons.chunks(CHUNK) {
            compare(projector, year, chunk).await?;
            compared += chunk.len();
        }
    }
    output::line(&format!(
        "{} events of {} persons decided anew as they were recorded, in {} ms; all {compared} \
         yearly totals equal the projector's.",
        history.events,
        history.accounts.len(),
        start.elapsed().as_millis()
    ))?;
    Ok(())
}

/// The history so far.
#[derive(Default)]
struct History {
    accounts: HashMap<PersonId, Account>,
    /// The limits on record in each partition.
    limits: HashMap<i32, LimitSchedule>,
    /// The last position of each partition.
    heads: HashMap<i32, i64>,
    events: u64,
}

impl History {
    fn take(&mut self, event: &EventRecord) -> anyhow::Result<()> {
        let (partition, position) = (event.partition, event.position);
        let place = || format!("partition {partition}, position {position}");
        let line = std::str::from_utf8(&event.record).with_context(place)?;
        let record = Record::decode(line).with_context(place)?;
        let head = self.heads.entry(partition).or_default();
        ensure!(record.position == position && position == *head + 1, "a gap at {}", place());
        *head = position;
        self.events += 1;
        if let Some(person) = record.person_id {
            let account = self.accounts.entry(person).or_default();
            let limits = self.limits.entry(partition).or_default();
            redecide(account, limits, &record).with_context(place)?;
            account
                .apply(&record.event, record.version, position, record.recorded_at)
                .with_context(place)?;
        } else if let Event::AnnualLimitSet(entry) = record.event {
            self.limits.entry(partition).or_default().set(entry);
        }
        Ok(())
    }

    /// Every year in which a person has a payment, cancelled ones included.
    fn years(&self) -> BTreeMap<i32, Vec<Year>> {
        let mut years: BTreeMap<i32, Vec<Year>> = BTreeMap::new();
        for (&person, account) in &self.accounts {
            let mut exempt: BTreeMap<i32, Amount> = BTreeMap::new();
            for (_, payment) in account.payments() {
                let sum = exempt.entry(payment.year).or_default();
                *sum = *sum + payment.exempt;
            }
            for (year, exempt) in exempt {
                let (total, payments) = account.year_total(year);
                years.entry(year).or_default().push(Year { person, total, exempt, payments });
            }
        }
        years
    }
}

async fn compare(projector: &Service, year: i32, expected: &[Year]) -> anyhow::Result<()> {
    let persons = expected.iter().map(|e| wire::by_id(e.person.to_string())).collect();
    let request =
        BatchGetAllowancesRequest { persons, year, ..BatchGetAllowancesRequest::default() };
    let answers: HashMap<usize, Allowance> =
        allowance::batch(projector, request).await?.into_iter().collect();
    for (index, expected) in expected.iter().enumerate() {
        let person = expected.person;
        let answer = answers
            .get(&index)
            .with_context(|| format!("the projector does not know person {person}"))?;
        let answered = (answer.total_oere, answer.used_oere, answer.payment_count);
        let payments = i32::try_from(expected.payments)?;
        let replayed = (expected.total.oere(), expected.exempt.oere(), payments);
        ensure!(
            answered == replayed,
            "person {person}, {year}: the history gives (total, exempt, payments) {replayed:?}, \
             the projector {answered:?}"
        );
    }
    Ok(())
}
