//! OverviewService: what is an organisation's own, in pages. Requests, parsed, answered from one
//! consistent read of the tables, and rendered.
//!
//! Every statement reads one partition; what comes from several is put together here. What must
//! stay out: deciding; a split is told as it was last recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use frikort_access::Looking;
use frikort_domain::{Cvr, MunicipalityCode, Period, PersonId, SCHEME_START, control_due};
use frikort_process::serve::deadline;
use frikort_proto::{
    Date as WireDate,
    error::{Failure, Faults},
    v1::{
        DueControl, GetProcessingTimesRequest, GetProcessingTimesResponse, LedgerPosition,
        ListAnnualTotalsRequest, ListAnnualTotalsResponse, ListDueControlsRequest,
        ListDueControlsResponse, ListPaymentsRequest, ListPaymentsResponse, ProcessingTimes,
        overview_service_server::OverviewService,
    },
};
use frikort_register::Named;
use sqlx::PgConnection;
use time::Date;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    annual_totals, asked,
    page::{PageToken, page_size},
    query::Allowances,
    statement::{PaymentRow, StatedPayment},
    tables::{self, Checkpoint, municipality},
    wire::{ResumePosition, check_position, check_year, place, positions},
};

pub(crate) struct Overviews(pub(crate) Arc<Allowances>);

/// What a listing of payments is about; its pages are all about the same.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PaymentFilter {
    employer: i32,
    person: Option<(i32, Uuid)>,
    year: i32,
    changed_after: BTreeMap<i32, ResumePosition>,
}

/// Of nobody an employer has no payments, as of anybody whom it never paid (W3).
const NOBODY: (i32, Uuid) = (0, Uuid::nil());

/// Where a page of payments ends: partition, then position, person and reference.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct PaymentPlace {
    partition: i32,
    position: i64,
    person: Uuid,
    reference: String,
}

/// What a list of due controls is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct ControlFilter {
    municipality: i16,
    controlled_until: i32,
}

#[tonic::async_trait]
impl OverviewService for Overviews {
    type ListAnnualTotalsStream = ReceiverStream<Result<ListAnnualTotalsResponse, Status>>;

    async fn list_annual_totals(
        &self,
        request: Request<ListAnnualTotalsRequest>,
    ) -> Result<Response<Self::ListAnnualTotalsStream>, Status> {
        let deadline = deadline(request.metadata());
        let who = frikort_access::caller(request.extensions())?.clone();
        let totals = annual_totals::start(&self.0, &who, request.into_inner(), deadline).await?;
        Ok(Response::new(totals))
    }

    async fn list_payments(
        &self,
        request: Request<ListPaymentsRequest>,
    ) -> Result<Response<ListPaymentsResponse>, Status> {
        let run = self.0.sessions.server_run();
        let answer = self.answer_list_payments(request).await;
        self.0.of_one_history(run, answer)
    }

    async fn list_due_controls(
        &self,
        request: Request<ListDueControlsRequest>,
    ) -> Result<Response<ListDueControlsResponse>, Status> {
        let run = self.0.sessions.server_run();
        let answer = self.answer_list_due_controls(request).await;
        self.0.of_one_history(run, answer)
    }

    async fn get_processing_times(
        &self,
        request: Request<GetProcessingTimesRequest>,
    ) -> Result<Response<GetProcessingTimesResponse>, Status> {
        let run = self.0.sessions.server_run();
        let answer = self.answer_get_processing_times(request).await;
        self.0.of_one_history(run, answer)
    }
}

/// A parsed [`ListPaymentsRequest`].
pub(crate) struct PaymentsAsked {
    employer: Cvr,
    person: Option<Named>,
    year: i32,
    changed_after: BTreeMap<i32, ResumePosition>,
    size: usize,
    page_token: String,
    min_position: i64,
}

impl PaymentsAsked {
    pub(crate) fn parse(request: ListPaymentsRequest, partitions: &[i32]) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let employer = faults.parse("employer_cvr", &request.employer_cvr);
        let person = request.person.map(|person| Named::parse(&mut faults, "person", Some(person)));
        if request.year != 0 && !request.changed_after.is_empty() {
            // A payment that a correction moved to another year would never be told.
            faults.note("year", "must be left out beside changed_after");
        } else if request.year != 0 {
            check_year(&mut faults, request.year);
        }
        let changed_after =
            positions(&mut faults, "changed_after", &request.changed_after, partitions);
        let size = page_size(&mut faults, request.page_size);
        check_position(&mut faults, request.min_position);
        let (page_token, min_position) = (request.page_token, request.min_position);
        let year = request.year;
        faults.finish((|| {
            let person = match person {
                Some(named) => Some(named?),
                None => None,
            };
            let (employer, size) = (employer?, size?);
            Some(Self { employer, person, year, changed_after, size, page_token, min_position })
        })())
    }
}

impl Overviews {
    async fn answer_list_payments(
        &self,
        request: Request<ListPaymentsRequest>,
    ) -> Result<Response<ListPaymentsResponse>, Status> {
        let deadline = deadline(request.metadata());
        let by = Looking::of(&request)?;
        let asked = PaymentsAsked::parse(request.into_inner(), &self.0.partitions())?;
        // W1: its own rows only.
        by.who.acts_for_employer(asked.employer, "employer_cvr")?;
        self.0.wait_for_all(asked.min_position, deadline).await?;
        let person = match &asked.person {
            None => None,
            Some(named) => Some(self.holder(named).await?.unwrap_or(NOBODY)),
        };
        let mut persons: BTreeSet<PersonId> = person.iter().map(|(_, id)| PersonId(*id)).collect();
        let filter = PaymentFilter {
            employer: i32::try_from(asked.employer.number()).unwrap_or(i32::MAX),
            person,
            year: asked.year,
            changed_after: asked.changed_after,
        };
        let same = |of: &PaymentFilter| *of == filter;
        self.0.resume(&filter.changed_after).await?;
        let token = PageToken::<PaymentFilter, PaymentPlace>::read(&asked.page_token, same)?;
        if let Some(token) = &token {
            self.0.resume(&token.resumed()).await?;
        }
        let (page, of) = self.payments(filter, token, asked.size).await?;
        persons.extend(of);
        self.note(&by, persons)?;
        Ok(Response::new(page))
    }

    async fn answer_list_due_controls(
        &self,
        request: Request<ListDueControlsRequest>,
    ) -> Result<Response<ListDueControlsResponse>, Status> {
        let deadline = deadline(request.metadata());
        let by = Looking::of(&request)?;
        let request = request.into_inner();
        let by_default = request.due_by.is_none();
        let (code, due_by, size) = asked::due_controls(&request, self.0.today())?;
        // W2: its own citizens only.
        by.who.acts_for_municipality(code, "municipality_code")?;
        self.0.wait_for_all(request.min_position, deadline).await?;
        let filter = ControlFilter {
            municipality: municipality(code),
            controlled_until: controlled_until(due_by),
        };
        // The default of the first page is that of the others too, also when the year ends between.
        let same = |of: &ControlFilter| {
            *of == filter || (by_default && of.municipality == filter.municipality)
        };
        let token = PageToken::<ControlFilter, (i32, Uuid)>::read(&request.page_token, same)?;
        if let Some(token) = &token {
            self.0.resume(&token.resumed()).await?;
        }
        let filter = token.as_ref().map_or(filter, |token| token.filter);
        let (page, persons) = self.due_controls(filter, token, size).await?;
        self.note(&by, persons)?;
        Ok(Response::new(page))
    }

    async fn answer_get_processing_times(
        &self,
        request: Request<GetProcessingTimesRequest>,
    ) -> Result<Response<GetProcessingTimesResponse>, Status> {
        let deadline = deadline(request.metadata());
        let caller = frikort_access::caller(request.extensions())?.clone();
        let request = request.into_inner();
        let (code, decided) = asked::processing_times(&request)?;
        match code {
            Some(code) => caller.acts_for_municipality(code, "municipality_code")?,
            None => caller.acts_for_all("municipality_code")?,
        }
        self.0.wait_for_all(request.min_position, deadline).await?;
        Ok(Response::new(self.processing_times(code, decided).await?))
    }

    /// Notes whom a page tells of (W4).
    fn note(&self, by: &Looking, persons: BTreeSet<PersonId>) -> Result<(), Failure> {
        let persons: Vec<_> = persons.into_iter().collect();
        self.0.lookups.note(by, "list", &persons)
    }

    /// The person named, if that is somebody with a card.
    async fn holder(&self, named: &Named) -> Result<Option<(i32, Uuid)>, Failure> {
        let found = self.0.find(&[named]).await?.pop().flatten();
        let Some((person, frikort)) = found else { return Ok(None) };
        let knows = self.0.view(&person).await?.years.knows(frikort);
        Ok(knows.then_some((person.partition, person.id.0)))
    }

    async fn payments(
        &self,
        filter: PaymentFilter,
        token: Option<PageToken<PaymentFilter, PaymentPlace>>,
        size: usize,
    ) -> Result<(ListPaymentsResponse, BTreeSet<PersonId>), Failure> {
        let failed = |error: sqlx::Error| self.0.unread(&error);
        let mut tx = self.0.store.pool().begin_snapshot().await.map_err(failed)?;
        let (as_of, mut after) = match token {
            Some(token) => (token.as_of, Some(token.after)),
            None => (self.checkpoints(&mut tx).await.map_err(failed)?, None),
        };
        let mut rows: Vec<(i32, PersonId, StatedPayment)> = Vec::new();
        for (partition, until) in &as_of {
            let begun = after.as_ref().map_or(i32::MIN, |place| place.partition);
            let elsewhere = filter.person.is_some_and(|(of, _)| of != *partition);
            if *partition < begun || elsewhere || rows.len() > size {
                continue;
            }
            let from = after.take_if(|place| place.partition == *partition);
            let limit = i64::try_from(size + 1 - rows.len()).unwrap_or(i64::MAX);
            let page = payments_page(&mut tx, *partition, &filter, from, until.position, limit);
            let page = page.await.map_err(failed)?;
            rows.extend(page.into_iter().map(|(person, payment)| (*partition, person, payment)));
        }
        tx.commit().await.map_err(failed)?;
        let is_last = rows.len() <= size;
        rows.truncate(size);
        let end = rows.last().filter(|_| !is_last).map(|(partition, person, row)| PaymentPlace {
            partition: *partition,
            position: row.position,
            person: person.0,
            reference: row.reference.clone(),
        });
        let positions = places(&as_of);
        let persons = rows.iter().map(|(_, person, _)| *person).collect();
        let page = ListPaymentsResponse {
            payments: rows.into_iter().map(|(_, person, row)| row.render(person)).collect(),
            next_page_token: end
                .map_or(String::new(), |after| PageToken { filter, as_of, after }.write()),
            positions,
        };
        Ok((page, persons))
    }

    async fn due_controls(
        &self,
        filter: ControlFilter,
        token: Option<PageToken<ControlFilter, (i32, Uuid)>>,
        size: usize,
    ) -> Result<(ListDueControlsResponse, BTreeSet<PersonId>), Failure> {
        let failed = |error: sqlx::Error| self.0.unread(&error);
        let mut tx = self.0.store.pool().begin_snapshot().await.map_err(failed)?;
        let as_of = self.checkpoints(&mut tx).await.map_err(failed)?;
        let after = token.map_or((i32::MIN, Uuid::nil()), |token| token.after);
        let mut rows = BTreeSet::new();
        for partition in as_of.keys() {
            let page = sqlx::query!(
                "SELECT controlled_in, person_id FROM projection.card
                 WHERE partition = $1
                   AND generation = (SELECT generation FROM projection.checkpoint
                                     WHERE partition = $1 AND state = 'serving')
                   AND municipality = $2 AND active AND controlled_in <= $3
                   AND (controlled_in, person_id) > ($4, $5)
                 ORDER BY controlled_in, person_id LIMIT $6",
                partition,
                filter.municipality,
                filter.controlled_until,
                after.0,
                after.1,
                i64::try_from(size + 1).unwrap_or(i64::MAX)
            )
            .fetch_all(&mut *tx)
            .await
            .map_err(failed)?;
            rows.extend(page.into_iter().map(|row| (row.controlled_in, row.person_id)));
        }
        tx.commit().await.map_err(failed)?;
        let is_last = rows.len() <= size;
        let rows: Vec<(i32, Uuid)> = rows.into_iter().take(size).collect();
        let end = rows.last().filter(|_| !is_last).copied();
        let due = |(controlled_in, person): &(i32, Uuid)| DueControl {
            person_id: person.to_string(),
            due_date: control_due(*controlled_in).map(WireDate::from),
        };
        let positions = places(&as_of);
        let persons = rows.iter().map(|(_, person)| PersonId(*person)).collect();
        let page = ListDueControlsResponse {
            controls: rows.iter().map(due).collect(),
            next_page_token: end
                .map_or(String::new(), |after| PageToken { filter, as_of, after }.write()),
            positions,
        };
        Ok((page, persons))
    }

    async fn processing_times(
        &self,
        of: Option<MunicipalityCode>,
        decided: Period,
    ) -> Result<GetProcessingTimesResponse, Failure> {
        let failed = |error: sqlx::Error| self.0.unread(&error);
        let mut tx = self.0.store.pool().begin_snapshot().await.map_err(failed)?;
        let as_of = self.checkpoints(&mut tx).await.map_err(failed)?;
        // How many decisions took how many days.
        let mut counts: BTreeMap<i16, BTreeMap<i32, i64>> = BTreeMap::new();
        for partition in as_of.keys() {
            let rows = sqlx::query!(
                r#"SELECT municipality, days, count(*) AS "count!" FROM projection.application
                   WHERE partition = $1
                     AND generation = (SELECT generation FROM projection.checkpoint
                                       WHERE partition = $1 AND state = 'serving')
                     AND decided_on BETWEEN $2 AND $3
                     AND ($4::smallint IS NULL OR municipality = $4)
                   GROUP BY municipality, days"#,
                partition,
                decided.first,
                decided.last,
                of.map(municipality)
            )
            .fetch_all(&mut *tx)
            .await
            .map_err(failed)?;
            for row in rows {
                *counts.entry(row.municipality).or_default().entry(row.days).or_default() +=
                    row.count;
            }
        }
        tx.commit().await.map_err(failed)?;
        let times = counts.iter().map(|(code, days)| ProcessingTimes {
            municipality_code: format!("{code:03}"),
            decision_count: i32::try_from(days.values().sum::<i64>()).unwrap_or(i32::MAX),
            median_days: percentile(days, 50),
            percentile_90_days: percentile(days, 90),
        });
        Ok(GetProcessingTimesResponse {
            municipalities: times.collect(),
            positions: places(&as_of),
        })
    }

    /// Where each partition's projection stands in the snapshot.
    async fn checkpoints(
        &self,
        connection: &mut PgConnection,
    ) -> Result<BTreeMap<i32, Checkpoint>, sqlx::Error> {
        let mut as_of = BTreeMap::new();
        for partition in self.0.partitions() {
            as_of.insert(partition, tables::answered_checkpoint(connection, partition).await?);
        }
        Ok(as_of)
    }
}

/// An employer's payments of one partition that last changed at or before `until`, in the order
/// of that, from `from` on.
async fn payments_page(
    connection: &mut PgConnection,
    partition: i32,
    filter: &PaymentFilter,
    from: Option<PaymentPlace>,
    until: i64,
    limit: i64,
) -> Result<Vec<(PersonId, StatedPayment)>, sqlx::Error> {
    let changed_after = filter.changed_after.get(&partition).map_or(0, |after| after.position);
    let begin = PaymentPlace {
        partition,
        position: changed_after.saturating_add(1),
        person: Uuid::nil(),
        reference: String::new(),
    };
    let from = from.unwrap_or(begin);
    let rows = sqlx::query_as!(
        PaymentRow,
        "SELECT person_id, employer_cvr, reference, year, attribution_date, revision, cancelled,
                drawn, position, amount, exempt, payment_date, work_first, work_last, hours, wage,
                holiday_pay, pension
         FROM projection.payment
         WHERE partition = $1
           AND generation = (SELECT generation FROM projection.checkpoint
                             WHERE partition = $1 AND state = 'serving')
           AND employer_cvr = $2
           AND (position, person_id, reference) > ($3, $4, $5) AND position <= $6
           AND ($7::uuid IS NULL OR person_id = $7) AND ($8 = 0 OR year = $8)
         ORDER BY position, person_id, reference LIMIT $9",
        partition,
        filter.employer,
        from.position,
        from.person,
        from.reference,
        until,
        filter.person.map(|(_, person)| person),
        filter.year,
        limit
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| Ok((PersonId(row.person_id), row.stated()?))).collect()
}

/// The latest year of a control whose next one is due on `day` or before (C9).
fn controlled_until(day: Date) -> i32 {
    let is_due = |year: &i32| control_due(*year).is_some_and(|due| due <= day);
    (SCHEME_START.year()..=day.year()).rev().find(is_due).unwrap_or_default()
}

fn places(as_of: &BTreeMap<i32, Checkpoint>) -> Vec<LedgerPosition> {
    as_of.iter().map(|(partition, at)| place(*partition, *at)).collect()
}

/// The smallest number of days within which so many percent were decided (nearest rank).
fn percentile(days: &BTreeMap<i32, i64>, percent: i64) -> i32 {
    let rank = (days.values().sum::<i64>() * percent + 99) / 100;
    let mut seen = 0;
    let reached = days.iter().find(|(_, count)| {
        seen += **count;
        seen >= rank
    });
    reached.map_or(0, |(days, _)| *days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn a_percentile_is_the_smallest_number_that_so_many_do_not_exceed() {
        let of = |days: &[i32]| {
            let mut counts = BTreeMap::new();
            for day in days {
                *counts.entry(*day).or_default() += 1;
            }
            (percentile(&counts, 50), percentile(&counts, 90))
        };
        assert_eq!(of(&[7]), (7, 7));
        assert_eq!(of(&[1, 2]), (1, 2));
        assert_eq!(of(&[3, 1, 2]), (2, 3));
        assert_eq!(of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), (5, 9));
        assert_eq!(of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 40]), (0, 0));
    }

    #[test]
    fn c9_what_is_due_on_a_day_was_controlled_two_years_before() {
        assert_eq!(controlled_until(date!(2026 - 12 - 31)), 2024);
        assert_eq!(controlled_until(date!(2026 - 12 - 30)), 2023);
        assert_eq!(controlled_until(date!(2026 - 01 - 01)), 2023);
    }
}
