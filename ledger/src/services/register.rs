//! RegisterService: has persons forgotten, by two callers together.
//!
//! What is destroyed is in `frikort-register`. Nothing here asks a partition to decide, since no
//! event comes of it: the history stays as it is, and is nobody's.

use std::{pin::Pin, sync::Arc};

use frikort_access::Looking;
use frikort_process::feed::{Items, feed};
use frikort_proto::{
    error::Failure,
    timestamp,
    v1::{
        self, ConfirmForgettingRequest, ConfirmForgettingResponse, ErrorReason, ForgettingState,
        ListForgettingsRequest, ListForgettingsResponse, RequestForgettingRequest,
        RequestForgettingResponse, register_service_server::RegisterService,
    },
};
use frikort_register::{Confirmed, Forgetting};
use futures::Stream;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    fail::{internal, store_unavailable},
    ledger::{Caller, Ledger, nobody},
    parse,
    sequencer::Ask,
};

/// Requests read at a time.
const PAGE: i64 = 200;

/// Requests that wait for a caller.
const AHEAD: usize = 500;

pub(crate) struct Registers(pub(crate) Arc<Ledger>);

#[tonic::async_trait]
impl RegisterService for Registers {
    type ListForgettingsStream =
        Pin<Box<dyn Stream<Item = Result<ListForgettingsResponse, Status>> + Send>>;

    async fn request_forgetting(
        &self,
        request: Request<RequestForgettingRequest>,
    ) -> Result<Response<RequestForgettingResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (named, reference) = parse::forgetting(request.into_inner())?;
        let found = self.0.find(&named).await?;
        self.0.look(&caller.looking, found.as_ref().map(|(person, _)| person.id))?;
        let (person, frikort) = found.ok_or_else(nobody)?;
        let who = caller.looking.who.clone();
        // Somebody without a card is in the register too. N4: another's Frikort-ID is nobody's.
        if frikort.is_some() {
            let ask = Ask::Card((&person).into(), frikort);
            self.0.ask(person.partition, ask, false, caller.asking()).await?;
        }
        let (register, now) = (&self.0.register, self.0.clock.now());
        let requested = register.request_forgetting(person.id, &reference, &who.name, now).await;
        let requested = requested.map_err(|error| self.0.read_failed(error))?;
        tracing::info!(request = %requested.request_id, "a person is to be forgotten");
        Ok(Response::new(RequestForgettingResponse { forgetting: Some(tell(requested)) }))
    }

    async fn confirm_forgetting(
        &self,
        request: Request<ConfirmForgettingRequest>,
    ) -> Result<Response<ConfirmForgettingResponse>, Status> {
        let caller = Caller::of(&request)?;
        let looking = caller.looking.clone();
        let id = parse::request_id(request.get_ref())?;
        let found = self.0.register.forgetting(id).await;
        let Some(requested) = found.map_err(|error| self.0.read_failed(error))? else {
            let unknown = "no request to forget somebody has this id";
            return Err(Failure::new(ErrorReason::ForgettingNotFound, unknown).into());
        };
        self.0.look(&looking, Some(requested.person))?;
        let (register, now) = (&self.0.register, self.0.clock.now());
        let run = self.0.sessions.server_run();
        let confirmed = register.confirm_forgetting(requested, &looking.who.name, now).await;
        match confirmed.map_err(|error| self.0.read_failed(error))? {
            Confirmed::Forgotten(forgotten) => {
                // The register's commit may be missing on a standby that is promoted; this covers it.
                let first = self.0.partitions().first().copied().ok_or_else(internal)?;
                self.0.ask(first, Ask::Cover, false, caller.asking()).await?;
                if self.0.sessions.server_run() != run {
                    // What was covered may be another server's.
                    return Err(store_unavailable().into());
                }
                tracing::info!(request = %id, "a person is forgotten");
                Ok(Response::new(ConfirmForgettingResponse { forgetting: Some(tell(forgotten)) }))
            }
            Confirmed::SameCaller => {
                let same = "whoever asked for it cannot confirm it; another caller must";
                Err(Failure::new(ErrorReason::SecondCallerRequired, same).into())
            }
        }
    }

    async fn list_forgettings(
        &self,
        request: Request<ListForgettingsRequest>,
    ) -> Result<Response<Self::ListForgettingsStream>, Status> {
        let looking = Looking::of(&request)?;
        let waiting_only = request.into_inner().waiting_only;
        let (items, stream) = mpsc::channel(AHEAD);
        let (ledger, to, stop) = (self.0.clone(), items.clone(), self.0.stop.clone());
        let listing = async move { list(&ledger, &looking, waiting_only, &to).await };
        tokio::spawn(feed(items, stop, listing));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Sends what there is, for as long as the caller takes it.
async fn list(
    ledger: &Ledger,
    looking: &Looking,
    waiting_only: bool,
    items: &Items<ListForgettingsResponse>,
) -> Result<(), Status> {
    let mut after = (OffsetDateTime::UNIX_EPOCH, Uuid::nil());
    loop {
        let page = ledger.register.forgettings(after, PAGE).await;
        let page = page.map_err(|error| ledger.read_failed(error))?;
        let Some(last) = page.last() else { return Ok(()) };
        after = (last.requested_at, last.request_id);
        let wanted = |forgetting: &Forgetting| !waiting_only || forgetting.confirmed.is_none();
        let page: Vec<_> = page.into_iter().filter(wanted).collect();
        let persons: Vec<_> = page.iter().map(|forgetting| forgetting.person).collect();
        ledger.lookups.note(looking, "list", &persons)?;
        for forgetting in page {
            let item = ListForgettingsResponse { forgetting: Some(tell(forgetting)) };
            if items.send(Ok(item)).await.is_err() {
                return Ok(());
            }
        }
    }
}

fn tell(forgetting: Forgetting) -> v1::Forgetting {
    let state = match forgetting.confirmed {
        Some(_) => ForgettingState::Forgotten,
        None => ForgettingState::Requested,
    };
    let (confirmed_by, confirm_time) = forgetting.confirmed.unzip();
    v1::Forgetting {
        request_id: forgetting.request_id.to_string(),
        state: state.into(),
        person_id: forgetting.person.to_string(),
        reference: forgetting.reference,
        requested_by: forgetting.requested_by,
        request_time: Some(timestamp(forgetting.requested_at)),
        confirmed_by: confirmed_by.unwrap_or_default(),
        confirm_time: confirm_time.map(timestamp),
    }
}
