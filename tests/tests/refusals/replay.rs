//! The same call again: the first answer again, place and instant included, also from a ledger
//! that was killed in between; and nothing more is recorded.

use frikort_proto::v1::{
    AnnualLimit, CancelPaymentResponse, CorrectPaymentResponse, DeactivateCardResponse,
    GrantCardResponse, ReactivateCardResponse, ReportPaymentResponse, SetAnnualLimitRequest,
    SetAnnualLimitResponse, Warning,
};
use frikort_tests::{
    client::{Ledger, date, grant, report},
    decisions::{deactivate, reactivate},
    stack::Stack,
};

use super::status::{cancel, correct, paid_on};

/// One answer of every write.
#[derive(Debug, PartialEq)]
struct Answers {
    limit: SetAnnualLimitResponse,
    grant: GrantCardResponse,
    reports: Vec<ReportPaymentResponse>,
    correction: CorrectPaymentResponse,
    cancellation: CancelPaymentResponse,
    deactivation: DeactivateCardResponse,
    reactivation: ReactivateCardResponse,
}

impl Answers {
    /// Makes every call, always in the same order.
    async fn ask(mut ledger: Ledger, cpr: &str) -> Self {
        let limit = AnnualLimit {
            year: 2022,
            limit_oere: 2_000_000,
            in_force_date: Some(date(2022, 1, 1)),
            citation: "LOV 2217 af 29/12/2020".to_owned(),
        };
        let limit = SetAnnualLimitRequest { limit: Some(limit), validate_only: false };
        let limit = ledger.policies.set_annual_limit(limit).await.unwrap().into_inner();
        let grant = ledger.visitations.grant_card(grant(cpr)).await.unwrap().into_inner();
        let mut reports = Vec::new();
        for request in [
            report(cpr, "stays", 1_500_000),
            report(cpr, "crosses", 1_000_000),
            report(cpr, "is corrected", 200_000),
            report(cpr, "is cancelled", 200_000),
            report(cpr, "has a twin", 200_000),
            paid_on(cpr, "lies after", (2022, 6, 15)),
        ] {
            let answer = ledger.payments.report_payment(request).await.unwrap();
            reports.push(answer.into_inner());
        }
        let correction = correct(cpr, "is corrected", 1, 300_000);
        let cancellation = cancel(cpr, "is cancelled", 1);
        let (deactivation, reactivation) = (deactivate(cpr, "S-2"), reactivate(cpr, "S-3"));
        let (payments, visitations) = (&mut ledger.payments, &mut ledger.visitations);
        Self {
            limit,
            grant,
            reports,
            correction: payments.correct_payment(correction).await.unwrap().into_inner(),
            cancellation: payments.cancel_payment(cancellation).await.unwrap().into_inner(),
            deactivation: visitations.deactivate_card(deactivation).await.unwrap().into_inner(),
            reactivation: visitations.reactivate_card(reactivation).await.unwrap().into_inner(),
        }
    }

    /// What was said about having been recorded before; taken out, so that the rest compares.
    fn take_replayed(&mut self) -> Vec<bool> {
        let mut flags = vec![
            &mut self.limit.replayed,
            &mut self.grant.replayed,
            &mut self.correction.replayed,
            &mut self.cancellation.replayed,
            &mut self.deactivation.replayed,
            &mut self.reactivation.replayed,
        ];
        flags.extend(self.reports.iter_mut().map(|report| &mut report.replayed));
        flags.into_iter().map(std::mem::take).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_repeated_gives_its_first_answer_again_also_after_a_kill() {
    let mut stack = Stack::start(1).await.unwrap();
    let cpr = frikort_tests::client::new_cpr();
    let mut first = Answers::ask(stack.ledger().await.unwrap(), &cpr).await;
    assert!(first.take_replayed().iter().all(|replayed| !replayed));
    let positions: Vec<i64> =
        first.reports.iter().map(|report| report.position.unwrap().position).collect();
    assert_eq!(positions, [3, 4, 5, 6, 7, 8]);
    assert_eq!(first.deactivation.payments_after.len(), 1);
    // P11: of what was changed since, the repeat says so.
    for (at, revision) in [(2, 2), (3, 2)] {
        first.reports[at].warnings.push(Warning::ChangedSince.into());
        first.reports[at].present_revision = revision;
    }
    let recorded = stack.recorded().await.unwrap();
    assert_eq!(recorded.events, 12);

    for restarts in 0..3 {
        match restarts {
            0 => {}
            1 => stack.ledger.kill_and_restart().unwrap(),
            _ => {
                assert!(stack.ledger.stop().await.unwrap().success());
                stack.ledger.kill_and_restart().unwrap();
            }
        }
        stack.ledger.wait_until_ready().await.unwrap();
        let mut again = Answers::ask(stack.ledger().await.unwrap(), &cpr).await;
        let replayed = again.take_replayed();
        assert!(replayed.iter().all(|replayed| *replayed), "{restarts} restarts: {replayed:?}");
        assert_eq!(again, first, "after {restarts} restarts");
        assert_eq!(stack.recorded().await.unwrap(), recorded);
    }
}
