//! Planning a pay run: what each line would do after the lines before it, with nothing recorded.
//!
//! A plan tries the lines on copies of the persons' accounts, which their partitions hand out, with
//! the rules that record them. So it costs the sequencer a copy, and no decision. Accounts are kept
//! up to a bound; who comes again after that is copied anew, and the person's earlier lines are
//! tried again. What must stay out: appending, and what a run is recognized by.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use frikort_domain::{Command, Decision, LimitSchedule, PersonId, ReportPayment, decide_within};
use frikort_event_store::ServerRun;
use frikort_process::lane::ReplyTo;
use frikort_proto::error::Failure;
use frikort_register::Person;
use time::{Date, OffsetDateTime};
use tokio::sync::oneshot;

use crate::{
    cache::Accounts,
    fail::{internal, store_unavailable},
    ledger::{By, Ledger},
    sequencer::{Answer, Ask, Body, Refused, Reply, Request, body},
};

/// Payments whose accounts one plan keeps, at about half a KB each.
const KEPT_PAYMENTS: usize = 20_000;

/// A run that is being planned.
pub(crate) struct Plan {
    ledger: Arc<Ledger>,
    by: By,
    /// The day for which all of it is decided.
    pub(crate) today: Date,
    limits: BTreeMap<i32, LimitSchedule>,
    accounts: Accounts,
    persons: HashMap<PersonId, Planned>,
    /// The server run that all copies must be of.
    run: ServerRun,
    /// The lines that would be recorded.
    lines: Vec<Line>,
}

/// What is planned for one person.
#[derive(Clone, Copy)]
struct Planned {
    /// The position that the account was copied at.
    position: i64,
    recorded_at: Option<OffsetDateTime>,
    /// The person's last line in `lines`.
    last: Option<usize>,
}

struct Line {
    report: ReportPayment,
    /// The same person's line before.
    before: Option<usize>,
}

impl Plan {
    /// A plan without lines.
    pub(crate) fn new(ledger: Arc<Ledger>, by: By) -> Self {
        Self {
            today: ledger.today(),
            run: ledger.sessions.server_run(),
            ledger,
            by,
            limits: BTreeMap::new(),
            accounts: Accounts::new(KEPT_PAYMENTS),
            persons: HashMap::new(),
            lines: Vec::new(),
        }
    }

    /// Copies the accounts that these lines need; those that are not needed any more make room.
    pub(crate) async fn load(
        &mut self,
        lines: impl Iterator<Item = &Person>,
    ) -> Result<(), Failure> {
        self.accounts.shrink();
        let persons: BTreeMap<PersonId, Person> =
            lines.map(|person| (person.id, *person)).collect();
        let mut copies = Vec::new();
        for person in self.accounts.missing(persons.keys().copied()) {
            let found = persons[&person];
            let partition = found.partition;
            if !self.limits.contains_key(&partition) {
                let limits = self.read_limits(partition).await?;
                self.limits.insert(partition, limits);
            }
            copies.push((person, partition, self.ask_copy(&found).await?));
        }
        for (person, partition, copy) in copies {
            let copy = copy.await.unwrap_or(Err(Refused::Internal))?;
            let Body::Account(account) = copy.body else { return Err(internal()) };
            let planned = Planned {
                position: copy.position,
                recorded_at: copy.recorded_at,
                last: self.persons.get(&person).and_then(|planned| planned.last),
            };
            self.persons.insert(person, planned);
            self.accounts.insert(person, *account);
            self.try_again(person, partition);
        }
        // A plan of two histories is none.
        if self.ledger.sessions.server_run() != self.run {
            return Err(store_unavailable());
        }
        Ok(())
    }

    async fn read_limits(&self, partition: i32) -> Result<LimitSchedule, Failure> {
        let answer = self.ledger.ask(partition, Ask::Limits, true, self.by.clone()).await?;
        let Body::Limits(limits) = answer.body else { return Err(internal()) };
        Ok(limits)
    }

    /// Waits for room in the partition's queue, as every stream does.
    async fn ask_copy(&self, person: &Person) -> Result<oneshot::Receiver<Reply>, Failure> {
        let (reply, copy) = ReplyTo::here();
        let By { actor, trace_id } = self.by.clone();
        let ask = Ask::Account(person.into());
        let request = Request { ask, validate_only: true, actor, trace_id, reply };
        self.ledger.sequencer(person.partition)?.hand_in(request).await;
        Ok(copy)
    }

    /// Tries a person's lines so far on a new copy of the account. A line that would do nothing any
    /// more, since somebody has recorded something meanwhile, does nothing.
    fn try_again(&mut self, person: PersonId, partition: i32) {
        let mut numbers = Vec::new();
        let mut next = self.persons.get(&person).and_then(|planned| planned.last);
        while let Some(number) = next {
            numbers.push(number);
            next = self.lines[number].before;
        }
        for number in numbers.into_iter().rev() {
            let report = self.lines[number].report.clone();
            let _ = self.try_on(person, partition, number, &Command::ReportPayment(report));
        }
    }

    /// What the next line would do. The person's account must be loaded.
    pub(crate) fn next(
        &mut self,
        person: &Person,
        report: ReportPayment,
    ) -> Result<Answer, Refused> {
        let number = self.lines.len();
        let command = Command::ReportPayment(report);
        let answer = self.try_on(person.id, person.partition, number, &command)?;
        if !answer.replayed
            && let Command::ReportPayment(report) = command
            && let Entry::Occupied(mut planned) = self.persons.entry(person.id)
        {
            let before = planned.get_mut().last.replace(number);
            self.lines.push(Line { report, before });
        }
        Ok(answer)
    }

    /// Decides as the sequencer does, on the copy. Answers are as of the copy's position; the copy
    /// itself counts on from there, so that payments keep their order.
    fn try_on(
        &mut self,
        person: PersonId,
        partition: i32,
        number: usize,
        command: &Command,
    ) -> Result<Answer, Refused> {
        let planned = *self.persons.get(&person).ok_or(Refused::Internal)?;
        let limits = self.limits.get(&partition).ok_or(Refused::Internal)?;
        let (now, today) = (self.ledger.clock.now(), self.today);
        let payments_per_year = self.ledger.payments_per_year;
        let told = |replayed, body| Answer {
            position: planned.position,
            recorded_at: planned.recorded_at,
            replayed,
            body,
        };
        let position = i64::try_from(number).map_or(i64::MAX, |n| planned.position + n + 1);
        let tried = self.accounts.change(person, |account| {
            let decided = decide_within(account, limits, payments_per_year, command, today);
            match decided.map_err(Refused::Rejected)? {
                Decision::Record(event) => {
                    let version = account.version() + 1;
                    account.apply(&event, version, position, now).map_err(|_| Refused::Internal)?;
                    Ok(told(false, body(&event, account, limits, today).ok_or(Refused::Internal)?))
                }
                // Of a line before this one: nothing is recorded yet.
                Decision::ReplayPayment(answer, _) if answer.position > planned.position => {
                    Ok(told(true, Body::Payment(answer.outcome, None)))
                }
                Decision::ReplayPayment(answer, changed_since) => Ok(Answer {
                    position: answer.position,
                    recorded_at: Some(answer.recorded_at),
                    replayed: true,
                    body: Body::Payment(answer.outcome, changed_since),
                }),
                Decision::ReplayCard(_) | Decision::Settled => Err(Refused::Internal),
            }
        });
        tried.unwrap_or(Err(Refused::Internal))
    }
}
