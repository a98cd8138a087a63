//! Running a list: each person's operations in their order, different persons' at the same time,
//! and what concerns everybody when all before it is done.

use std::{collections::BTreeMap, ops::AddAssign};

use frikort_process::clock::Clock;
use frikort_proto::v1::{
    BatchGetAllowancesRequest, GetAllowanceRequest, GetCardRequest, GetStatementRequest,
    ReportPaymentsRequest, report_payments_response,
};
use futures::{TryStreamExt, stream};
use tokio::sync::watch;
use tonic::Status;

use super::{
    Difference,
    expect::{AllLimits, Finding, Someone, as_if_first, cpr_of, is_replayed},
    list::{Ask, Call, List, Named, Op, Question},
    request::{self, Request, wire_as_of},
    stack::Stack,
    wire::{self, Told, unwrapped},
};
use crate::{
    audit,
    model::{Allowance, Answer, AsOf, Day, Limits, Refusal},
};

/// Persons whose operations are under way at the same time.
pub(super) const TURNS: usize = 64;

/// Years that are looked at in the end: those of the generator, and one on either side.
const YEARS: std::ops::RangeInclusive<i32> = 2020..=2027;

/// What a run has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations.
    pub operations: usize,
    /// Answers that were held against the model.
    pub answers: usize,
    /// Those of them that were asked as of the past.
    pub past: usize,
    /// Events that were recorded.
    pub events: usize,
    /// Processes that were killed or stopped.
    pub restarts: usize,
    /// Calls that were sent again, since no answer came.
    pub lost: usize,
    /// What came of calls, by its name: `recorded`, `replayed`, or why it was refused.
    pub outcomes: BTreeMap<String, usize>,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.answers += other.answers;
        self.past += other.past;
        self.events += other.events;
        self.restarts += other.restarts;
        self.lost += other.lost;
        for (outcome, times) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += times;
        }
    }
}

/// A bug that a test puts into every answer.
pub type Tamper = fn(&mut Answer);

/// Runs a list on a database and processes of its own. Fails with a [`Difference`] where an answer
/// is not what the model says.
pub async fn run(list: &List, tamper: Option<Tamper>) -> anyhow::Result<Counts> {
    let stack = Stack::start(list.ledgers, list.partitions).await?;
    let today = Day::in_copenhagen(Clock::system().now());
    let limits = (0..list.partitions).map(|partition| (partition, Limits::default()));
    let people = (0..list.persons()).map(Someone::new).collect();
    let mut run = Run {
        stack: &stack,
        today,
        limits: limits.collect(),
        people,
        counts: Counts { operations: list.ops.len(), ..Counts::default() },
        tamper,
    };
    let mut rest: Vec<(usize, &Op)> = list.ops.iter().enumerate().collect();
    while !rest.is_empty() {
        let end = rest.iter().position(|(_, op)| op.waits_for_all()).unwrap_or(rest.len());
        let after = rest.split_off(end);
        run.turns(&rest).await?;
        rest = after;
        if !rest.is_empty() {
            let (at, op) = rest.remove(0);
            run.together(op).await.map_err(|error| placed(error, at))?;
        }
    }
    run.look_at_everything(list.seed).await?;
    let mut counts = run.counts;
    for outcome in run.people.iter().flat_map(|someone| &someone.outcomes) {
        *counts.outcomes.entry(outcome.clone()).or_default() += 1;
    }
    counts.lost = stack.lost.load(std::sync::atomic::Ordering::Relaxed);
    stack.stop().await?;
    Ok(counts)
}

/// Says at which operation a difference was found.
fn placed(error: anyhow::Error, at: usize) -> anyhow::Error {
    match error.downcast::<Difference>() {
        Ok(difference) => Difference { op: Some(at), ..difference }.into(),
        Err(error) => error.context(format!("operation {at}")),
    }
}

/// A run that is under way.
pub(super) struct Run<'a> {
    pub(super) stack: &'a Stack,
    pub(super) today: Day,
    pub(super) limits: AllLimits,
    pub(super) people: Vec<Someone>,
    pub(super) counts: Counts,
    tamper: Option<Tamper>,
}

/// What everybody's turn needs and nobody's changes.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    stack: &'a Stack,
    limits: &'a AllLimits,
    today: Day,
    tamper: Option<Tamper>,
}

impl Run<'_> {
    /// Operations of single persons, and processes that are restarted meanwhile: each when as many
    /// operations are done as stand before it.
    async fn turns(&mut self, ops: &[(usize, &Op)]) -> anyhow::Result<()> {
        let mut turns: BTreeMap<usize, Vec<(usize, &Op)>> = BTreeMap::new();
        let mut restarts = Vec::new();
        let mut before = 0;
        for (at, op) in ops {
            if matches!(op, Op::Ask(Ask { past: Some(_), .. })) {
                self.counts.past += 1;
            }
            if let Some(person) = op.person() {
                turns.entry(person).or_default().push((*at, *op));
                before += 1;
            } else if let Op::Restart { who, gently } = op {
                restarts.push((*at, before, *who, *gently));
            }
        }
        self.counts.answers += before;
        self.counts.restarts += restarts.len();
        let (done, _) = watch::channel(0_usize);
        let Self { stack, today, ref limits, tamper, .. } = *self;
        let ground = Ground { stack, limits, today, tamper };
        let turns = self
            .people
            .iter_mut()
            .filter_map(|someone| turns.remove(&someone.number).map(|ops| (someone, ops)));
        let all_turns = stream::iter(turns.map(Ok)).try_for_each_concurrent(TURNS, |(who, ops)| {
            let done = &done;
            async move {
                for (at, op) in ops {
                    ground.one(who, op).await.map_err(|error| placed(error, at))?;
                    done.send_modify(|done| *done += 1);
                }
                anyhow::Ok(())
            }
        });
        let all_restarts = async {
            let mut done = done.subscribe();
            for (at, before, who, gently) in restarts {
                done.wait_for(|done| *done >= before).await?;
                stack.restart(who, gently).await.map_err(|error| placed(error, at))?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(all_turns, all_restarts)?;
        Ok(())
    }

    /// An operation that waits for all before it.
    async fn together(&mut self, op: &Op) -> anyhow::Result<()> {
        match op {
            Op::Stream(calls) => self.stream(calls).await,
            Op::Limit(limit) => self.set_limit(limit).await,
            Op::Batch { persons, year } => self.batch(persons, *year, |_| AsOf::default()).await,
            Op::Call(_) | Op::Ask(_) | Op::Restart { .. } => Ok(()),
        }
    }

    /// A pay run; what was not answered when the stream broke is sent again on the next one.
    async fn stream(&mut self, calls: &[Call]) -> anyhow::Result<()> {
        let mut items = Vec::with_capacity(calls.len());
        for call in calls {
            let who = self.people[call.person].name(call.named, false);
            let person = call.person;
            let cpr = |number| cpr_of(person, number);
            match request::request(who, &call.command, call.dry, cpr) {
                Request::Report(report) => items.push(report),
                other => anyhow::bail!("only reports can be streamed: {other:?}"),
            }
        }
        let mut told: Vec<(Told, bool)> = Vec::with_capacity(calls.len());
        while told.len() < calls.len() {
            let resent = !told.is_empty();
            let rest = items[told.len()..].to_vec();
            let ask = async |via: usize| self.stream_once(via, rest.clone()).await;
            let (answers, lost) = self.stack.insist(calls[0].via, ask).await?;
            told.extend(answers.into_iter().map(|answer| (answer, lost || resent)));
        }
        for (call, (mut told, lost)) in calls.iter().zip(told) {
            if let Some(tamper) = self.tamper {
                tamper(&mut told.answer);
            }
            self.people[call.person].judge(call, told, lost, &self.limits, self.today)?;
        }
        self.counts.answers += calls.len();
        Ok(())
    }

    /// Answers up to the first that is missing; at least one.
    async fn stream_once(
        &self,
        via: usize,
        items: Vec<frikort_proto::v1::ReportPaymentRequest>,
    ) -> Result<Vec<Told>, Status> {
        let items = items
            .into_iter()
            .map(|payment| ReportPaymentsRequest { payment: Some(payment), ..Default::default() });
        let mut payments = self.stack.ledger(via).payments;
        let mut answers = payments.report_payments(stream::iter(items)).await?.into_inner();
        let mut told = Vec::new();
        let mut broken = Status::unavailable("the stream ended early");
        loop {
            let result = match answers.message().await {
                Ok(Some(item)) => item.result,
                Ok(None) => break,
                Err(status) => {
                    broken = status;
                    break;
                }
            };
            match result {
                Some(report_payments_response::Result::Recorded(answer)) => {
                    told.push(wire::report_told(answer));
                }
                Some(report_payments_response::Result::Refused(refusal)) => {
                    let Some(refusal) = wire::item_refused(refusal) else { break };
                    told.push(Told { answer: Answer::Refused(refusal), place: None });
                }
                // Totals are for streams that ask for them.
                Some(report_payments_response::Result::Totals(_)) | None => break,
            }
        }
        if told.is_empty() { Err(broken) } else { Ok(told) }
    }

    /// One question about several persons. `as_of` says for each partition what is asked for.
    pub(super) async fn batch(
        &mut self,
        persons: &[usize],
        year: i32,
        as_of: impl Fn(i32) -> AsOf,
    ) -> anyhow::Result<()> {
        let asked: Vec<&Someone> = persons.iter().map(|person| &self.people[*person]).collect();
        let own = asked.iter().map(|someone| someone.log.last_position());
        let limits = self.limits.values().map(Limits::last_position);
        let min_position = own.chain(limits).max().unwrap_or(0);
        let request = BatchGetAllowancesRequest {
            persons: asked.iter().map(|someone| someone.name(Named::USUAL, false)).collect(),
            year,
            min_position,
            as_of: Some(wire_as_of(as_of(0))),
        };
        let ask = async |_| {
            let mut allowances = self.stack.allowances.clone();
            match allowances.batch_get_allowances(request.clone()).await {
                Ok(answer) => Ok(Ok(unwrapped(answer))),
                Err(status) => wire::refused(status).map(Err),
            }
        };
        let (told, _) = self.stack.insist(0, ask).await?;
        let told: Result<Vec<Option<Allowance>>, Refusal> = told.map(|told| {
            told.results
                .iter()
                .map(|result| result.allowance.as_ref().map(wire::allowance))
                .collect()
        });
        // P9: whoever in it has a card.
        let without_limit = self.limits.iter().any(|(partition, limits)| {
            let as_of = as_of(*partition);
            limits.on(year, as_of.limit_day(self.today), as_of.position()).is_none()
        });
        let expected: Result<Vec<Option<Allowance>>, Refusal> = asked
            .iter()
            .filter(|_| !without_limit)
            .map(|someone| {
                let limits = someone.limits(&self.limits);
                match someone.log.allowance(limits, year, as_of(someone.partition), self.today) {
                    Ok(allowance) => Ok(Some(allowance)),
                    Err(refusal) if refusal.reason == "NO_CARD" => Ok(None),
                    Err(refusal) => Err(refusal),
                }
            })
            .collect();
        let expected = match without_limit {
            true => Err(Refusal::new("LIMIT_NOT_SET").with("year", year)),
            false => expected,
        };
        self.counts.answers += persons.len();
        if told != expected {
            return Err(Difference::of(&expected, &told).into());
        }
        Ok(())
    }

    /// Every total, split, month and hour of everybody, and every event.
    async fn look_at_everything(&mut self, seed: u64) -> anyhow::Result<()> {
        let everybody: Vec<usize> = (0..self.people.len()).collect();
        for some in everybody.chunks(1000) {
            for year in YEARS {
                self.batch(some, year, |_| AsOf::default()).await?;
            }
        }
        let ground = Ground::of(self.stack, &self.limits, self.today);
        let hours_through = self.today;
        stream::iter(self.people.iter_mut().map(Ok::<_, anyhow::Error>))
            .try_for_each_concurrent(TURNS, |someone| async move {
                for question in [Question::Card, Question::Statement { year: None, hours_through }]
                {
                    let (person, named) = (someone.number, Named::USUAL);
                    let ask = Ask { person, named, question, past: None };
                    ground.ask(someone, &ask, AsOf::default()).await?;
                }
                Ok(())
            })
            .await?;
        self.counts.answers += 2 * self.people.len();
        let events = self.look_at_events().await?;
        self.look_back(&events, seed).await?;
        let pool = self.stack.database.pool().await?;
        // A task of its own, so that what does not hold is an error here.
        let audit = tokio::spawn(async move {
            audit::assert_sound(&pool).await;
            audit::assert_projection_is_the_fold(&pool).await;
        });
        audit.await?;
        Ok(())
    }
}

impl<'a> Ground<'a> {
    pub(super) fn of(stack: &'a Stack, limits: &'a AllLimits, today: Day) -> Self {
        Self { stack, limits, today, tamper: None }
    }

    /// One operation in a person's turn.
    async fn one(self, someone: &mut Someone, op: &Op) -> anyhow::Result<()> {
        match op {
            Op::Call(call) => self.call(someone, call).await,
            Op::Ask(ask) => self.ask(someone, ask, someone.as_of(ask.past)).await,
            _ => Ok(()),
        }
    }

    async fn call(self, someone: &mut Someone, call: &Call) -> anyhow::Result<()> {
        let who = someone.name(call.named, call.command.needs_no_card());
        let cpr = |number| cpr_of(call.person, number);
        let request = request::request(who, &call.command, call.dry, cpr);
        let send = async |via: usize| wire::send(self.stack.ledger(via), request.clone()).await;
        // What is asked for dry tells of the head, which others move.
        let (mut told, lost) = if call.twice && !call.dry {
            let one = self.stack.insist(call.via, send);
            let other = self.stack.insist(call.via + 1, send);
            first_of(tokio::try_join!(one, other)?)?
        } else {
            self.stack.insist(call.via, send).await?
        };
        if let Some(tamper) = self.tamper {
            tamper(&mut told.answer);
        }
        someone.judge(call, told, lost, self.limits, self.today)
    }

    pub(super) async fn ask(self, someone: &Someone, ask: &Ask, as_of: AsOf) -> anyhow::Result<()> {
        let min_position = match someone.log.last_position() {
            0 => 0,
            own => own.max(someone.limits(self.limits).last_position()),
        };
        let person = Some(someone.name(ask.named, false));
        let send = async |via: usize| {
            let person = person.clone();
            let mut allowances = self.stack.allowances.clone();
            let told = match ask.question {
                Question::Card => {
                    let request = GetCardRequest { person };
                    let told = self.stack.ledger(via).visitations.get_card(request).await;
                    told.map(unwrapped).map(|told| {
                        let card = wire::card_answer(&told.card.unwrap_or_default());
                        Finding::Card(card, told.decisions.iter().map(wire::on_record).collect())
                    })
                }
                Question::Allowance(year) => {
                    let as_of = Some(wire_as_of(as_of));
                    let request = GetAllowanceRequest { person, year, min_position, as_of };
                    let told = allowances.get_allowance(request).await.map(unwrapped);
                    told.map(|told| {
                        Finding::Allowance(wire::allowance(&told.allowance.unwrap_or_default()))
                    })
                }
                Question::Statement { year, hours_through } => {
                    let request = GetStatementRequest {
                        person,
                        year: year.unwrap_or(0),
                        min_position,
                        hours_through: request::wire_day(hours_through),
                        as_of: Some(wire_as_of(as_of)),
                        with_history: false,
                        ..GetStatementRequest::default()
                    };
                    let told = allowances.get_statement(request).await.map(unwrapped);
                    told.map(|told| Finding::Statement(Box::new(wire::statement(&told))))
                }
            };
            told.or_else(|status| wire::refused(status).map(Finding::Refused))
        };
        let (told, _) = self.stack.insist(someone.number, send).await?;
        let expected = someone.expect_finding(ask, self.limits, self.today, as_of);
        if told != expected {
            let difference = Difference::of(&expected, &told);
            let text = format!("{ask:?} {as_of:?}: {}", difference.text);
            let person = Some(someone.number);
            return Err(Difference { person, ..Difference::new(text) }.into());
        }
        Ok(())
    }
}

/// Of two answers to the same call, the one that is not a repeat of the other.
fn first_of(
    ((one, one_lost), (other, other_lost)): ((Told, bool), (Told, bool)),
) -> anyhow::Result<(Told, bool)> {
    let lost = one_lost || other_lost;
    let (first, second) = if is_replayed(&one.answer) { (other, one) } else { (one, other) };
    let mut as_first = second.clone();
    as_if_first(&mut as_first.answer);
    let mut plain = first.clone();
    as_if_first(&mut plain.answer);
    let same = as_first.answer == plain.answer;
    let refused = matches!(first.answer, Answer::Refused(_));
    let one_is_repeat = refused || lost || is_replayed(&second.answer);
    if !same || !one_is_repeat {
        return Err(Difference::new(format!("delivered twice: {first:?} and {second:?}")).into());
    }
    Ok((first, lost))
}
