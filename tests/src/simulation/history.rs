//! What is read of the events themselves: that they are what was answered, and the splits that the
//! ledger moved by itself after a limit had changed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Context;
use frikort_proto::v1::{ReadEventsRequest, SetAnnualLimitRequest, read_events_response};
use futures::TryStreamExt;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::sleep;

use super::{Difference, request::wire_limit, run::Run, wire::unwrapped};
use crate::model::{Command, Decision, Entry, Instant as At, Kind, Limit, Recorded};

/// How long splits may take to follow a limit.
const SETTLED_IN: Duration = Duration::from_secs(60);

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// An event as it is told.
pub(super) struct Event {
    pub(super) partition: i32,
    pub(super) position: i64,
    person_id: String,
    r#type: String,
    pub(super) at: At,
    /// The year of a recalculation.
    year: Option<i32>,
}

impl Run<'_> {
    /// Records a limit, and waits until everybody's splits follow it: one that is replaced before
    /// it has reached a person never touched that person's splits, and how fast that goes is
    /// nothing that the model knows.
    pub(super) async fn set_limit(&mut self, limit: &Limit) -> anyhow::Result<()> {
        let ask = async |via: usize| {
            let limit = Some(wire_limit(limit));
            let request = SetAnnualLimitRequest { limit, validate_only: false };
            self.stack.ledger(via).policies.set_annual_limit(request).await.map(unwrapped)
        };
        let (told, lost) = self.stack.insist(0, ask).await?;
        let mut known = true;
        for (partition, limits) in &mut self.limits {
            let place = told.positions.iter().find(|place| place.partition == *partition);
            let place = place.map_or(0, |place| place.position);
            match limits.place(limit) {
                Some(before) if before != place => {
                    return Err(Difference::of(&before, &told).into());
                }
                Some(_) => {}
                None => {
                    known = false;
                    limits.record(place, limit.clone());
                }
            }
        }
        if told.replayed != known && !lost {
            return Err(Difference::new(format!("a limit: {told:?}")).into());
        }
        self.counts.answers += 1;
        if known { Ok(()) } else { self.settle(limit.year).await }
    }

    /// Waits until the stored splits of a year are those of the limit in force, then takes in what
    /// the ledger recorded for that.
    async fn settle(&mut self, year: i32) -> anyhow::Result<()> {
        let Some(limit) = self.limits[&0].on(year, self.today, i64::MAX) else { return Ok(()) };
        let pool = self.stack.database.pool().await?;
        let deadline = Instant::now() + SETTLED_IN;
        loop {
            let settled: bool = sqlx::query_scalar(
                "SELECT NOT EXISTS (
                     SELECT FROM ledger.partition_head AS h
                     LEFT JOIN projection.checkpoint AS c
                       ON c.partition = h.partition AND c.state = 'serving'
                     WHERE h.position <> coalesce(c.position, 0))
                 AND NOT EXISTS (
                     SELECT FROM projection.annual_total AS t
                     JOIN projection.checkpoint AS c USING (partition, generation)
                     WHERE c.state = 'serving' AND t.year = $1 AND least(t.total, $2::numeric / 100) <> coalesce((
                         SELECT sum(p.exempt) FROM projection.payment AS p
                         WHERE p.partition = t.partition AND p.generation = t.generation
                           AND p.person_id = t.person_id AND p.year = t.year AND NOT p.cancelled), 0))",
            )
            .bind(year)
            .bind(limit)
            .fetch_one(&pool)
            .await?;
            if settled {
                break;
            }
            if Instant::now() > deadline {
                let text = format!("the splits of {year} do not follow the limit {limit}");
                return Err(Difference::new(text).into());
            }
            sleep(LOOK).await;
        }
        pool.close().await;
        self.take_in_recalculations(year, limit).await
    }

    /// Exactly those are recalculated whose splits the limit moves.
    async fn take_in_recalculations(&mut self, year: i32, limit: i64) -> anyhow::Result<()> {
        let since: Vec<(i32, i64)> =
            self.limits.iter().map(|(of, limits)| (*of, limits.last_position())).collect();
        for (partition, position) in since {
            for event in self.read_events(Some(partition), position + 1).await? {
                let recalculated = event.r#type == "allowance_recalculated";
                let person = self
                    .people
                    .iter_mut()
                    .find(|someone| recalculated && someone.id.as_ref() == Some(&event.person_id));
                let unexpected = || Difference::new(format!("an event too many: {}", event.r#type));
                let someone = person.ok_or_else(unexpected)?;
                let before = someone.now.clone();
                someone.now.recalculate(year, limit, event.position);
                if event.year != Some(year) || before.splits() == someone.now.splits() {
                    return Err(unexpected().into());
                }
                let recorded = Recorded::Recalculated(year);
                someone.log.record(Entry { position: event.position, at: event.at, recorded });
                self.counts.answers += 1;
            }
        }
        for someone in &self.people {
            let mut settled = someone.now.clone();
            settled.recalculate(year, limit, 0);
            if settled.splits() != someone.now.splits() {
                let text = format!("person {} is not recalculated", someone.number);
                return Err(Difference::new(text).into());
            }
        }
        Ok(())
    }

    /// The history is what was answered: no event is missing, none is too many. Gives it.
    pub(super) async fn look_at_events(&mut self) -> anyhow::Result<Vec<Event>> {
        let read = self.read_events(None, 0).await?;
        let told: BTreeSet<_> = read
            .iter()
            .map(|e| (e.partition, e.position, e.person_id.clone(), e.r#type.clone()))
            .collect();
        let mut expected = BTreeSet::new();
        for (partition, limits) in &self.limits {
            let of = || (String::new(), "annual_limit_set".to_owned());
            expected
                .extend(limits.recorded().iter().map(|(at, _)| (*partition, *at, of().0, of().1)));
        }
        for someone in &self.people {
            let id = someone.id.clone().unwrap_or_default();
            for entry in someone.log.entries() {
                let r#type = event_type(&entry.recorded).to_owned();
                expected.insert((someone.partition, entry.position, id.clone(), r#type));
            }
        }
        self.counts.events = told.len();
        if told != expected {
            let missing: Vec<_> = expected.difference(&told).take(5).collect();
            let too_many: Vec<_> = told.difference(&expected).take(5).collect();
            let text = format!("events missing: {missing:?}; too many: {too_many:?}");
            return Err(Difference::new(text).into());
        }
        Ok(read)
    }

    async fn read_events(&self, of: Option<i32>, from: i64) -> anyhow::Result<Vec<Event>> {
        let ask = async |via: usize| {
            let request = ReadEventsRequest {
                partition: of,
                from_position: from,
                ..ReadEventsRequest::default()
            };
            let events = self.stack.ledger(via).audits.read_events(request).await?.into_inner();
            events.try_collect::<Vec<_>>().await
        };
        let (read, _) = self.stack.insist(0, ask).await?;
        let mut events = Vec::new();
        for item in read {
            let Some(read_events_response::Item::Event(event)) = item.item else { continue };
            let record: serde_json::Value = serde_json::from_slice(&event.record)?;
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            let at = OffsetDateTime::parse(&text("recorded_at"), &Rfc3339);
            events.push(Event {
                partition: event.partition,
                position: event.position,
                person_id: text("person_id"),
                r#type: text("type"),
                at: at.context("a record without its instant")?,
                year: record["data"]["year"].as_i64().and_then(|year| i32::try_from(year).ok()),
            });
        }
        Ok(events)
    }
}

fn event_type(recorded: &Recorded) -> &'static str {
    match recorded {
        Recorded::Recalculated(_) => "allowance_recalculated",
        Recorded::Call(Command::Report { .. }) => "payment_reported",
        Recorded::Call(Command::Correct { .. }) => "payment_corrected",
        Recorded::Call(Command::Cancel { .. }) => "payment_cancelled",
        Recorded::Call(Command::Decide(Decision { kind, .. })) => match kind {
            Kind::Grant { .. } => "card_granted",
            Kind::Reject { .. } => "application_rejected",
            Kind::Deactivate { .. } => "card_deactivated",
            Kind::Reactivate { .. } => "card_reactivated",
            Kind::Reissue { .. } => "card_reissued",
            Kind::Reverse { .. } => "decision_reversed",
            Kind::Transfer { .. } => "card_transferred",
            Kind::Control { .. } => "control_recorded",
            Kind::Renumber { .. } => "cpr_number_changed",
        },
    }
}
