//! AllowanceService: questions, parsed, answered from memory, from one consistent read of the
//! tables, or (the past) from the events, and rendered.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    iter::successors,
    pin::Pin,
    sync::Arc,
};

use frikort_access::{Caller, Looking, Lookups, Misses};
use frikort_domain::{
    Amount, FrikortTag, LimitChanges, LimitSchedule, PersonId, Slot, copenhagen_date, settle,
};
use frikort_event_store::{DatabaseSessions, EventStore, ServerRun};
use frikort_process::{clock::Clock, serve::deadline};
use frikort_proto::{
    error::Failure,
    v1::{
        BatchAllowance, BatchGetAllowancesRequest, BatchGetAllowancesResponse, ErrorReason,
        GetAllowanceRequest, GetAllowanceResponse, GetStatementRequest, GetStatementResponse,
        WatchAllowancesRequest, WatchAllowancesResponse,
        allowance_service_server::AllowanceService,
    },
};
use frikort_register::{Named, Person, Register};
use futures::Stream;
use time::{Date, OffsetDateTime};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::{
    annual_totals::Listings,
    as_of::{AsOf, KnownAt, Moment},
    asked,
    page::of_another_list,
    past, sight,
    state::{State, View},
    statement::{self, StatedPayment},
    statement_page::{StatementFilter, StatementPlace, StatementToken, cut},
    summary,
    tables::{self, Checkpoint, Years},
    watch::{self, LastSent, Watching},
    wire::{
        ResumePosition, allowance, internal, limit_of, nobody, place, resume_position_lost, unread,
        untold,
    },
};

/// Accounts of the past that one question holds at a time.
const PASTS: usize = 64;

pub(crate) struct Allowances {
    pub(crate) sessions: DatabaseSessions,
    pub(crate) store: EventStore,
    /// For reading whole streams, which may take longer than a question.
    pub(crate) past: EventStore,
    pub(crate) register: Arc<Register>,
    pub(crate) lookups: Lookups,
    pub(crate) states: BTreeMap<i32, Arc<State>>,
    pub(crate) clock: Clock,
    pub(crate) watching: Watching,
    pub(crate) listings: Listings,
    /// Cancelled when the process stops.
    pub(crate) stop: CancellationToken,
}

/// A person as a request names one, found: with the tag of the Frikort-ID given beside.
pub(crate) type Found = (Person, Option<FrikortTag>);

/// What is asked about persons.
pub(crate) struct Asked {
    /// 0 for all.
    pub(crate) year: i32,
    pub(crate) as_of: AsOf,
    pub(crate) min_position: i64,
}

impl Asked {
    /// As the access log has it.
    fn told(&self) -> String {
        let year = match self.year {
            0 => "all years".to_owned(),
            year => format!("year {year}"),
        };
        year + &self.as_of.told()
    }
}

/// One partition, as a question is answered from it.
pub(crate) struct Known {
    at: Checkpoint,
    /// The day whose limits are in force.
    day: Date,
    limits: LimitSchedule,
    /// Of the persons asked about, those it knows.
    pub(crate) persons: HashMap<PersonId, Years>,
}

/// What a statement is made of.
struct Told {
    at: Checkpoint,
    /// The day whose limits are in force.
    day: Date,
    limits: LimitSchedule,
    years: Years,
    /// Position and instant of the event that last settled each year's splits.
    settled: BTreeMap<i32, (i64, OffsetDateTime)>,
    payments: Vec<StatedPayment>,
}

#[tonic::async_trait]
impl AllowanceService for Allowances {
    type WatchAllowancesStream =
        Pin<Box<dyn Stream<Item = Result<WatchAllowancesResponse, Status>> + Send>>;

    async fn get_allowance(
        &self,
        request: Request<GetAllowanceRequest>,
    ) -> Result<Response<GetAllowanceResponse>, Status> {
        let run = self.sessions.server_run();
        let answer = self.answer_get_allowance(request).await;
        self.of_one_history(run, answer)
    }

    async fn batch_get_allowances(
        &self,
        request: Request<BatchGetAllowancesRequest>,
    ) -> Result<Response<BatchGetAllowancesResponse>, Status> {
        let run = self.sessions.server_run();
        let answer = self.answer_batch_get_allowances(request).await;
        self.of_one_history(run, answer)
    }

    async fn get_statement(
        &self,
        request: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>, Status> {
        let run = self.sessions.server_run();
        let answer = self.answer_get_statement(request).await;
        self.of_one_history(run, answer)
    }

    async fn watch_allowances(
        &self,
        request: Request<WatchAllowancesRequest>,
    ) -> Result<Response<Self::WatchAllowancesStream>, Status> {
        let by = Looking::of(&request)?;
        let stream = watch::start(self, &by, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}

impl Allowances {
    async fn answer_get_allowance(
        &self,
        request: Request<GetAllowanceRequest>,
    ) -> Result<Response<GetAllowanceResponse>, Status> {
        let (deadline, by) = (deadline(request.metadata()), Looking::of(&request)?);
        let request = request.into_inner();
        let (year, min_position) = (request.year, request.min_position);
        let (named, as_of) = asked::allowance(request, self.clock.now())?;
        let asked = Asked { year, as_of, min_position };
        let ((person, frikort), moment) = self.find_at(&by, &named, asked, deadline).await?;
        let (view, day) = match moment {
            None => (self.view(&person).await?, self.today()),
            // Boxed as in `view`.
            Some(moment) => (Box::pin(self.past_view(&person, moment)).await?, moment.day),
        };
        if !view.years.knows(frikort) {
            return Err(nobody().into());
        }
        let limit = limit_of(&view.limits, year, day)?;
        let (total, payments) = view.years.of(year);
        let allowance = allowance(person.id, year, limit, total, payments);
        Ok(Response::new(GetAllowanceResponse {
            allowance: Some(sight::allowance(&by.who, allowance)),
            position: Some(place(person.partition, view.checkpoint)),
        }))
    }

    async fn answer_batch_get_allowances(
        &self,
        request: Request<BatchGetAllowancesRequest>,
    ) -> Result<Response<BatchGetAllowancesResponse>, Status> {
        let (deadline, by) = (deadline(request.metadata()), Looking::of(&request)?);
        let misses = Misses::within(request.extensions());
        let request = request.into_inner();
        let (year, min_position) = (request.year, request.min_position);
        let (named, as_of) = asked::allowances(request, self.clock.now())?;
        self.wait_for_all(as_of.min_position(min_position), deadline).await?;
        let asked = Asked { year, as_of, min_position };
        let found = self.look(&by, &named.iter().collect::<Vec<_>>(), &asked).await?;
        let partitions: Vec<i32> = self.states.keys().copied().collect();
        let snapshot = if as_of.is_now() {
            self.snapshot(&partitions, &found).await.map_err(|e| self.unread(&e))?
        } else {
            let moments = self.moments(&partitions, &as_of, deadline).await?;
            self.past(&moments, &found).await?
        };
        // P9: without a limit the whole batch is refused, also if none of the persons has a card (W3).
        let limits = snapshot
            .iter()
            .map(|(partition, known)| Ok((*partition, limit_of(&known.limits, year, known.day)?)))
            .collect::<Result<BTreeMap<i32, Amount>, Failure>>()?;
        let mut results = Vec::with_capacity(found.len());
        for (index, found) in (0..).zip(found) {
            let known = found.and_then(|(person, frikort)| {
                let known = snapshot.get(&person.partition)?;
                let years = known.persons.get(&person.id).filter(|years| years.knows(frikort))?;
                Some((person.id, limits.get(&person.partition)?, years.of(year)))
            });
            let allowance = known.map(|(person, limit, (total, payments))| {
                let allowance = allowance(person, year, *limit, total, payments);
                sight::allowance(&by.who, allowance)
            });
            results.push(BatchAllowance { index, allowance });
        }
        let missed = results.iter().filter(|result| result.allowance.is_none()).count();
        misses.count(u32::try_from(missed).unwrap_or(u32::MAX));
        let positions =
            snapshot.iter().map(|(partition, known)| place(*partition, known.at)).collect();
        Ok(Response::new(BatchGetAllowancesResponse { results, positions }))
    }

    async fn answer_get_statement(
        &self,
        request: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>, Status> {
        let (deadline, by) = (deadline(request.metadata()), Looking::of(&request)?);
        let mut request = request.into_inner();
        let (page_token, min_position) =
            (std::mem::take(&mut request.page_token), request.min_position);
        let (named, filter, size) = asked::statement(request, self.clock.now())?;
        let token = StatementToken::read(&page_token, |of| *of == filter)?;
        let StatementFilter { year, as_of, with_history, .. } = filter;
        let asked = Asked { year, as_of, min_position };
        let ((person, frikort), moment) = self.find_at(&by, &named, asked, deadline).await?;
        let moment = match &token {
            Some(token) => Some(self.moment_of_page(&person, token).await?),
            None if with_history => Some(self.moment(person.partition, &as_of, deadline).await?),
            None => moment,
        };
        let told = match moment {
            None => self.tell(&person).await?,
            Some(moment) => self.tell_past(&person, moment, with_history).await?,
        };
        let told = told.filter(|told| told.years.knows(frikort)).ok_or_else(nobody)?;
        let (at, day) = (told.at, told.day);
        let hours_through = filter.hours_through.unwrap_or(day);
        let year = (year != 0).then_some(year);
        let mut page = statement_of(&by.who, &person, told, year, hours_through)?;
        let begin = StatementPlace {
            person: (person.partition, person.id.0),
            day,
            payments: 0,
            changes: 0,
        };
        if token.is_some() {
            // They are of the whole statement, and were on the first page.
            (page.allowances, page.months, page.hours) = (Vec::new(), Vec::new(), None);
        }
        let from = token.map_or(begin, |token| token.after);
        let (payments, next) = cut(page.payments, from, size);
        let as_of = BTreeMap::from([(person.partition, at)]);
        let next = next.map(|after| StatementToken { filter, as_of, after }.write());
        (page.payments, page.next_page_token) = (payments, next.unwrap_or_default());
        Ok(Response::new(page))
    }

    /// An answer that was read since `run` was the newest server run: it is given if all that was read
    /// is of the history of that run, and so is the projection. What was wrong with the request stays.
    pub(crate) fn of_one_history<T>(
        &self,
        run: ServerRun,
        answer: Result<T, Status>,
    ) -> Result<T, Status> {
        if let Err(status) = &answer
            && matches!(
                status.code(),
                Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated
            )
        {
            return answer;
        }
        self.require_history(run)?;
        answer
    }

    /// Makes sure that what was read since `run` was the newest server run is of the history of that
    /// run, and that so is the projection.
    pub(crate) fn require_history(&self, run: ServerRun) -> Result<(), Failure> {
        let is_one = self.sessions.server_run() == run
            && self.states.values().all(|state| state.serves(run));
        let message = "the database was started anew, or put back, and the projection is being held \
                       against its history; repeat after the delay";
        let failure = || Failure::new(ErrorReason::StoreUnavailable, message);
        is_one.then_some(()).ok_or_else(failure)
    }

    /// Where callers resume from: position and hash of the event there, by partition.
    pub(crate) async fn resume(
        &self,
        after: &BTreeMap<i32, ResumePosition>,
    ) -> Result<BTreeMap<i32, LastSent>, Failure> {
        let mut found = BTreeMap::new();
        for (&partition, &ResumePosition { position, recorded_at }) in after {
            let event = self.store.event_at(partition, position).await;
            let event = event.map_err(|error| self.unread(&error))?;
            let (at, hash) = event
                .filter(|(at, _)| *at == recorded_at)
                .ok_or_else(|| resume_position_lost(partition, position))?;
            found.insert(partition, LastSent { position, hash, recorded_at: Some(at) });
        }
        Ok(found)
    }

    pub(crate) fn today(&self) -> Date {
        copenhagen_date(self.clock.now())
    }

    /// The partitions, ascending.
    pub(crate) fn partitions(&self) -> Vec<i32> {
        self.states.keys().copied().collect()
    }

    /// What callers are told when the tables cannot be read.
    pub(crate) fn unread(&self, error: &(dyn Error + 'static)) -> Failure {
        let causes = successors(Some(error), |&cause| cause.source());
        let waited = causes
            .filter_map(|cause| cause.downcast_ref())
            .any(|cause| matches!(cause, sqlx::Error::PoolTimedOut));
        if waited && self.store.is_busy() {
            let crowd = "too many questions wait for the database; repeat after the delay";
            return Failure::new(ErrorReason::Overloaded, crowd);
        }
        unread(error)
    }

    /// Whom a request names, one by one.
    pub(crate) async fn find(&self, named: &[&Named]) -> Result<Vec<Option<Found>>, Failure> {
        self.register.find_named(named).await.map_err(|error| self.unread(&error))
    }

    /// Looks persons up for a caller: notes it (W4), and gives those whom the caller sees, a place
    /// each.
    pub(crate) async fn look(
        &self,
        by: &Looking,
        named: &[&Named],
        asked: &Asked,
    ) -> Result<Vec<Option<Found>>, Failure> {
        let found = self.find(named).await?;
        self.lookups.note(by, &asked.told(), &sight::ids(&found))?;
        sight::seen(self, &by.who, named, found).await.map_err(|error| self.unread(&error))
    }

    /// The one person named, once the projection contains what is asked for, and the moment of the
    /// past that it is. It waits for every partition, for nobody as well: an answer that came
    /// sooner, or later, would tell who is in the register, and where (W3).
    async fn find_at(
        &self,
        by: &Looking,
        named: &Named,
        asked: Asked,
        deadline: Instant,
    ) -> Result<(Found, Option<Moment>), Failure> {
        let as_of = asked.as_of;
        self.wait_for_all(as_of.min_position(asked.min_position), deadline).await?;
        let found = self.look(by, &[named], &asked).await?.pop().flatten();
        let of_nobody = self.states.keys().next().copied().unwrap_or_default();
        let partition = found.as_ref().map_or(of_nobody, |(person, _)| person.partition);
        let moment = match as_of.is_now() {
            true => None,
            false => Some(Box::pin(self.moment(partition, &as_of, deadline)).await?),
        };
        found.map(|found| (found, moment)).ok_or_else(nobody)
    }

    fn state(&self, partition: i32) -> Result<&Arc<State>, Failure> {
        self.states.get(&partition).ok_or_else(|| {
            tracing::error!(partition, "the partition was added after the start; restart");
            internal()
        })
    }

    /// Waits until the projection contains `min_position`, as long as the caller does.
    pub(crate) async fn wait_for(
        &self,
        partition: i32,
        min_position: i64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if min_position == 0 {
            return Ok(());
        }
        let mut applied = self.state(partition)?.applied();
        let reached = applied.wait_for(|at| at.position >= min_position);
        if timeout_at(deadline, reached).await.is_ok() {
            return Ok(());
        }
        let position = applied.borrow().position;
        let behind = "the projection has not reached that position; repeat after the delay";
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
        deadline: Instant,
    ) -> Result<(), Failure> {
        if min_position == 0 {
            return Ok(());
        }
        if let [only] = self.partitions()[..] {
            return self.wait_for(only, min_position, deadline).await;
        }
        let mut heads = Vec::with_capacity(self.states.len());
        for partition in self.states.keys() {
            let head = self.store.head(*partition).await.map_err(|error| self.unread(&error))?;
            heads.push((head.position, *partition));
        }
        let highest = heads.iter().max().copied();
        for (head, partition) in heads {
            let has = if highest == Some((head, partition)) { min_position } else { head };
            self.wait_for(partition, min_position.min(has), deadline).await?;
        }
        Ok(())
    }

    /// One person's view: from memory, else from the tables.
    pub(crate) async fn view(&self, person: &Person) -> Result<View, Failure> {
        let state = self.state(person.partition)?;
        if let Some(view) = state.view(person.id) {
            return Ok(view);
        }
        // Boxed, since it is rare, and would else be most of every call's size, which is moved.
        let snapshot = Box::pin(self.snapshot(&[person.partition], &[Some((*person, None))])).await;
        let view = view_of(person, snapshot.map_err(|error| self.unread(&error))?)?;
        state.keep(person.id, view.years.clone(), view.checkpoint);
        Ok(view)
    }

    /// One person's view of the past.
    async fn past_view(&self, person: &Person, moment: Moment) -> Result<View, Failure> {
        let moments = [(person.partition, moment)];
        view_of(person, self.past(&moments, &[Some((*person, None))]).await?)
    }

    /// Some partitions' checkpoints, limits and the years of those of the persons they hold, in one
    /// snapshot.
    pub(crate) async fn snapshot(
        &self,
        partitions: &[i32],
        found: &[Option<Found>],
    ) -> Result<Snapshot, sqlx::Error> {
        let mut tx = self.store.pool().begin_snapshot().await?;
        let day = self.today();
        let mut snapshot = Snapshot::new();
        for &partition in partitions {
            let persons: Vec<PersonId> = persons_in(found, partition).collect();
            let limits = tables::limits(&mut tx, partition).await?;
            let (at, persons) = tables::years(&mut tx, partition, &persons).await?;
            snapshot.insert(partition, Known { at, day, limits, persons });
        }
        tx.commit().await?;
        Ok(snapshot)
    }

    /// The same of the past, from the events.
    async fn past(
        &self,
        moments: &[(i32, Moment)],
        found: &[Option<Found>],
    ) -> Result<Snapshot, Failure> {
        let mut snapshot = Snapshot::new();
        for &(partition, moment) in moments {
            let asked: Vec<PersonId> = persons_in(found, partition).collect();
            let (at, day) = (moment.at, moment.day);
            let mut known =
                Known { at, day, limits: LimitSchedule::default(), persons: HashMap::new() };
            // Some accounts at a time: a thousand whole ones are not held for their sums. Nobody
            // asked about is one round too, for the limits.
            let some = asked.chunks(PASTS).chain(asked.is_empty().then_some(&[][..]));
            for persons in some {
                let persons = persons.iter().copied();
                let (limits, pasts) =
                    past::read(&self.past, partition, persons, at.position, false)
                        .await
                        .map_err(|error| untold(&error))?;
                known.limits = limits;
                known.persons.extend(pasts.iter().map(|(id, past)| (*id, past.years(&moment))));
            }
            snapshot.insert(partition, known);
        }
        Ok(snapshot)
    }

    /// What `as_of` is in partitions whose projection contains [`AsOf::min_position`], or all of
    /// itself where it has fewer.
    async fn moments(
        &self,
        partitions: &[i32],
        as_of: &AsOf,
        deadline: Instant,
    ) -> Result<Vec<(i32, Moment)>, Failure> {
        let Some(known_at) = as_of.known_at else {
            let now = self.snapshot(partitions, &[]).await.map_err(|error| self.unread(&error))?;
            let moment = |known: Known| as_of.moment(known.at, known.day);
            return Ok(now
                .into_iter()
                .map(|(partition, known)| (partition, moment(known)))
                .collect());
        };
        let mut moments = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            let position = match known_at {
                KnownAt::Position(position) => {
                    position.min(self.state(partition)?.applied().borrow().position)
                }
                KnownAt::Instant(instant) => {
                    let position = self.store.position_at(partition, instant).await;
                    let position = position.map_err(|error| self.unread(&error))?;
                    self.wait_for(partition, position, deadline).await?;
                    position
                }
            };
            let recorded_at = self.store.recorded_at(partition, position).await;
            let recorded_at = recorded_at.map_err(|error| self.unread(&error))?;
            let known_on = match known_at {
                KnownAt::Instant(instant) => copenhagen_date(instant),
                // Before the first event nobody has a card, whatever the day.
                KnownAt::Position(_) => recorded_at.map_or(self.today(), copenhagen_date),
            };
            let at = Checkpoint { position, recorded_at, ..Checkpoint::default() };
            moments.push((partition, as_of.moment(at, known_on)));
        }
        Ok(moments)
    }

    /// The same in one partition.
    async fn moment(
        &self,
        partition: i32,
        as_of: &AsOf,
        deadline: Instant,
    ) -> Result<Moment, Failure> {
        let moments = self.moments(&[partition], as_of, deadline).await?;
        Ok(moments.first().ok_or_else(internal)?.1)
    }

    /// The moment that every page of a statement is as of.
    async fn moment_of_page(
        &self,
        person: &Person,
        token: &StatementToken,
    ) -> Result<Moment, Failure> {
        let at = token.as_of.get(&person.partition).copied();
        let of_the_person = token.after.person == (person.partition, person.id.0);
        let at = at.filter(|_| of_the_person).ok_or_else(of_another_list)?;
        // The event must be the one that the first page ended with.
        let recorded_at = self.store.recorded_at(person.partition, at.position).await;
        if recorded_at.map_err(|error| self.unread(&error))? != at.recorded_at {
            return Err(resume_position_lost(person.partition, at.position));
        }
        let paid_through = token.filter.as_of.paid_through;
        Ok(Moment { at, day: token.after.day, paid_through })
    }

    /// One person's payments and years, from the tables.
    async fn tell(&self, person: &Person) -> Result<Option<Told>, Failure> {
        let failed = |error: sqlx::Error| self.unread(&error);
        let (at, years, settled, payments) = self.read_tables(person).await.map_err(failed)?;
        let Some(years) = years else { return Ok(None) };
        // From the events, which show also those that were replaced.
        let limits = past::read(&self.store, person.partition, [].into_iter(), at.position, false);
        let (limits, _) = limits.await.map_err(|error| match &error {
            past::Unread::Store(error) => self.unread(error),
            past::Unread::Poison(_) => untold(&error),
        })?;
        Ok(Some(Told { at, day: self.today(), limits, years, settled, payments }))
    }

    async fn read_tables(&self, person: &Person) -> Result<Tables, sqlx::Error> {
        let mut tx = self.store.pool().begin_snapshot().await?;
        let (at, mut years) = tables::years(&mut tx, person.partition, &[person.id]).await?;
        let payments = statement::payments(&mut tx, person.partition, person.id).await?;
        let settled = tables::settled(&mut tx, person.partition, person.id).await?;
        tx.commit().await?;
        Ok((at, years.remove(&person.id), settled, payments))
    }

    /// The same of the past, from the events, with the history of each payment where asked for.
    async fn tell_past(
        &self,
        person: &Person,
        moment: Moment,
        with_history: bool,
    ) -> Result<Option<Told>, Failure> {
        let (ids, until) = ([person.id].into_iter(), moment.at.position);
        let read = past::read(&self.past, person.partition, ids, until, with_history);
        let (limits, mut pasts) = read.await.map_err(|error| untold(&error))?;
        Ok(pasts.remove(&person.id).map(|past| Told {
            at: moment.at,
            day: moment.day,
            limits,
            years: past.years(&moment),
            settled: past.settled(),
            payments: past.payments(&moment),
        }))
    }
}

/// Where the projection stands, and what it has of one person.
type Tables = (Checkpoint, Option<Years>, BTreeMap<i32, (i64, OffsetDateTime)>, Vec<StatedPayment>);

pub(crate) type Snapshot = BTreeMap<i32, Known>;

fn view_of(person: &Person, mut snapshot: Snapshot) -> Result<View, Failure> {
    let mut known = snapshot.remove(&person.partition).ok_or_else(internal)?;
    let years = known.persons.remove(&person.id).unwrap_or_default();
    Ok(View { checkpoint: known.at, limits: Arc::new(known.limits), years })
}

fn persons_in(found: &[Option<Found>], partition: i32) -> impl Iterator<Item = PersonId> {
    let of_it = move |(person, _): &&Found| person.partition == partition;
    found.iter().flatten().filter(of_it).map(|(person, _)| person.id)
}

/// A statement, of one year or of all, as far as the caller sees it.
fn statement_of(
    caller: &Caller,
    person: &Person,
    told: Told,
    year: Option<i32>,
    hours_through: Date,
) -> Result<GetStatementResponse, Failure> {
    let Told { at, day, limits, years, settled, mut payments } = told;
    let mut allowances = Vec::new();
    let wanted = |of: i32| year.is_none_or(|year| year == of);
    for (of, total, count) in years.totals.iter().filter(|(of, ..)| wanted(*of)) {
        let limit = limit_of(&limits, *of, day)?;
        if let Some(changes) = limits.changes(*of, settled.get(of).copied(), day) {
            settle_year(&mut payments, *of, &changes);
        }
        let allowance = allowance(person.id, *of, limit, *total, *count);
        allowances.push(sight::allowance(caller, allowance));
    }
    sight::own_rows(caller, &mut payments);
    if !caller.sees_totals() {
        // A year in which only others have paid is not told of.
        allowances.retain(|of| payments.iter().any(|payment| payment.year == of.year));
    }
    allowances.sort_by_key(|allowance| allowance.year);
    let hours = summary::hours(payments.iter(), hours_through);
    payments.retain(|payment| wanted(payment.year));
    Ok(GetStatementResponse {
        person_id: person.id.to_string(),
        months: summary::months(payments.iter()),
        payments: payments
            .into_iter()
            .map(|payment| sight::payment(caller, payment.render(person.id)))
            .collect(),
        allowances,
        position: Some(place(person.partition, at)),
        hours: Some(hours),
        next_page_token: String::new(),
    })
}

/// Splits as the limits make them that took effect since the year was settled, one after the other (A9).
/// They stand so in the table already, unless there are some, or not all payments count.
fn settle_year(payments: &mut [StatedPayment], year: i32, limits: &LimitChanges) {
    let mut drawing: Vec<&mut StatedPayment> =
        payments.iter_mut().filter(|payment| payment.year == year && !payment.cancelled).collect();
    drawing.sort_by_key(|payment| payment.drawn);
    let slot = |payment: &&mut StatedPayment| Slot {
        amount: payment.facts.amount,
        exempt: payment.exempt,
    };
    let mut slots: Vec<Slot> = drawing.iter().map(slot).collect();
    limits.iter().for_each(|limit| settle(limit, &mut slots));
    for (payment, slot) in drawing.iter_mut().zip(slots) {
        payment.exempt = slot.exempt;
    }
}
