//! What may follow what: events that contradict the history are refused when they are folded in,
//! so that neither the ledger, the projector nor an auditor goes on from a damaged log.

use frikort_domain::{Account, Contradiction, Event, SplitChange};
use time::macros::date;

use crate::scenario::{
    BAKERY, GARDEN, Ledger, Step, cancel, correct, deactivate, given, holder, kr, limit, moment,
    reactivate, report,
};

/// Folds events that follow the given ones.
fn follow(ledger: &Ledger, event: &Event) -> Result<Account, Contradiction> {
    let mut account = ledger.account.clone();
    let position = ledger.position + 1;
    account.apply(event, account.version() + 1, position, moment(position))?;
    Ok(account)
}

/// The event that a step would record.
fn event_of(ledger: &Ledger, step: Step) -> Event {
    let then = ledger.clone().when(step);
    then.after.events.last().expect("an event").clone()
}

fn two_payments() -> Ledger {
    given([holder(), report(BAKERY, "A", "12000.00"), report(GARDEN, "B", "9000.00")])
}

fn contradicts(ledger: &Ledger, event: &Event) {
    let error = follow(ledger, event).expect_err("it does not follow");
    assert_eq!(error.position, ledger.position + 1, "{error}");
}

#[test]
fn an_event_that_follows_is_folded_in() {
    let ledger = two_payments();
    let event = event_of(&ledger, correct(BAKERY, "A", 1, "11000.00"));
    let account = follow(&ledger, &event).expect("it follows");
    assert_eq!(account.version(), 4);
}

#[test]
fn a_person_version_that_is_not_the_next_is_refused() {
    let ledger = two_payments();
    let event = event_of(&ledger, cancel(BAKERY, "A", 1));
    for version in [0, 2, 3, 5] {
        let mut account = ledger.account.clone();
        assert!(account.apply(&event, version, 4, moment(4)).is_err(), "{version}");
    }
}

#[test]
fn a_report_of_a_payment_that_exists_is_refused() {
    let ledger = two_payments();
    contradicts(&ledger, &ledger.events[1]);
}

#[test]
fn a_change_of_a_payment_that_does_not_exist_is_refused() {
    let ledger = two_payments();
    let empty = given([holder()]);
    contradicts(&empty, &event_of(&ledger, correct(BAKERY, "A", 1, "11000.00")));
    contradicts(&empty, &event_of(&ledger, cancel(BAKERY, "A", 1)));
}

#[test]
fn p6_a_change_of_a_cancelled_payment_is_refused() {
    let ledger = two_payments();
    let cancelled = given([
        holder(),
        report(BAKERY, "A", "12000.00"),
        report(GARDEN, "B", "9000.00"),
        cancel(BAKERY, "A", 1),
    ]);
    // Made to look like the next change: it agrees with the sums that follow.
    let Event::PaymentCorrected(mut data, mut outcome) =
        event_of(&ledger, correct(BAKERY, "A", 1, "11000.00"))
    else {
        panic!("a correction")
    };
    data.expected_revision = 2;
    outcome.revision = 3;
    outcome.changed.clear();
    outcome.year.payments = 2;
    contradicts(&cancelled, &Event::PaymentCorrected(data, outcome));
    let Event::PaymentCancelled(mut data, mut outcome) = event_of(&ledger, cancel(BAKERY, "A", 1))
    else {
        panic!("a cancellation")
    };
    data.expected_revision = 2;
    outcome.revision = 3;
    outcome.changed.clear();
    outcome.year.payments = 0;
    contradicts(&cancelled, &Event::PaymentCancelled(data, outcome));
}

#[test]
fn p5_a_revision_that_is_not_the_next_is_refused() {
    let ledger = two_payments();
    let Event::PaymentCorrected(data, outcome) =
        event_of(&ledger, correct(BAKERY, "A", 1, "11000.00"))
    else {
        panic!("a correction")
    };
    let mut skipped = outcome.clone();
    skipped.revision = 3;
    contradicts(&ledger, &Event::PaymentCorrected(data.clone(), skipped));
    let mut stale = data;
    stale.expected_revision = 2;
    contradicts(&ledger, &Event::PaymentCorrected(stale, outcome));
    let Event::PaymentCancelled(data, mut outcome) = event_of(&ledger, cancel(BAKERY, "A", 1))
    else {
        panic!("a cancellation")
    };
    outcome.revision = 1;
    contradicts(&ledger, &Event::PaymentCancelled(data, outcome));
}

#[test]
fn y1_an_outcome_in_another_year_than_its_attribution_date_is_refused() {
    let ledger = given([holder()]);
    let Event::PaymentReported(data, mut outcome) =
        event_of(&ledger, report(BAKERY, "A", "12000.00"))
    else {
        panic!("a report")
    };
    outcome.year.year = 2020;
    contradicts(&ledger, &Event::PaymentReported(data.clone(), outcome.clone()));
    outcome.attribution_date = date!(2020 - 03 - 01);
    contradicts(&ledger, &Event::PaymentReported(data, outcome));
}

#[test]
fn a2_parts_that_are_not_the_amount_are_refused() {
    let ledger = two_payments();
    let Event::PaymentReported(data, mut outcome) =
        event_of(&ledger, report(GARDEN, "C", "100.00"))
    else {
        panic!("a report")
    };
    outcome.taxable = kr("99.99");
    contradicts(&ledger, &Event::PaymentReported(data, outcome));
    let Event::PaymentCorrected(data, mut outcome) =
        event_of(&ledger, correct(BAKERY, "A", 1, "11000.00"))
    else {
        panic!("a correction")
    };
    outcome.changed[0].taxable = kr("0.01");
    contradicts(&ledger, &Event::PaymentCorrected(data, outcome));
}

#[test]
fn a2_sums_that_do_not_add_up_are_refused() {
    let ledger = two_payments();
    let Event::PaymentCorrected(data, outcome) =
        event_of(&ledger, correct(BAKERY, "A", 1, "11000.00"))
    else {
        panic!("a correction")
    };
    let mut total = outcome.clone();
    total.year.total = kr("20000.01");
    contradicts(&ledger, &Event::PaymentCorrected(data.clone(), total));
    let mut number = outcome.clone();
    number.year.payments = 3;
    contradicts(&ledger, &Event::PaymentCorrected(data.clone(), number));
    let mut forgotten = outcome;
    forgotten.changed.clear();
    contradicts(&ledger, &Event::PaymentCorrected(data, forgotten));
}

#[test]
fn p5_a_payment_that_moved_names_the_year_it_left() {
    let ledger = given([
        holder(),
        limit(2020, "20000.00"),
        report(BAKERY, "A", "12000.00"),
        report(GARDEN, "B", "9000.00").paid(date!(2020 - 01 - 31)),
    ]);
    let moved = event_of(&ledger, correct(BAKERY, "A", 1, "12000.00").paid(date!(2020 - 02 - 01)));
    let Event::PaymentCorrected(data, outcome) = moved else { panic!("a correction") };
    let mut silent = outcome.clone();
    silent.left_year = None;
    contradicts(&ledger, &Event::PaymentCorrected(data.clone(), silent));
    let mut elsewhere = outcome;
    elsewhere.left_year = Some(elsewhere.year);
    contradicts(&ledger, &Event::PaymentCorrected(data, elsewhere));
}

#[test]
fn a5_a_split_that_changes_in_another_year_is_refused() {
    let ledger = given([
        holder(),
        limit(2020, "20000.00"),
        report(BAKERY, "A", "12000.00"),
        report(GARDEN, "B", "9000.00").paid(date!(2020 - 01 - 31)),
    ]);
    let Event::PaymentReported(data, mut outcome) = event_of(&ledger, report(BAKERY, "C", "1.00"))
    else {
        panic!("a report")
    };
    outcome.changed.push(SplitChange {
        employer_cvr: GARDEN.parse().expect("a CVR number"),
        reference: "B".parse().expect("a reference"),
        exempt: kr("8999.00"),
        taxable: kr("1.00"),
    });
    contradicts(&ledger, &Event::PaymentReported(data, outcome));
}

#[test]
fn a_decision_about_a_card_that_was_never_granted_is_refused() {
    let ledger = given([holder()]);
    let deactivated = event_of(&ledger, deactivate("d1", date!(2019 - 06 - 15)));
    let ended = given([holder(), deactivate("d1", date!(2019 - 06 - 15))]);
    let reactivated = event_of(&ended, reactivate("r1", date!(2019 - 07 - 01)));
    contradicts(&given([]), &deactivated);
    contradicts(&given([]), &reactivated);
}

#[test]
fn c11_two_decisions_under_one_reference_are_refused() {
    let ledger = given([holder(), deactivate("d1", date!(2019 - 06 - 15))]);
    contradicts(&ledger, &ledger.events[0]);
    contradicts(&ledger, &ledger.events[1]);
}

#[test]
fn a_limit_is_no_event_of_a_person() {
    let Step::Limit(entry) = limit(2019, "20000.00") else { unreachable!() };
    contradicts(&two_payments(), &Event::AnnualLimitSet(entry));
}
