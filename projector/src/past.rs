//! Persons as the ledger knew them at a position, and what happened to each payment: one fold
//! over a person's few events. Events never change, so what is read up to one position is one
//! consistent state, however many reads it takes.
//!
//! What must stay out: the projection's tables, which know only the present.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    iter,
};

use frikort_domain::{Account, Amount, Event, LimitSchedule, PaymentKey, PersonId, Record};
use frikort_event_store::{EventStore, PARTITION_STREAM, StoreError, StoredEvent};
use frikort_proto::{
    timestamp,
    v1::{PaymentChange, PaymentChangeKind},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    as_of::Moment,
    effect::Effect,
    fold::Poison,
    statement::{StatedPayment, render_facts},
    tables::Years,
};

/// Streams read at a time: what is held in memory before it is folded.
const STREAMS: usize = 64;

/// Why the past cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the history cannot be folded")]
    Poison(#[from] Poison),
}

/// One person, up to a position.
#[derive(Debug, Default)]
pub(crate) struct Past {
    account: Account,
    /// Every year in which a payment was ever recorded.
    years: BTreeSet<i32>,
    /// By payment, oldest first; only where it is asked for.
    history: HashMap<PaymentKey, Vec<PaymentChange>>,
}

/// The limits, and some persons, as a partition knew them up to position `until`. Persons without
/// an event by then are left out.
pub(crate) async fn read(
    store: &EventStore,
    partition: i32,
    persons: impl Iterator<Item = PersonId>,
    until: i64,
    with_history: bool,
) -> Result<(LimitSchedule, HashMap<PersonId, Past>), Unread> {
    let persons: BTreeSet<Uuid> = persons.map(|person| person.0).collect();
    let streams: Vec<Uuid> = iter::once(PARTITION_STREAM).chain(persons).collect();
    let mut limits = LimitSchedule::default();
    let mut pasts: HashMap<PersonId, Past> = HashMap::new();
    for streams in streams.chunks(STREAMS) {
        for event in store.read_streams(partition, streams, until).await? {
            let record = decode(&event)?;
            match (record.person_id, &record.event) {
                (Some(person), _) => {
                    pasts.entry(person).or_default().fold(&record, with_history)?;
                }
                (None, Event::AnnualLimitSet(entry)) => {
                    limits.record(entry.clone(), record.position, record.recorded_at);
                }
                (None, _) => {}
            }
        }
    }
    Ok((limits, pasts))
}

/// The record of a stored event.
pub(crate) fn decode(event: &StoredEvent) -> Result<Record, Poison> {
    Record::decode(&event.record).map_err(|error| Poison::Unreadable(event.position, error))
}

impl Past {
    fn fold(&mut self, record: &Record, with_history: bool) -> Result<(), Poison> {
        self.account.apply(&record.event, record.version, record.position, record.recorded_at)?;
        let Some(effect) = Effect::of(&record.event) else { return Ok(()) };
        self.years.extend(effect.years.iter().map(|totals| totals.year));
        if with_history {
            let splits = effect.splits.iter().map(|split| {
                let reference = split.reference.clone();
                let key = PaymentKey { employer_cvr: split.employer_cvr, reference };
                (PaymentChangeKind::SplitChanged, key)
            });
            for (kind, key) in effect.payment.into_iter().chain(splits) {
                self.note(kind, key, record);
            }
        }
        Ok(())
    }

    /// Adds a link to a payment's history: the payment as it stands now.
    fn note(&mut self, kind: PaymentChangeKind, key: PaymentKey, record: &Record) {
        let Some(state) = self.account.payment(&key) else { return };
        let change = PaymentChange {
            kind: kind.into(),
            revision: i32::try_from(state.revision).unwrap_or(i32::MAX),
            position: record.position,
            recorded_time: Some(timestamp(record.recorded_at)),
            facts: Some(render_facts(&state.facts)),
            exempt_oere: state.exempt.oere(),
            taxable_oere: state.taxable().oere(),
        };
        self.history.entry(key).or_default().push(change);
    }

    /// Position and instant of the event that last settled each year's splits.
    pub(crate) fn settled(&self) -> BTreeMap<i32, (i64, OffsetDateTime)> {
        let years = self.years.iter();
        years.filter_map(|year| Some((*year, self.account.settled(*year)?))).collect()
    }

    /// What the payments that count add up to, year by year.
    pub(crate) fn years(&self, moment: &Moment) -> Years {
        let mut years = Years { tags: self.account.frikort_tags().collect(), totals: Vec::new() };
        for &year in self.years.iter().filter(|year| moment.includes_year(**year)) {
            let counting = self.account.payments().map(|(_, payment)| payment).filter(|payment| {
                payment.year == year
                    && !payment.cancelled
                    && moment.includes(payment.facts.attribution_date())
            });
            let (total, count) = counting.fold((Amount::ZERO, 0), |(total, count), payment| {
                (total + payment.facts.amount, count + 1)
            });
            years.set(year, total, count);
        }
        years
    }

    /// The payments up to `paid_through`, in the order of registration; cancelled ones too.
    pub(crate) fn payments(mut self, moment: &Moment) -> Vec<StatedPayment> {
        let mut payments = Vec::with_capacity(self.account.payments().len());
        for (key, state) in self.account.payments() {
            let attribution_date = state.facts.attribution_date();
            if !moment.includes(attribution_date) {
                continue;
            }
            payments.push(StatedPayment {
                employer_cvr: i32::try_from(key.employer_cvr.number()).unwrap_or(i32::MAX),
                reference: key.reference.as_str().to_owned(),
                year: state.year,
                attribution_date,
                revision: i32::try_from(state.revision).unwrap_or(i32::MAX),
                cancelled: state.cancelled,
                drawn: state.order,
                exempt: state.exempt,
                position: state.position,
                facts: state.facts.clone(),
                history: self.history.remove(key).unwrap_or_default(),
            });
        }
        payments
    }
}
