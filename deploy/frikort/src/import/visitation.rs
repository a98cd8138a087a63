//! A row of a visitations file as a call.

use frikort_proto::{
    Date,
    v1::{
        Criterion, DeactivateCardRequest, GrantCardRequest, PersonRef, ReactivateCardRequest,
        RecordControlRequest, ReissueCardRequest, RejectApplicationRequest, ReverseDecisionRequest,
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

/// What every decision has.
struct Decision {
    /// By the CPR number and the Frikort-ID.
    person: Option<PersonRef>,
    /// By the CPR number alone: where the row's Frikort-ID is a new one, or there is none yet.
    person_alone: Option<PersonRef>,
    municipality_code: String,
    reference: String,
    decision_date: Option<Date>,
    effective_date: Option<Date>,
}

fn parse(fields: &mut Fields<'_>) -> Option<Command> {
    let decision = Decision {
        decision_date: fields.date("decided_on"),
        effective_date: fields.optional_date("effective_from"),
        municipality_code: fields.text("municipality"),
        reference: fields.text("reference"),
        person: Some(fields.person()),
        person_alone: Some(wire::by_cpr(fields.text("cpr"), String::new())),
    };
    match fields.required("decision")?.as_str() {
        "granted" => decision.grant(fields),
        "rejected" => decision.reject(fields),
        "deactivated" => decision.deactivate(fields),
        "reactivated" => Some(decision.reactivate()),
        "reissued" => Some(decision.reissue(fields)),
        "reversed" => Some(decision.reverse(fields)),
        "transferred" => Some(decision.transfer(fields)),
        "controlled" => decision.control(fields),
        _ => fields.fault(
            "decision",
            "must be granted, rejected, deactivated, reactivated, reissued, reversed, transferred \
             or controlled",
        ),
    }
}

impl Decision {
    fn grant(self, fields: &mut Fields<'_>) -> Option<Command> {
        Some(Command::Grant(GrantCardRequest {
            person: self.person_alone,
            municipality_code: self.municipality_code,
            reference: self.reference,
            frikort_id: fields.text("frikort_id"),
            decision_date: self.decision_date,
            effective_date: self.effective_date,
            validate_only: false,
            criteria: criteria(fields)?,
            application_date: fields.optional_date("applied_on"),
        }))
    }

    fn reject(self, fields: &mut Fields<'_>) -> Option<Command> {
        Some(Command::Reject(RejectApplicationRequest {
            person: self.person_alone,
            municipality_code: self.municipality_code,
            reference: self.reference,
            application_date: fields.optional_date("applied_on"),
            decision_date: self.decision_date,
            criteria: criteria(fields)?,
            validate_only: false,
        }))
    }

    fn deactivate(self, fields: &mut Fields<'_>) -> Option<Command> {
        Some(Command::Deactivate(DeactivateCardRequest {
            person: self.person,
            municipality_code: self.municipality_code,
            reference: self.reference,
            decision_date: self.decision_date,
            effective_date: self.effective_date,
            validate_only: false,
            criteria: criteria(fields)?,
        }))
    }

    fn reactivate(self) -> Command {
        Command::Reactivate(ReactivateCardRequest {
            person: self.person,
            municipality_code: self.municipality_code,
            reference: self.reference,
            decision_date: self.decision_date,
            effective_date: self.effective_date,
            validate_only: false,
        })
    }

    fn reissue(self, fields: &mut Fields<'_>) -> Command {
        Command::Reissue(ReissueCardRequest {
            person: self.person_alone,
            municipality_code: self.municipality_code,
            reference: self.reference,
            decision_date: self.decision_date,
            frikort_id: fields.text("frikort_id"),
            validate_only: false,
        })
    }

    fn reverse(self, fields: &mut Fields<'_>) -> Command {
        Command::Reverse(ReverseDecisionRequest {
            person: self.person,
            municipality_code: self.municipality_code,
            reference: self.reference,
            decision_date: self.decision_date,
            reversed_reference: fields.text("reversed_reference"),
            reversed_municipality_code: fields
                .optional("reversed_municipality")
                .unwrap_or_default(),
            validate_only: false,
        })
    }

    fn transfer(self, fields: &mut Fields<'_>) -> Command {
        Command::Transfer(TransferCardRequest {
            person: self.person,
            municipality_code: self.municipality_code,
            reference: self.reference,
            decision_date: self.decision_date,
            to_municipality_code: fields.text("to_municipality"),
            validate_only: false,
        })
    }

    fn control(self, fields: &mut Fields<'_>) -> Option<Command> {
        Some(Command::Control(RecordControlRequest {
            person: self.person,
            municipality_code: self.municipality_code,
            reference: self.reference,
            control_date: self.decision_date,
            dispensation: dispensation(fields)?,
            criteria: criteria(fields)?,
            validate_only: false,
        }))
    }
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
