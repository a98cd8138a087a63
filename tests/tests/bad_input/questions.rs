//! AllowanceService.

use frikort_domain::{SCHEME_START, copenhagen_date};
use frikort_process::clock::Clock;
use frikort_proto::{
    Timestamp, timestamp,
    v1::{
        AsOf, BatchGetAllowancesRequest, GetAllowanceRequest, GetStatementRequest, LedgerPosition,
        PersonRef, WatchAllowancesRequest, as_of::KnownAt,
    },
};
use frikort_tests::client::{by_cpr, date};
use time::{Duration, OffsetDateTime};

use super::{
    case::{Case, Ground, case},
    fields::{numbers, optional_date, person},
};

/// Years that no limit can be asked for.
const YEARS: [i32; 6] = [2018, 0, -1, 10_000, i32::MIN, i32::MAX];

/// Positions that are none.
const POSITIONS: [i64; 2] = [-1, i64::MIN];

/// Moments that cannot be asked about.
fn moments<R: 'static>(as_of: fn(&mut R) -> &mut Option<AsOf>) -> Vec<Case<R>> {
    let now = Clock::system().now();
    let first = SCHEME_START.midnight().assume_utc() - Duration::hours(1);
    assert_eq!(copenhagen_date(first), SCHEME_START);
    let whole = timestamp(now - Duration::hours(1));
    let known = |what: &str, field: &str, known_at: KnownAt| {
        case(what, &[field], move |r: &mut R| {
            *as_of(r) = Some(AsOf { known_at: Some(known_at), paid_through: None });
        })
    };
    let mut cases = Vec::new();
    for (what, time) in [
        ("tomorrow", timestamp(now + Duration::days(1))),
        ("before the scheme", timestamp(first - Duration::MICROSECOND)),
        ("nanoseconds below zero", Timestamp { nanos: -1, ..whole }),
        ("nanoseconds of a whole second", Timestamp { nanos: 1_000_000_000, ..whole }),
        ("the end of time", Timestamp { seconds: i64::MAX, nanos: 0 }),
        ("the beginning of time", Timestamp { seconds: i64::MIN, nanos: 0 }),
    ] {
        cases.push(known(what, "as_of.known_time", KnownAt::KnownTime(time)));
    }
    for position in POSITIONS {
        let known_at = KnownAt::KnownPosition(position);
        cases.push(known("a position that is none", "as_of.known_position", known_at));
    }
    for (what, day) in [
        ("paid before the scheme", date(2018, 12, 31)),
        ("paid on a day that does not exist", date(2022, 2, 29)),
        ("paid on no day", date(0, 0, 0)),
    ] {
        cases.push(case(what, &["as_of.paid_through"], move |r: &mut R| {
            *as_of(r) = Some(AsOf { known_at: None, paid_through: Some(day) });
        }));
    }
    let both = ["as_of.known_time", "as_of.paid_through"];
    cases.push(case("both axes wrong", &both, move |r: &mut R| {
        let known_at = Some(KnownAt::KnownTime(timestamp(now + Duration::days(1))));
        *as_of(r) = Some(AsOf { known_at, paid_through: Some(date(2018, 1, 1)) });
    }));
    cases
}

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
    cases.extend(moments(|r: &mut Get| &mut r.as_of));
    let all = ["person", "year", "min_position", "as_of.known_position", "as_of.paid_through"];
    cases.push(case("all of it wrong", &all, |r| {
        let known_at = Some(KnownAt::KnownPosition(-1));
        let as_of = Some(AsOf { known_at, paid_through: Some(date(1, 1, 1)) });
        *r = GetAllowanceRequest { person: None, year: 1, min_position: -1, as_of };
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
    cases.extend(moments(|r: &mut Batch| &mut r.as_of));
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
    cases.extend(moments(|r: &mut Get| &mut r.as_of));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_wish_to_watch_is_refused_by_field() {
    type Watch = WatchAllowancesRequest;
    let ground = Ground::new().await;
    let first: OffsetDateTime = sqlx::query_scalar(
        "SELECT recorded_at FROM ledger.event WHERE partition = 0 AND position = 1",
    )
    .fetch_one(&ground.stack.database.pool().await.unwrap())
    .await
    .unwrap();
    let place = move |partition, position| LedgerPosition::new(partition, position, Some(first));
    let sound = Watch {
        after: vec![place(0, 1)],
        persons: vec![by_cpr(&ground.cpr).unwrap(); 1000],
        year: 2022,
    };
    // 0 asks for all years.
    let years: Vec<i32> = YEARS.into_iter().filter(|year| *year != 0).collect();
    let mut cases = numbers("year", |r: &mut Watch| &mut r.year, &years);
    let one_more = by_cpr(&ground.cpr).unwrap();
    cases.extend([
        case("1001 persons", &["persons"], move |r: &mut Watch| r.persons.push(one_more.clone())),
        case("an empty person", &["persons[999]"], |r: &mut Watch| {
            r.persons[999] = PersonRef::default();
        }),
        case("no such partition", &["after[0].partition"], move |r: &mut Watch| {
            r.after = vec![place(1, 1)];
        }),
        case("a partition twice", &["after[1].partition"], move |r: &mut Watch| {
            r.after = vec![place(0, 1), place(0, 2)];
        }),
        case("a position without its instant", &["after[0].recorded_time"], |r: &mut Watch| {
            r.after[0].recorded_time = None;
        }),
        case("a position that is none", &["after[0].position"], move |r: &mut Watch| {
            r.after = vec![place(0, -1)];
        }),
        case(
            "all of it wrong",
            &["after[0].partition", "after[0].position", "persons[1].cpr_number", "year"],
            move |r: &mut Watch| {
                r.after = vec![place(-1, i64::MIN)];
                r.persons = vec![r.persons[0].clone(), by_cpr("3002605001").unwrap()];
                r.year = 1;
            },
        ),
    ]);
    let allowances = ground.stack.allowances().await.unwrap();
    let call = async |r| allowances.clone().watch_allowances(r).await;
    ground.refuses(&sound, cases, call).await;
    allowances.clone().watch_allowances(sound).await.expect("sound");
}
