//! A row of a payments file as a call.

use frikort_proto::v1::{
    CancelPaymentRequest, CancelReason, CorrectPaymentRequest, DayPeriod, PaymentFacts,
    ReportPaymentRequest,
};

use super::{
    rows::{Column, Fields, Form},
    send::Command,
};

pub(super) const FORM: Form = Form {
    name: "payments",
    columns: &[
        Column::optional("action", &["handling"]),
        Column::needed("cpr", &["cprnr", "cprnummer", "personnummer"]),
        Column::optional("frikort_id", &["frikortnr", "frikort"]),
        Column::needed("employer_cvr", &["cvr", "cvrnr", "cvrnummer"]),
        Column::needed("reference", &["lønid", "løbenr", "løbenummer", "bilagsnr"]),
        Column::needed("amount", &["beløb", "løn", "bruttoløn"]),
        Column::needed("paid_on", &["udbetalt", "udbetalingsdato", "dispositionsdato"]),
        Column::optional("work_first", &["arbejdefra", "periodefra", "fra", "fradato"]),
        Column::optional("work_last", &["arbejdetil", "periodetil", "til", "tildato"]),
        Column::optional("hours", &["timer", "løntimer"]),
        Column::optional("expected_revision", &["revision"]),
        Column::optional("reason", &["årsag"]),
    ],
    parse,
};

fn parse(fields: &mut Fields<'_>) -> Option<Command> {
    let person = Some(fields.person());
    let employer_cvr = fields.text("employer_cvr");
    let reference = fields.text("reference");
    // A payroll's export has payments, and says nothing of it.
    match fields.optional("action").as_deref().unwrap_or("report") {
        "report" => Some(Command::Report(ReportPaymentRequest {
            person,
            employer_cvr,
            reference,
            facts: facts(fields),
            ordinary_work: true,
            production_unit: String::new(),
            reject_if_exceeds: false,
            validate_only: false,
        })),
        "correct" => Some(Command::Correct(CorrectPaymentRequest {
            person,
            employer_cvr,
            reference,
            expected_revision: fields.whole_number("expected_revision").unwrap_or_default(),
            facts: facts(fields),
            validate_only: false,
        })),
        "cancel" => Some(Command::Cancel(CancelPaymentRequest {
            person,
            employer_cvr,
            reference,
            expected_revision: fields.whole_number("expected_revision").unwrap_or_default(),
            reason: reason(fields)?.into(),
            validate_only: false,
        })),
        _ => fields.fault("action", "must be report, correct or cancel"),
    }
}

/// All fields are looked at, so that every fault is found.
fn facts(fields: &mut Fields<'_>) -> Option<PaymentFacts> {
    let amount_oere = fields.amount("amount");
    let payment_date = fields.date("paid_on");
    let first_day = fields.optional_date("work_first");
    let last_day = fields.optional_date("work_last");
    let hours_hundredths = fields.optional_hours("hours");
    // Half a period is for the ledger to refuse.
    let given = first_day.is_some() || last_day.is_some();
    Some(PaymentFacts {
        amount_oere: amount_oere?,
        payment_date,
        work_period: given.then_some(DayPeriod { first_day, last_day }),
        hours_hundredths,
        components: None,
    })
}

fn reason(fields: &mut Fields<'_>) -> Option<CancelReason> {
    let text = fields.required("reason")?;
    let reason = CancelReason::from_str_name(&format!("CANCEL_REASON_{text}"));
    let reason = reason.filter(|reason| *reason != CancelReason::Unspecified);
    let allowed = "must be WRONG_PERSON, DUPLICATE, NOT_PAID, SUPPORTED_WORK or OTHER";
    fields.parsed("reason", reason, allowed)
}
