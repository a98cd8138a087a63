//! PolicyService: the limit schedule, recorded in every partition.

use std::sync::Arc;

use frikort_proto::{
    error::Failure,
    v1::{
        LedgerPosition, ListAnnualLimitsRequest, ListAnnualLimitsResponse, SetAnnualLimitRequest,
        SetAnnualLimitResponse, policy_service_server::PolicyService,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    complete_limits::{IncompleteLimits, RecordingLimits},
    fail::internal,
    ledger::{By, Ledger},
    parse, render,
    sequencer::{Ask, Body},
};

pub(crate) struct Policies(pub(crate) Arc<Ledger>);

impl Policies {
    /// Makes the limits of all partitions the same.
    async fn complete(&self) -> Result<RecordingLimits<'_>, Failure> {
        self.0.limits.complete().await.map_err(|incomplete| match incomplete {
            IncompleteLimits::Store(error) => self.0.read_failed(error),
            IncompleteLimits::Refused(_, refused) => refused.into(),
            IncompleteLimits::Unreadable(..) => {
                let error = &incomplete as &dyn std::error::Error;
                tracing::error!(error, "limits are not complete in every partition");
                internal()
            }
        })
    }
}

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn set_annual_limit(
        &self,
        request: Request<SetAnnualLimitRequest>,
    ) -> Result<Response<SetAnnualLimitResponse>, Status> {
        let by = By::of(&request)?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let entry = parse::limit(request)?;
        // Two at a time would meet each other's half-way states; what is tried records nothing.
        let recording = match validate_only {
            true => None,
            false => Some(self.complete().await?),
        };
        let (mut positions, mut recorded_in) = (Vec::new(), Vec::new());
        let mut replayed = true;
        for partition in self.0.partitions() {
            let ask = Ask::SetLimit(entry.clone());
            let answer = self.0.ask(partition, ask, validate_only, by.clone()).await?;
            positions.push(LedgerPosition::new(partition, answer.position, answer.recorded_at));
            replayed &= answer.replayed;
            recorded_in.push(partition);
            if let Some(recording) = &recording {
                recording.recorded_in(&recorded_in);
            }
        }
        Ok(Response::new(SetAnnualLimitResponse {
            limit: Some(render::limit(&entry)),
            positions,
            replayed,
        }))
    }

    async fn list_annual_limits(
        &self,
        request: Request<ListAnnualLimitsRequest>,
    ) -> Result<Response<ListAnnualLimitsResponse>, Status> {
        let by = By::of(&request)?;
        // Then every partition holds the same schedule.
        drop(self.complete().await?);
        let first = self.0.partitions().first().copied().ok_or_else(internal)?;
        let answer = self.0.ask(first, Ask::Limits, false, by).await?;
        let Body::Limits(limits) = answer.body else { return Err(internal().into()) };
        let limits = limits.entries().iter().map(render::limit).collect();
        Ok(Response::new(ListAnnualLimitsResponse { limits }))
    }
}
