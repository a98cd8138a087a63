//! A pay run as a whole: how large it may be, what it adds up to, and the token that says which run
//! it is.
//!
//! The token is a hash over the lines in order, so nothing is kept between a plan and its commit:
//! it works after a restart, and at another ledger. It is made with the register's key, since the
//! lines hold CPR numbers, and there are few enough of those to try them all. What must stay out:
//! what a run would do; that changes while the run stays the same.

use std::{fmt::Write, mem};

use frikort_domain::{Amount, Cpr};
use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, PersonRef, ReportPaymentRequest, RunTotals, Warning, person_ref::Person,
        report_payments_response::Result as Became,
    },
};
use frikort_register::TextTag;
use prost::Message;
use uuid::Uuid;

/// Lines of a run that is planned, or committed with a token.
const MAX_LINES: usize = 100_000;

/// Bytes of such a run, as its lines are encoded.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Which form of the lines a token is made over.
const VERSION: &str = "1-";

/// The lines of a run so far.
pub(crate) struct Content {
    tag: TextTag,
    lines: usize,
    bytes: usize,
}

impl Content {
    /// A run without lines.
    pub(crate) fn new(tag: TextTag) -> Self {
        Self { tag, lines: 0, bytes: 0 }
    }

    /// Takes in the next line, unless the run gets too large; the line in the form that is hashed,
    /// from which it can be decoded again.
    pub(crate) fn take(&mut self, line: &ReportPaymentRequest) -> Result<Box<[u8]>, Failure> {
        let line = canonical(line).encode_length_delimited_to_vec().into_boxed_slice();
        self.lines += 1;
        self.bytes += line.len();
        if self.lines > MAX_LINES || self.bytes > MAX_BYTES {
            let allowed = format!(
                "must be at most {MAX_LINES} lines and {MAX_BYTES} bytes where it is planned or \
                 committed with a token; send it in parts"
            );
            return Err(Failure::invalid(vec![("run".to_owned(), allowed)]));
        }
        self.tag.update(&line);
        Ok(line)
    }

    /// The token of the run.
    pub(crate) fn token(self) -> String {
        let mut token = VERSION.to_owned();
        for byte in self.tag.finish() {
            // Writing to a text does not fail.
            let _ = write!(token, "{byte:02x}");
        }
        token
    }

    /// Whether it is the run that bears this token.
    pub(crate) fn check(self, token: &str) -> Result<(), Failure> {
        let lines = self.lines;
        if self.token() == token {
            return Ok(());
        }
        let message = "this is not the run that was planned: a line was changed, added, left out \
                       or moved; nothing was recorded; plan the run again, and commit that";
        Err(Failure::new(ErrorReason::PlanMismatch, message).with("lines", lines))
    }
}

/// Whether a text has the form of a token.
pub(crate) fn is_token(text: &str) -> bool {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix(VERSION).is_some_and(|hash| hash.len() == 64 && hash.bytes().all(hex))
}

/// A line in the one form in which it is hashed. Not what was parsed: whether a date is allowed
/// depends on the day, and the run of yesterday must be known again today.
fn canonical(line: &ReportPaymentRequest) -> ReportPaymentRequest {
    let person = line.person.as_ref().map(|person| PersonRef {
        person: person.person.as_ref().map(|person| match person {
            Person::CprNumber(text) => Person::CprNumber(match text.parse::<Cpr>() {
                Ok(cpr) => cpr.expose_digits().to_owned(),
                Err(_) => text.clone(),
            }),
            Person::PersonId(text) => Person::PersonId(match Uuid::parse_str(text) {
                Ok(id) => id.to_string(),
                Err(_) => text.clone(),
            }),
        }),
        frikort_id: person.frikort_id.clone(),
    });
    ReportPaymentRequest { person, validate_only: false, ..line.clone() }
}

/// Counts a line that was sent.
pub(crate) fn count_sent(totals: &mut RunTotals, line: Option<&ReportPaymentRequest>) {
    totals.lines += 1;
    let facts = line.and_then(|line| line.facts.as_ref());
    let amount = facts.and_then(|facts| Amount::from_oere(facts.amount_oere).ok());
    if let Some(amount) = amount.filter(|amount| *amount <= Amount::MAX_PAYMENT) {
        totals.sum_oere += amount.oere();
    }
}

/// Counts what became of a line. The last result is what was sent; it becomes the totals.
pub(crate) fn count_result(totals: &mut RunTotals, became: &mut Became) {
    match became {
        Became::Recorded(answer) => {
            if answer.replayed {
                totals.already_there += 1;
            } else {
                totals.recorded += 1;
            }
            for warning in answer.warnings() {
                match warning {
                    Warning::PossibleDuplicate => totals.possible_duplicates += 1,
                    Warning::ChangedSince => totals.changed_since += 1,
                    Warning::Unspecified | Warning::CardStillActive => {}
                }
            }
            if let Some(payment) = &answer.payment {
                totals.exempt_oere += payment.exempt_oere;
                totals.taxable_oere += payment.taxable_oere;
            }
        }
        Became::Refused(refusal) if refusal.reason() == ErrorReason::ReferenceReused => {
            totals.changed += 1;
        }
        Became::Refused(_) => totals.refused += 1,
        Became::Totals(sent) => {
            totals.lines = sent.lines;
            totals.sum_oere = sent.sum_oere;
            totals.plan_token = mem::take(&mut sent.plan_token);
            *sent = mem::take(totals);
        }
    }
}

#[cfg(test)]
mod tests {
    use frikort_proto::{Date, v1::PaymentFacts};
    use frikort_register::TagKey;

    use super::*;

    fn content() -> Content {
        Content::new(TagKey::new(&[7; 32]).text_tag())
    }

    fn line(cpr: &str) -> ReportPaymentRequest {
        let person = Some(Person::CprNumber(cpr.to_owned()));
        ReportPaymentRequest {
            person: Some(PersonRef { person, frikort_id: "12345".to_owned() }),
            employer_cvr: "13748136".to_owned(),
            reference: "2022-3".to_owned(),
            facts: Some(PaymentFacts {
                amount_oere: 50_000,
                payment_date: Some(Date { year: 2022, month: 3, day: 1 }),
                ..PaymentFacts::default()
            }),
            ordinary_work: true,
            ..ReportPaymentRequest::default()
        }
    }

    fn token(lines: &[ReportPaymentRequest]) -> String {
        let mut content = content();
        for line in lines {
            content.take(line).unwrap();
        }
        content.token()
    }

    /// A token must be known again by every later version; another form needs another `VERSION`.
    #[test]
    fn the_token_of_a_run_never_changes() {
        let known = "1-3f2ad5a9b749290c1bef8f58dfa90c417b1812574092f12c662b6f8f40598222";
        assert_eq!(token(&[line("0101605001"), line("0201605001")]), known);
        assert!(is_token(known));
        assert!(!is_token(&known.replace('-', "_")) && !is_token("") && !is_token("1-00"));
    }

    #[test]
    fn a_run_is_known_again_however_its_persons_are_written() {
        let dry = ReportPaymentRequest { validate_only: true, ..line("010160-5001") };
        assert_eq!(token(&[line("0101605001")]), token(&[dry]));
        let by_id = |id: &str| {
            let mut line = line("");
            line.person.as_mut().unwrap().person = Some(Person::PersonId(id.to_owned()));
            line
        };
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert_eq!(token(&[by_id(id)]), token(&[by_id(&id.to_uppercase())]));
    }

    #[test]
    fn no_field_of_a_line_can_change_unseen() {
        let changes: [fn(&mut ReportPaymentRequest); 9] = [
            |line| line.person.as_mut().unwrap().frikort_id = "54321".to_owned(),
            |line| line.person = None,
            |line| line.employer_cvr = "29189706".to_owned(),
            |line| line.reference = "2022-4".to_owned(),
            |line| line.facts.as_mut().unwrap().amount_oere += 1,
            |line| line.facts.as_mut().unwrap().hours_hundredths = Some(1),
            |line| line.ordinary_work = false,
            |line| line.production_unit = "1003388394".to_owned(),
            |line| line.reject_if_exceeds = true,
        ];
        for change in changes {
            let mut other = line("0101605001");
            change(&mut other);
            assert_ne!(
                token(&[line("0101605001")]),
                token(std::slice::from_ref(&other)),
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_run_above_its_bounds_is_refused_by_name() {
        let mut many = content();
        for _ in 0..MAX_LINES {
            many.take(&ReportPaymentRequest::default()).unwrap();
        }
        let refused = many.take(&ReportPaymentRequest::default()).unwrap_err();
        assert_eq!(
            (refused.reason, refused.fields[0].0.as_str()),
            (ErrorReason::InvalidField, "run")
        );
        assert!(refused.fields[0].1.contains("100000 lines"), "{refused:?}");

        let mut large = content();
        let line = ReportPaymentRequest { reference: "x".repeat(MAX_BYTES / 4), ..line("") };
        (0..3).for_each(|_| drop(large.take(&line).unwrap()));
        assert!(large.take(&line).is_err());
    }
}
