//! One person as the ledger knows one, and the decision about each call: P9 and C6-C11, refusal by
//! refusal in the order of the rules.

use std::collections::BTreeSet;

use super::{
    Allowance, Answer, Card, CardAnswer, Command, Decision, Facts, Kind, Municipality, Payment,
    PaymentAnswer, PaymentKey, Refusal, card::is_reversed, payment::settle,
};

/// Payments that a person may have recorded in one calendar year (P10); the ledgers are started with
/// the same. Few, so that it is met.
pub const PAYMENTS_PER_YEAR: usize = 12;

/// What came of a person so far.
#[derive(Clone, Debug, Default)]
pub struct Person {
    decisions: Vec<(Decision, Answer)>,
    /// In order of registration.
    pub(super) payments: Vec<Payment>,
    /// Every year that a payment was ever in.
    pub(super) years: BTreeSet<i32>,
}

/// A report, without what only decides whether it is taken.
struct Report<'a> {
    key: &'a PaymentKey,
    facts: &'a Facts,
    unit: Option<&'a String>,
    strict: bool,
}

/// A decision as it stands on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnRecord {
    /// The decision.
    pub decision: Decision,
    /// A deactivation that was reversed since (C5).
    pub reversed: bool,
    /// Where it was recorded.
    pub position: i64,
}

/// The limit of a year when a call is decided.
type LimitOf<'a> = &'a dyn Fn(i32) -> Option<i64>;

fn limit_not_set(year: i32) -> Refusal {
    Refusal::new("LIMIT_NOT_SET").with("year", year)
}

impl Person {
    /// Decides a call and takes in what it records, at `position`.
    pub fn decide(&mut self, command: &Command, limit: LimitOf<'_>, position: i64) -> Answer {
        let before = self.splits();
        let decided = match command {
            Command::Decide(decision) => self.visitation(decision, position),
            Command::Report { ordinary: false, .. } => Err(Refusal::new("SUPPORTED_WORK")),
            Command::Report { key, facts, unit, strict, .. } => {
                let report = Report { key, facts, unit: unit.as_ref(), strict: *strict };
                self.report(&report, limit, position)
            }
            Command::Correct { key, facts, revision } => {
                self.correct(key, facts, *revision, limit, position)
            }
            Command::Cancel { key, reason, revision } => {
                self.cancel(key, *reason, *revision, limit, position)
            }
        };
        self.note_moved(&before, position);
        decided.unwrap_or_else(Answer::Refused)
    }

    /// The card, once there was one.
    pub fn card(&self) -> Option<Card> {
        Card::after(&self.decisions().collect::<Vec<_>>())
    }

    /// The Frikort-IDs that were given (N4).
    pub fn frikort_ids(&self) -> Vec<&String> {
        let mut ids = Vec::new();
        for (decision, _) in &self.decisions {
            if let Kind::Grant { frikort_id, .. } | Kind::Reissue { frikort_id } = &decision.kind {
                ids.push(frikort_id);
            }
        }
        ids
    }

    /// Which of the person's CPR numbers lead here (N5): the first, and each that was recorded.
    pub fn numbers(&self) -> Vec<u32> {
        let mut numbers = vec![0];
        for (decision, _) in &self.decisions {
            if let Kind::Renumber { number } = decision.kind {
                numbers.push(number);
            }
        }
        numbers
    }

    /// The payments, in order of registration.
    pub fn payments(&self) -> &[Payment] {
        &self.payments
    }

    /// The decisions on record.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().map(|(decision, _)| decision)
    }

    /// The card as it is told when somebody asks, and the decisions that made it.
    pub fn tell_card(&self) -> Result<(CardAnswer, Vec<OnRecord>), Refusal> {
        let card = self.card().ok_or_else(|| Refusal::new("NO_CARD"))?;
        let all: Vec<&Decision> = self.decisions().collect();
        let mut on_record = Vec::new();
        for (decision, answer) in &self.decisions {
            let position = match answer {
                Answer::Card(CardAnswer { position, .. }) | Answer::Noted { position, .. } => {
                    *position
                }
                Answer::Payment(_) | Answer::Refused(_) => 0,
            };
            let (decision, reversed) = (decision.clone(), is_reversed(decision, &all));
            on_record.push(OnRecord { decision, reversed, position });
        }
        Ok((told(&card, 0), on_record))
    }

    /// Sum and number of the payments of a year that count.
    pub fn total(&self, year: i32) -> (i64, i32) {
        let mut total = (0, 0);
        for payment in self.payments.iter().filter(|payment| payment.counts_in(year)) {
            total = (total.0 + payment.facts.oere, total.1 + 1);
        }
        total
    }

    /// Splits a year's payments anew under `limit`, as an event at `position` does that records
    /// no more than this.
    pub fn recalculate(&mut self, year: i32, limit: i64, position: i64) {
        let before = self.splits();
        self.settle_year(year, limit);
        self.note_moved(&before, position);
    }

    /// Splits a year's payments anew under `limit`.
    pub(super) fn settle_year(&mut self, year: i32, limit: i64) {
        let of_year = self.payments.iter_mut().filter(|payment| payment.counts_in(year));
        settle(&mut of_year.collect::<Vec<_>>(), limit);
    }

    /// The exempt part of every payment, in order of registration.
    pub fn splits(&self) -> Vec<(PaymentKey, i64)> {
        self.payments.iter().map(|payment| (payment.key.clone(), payment.exempt)).collect()
    }

    /// A payment whose split is another one after an event was changed by it.
    fn note_moved(&mut self, before: &[(PaymentKey, i64)], position: i64) {
        for (key, exempt) in before {
            let payment = self.payment(key);
            if payment.exempt != *exempt {
                payment.position = position;
            }
        }
    }

    fn visitation(&mut self, new: &Decision, position: i64) -> Result<Answer, Refusal> {
        let card = self.card();
        if !new.needs_no_card() && !self.was_responsible(new.municipality) {
            return Err(Refusal::new("NO_CARD"));
        }
        if let Some(answer) = self.replay_decision(new) {
            return answer;
        }
        if let Some(card) = &card {
            if !new.needs_no_card() && card.municipality != new.municipality {
                return Err(Refusal::new("NOT_RESPONSIBLE"));
            }
            self.check_decision(card, new)?;
        }
        let answer = match &new.kind {
            Kind::Reject { .. } => Answer::Noted { position, replayed: false },
            kind => {
                let decided: Vec<&Decision> = self.decisions().chain([new]).collect();
                let card = Card::after(&decided).expect("granted before or now");
                let payments_after = self.payments_after(kind, &card);
                let still_active = card.active && matches!(kind, Kind::Deactivate { .. });
                Answer::Card(CardAnswer { payments_after, still_active, ..told(&card, position) })
            }
        };
        self.decisions.push((new.clone(), answer.clone()));
        Ok(answer)
    }

    /// C3, C12: accepted payments whose work goes on after the last active day, where the card does not.
    fn payments_after(&self, kind: &Kind, card: &Card) -> Vec<super::Standing> {
        let Kind::Deactivate { last_day, .. } = kind else { return Vec::new() };
        let after = |payment: &&Payment| {
            let work = payment.facts.work_days();
            !payment.cancelled && work.1 > *last_day && card.check_covers(work).is_err()
        };
        self.payments.iter().filter(after).map(Payment::standing).collect()
    }

    /// W3: whoever never was has no part in the card.
    fn was_responsible(&self, municipality: Municipality) -> bool {
        self.decisions().any(|decision| match decision.kind {
            Kind::Grant { .. } => decision.municipality == municipality,
            Kind::Transfer { to } => to == municipality,
            _ => false,
        })
    }

    fn check_decision(&self, card: &Card, new: &Decision) -> Result<(), Refusal> {
        let refused_if = |reason, met: Option<super::Day>| match met {
            // W3: since when is for the one whose card it is.
            Some(_) if card.municipality != new.municipality => Err(Refusal::new(reason)),
            Some(first) => Err(Refusal::new(reason).with("effective_from", first)),
            None => Ok(()),
        };
        match &new.kind {
            // C6: an active card leaves no room for another one.
            Kind::Grant { from, .. } if card.active => {
                refused_if("CARD_ALREADY_ACTIVE", card.goes_on_from(*from))
            }
            Kind::Grant { from, .. } => refused_if("CARD_ALREADY_ACTIVE", card.meets(*from)),
            Kind::Reject { .. } => refused_if("CARD_ALREADY_ACTIVE", card.open_since()),
            Kind::Reactivate { from } => refused_if("CARD_NOT_DEACTIVATED", card.meets(*from)),
            Kind::Deactivate { .. } | Kind::Control { .. } | Kind::Reissue { .. }
                if !card.active =>
            {
                Err(Refusal::new("NO_ACTIVE_CARD"))
            }
            Kind::Reverse { municipality, reference } => {
                let all: Vec<&Decision> = self.decisions().collect();
                let deactivation = all.iter().find(|decision| {
                    matches!(decision.kind, Kind::Deactivate { .. })
                        && decision.is(*municipality, reference)
                });
                match deactivation {
                    None => Err(Refusal::new("DECISION_NOT_FOUND")),
                    Some(deactivation) if is_reversed(deactivation, &all) => {
                        Err(Refusal::new("DECISION_ALREADY_REVERSED"))
                    }
                    Some(_) => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// C11. Payments after the last active day are told as they stand now.
    fn replay_decision(&self, new: &Decision) -> Option<Result<Answer, Refusal>> {
        let same = |decision: &Decision| decision.is(new.municipality, &new.reference);
        let (before, answer) = self.decisions.iter().find(|(decision, _)| same(decision))?;
        let fields = differing_decisions(before, new);
        if !fields.is_empty() {
            return Some(Err(Refusal::new("REFERENCE_REUSED").of_fields(&fields)));
        }
        let mut answer = replayed(answer);
        if let Answer::Card(answer) = &mut answer {
            for standing in &mut answer.payments_after {
                if let Some(payment) = self.payments.iter().find(|p| p.key == standing.key) {
                    *standing = payment.standing();
                }
            }
        }
        Some(Ok(answer))
    }

    fn report(
        &mut self,
        report: &Report<'_>,
        limit: LimitOf<'_>,
        position: i64,
    ) -> Result<Answer, Refusal> {
        let card = self.card().ok_or_else(|| Refusal::new("NO_CARD"))?;
        if let Some(before) = self.payments.iter().find(|payment| payment.key == *report.key) {
            let mut fields = differing_facts(&before.reported, report.facts);
            if before.unit.as_ref() != report.unit {
                fields.push("production_unit");
            }
            if fields.is_empty() {
                let mut answer = replayed(&before.first_answer);
                if let Answer::Payment(answer) = &mut answer {
                    answer.changed_since = Some(before.revision).filter(|now| *now > 1);
                }
                return Ok(answer);
            }
            return Err(Refusal::new("REFERENCE_REUSED").of_fields(&fields));
        }
        card.check_covers(report.facts.work_days())?;
        let year = report.facts.attributed().year();
        let limit = limit(year).ok_or_else(|| limit_not_set(year))?;
        self.check_room(year)?;

        let mut after = self.clone();
        after.settle_year(year, limit);
        let possible_duplicate = self.payments.iter().any(|other| {
            other.key.employer == report.key.employer
                && !other.cancelled
                && other.facts.oere == report.facts.oere
                && other.facts.attributed() == report.facts.attributed()
                && other.facts.work_days() == report.facts.work_days()
        });
        after.years.insert(year);
        after.payments.push(Payment {
            key: report.key.clone(),
            facts: report.facts.clone(),
            unit: report.unit.cloned(),
            reported: report.facts.clone(),
            drawn: position,
            exempt: 0,
            revision: 1,
            cancelled: false,
            position,
            first_answer: Answer::Refused(Refusal::default()),
            last_change: None,
        });
        after.settle_year(year, limit);
        let answer = after.tell_payment(report.key, limit, position, possible_duplicate);
        let Answer::Payment(told) = &answer else { unreachable!("it was told just now") };
        if report.strict && told.payment.taxable > 0 {
            return Err(Refusal::new("LIMIT_EXCEEDED")
                .with("exempt_oere", told.payment.exempt)
                .with("taxable_oere", told.payment.taxable));
        }
        after.payment(report.key).first_answer = answer.clone();
        *self = after;
        Ok(answer)
    }

    fn correct(
        &mut self,
        key: &PaymentKey,
        facts: &Facts,
        revision: i32,
        limit: LimitOf<'_>,
        position: i64,
    ) -> Result<Answer, Refusal> {
        let before = self.known(key)?.clone();
        if let Some((None, expected, answer)) = &before.last_change
            && *expected == revision
            && before.facts == *facts
        {
            return Ok(replayed(answer));
        }
        check_revision(&before, revision)?;
        // P5: what was accepted stays so, unless its days of work change.
        if facts.work_days() != before.facts.work_days() {
            let card = self.card().ok_or_else(|| Refusal::new("NO_CARD"))?;
            card.check_covers(facts.work_days())?;
        }
        let (old, new) = (before.year(), facts.attributed().year());
        let new_limit = limit(new).ok_or_else(|| limit_not_set(new))?;
        let old_limit = limit(old).ok_or_else(|| limit_not_set(old))?;
        if old != new {
            self.check_room(new)?;
        }

        self.settle_year(old, old_limit);
        self.settle_year(new, new_limit);
        let payment = self.payment(key);
        payment.facts = facts.clone();
        payment.revision += 1;
        if old == new {
            // A4: what is given up is the taxable part first.
            payment.exempt = payment.exempt.min(facts.oere);
        } else {
            payment.exempt = 0;
            payment.drawn = position;
        }
        self.settle_year(old, old_limit);
        self.settle_year(new, new_limit);
        self.years.insert(new);
        self.payment(key).position = position;
        let answer = self.tell_payment(key, new_limit, position, false);
        self.payment(key).last_change = Some((None, revision, answer.clone()));
        Ok(answer)
    }

    fn cancel(
        &mut self,
        key: &PaymentKey,
        reason: i32,
        revision: i32,
        limit: LimitOf<'_>,
        position: i64,
    ) -> Result<Answer, Refusal> {
        let before = self.known(key)?.clone();
        if let Some((Some(for_reason), expected, answer)) = &before.last_change
            && (*for_reason, *expected) == (reason, revision)
        {
            return Ok(replayed(answer));
        }
        check_revision(&before, revision)?;
        let year = before.year();
        let limit = limit(year).ok_or_else(|| limit_not_set(year))?;

        self.settle_year(year, limit);
        let payment = self.payment(key);
        payment.cancelled = true;
        payment.exempt = 0;
        payment.revision += 1;
        payment.position = position;
        self.settle_year(year, limit);
        let answer = self.tell_payment(key, limit, position, false);
        self.payment(key).last_change = Some((Some(reason), revision, answer.clone()));
        Ok(answer)
    }

    /// P10: cancelled payments count too.
    fn check_room(&self, year: i32) -> Result<(), Refusal> {
        let recorded = self.payments.iter().filter(|payment| payment.year() == year).count();
        if recorded < PAYMENTS_PER_YEAR {
            return Ok(());
        }
        let refusal = Refusal::new("TOO_MANY_PAYMENTS").with("year", year);
        Err(refusal.with("payments_per_year", PAYMENTS_PER_YEAR))
    }

    fn known(&self, key: &PaymentKey) -> Result<&Payment, Refusal> {
        let found = self.payments.iter().find(|payment| payment.key == *key);
        found.ok_or_else(|| Refusal::new("PAYMENT_NOT_FOUND"))
    }

    fn payment(&mut self, key: &PaymentKey) -> &mut Payment {
        self.payments.iter_mut().find(|payment| payment.key == *key).expect("it is there")
    }

    fn tell_payment(&mut self, key: &PaymentKey, limit: i64, position: i64, twin: bool) -> Answer {
        let payment = self.payment(key);
        let (standing, year) = (payment.standing(), payment.year());
        let (total, payments) = self.total(year);
        Answer::Payment(PaymentAnswer {
            payment: super::Standing { position, ..standing },
            allowance: Allowance::new(year, limit, total, payments),
            replayed: false,
            possible_duplicate: twin,
            changed_since: None,
        })
    }
}

fn told(card: &Card, position: i64) -> CardAnswer {
    CardAnswer {
        active: card.active,
        still_active: false,
        municipality: card.municipality,
        periods: card.periods.clone(),
        control_due: card.control_due(),
        payments_after: Vec::new(),
        position,
        replayed: false,
    }
}

fn check_revision(payment: &Payment, revision: i32) -> Result<(), Refusal> {
    if payment.cancelled {
        return Err(Refusal::new("PAYMENT_CANCELLED"));
    }
    if payment.revision != revision {
        return Err(Refusal::new("REVISION_MISMATCH").with("revision", payment.revision));
    }
    Ok(())
}

fn replayed(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    match &mut answer {
        Answer::Payment(PaymentAnswer { replayed, .. })
        | Answer::Card(CardAnswer { replayed, .. })
        | Answer::Noted { replayed, .. } => *replayed = true,
        Answer::Refused(_) => {}
    }
    answer
}

/// The names of the fields that differ.
fn differing_facts(a: &Facts, b: &Facts) -> Vec<&'static str> {
    let fields = [
        (a.oere != b.oere, "facts.amount_oere"),
        (a.paid != b.paid, "facts.payment_date"),
        (a.work != b.work, "facts.work_period"),
        (a.hours != b.hours, "facts.hours_hundredths"),
        (a.parts != b.parts, "facts.components"),
    ];
    fields.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name).collect()
}

/// The names of the fields that differ; another kind of decision differs in its reference.
fn differing_decisions(a: &Decision, b: &Decision) -> Vec<&'static str> {
    let day = if matches!(a.kind, Kind::Control { .. }) { "control_date" } else { "decision_date" };
    let mut fields = vec![(a.decided != b.decided, day)];
    match (&a.kind, &b.kind) {
        (Kind::Grant { frikort_id, from, applied, criteria }, Kind::Grant { .. }) => {
            let Kind::Grant { frikort_id: id, from: day, applied: asked, criteria: codes } =
                &b.kind
            else {
                unreachable!("matched")
            };
            fields.extend([
                (frikort_id != id, "frikort_id"),
                (from != day, "effective_date"),
                (applied != asked, "application_date"),
                (criteria != codes, "criteria"),
            ]);
        }
        (Kind::Reject { applied, criteria }, Kind::Reject { applied: asked, criteria: codes }) => {
            fields
                .extend([(applied != asked, "application_date"), (criteria != codes, "criteria")]);
        }
        (
            Kind::Deactivate { last_day, criteria },
            Kind::Deactivate { last_day: day, criteria: codes },
        ) => fields.extend([(last_day != day, "effective_date"), (criteria != codes, "criteria")]),
        (
            Kind::Reverse { municipality, reference },
            Kind::Reverse { municipality: other, reference: another },
        ) => fields.extend([
            (municipality != other, "reversed_municipality_code"),
            (reference != another, "reversed_reference"),
        ]),
        (Kind::Reactivate { from }, Kind::Reactivate { from: day }) => {
            fields.push((from != day, "effective_date"));
        }
        (Kind::Reissue { frikort_id }, Kind::Reissue { frikort_id: other }) => {
            fields.push((frikort_id != other, "frikort_id"));
        }
        (Kind::Transfer { to }, Kind::Transfer { to: other }) => {
            fields.push((to != other, "to_municipality_code"));
        }
        (
            Kind::Control { dispensation, criteria },
            Kind::Control { dispensation: other, criteria: codes },
        ) => fields
            .extend([(dispensation != other, "dispensation"), (criteria != codes, "criteria")]),
        (Kind::Renumber { number }, Kind::Renumber { number: other }) => {
            fields.push((number != other, "new_cpr_number"));
        }
        _ => return vec!["reference"],
    }
    fields.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name).collect()
}
