//! Waiting for the projector at the end of an import, so that the next question finds all of it.
//! Only a service to whoever asks next: the import is done, and recorded, before.

use std::{collections::BTreeMap, time::Duration};

use frikort_proto::v1::{GetStatementRequest, LedgerPosition};

use crate::{
    client::{CallError, Service},
    output, statement, wire,
};

/// How long it is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The last position answered in each partition, and a person who is there.
#[derive(Default)]
pub(crate) struct Reached(BTreeMap<i32, (i64, String)>);

impl Reached {
    pub(super) fn note(&mut self, person_id: &str, at: &LedgerPosition) {
        let last = self.0.entry(at.partition).or_default();
        if at.position > last.0 {
            *last = (at.position, person_id.to_owned());
        }
    }
}

/// Waits until the projector has everything up to there, or says that it has not.
pub(crate) async fn wait(projector: &Service, reached: &Reached) -> anyhow::Result<()> {
    for (position, person_id) in reached.0.values() {
        let request = GetStatementRequest {
            person: Some(wire::by_id(person_id.clone())),
            min_position: *position,
            page_size: 1,
            ..GetStatementRequest::default()
        };
        match statement::ask(projector, request).await {
            Ok(_) | Err(CallError::Refused(_)) => {}
            Err(_) => {
                let address = &projector.address;
                output::note(&format!(
                    "everything is recorded, but the projector at {address} does not have it yet"
                ));
                return Ok(());
            }
        }
    }
    Ok(())
}
