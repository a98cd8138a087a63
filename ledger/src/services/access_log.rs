//! AccessLogService: who was looked up, told to auditors whole, and to a municipality as its citizen
//! has a right to it: when, and what for (W4).
//!
//! Reads by the table's key, page by page, and picks out a person there: the log is written for
//! every look-up and read seldom, so it has no other index.

use std::{pin::Pin, sync::Arc};

use frikort_access::{Caller as Who, Noted, Role, noted_after};
use frikort_domain::PersonId;
use frikort_process::feed::{Items, feed};
use frikort_proto::{
    error::Failure,
    timestamp,
    v1::{
        self, ListLookupsRequest, ListLookupsResponse, access_log_service_server::AccessLogService,
    },
};
use futures::Stream;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    fail::internal,
    ledger::{Caller, Ledger, nobody},
    parse::{self, Lookups},
    sequencer::Body,
};

/// Rows read at a time.
const PAGE: i64 = 200;

/// Look-ups that wait for a caller.
const AHEAD: usize = 500;

/// A row is noted at the latest of its look-ups; the earliest is not much older.
const SPREAD: time::Duration = time::Duration::MINUTE;

pub(crate) struct AccessLogs(pub(crate) Arc<Ledger>);

#[tonic::async_trait]
impl AccessLogService for AccessLogs {
    type ListLookupsStream =
        Pin<Box<dyn Stream<Item = Result<ListLookupsResponse, Status>> + Send>>;

    async fn list_lookups(
        &self,
        request: Request<ListLookupsRequest>,
    ) -> Result<Response<Self::ListLookupsStream>, Status> {
        let caller = Caller::of(&request)?;
        let now = self.0.clock.now();
        let Lookups { named, from, before } = parse::lookups(request.into_inner())?;
        let before = before.unwrap_or(now).min(now);
        let who = caller.looking.who.clone();
        let is_municipality = who.role == Role::Municipality;
        let person = match &named {
            Some(named) => {
                let (person, told) = self.0.card(named, caller).await?;
                let Body::Case(card, _) = &told.answer.body else { return Err(internal().into()) };
                if is_municipality {
                    // W2, W3: whom another municipality answers for is nobody here.
                    who.acts_for_municipality(card.municipality, "person").map_err(|_| nobody())?;
                }
                Some(person.id)
            }
            None if is_municipality => {
                let required = "is required of municipalities".to_owned();
                return Err(Failure::invalid(vec![("person".to_owned(), required)]).into());
            }
            None => None,
        };
        let (items, stream) = mpsc::channel(AHEAD);
        let reading = Reading { ledger: self.0.clone(), who, person, from, before };
        let (to, stop) = (items.clone(), self.0.stop.clone());
        tokio::spawn(feed(items, stop, async move { reading.run(&to).await }));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// What one caller is told.
struct Reading {
    ledger: Arc<Ledger>,
    who: Arc<Who>,
    /// `None` for everybody.
    person: Option<PersonId>,
    from: OffsetDateTime,
    /// Not included.
    before: OffsetDateTime,
}

impl Reading {
    /// Sends what there is, for as long as the caller takes it.
    async fn run(&self, items: &Items<ListLookupsResponse>) -> Result<(), Status> {
        let mut after = (self.from, Uuid::nil());
        loop {
            let (pool, before) = (self.ledger.store.pool(), self.before + SPREAD);
            let page = noted_after(pool, after, before, PAGE).await;
            let page = page.map_err(|error| self.ledger.read_failed(error))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.noted_at, last.lookup_id);
            for row in &page {
                for (at, person) in row.times.iter().zip(&row.persons) {
                    let wanted = self.person.is_none_or(|wanted| wanted.0 == *person)
                        && (self.from..self.before).contains(at);
                    if wanted && items.send(Ok(self.tell(row, *at, *person))).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn tell(&self, row: &Noted, at: OffsetDateTime, person: Uuid) -> ListLookupsResponse {
        let mut lookup = v1::Lookup {
            lookup_time: Some(timestamp(at)),
            purpose: row.purpose.clone(),
            ..v1::Lookup::default()
        };
        if self.who.role != Role::Municipality {
            lookup.caller.clone_from(&row.caller);
            lookup.caller_role.clone_from(&row.role);
            lookup.method.clone_from(&row.method);
            lookup.asked.clone_from(&row.asked);
            if !person.is_nil() {
                lookup.person_id = person.to_string();
            }
        }
        ListLookupsResponse { lookup: Some(lookup) }
    }
}
