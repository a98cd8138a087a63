//! AllowanceService.

use frikort_proto::v1::{
    BatchGetAllowancesRequest, GetAllowanceRequest, GetStatementRequest, PersonRef,
};
use frikort_tests::client::{by_cpr, date};

use super::{
    case::{Ground, case},
    fields::{numbers, optional_date, person},
};

/// Years that no limit can be asked for.
const YEARS: [i32; 6] = [2018, 0, -1, 10_000, i32::MIN, i32::MAX];

/// Positions that are none.
const POSITIONS: [i64; 2] = [-1, i64::MIN];

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_for_an_allowance_is_refused_by_field() {
    type Get = GetAllowanceRequest;
    let ground = Ground::new().await;
    // Contains the limit and the grant.
    let sound = GetAllowanceRequest {
        person: by_cpr(&ground.cpr),
        year: 2022,
        min_position: 2,
        ..GetAllowanceRequest::default()
    };
    let mut cases = person("person", |r: &mut Get| &mut r.person);
    cases.extend(numbers("year", |r: &mut Get| &mut r.year, &YEARS));
    cases.extend(numbers("min_position", |r: &mut Get| &mut r.min_position, &POSITIONS));
    cases.push(case("all of it wrong", &["person", "year", "min_position"], |r| {
        *r = GetAllowanceRequest {
            person: None,
            year: 1,
            min_position: -1,
            ..GetAllowanceRequest::default()
        };
    }));
    let allowances = ground.stack.allowances().await.unwrap();
    ground.refuses(&sound, cases, async |r| allowances.clone().get_allowance(r).await).await;
    allowances.clone().get_allowance(sound).await.expect("sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_for_many_allowances_is_refused_by_field() {
    type Batch = BatchGetAllowancesRequest;
    let ground = Ground::new().await;
    let persons = |count| vec![by_cpr(&ground.cpr).unwrap(); count];
    let sound = BatchGetAllowancesRequest {
        persons: persons(1000),
        year: 2022,
        min_position: 2,
        ..BatchGetAllowancesRequest::default()
    };
    let mut cases = numbers("year", |r: &mut Batch| &mut r.year, &YEARS);
    cases.extend(numbers("min_position", |r: &mut Batch| &mut r.min_position, &POSITIONS));
    let (one_more, one) = (persons(1001), persons(1));
    cases.extend([
        case("nobody", &["persons"], |r: &mut Batch| r.persons.clear()),
        case("1001 persons", &["persons"], move |r: &mut Batch| r.persons.clone_from(&one_more)),
        case("an empty person", &["persons[999]"], |r: &mut Batch| {
            r.persons[999] = PersonRef::default();
        }),
        case(
            "several wrong",
            &[
                "year",
                "min_position",
                "persons[1].cpr_number",
                "persons[2]",
                "persons[3].frikort_id",
            ],
            move |r: &mut Batch| {
                let wrong = [
                    one[0].clone(),
                    by_cpr("3002605001").unwrap(),
                    PersonRef::default(),
                    PersonRef { frikort_id: "1".to_owned(), ..one[0].clone() },
                ];
                *r = Batch { persons: wrong.to_vec(), year: 0, min_position: -1, as_of: None };
            },
        ),
        case("everybody wrong", &["persons[0]", "persons[1]"], |r: &mut Batch| {
            r.persons = vec![PersonRef::default(); 2];
        }),
        case("a message above the limit", &["(message)"], |r: &mut Batch| {
            r.persons = vec![by_cpr(&"1".repeat(1024)).unwrap(); 1024];
        }),
    ]);
    let allowances = ground.stack.allowances().await.unwrap();
    let call = async |r| allowances.clone().batch_get_allowances(r).await;
    ground.refuses(&sound, cases, call).await;
    let answer = allowances.clone().batch_get_allowances(sound).await.expect("sound").into_inner();
    assert_eq!(answer.results.len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_for_a_statement_is_refused_by_field() {
    type Get = GetStatementRequest;
    let ground = Ground::new().await;
    let sound = GetStatementRequest {
        person: by_cpr(&ground.cpr),
        min_position: 2,
        ..GetStatementRequest::default()
    };
    let mut cases = person("person", |r: &mut Get| &mut r.person);
    // 0 asks for all years.
    let years: Vec<i32> = YEARS.into_iter().filter(|year| *year != 0).collect();
    cases.extend(numbers("year", |r: &mut Get| &mut r.year, &years));
    cases.extend(numbers("min_position", |r: &mut Get| &mut r.min_position, &POSITIONS));
    cases.extend(optional_date("hours_through", |r: &mut Get| &mut r.hours_through));
    cases.push(case("before the scheme", &["hours_through"], |r: &mut Get| {
        r.hours_through = Some(date(2018, 12, 31));
    }));
    cases.push(case("all of it wrong", &["person", "year", "min_position"], |r| {
        *r = GetStatementRequest { year: 1, min_position: -1, ..GetStatementRequest::default() };
    }));
    let allowances = ground.stack.allowances().await.unwrap();
    ground.refuses(&sound, cases, async |r| allowances.clone().get_statement(r).await).await;
    allowances.clone().get_statement(sound).await.expect("sound");
}
