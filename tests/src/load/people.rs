//! The persons of a measurement: old enough that their CPR numbers are nobody's (born 1858 to
//! 1880), each with a card, each known by number so that a run can be repeated.

use std::ops::Range;

use anyhow::{Context, ensure};
use frikort_domain::PersonId;
use frikort_proto::{
    Date as WireDate,
    v1::{
        AnnualLimit, GrantCardRequest, ListAnnualLimitsRequest, PersonRef, SetAnnualLimitRequest,
        person_ref, policy_service_client::PolicyServiceClient,
        visitation_service_client::VisitationServiceClient,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use time::{Date, Duration, macros::date};
use tonic::transport::Channel;

/// Birthdays are spread over so many days from 1858-01-01 on.
const BIRTHDAYS: usize = 8_000;

/// The limit of the year, where none is on record: 50.000 kr.
const LIMIT_OERE: i64 = 5_000_000;

/// Grants under way.
const IN_FLIGHT: usize = 256;

/// A person whom the ledger knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    pub(super) id: PersonId,
    pub(super) partition: i32,
}

/// The CPR number of the `number`-th person.
pub(super) fn cpr(number: usize) -> String {
    let days = i64::try_from(number % BIRTHDAYS).unwrap_or_default();
    let born: Date = date!(1858 - 01 - 01) + Duration::days(days);
    let (nth, month) = (number / BIRTHDAYS, u8::from(born.month()));
    let (century, serial) = (5 + nth / 1000 % 4, nth % 1000);
    format!("{:02}{month:02}{:02}{century}{serial:03}", born.day(), born.year() % 100)
}

/// The person as a request names one.
pub(super) fn reference_to(number: usize) -> PersonRef {
    let person = person_ref::Person::CprNumber(cpr(number));
    PersonRef { person: Some(person), frikort_id: String::new() }
}

/// Grants a card to each of `numbers`; who has one from an earlier run keeps it.
pub(super) async fn grant(
    channels: &[Channel],
    numbers: Range<usize>,
) -> anyhow::Result<Vec<Person>> {
    stream::iter(numbers)
        .map(|number| {
            let channel = channels[number % channels.len()].clone();
            async move {
                let day = Some(wire_date(date!(2019 - 01 - 02)));
                let request = GrantCardRequest {
                    person: Some(reference_to(number)),
                    municipality_code: "461".to_owned(),
                    reference: format!("load-{number}"),
                    frikort_id: format!("{:05}", number % 100_000),
                    decision_date: day,
                    effective_date: day,
                    validate_only: false,
                    criteria: Vec::new(),
                    application_date: None,
                };
                let answer = VisitationServiceClient::new(channel).grant_card(request).await?;
                let answer = answer.into_inner();
                let card = answer.card.context("a grant without a card")?;
                let partition = answer.position.context("a grant without a position")?.partition;
                anyhow::Ok(Person { id: PersonId(card.person_id.parse()?), partition })
            }
        })
        .buffered(IN_FLIGHT)
        .try_collect()
        .await
}

/// Makes sure that the year has a limit, and answers it in øre.
pub(super) async fn limit(channel: Channel, year: i32) -> anyhow::Result<i64> {
    let mut policies = PolicyServiceClient::new(channel);
    let known = policies.list_annual_limits(ListAnnualLimitsRequest {}).await?.into_inner();
    if let Some(limit) = known.limits.iter().find(|limit| limit.year == year) {
        return Ok(limit.limit_oere);
    }
    let first_day = Date::from_calendar_date(year, time::Month::January, 1)?;
    let limit = AnnualLimit {
        year,
        limit_oere: LIMIT_OERE,
        in_force_date: Some(wire_date(first_day)),
        citation: "load test".to_owned(),
    };
    let request = SetAnnualLimitRequest { limit: Some(limit), validate_only: false };
    let answer = policies.set_annual_limit(request).await?.into_inner();
    ensure!(answer.limit.is_some(), "the limit was not recorded");
    Ok(LIMIT_OERE)
}

pub(super) fn wire_date(day: Date) -> WireDate {
    WireDate {
        year: day.year(),
        month: i32::from(u8::from(day.month())),
        day: i32::from(day.day()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use frikort_domain::Cpr;

    use super::*;

    #[test]
    fn every_person_was_born_long_ago_and_nobody_is_there_twice() {
        let numbers: Vec<usize> = (0..20_000).chain(8_000_000..8_000_100).collect();
        let cprs: HashSet<String> = numbers.iter().copied().map(cpr).collect();
        assert_eq!(cprs.len(), numbers.len());
        for text in cprs {
            let born = text.parse::<Cpr>().unwrap().birth_date().unwrap().year();
            assert!((1858..=1880).contains(&born), "{text}");
        }
    }
}
