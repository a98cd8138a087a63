//! Tables for the kinds of fields that many requests share. Each takes the field's path and the
//! way to it in the request.

use frikort_domain::{copenhagen_date, format_date};
use frikort_process::clock::Clock;
use frikort_proto::{
    Date,
    v1::{PersonRef, person_ref::Person},
};
use frikort_tests::client::date;
use time::Duration;

use super::case::{Case, case};

/// The way from a request to one of its fields.
pub(crate) trait Way<R, T>: Fn(&mut R) -> &mut T + Copy + Send + Sync + 'static {}

impl<R, T, F: Fn(&mut R) -> &mut T + Copy + Send + Sync + 'static> Way<R, T> for F {}

/// A date so many days after today in Copenhagen, or one more around midnight.
pub(crate) fn in_days(days: i64) -> Date {
    let soon = Clock::system().now() + Duration::minutes(10);
    let day = copenhagen_date(soon) + Duration::days(days);
    let number = |part: usize| format_date(day).split('-').nth(part).unwrap().parse().unwrap();
    date(number(0), number(1), number(2))
}

/// A text field with values that it must not have.
pub(crate) fn texts<R>(field: &str, at: impl Way<R, String>, bad: &[&str]) -> Vec<Case<R>> {
    let spoil = |text: &str| {
        let text = text.to_owned();
        case(&format!("{field} {text:?}"), &[field], move |r| at(r).clone_from(&text))
    };
    bad.iter().map(|text| spoil(text)).collect()
}

/// A number field with values that it must not have.
pub(crate) fn numbers<R, T>(field: &str, at: impl Way<R, T>, bad: &[T]) -> Vec<Case<R>>
where
    T: Copy + std::fmt::Debug + Send + Sync + 'static,
{
    let spoil =
        |number: T| case(&format!("{field} {number:?}"), &[field], move |r| *at(r) = number);
    bad.iter().map(|number| spoil(*number)).collect()
}

/// A date field: days that do not exist.
pub(crate) fn optional_date<R>(field: &str, at: impl Way<R, Option<Date>>) -> Vec<Case<R>> {
    let days = [
        ("29 February of no leap year", date(2023, 2, 29)),
        ("29 February 1900", date(1900, 2, 29)),
        ("30 February", date(2024, 2, 30)),
        ("31 April", date(2022, 4, 31)),
        ("31 November", date(2022, 11, 31)),
        ("month 13", date(2022, 13, 1)),
        ("month 0", date(2022, 0, 1)),
        ("month -1", date(2022, -1, 1)),
        ("month 257", date(2022, 257, 1)),
        ("day 0", date(2022, 1, 0)),
        ("day 32", date(2022, 1, 32)),
        ("day -1", date(2022, 1, -1)),
        ("day 257", date(2022, 1, 257)),
        ("year 0", date(0, 3, 1)),
        ("year -2022", date(-2022, 3, 1)),
        ("year 10000", date(10_000, 3, 1)),
        ("all zero", date(0, 0, 0)),
        ("the largest numbers", date(i32::MAX, i32::MAX, i32::MAX)),
        ("the smallest numbers", date(i32::MIN, i32::MIN, i32::MIN)),
    ];
    let spoil = |(what, day): (&str, Date)| {
        case(&format!("{field}: {what}"), &[field], move |r| *at(r) = Some(day))
    };
    days.into_iter().map(spoil).collect()
}

/// The same, and it must be there.
pub(crate) fn required_date<R>(field: &str, at: impl Way<R, Option<Date>>) -> Vec<Case<R>> {
    let mut cases = optional_date(field, at);
    cases.push(case(&format!("no {field}"), &[field], move |r| *at(r) = None));
    cases
}

/// Whom a request names.
pub(crate) fn person<R>(field: &str, at: impl Way<R, Option<PersonRef>>) -> Vec<Case<R>> {
    let mut cases = optional_person(field, at);
    cases.push(case(&format!("no {field}"), &[field], move |r| *at(r) = None));
    cases
}

/// The same, where nobody need be named.
pub(crate) fn optional_person<R>(field: &str, at: impl Way<R, Option<PersonRef>>) -> Vec<Case<R>> {
    let (of_cpr, of_id) = (format!("{field}.cpr_number"), format!("{field}.person_id"));
    let of_frikort = format!("{field}.frikort_id");
    let name = move |r: &mut R, person: Person| {
        at(r).get_or_insert_default().person = Some(person);
    };
    let mut cases = vec![case(&format!("{field} names nobody"), &[field], move |r| {
        at(r).get_or_insert_default().person = None;
    })];
    for text in [
        "",
        "3002605001",
        "300260-5001",
        "2902014000",
        "0113605001",
        "0100605001",
        "010160500",
        "01016050011",
        "0101-605001",
        "01016-05001",
        "010160 5001",
        "010160--5001",
        "-0101605001",
        "0101605001 ",
        "010160500a",
        "abcdefghij",
        "٠١٠١٦٠٥٠٠١",
        "0101605001\n",
    ] {
        let what = format!("{of_cpr} {text:?}");
        cases.push(case(&what, &[&of_cpr], move |r| name(r, Person::CprNumber(text.to_owned()))));
    }
    for text in [
        "",
        "0101605001",
        "6f9619ff-8b86-d011-b42d-00c04fc964f",
        "6f9619ff-8b86-d011-b42d",
        "6f9619ff-8b86-d011-b42d-00c04fc964fff",
        "6f9619ff-8b86-d011-b42d-00c04fc964fg",
    ] {
        let what = format!("{of_id} {text:?}");
        cases.push(case(&what, &[&of_id], move |r| name(r, Person::PersonId(text.to_owned()))));
    }
    for text in ["1234", "123456", "1234a", " 1234", "-1234", "+1234", "１２３４５"] {
        let what = format!("{of_frikort} {text:?}");
        cases.push(case(&what, &[&of_frikort], move |r| {
            at(r).get_or_insert_default().frikort_id = text.to_owned();
        }));
    }
    cases.push(case("person and Frikort-ID", &[&of_cpr, &of_frikort], move |r| {
        name(r, Person::CprNumber("3002605001".to_owned()));
        at(r).get_or_insert_default().frikort_id = "1234".to_owned();
    }));
    let too_large = "1".repeat(1024 * 1024);
    cases.push(case("a message above the limit", &["(message)"], move |r| {
        name(r, Person::CprNumber(too_large.clone()));
    }));
    cases
}

/// An organisation's own reference.
pub(crate) fn reference<R>(at: impl Way<R, String>) -> Vec<Case<R>> {
    let (long, wide) = ("x".repeat(65), "å".repeat(65));
    let mut bad = vec![
        "",
        " ",
        " a",
        "a ",
        "\u{a0}a",
        "a\nb",
        "a\tb",
        "a\0b",
        "a\u{7f}b",
        "a\u{85}b",
        "a\"b",
        "a\\b",
        "0101605001",
        "010160-5001",
        "løn 010160 5001",
        "pay/010160.5001/1",
        "x-0101605001",
    ];
    bad.extend([long.as_str(), wide.as_str()]);
    texts("reference", at, &bad)
}

/// An employer.
pub(crate) fn employer<R>(at: impl Way<R, String>) -> Vec<Case<R>> {
    let bad = [
        "",
        "12345678",
        "13748137",
        "00000000",
        "1374813",
        "137481360",
        "DK13748136",
        "13 74 81 36",
        "1374813a",
        "-3748136",
        "１３７４８１３６",
    ];
    texts("employer_cvr", at, &bad)
}

/// A municipality.
pub(crate) fn municipality<R>(at: impl Way<R, String>) -> Vec<Case<R>> {
    texts("municipality_code", at, &["", "411", "000", "999", "100", "0101", "10", "1o1", "-01"])
}

/// The day of a municipality's decision.
pub(crate) fn decision_date<R>(at: impl Way<R, Option<Date>>) -> Vec<Case<R>> {
    let field = "decision_date";
    let mut cases = required_date(field, at);
    cases.push(case("decided before the scheme", &[field], move |r| {
        *at(r) = Some(date(2018, 12, 31));
    }));
    cases.push(case("decided tomorrow", &[field], move |r| *at(r) = Some(in_days(1))));
    cases
}

/// Cases of a part, as cases of the whole.
pub(crate) fn lift<R: 'static, T: 'static>(
    at: impl Way<R, T>,
    cases: Vec<Case<T>>,
) -> Vec<Case<R>> {
    let lift = |Case { what, fields, change }| {
        let change = Box::new(move |r: &mut R| change(at(r)));
        Case { what, fields, change } as Case<R>
    };
    cases.into_iter().map(lift).collect()
}
