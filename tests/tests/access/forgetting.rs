//! Forgetting a person: two operators together, and then nobody finds the person, at whichever
//! process, while events, totals and proofs stay what they were.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use frikort_event_store::{DatabaseSessions, SessionPurpose};
use frikort_process::database;
use frikort_proto::{
    error::Failure,
    v1::{
        ChangeCprNumberRequest, CheckLedgerRequest, ConfirmForgettingRequest, ErrorReason,
        Forgetting, ForgettingState, GetAllowanceRequest, GetCardRequest, ListForgettingsRequest,
        PersonRef, RequestForgettingRequest, allowance_service_client::AllowanceServiceClient,
        check_ledger_response::Item, person_ref::Person,
        register_service_client::RegisterServiceClient,
        visitation_service_client::VisitationServiceClient,
    },
};
use frikort_register::{Confirmed, FORGOTTEN_WITHIN, Keys, Register};
use frikort_tests::{
    audit,
    client::{by_cpr, date, new_cpr, report},
    database::Database,
    pki::CALLERS,
    process::{Kind, Service, signal},
};
use futures::StreamExt;
use sqlx::PgPool;
use time::OffsetDateTime;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::{
    Secured,
    command::{frikort, told},
};

/// One operator more.
const SECOND: &str = r#"
    [[caller]]
    name = "vagten"
    role = "operator"
    certificate_san = "watch.test"
"#;

async fn secured() -> Secured {
    secured_with(|_| Vec::new()).await
}

/// Services that know a second operator, with more settings.
pub(super) async fn secured_with(
    more: impl FnOnce(&Path) -> Vec<(&'static str, String)>,
) -> Secured {
    Secured::start_with(&format!("{CALLERS}{SECOND}"), more).await
}

pub(super) async fn registers(secured: &Secured, name: &str) -> RegisterServiceClient<Channel> {
    RegisterServiceClient::new(channel(secured, &secured.ledger, name).await)
}

pub(super) async fn channel(secured: &Secured, service: &Service, name: &str) -> Channel {
    let shown = secured.authority.sign(&format!("{name}.test")).unwrap();
    secured.connect(service, Some(&shown)).await.unwrap()
}

fn by_id(person_id: &str) -> Option<PersonRef> {
    let person = Some(Person::PersonId(person_id.to_owned()));
    Some(PersonRef { person, ..PersonRef::default() })
}

pub(super) fn asking(person: Option<PersonRef>, reference: &str) -> RequestForgettingRequest {
    RequestForgettingRequest { person, reference: reference.to_owned() }
}

pub(super) fn confirming(forgetting: &Forgetting) -> ConfirmForgettingRequest {
    ConfirmForgettingRequest { request_id: forgetting.request_id.clone() }
}

fn reason(status: &Status) -> ErrorReason {
    Failure::from_status(status).unwrap().reason
}

/// Whether somebody was found; nobody is NO_CARD and nothing else.
pub(super) fn found<T>(answer: Result<T, Status>) -> bool {
    let refused = answer.err();
    assert!(refused.as_ref().is_none_or(|status| reason(status) == ErrorReason::NoCard));
    refused.is_none()
}

/// Two ledgers and two projectors, each with a connection of the operator's.
struct Everybody {
    cards: [VisitationServiceClient<Channel>; 2],
    allowances: [AllowanceServiceClient<Channel>; 2],
    position: i64,
    second: [Service; 2],
}

impl Everybody {
    async fn of(secured: &Secured) -> Self {
        let start = |kind| {
            let settings = secured.settings.clone();
            Service::start_with(kind, &secured.database, secured.dir.path(), settings)
        };
        let second = [start(Kind::Ledger).await.unwrap(), start(Kind::Projector).await.unwrap()];
        let to = |service| channel(secured, service, "operator");
        let cards = [to(&secured.ledger).await, to(&second[0]).await];
        let allowances = [to(&secured.projector).await, to(&second[1]).await];
        Self {
            cards: cards.map(VisitationServiceClient::new),
            allowances: allowances.map(AllowanceServiceClient::new),
            position: 0,
            second,
        }
    }

    /// Which of the four find somebody.
    async fn who_finds(&mut self, person: Option<PersonRef>) -> [bool; 4] {
        let card = |person| GetCardRequest { person };
        let allowance = |person| GetAllowanceRequest {
            person,
            year: 2022,
            min_position: self.position,
            ..GetAllowanceRequest::default()
        };
        let [one, two] = &mut self.cards;
        let [three, four] = &mut self.allowances;
        [
            found(one.get_card(card(person.clone())).await),
            found(two.get_card(card(person.clone())).await),
            found(three.get_allowance(allowance(person.clone())).await),
            found(four.get_allowance(allowance(person)).await),
        ]
    }
}

/// All there is of the history and of what is folded from it, and what proves it.
async fn history(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT e::text FROM ledger.event AS e UNION ALL
         SELECT t::text FROM projection.annual_total AS t UNION ALL
         SELECT p::text FROM projection.payment AS p UNION ALL
         SELECT c::text FROM projection.card AS c ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn rows(pool: &PgPool, person: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM register.person WHERE person_id = $1::uuid")
        .bind(person)
        .fetch_one(pool)
        .await
        .unwrap()
}

/// Somebody with a card, two CPR numbers and a payment; with the position of the last event.
async fn live(secured: &Secured, cprs: &[String; 2]) -> (String, i64) {
    let mut operator = secured.as_caller("operator").await;
    operator.set_limit(2022, 20_000).await.unwrap();
    let person = operator.grant(&cprs[0]).await.unwrap();
    let change = ChangeCprNumberRequest {
        person: by_cpr(&cprs[0]),
        municipality_code: "101".to_owned(),
        reference: "S-2".to_owned(),
        decision_date: Some(date(2022, 6, 1)),
        new_cpr_number: cprs[1].clone(),
        validate_only: false,
    };
    operator.visitations.change_cpr_number(change).await.unwrap();
    let paid = operator.payments.report_payment(report(&cprs[0], "1", 50_000)).await.unwrap();
    (person, paid.into_inner().position.unwrap().position)
}

/// The ledger's own check of its tables passes, and an export of them is verified offline.
async fn assert_proved(secured: &Secured) {
    let mut operator = secured.as_caller("operator").await;
    let items = operator.audits.check_ledger(CheckLedgerRequest::default()).await.unwrap();
    let items: Vec<_> = items.into_inner().collect().await;
    let Item::Concluded(end) = items.last().unwrap().clone().unwrap().item.unwrap() else {
        panic!("a check without an end")
    };
    assert_eq!((end.findings, end.not_checked), (0, Vec::new()));
    let path = |name: &str| secured.dir.path().join(name).display().to_string();
    let (export, keys) = (path("history"), path("signing.key.verifiers"));
    let (code, said) = told(&frikort(secured, Some("operator"), &["audit", "export", &export]));
    assert_eq!(code, Some(0), "{said}");
    let verify = ["audit", "verify", &export, "--key", &keys];
    let (code, said) = told(&frikort(secured, None, &verify));
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_person_is_found_by_nobody_and_the_history_stands() {
    let secured = secured().await;
    let pool = secured.database.pool().await.unwrap();
    let cprs = [new_cpr(), new_cpr()];
    let (person, position) = live(&secured, &cprs).await;
    let mut everybody = Everybody::of(&secured).await;
    everybody.position = position;
    let ways = [by_cpr(&cprs[0]), by_cpr(&cprs[1]), by_id(&person)];

    let mut one = registers(&secured, "operator").await;
    let asked = one.request_forgetting(asking(by_cpr(&cprs[0]), "SAG-1")).await.unwrap();
    let asked = asked.into_inner().forgetting.unwrap();
    assert_eq!(asked.state(), ForgettingState::Requested);
    assert_eq!((&asked.person_id, asked.requested_by.as_str()), (&person, "driften"));
    // The same again, by another way, is the same request.
    let again = one.request_forgetting(asking(by_id(&person), "SAG-1")).await.unwrap();
    assert_eq!(again.into_inner().forgetting.unwrap(), asked);
    // What is in memory everywhere a moment before, and was looked at.
    for _ in 0..2 {
        for way in &ways {
            assert_eq!(everybody.who_finds(way.clone()).await, [true; 4], "it is only asked for");
        }
    }
    let before = history(&pool).await;
    // One projector hears nothing of what happens now.
    signal(everybody.second[1].id(), "STOP").unwrap();
    let mut two = registers(&secured, "watch").await;
    let forgotten = two.confirm_forgetting(confirming(&asked)).await.unwrap().into_inner();
    signal(everybody.second[1].id(), "CONT").unwrap();
    for way in &ways {
        assert_eq!(everybody.who_finds(way.clone()).await, [false; 4]);
    }
    let forgotten = forgotten.forgetting.unwrap();
    assert_eq!(forgotten.state(), ForgettingState::Forgotten);
    assert_eq!(forgotten.confirmed_by, "vagten");
    assert_eq!(rows(&pool, &person).await, 0);
    let again = two.confirm_forgetting(confirming(&asked)).await.unwrap().into_inner();
    assert_eq!(again.forgetting.unwrap(), forgotten);
    assert_eq!(
        reason(&one.request_forgetting(asking(by_cpr(&cprs[0]), "SAG-1")).await.unwrap_err()),
        ErrorReason::NoCard
    );

    assert_eq!(history(&pool).await, before);
    // The same number, granted a card: somebody else, with another balance.
    let mut operator = secured.as_caller("operator").await;
    let newcomer = operator.grant(&cprs[0]).await.unwrap();
    assert_ne!(newcomer, person);
    let paid = operator.payments.report_payment(report(&cprs[0], "1", 70_000)).await.unwrap();
    let paid = paid.into_inner();
    assert!(!paid.replayed);
    assert_eq!(paid.allowance.unwrap().total_oere, 70_000);
    everybody.position = paid.position.unwrap().position;
    assert_eq!(everybody.who_finds(by_cpr(&cprs[0])).await, [true; 4]);
    assert_eq!(everybody.who_finds(by_cpr(&cprs[1])).await, [false; 4]);
    assert_eq!(everybody.who_finds(by_id(&person)).await, [false; 4]);

    let after = history(&pool).await;
    assert!(before.iter().all(|row| after.contains(row)), "something of the past has changed");
    assert_eq!(audit::assert_sound(&pool).await, everybody.position);
    audit::assert_projection_is_the_fold(&pool).await;
    assert_proved(&secured).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_two_operators_and_each_step_is_noted() {
    let secured = secured().await;
    let pool = secured.database.pool().await.unwrap();
    let cprs = [new_cpr(), new_cpr()];
    let (person, _) = live(&secured, &cprs).await;
    let mut one = registers(&secured, "operator").await;
    let nobody = one.request_forgetting(asking(by_cpr(&new_cpr()), "SAG-1")).await.unwrap_err();
    assert_eq!(reason(&nobody), ErrorReason::NoCard);
    let mut anothers = by_cpr(&cprs[0]);
    anothers.as_mut().unwrap().frikort_id = "99999".to_owned();
    let refused = one.request_forgetting(asking(anothers, "SAG-1")).await.unwrap_err();
    assert_eq!(reason(&refused), ErrorReason::NoCard, "N4");
    let refused = one.request_forgetting(asking(by_cpr(&cprs[0]), &cprs[0])).await.unwrap_err();
    assert_eq!(Failure::from_status(&refused).unwrap().fields[0].0, "reference", "W5");
    let asked = one.request_forgetting(asking(by_cpr(&cprs[1]), "SAG-1")).await.unwrap();
    let asked = asked.into_inner().forgetting.unwrap();

    let same = one.confirm_forgetting(confirming(&asked)).await.unwrap_err();
    assert_eq!(reason(&same), ErrorReason::SecondCallerRequired);
    for name in ["employer", "municipality", "auditor", "tax"] {
        let mut other = registers(&secured, name).await;
        let refused = other.confirm_forgetting(confirming(&asked)).await.unwrap_err();
        assert_eq!(reason(&refused), ErrorReason::NotAllowed, "{name}");
    }
    let mut two = registers(&secured, "watch").await;
    for (id, expected) in [
        (Uuid::from_u128(1).to_string(), ErrorReason::ForgettingNotFound),
        ("x".to_owned(), ErrorReason::InvalidField),
    ] {
        let unknown = ConfirmForgettingRequest { request_id: id };
        let refused = two.confirm_forgetting(unknown).await.unwrap_err();
        assert_eq!(reason(&refused), expected);
    }
    assert_eq!(rows(&pool, &person).await, 2);
    two.confirm_forgetting(confirming(&asked)).await.unwrap();
    assert_eq!(rows(&pool, &person).await, 0);
    let listed = two.list_forgettings(ListForgettingsRequest::default()).await.unwrap();
    let listed: Vec<_> = listed.into_inner().collect().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].as_ref().unwrap().forgetting.as_ref().unwrap().person_id, person);
    let waiting = ListForgettingsRequest { waiting_only: true };
    let waiting = two.list_forgettings(waiting).await.unwrap().into_inner();
    assert_eq!(waiting.count().await, 0);

    secured.until_noted().await;
    let noted: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT caller, method, person_id = $1::uuid FROM access.entry
         WHERE method LIKE 'RegisterService/%' ORDER BY at, lookup_id",
    )
    .bind(&person)
    .fetch_all(&pool)
    .await
    .unwrap();
    let expected = [
        ("driften", "RequestForgetting", false),
        ("driften", "RequestForgetting", true),
        ("driften", "RequestForgetting", true),
        ("driften", "ConfirmForgetting", true),
        ("vagten", "ConfirmForgetting", true),
        ("vagten", "ListForgettings", true),
    ];
    let expected =
        expected.map(|(who, method, of)| (who.into(), format!("RegisterService/{method}"), of));
    assert_eq!(noted, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_learn_that_somebody_was_forgotten_believes_nothing_that_it_remembers() {
    let secured = secured().await;
    let pool = secured.database.pool().await.unwrap();
    let cprs = [new_cpr(), new_cpr()];
    let (_, position) = live(&secured, &cprs).await;
    let mut everybody = Everybody::of(&secured).await;
    everybody.position = position;
    sqlx::query("REVOKE SELECT (number) ON register.forgotten FROM frikort_projector")
        .execute(&pool)
        .await
        .unwrap();
    let until = Instant::now() + FORGOTTEN_WITHIN;
    while Instant::now() < until {
        assert_eq!(everybody.who_finds(by_cpr(&cprs[0])).await, [true; 4]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut one = registers(&secured, "operator").await;
    let asked = one.request_forgetting(asking(by_cpr(&cprs[0]), "SAG-1")).await.unwrap();
    let asked = asked.into_inner().forgetting.unwrap();
    let mut two = registers(&secured, "watch").await;
    two.confirm_forgetting(confirming(&asked)).await.unwrap();
    assert_eq!(everybody.who_finds(by_cpr(&cprs[0])).await, [false; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_asks_confirms_and_lists() {
    let secured = secured().await;
    let cprs = [new_cpr(), new_cpr()];
    let (person, _) = live(&secured, &cprs).await;
    let run = |name, arguments: &[&str]| told(&frikort(&secured, Some(name), arguments));
    let request = ["forget", "request", "--cpr", &cprs[0], "--reference", "SAG-1"];
    let (code, said) = run("operator", &request);
    assert!(
        code == Some(0) && said.contains(&format!(",requested,{person},SAG-1,driften,")),
        "{said}"
    );
    let id = said.lines().nth(1).unwrap().split(',').next().unwrap().to_owned();
    let (code, said) = run("operator", &["forget", "confirm", &id]);
    assert!(code == Some(1) && said.contains("SECOND_CALLER_REQUIRED"), "{said}");
    let (code, said) = run("watch", &["forget", "list", "--waiting"]);
    assert!(code == Some(0) && said.contains(&id), "{said}");
    let (code, said) = run("watch", &["forget", "confirm", &id]);
    assert!(code == Some(0) && said.contains(",forgotten,") && said.contains(",vagten,"), "{said}");
    let (_, said) = run("operator", &["forget", "list"]);
    assert_eq!(said.lines().count(), 2, "{said}");
}

/// A register of its own on a database.
async fn register(database: &Database) -> Register {
    let keys = format!("find={} seal={}", "ab".repeat(32), "cd".repeat(32));
    let keys = Keys::parse(&keys).unwrap();
    let options = database::service(&database.url("frikort_ledger"), "frikort-test").unwrap();
    let sessions = DatabaseSessions::new(options);
    Register::start(
        sessions.clone(),
        sessions.pool(4, SessionPurpose::Calls),
        sessions.pool(4, SessionPurpose::Calls),
        keys.into(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_entered_meanwhile_does_not_lead_to_the_person_again() {
    let database = Database::create(1).await.unwrap();
    let pool = database.pool_as("frikort_ledger").await.unwrap();
    let register = register(&database).await;
    let number = || new_cpr().parse().unwrap();
    let cpr = number();
    let now = OffsetDateTime::UNIX_EPOCH;
    let person = register.find_or_enter(&cpr, &[0]).await.unwrap().unwrap();
    let reference = "SAG-1".parse().unwrap();
    let asked = register.request_forgetting(person.id, &reference, "one", now).await.unwrap();

    // Another process enters a number, and is not done yet.
    let mut entering = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO register.person
         SELECT '\\x01', person_id, partition, salt, sealed FROM register.person",
    )
    .execute(&mut *entering)
    .await
    .unwrap();
    let rows = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM register.person WHERE person_id = $1");
        count.bind(person.id.0).fetch_one(&pool).await.unwrap()
    };
    let confirm = register.confirm_forgetting(asked.clone(), "two", now);
    let finish = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(rows().await, 1, "it was to wait");
        entering.commit().await.unwrap();
    };
    let (confirmed, ()) = tokio::join!(confirm, finish);
    assert!(matches!(confirmed.unwrap(), Confirmed::Forgotten(_)));
    assert_eq!(rows().await, 0);
    // Nor does one that comes after.
    assert_eq!(register.enter_number(&person, &number()).await.unwrap(), None);
    assert_eq!(rows().await, 0);
    assert_eq!(register.find_cpr(&cpr).await.unwrap(), None);
    let newcomer = register.find_or_enter(&cpr, &[0]).await.unwrap().unwrap();
    assert_ne!(newcomer.id, person.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_confirms_at_once_and_again_forgets_once() {
    let database = Database::create(1).await.unwrap();
    let register = register(&database).await;
    let now = OffsetDateTime::UNIX_EPOCH;
    let cpr = new_cpr().parse().unwrap();
    let person = register.find_or_enter(&cpr, &[0]).await.unwrap().unwrap();
    let ask = async |reference: &str| {
        let reference = reference.parse().unwrap();
        register.request_forgetting(person.id, &reference, "one", now).await.unwrap()
    };
    let (first, second) = (ask("SAG-1").await, ask("SAG-2").await);
    assert_ne!(first.request_id, second.request_id);
    let confirm = |asked: &frikort_register::Forgetting, caller| {
        let asked = asked.clone();
        let register = &register;
        async move { register.confirm_forgetting(asked, caller, now).await.unwrap() }
    };
    assert_eq!(confirm(&first, "one").await, Confirmed::SameCaller);
    assert!(register.find_cpr(&cpr).await.unwrap().is_some());
    let done =
        futures::future::join_all(["two", "three", "four"].map(|caller| confirm(&first, caller)));
    let done = done.await;
    assert!(done.iter().all(|each| *each == done[0]), "{done:?}");
    assert!(matches!(confirm(&second, "two").await, Confirmed::Forgotten(_)));
    let pool = database.pool().await.unwrap();
    let numbers: Vec<(i64, Uuid)> =
        sqlx::query_as("SELECT number, request_id FROM register.forgotten ORDER BY number")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(numbers, [(1, first.request_id), (2, second.request_id)]);
}
