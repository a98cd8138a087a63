//! Sending, and from the contract's words to the model's. What must stay out: deciding what is
//! right.

use frikort_proto::{
    Date,
    error::{Failure, reason_name},
    v1::{self, LedgerPosition, PaymentFacts, ReportPaymentResponse},
};
use time::{Duration, OffsetDateTime};
use tonic::Status;

use super::request::Request;
use crate::{
    client::Ledger,
    model::{
        Allowance, Answer, CardAnswer, Day, Decision, Facts, Hours, Instant, Kind, Month, OnRecord,
        PaymentAnswer, PaymentKey, Refusal, Standing, Statement,
    },
};

/// What the program answered a call, and where it recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) answer: Answer,
    /// Absent where it was refused.
    pub(super) place: Option<Place>,
}

/// Of whom, and as of where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) person_id: String,
    pub(super) partition: i32,
    pub(super) position: i64,
    pub(super) at: Option<Instant>,
}

/// Sends a call; what the program refuses for a reason is an answer, too.
pub(super) async fn send(mut ledger: Ledger, request: Request) -> Result<Told, Status> {
    let sent = match request {
        Request::Grant(request) => {
            let answer = ledger.visitations.grant_card(request).await.map(unwrapped);
            answer.map(|a| card_told(a.card, a.position, a.replayed, &[]))
        }
        Request::Reject(request) => {
            let answer = ledger.visitations.reject_application(request).await.map(unwrapped);
            answer.map(|a| noted(a.person_id, a.position, a.replayed))
        }
        Request::Reverse(request) => {
            let answer = ledger.visitations.reverse_decision(request).await.map(unwrapped);
            answer.map(|a| card_told(a.card, a.position, a.replayed, &[]))
        }
        Request::Deactivate(request) => {
            let answer = ledger.visitations.deactivate_card(request).await.map(unwrapped);
            answer.map(|a| {
                let told = card_told(a.card, a.position, a.replayed, &a.payments_after);
                still_active(told, &a.warnings)
            })
        }
        Request::Reactivate(request) => {
            let answer = ledger.visitations.reactivate_card(request).await.map(unwrapped);
            answer.map(|a| card_told(a.card, a.position, a.replayed, &[]))
        }
        Request::Reissue(request) => {
            let answer = ledger.visitations.reissue_card(request).await.map(unwrapped);
            answer.map(|a| card_told(a.card, a.position, a.replayed, &[]))
        }
        Request::Transfer(request) => {
            let answer = ledger.visitations.transfer_card(request).await.map(unwrapped);
            answer.map(|a| card_told(a.card, a.position, a.replayed, &[]))
        }
        Request::Control(request) => {
            let answer = ledger.visitations.record_control(request).await.map(unwrapped);
            answer.map(|a| card_told(a.card, a.position, a.replayed, &[]))
        }
        Request::Renumber(request) => {
            let answer = ledger.visitations.change_cpr_number(request).await.map(unwrapped);
            answer.map(|a| card_told(a.card, a.position, a.replayed, &[]))
        }
        Request::Report(request) => {
            ledger.payments.report_payment(request).await.map(unwrapped).map(report_told)
        }
        Request::Correct(request) => {
            let answer = ledger.payments.correct_payment(request).await.map(unwrapped);
            answer.map(|a| payment_told(a.payment, a.allowance, a.position, a.replayed, false))
        }
        Request::Cancel(request) => {
            let answer = ledger.payments.cancel_payment(request).await.map(unwrapped);
            answer.map(|a| payment_told(a.payment, a.allowance, a.position, a.replayed, false))
        }
    };
    sent.or_else(|status| {
        let answer = Answer::Refused(refused(status)?);
        Ok(Told { answer, place: None })
    })
}

pub(super) fn unwrapped<T>(response: tonic::Response<T>) -> T {
    response.into_inner()
}

/// A refusal that is final; a status that says nothing final comes back.
pub(super) fn refused(status: Status) -> Result<Refusal, Status> {
    match Failure::from_status(&status) {
        Some(failure) if failure.retry_delay().is_none() => {
            let mut fields: Vec<String> = failure.fields.iter().map(|(f, _)| f.clone()).collect();
            fields.sort();
            let reason = failure.reason_name().to_owned();
            Ok(Refusal { reason, metadata: failure.metadata.into_iter().collect(), fields })
        }
        _ => Err(status),
    }
}

/// The refusal of one item of a stream; `None` when it says nothing final.
pub(super) fn item_refused(refusal: v1::Refusal) -> Option<Refusal> {
    let reason = reason_name(refusal.reason()).to_owned();
    let mut fields: Vec<String> = refusal.fields.into_iter().map(|fault| fault.field).collect();
    fields.sort();
    let metadata = refusal.metadata.into_iter().collect();
    (refusal.retry_delay_ms == 0).then_some(Refusal { reason, metadata, fields })
}

pub(super) fn report_told(answer: ReportPaymentResponse) -> Told {
    let twin = answer.warnings.contains(&v1::Warning::PossibleDuplicate.into());
    let changed = answer.warnings.contains(&v1::Warning::ChangedSince.into());
    let revision = answer.present_revision;
    let mut told =
        payment_told(answer.payment, answer.allowance, answer.position, answer.replayed, twin);
    if let Answer::Payment(answer) = &mut told.answer {
        answer.changed_since = changed.then_some(revision);
    }
    told
}

fn payment_told(
    payment: Option<v1::Payment>,
    allowance: Option<v1::Allowance>,
    position: Option<LedgerPosition>,
    replayed: bool,
    possible_duplicate: bool,
) -> Told {
    let (payment, allowance) = (payment.unwrap_or_default(), allowance.unwrap_or_default());
    let answer = Answer::Payment(PaymentAnswer {
        payment: standing(&payment),
        allowance: self::allowance(&allowance),
        replayed,
        possible_duplicate,
        changed_since: None,
    });
    Told { answer, place: Some(place(payment.person_id, position)) }
}

fn card_told(
    card: Option<v1::Card>,
    position: Option<LedgerPosition>,
    replayed: bool,
    payments_after: &[v1::Payment],
) -> Told {
    let card = card.unwrap_or_default();
    let place = place(card.person_id.clone(), position);
    let answer = Answer::Card(CardAnswer {
        payments_after: payments_after.iter().map(standing).collect(),
        position: place.position,
        replayed,
        ..card_answer(&card)
    });
    Told { answer, place: Some(place) }
}

/// C12: what a deactivation warns about.
fn still_active(mut told: Told, warnings: &[i32]) -> Told {
    if let Answer::Card(card) = &mut told.answer {
        card.still_active = warnings == [i32::from(v1::Warning::CardStillActive)];
    }
    told
}

fn noted(person_id: String, position: Option<LedgerPosition>, replayed: bool) -> Told {
    let place = place(person_id, position);
    let answer = Answer::Noted { position: place.position, replayed };
    Told { answer, place: Some(place) }
}

/// A decision as it is told when somebody asks. Neither Frikort-ID nor CPR number is told.
pub(super) fn on_record(told: &v1::CardDecision) -> OnRecord {
    let criteria = told.criteria.iter().copied().collect();
    let effective = day(told.effective_date);
    let municipality = |code: &str| code.parse().unwrap_or_default();
    let kind = match told.kind() {
        v1::CardDecisionKind::Grant => Kind::Grant {
            frikort_id: String::new(),
            from: effective,
            applied: told.application_date.map(|applied| day(Some(applied))),
            criteria,
        },
        v1::CardDecisionKind::Rejection => {
            Kind::Reject { applied: day(told.application_date), criteria }
        }
        v1::CardDecisionKind::Deactivation => Kind::Deactivate { last_day: effective, criteria },
        v1::CardDecisionKind::Reactivation => Kind::Reactivate { from: effective },
        v1::CardDecisionKind::Reissue => Kind::Reissue { frikort_id: String::new() },
        v1::CardDecisionKind::Reversal => Kind::Reverse {
            municipality: municipality(&told.reversed_municipality_code),
            reference: told.reversed_reference.clone(),
        },
        v1::CardDecisionKind::Transfer => {
            Kind::Transfer { to: municipality(&told.to_municipality_code) }
        }
        v1::CardDecisionKind::Control => {
            Kind::Control { dispensation: told.dispensation, criteria }
        }
        v1::CardDecisionKind::NumberChange | v1::CardDecisionKind::Unspecified => {
            Kind::Renumber { number: 0 }
        }
    };
    let decision = Decision {
        municipality: municipality(&told.municipality_code),
        reference: told.reference.clone(),
        decided: day(told.decision_date),
        kind,
    };
    let position = told.position.as_ref().map_or(0, |place| place.position);
    OnRecord { decision, reversed: told.reversed, position }
}

/// A card as it is told when somebody asks.
pub(super) fn card_answer(card: &v1::Card) -> CardAnswer {
    let periods = card.active_periods.iter();
    CardAnswer {
        active: card.status() == v1::CardStatus::Active,
        still_active: false,
        municipality: card.municipality_code.parse().unwrap_or_default(),
        periods: periods
            .map(|period| (day(period.first_day), period.last_day.map(|last| day(Some(last)))))
            .collect(),
        control_due: card.control_due_date.map(|due| day(Some(due))),
        payments_after: Vec::new(),
        position: 0,
        replayed: false,
    }
}

fn place(person_id: String, position: Option<LedgerPosition>) -> Place {
    let position = position.unwrap_or_default();
    let at = position.recorded_time.and_then(|at| {
        let instant = OffsetDateTime::from_unix_timestamp(at.seconds).ok()?;
        Some(instant + Duration::nanoseconds(at.nanos.into()))
    });
    Place { person_id, partition: position.partition, position: position.position, at }
}

/// A day; one that was left out or does not exist is far from all that are used.
fn day(wire: Option<Date>) -> Day {
    wire.and_then(Date::to_day).map_or_else(|| Day::new(1, 1, 1), Day)
}

fn standing(payment: &v1::Payment) -> Standing {
    let attributed = day(payment.attribution_date);
    Standing {
        key: PaymentKey {
            employer: payment.employer_cvr.clone(),
            reference: payment.reference.clone(),
        },
        revision: payment.revision,
        // The year is told beside the day; one that is another year's is no day of ours.
        attributed: if payment.year == attributed.year() { attributed } else { day(None) },
        oere: payment.amount_oere,
        exempt: payment.exempt_oere,
        taxable: payment.taxable_oere,
        cancelled: payment.cancelled,
        position: payment.position,
    }
}

pub(super) fn allowance(allowance: &v1::Allowance) -> Allowance {
    Allowance {
        year: allowance.year,
        limit: allowance.limit_oere,
        total: allowance.total_oere,
        used: allowance.used_oere,
        remaining: allowance.remaining_oere,
        taxable: allowance.taxable_oere,
        payments: allowance.payment_count,
    }
}

pub(super) fn statement(told: &v1::GetStatementResponse) -> Statement {
    let hours = told.hours.unwrap_or_default();
    let period = hours.period.unwrap_or_default();
    Statement {
        payments: told
            .payments
            .iter()
            .map(|payment| (standing(payment), facts(payment.facts.as_ref())))
            .collect(),
        allowances: told.allowances.iter().map(allowance).collect(),
        months: told
            .months
            .iter()
            .map(|month| Month {
                month: (month.year, month.month),
                oere: (month.total_oere, month.exempt_oere, month.taxable_oere),
                payments: month.payment_count,
                hours: (month.hours_hundredths, month.payments_without_hours),
            })
            .collect(),
        hours: Hours {
            period: (day(period.first_day), day(period.last_day)),
            hours: (hours.hours_hundredths, hours.payments_without_hours),
        },
    }
}

fn facts(facts: Option<&PaymentFacts>) -> Facts {
    let facts = facts.cloned().unwrap_or_default();
    Facts {
        oere: facts.amount_oere,
        paid: day(facts.payment_date),
        work: facts.work_period.map(|work| (day(work.first_day), day(work.last_day))),
        hours: facts.hours_hundredths,
        parts: facts
            .components
            .map(|parts| [parts.wage_oere, parts.holiday_pay_oere, parts.pension_oere]),
    }
}
