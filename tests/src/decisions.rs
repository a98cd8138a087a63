//! Requests about cards as municipality 101 makes them, one of each kind; a test that needs another
//! one changes the fields that matter to it. What must stay out: calls, and what is expected of them.

use frikort_proto::v1::{
    ChangeCprNumberRequest, DeactivateCardRequest, ReactivateCardRequest, RecordControlRequest,
    ReissueCardRequest, RejectApplicationRequest, ReverseDecisionRequest, TransferCardRequest,
};

use crate::client::{by_cpr, date};

/// A deactivation on 2022-06-01.
pub fn deactivate(cpr: &str, reference: &str) -> DeactivateCardRequest {
    DeactivateCardRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: reference.to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        effective_date: None,
        validate_only: false,
        criteria: Vec::new(),
    }
}

/// A reactivation from 2022-07-01.
pub fn reactivate(cpr: &str, reference: &str) -> ReactivateCardRequest {
    ReactivateCardRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: reference.to_owned(),
        decision_date: Some(date(2022, 7, 1)),
        effective_date: Some(date(2022, 7, 1)),
        validate_only: false,
    }
}

/// Handed over to another municipality on 2022-08-01.
pub fn transfer(cpr: &str, reference: &str, to: &str) -> TransferCardRequest {
    TransferCardRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: reference.to_owned(),
        decision_date: Some(date(2022, 8, 1)),
        to_municipality_code: to.to_owned(),
        validate_only: false,
    }
}

/// An application of 2022-05-01, rejected on 2022-06-01.
pub fn reject(cpr: &str, reference: &str) -> RejectApplicationRequest {
    RejectApplicationRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: reference.to_owned(),
        application_date: Some(date(2022, 5, 1)),
        decision_date: Some(date(2022, 6, 1)),
        criteria: Vec::new(),
        validate_only: false,
    }
}

/// A reversal on 2022-10-01 of what had been decided under `reversed`.
pub fn reverse(cpr: &str, reference: &str, reversed: &str) -> ReverseDecisionRequest {
    ReverseDecisionRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: reference.to_owned(),
        decision_date: Some(date(2022, 10, 1)),
        reversed_reference: reversed.to_owned(),
        reversed_municipality_code: String::new(),
        validate_only: false,
    }
}

/// A control on 2022-09-01.
pub fn control(cpr: &str, reference: &str) -> RecordControlRequest {
    RecordControlRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: reference.to_owned(),
        control_date: Some(date(2022, 9, 1)),
        dispensation: false,
        criteria: Vec::new(),
        validate_only: false,
    }
}

/// Another Frikort-ID on 2022-06-01.
pub fn reissue(cpr: &str, reference: &str, frikort_id: &str) -> ReissueCardRequest {
    ReissueCardRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: reference.to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        frikort_id: frikort_id.to_owned(),
        validate_only: false,
    }
}

/// Another CPR number on 2022-06-01.
pub fn renumber(cpr: &str, reference: &str, new: &str) -> ChangeCprNumberRequest {
    ChangeCprNumberRequest {
        person: by_cpr(cpr),
        municipality_code: "101".to_owned(),
        reference: reference.to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        new_cpr_number: new.to_owned(),
        validate_only: false,
    }
}
