//! AuditService: the history, as it was recorded.
//!
//! One task a partition reads ahead by one page and waits for the caller to take it, so a slow
//! caller costs a page of memory and no more.

use std::{pin::Pin, sync::Arc};

use frikort_domain::record_type;
use frikort_event_store::{StoreError, StoredEvent, Subscription};
use frikort_process::feed::{Items, feed};
use frikort_proto::{
    timestamp,
    v1::{
        self, CaughtUp, EventRecord, ReadEventsRequest, ReadEventsResponse,
        audit_service_server::AuditService, read_events_response::Item,
    },
};
use frikort_register::Person;
use futures::Stream;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{check, proof};
use crate::{
    ledger::{Caller, Ledger},
    parse::{self, Reading, Span},
};

/// Records read at a time.
const PAGE: i64 = 500;

/// Records that wait for a caller.
const AHEAD: usize = 500;

pub(crate) struct Audits(pub(crate) Arc<Ledger>);

#[tonic::async_trait]
impl AuditService for Audits {
    type ReadEventsStream = Pin<Box<dyn Stream<Item = Result<ReadEventsResponse, Status>> + Send>>;

    async fn read_events(
        &self,
        request: Request<ReadEventsRequest>,
    ) -> Result<Response<Self::ReadEventsStream>, Status> {
        let caller = Caller::of(&request)?;
        let partitions = self.0.partitions();
        let reading = Arc::new(parse::reading(request.into_inner(), &partitions)?);
        let person = match &reading.named {
            Some(named) => Some(self.0.card(named, caller).await?.0),
            None => None,
        };
        let (items, stream) = mpsc::channel(AHEAD);
        let wanted = match (reading.partition, person) {
            (Some(partition), _) => vec![partition],
            (None, Some(person)) => vec![person.partition],
            (None, None) => partitions,
        };
        for partition in wanted {
            let (ledger, reading, to) = (self.0.clone(), reading.clone(), items.clone());
            let reader = Reader { ledger, partition, person, reading };
            let read = async move { reader.read(&to).await };
            tokio::spawn(feed(items.clone(), self.0.stop.clone(), read));
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        Ok(Response::new(proof::checkpoint(&self.0, request).await?))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        Ok(Response::new(proof::inclusion(&self.0, request).await?))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        Ok(Response::new(proof::consistency(&self.0, request).await?))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        Ok(Response::new(proof::receipt(&self.0, request).await?))
    }

    type CheckLedgerStream =
        Pin<Box<dyn Stream<Item = Result<v1::CheckLedgerResponse, Status>> + Send>>;

    async fn check_ledger(
        &self,
        request: Request<v1::CheckLedgerRequest>,
    ) -> Result<Response<Self::CheckLedgerStream>, Status> {
        let who = frikort_access::caller(request.extensions())?.clone();
        let told = check::start(&self.0, &who, request.into_inner())?;
        Ok(Response::new(Box::pin(told)))
    }
}

/// Reads one partition for one caller.
struct Reader {
    ledger: Arc<Ledger>,
    partition: i32,
    person: Option<Person>,
    reading: Arc<Reading>,
}

impl Reader {
    /// Sends what there is up to the head, or to the end that was asked for, marks it, and goes on
    /// if asked to.
    async fn read(&self, items: &Items<ReadEventsResponse>) -> Result<(), Status> {
        let failed = |error: StoreError| Status::from(self.ledger.read_failed(error));
        let store = &self.ledger.store;
        let follow = self.reading.follow;
        let (from, to) = self.span().await.map_err(failed)?;
        let (stream, signal) = (self.person.map(|p| p.id.0), self.ledger.appended.clone());
        let mut events =
            Subscription::new(store.clone(), self.partition, stream, from, PAGE, signal);
        let end = store.head(self.partition).await.map_err(failed)?.position;
        if follow && self.reading.partition.is_some() && from > end.saturating_add(1) {
            // Who has read up to there has read another history.
            let (partition, position) = (self.partition, from - 1);
            return Err(failed(StoreError::HistoryChanged { partition, position }));
        }
        let mut head = end.min(to);
        let mut marked = None;
        loop {
            // Nothing is behind the end.
            let page = if from > head && !follow {
                Vec::new()
            } else {
                events.read().await.map_err(failed)?
            };
            let last = page.last().map(|event| event.position);
            let reached = last.is_none_or(|last| last >= head);
            for event in page {
                // Without `follow`, the head is where it was when asked.
                if !follow && event.position > head {
                    break;
                }
                if self.is_wanted(&event) && items.send(Ok(self.item(event))).await.is_err() {
                    return Ok(());
                }
            }
            if items.is_closed() {
                return Ok(());
            }
            if !reached {
                continue;
            }
            if follow {
                head = head.max(last.unwrap_or_default());
            }
            if marked != Some(head) {
                marked = Some(head);
                let recorded_at = store.recorded_at(self.partition, head).await.map_err(failed)?;
                let recorded_time = recorded_at.map(timestamp);
                let caught_up =
                    CaughtUp { partition: self.partition, position: head, recorded_time };
                let mark = ReadEventsResponse { item: Some(Item::CaughtUp(caught_up)) };
                if items.send(Ok(mark)).await.is_err() {
                    return Ok(());
                }
            }
            if !follow {
                return Ok(());
            }
            tokio::select! {
                () = events.wait() => {}
                () = items.closed() => return Ok(()),
            }
        }
    }

    /// The first and the last position wanted; the last one may be far behind the head.
    async fn span(&self) -> Result<(i64, i64), StoreError> {
        let Span { mut from, to, recorded_from, recorded_before } = self.reading.span;
        let mut to = to.unwrap_or(i64::MAX);
        if let Some(instant) = recorded_from {
            from = from.max(self.last_before(instant).await?.saturating_add(1));
        }
        if let Some(instant) = recorded_before {
            to = to.min(self.last_before(instant).await?);
        }
        Ok((from, to))
    }

    /// The last position that was recorded before an instant.
    async fn last_before(&self, instant: OffsetDateTime) -> Result<i64, StoreError> {
        let before = instant.saturating_sub(time::Duration::MICROSECOND);
        self.ledger.store.position_at(self.partition, before).await
    }

    fn is_wanted(&self, event: &StoredEvent) -> bool {
        let types = &self.reading.types;
        let is_named = |kind| types.iter().any(|name| name == kind);
        types.is_empty() || record_type(&event.record).is_some_and(is_named)
    }

    fn item(&self, event: StoredEvent) -> ReadEventsResponse {
        let record = EventRecord {
            partition: self.partition,
            position: event.position,
            record: event.record.into_bytes(),
        };
        ReadEventsResponse { item: Some(Item::Event(record)) }
    }
}
