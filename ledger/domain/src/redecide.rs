//! Deciding a recorded event anew: from its data, the state before it and the limits on record, by
//! the same function that decided it. What comes of it must be what was recorded (A7), so nobody
//! has to believe the program that wrote it.
//!
//! What is not recorded cannot be judged again: whether the work was declared ordinary, whether a
//! refusal was asked for, which Frikort-ID was named, and the holder's age. Whoever recorded the
//! event had judged them.

use time::{Date, macros::date};

use crate::{
    Account, CancelPayment, ChangeCprNumber, Command, CorrectPayment, DeactivateCard, Decision,
    DecisionKey, Event, GrantCard, LimitSchedule, MunicipalityCode, PaymentKey, ReactivateCard,
    Record, RecordControl, Reference, ReissueCard, RejectApplication, ReportPayment,
    ReverseDecision, TransferCard, account::Contradiction, copenhagen_date, decide,
};

/// Somebody who is of age on every day of the scheme (C8).
const OF_AGE: Date = date!(1970 - 01 - 01);

/// Fails unless deciding `record` anew, in the state before it, gives the same event. An event of
/// the partition itself (a limit) is a fact, and decided by nobody.
pub fn redecide(
    account: &Account,
    limits: &LimitSchedule,
    record: &Record,
) -> Result<(), Contradiction> {
    let Some(command) = command(&record.event) else { return Ok(()) };
    let contradiction = |what| Contradiction { position: record.position, what };
    match decide(account, limits, &command, copenhagen_date(record.recorded_at)) {
        Ok(Decision::Record(event)) if event == record.event => Ok(()),
        Ok(Decision::Record(_)) => Err(contradiction("another outcome follows from its data")),
        Ok(_) => Err(contradiction("there was nothing to record")),
        Err(_) => Err(contradiction("the rules refuse it")),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each type of event")]
fn command(event: &Event) -> Option<Command> {
    Some(match event {
        Event::CardGranted(d, _) => Command::GrantCard(GrantCard {
            key: decision(d.municipality, &d.reference),
            frikort: d.frikort,
            decided_on: d.decided_on,
            effective_from: d.effective_from,
            born: OF_AGE,
            criteria: d.criteria.clone(),
            applied_on: d.applied_on,
        }),
        Event::ApplicationRejected(d) => Command::RejectApplication(RejectApplication {
            key: decision(d.municipality, &d.reference),
            applied_on: d.applied_on,
            decided_on: d.decided_on,
            criteria: d.criteria.clone(),
        }),
        Event::CardDeactivated(d, _) => Command::DeactivateCard(DeactivateCard {
            key: decision(d.municipality, &d.reference),
            frikort: None,
            decided_on: d.decided_on,
            last_day: d.last_day,
            criteria: d.criteria.clone(),
        }),
        Event::CardReactivated(d, _) => Command::ReactivateCard(ReactivateCard {
            key: decision(d.municipality, &d.reference),
            frikort: None,
            decided_on: d.decided_on,
            effective_from: d.effective_from,
        }),
        Event::CardReissued(d) => Command::ReissueCard(ReissueCard {
            key: decision(d.municipality, &d.reference),
            frikort: None,
            decided_on: d.decided_on,
            reissued: d.frikort,
        }),
        Event::CardTransferred(d) => Command::TransferCard(TransferCard {
            key: decision(d.municipality, &d.reference),
            frikort: None,
            decided_on: d.decided_on,
            to: d.to,
        }),
        Event::DecisionReversed(d, _) => Command::ReverseDecision(ReverseDecision {
            key: decision(d.municipality, &d.reference),
            frikort: None,
            decided_on: d.decided_on,
            reversed: d.reversed.clone(),
        }),
        Event::ControlRecorded(d) => Command::RecordControl(RecordControl {
            key: decision(d.municipality, &d.reference),
            frikort: None,
            decided_on: d.decided_on,
            dispensation: d.dispensation,
            criteria: d.criteria.clone(),
        }),
        Event::CprNumberChanged(d) => Command::ChangeCprNumber(ChangeCprNumber {
            key: decision(d.municipality, &d.reference),
            frikort: None,
            decided_on: d.decided_on,
            number: d.number,
        }),
        Event::PaymentReported(d, _) => Command::ReportPayment(ReportPayment {
            key: PaymentKey { employer_cvr: d.employer_cvr, reference: d.reference.clone() },
            facts: d.facts.clone(),
            production_unit: d.production_unit,
            frikort: None,
            ordinary_work: true,
            reject_if_exceeds: false,
        }),
        Event::PaymentCorrected(d, _) => Command::CorrectPayment(CorrectPayment {
            key: PaymentKey { employer_cvr: d.employer_cvr, reference: d.reference.clone() },
            facts: d.facts.clone(),
            frikort: None,
            expected_revision: d.expected_revision,
        }),
        Event::PaymentCancelled(d, _) => Command::CancelPayment(CancelPayment {
            key: PaymentKey { employer_cvr: d.employer_cvr, reference: d.reference.clone() },
            reason: d.reason,
            frikort: None,
            expected_revision: d.expected_revision,
        }),
        Event::AllowanceRecalculated(d, _) => Command::Recalculate { year: d.year },
        Event::AnnualLimitSet(_) => return None,
    })
}

fn decision(municipality: MunicipalityCode, reference: &Reference) -> DecisionKey {
    DecisionKey { municipality, reference: reference.clone() }
}
