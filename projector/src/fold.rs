//! The fold: a page of records becomes the rows that it changes. Pure; it copies what was decided
//! and decides nothing.

use std::collections::HashMap;

use frikort_domain::{
    Amount, Contradiction, Event, Facts, FrikortTag, LimitEntry, MunicipalityCode, PaymentKey,
    PaymentOutcome, PersonId, Record, RecordError, SplitChange, YearTotals,
};
use frikort_event_store::{EventHash, StoredEvent};
use time::{Date, OffsetDateTime};

use crate::tables::WriteError;

/// A record that cannot be folded: it stops its partition, and is never skipped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Poison {
    #[error("the record at position {0} cannot be read")]
    Unreadable(i64, #[source] RecordError),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error("the event at position {0} contradicts the projection")]
    Unwritable(i64, #[source] WriteError),
}

/// The rows that a run of records changes, each once, as they are after the last.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) position: i64,
    pub(crate) recorded_at: Option<OffsetDateTime>,
    /// The hash of the last record.
    pub(crate) event_hash: EventHash,
    pub(crate) totals: HashMap<(PersonId, i32), Total>,
    pub(crate) payments: HashMap<(PersonId, PaymentKey), PaymentChange>,
    pub(crate) cards: HashMap<PersonId, CardChange>,
    pub(crate) applications: Vec<Application>,
    pub(crate) limits: Vec<(LimitEntry, i64)>,
}

/// One person's year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) total: Amount,
    /// By which the year's splits were settled.
    pub(crate) limit: Amount,
    pub(crate) payments: u32,
    pub(crate) position: i64,
}

/// What changes of one payment; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PaymentChange {
    /// Position of its report; `Some` makes it a new row.
    pub(crate) registered: Option<i64>,
    /// Position that places it in its year.
    pub(crate) drawn: Option<i64>,
    pub(crate) stated: Option<Stated>,
    pub(crate) revision: Option<u32>,
    pub(crate) cancelled: bool,
    pub(crate) exempt: Amount,
    pub(crate) position: i64,
}

/// What an employer stated, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) facts: Facts,
    pub(crate) year: i32,
    pub(crate) attribution_date: Date,
}

/// What changes of one person's card; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CardChange {
    /// Tags of the Frikort-IDs that the person was given; some make it a new row where there is
    /// none, and all the rest is given then.
    pub(crate) tags: Vec<FrikortTag>,
    pub(crate) municipality: Option<MunicipalityCode>,
    pub(crate) active: Option<bool>,
    /// The latest calendar year of a grant or control (C9).
    pub(crate) controlled_in: Option<i32>,
    pub(crate) position: i64,
}

/// A decision about an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Application {
    pub(crate) position: i64,
    pub(crate) municipality: MunicipalityCode,
    pub(crate) decided_on: Date,
    /// Since the citizen applied.
    pub(crate) days: i32,
}

impl Changes {
    /// What a page of events changes.
    pub(crate) fn of(page: &[StoredEvent]) -> Result<Self, Poison> {
        let mut changes = Self::default();
        for event in page {
            changes.fold(event.position, &event.record)?;
        }
        changes.event_hash = page.last().map(StoredEvent::hash).unwrap_or_default();
        Ok(changes)
    }

    /// Folds in the record stored at `position`.
    fn fold(&mut self, position: i64, record: &str) -> Result<(), Poison> {
        let record = Record::decode(record).map_err(|error| Poison::Unreadable(position, error))?;
        let contradiction = |what| Contradiction { position, what };
        if record.position != position {
            return Err(contradiction("the record says another position").into());
        }
        self.position = position;
        self.recorded_at = Some(record.recorded_at);
        if let Event::AnnualLimitSet(entry) = record.event {
            self.limits.push((entry, position));
            return Ok(());
        }
        let person =
            record.person_id.ok_or(contradiction("an event of a person without the person"))?;
        match record.event {
            Event::PaymentReported(data, outcome) => {
                let key = PaymentKey { employer_cvr: data.employer_cvr, reference: data.reference };
                let change = PaymentChange {
                    registered: Some(position),
                    drawn: Some(position),
                    stated: Some(Stated::new(data.facts, &outcome)),
                    revision: Some(outcome.revision),
                    exempt: outcome.exempt,
                    position,
                    cancelled: false,
                };
                if self.payments.insert((person, key), change).is_some() {
                    return Err(contradiction("a payment is reported twice").into());
                }
                self.copy_outcome(person, outcome, position);
            }
            Event::PaymentCorrected(data, outcome) => {
                let key = PaymentKey { employer_cvr: data.employer_cvr, reference: data.reference };
                let change = self.payments.entry((person, key)).or_default();
                change.stated = Some(Stated::new(data.facts, &outcome));
                change.revision = Some(outcome.revision);
                change.exempt = outcome.exempt;
                change.position = position;
                if outcome.left_year.is_some() {
                    change.drawn = Some(position);
                }
                self.copy_outcome(person, outcome, position);
            }
            Event::PaymentCancelled(data, outcome) => {
                let key = PaymentKey { employer_cvr: data.employer_cvr, reference: data.reference };
                let change = self.payments.entry((person, key)).or_default();
                change.cancelled = true;
                change.revision = Some(outcome.revision);
                change.exempt = Amount::ZERO;
                change.position = position;
                self.copy_outcome(person, outcome, position);
            }
            Event::AllowanceRecalculated(_, outcome) => {
                self.copy_totals(person, &outcome.year, position);
                self.copy_splits(person, outcome.changed, position);
            }
            decision => self.fold_decision(person, position, decision),
        }
        Ok(())
    }

    /// A decision about a card.
    fn fold_decision(&mut self, person: PersonId, position: i64, decision: Event) {
        match decision {
            Event::CardGranted(grant, outcome) => {
                let card = self.card(person, position);
                card.tags.push(grant.frikort);
                card.municipality = Some(grant.municipality);
                card.active = Some(outcome.active);
                card.controlled_in = card.controlled_in.max(Some(grant.decided_on.year()));
                if let Some(applied_on) = grant.applied_on {
                    self.note_application(
                        position,
                        grant.municipality,
                        applied_on,
                        grant.decided_on,
                    );
                }
            }
            Event::ApplicationRejected(rejection) => {
                let (applied_on, decided_on) = (rejection.applied_on, rejection.decided_on);
                self.note_application(position, rejection.municipality, applied_on, decided_on);
            }
            Event::CardDeactivated(_, outcome) => {
                self.card(person, position).active = Some(outcome.active);
            }
            Event::CardReactivated(_, outcome) | Event::DecisionReversed(_, outcome) => {
                self.card(person, position).active = Some(outcome.active);
            }
            Event::CardReissued(card) => self.card(person, position).tags.push(card.frikort),
            Event::CardTransferred(transfer) => {
                self.card(person, position).municipality = Some(transfer.to);
            }
            Event::ControlRecorded(control) => {
                let card = self.card(person, position);
                card.controlled_in = card.controlled_in.max(Some(control.decided_on.year()));
            }
            // The same person, whom the register finds.
            Event::CprNumberChanged(_) => {}
            Event::PaymentReported(..)
            | Event::PaymentCorrected(..)
            | Event::PaymentCancelled(..)
            | Event::AllowanceRecalculated(..)
            | Event::AnnualLimitSet(_) => unreachable!("no decision about a card"),
        }
    }

    /// Copies the totals after the event, and the other payments' new splits.
    fn copy_outcome(&mut self, person: PersonId, outcome: PaymentOutcome, position: i64) {
        self.copy_totals(person, &outcome.year, position);
        if let Some(left) = &outcome.left_year {
            self.copy_totals(person, left, position);
        }
        self.copy_splits(person, outcome.changed, position);
    }

    fn copy_splits(&mut self, person: PersonId, changed: Vec<SplitChange>, position: i64) {
        for split in changed {
            let key = PaymentKey { employer_cvr: split.employer_cvr, reference: split.reference };
            let change = self.payments.entry((person, key)).or_default();
            change.exempt = split.exempt;
            change.position = position;
        }
    }

    fn copy_totals(&mut self, person: PersonId, year: &YearTotals, position: i64) {
        let (total, limit, payments) = (year.total, year.limit, year.payments);
        self.totals.insert((person, year.year), Total { total, limit, payments, position });
    }

    fn card(&mut self, person: PersonId, position: i64) -> &mut CardChange {
        let card = self.cards.entry(person).or_default();
        card.position = position;
        card
    }

    fn note_application(
        &mut self,
        position: i64,
        municipality: MunicipalityCode,
        applied_on: Date,
        decided_on: Date,
    ) {
        // Days between two dates of four-digit years.
        let days = i32::try_from((decided_on - applied_on).whole_days()).unwrap_or(i32::MAX);
        self.applications.push(Application { position, municipality, decided_on, days });
    }
}

impl Stated {
    fn new(facts: Facts, outcome: &PaymentOutcome) -> Self {
        Self { facts, year: outcome.year.year, attribution_date: outcome.attribution_date }
    }
}
