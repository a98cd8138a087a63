//! The rows of the projection as they follow from a person's account, and where those that are
//! stored differ from them. What must stay out: SQL.

use std::collections::BTreeMap;

use frikort_domain::{Account, CardStatus, Event, MunicipalityCode, PersonId, YearTotals};
use rust_decimal::Decimal;
use time::Date;
use uuid::Uuid;

/// Rows by person.
pub(crate) type Persons = BTreeMap<Uuid, Rows>;

/// One person's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// By year.
    pub(crate) totals: BTreeMap<i32, Total>,
    /// By employer and reference.
    pub(crate) payments: BTreeMap<(i32, String), Payment>,
    pub(crate) card: Option<Card>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) total: Decimal,
    pub(crate) applied_limit: Decimal,
    pub(crate) payments: i32,
    pub(crate) position: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payment {
    pub(crate) registered: i64,
    pub(crate) drawn: i64,
    pub(crate) position: i64,
    pub(crate) year: i32,
    pub(crate) revision: i32,
    pub(crate) attribution_date: Date,
    pub(crate) payment_date: Date,
    pub(crate) work: Option<(Date, Date)>,
    /// Only one end of the work is there.
    pub(crate) half_work: bool,
    pub(crate) cancelled: bool,
    pub(crate) amount: Decimal,
    pub(crate) exempt: Decimal,
    pub(crate) hours: Option<Decimal>,
    /// Wage, holiday pay, pension.
    pub(crate) components: [Option<Decimal>; 3],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) frikort_tags: Vec<Uuid>,
    pub(crate) municipality: i16,
    pub(crate) active: bool,
    pub(crate) controlled_in: i32,
    pub(crate) position: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) amount: Decimal,
    pub(crate) citation: String,
    pub(crate) position: i64,
}

/// By which limit each year was last settled, and where: what a row has, and an account has not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled(BTreeMap<i32, (Decimal, i64)>);

impl Settled {
    /// Takes in what an event at `position` states of years.
    pub(crate) fn note(&mut self, event: &Event, position: i64) {
        let mut note = |year: &YearTotals| {
            self.0.insert(year.year, (year.limit.decimal(), position));
        };
        match event {
            Event::PaymentReported(_, outcome)
            | Event::PaymentCorrected(_, outcome)
            | Event::PaymentCancelled(_, outcome) => {
                note(&outcome.year);
                outcome.left_year.iter().for_each(note);
            }
            Event::AllowanceRecalculated(_, outcome) => note(&outcome.year),
            _ => {}
        }
    }
}

/// A municipality's code as it stands in a column.
pub(crate) fn municipality(code: MunicipalityCode) -> i16 {
    i16::try_from(code.number()).unwrap_or(i16::MAX)
}

impl Rows {
    /// What follows from an account.
    pub(crate) fn of(account: &Account, settled: &Settled) -> Self {
        let totals = account.years().map(|(year, total, payments)| {
            let (applied_limit, position) = settled.0.get(&year).copied().unwrap_or_default();
            let (total, payments) = (total.decimal(), signed(payments));
            (year, Total { total, applied_limit, payments, position })
        });
        let payments = account.payments().map(|(key, state)| {
            let facts = &state.facts;
            let key = (signed(key.employer_cvr.number()), key.reference.as_str().to_owned());
            let parts =
                facts.components.map(|parts| [parts.wage, parts.holiday_pay, parts.pension]);
            let payment = Payment {
                registered: state.registered(),
                drawn: state.order,
                position: state.position,
                year: state.year,
                revision: signed(state.revision),
                attribution_date: facts.attribution_date(),
                payment_date: facts.payment_date,
                work: facts.work.map(|work| (work.first, work.last)),
                half_work: false,
                cancelled: state.cancelled,
                amount: facts.amount.decimal(),
                exempt: state.exempt.decimal(),
                hours: facts.hours.map(|hours| Decimal::new(hours.hundredths().into(), 2)),
                components: parts.map_or([None; 3], |parts| parts.map(|part| Some(part.decimal()))),
            };
            (key, payment)
        });
        let card = account.card().map(|card| Card {
            frikort_tags: account.frikort_tags().map(|tag| Uuid::from_bytes(tag.0)).collect(),
            municipality: municipality(card.municipality),
            active: card.status == CardStatus::Active,
            controlled_in: card.controlled_in,
            position: last_about_card(account),
        });
        Self { totals: totals.collect(), payments: payments.collect(), card }
    }

    /// Where the `stored` rows are not these, a sentence each.
    pub(crate) fn differences(&self, stored: &Self) -> Vec<String> {
        let mut all = Vec::new();
        for (year, ours) in &self.totals {
            let what = match stored.totals.get(year) {
                None => Some(format!("its total of {year} is missing")),
                Some(theirs) => ours.difference(theirs, *year),
            };
            all.extend(what);
        }
        for year in stored.totals.keys().filter(|year| !self.totals.contains_key(year)) {
            all.push(format!("a total of {year} stands there, and nothing was paid in that year"));
        }
        for (key, ours) in &self.payments {
            let name = format!("the payment registered at position {}", ours.registered);
            match stored.payments.get(key) {
                None => all.push(format!("{name} is missing")),
                Some(theirs) => {
                    all.extend(ours.difference(theirs).map(|what| format!("of {name} {what}")));
                }
            }
        }
        for key in stored.payments.keys().filter(|key| !self.payments.contains_key(key)) {
            let employer = key.0;
            all.push(format!(
                "a payment of employer {employer:08} stands there, and none is on record"
            ));
        }
        match (&self.card, &stored.card) {
            (None, None) => {}
            (Some(_), None) => all.push("its card is missing".to_owned()),
            (None, Some(_)) => {
                all.push("a card stands there, and none was granted".to_owned());
            }
            (Some(ours), Some(theirs)) => all.extend(ours.difference(theirs)),
        }
        all
    }
}

impl Total {
    fn difference(&self, stored: &Self, year: i32) -> Option<String> {
        if self.total != stored.total {
            let (follows, stands) = (self.total, stored.total);
            return Some(format!("its total of {year} is {stands}, and {follows} follows"));
        }
        let other = first_other(&[
            ("number of payments", self.payments == stored.payments),
            ("applied limit", self.applied_limit == stored.applied_limit),
            ("position", self.position == stored.position),
        ])?;
        Some(format!("its total of {year} has another {other} than follows"))
    }
}

impl Payment {
    fn difference(&self, stored: &Self) -> Option<String> {
        if self.exempt != stored.exempt {
            let (follows, stands) = (self.exempt, stored.exempt);
            return Some(format!("the exempt part is {stands}, and {follows} follows"));
        }
        if self.amount != stored.amount {
            let (follows, stands) = (self.amount, stored.amount);
            return Some(format!("the amount is {stands}, and {follows} follows"));
        }
        let other = first_other(&[
            ("cancellation", self.cancelled == stored.cancelled),
            ("year", self.year == stored.year),
            ("revision", self.revision == stored.revision),
            ("attribution date", self.attribution_date == stored.attribution_date),
            ("payment date", self.payment_date == stored.payment_date),
            ("work period", self.work == stored.work && !stored.half_work),
            ("number of hours", self.hours == stored.hours),
            ("set of components", self.components == stored.components),
            ("place in the order of registration", self.registered == stored.registered),
            ("place in the order of drawing", self.drawn == stored.drawn),
            ("position", self.position == stored.position),
        ])?;
        Some(format!("another {other} stands there than follows"))
    }
}

impl Card {
    fn difference(&self, stored: &Self) -> Option<String> {
        let other = first_other(&[
            ("status", self.active == stored.active),
            ("municipality", self.municipality == stored.municipality),
            ("Frikort-ID", self.frikort_tags == stored.frikort_tags),
            ("year of control", self.controlled_in == stored.controlled_in),
            ("position", self.position == stored.position),
        ])?;
        Some(format!("its card has another {other} than follows"))
    }
}

/// Position of the last decision that the row of a card shows.
fn last_about_card(account: &Account) -> i64 {
    let shows = |event: &Event| {
        !matches!(event, Event::ApplicationRejected(_) | Event::CprNumberChanged(_))
    };
    let shown = account.decisions().filter(|decision| shows(&decision.event));
    shown.map(|decision| decision.position).max().unwrap_or_default()
}

/// What an event says of an application, as a row has it: municipality, day of the decision, days
/// that it took.
pub(crate) fn application(event: &Event) -> Option<(i16, Date, i32)> {
    let (code, applied_on, decided_on) = match event {
        Event::CardGranted(grant, _) => (grant.municipality, grant.applied_on?, grant.decided_on),
        Event::ApplicationRejected(data) => (data.municipality, data.applied_on, data.decided_on),
        _ => return None,
    };
    let days = i32::try_from((decided_on - applied_on).whole_days()).unwrap_or(i32::MAX);
    Some((municipality(code), decided_on, days))
}

/// One sentence about a person's differences.
pub(crate) fn sentence(person: PersonId, differences: &[String]) -> Option<String> {
    let (first, more) = differences.split_first()?;
    Some(match more.len() {
        0 => format!("person {person}: {first}"),
        n => format!("person {person}: {first}; and {n} more"),
    })
}

fn first_other(fields: &[(&'static str, bool)]) -> Option<&'static str> {
    fields.iter().find(|(_, same)| !same).map(|(name, _)| *name)
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
