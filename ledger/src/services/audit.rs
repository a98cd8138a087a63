//! AuditService: the history, as it was recorded.
//!
//! One task a partition reads ahead by one page and waits for the caller to take it, so a slow
//! caller costs a page of memory and no more.

use std::{pin::Pin, sync::Arc};

use frikort_event_store::{StoreError, StoredEvent, Subscription};
use frikort_process::feed::{Items, feed};
use frikort_proto::v1::{
    self, CaughtUp, EventRecord, ReadEventsRequest, ReadEventsResponse,
    audit_service_server::AuditService, read_events_response::Item,
};
use frikort_register::Person;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    ledger::{Caller, Ledger},
    parse,
    services::check,
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
        let caller = Caller::of(&request);
        let partitions = self.0.partitions();
        let reading = parse::reading(request.into_inner(), &partitions)?;
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
            let reader = Reader { ledger: self.0.clone(), partition, person };
            let (to, from, follow) = (items.clone(), reading.from, reading.follow);
            let read = async move { reader.read(from, follow, &to).await };
            tokio::spawn(feed(items.clone(), self.0.stop.clone(), read));
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_checkpoint(
        &self,
        _request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_inclusion_proof(
        &self,
        _request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_consistency_proof(
        &self,
        _request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_receipt(
        &self,
        _request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type CheckLedgerStream =
        Pin<Box<dyn Stream<Item = Result<v1::CheckLedgerResponse, Status>> + Send>>;

    async fn check_ledger(
        &self,
        request: Request<v1::CheckLedgerRequest>,
    ) -> Result<Response<Self::CheckLedgerStream>, Status> {
        let told = check::start(&self.0, request.into_inner())?;
        Ok(Response::new(Box::pin(told)))
    }
}

/// Reads one partition for one caller.
struct Reader {
    ledger: Arc<Ledger>,
    partition: i32,
    person: Option<Person>,
}

impl Reader {
    /// Sends what there is up to the head, marks it, and goes on if asked to.
    async fn read(
        &self,
        from: i64,
        follow: bool,
        items: &Items<ReadEventsResponse>,
    ) -> Result<(), Status> {
        let failed = |error: StoreError| Status::from(self.ledger.read_failed(error));
        let store = &self.ledger.store;
        let (stream, signal) = (self.person.map(|p| p.id.0), self.ledger.appended.clone());
        let mut events =
            Subscription::new(store.clone(), self.partition, stream, from, PAGE, signal);
        let mut head = store.head(self.partition).await.map_err(failed)?.position;
        let mut marked = None;
        loop {
            let page = events.read().await.map_err(failed)?;
            let last = page.last().map(|event| event.position);
            let reached = last.is_none_or(|last| last >= head);
            for event in page {
                // Without `follow`, the head is where it was when asked.
                if !follow && event.position > head {
                    break;
                }
                if items.send(Ok(self.item(event))).await.is_err() {
                    return Ok(());
                }
            }
            if !reached {
                continue;
            }
            if follow {
                head = head.max(last.unwrap_or_default());
            }
            if marked != Some(head) {
                marked = Some(head);
                let caught_up = CaughtUp { partition: self.partition, position: head };
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

    fn item(&self, event: StoredEvent) -> ReadEventsResponse {
        let record = EventRecord {
            partition: self.partition,
            position: event.position,
            record: event.record.into_bytes(),
        };
        ReadEventsResponse { item: Some(Item::Event(record)) }
    }
}
