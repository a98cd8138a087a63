//! AllowanceService: questions, parsed, answered from memory or from one consistent read of the
//! tables, and rendered. The one file where projector and wire meet.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use frikort_domain::{
    Amount, FrikortTag, LimitSchedule, PersonId, SCHEME_START, Slot, copenhagen_date, format_date,
    settle,
};
use frikort_event_store::EventStore;
use frikort_process::clock::Clock;
use frikort_proto::{
    error::{Failure, Faults},
    v1::{
        self, BatchAllowance, BatchGetAllowancesRequest, BatchGetAllowancesResponse, ErrorReason,
        GetAllowanceRequest, GetAllowanceResponse, GetStatementRequest, GetStatementResponse,
        allowance_service_server::AllowanceService,
    },
};
use frikort_register::{Named, Person, Register};
use time::Date;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    state::{State, View},
    statement::{self, StatedPayment},
    summary,
    tables::{self, Checkpoint, Years},
};

/// Persons of one batch.
const BATCH: usize = 1000;

/// How long an answer waits for `min_position` at most.
const WAIT: Duration = Duration::from_secs(5);

pub(crate) struct Allowances {
    pub(crate) store: EventStore,
    pub(crate) register: Register,
    pub(crate) states: BTreeMap<i32, Arc<State>>,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl AllowanceService for Allowances {
    async fn get_allowance(
        &self,
        request: Request<GetAllowanceRequest>,
    ) -> Result<Response<GetAllowanceResponse>, Status> {
        let patience = patience(request.metadata());
        let request = request.into_inner();
        let mut faults = Faults::default();
        let named = Named::parse(&mut faults, "person", request.person);
        check_year(&mut faults, request.year);
        check_position(&mut faults, request.min_position);
        let named = faults.finish(named)?;
        let (person, frikort) = self.find_at(&named, request.min_position, patience).await?;
        let view = self.view(&person).await?;
        if !view.years.knows(frikort) {
            return Err(nobody().into());
        }
        let limit = limit_of(&view.limits, request.year, self.today())?;
        let (total, payments) = view.years.of(request.year);
        let allowance = allowance(person.id, request.year, limit, total, payments);
        Ok(Response::new(GetAllowanceResponse {
            allowance: Some(allowance),
            position: Some(place(person.partition, view.checkpoint)),
        }))
    }

    async fn batch_get_allowances(
        &self,
        request: Request<BatchGetAllowancesRequest>,
    ) -> Result<Response<BatchGetAllowancesResponse>, Status> {
        let patience = patience(request.metadata());
        let request = request.into_inner();
        let (year, min_position) = (request.year, request.min_position);
        let named = parse_batch(request)?;
        let found = self.find(&named.iter().collect::<Vec<_>>()).await?;
        self.wait_for_all(min_position, patience).await?;
        let snapshot = self.snapshot(&found).await.map_err(|e| unread(&e))?;
        let mut results = Vec::with_capacity(found.len());
        for (index, found) in (0..).zip(found) {
            let years = found.and_then(|(person, frikort)| {
                let (_, limits, years) = snapshot.get(&person.partition)?;
                let years = years.get(&person.id).filter(|years| years.knows(frikort))?;
                Some((person.id, limits, years.of(year)))
            });
            let allowance = match years {
                Some((person, limits, (total, payments))) => {
                    let limit = limit_of(limits, year, self.today())?;
                    Some(allowance(person, year, limit, total, payments))
                }
                None => None,
            };
            results.push(BatchAllowance { index, allowance });
        }
        let positions =
            snapshot.iter().map(|(partition, (at, ..))| place(*partition, *at)).collect();
        Ok(Response::new(BatchGetAllowancesResponse { results, positions }))
    }

    async fn get_statement(
        &self,
        request: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>, Status> {
        let patience = patience(request.metadata());
        let request = request.into_inner();
        let mut faults = Faults::default();
        let named = Named::parse(&mut faults, "person", request.person);
        if request.year != 0 {
            check_year(&mut faults, request.year);
        }
        check_position(&mut faults, request.min_position);
        let hours_through = match request.hours_through {
            None => Some(self.today()),
            Some(day) => day.to_day().filter(|day| *day >= SCHEME_START),
        };
        if hours_through.is_none() {
            let first = format_date(SCHEME_START);
            faults.note("hours_through", format!("must be a day that exists, from {first} on"));
        }
        let (named, hours_through) = faults.finish(named.zip(hours_through))?;
        let (person, frikort) = self.find_at(&named, request.min_position, patience).await?;
        let year = (request.year != 0).then_some(request.year);
        Ok(Response::new(self.statement(&person, frikort, year, hours_through).await?))
    }
}

impl Allowances {
    pub(crate) fn today(&self) -> Date {
        copenhagen_date(self.clock.now())
    }

    /// The partitions, ascending.
    pub(crate) fn partitions(&self) -> Vec<i32> {
        self.states.keys().copied().collect()
    }

    /// Whom a request names, one by one.
    pub(crate) async fn find(
        &self,
        named: &[&Named],
    ) -> Result<Vec<Option<(Person, Option<FrikortTag>)>>, Failure> {
        self.register.find_named(named).await.map_err(|error| unread(&error))
    }

    /// The one person named, once the projection contains `min_position`. For nobody it waits as
    /// well: an answer that came sooner would tell who is in the register (W3).
    async fn find_at(
        &self,
        named: &Named,
        min_position: i64,
        patience: Duration,
    ) -> Result<(Person, Option<FrikortTag>), Failure> {
        let found = self.find(&[named]).await?.pop().flatten();
        let of_nobody = self.states.keys().next().copied().unwrap_or_default();
        let partition = found.as_ref().map_or(of_nobody, |(person, _)| person.partition);
        self.wait_for(partition, min_position, patience).await?;
        found.ok_or_else(nobody)
    }

    fn state(&self, partition: i32) -> Result<&Arc<State>, Failure> {
        self.states.get(&partition).ok_or_else(|| {
            tracing::error!(partition, "the partition was added after the start; restart");
            Failure::new(ErrorReason::Internal, "a fault of the server; its log has the cause")
        })
    }

    /// Waits until the projection contains `min_position`, as long as the caller does.
    async fn wait_for(
        &self,
        partition: i32,
        min_position: i64,
        patience: Duration,
    ) -> Result<(), Failure> {
        if min_position == 0 {
            return Ok(());
        }
        let mut applied = self.state(partition)?.applied();
        let reached = applied.wait_for(|at| at.position >= min_position);
        if tokio::time::timeout(patience, reached).await.is_ok() {
            return Ok(());
        }
        let position = applied.borrow().position;
        let behind = "the projection has not reached min_position; repeat after the delay";
        Err(Failure::new(ErrorReason::ProjectionBehind, behind)
            .with("position", position)
            .with("lag", min_position - position))
    }

    /// Waits until every partition contains `min_position`, or all of itself where it has fewer:
    /// such a partition has no such position. The one with the highest head must have it, so a
    /// position that is nowhere yet is waited for too.
    pub(crate) async fn wait_for_all(
        &self,
        min_position: i64,
        patience: Duration,
    ) -> Result<(), Failure> {
        if min_position == 0 {
            return Ok(());
        }
        let mut heads = Vec::with_capacity(self.states.len());
        for partition in self.states.keys() {
            let head = self.store.head(*partition).await.map_err(|error| unread(&error))?;
            heads.push((head.position, *partition));
        }
        let highest = heads.iter().max().copied();
        for (head, partition) in heads {
            let has = if highest == Some((head, partition)) { min_position } else { head };
            self.wait_for(partition, min_position.min(has), patience).await?;
        }
        Ok(())
    }

    /// One person's view: from memory, else from the tables.
    pub(crate) async fn view(&self, person: &Person) -> Result<View, Failure> {
        let state = self.state(person.partition)?;
        if let Some(view) = state.view(person.id) {
            return Ok(view);
        }
        let found = [Some((*person, None))];
        let mut snapshot = self.snapshot(&found).await.map_err(|error| unread(&error))?;
        let (checkpoint, limits, mut years) =
            snapshot.remove(&person.partition).unwrap_or_default();
        let years = years.remove(&person.id).unwrap_or_default();
        state.keep(person.id, years.clone(), checkpoint);
        Ok(View { checkpoint, limits: Arc::new(limits), years })
    }

    /// Every partition's checkpoint, limits and the years of those of the persons it holds, in
    /// one snapshot.
    async fn snapshot(
        &self,
        found: &[Option<(Person, Option<FrikortTag>)>],
    ) -> Result<Snapshot, sqlx::Error> {
        let mut tx = tables::begin_snapshot(self.store.pool()).await?;
        let mut snapshot = Snapshot::new();
        for partition in self.partitions_of(found) {
            let of_it = |(person, _): &&(Person, _)| person.partition == partition;
            let persons: Vec<PersonId> =
                found.iter().flatten().filter(of_it).map(|(person, _)| person.id).collect();
            let limits = tables::limits(&mut tx, partition).await?;
            let (checkpoint, years) = tables::years(&mut tx, partition, &persons).await?;
            snapshot.insert(partition, (checkpoint, limits, years));
        }
        tx.commit().await?;
        Ok(snapshot)
    }

    /// One person needs one partition; a batch says of all how far they are.
    fn partitions_of(&self, found: &[Option<(Person, Option<FrikortTag>)>]) -> Vec<i32> {
        match found {
            [Some((person, _))] => vec![person.partition],
            _ => self.states.keys().copied().collect(),
        }
    }

    async fn statement(
        &self,
        person: &Person,
        frikort: Option<FrikortTag>,
        year: Option<i32>,
        hours_through: Date,
    ) -> Result<GetStatementResponse, Failure> {
        let failed = |error: sqlx::Error| unread(&error);
        let mut tx = tables::begin_snapshot(self.store.pool()).await.map_err(failed)?;
        let partition = person.partition;
        let limits = tables::limits(&mut tx, partition).await.map_err(failed)?;
        let (checkpoint, years) =
            tables::years(&mut tx, partition, &[person.id]).await.map_err(failed)?;
        let years =
            years.get(&person.id).filter(|years| years.knows(frikort)).ok_or_else(nobody)?;
        let mut payments =
            statement::payments(&mut tx, partition, person.id).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;

        let mut allowances = Vec::new();
        for (of, _, _) in &years.totals {
            let limit = limit_of(&limits, *of, self.today())?;
            settle_year(&mut payments, *of, limit);
            let (total, count) = years.of(*of);
            allowances.push(allowance(person.id, *of, limit, total, count));
        }
        allowances.sort_by_key(|allowance| allowance.year);
        let wanted = |of: i32| year.is_none_or(|year| year == of);
        allowances.retain(|allowance| wanted(allowance.year));
        let hours = summary::hours(payments.iter(), hours_through);
        payments.retain(|payment| wanted(payment.year));
        Ok(GetStatementResponse {
            person_id: person.id.to_string(),
            payments: payments.iter().map(|payment| payment.render(person.id)).collect(),
            allowances,
            position: Some(place(partition, checkpoint)),
            months: summary::months(payments.iter()),
            hours: Some(hours),
        })
    }
}

type Snapshot =
    BTreeMap<i32, (Checkpoint, LimitSchedule, std::collections::HashMap<PersonId, Years>)>;

/// Splits as the limit in force today makes them. They stand so in the table already, unless the
/// limit has changed since the person's last event.
fn settle_year(payments: &mut [StatedPayment], year: i32, limit: Amount) {
    let mut drawing: Vec<&mut StatedPayment> =
        payments.iter_mut().filter(|payment| payment.year == year && !payment.cancelled).collect();
    drawing.sort_by_key(|payment| payment.drawn);
    let slot = |payment: &&mut StatedPayment| Slot {
        amount: payment.facts.amount,
        exempt: payment.exempt,
    };
    let mut slots: Vec<Slot> = drawing.iter().map(slot).collect();
    settle(limit, &mut slots);
    for (payment, slot) in drawing.iter_mut().zip(slots) {
        payment.exempt = slot.exempt;
    }
}

fn parse_batch(request: BatchGetAllowancesRequest) -> Result<Vec<Named>, Failure> {
    let mut faults = Faults::default();
    check_year(&mut faults, request.year);
    check_position(&mut faults, request.min_position);
    if request.persons.is_empty() || request.persons.len() > BATCH {
        faults.note("persons", format!("must be 1 to {BATCH}"));
        return faults.finish(None);
    }
    let mut named = Vec::with_capacity(request.persons.len());
    for (index, person) in request.persons.into_iter().enumerate() {
        named.extend(Named::parse(&mut faults, &format!("persons[{index}]"), Some(person)));
    }
    faults.finish(Some(named))
}

pub(crate) fn check_year(faults: &mut Faults, year: i32) {
    let first = SCHEME_START.year();
    if !(first..=9999).contains(&year) {
        faults.note("year", format!("must be from {first} to 9999"));
    }
}

pub(crate) fn check_position(faults: &mut Faults, min_position: i64) {
    if min_position < 0 {
        faults.note("min_position", "must be 0 or more");
    }
}

/// How long this caller waits: nine tenths of its deadline, so that it gets our answer and not
/// its own time-out. gRPC over HTTP/2: `grpc-timeout: <digits><unit>`.
pub(crate) fn patience(metadata: &MetadataMap) -> Duration {
    let deadline = metadata.get("grpc-timeout").and_then(|value| {
        let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
        let amount: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(amount.saturating_mul(3600)),
            "M" => Duration::from_secs(amount.saturating_mul(60)),
            "S" => Duration::from_secs(amount),
            "m" => Duration::from_millis(amount),
            "u" => Duration::from_micros(amount),
            "n" => Duration::from_nanos(amount),
            _ => return None,
        })
    });
    deadline.map_or(WAIT, |deadline| (deadline / 10 * 9).min(WAIT))
}

fn limit_of(limits: &LimitSchedule, year: i32, today: Date) -> Result<Amount, Failure> {
    limits.limit_on(year, today).ok_or_else(|| {
        let message = format!("no limit is on record for the calendar year {year}");
        Failure::new(ErrorReason::LimitNotSet, message).with("year", year)
    })
}

pub(crate) fn nobody() -> Failure {
    Failure::new(ErrorReason::NoCard, "no card is known for this person")
}

pub(crate) fn unread(error: &(dyn std::error::Error + 'static)) -> Failure {
    tracing::warn!(error, "the projection cannot be read");
    Failure::new(ErrorReason::StoreUnavailable, "the database cannot be reached; repeat the call")
}

fn allowance(
    person: PersonId,
    year: i32,
    limit: Amount,
    total: Amount,
    payments: u32,
) -> v1::Allowance {
    v1::Allowance::new(person.to_string(), year, limit.oere(), total.oere(), payments)
}

pub(crate) fn place(partition: i32, at: Checkpoint) -> v1::LedgerPosition {
    v1::LedgerPosition::new(partition, at.position, at.recorded_at)
}
