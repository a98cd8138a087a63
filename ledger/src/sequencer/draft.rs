//! Deciding a batch: each request in order against the working state, into a draft that is
//! answered when it is committed and undone when it is not.

use frikort_domain::{
    Account, Command, Contradiction, Decision, Event, FrikortTag, LimitEntry, PaymentKey,
    PaymentState, PersonId, Record, Rejection, copenhagen_date, decide,
};
use frikort_event_store::{Batch, PARTITION_STREAM};
use time::OffsetDateTime;

use crate::limits::Limits;

use super::{Answer, Ask, Body, Fault, Refused, Reply, Request, Sequencer};

/// A decided batch that is not committed yet.
pub(super) struct Draft {
    pub(super) events: Batch,
    pub(super) replies: Vec<Reply>,
    /// Accounts that have moved on with it.
    pub(super) touched: Vec<PersonId>,
    pub(super) limits_before: Option<Limits>,
}

impl Sequencer {
    /// Decides every request in order; accounts move on at once, so that two payments for the
    /// last 500 kr. are decided one after the other.
    pub(super) fn decide_all(&mut self, requests: &[Request]) -> Result<Draft, Fault> {
        let mut draft = Draft {
            events: Batch::default(),
            replies: Vec::with_capacity(requests.len()),
            touched: Vec::new(),
            limits_before: None,
        };
        let mut now = self.clock.now();
        for request in requests {
            // Strictly increasing, so that an instant names one position.
            let last = draft.events.head_after(self.head).recorded_at;
            now = last.map_or(now, |last| now.max(last + time::Duration::MICROSECOND));
            let reply = match &request.ask {
                Ask::Command(person, command) => {
                    self.decide_command(request, *person, command, now, &mut draft)?
                }
                Ask::Card(person, frikort) => self.read_card(*person, *frikort, &draft),
                Ask::SetLimit(entry) => self.set_limit(request, entry, now, &mut draft),
                Ask::Limits => {
                    Ok(self.say(&draft, Body::Limits(self.limits.schedule.entries().to_vec())))
                }
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
        let Some(account) = self.accounts.get(person) else { return Ok(Err(Refused::Internal)) };
        let decision = match decide(account, &self.limits.schedule, command, copenhagen_date(now)) {
            Ok(decision) => decision,
            Err(rejection) => return Ok(Err(Refused::Rejected(rejection))),
        };
        let event = match decision {
            Decision::Record(event) => event,
            Decision::ReplayPayment(answer) => {
                return Ok(Ok(Answer {
                    position: answer.position,
                    recorded_at: Some(answer.recorded_at),
                    replayed: true,
                    body: Body::Payment(answer.outcome),
                }));
            }
            Decision::ReplayCard(answer) => {
                return Ok(Ok(Answer {
                    position: answer.position,
                    recorded_at: Some(answer.recorded_at),
                    replayed: true,
                    body: Body::Card(answer.card, found(account, &answer.payments_after)),
                }));
            }
        };
        let version = account.version() + 1;
        let position = draft.events.head_after(self.head).position + 1;
        if request.validate_only {
            let mut account = account.clone();
            account.apply(&event, version, position, now)?;
            let body = body(&event, &account);
            return Ok(body.map(|body| self.say(draft, body)).ok_or(Refused::Internal));
        }
        let record = self.record(request, Some(person), version, position, now, event);
        draft.events.push(person.0, version, now, record.encode());
        draft.touched.push(person);
        let moved_on = self.accounts.change(person, |account| {
            account.apply(&record.event, version, position, now)?;
            Ok::<_, Contradiction>(body(&record.event, account))
        });
        let body = moved_on.transpose()?.flatten();
        let answer = |body| Answer { position, recorded_at: Some(now), replayed: false, body };
        Ok(body.map(answer).ok_or(Refused::Internal))
    }

    fn read_card(&mut self, person: PersonId, frikort: Option<FrikortTag>, draft: &Draft) -> Reply {
        let account = self.accounts.get(person).filter(|account| account.knows_card(frikort));
        let card = account.and_then(Account::card);
        let card = card.ok_or(Refused::Rejected(Rejection::NoCard))?;
        Ok(self.say(draft, Body::Card(card, Vec::new())))
    }

    fn set_limit(
        &mut self,
        request: &Request,
        entry: &LimitEntry,
        now: OffsetDateTime,
        draft: &mut Draft,
    ) -> Reply {
        if let Some((position, at)) = self.limits.place(entry) {
            let recorded_at = Some(at);
            return Ok(Answer { position, recorded_at, replayed: true, body: Body::Limit });
        }
        if request.validate_only {
            return Ok(self.say(draft, Body::Limit));
        }
        draft.limits_before.get_or_insert_with(|| self.limits.clone());
        let version = self.limits.version + 1;
        let position = draft.events.head_after(self.head).position + 1;
        let event = Event::AnnualLimitSet(entry.clone());
        let record = self.record(request, None, version, position, now, event);
        draft.events.push(PARTITION_STREAM, version, now, record.encode());
        self.limits.set(entry.clone(), version, position, now);
        Ok(Answer { position, recorded_at: Some(now), replayed: false, body: Body::Limit })
    }

    fn record(
        &self,
        request: &Request,
        person_id: Option<PersonId>,
        version: i64,
        position: i64,
        recorded_at: OffsetDateTime,
        event: Event,
    ) -> Record {
        Record {
            partition: self.partition,
            position,
            person_id,
            version,
            recorded_at,
            actor: request.actor.clone(),
            trace_id: request.trace_id.clone(),
            event,
        }
    }

    /// An answer that records nothing: as of the head, this batch included.
    fn say(&self, draft: &Draft, body: Body) -> Answer {
        let head = draft.events.head_after(self.head);
        Answer { position: head.position, recorded_at: head.recorded_at, replayed: false, body }
    }
}

/// What a caller is told about an event that its account has just taken in.
pub(crate) fn body(event: &Event, account: &Account) -> Option<Body> {
    match event {
        Event::PaymentReported(_, outcome)
        | Event::PaymentCorrected(_, outcome)
        | Event::PaymentCancelled(_, outcome) => Some(Body::Payment(outcome.clone())),
        Event::CardDeactivated(_, outcome) => {
            Some(Body::Card(account.card()?, found(account, &outcome.payments_after)))
        }
        Event::CardGranted(_) | Event::CardReactivated(_) => {
            Some(Body::Card(account.card()?, Vec::new()))
        }
        Event::AnnualLimitSet(_) => None,
    }
}

fn found(account: &Account, keys: &[PaymentKey]) -> Vec<(PaymentKey, PaymentState)> {
    let state = |key: &PaymentKey| Some((key.clone(), account.payment(key)?.clone()));
    keys.iter().filter_map(state).collect()
}
