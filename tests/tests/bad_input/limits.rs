//! PolicyService.

use frikort_proto::v1::{AnnualLimit, SetAnnualLimitRequest as Set};
use frikort_tests::client::date;

use super::{
    case::{Ground, case},
    fields::{lift, numbers, required_date, texts},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_limit_is_refused_by_field_and_records_nothing() {
    let ground = Ground::new().await;
    let limit = AnnualLimit {
        year: 2023,
        limit_oere: 4_000_000,
        in_force_date: Some(date(2023, 7, 1)),
        citation: "L 119".to_owned(),
    };
    let sound = Set { limit: Some(limit), validate_only: false };

    let (year, in_force) = ("limit.year", "limit.in_force_date");
    let (amount, citation) = ("limit.limit_oere", "limit.citation");
    let bad = [2018, 0, -1, 10_000, i32::MIN, i32::MAX];
    let mut cases = numbers(year, |l: &mut AnnualLimit| &mut l.year, &bad);
    let bad = [0, -100, 150, 2_000_001, 100_000_000, i64::MIN, i64::MAX];
    cases.extend(numbers(amount, |l: &mut AnnualLimit| &mut l.limit_oere, &bad));
    cases.extend(required_date(in_force, |l: &mut AnnualLimit| &mut l.in_force_date));
    for (what, day) in [("before", date(2022, 12, 31)), ("after", date(2024, 1, 1))] {
        let what = format!("in force the year {what}");
        cases
            .push(case(&what, &[in_force], move |l: &mut AnnualLimit| l.in_force_date = Some(day)));
    }
    let (long, wide) = ("x".repeat(201), "å".repeat(201));
    let bad = ["", "a\nb", "a\0b", "a\"b", "a\\b", "løn 010160-5001", "0101605001", &long, &wide];
    cases.extend(texts(citation, |l: &mut AnnualLimit| &mut l.citation, &bad));
    cases.push(case("an empty limit", &[year, amount, in_force, citation], |l| {
        *l = AnnualLimit::default();
    }));

    let mut cases = lift(|r: &mut Set| r.limit.get_or_insert_default(), cases);
    cases.push(case("no limit", &["limit"], |r: &mut Set| *r = Set::default()));
    let too_large = "x".repeat(1024 * 1024);
    cases.push(case("a message above the limit", &["(message)"], move |r: &mut Set| {
        r.limit.get_or_insert_default().citation.clone_from(&too_large);
    }));

    let mut policies = ground.ledger.policies.clone();
    ground
        .refuses(&sound, cases, async |r| ground.ledger.policies.clone().set_annual_limit(r).await)
        .await;
    policies.set_annual_limit(sound).await.expect("what the cases start from is sound");
}
