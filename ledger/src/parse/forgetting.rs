//! Whom to forget, and which request is confirmed.

use frikort_domain::Reference;
use frikort_proto::{
    error::{Failure, Faults},
    v1::{ConfirmForgettingRequest, RequestForgettingRequest},
};
use frikort_register::Named;
use uuid::Uuid;

use super::own_reference;

pub(crate) fn forgetting(request: RequestForgettingRequest) -> Result<(Named, Reference), Failure> {
    let mut faults = Faults::default();
    let named = Named::parse(&mut faults, "person", request.person);
    let reference = own_reference(&mut faults, named.as_ref(), &request.reference);
    faults.finish(named.zip(reference))
}

pub(crate) fn request_id(request: &ConfirmForgettingRequest) -> Result<Uuid, Failure> {
    let mut faults = Faults::default();
    let id = Uuid::parse_str(&request.request_id).ok();
    if id.is_none() {
        faults.note("request_id", "must be a UUID");
    }
    faults.finish(id)
}
