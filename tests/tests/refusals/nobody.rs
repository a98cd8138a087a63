//! A wrong Frikort-ID beside the right CPR number: the answer is, byte for byte, that about a
//! person whom nobody knows (N4, W3). So nobody learns from it that somebody holds a card.

use std::{fmt::Debug, time::Duration};

use frikort_proto::{
    error::Failure,
    v1::{
        BatchGetAllowancesRequest, GetAllowanceRequest, GetCardRequest, GetStatementRequest,
        PersonRef, ReadEventsRequest, ReportPaymentsRequest, person_ref::Person,
    },
};
use frikort_tests::{
    client::{Ledger, by_cpr, new_cpr, report},
    decisions::{deactivate, reactivate},
    stack::Stack,
};
use futures::future::join_all;
use tonic::{Code, Request, Status};

use super::status::{cancel, correct};

/// A stack with a holder of card 12345 who has one payment, "used".
struct Ground {
    stack: Stack,
    ledger: Ledger,
    cpr: String,
    person_id: String,
}

async fn ground() -> Ground {
    let stack = Stack::start(1).await.unwrap();
    let mut ledger = stack.ledger().await.unwrap();
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    let person_id = ledger.grant(&cpr).await.unwrap();
    ledger.payments.report_payment(report(&cpr, "used", 50_000)).await.unwrap();
    Ground { stack, ledger, cpr, person_id }
}

impl Ground {
    /// The holder by number and by id with a wrong Frikort-ID, nobody without one and with one;
    /// at the end the holder with the right one.
    fn named(&self) -> [Option<PersonRef>; 6] {
        let with = |person: Option<PersonRef>, id: &str| {
            Some(PersonRef { frikort_id: id.to_owned(), ..person.unwrap() })
        };
        let by_id = |id: &str| {
            let person = Some(Person::PersonId(id.to_owned()));
            Some(PersonRef { person, frikort_id: String::new() })
        };
        [
            by_cpr(&new_cpr()),
            with(by_cpr(&new_cpr()), "12345"),
            by_id("6f9619ff-8b86-4011-b42d-00c04fc964ff"),
            with(by_cpr(&self.cpr), "54321"),
            with(by_id(&self.person_id), "54321"),
            with(by_cpr(&self.cpr), "12345"),
        ]
    }

    /// Asks about each of them; all but the last must get one and the same refusal, and the last
    /// must not get it.
    async fn check<T: Debug>(
        &self,
        what: &str,
        reason: &str,
        mut call: impl AsyncFnMut(Option<PersonRef>) -> Result<T, Status>,
    ) {
        let mut answers = Vec::new();
        for person in self.named() {
            answers.push(call(person).await);
        }
        let right = answers.pop().unwrap();
        let mut told = answers.into_iter().map(|answer| {
            let status = answer.expect_err(what);
            let reason = Failure::from_status(&status).map(|failure| failure.reason_name());
            (status.code(), status.message().to_owned(), status.details().to_vec(), reason)
        });
        let first = told.next().unwrap();
        assert_eq!((first.0, first.3), (Code::NotFound, Some(reason)), "{what}");
        for (at, other) in told.enumerate() {
            assert_eq!(other, first, "{what}, {}", at + 1);
        }
        if let Err(status) = right {
            assert_ne!(status.code(), Code::NotFound, "{what}: the right Frikort-ID is refused");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_frikort_id_gets_the_answer_about_nobody_from_the_ledger() {
    let ground = ground().await;
    let Ledger { mut payments, mut visitations, mut audits, .. } = ground.ledger.clone();
    let cpr = &ground.cpr;
    for dry in [true, false] {
        let call = async |person| {
            let mut request = report(cpr, "new", 50_000);
            (request.person, request.validate_only) = (person, dry);
            payments.report_payment(request).await
        };
        ground.check("a report", "NO_CARD", call).await;
    }
    let call = async |person| {
        let mut request = report(cpr, "used", 50_000);
        request.person = person;
        payments.report_payment(request).await
    };
    ground.check("a replay", "NO_CARD", call).await;
    let call = async |person| {
        let mut request = correct(cpr, "used", 1, 60_000);
        request.person = person;
        payments.correct_payment(request).await
    };
    ground.check("a correction", "PAYMENT_NOT_FOUND", call).await;
    let call = async |person| {
        let mut request = cancel(cpr, "used", 2);
        request.person = person;
        payments.cancel_payment(request).await
    };
    ground.check("a cancellation", "PAYMENT_NOT_FOUND", call).await;
    let call = async |person| visitations.get_card(GetCardRequest { person }).await;
    ground.check("a card", "NO_CARD", call).await;
    let call = async |person| {
        audits.read_events(ReadEventsRequest { person, ..ReadEventsRequest::default() }).await
    };
    ground.check("events", "NO_CARD", call).await;
    let call = async |person| {
        let mut request = deactivate(cpr, "S-2");
        request.person = person;
        visitations.deactivate_card(request).await
    };
    ground.check("a deactivation", "NO_CARD", call).await;
    let call = async |person| {
        let mut request = reactivate(cpr, "S-3");
        request.person = person;
        visitations.reactivate_card(request).await
    };
    ground.check("a reactivation", "NO_CARD", call).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_frikort_id_gets_the_answer_about_nobody_on_a_stream() {
    let ground = ground().await;
    let items: Vec<_> = ground
        .named()
        .into_iter()
        .map(|person| {
            let mut payment = report(&ground.cpr, "new", 50_000);
            payment.person = person;
            ReportPaymentsRequest { payment: Some(payment), ..Default::default() }
        })
        .collect();
    let mut payments = ground.ledger.payments.clone();
    let stream = payments.report_payments(tokio_stream::iter(items)).await.unwrap();
    let mut stream = stream.into_inner();
    let mut refusals = Vec::new();
    while let Some(result) = stream.message().await.unwrap() {
        use frikort_proto::v1::report_payments_response::Result::{Recorded, Refused, Totals};
        match result.result.unwrap() {
            Refused(refusal) => refusals.push(refusal),
            Recorded(_) => assert_eq!(result.index, 5, "only the right Frikort-ID is accepted"),
            Totals(totals) => panic!("nobody asked for totals: {totals:?}"),
        }
    }
    assert_eq!(refusals.len(), 5);
    assert_eq!(refusals, vec![refusals[0].clone(); 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_frikort_id_gets_the_answer_about_nobody_from_the_projector() {
    let ground = ground().await;
    let mut allowances = ground.stack.allowances().await.unwrap();
    let head = ground.stack.recorded().await.unwrap().positions;
    for year in [2022, 2023] {
        let call = async |person| {
            let request = GetAllowanceRequest {
                person,
                year,
                min_position: head,
                ..GetAllowanceRequest::default()
            };
            allowances.get_allowance(request).await
        };
        ground.check("an allowance", "NO_CARD", call).await;
    }
    let call = async |person| {
        let request =
            GetStatementRequest { person, min_position: head, ..GetStatementRequest::default() };
        allowances.get_statement(request).await
    };
    ground.check("a statement", "NO_CARD", call).await;

    let persons = ground.named().into_iter().flatten().collect();
    let batch = BatchGetAllowancesRequest {
        persons,
        year: 2022,
        min_position: head,
        ..BatchGetAllowancesRequest::default()
    };
    let answer = allowances.batch_get_allowances(batch).await.unwrap().into_inner();
    let known: Vec<bool> = answer.results.iter().map(|result| result.allowance.is_some()).collect();
    assert_eq!(known, [false, false, false, false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_waited_for_as_long_as_a_holder() {
    let ground = ground().await;
    let allowances = ground.stack.allowances().await.unwrap();
    let min_position = ground.stack.recorded().await.unwrap().positions;
    // The projection is there before it is asked to be further.
    let person = by_cpr(&ground.cpr);
    let request =
        GetAllowanceRequest { person, year: 2022, min_position, ..GetAllowanceRequest::default() };
    allowances.clone().get_allowance(request).await.unwrap();
    let ask = async |person: Option<PersonRef>| {
        let (mut allowances, mut statements) = (allowances.clone(), allowances.clone());
        let min_position = min_position + 1000;
        let allowance = GetAllowanceRequest {
            person: person.clone(),
            year: 2022,
            min_position,
            ..GetAllowanceRequest::default()
        };
        let statement =
            GetStatementRequest { person, min_position, ..GetStatementRequest::default() };
        let (mut allowance, mut statement) = (Request::new(allowance), Request::new(statement));
        allowance.set_timeout(Duration::from_secs(2));
        statement.set_timeout(Duration::from_secs(2));
        let (allowance, statement) =
            tokio::join!(allowances.get_allowance(allowance), statements.get_statement(statement));
        [allowance.unwrap_err(), statement.unwrap_err()]
    };
    let answers = join_all(ground.named().into_iter().map(ask)).await;
    for (at, status) in answers.iter().flatten().enumerate() {
        let failure = Failure::from_status(status).expect("an error of our model");
        assert_eq!(failure.reason_name(), "PROJECTION_BEHIND", "answer {at}");
        assert_eq!(Failure::from_status(&answers[0][0]), Some(failure), "answer {at}");
    }
}
