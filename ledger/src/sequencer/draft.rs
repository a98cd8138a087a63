//! Deciding a batch: each request in order against the working state, into a draft that is
//! answered when it is committed and undone when it is not.

use frikort_domain::{
    Account, Command, Decision, Event, FrikortTag, LimitEntry, LimitSchedule, PersonId, Record,
    Rejection, copenhagen_date, decide_within, settled_payments,
};
use frikort_event_store::{Batch, Head, PARTITION_STREAM};
use time::{Date, OffsetDateTime};

use crate::limits::Limits;

use super::{Answer, Ask, Body, Fault, LONG_STREAM_EVENTS, Refused, Reply, Request, Sequencer};

/// A decided batch that is not committed yet.
pub(super) struct Draft {
    pub(super) events: Batch,
    pub(super) replies: Vec<Reply>,
    /// Persons whose accounts have moved on with it, event by event. With an account as it was before,
    /// where it is so long that reading it again takes longer than keeping it.
    pub(super) touched: Vec<(PersonId, Option<Box<Account>>)>,
    pub(super) limits_before: Option<Limits>,
    /// Requests, by index, whose event is recorded with a new CPR number.
    pub(super) new_numbers: Vec<usize>,
}

impl Draft {
    /// Position and instant of the last event, with this draft after the head.
    fn end(&self, head: Head) -> (i64, Option<OffsetDateTime>) {
        let events = i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        (head.position + events, self.events.last_recorded_at(head))
    }
}

impl Sequencer {
    /// Decides every request in order; accounts move on at once, so that two payments for the
    /// last 500 kr. are decided one after the other.
    pub(super) fn decide_all(&mut self, requests: &[Request]) -> Result<Draft, Fault> {
        let mut now = self.clock.now();
        let run_now = self.appender.server_run();
        let mut draft = Draft {
            events: Batch::default(),
            replies: Vec::with_capacity(requests.len()),
            touched: Vec::new(),
            limits_before: None,
            new_numbers: Vec::new(),
        };
        for (at, request) in requests.iter().enumerate() {
            // Strictly increasing, so that an instant names one position.
            let last = draft.events.last_recorded_at(self.head);
            now = last.map_or(now, |last| now.max(last + time::Duration::MICROSECOND));
            let read_in = request.ask.subject().and_then(|subject| subject.read_in);
            let reply = match &request.ask {
                // The register of this server run may lead to somebody else, or to nobody: the caller
                // must look the person up again.
                _ if read_in.is_some_and(|run| run < run_now) => Err(Refused::StoreUnavailable),
                Ask::Command(subject, command) => {
                    self.decide_command(request, subject.person, command, now, &mut draft)?
                }
                Ask::ChangeNumber(subject, command, _) => {
                    let before = draft.events.len();
                    let reply =
                        self.decide_command(request, subject.person, command, now, &mut draft)?;
                    if draft.events.len() > before {
                        draft.new_numbers.push(at);
                    }
                    reply
                }
                Ask::Card(subject, frikort) => self.read_card(subject.person, *frikort, &draft),
                Ask::Account(subject) => match self.accounts.get(subject.person) {
                    Some(account) => {
                        let body = Body::Account(Box::new(account.clone()));
                        Ok(Answer::at(draft.end(self.head), body))
                    }
                    None => Err(Refused::Internal),
                },
                Ask::SetLimit(entry) => self.set_limit(request, entry, now, &mut draft),
                // Another ledger was quicker.
                Ask::CompleteLimit { version, .. } if *version != self.limits.version + 1 => {
                    Err(Refused::Overloaded)
                }
                Ask::CompleteLimit { entry, .. } => self.set_limit(request, entry, now, &mut draft),
                Ask::Limits => {
                    let limits = Body::Limits(self.limits.schedule.clone());
                    Ok(Answer::at(draft.end(self.head), limits))
                }
                Ask::Cover => Ok(Answer::at(draft.end(self.head), Body::Covered)),
            };
            draft.replies.push(reply);
        }
        Ok(draft)
    }

    fn decide_command(
        &mut self,
        request: &Request,
        person: PersonId,
        command: &Command,
        now: OffsetDateTime,
        draft: &mut Draft,
    ) -> Result<Reply, Fault> {
        let Self { partition, accounts, limits, head, payments_per_year, .. } = self;
        let head = draft.end(*head);
        let decided = accounts.change(person, |account| {
            // The day on which it is recorded, so that deciding the record anew is the same.
            let today = copenhagen_date(now);
            let limits = &limits.schedule;
            let event = match decide_within(account, limits, *payments_per_year, command, today) {
                Ok(Decision::Record(event)) => event,
                Ok(Decision::ReplayPayment(answer, changed_since)) => {
                    let body = Body::Payment(answer.outcome, changed_since);
                    return Ok(Ok(Answer::replayed(answer.position, answer.recorded_at, body)));
                }
                Ok(Decision::ReplayCard(answer)) => {
                    let payments = &answer.payments_after;
                    let body =
                        Body::Card(answer.card, settled_payments(account, limits, today, payments));
                    return Ok(Ok(Answer::replayed(answer.position, answer.recorded_at, body)));
                }
                Ok(Decision::Settled) => return Ok(Ok(Answer::at(head, Body::Settled))),
                Err(rejection) => return Ok(Err(Refused::Rejected(rejection))),
            };
            let version = account.version() + 1;
            let position = head.0 + 1;
            if request.validate_only {
                let mut account = account.clone();
                account.apply(&event, version, position, now)?;
                let body = body(&event, &account, limits, today).ok_or(Refused::Internal);
                return Ok(body.map(|body| Answer::at(head, body)));
            }
            let must_keep = account.version() > LONG_STREAM_EVENTS
                && draft.touched.iter().all(|(touched, _)| *touched != person);
            let before = must_keep.then(|| Box::new(account.clone()));
            draft.touched.push((person, before));
            account.apply(&event, version, position, now)?;
            let body = body(&event, account, limits, today).ok_or(Refused::Internal);
            let record = request.record(*partition, position, Some(person), version, now, event);
            draft.events.push(person.0, version, now, record.encode());
            Ok(body.map(|body| Answer::new(position, now, body)))
        });
        decided.unwrap_or(Ok(Err(Refused::Internal)))
    }

    fn read_card(&mut self, person: PersonId, frikort: Option<FrikortTag>, draft: &Draft) -> Reply {
        let account = self.accounts.get(person).filter(|account| account.knows_card(frikort));
        let case = account
            .and_then(|account| Some(Body::Case(account.card()?, account.decisions().collect())));
        let case = case.ok_or(Refused::Rejected(Rejection::NoCard))?;
        Ok(Answer::at(draft.end(self.head), case))
    }

    fn set_limit(
        &mut self,
        request: &Request,
        entry: &LimitEntry,
        now: OffsetDateTime,
        draft: &mut Draft,
    ) -> Reply {
        if let Some((position, at)) = self.limits.place(entry) {
            return Ok(Answer::replayed(position, at, Body::Limit));
        }
        let head = draft.end(self.head);
        if request.validate_only {
            return Ok(Answer::at(head, Body::Limit));
        }
        draft.limits_before.get_or_insert_with(|| self.limits.clone());
        let version = self.limits.version + 1;
        let position = head.0 + 1;
        let event = Event::AnnualLimitSet(entry.clone());
        let record = request.record(self.partition, position, None, version, now, event);
        draft.events.push(PARTITION_STREAM, version, now, record.encode());
        self.limits.set(entry.clone(), version, position, now);
        Ok(Answer::new(position, now, Body::Limit))
    }
}

impl Request {
    fn record(
        &self,
        partition: i32,
        position: i64,
        person_id: Option<PersonId>,
        version: i64,
        recorded_at: OffsetDateTime,
        event: Event,
    ) -> Record {
        Record {
            partition,
            position,
            person_id,
            version,
            recorded_at,
            actor: self.actor.clone(),
            trace_id: self.trace_id.clone(),
            event,
        }
    }
}

impl Answer {
    /// About an event that is recorded now.
    fn new(position: i64, recorded_at: OffsetDateTime, body: Body) -> Self {
        Self { position, recorded_at: Some(recorded_at), replayed: false, body }
    }

    /// As it was given before.
    fn replayed(position: i64, recorded_at: OffsetDateTime, body: Body) -> Self {
        Self { position, recorded_at: Some(recorded_at), replayed: true, body }
    }

    /// About what records nothing: as of the head, this batch included.
    fn at((position, recorded_at): (i64, Option<OffsetDateTime>), body: Body) -> Self {
        Self { position, recorded_at, replayed: false, body }
    }
}

/// The reply, on `today`, about an event that the account has just taken in.
pub(crate) fn body(
    event: &Event,
    account: &Account,
    limits: &LimitSchedule,
    today: Date,
) -> Option<Body> {
    match event {
        Event::PaymentReported(_, outcome)
        | Event::PaymentCorrected(_, outcome)
        | Event::PaymentCancelled(_, outcome) => Some(Body::Payment(outcome.clone(), None)),
        Event::CardDeactivated(_, outcome) => {
            let payments = settled_payments(account, limits, today, &outcome.payments_after);
            Some(Body::Card(account.card(), payments))
        }
        Event::CardGranted(..)
        | Event::ApplicationRejected(_)
        | Event::DecisionReversed(..)
        | Event::CardReissued(_)
        | Event::CardReactivated(..)
        | Event::CardTransferred(_)
        | Event::ControlRecorded(_)
        | Event::CprNumberChanged(_) => Some(Body::Card(account.card(), Vec::new())),
        Event::AllowanceRecalculated(..) => Some(Body::Settled),
        Event::AnnualLimitSet(_) => None,
    }
}
