//! Guessing who holds a card: CPR numbers counted through, and Frikort-IDs. The suite tries 20.000;
//! `FRIKORT_GUESSES=1000000 cargo test -p frikort-tests --test hostile guesses` as many as asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, GetCardRequest, ReportPaymentsRequest,
        report_payments_response::Result as Became,
    },
};
use frikort_tests::client::{Ledger, by_cpr, cpr, report};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::{Ground, show};

/// What an employer may be answered at once, and a second.
const AT_ONCE: u32 = 200;
const PER_SECOND: f64 = 1.0;

/// Guesses under way at the same time.
const UNDER_WAY: u32 = 32;

/// Beyond everybody whom a test makes.
const FIRST: u32 = 2_000_000;

const EMPLOYER: &str = "29189706";

fn guesses() -> u32 {
    std::env::var("FRIKORT_GUESSES").map_or(20_000, |number| number.parse().unwrap())
}

/// What a guess was answered with.
#[derive(Default)]
struct Answers {
    nobody: AtomicU32,
    refused: AtomicU32,
}

impl Answers {
    fn count(&self, failure: &Failure) {
        match failure.reason {
            ErrorReason::NoCard => self.nobody.fetch_add(1, Ordering::Relaxed),
            ErrorReason::Overloaded => {
                assert!(failure.retry_delay().is_some());
                self.refused.fetch_add(1, Ordering::Relaxed)
            }
            _ => panic!("{failure:?}"),
        };
    }

    /// Whether no more was told than may be.
    fn check(&self, at_once: u32, time: Duration) {
        let count = |of: &AtomicU32| of.load(Ordering::Relaxed);
        let (nobody, refused) = (count(&self.nobody), count(&self.refused));
        show(&format!("    {nobody} answered, {refused} refused in {time:?}"));
        let most = f64::from(at_once) + PER_SECOND * (time.as_secs_f64() + 1.0);
        assert!(f64::from(nobody) <= most, "{nobody} guesses were answered");
        assert!(nobody >= AT_ONCE, "who makes a few mistakes is answered");
    }
}

/// Asks by one call each what a payment would do; every other one names a holder, with a Frikort-ID
/// that is counted through.
async fn guess(ledger: Ledger, holder: String, number: u32, answers: Arc<Answers>) {
    let mut request = match number % 2 {
        0 => report(&cpr(FIRST + number), "guess", 100),
        _ => {
            let mut request = report(&holder, "guess", 100);
            let id = format!("{:05}", number % 100_000);
            request.person.as_mut().unwrap().frikort_id =
                if id == "12345" { "12346".to_owned() } else { id };
            request
        }
    };
    request.employer_cvr = EMPLOYER.to_owned();
    request.validate_only = true;
    let status = ledger.payments.clone().report_payment(request).await.unwrap_err();
    answers.count(&Failure::from_status(&status).unwrap_or_else(|| panic!("{status:?}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_few_and_are_told_of() {
    let ground = Ground::start_with(&[("FRIKORT_CALLS_PER_SECOND", "0")]).await;
    let (hostile, holder) = (ground.as_caller("hostile").await, ground.honest.cprs[0].clone());
    let answers = Arc::new(Answers::default());
    let began = Instant::now();
    let attack = || {
        let (hostile, holder, answers) = (hostile.clone(), holder.clone(), answers.clone());
        async move {
            let all = (0..guesses())
                .map(|number| guess(hostile.clone(), holder.clone(), number, answers.clone()));
            let under_way = usize::try_from(UNDER_WAY).unwrap();
            stream::iter(all).for_each_concurrent(under_way, |guess| guess).await;
        }
    };
    ground.endures("guesses", attack).await;
    // What was under way when the last was allowed is answered too, and owed.
    answers.check(AT_ONCE + UNDER_WAY, began.elapsed());
    let log = ground.ledger.logged().unwrap();
    let alarms = log.lines().filter(|line| line.contains("GUESSING?")).collect::<Vec<_>>();
    let minutes = usize::try_from(began.elapsed().as_secs() / 60).unwrap();
    assert!((1..=minutes + 1).contains(&alarms.len()), "{alarms:?}");
    assert!(alarms[0].contains("WARN") && alarms[0].contains("Gætteværket"), "{alarms:?}");
    // A municipality looks people up who have no card: it is answered.
    let mut municipality = ground.as_caller("municipality").await;
    for number in 0..AT_ONCE * 2 {
        let person = by_cpr(&cpr(FIRST + number));
        let asked = municipality.visitations.get_card(GetCardRequest { person }).await;
        let failure = Failure::from_status(&asked.unwrap_err()).unwrap();
        assert_eq!(failure.reason, ErrorReason::NoCard);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_on_streams_are_counted_by_the_line() {
    let ground = Ground::start().await;
    let hostile = ground.as_caller("hostile").await;
    let answers = Arc::new(Answers::default());
    let began = Instant::now();
    let attack = || {
        let (mut hostile, answers) = (hostile.clone(), answers.clone());
        async move {
            for round in 0..8 {
                let lines = (0..2000).map(move |number| {
                    let mut line = report(&cpr(FIRST + round * 2000 + number), "guess", 100);
                    line.employer_cvr = EMPLOYER.to_owned();
                    line.validate_only = true;
                    ReportPaymentsRequest { payment: Some(line), ..Default::default() }
                });
                let results = hostile.payments.report_payments(stream::iter(lines)).await;
                let mut results = match results {
                    Ok(results) => results.into_inner(),
                    Err(status) => {
                        answers.count(&Failure::from_status(&status).unwrap());
                        continue;
                    }
                };
                while let Some(result) = results.message().await.unwrap() {
                    let Some(Became::Refused(refusal)) = result.result else { panic!() };
                    answers.count(&refusal.into());
                }
            }
        }
    };
    ground.endures("guesses on streams", attack).await;
    // What one stream may have under way is answered too, and owed.
    answers.check(AT_ONCE + 2048 + 256, began.elapsed());
    assert!(answers.refused.load(Ordering::Relaxed) > 1000);
}
