//! A municipality's decisions about a person (visitation): what may be asked for, what is on record, and
//! the card that comes of it. What must stay out: the card's own days (`card`).

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use time::{Date, OffsetDateTime};

use crate::{
    ApplicationRejected, CardDeactivated, CardGranted, CardOutcome, CardReactivated, CardReissued,
    CardTransferred, ControlRecorded, CprNumberChanged, DeactivationOutcome, DecisionReversed,
    Event, FrikortTag, MunicipalityCode, NumberTag, PaymentKey, Reference,
    card::{Card, CardStatus, EffectiveDecision, activated_days, active_periods},
    decide::Rejection,
};

/// Identity of a decision within one person (C11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionKey {
    /// Who decided.
    pub municipality: MunicipalityCode,
    /// The municipality's own reference.
    pub reference: Reference,
}

/// What a decision about a card rests on, as a code (C10); there is no free text, and no
/// diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Criterion {
    /// Homelessness, addiction or mental illness.
    SocialProblems,
    /// Education in the last year.
    EducationLastYear,
    /// Income in the last year.
    IncomeLastYear,
    /// Residence in Denmark.
    Residence,
    /// 18 years or older (C8).
    Age,
}

/// The criteria of a decision, in one order and each once, so that the same decision is the same
/// content (C11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Criteria(Vec<Criterion>);

impl Criteria {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Criterion> {
        self.0.iter()
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Criterion> for Criteria {
    fn from_iter<I: IntoIterator<Item = Criterion>>(criteria: I) -> Self {
        let mut criteria: Vec<_> = criteria.into_iter().collect();
        criteria.sort_unstable();
        criteria.dedup();
        Self(criteria)
    }
}

impl<'de> Deserialize<'de> for Criteria {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Vec::<Criterion>::deserialize(deserializer)?;
        let criteria: Self = written.iter().copied().collect();
        let canonical = !written.is_empty() && criteria.0 == written;
        canonical.then_some(criteria).ok_or_else(|| D::Error::custom("not in order, each once"))
    }
}

/// Record a grant.
#[derive(Clone, Debug)]
pub struct GrantCard {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// The new Frikort-ID, as this person's tag.
    pub frikort: FrikortTag,
    /// The day of the decision.
    pub decided_on: Date,
    /// The first active day (C2).
    pub effective_from: Date,
    /// The person's date of birth, for the rule of age alone (C8); it is not recorded.
    pub born: Date,
    /// On what it rests (C10).
    pub criteria: Criteria,
    /// The day on which the citizen applied, where there was an application.
    pub applied_on: Option<Date>,
}

/// Record that an application is rejected.
#[derive(Clone, Debug)]
pub struct RejectApplication {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// The day on which the citizen applied.
    pub applied_on: Date,
    /// The day of the decision.
    pub decided_on: Date,
    /// On what it rests (C10).
    pub criteria: Criteria,
}

/// Record a deactivation.
#[derive(Clone, Debug)]
pub struct DeactivateCard {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// The Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The day of the decision.
    pub decided_on: Date,
    /// The last active day, not before the decision (C3).
    pub last_day: Date,
    /// On what it rests (C10).
    pub criteria: Criteria,
}

/// Record a reactivation.
#[derive(Clone, Debug)]
pub struct ReactivateCard {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// The Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The day of the decision.
    pub decided_on: Date,
    /// The first day on which it is active again.
    pub effective_from: Date,
}

/// Record another Frikort-ID for the holder of a card.
#[derive(Clone, Debug)]
pub struct ReissueCard {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// A Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The day of the decision.
    pub decided_on: Date,
    /// The new Frikort-ID, as this person's tag.
    pub reissued: FrikortTag,
}

/// Hand a person over to another municipality (C7).
#[derive(Clone, Debug)]
pub struct TransferCard {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// The Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The day of the decision.
    pub decided_on: Date,
    /// Who is to be responsible.
    pub to: MunicipalityCode,
}

/// Record that a deactivation was reversed on appeal (C5).
#[derive(Clone, Debug)]
pub struct ReverseDecision {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// The Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The day of the decision on appeal.
    pub decided_on: Date,
    /// The deactivation to reverse.
    pub reversed: DecisionKey,
}

/// Record a control (C9).
#[derive(Clone, Debug)]
pub struct RecordControl {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// The Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The day of the control.
    pub decided_on: Date,
    /// The person keeps the card although a condition is not met any more.
    pub dispensation: bool,
    /// On what it rests (C10).
    pub criteria: Criteria,
}

/// Record that a person has another CPR number (N5).
#[derive(Clone, Debug)]
pub struct ChangeCprNumber {
    /// Municipality and reference.
    pub key: DecisionKey,
    /// The Frikort-ID given beside the CPR number (N4).
    pub frikort: Option<FrikortTag>,
    /// The day on which the change was decided.
    pub decided_on: Date,
    /// The new number, as this person's tag.
    pub number: NumberTag,
}

/// What a municipality is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardAnswer {
    /// The card after the decision; `None` where none was ever granted (a rejected application).
    pub card: Option<Card>,
    /// Accepted payments after the last active day (deactivation only).
    pub payments_after: Vec<PaymentKey>,
    /// The event's position; of the head where nothing was recorded.
    pub position: i64,
    /// When it was recorded.
    pub recorded_at: OffsetDateTime,
}

/// A decision as it stands on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedDecision {
    /// The decision.
    pub event: Event,
    /// Where it was recorded.
    pub position: i64,
    /// When it was recorded.
    pub recorded_at: OffsetDateTime,
    /// A deactivation that was reversed since (C5).
    pub reversed: bool,
}

impl CardDeactivated {
    fn has_key(&self, key: &DecisionKey) -> bool {
        (self.municipality, &self.reference) == (key.municipality, &key.reference)
    }
}

/// A decision's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Granted(CardGranted, CardOutcome),
    Rejected(ApplicationRejected),
    Deactivated(CardDeactivated, DeactivationOutcome),
    Reactivated(CardReactivated, CardOutcome),
    Reissued(CardReissued),
    Transferred(CardTransferred),
    Reversed(DecisionReversed, CardOutcome),
    Controlled(ControlRecorded),
    Renumbered(CprNumberChanged),
}

/// A recorded decision.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recorded {
    content: Content,
    position: i64,
    recorded_at: OffsetDateTime,
}

/// All decisions about one person, in order of recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Visitation(Vec<Recorded>);

impl Content {
    fn key(&self) -> (MunicipalityCode, &Reference) {
        match self {
            Self::Granted(d, _) => (d.municipality, &d.reference),
            Self::Rejected(d) => (d.municipality, &d.reference),
            Self::Deactivated(d, _) => (d.municipality, &d.reference),
            Self::Reactivated(d, _) => (d.municipality, &d.reference),
            Self::Reissued(d) => (d.municipality, &d.reference),
            Self::Transferred(d) => (d.municipality, &d.reference),
            Self::Reversed(d, _) => (d.municipality, &d.reference),
            Self::Controlled(d) => (d.municipality, &d.reference),
            Self::Renumbered(d) => (d.municipality, &d.reference),
        }
    }

    /// Whether the card is active after it, of one that says so.
    fn leaves_active(&self) -> Option<bool> {
        match self {
            Self::Granted(_, outcome)
            | Self::Reactivated(_, outcome)
            | Self::Reversed(_, outcome) => Some(outcome.active),
            Self::Deactivated(_, outcome) => Some(outcome.active),
            Self::Rejected(_)
            | Self::Reissued(_)
            | Self::Transferred(_)
            | Self::Controlled(_)
            | Self::Renumbered(_) => None,
        }
    }

    /// Who decided.
    pub(crate) fn municipality(&self) -> MunicipalityCode {
        self.key().0
    }

    fn event(&self) -> Event {
        match self.clone() {
            Self::Granted(d, outcome) => Event::CardGranted(d, outcome),
            Self::Rejected(d) => Event::ApplicationRejected(d),
            Self::Deactivated(d, outcome) => Event::CardDeactivated(d, outcome),
            Self::Reactivated(d, outcome) => Event::CardReactivated(d, outcome),
            Self::Reissued(d) => Event::CardReissued(d),
            Self::Transferred(d) => Event::CardTransferred(d),
            Self::Reversed(d, outcome) => Event::DecisionReversed(d, outcome),
            Self::Controlled(d) => Event::ControlRecorded(d),
            Self::Renumbered(d) => Event::CprNumberChanged(d),
        }
    }

    /// Request fields in which two decisions under one reference differ.
    fn differing(&self, other: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut note = |differs: bool, name| {
            if differs {
                names.push(name);
            }
        };
        match (self, other) {
            (Self::Granted(a, _), Self::Granted(b, _)) => {
                note(a.frikort != b.frikort, "frikort_id");
                note(a.decided_on != b.decided_on, "decision_date");
                note(a.effective_from != b.effective_from, "effective_date");
                note(a.criteria != b.criteria, "criteria");
                note(a.applied_on != b.applied_on, "application_date");
            }
            (Self::Rejected(a), Self::Rejected(b)) => {
                note(a.applied_on != b.applied_on, "application_date");
                note(a.decided_on != b.decided_on, "decision_date");
                note(a.criteria != b.criteria, "criteria");
            }
            (Self::Deactivated(a, _), Self::Deactivated(b, _)) => {
                note(a.decided_on != b.decided_on, "decision_date");
                note(a.last_day != b.last_day, "effective_date");
                note(a.criteria != b.criteria, "criteria");
            }
            (Self::Reactivated(a, _), Self::Reactivated(b, _)) => {
                note(a.decided_on != b.decided_on, "decision_date");
                note(a.effective_from != b.effective_from, "effective_date");
            }
            (Self::Reissued(a), Self::Reissued(b)) => {
                note(a.frikort != b.frikort, "frikort_id");
                note(a.decided_on != b.decided_on, "decision_date");
            }
            (Self::Transferred(a), Self::Transferred(b)) => {
                note(a.decided_on != b.decided_on, "decision_date");
                note(a.to != b.to, "to_municipality_code");
            }
            (Self::Reversed(a, _), Self::Reversed(b, _)) => {
                note(a.decided_on != b.decided_on, "decision_date");
                let (a, b) = (&a.reversed, &b.reversed);
                note(a.municipality != b.municipality, "reversed_municipality_code");
                note(a.reference != b.reference, "reversed_reference");
            }
            (Self::Controlled(a), Self::Controlled(b)) => {
                note(a.decided_on != b.decided_on, "control_date");
                note(a.dispensation != b.dispensation, "dispensation");
                note(a.criteria != b.criteria, "criteria");
            }
            (Self::Renumbered(a), Self::Renumbered(b)) => {
                note(a.decided_on != b.decided_on, "decision_date");
                note(a.number != b.number, "new_cpr_number");
            }
            // Another kind of decision under the same reference.
            _ => note(true, "reference"),
        }
        names
    }
}

impl Visitation {
    pub(crate) fn record(
        &mut self,
        content: Content,
        position: i64,
        recorded_at: OffsetDateTime,
    ) -> Result<(), &'static str> {
        if self.0.iter().any(|recorded| recorded.content.key() == content.key()) {
            return Err("a decision is recorded twice");
        }
        let of_nobody = matches!(content, Content::Granted(..) | Content::Rejected(_));
        if !of_nobody && !self.knows(None) {
            return Err("a card is decided about that was never granted");
        }
        if let Content::Reversed(data, _) = &content {
            self.check_reversible(&data.reversed)
                .map_err(|_| "a decision is reversed that cannot be")?;
        }
        let leaves_active = content.leaves_active();
        self.0.push(Recorded { content, position, recorded_at });
        let is_active = || self.card().is_some_and(|card| card.status == CardStatus::Active);
        if leaves_active.is_some_and(|active| active != is_active()) {
            return Err("a decision leaves the card elsewhere than it says");
        }
        Ok(())
    }

    fn contents(&self) -> impl Iterator<Item = &Content> + Clone {
        self.0.iter().map(|recorded| &recorded.content)
    }

    /// The card as it would be after a decision that is not on record.
    pub(crate) fn card_after(&self, content: &Content) -> Option<Card> {
        fold(self.contents().chain([content]))
    }

    /// First and last of the days that a grant or reactivation from `date`, recorded now, would decide about
    /// (C13).
    pub(crate) fn activated_days(&self, date: Date) -> (Date, Option<Date>) {
        activated_days(&effective_decisions(self.contents()), date)
    }

    /// Whether a deactivation stands under this key, which a reversal can undo (C5).
    pub(crate) fn check_reversible(&self, key: &DecisionKey) -> Result<(), Rejection> {
        let found = self.0.iter().find_map(|recorded| match &recorded.content {
            Content::Deactivated(data, _) if data.has_key(key) => Some(data),
            _ => None,
        });
        match found {
            None => Err(Rejection::DecisionNotFound),
            Some(data) if is_reversed(self.contents(), data) => {
                Err(Rejection::DecisionAlreadyReversed)
            }
            Some(_) => Ok(()),
        }
    }

    /// The decisions, in order of recording.
    pub(crate) fn decisions(&self) -> impl Iterator<Item = RecordedDecision> {
        self.0.iter().map(|recorded| RecordedDecision {
            event: recorded.content.event(),
            position: recorded.position,
            recorded_at: recorded.recorded_at,
            reversed: match &recorded.content {
                Content::Deactivated(data, _) => is_reversed(self.contents(), data),
                _ => false,
            },
        })
    }

    /// The card now; `None` for a person who was never granted one.
    pub(crate) fn card(&self) -> Option<Card> {
        fold(self.contents())
    }

    /// Whether the person has, or had, a card, and the Frikort-ID (if given) is one of the
    /// person's (N4).
    pub(crate) fn knows(&self, frikort: Option<FrikortTag>) -> bool {
        self.frikort_tags().any(|tag| frikort.is_none_or(|named| named == tag))
    }

    /// Whether the card is, or was once, this municipality's to decide about (C7).
    pub(crate) fn was_responsible(&self, municipality: MunicipalityCode) -> bool {
        self.0.iter().any(|recorded| match &recorded.content {
            Content::Granted(grant, _) => grant.municipality == municipality,
            Content::Transferred(transfer) => transfer.to == municipality,
            _ => false,
        })
    }

    /// The Frikort-IDs that the person was given, as tags.
    pub(crate) fn frikort_tags(&self) -> impl Iterator<Item = FrikortTag> {
        self.0.iter().filter_map(|recorded| match &recorded.content {
            Content::Granted(grant, _) => Some(grant.frikort),
            Content::Reissued(card) => Some(card.frikort),
            _ => None,
        })
    }

    /// The answer to the same decision recorded before, or the refusal to reuse its reference
    /// (C11); `None` when the reference is new.
    pub(crate) fn replay(&self, content: &Content) -> Option<Result<CardAnswer, Rejection>> {
        let at = self.0.iter().position(|recorded| recorded.content.key() == content.key())?;
        let recorded = &self.0[at];
        let fields = recorded.content.differing(content);
        if !fields.is_empty() {
            return Some(Err(Rejection::ReferenceReused { fields }));
        }
        let card = fold(self.contents().take(at + 1));
        let payments_after = match &recorded.content {
            Content::Deactivated(_, outcome) => outcome.payments_after.clone(),
            _ => Vec::new(),
        };
        let (position, recorded_at) = (recorded.position, recorded.recorded_at);
        Some(Ok(CardAnswer { card, payments_after, position, recorded_at }))
    }
}

fn is_reversed<'a>(
    mut decisions: impl Iterator<Item = &'a Content>,
    decision: &CardDeactivated,
) -> bool {
    decisions.any(|content| match content {
        Content::Reversed(reversal, _) => decision.has_key(&reversal.reversed),
        _ => false,
    })
}

/// The decisions about active days that stand, in order of recording. A deactivation that was reversed does not
/// (C5).
fn effective_decisions<'a>(
    decisions: impl Iterator<Item = &'a Content> + Clone,
) -> Vec<EffectiveDecision> {
    let effective = |content: &Content| match content {
        Content::Granted(grant, _) => Some((grant.effective_from, true)),
        Content::Reactivated(decision, _) => Some((decision.effective_from, true)),
        Content::Deactivated(decision, _) if is_reversed(decisions.clone(), decision) => None,
        Content::Deactivated(decision, _) => Some((decision.last_day, false)),
        Content::Rejected(_)
        | Content::Reissued(_)
        | Content::Reversed(..)
        | Content::Renumbered(_)
        | Content::Transferred(_)
        | Content::Controlled(_) => None,
    };
    let dated = decisions.clone().filter_map(effective);
    dated.map(|(date, activates)| EffectiveDecision { date, activates }).collect()
}

fn fold<'a>(decisions: impl Iterator<Item = &'a Content> + Clone) -> Option<Card> {
    let (mut responsible, mut controlled_in) = (None, 0);
    for content in decisions.clone() {
        match content {
            Content::Granted(grant, _) => {
                responsible = Some(grant.municipality);
                controlled_in = controlled_in.max(grant.decided_on.year());
            }
            Content::Transferred(decision) => responsible = Some(decision.to),
            Content::Controlled(control) => {
                controlled_in = controlled_in.max(control.decided_on.year());
            }
            Content::Deactivated(..)
            | Content::Reactivated(..)
            | Content::Rejected(_)
            | Content::Reissued(_)
            | Content::Reversed(..)
            | Content::Renumbered(_) => {}
        }
    }
    let periods = active_periods(effective_decisions(decisions));
    let status = match periods.last() {
        Some((_, None)) => CardStatus::Active,
        _ => CardStatus::Deactivated,
    };
    Some(Card { municipality: responsible?, status, periods, controlled_in })
}
