//! The payments of a run: each is made from the seed and its number alone, so that nothing has to
//! be kept of it until it is acknowledged.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, ensure};
use frikort_domain::{
    Amount, Command, Cvr, Facts, Hours, PaymentKey, Reference, ReportPayment as Report,
};
use frikort_proto::v1::{
    BatchGetAllowancesRequest, GetAllowanceRequest, GetStatementRequest, PaymentFacts,
    ReportPaymentRequest, ReportPaymentResponse,
};
use time::{Date, Duration};

use super::{
    journal::Journal,
    people::{self, Person},
};

/// Employers that report.
const EMPLOYERS: usize = 500;

/// What all payments of one run of the tool share.
#[derive(Debug)]
pub(super) struct Book {
    /// Begins every reference, and is no other run's.
    pub(super) prefix: String,
    pub(super) today: Date,
    pub(super) journal: Journal,
    seed: u64,
    next: AtomicU64,
    employers: Vec<String>,
}

impl Book {
    pub(super) fn new(prefix: String, today: Date, seed: u64, journal: Journal) -> Self {
        let employers = (10_000_000..)
            .map(|number: u32| number.to_string())
            .filter(|text| text.parse::<Cvr>().is_ok())
            .take(EMPLOYERS)
            .collect();
        Self { prefix, today, journal, seed, next: AtomicU64::new(0), employers }
    }
}

/// One payment to report.
#[derive(Clone, Debug)]
pub(super) struct Payment<'a> {
    /// Which of the payroll's persons.
    pub(super) person: usize,
    pub(super) employer_cvr: &'a str,
    pub(super) reference: String,
    pub(super) oere: i64,
    hours_hundredths: i32,
    day: Date,
}

/// Persons who are paid, and their payments, spread evenly over them.
#[derive(Debug)]
pub(super) struct Payroll {
    book: Arc<Book>,
    first_person: usize,
    pub(super) persons: Vec<Person>,
}

impl Payroll {
    pub(super) fn new(book: Arc<Book>, first_person: usize, persons: Vec<Person>) -> Self {
        Self { book, first_person, persons }
    }

    /// Numbers of payments that nobody has had yet.
    pub(super) fn take(&self, count: u64) -> Range<u64> {
        let first = self.book.next.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    /// The payment of that number: 5 to 50 kr. on a day of this year so far.
    pub(super) fn payment(&self, number: u64) -> Payment<'_> {
        let mut dice = Dice(self.book.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let day = i64::try_from(dice.below(usize::from(self.book.today.ordinal())));
        Payment {
            person: dice.below(self.persons.len()),
            employer_cvr: &self.book.employers[dice.below(self.book.employers.len())],
            reference: format!("{}-{number}", self.book.prefix),
            oere: 500 + i64::try_from(dice.below(4_500)).unwrap_or_default(),
            hours_hundredths: 25 + i32::try_from(dice.below(700)).unwrap_or_default(),
            day: self.book.today - Duration::days(day.unwrap_or_default()),
        }
    }

    /// The payment as an employer sends it.
    pub(super) fn wire(&self, payment: &Payment<'_>) -> ReportPaymentRequest {
        ReportPaymentRequest {
            person: Some(people::reference_to(self.first_person + payment.person)),
            employer_cvr: payment.employer_cvr.to_owned(),
            reference: payment.reference.clone(),
            facts: Some(PaymentFacts {
                amount_oere: payment.oere,
                payment_date: Some(people::wire_date(payment.day)),
                work_period: None,
                hours_hundredths: Some(payment.hours_hundredths),
                components: None,
            }),
            ordinary_work: true,
            production_unit: String::new(),
            reject_if_exceeds: false,
            validate_only: false,
        }
    }

    /// The payment as the domain takes it.
    pub(super) fn command(&self, payment: &Payment<'_>) -> anyhow::Result<Command> {
        let hours = Hours::from_hundredths(payment.hours_hundredths);
        Ok(Command::ReportPayment(Report {
            key: PaymentKey {
                employer_cvr: payment.employer_cvr.parse()?,
                reference: payment.reference.parse::<Reference>()?,
            },
            facts: Facts {
                amount: Amount::from_oere(payment.oere)?,
                payment_date: payment.day,
                work: None,
                hours: Some(hours.context("not a number of hours")?),
                components: None,
            },
            production_unit: None,
            frikort: None,
            ordinary_work: true,
            reject_if_exceeds: false,
        }))
    }

    /// Notes what the ledger says it has recorded.
    pub(super) fn acknowledged(
        &self,
        payment: &Payment<'_>,
        answer: &ReportPaymentResponse,
    ) -> anyhow::Result<()> {
        let place = answer.position.as_ref().context("an answer without a position")?;
        let recorded = answer.payment.as_ref().context("an answer without the payment")?;
        let same = recorded.reference == payment.reference && recorded.amount_oere == payment.oere;
        ensure!(same && !answer.replayed, "another payment's answer");
        self.book.journal.note(place, &payment.reference, payment.oere)
    }

    /// A question about one of the persons.
    pub(super) fn question(&self, number: u64) -> GetAllowanceRequest {
        let person = Dice(self.book.seed ^ !number).below(self.persons.len());
        self.question_about(person, 0)
    }

    /// The same of that person's statement of the year.
    pub(super) fn statement(&self, number: u64) -> GetStatementRequest {
        let GetAllowanceRequest { person, year, .. } = self.question(number);
        GetStatementRequest { person, year, ..GetStatementRequest::default() }
    }

    /// The same of so many persons at once.
    pub(super) fn batch(&self, number: u64, persons: u64) -> BatchGetAllowancesRequest {
        let questions = (0..persons).map(|each| self.question(number * persons + each));
        let persons = questions.filter_map(|question| question.person).collect();
        let year = self.book.today.year();
        BatchGetAllowancesRequest { persons, year, ..BatchGetAllowancesRequest::default() }
    }

    /// The question about that person, as of that position.
    pub(super) fn question_about(&self, person: usize, min_position: i64) -> GetAllowanceRequest {
        let person = Some(people::reference_to(self.first_person + person));
        GetAllowanceRequest {
            person,
            year: self.book.today.year(),
            min_position,
            ..GetAllowanceRequest::default()
        }
    }
}

/// SplitMix64: small, even, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(mixed % limit).unwrap_or_default()
    }
}
