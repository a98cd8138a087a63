//! Whatever was answered then is answered again: every plain answer while things happen is asked
//! for later, by position and by instant, and must be the same to the letter.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use frikort_proto::{
    Timestamp,
    v1::{
        AnnualLimit, AsOf, BatchGetAllowancesRequest, BatchGetAllowancesResponse,
        GetAllowanceRequest, GetAllowanceResponse, GetStatementRequest, GetStatementResponse,
        LedgerPosition, SetAnnualLimitRequest, allowance_service_client::AllowanceServiceClient,
        as_of::KnownAt,
    },
};
use frikort_tests::{
    audit::is_at_rest,
    chance::Chance,
    client::{Ledger, by_cpr, cancel, correct, date, new_cpr, paid_on, report},
    stack::Stack,
};
use sqlx::PgPool;
use tonic::transport::Channel;

use super::{at, on};

/// What happens, one after the other.
const STEPS: usize = 70;

const YEARS: [i32; 2] = [2022, 2023];

/// What one person was told after a step.
struct Answer {
    cpr: String,
    allowances: Vec<GetAllowanceResponse>,
    statement: GetStatementResponse,
}

/// What all were told after a step, and when the step was recorded.
struct Moment {
    time: Timestamp,
    answers: Vec<Answer>,
    batch: BatchGetAllowancesResponse,
}

/// A limit of 2022, where it was set.
struct Limit {
    places: Vec<LedgerPosition>,
    month: i32,
    oere: i64,
}

struct World {
    chance: Chance,
    ledger: Ledger,
    allowances: AllowanceServiceClient<Channel>,
    persons: Vec<String>,
    /// Person, reference, revision of the payments that are not cancelled.
    payments: Vec<(usize, String, i32)>,
    limits: Vec<Limit>,
    heads: BTreeMap<i32, i64>,
}

impl World {
    fn below(&mut self, bound: i64) -> i64 {
        i64::try_from(self.chance.below(u64::try_from(bound).unwrap())).unwrap()
    }

    fn small(&mut self, bound: i32) -> i32 {
        i32::try_from(self.below(bound.into())).unwrap()
    }

    /// Something happens.
    async fn step(&mut self, number: usize) {
        let (year, month) = (2022 + self.small(2), 1 + self.small(12));
        let facts = paid_on(date(year, month, 10), 100 + self.below(900_000));
        let chosen = self.below(i64::try_from(self.payments.len()).unwrap().max(1));
        let chosen = usize::try_from(chosen).unwrap();
        let place = match self.below(10) {
            0 => {
                let kroner = 15_000 + self.below(20_000);
                self.set_limit(kroner).await;
                return;
            }
            1..=3 if !self.payments.is_empty() => {
                let (person, reference, revision) = &mut self.payments[chosen];
                let request = correct(&self.persons[*person], reference, *revision, facts);
                *revision += 1;
                self.ledger.payments.correct_payment(request).await.unwrap().into_inner().position
            }
            4 if !self.payments.is_empty() => {
                let (person, reference, revision) = self.payments.remove(chosen);
                let request = cancel(&self.persons[person], &reference, revision);
                self.ledger.payments.cancel_payment(request).await.unwrap().into_inner().position
            }
            _ => {
                let person = number % self.persons.len();
                let reference = format!("p-{number}");
                let mut request = report(&self.persons[person], &reference, 0);
                request.facts = Some(facts);
                self.payments.push((person, reference, 1));
                self.ledger.payments.report_payment(request).await.unwrap().into_inner().position
            }
        };
        assert!(place.is_some());
    }

    async fn set_limit(&mut self, kroner: i64) -> Vec<LedgerPosition> {
        let month = if self.below(2) == 0 { 1 } else { 7 };
        let limit = AnnualLimit {
            year: 2022,
            limit_oere: kroner * 100,
            in_force_date: Some(date(2022, month, 1)),
            citation: "for a test".to_owned(),
        };
        let request = SetAnnualLimitRequest { limit: Some(limit), validate_only: false };
        let told = self.ledger.policies.set_annual_limit(request).await.unwrap().into_inner();
        let places = told.positions.clone();
        self.limits.push(Limit { places, month, oere: kroner * 100 });
        told.positions
    }

    /// Waits until a limit that was changed has reached everybody, since that is recorded too; when
    /// the last event was recorded.
    async fn rest(&mut self, pool: &PgPool) -> Timestamp {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_at_rest(pool).await {
            assert!(Instant::now() < deadline, "it does not come to rest");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let heads: Vec<(i32, i64, i64)> = sqlx::query_as(
            "SELECT partition, position, (extract(epoch FROM recorded_at) * 1000000)::bigint
             FROM ledger.partition_head",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        self.heads.extend(heads.iter().map(|(partition, position, _)| (*partition, *position)));
        let micros = heads.iter().map(|(.., micros)| *micros).max().unwrap();
        let nanos = i32::try_from(micros % 1_000_000 * 1000).unwrap();
        Timestamp { seconds: micros / 1_000_000, nanos }
    }

    /// Asks about everybody, as things are now.
    async fn ask(&mut self, time: Timestamp) -> Moment {
        let mut answers = Vec::new();
        for cpr in &self.persons {
            let statement = |min_position| GetStatementRequest {
                person: by_cpr(cpr),
                min_position,
                hours_through: Some(date(2023, 6, 30)),
                ..GetStatementRequest::default()
            };
            // Which partition it is; then all that was recorded there.
            let told = self.allowances.get_statement(statement(1)).await.unwrap().into_inner();
            let min_position = self.heads[&told.position.unwrap().partition];
            let told = self.allowances.get_statement(statement(min_position)).await.unwrap();
            let mut of_years = Vec::new();
            for year in YEARS {
                let person = by_cpr(cpr);
                let request = GetAllowanceRequest { person, year, min_position, as_of: None };
                of_years.push(self.allowances.get_allowance(request).await.unwrap().into_inner());
            }
            let (cpr, statement) = (cpr.clone(), told.into_inner());
            answers.push(Answer { cpr, allowances: of_years, statement });
        }
        let batch = self.batch(None).await;
        Moment { time, answers, batch }
    }

    async fn batch(&mut self, as_of: Option<AsOf>) -> BatchGetAllowancesResponse {
        let mut persons: Vec<_> = self.persons.iter().filter_map(|cpr| by_cpr(cpr)).collect();
        persons.extend(by_cpr(&new_cpr()));
        let min_position = self.heads.values().copied().max().unwrap();
        let request = BatchGetAllowancesRequest { persons, year: 2022, min_position, as_of };
        self.allowances.batch_get_allowances(request).await.unwrap().into_inner()
    }

    /// The limit of 2022 as a partition knew it at `place`, in force on a day of `month`.
    fn limit(&self, place: &LedgerPosition, month: i32) -> i64 {
        let mut in_force = BTreeMap::new();
        for limit in &self.limits {
            let set = limit.places.iter().find(|at| at.partition == place.partition).unwrap();
            if set.position <= place.position && limit.month <= month {
                in_force.insert(limit.month, limit.oere);
            }
        }
        *in_force.last_key_value().unwrap().1
    }
}

async fn world(stack: &Stack) -> World {
    let mut ledger = stack.ledger().await.unwrap();
    let allowances = stack.allowances().await.unwrap();
    ledger.set_limit(2023, 20_000).await.unwrap();
    let persons: Vec<String> = (0..4).map(|_| new_cpr()).collect();
    let mut world = World {
        chance: Chance::printed(),
        ledger,
        allowances,
        persons,
        payments: Vec::new(),
        limits: Vec::new(),
        heads: BTreeMap::new(),
    };
    // In force from January, so that every month has one.
    while world.limits.iter().all(|limit| limit.month != 1) {
        let places = world.set_limit(20_000).await;
        world.heads.extend(places.iter().map(|at| (at.partition, at.position)));
    }
    for cpr in world.persons.clone() {
        let granted = world.ledger.visitations.grant_card(frikort_tests::client::grant(&cpr)).await;
        let at = granted.unwrap().into_inner().position.unwrap();
        world.heads.insert(at.partition, at.position);
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_then_is_answered_again() {
    let stack = Stack::start(2).await.unwrap();
    let mut world = world(&stack).await;
    let mut moments = Vec::new();
    let pool = stack.database.pool().await.unwrap();
    for number in 0..STEPS {
        world.step(number).await;
        let time = world.rest(&pool).await;
        moments.push(world.ask(time).await);
    }
    for moment in &moments {
        for answer in &moment.answers {
            let position = answer.statement.position.unwrap().position;
            for as_of in [at(position), on(moment.time)] {
                let request = GetStatementRequest {
                    person: by_cpr(&answer.cpr),
                    hours_through: Some(date(2023, 6, 30)),
                    as_of: Some(as_of),
                    ..GetStatementRequest::default()
                };
                let told = world.allowances.get_statement(request).await.unwrap().into_inner();
                assert_eq!(told, answer.statement, "{as_of:?}");
                for (then, year) in answer.allowances.iter().zip(YEARS) {
                    let request = super::allowance(&answer.cpr, year, as_of);
                    let told = world.allowances.get_allowance(request).await.unwrap().into_inner();
                    assert_eq!(told, *then, "{as_of:?}");
                }
            }
            assert_adds_up(&mut world, answer).await;
        }
        assert_eq!(world.batch(Some(on(moment.time))).await, moment.batch);
    }
}

/// Paid through a day, as known then: what the payments known then add up to, up to that day.
async fn assert_adds_up(world: &mut World, answer: &Answer) {
    let place = answer.statement.position.unwrap();
    let month = 1 + world.small(12);
    let day = date(2022, month, 28);
    let known_at = Some(KnownAt::KnownPosition(place.position));
    let as_of = AsOf { known_at, paid_through: Some(day) };
    let counts = answer.statement.payments.iter().filter(|payment| {
        let date = payment.attribution_date.unwrap();
        !payment.cancelled && date.year == 2022 && date.month <= month
    });
    let (total, count) =
        counts.fold((0, 0), |(total, count), payment| (total + payment.amount_oere, count + 1));
    let limit = world.limit(&place, month);
    let request = super::allowance(&answer.cpr, 2022, as_of);
    let told = world.allowances.get_allowance(request).await.unwrap().into_inner();
    assert_eq!(told.position, Some(place));
    let told = told.allowance.unwrap();
    let expected = (limit, total, limit.min(total), count);
    let got = (told.limit_oere, told.total_oere, told.used_oere, told.payment_count);
    assert_eq!(got, expected, "at {place:?}, through {day:?}");

    let request = super::statement(&answer.cpr, as_of);
    let stated = world.allowances.get_statement(request).await.unwrap().into_inner();
    let sum = |part: fn(&frikort_proto::v1::Payment) -> i64| -> i64 {
        stated.payments.iter().map(part).sum()
    };
    assert_eq!(sum(|payment| payment.exempt_oere), told.used_oere);
    assert_eq!(sum(|payment| payment.taxable_oere), told.taxable_oere);
    let months: i64 = stated.months.iter().map(|month| month.exempt_oere).sum();
    assert_eq!(months, told.used_oere);
}
