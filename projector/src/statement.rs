//! A person's payments, as the projection has them and as a statement tells them.

use frikort_domain::{Amount, Components, Facts, Hours, Period, PersonId};
use frikort_proto::v1;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use time::Date;
use uuid::Uuid;

use crate::tables::amount;

/// One payment.
#[derive(Debug)]
pub(crate) struct StatedPayment {
    pub(crate) employer_cvr: i32,
    pub(crate) reference: String,
    pub(crate) year: i32,
    pub(crate) attribution_date: Date,
    pub(crate) revision: i32,
    pub(crate) cancelled: bool,
    /// The place in the order of drawing.
    pub(crate) drawn: i64,
    pub(crate) exempt: Amount,
    pub(crate) position: i64,
    pub(crate) facts: Facts,
    /// What happened to it, oldest first, where that is asked for.
    pub(crate) history: Vec<v1::PaymentChange>,
}

/// A row of `projection.payment`.
pub(crate) struct PaymentRow {
    pub(crate) person_id: Uuid,
    pub(crate) employer_cvr: i32,
    pub(crate) reference: String,
    pub(crate) year: i32,
    pub(crate) attribution_date: Date,
    pub(crate) revision: i32,
    pub(crate) cancelled: bool,
    pub(crate) drawn: i64,
    pub(crate) position: i64,
    pub(crate) amount: Decimal,
    pub(crate) exempt: Decimal,
    pub(crate) payment_date: Date,
    pub(crate) work_first: Option<Date>,
    pub(crate) work_last: Option<Date>,
    pub(crate) hours: Option<Decimal>,
    pub(crate) wage: Option<Decimal>,
    pub(crate) holiday_pay: Option<Decimal>,
    pub(crate) pension: Option<Decimal>,
}

/// One person's payments, in the order of registration.
pub(crate) async fn payments(
    connection: &mut PgConnection,
    partition: i32,
    person: PersonId,
) -> Result<Vec<StatedPayment>, sqlx::Error> {
    let rows = sqlx::query_as!(
        PaymentRow,
        "SELECT person_id, employer_cvr, reference, year, attribution_date, revision, cancelled,
                drawn, position, amount, exempt, payment_date, work_first, work_last, hours, wage,
                holiday_pay, pension
         FROM projection.payment
         WHERE partition = $1
           AND generation = (SELECT generation FROM projection.checkpoint
                             WHERE partition = $1 AND state = 'serving')
           AND person_id = $2 ORDER BY registered",
        partition,
        person.0
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(PaymentRow::stated).collect()
}

impl PaymentRow {
    /// The payment; an amount that is none was not written by us.
    pub(crate) fn stated(self) -> Result<StatedPayment, sqlx::Error> {
        let work = self.work_first.zip(self.work_last);
        let components = match (self.wage, self.holiday_pay, self.pension) {
            (Some(wage), Some(holiday_pay), Some(pension)) => Some(Components {
                wage: amount(wage)?,
                holiday_pay: amount(holiday_pay)?,
                pension: amount(pension)?,
            }),
            _ => None,
        };
        let facts = Facts {
            amount: amount(self.amount)?,
            payment_date: self.payment_date,
            work: work.and_then(|(first, last)| Period::new(first, last)),
            hours: self.hours.and_then(hours),
            components,
        };
        Ok(StatedPayment {
            employer_cvr: self.employer_cvr,
            reference: self.reference,
            year: self.year,
            attribution_date: self.attribution_date,
            revision: self.revision,
            cancelled: self.cancelled,
            drawn: self.drawn,
            exempt: amount(self.exempt)?,
            position: self.position,
            facts,
            history: Vec::new(),
        })
    }
}

fn hours(column: Decimal) -> Option<Hours> {
    let hundredths = column.checked_mul(Decimal::ONE_HUNDRED)?.trunc();
    Hours::from_hundredths(i32::try_from(hundredths.mantissa()).ok()?)
}

impl StatedPayment {
    /// As an answer tells it: a cancelled one with zeros.
    pub(crate) fn render(self, person: PersonId) -> v1::Payment {
        let amount = if self.cancelled { Amount::ZERO } else { self.facts.amount };
        v1::Payment {
            person_id: person.to_string(),
            employer_cvr: format!("{:08}", self.employer_cvr),
            reference: self.reference,
            revision: self.revision,
            year: self.year,
            attribution_date: Some(self.attribution_date.into()),
            amount_oere: amount.oere(),
            exempt_oere: self.exempt.oere(),
            taxable_oere: amount.saturating_sub(self.exempt).oere(),
            cancelled: self.cancelled,
            position: self.position,
            facts: Some(render_facts(&self.facts)),
            history: self.history,
        }
    }
}

/// Facts on the wire.
pub(crate) fn render_facts(facts: &Facts) -> v1::PaymentFacts {
    v1::PaymentFacts {
        amount_oere: facts.amount.oere(),
        payment_date: Some(facts.payment_date.into()),
        work_period: facts.work.map(|work| v1::DayPeriod {
            first_day: Some(work.first.into()),
            last_day: Some(work.last.into()),
        }),
        hours_hundredths: facts.hours.map(Hours::hundredths),
        components: facts.components.map(|parts| v1::PaymentComponents {
            wage_oere: parts.wage.oere(),
            holiday_pay_oere: parts.holiday_pay.oere(),
            pension_oere: parts.pension.oere(),
        }),
    }
}
