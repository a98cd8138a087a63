//! What a question comes to: one fold of the person's events, then sums over the payments.

use super::{Allowance, AsOf, Day, Facts, Limits, Log, Payment, Person, Refusal, Standing};

/// What `GetStatement` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// In order of registration, with what is stated.
    pub payments: Vec<(Standing, Facts)>,
    /// The years that payments were ever in.
    pub allowances: Vec<Allowance>,
    /// The months in which payments count.
    pub months: Vec<Month>,
    /// Of the twelve months up to a day.
    pub hours: Hours,
}

/// A month of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Month {
    /// Year and month.
    pub month: (i32, i32),
    /// In øre: total, exempt, taxable.
    pub oere: (i64, i64, i64),
    /// How many payments.
    pub payments: i32,
    /// Hundredths of those that say so, and how many do not.
    pub hours: (i64, i32),
}

/// Hours worked (P8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// First and last day.
    pub period: (Day, Day),
    /// Hundredths of those that say so, and how many do not.
    pub hours: (i64, i32),
}

impl Log {
    /// What `GetAllowance` tells of `year`.
    pub fn allowance(
        &self,
        limits: &Limits,
        year: i32,
        as_of: AsOf,
        today: Day,
    ) -> Result<Allowance, Refusal> {
        let person = self.known(limits, as_of)?;
        person.allowance(limits, year, as_of, today)
    }

    /// What `GetStatement` tells of `year`, or of all.
    pub fn statement(
        &self,
        limits: &Limits,
        year: Option<i32>,
        hours_through: Day,
        as_of: AsOf,
        today: Day,
    ) -> Result<Statement, Refusal> {
        let mut person = self.known(limits, as_of)?;
        person.payments.retain(|payment| payment.is_attributed_by(as_of.through));
        let hours = hours(&person.payments, hours_through);
        let mut allowances = Vec::new();
        for of in person.years.clone() {
            let too_late = as_of.through.is_some_and(|through| through.year() < of);
            if too_late || year.is_some_and(|year| year != of) {
                continue;
            }
            let allowance = person.allowance(limits, of, as_of, today)?;
            // The place of the last change stays: this is told, not recorded.
            person.settle_year(of, allowance.limit);
            allowances.push(allowance);
        }
        person.payments.retain(|payment| year.is_none_or(|year| year == payment.year()));
        Ok(Statement {
            payments: person.payments.iter().map(|p| (p.standing(), p.facts.clone())).collect(),
            allowances,
            months: months(&person.payments),
            hours,
        })
    }

    /// The person as known then; nobody without a card.
    fn known(&self, limits: &Limits, as_of: AsOf) -> Result<Person, Refusal> {
        let person = self.fold(limits, as_of.position());
        if person.card().is_none() {
            return Err(Refusal::new("NO_CARD"));
        }
        Ok(person)
    }
}

impl Person {
    fn allowance(
        &self,
        limits: &Limits,
        year: i32,
        as_of: AsOf,
        today: Day,
    ) -> Result<Allowance, Refusal> {
        let limit = limits.on(year, as_of.limit_day(today), as_of.position());
        let limit = limit.ok_or_else(|| Refusal::new("LIMIT_NOT_SET").with("year", year))?;
        let counts =
            |payment: &&Payment| payment.counts_in(year) && payment.is_attributed_by(as_of.through);
        let (mut total, mut count) = (0, 0);
        for payment in self.payments.iter().filter(counts) {
            total += payment.facts.oere;
            count += 1;
        }
        Ok(Allowance::new(year, limit, total, count))
    }
}

fn count(hours: &mut (i64, i32), payment: &Payment) {
    match payment.facts.hours {
        Some(hundredths) => hours.0 += i64::from(hundredths),
        None => hours.1 += 1,
    }
}

fn months(payments: &[Payment]) -> Vec<Month> {
    let mut months: Vec<Month> = Vec::new();
    for payment in payments.iter().filter(|payment| !payment.cancelled) {
        let day = payment.facts.attributed();
        let month = (day.year(), i32::from(day.month()));
        if !months.iter().any(|known| known.month == month) {
            months.push(Month { month, ..Month::default() });
        }
        for month in months.iter_mut().filter(|known| known.month == month) {
            month.oere.0 += payment.facts.oere;
            month.oere.1 += payment.exempt;
            month.oere.2 += payment.facts.oere - payment.exempt;
            month.payments += 1;
            count(&mut month.hours, payment);
        }
    }
    months.sort_by_key(|month| month.month);
    months
}

/// P8: work that ended in the twelve months up to a day, that is after the same day of the year
/// before; 28 February stands in for a 29 February that was not.
fn hours(payments: &[Payment], through: Day) -> Hours {
    let (year, month) = (through.year() - 1, through.month());
    let leap_day = (month, through.0.day()) == (2, 29);
    let before = Day::new(year, month, if leap_day { 28 } else { through.0.day() });
    let first = before.plus(1);
    let mut hours = (0, 0);
    for payment in payments.iter().filter(|payment| !payment.cancelled) {
        let ended = payment.facts.work_days().1;
        if first <= ended && ended <= through {
            count(&mut hours, payment);
        }
    }
    Hours { period: (first, through), hours }
}
