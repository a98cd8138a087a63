//! A row of a visitations file as a call.

use frikort_proto::{
    Date,
    v1::{
        Criterion, DeactivateCardRequest, GrantCardRequest, ReactivateCardRequest,
        RecordControlRequest, RejectApplicationRequest, ReverseDecisionRequest,
        TransferCardRequest,
    },
};

use super::{
    rows::{Column, Fields, Form},
    send::Command,
};
use crate::wire;

pub(super) const FORM: Form = Form {
    name: "visitations",
    columns: &[
        Column::needed("cpr", &["cprnr", "cprnummer", "personnummer"]),
        Column::needed("frikort_id", &["frikortnr", "frikort"]),
        Column::needed("municipality", &["kommune", "kommunekode", "kommunenr"]),
        Column::needed("decision", &["afgørelse"]),
        Column::needed("decided_on", &["afgjort", "afgørelsesdato"]),
        Column::needed("effective_from", &["gyldigfra", "virkningsdato"]),
        Column::optional("to_municipality", &["tilkommune", "nykommune"]),
        Column::optional("dispensation", &[]),
        Column::optional("criteria", &["kriterier"]),
        Column::optional("applied_on", &["ansøgt", "ansøgningsdato"]),
        Column::optional("reversed_reference", &["omgjortsagsnr"]),
        Column::optional("reversed_municipality", &["omgjortkommune"]),
        Column::needed("reference", &["sagsnr", "sagsnummer"]),
    ],
    parse,
};

fn parse(fields: &mut Fields<'_>) -> Option<Command> {
    let decision_date = fields.date("decided_on");
    let effective_date = fields.optional_date("effective_from");
    let municipality_code = fields.text("municipality");
    let reference = fields.text("reference");
    let person = Some(fields.person());
    match fields.required("decision")?.as_str() {
        "granted" => Some(Command::Grant(GrantCardRequest {
            // A grant gives the Frikort-ID; it does not identify by it.
            person: Some(wire::by_cpr(fields.text("cpr"), String::new())),
            municipality_code,
            reference,
            frikort_id: fields.text("frikort_id"),
            decision_date,
            effective_date,
            validate_only: false,
            criteria: criteria(fields)?,
            application_date: fields.optional_date("applied_on"),
        })),
        "rejected" => reject(fields, municipality_code, reference, decision_date),
        "deactivated" => Some(Command::Deactivate(DeactivateCardRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            effective_date,
            validate_only: false,
            criteria: criteria(fields)?,
        })),
        "reactivated" => Some(Command::Reactivate(ReactivateCardRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            effective_date,
            validate_only: false,
        })),
        "reversed" => Some(Command::Reverse(ReverseDecisionRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            reversed_reference: fields.text("reversed_reference"),
            reversed_municipality_code: fields
                .optional("reversed_municipality")
                .unwrap_or_default(),
            validate_only: false,
        })),
        "transferred" => Some(Command::Transfer(TransferCardRequest {
            person,
            municipality_code,
            reference,
            decision_date,
            to_municipality_code: fields.text("to_municipality"),
            validate_only: false,
        })),
        "controlled" => Some(Command::Control(RecordControlRequest {
            person,
            municipality_code,
            reference,
            control_date: decision_date,
            dispensation: dispensation(fields)?,
            criteria: criteria(fields)?,
            validate_only: false,
        })),
        _ => fields.fault(
            "decision",
            "must be granted, rejected, deactivated, reactivated, reversed, transferred or controlled",
        ),
    }
}

/// There is no card whose Frikort-ID could be named.
fn reject(
    fields: &mut Fields<'_>,
    municipality_code: String,
    reference: String,
    decision_date: Option<Date>,
) -> Option<Command> {
    Some(Command::Reject(RejectApplicationRequest {
        person: Some(wire::by_cpr(fields.text("cpr"), String::new())),
        municipality_code,
        reference,
        application_date: fields.optional_date("applied_on"),
        decision_date,
        criteria: criteria(fields)?,
        validate_only: false,
    }))
}

fn dispensation(fields: &mut Fields<'_>) -> Option<bool> {
    match fields.optional("dispensation").as_deref() {
        None | Some("false") => Some(false),
        Some("true") => Some(true),
        Some(_) => fields.fault("dispensation", "must be true or false"),
    }
}

/// Codes with spaces between.
fn criteria(fields: &mut Fields<'_>) -> Option<Vec<i32>> {
    let text = fields.optional("criteria").unwrap_or_default();
    let code = |code: &str| Criterion::from_str_name(&format!("CRITERION_{code}")).map(i32::from);
    let codes = text.split_whitespace().map(code).collect();
    let allowed = "must be of SOCIAL_PROBLEMS, EDUCATION_LAST_YEAR, INCOME_LAST_YEAR, RESIDENCE \
                   and AGE, with spaces between";
    fields.parsed("criteria", codes, allowed)
}
