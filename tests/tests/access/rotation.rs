//! The register's keys rotated while two ledgers and a projector are at work: from the first step to
//! the last without a restart, and without a call that fails or counts twice.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use frikort::postgres::OWNER;
use frikort_event_store::{DatabaseSessions, SessionPurpose};
use frikort_process::database;
use frikort_proto::{
    error::Failure,
    v1::{
        ErrorReason, GetAllowanceRequest, GetCardRequest, PersonRef, ReportPaymentRequest,
        ReportPaymentsRequest, RunOptions, RunTotals,
        allowance_service_client::AllowanceServiceClient,
        report_payments_response::Result as Became,
    },
};
use frikort_register::{InUse, Keys, Register};
use frikort_tests::{
    audit,
    client::{Ledger, by_cpr, new_cpr, report},
    database::Database,
    process::{Kind, Service, program},
};
use futures::{StreamExt, future::join_all, stream::iter};
use sqlx::PgPool;
use tokio::{process::Command, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::{
    Secured,
    command::told,
    forgetting::{asking, channel, confirming, found, registers, secured_with},
};

/// How soon every service has to have what a key file says.
const NOTICED: Duration = Duration::from_secs(30);

/// Numbers that are entered at once through both ledgers.
const RACES: usize = 40;

/// As a ledger of an earlier build has made it: what finds makes the tags too.
fn old_text() -> String {
    format!("find={}\nseal={}\n", "ab".repeat(32), "cd".repeat(32))
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + NOTICED;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// `ledger register-keys` on a file, as the database's owner.
fn register_keys(database: &Database, file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("ledger").unwrap());
    command.arg("register-keys").args(arguments).env("FRIKORT_KEYS_FILE", file);
    command.env("DATABASE_URL", database.url(OWNER)).env("RUST_BACKTRACE", "0").kill_on_drop(true);
    command
}

/// How it ended, and what it said; never a key.
async fn run(database: &Database, file: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output: Output = register_keys(database, file, arguments).output().await.unwrap();
    let (code, said) = told(&output);
    let longest = said.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max();
    assert!(longest < Some(64), "{said}");
    (code, said)
}

/// The fingerprints of the keys that find, in the order of the file.
async fn finding(database: &Database, file: &Path) -> Vec<String> {
    let (code, said) = run(database, file, &["show"]).await;
    assert_eq!(code, Some(0), "{said}");
    let line = said.lines().find_map(|line| line.strip_prefix("find "));
    line.unwrap().split(' ').map(str::to_owned).collect()
}

/// Waits until a service says last that it finds by these keys.
async fn until_used(service: &Service, keys: &[String]) {
    let told = format!("find=\"{}\"", keys.join(" "));
    until(&told, async || {
        let log = service.logged().unwrap();
        log.lines().rfind(|line| line.contains("keys in use")).unwrap().contains(&told)
    })
    .await;
}

fn reason(status: &Status) -> ErrorReason {
    Failure::from_status(status).unwrap().reason
}

fn with_frikort_id(cpr: &str, reference: &str, id: &str) -> ReportPaymentRequest {
    let person = by_cpr(cpr).map(|person| PersonRef { frikort_id: id.to_owned(), ..person });
    ReportPaymentRequest { person, ..report(cpr, reference, 100) }
}

/// A payment to the holder of a card, known by the Frikort-ID beside; another one is nobody's (N4).
async fn pay(ledger: &mut Ledger, cpr: &str, reference: &str) {
    let right = with_frikort_id(cpr, reference, "12345");
    let paid = ledger.payments.report_payment(right).await.unwrap().into_inner();
    assert!(!paid.replayed);
    let wrong = with_frikort_id(cpr, &format!("{reference} wrong"), "54321");
    let refused = ledger.payments.report_payment(wrong).await.unwrap_err();
    assert_eq!(reason(&refused), ErrorReason::NoCard);
}

/// What one caller has done: who was granted a card, by which number, and how many events it made.
#[derive(Default)]
struct Lived {
    persons: Vec<(String, String)>,
    events: i64,
}

/// Grants cards to new persons, pays them and others again, and asks for their allowances, until it is
/// told to stop. Every call is answered, and none is a repetition.
async fn live(
    mut ledger: Ledger,
    mut allowances: AllowanceServiceClient<Channel>,
    stop: CancellationToken,
) -> Lived {
    let mut lived = Lived::default();
    while !stop.is_cancelled() {
        let cpr = new_cpr();
        let granted = ledger.visitations.grant_card(frikort_tests::client::grant(&cpr)).await;
        let granted = granted.unwrap().into_inner();
        assert!(!granted.replayed);
        pay(&mut ledger, &cpr, "1").await;
        lived.events += 2;
        let turn = lived.persons.len();
        if let Some((earlier, _)) = lived.persons.get(turn / 2) {
            pay(&mut ledger, earlier, &format!("again {turn}")).await;
            lived.events += 1;
        }
        let asked = GetAllowanceRequest {
            person: by_cpr(&cpr),
            year: 2022,
            min_position: granted.position.unwrap().position,
            ..GetAllowanceRequest::default()
        };
        allowances.get_allowance(asked).await.unwrap();
        lived.persons.push((cpr, granted.card.unwrap().person_id));
    }
    lived
}

/// Two ledgers and a projector; the second ledger has a key file of its own.
struct Ground {
    secured: Secured,
    second: Service,
    second_dir: tempfile::TempDir,
    pool: PgPool,
}

impl Ground {
    async fn start() -> Self {
        let secured = secured_with(|dir| {
            fs::write(dir.join("register.keys"), old_text()).unwrap();
            fs::set_permissions(dir.join("register.keys"), fs::Permissions::from_mode(0o600))
                .unwrap();
            Vec::new()
        })
        .await;
        let second_dir = tempfile::tempdir().unwrap();
        fs::write(second_dir.path().join("register.keys"), old_text()).unwrap();
        let second = another(&secured, second_dir.path()).await;
        let pool = secured.database.pool().await.unwrap();
        Self { secured, second, second_dir, pool }
    }

    fn keys(&self) -> PathBuf {
        self.secured.dir.path().join("register.keys")
    }

    async fn step(&self, arguments: &[&str]) -> (Option<i32>, String) {
        run(&self.secured.database, &self.keys(), arguments).await
    }

    /// Gives the second ledger the keys that the others have, whole.
    fn hand_over(&self) {
        let (dir, to) = (self.second_dir.path(), self.second_dir.path().join("register.keys"));
        fs::copy(self.keys(), dir.join("new")).unwrap();
        fs::rename(dir.join("new"), to).unwrap();
    }

    async fn until_used(&self, keys: &[String]) {
        for service in [&self.secured.ledger, &self.secured.projector, &self.second] {
            until_used(service, keys).await;
        }
    }

    async fn ledgers(&self) -> [Ledger; 2] {
        let to = |service| channel(&self.secured, service, "operator");
        [to(&self.secured.ledger).await, to(&self.second).await].map(Ledger::new)
    }

    async fn allowances(&self) -> AllowanceServiceClient<Channel> {
        let to = channel(&self.secured, &self.secured.projector, "operator").await;
        AllowanceServiceClient::new(to)
    }

    /// Rows that are still found by what they were found by before.
    async fn unchanged(&self, tags: &[Vec<u8>]) -> usize {
        let rows = "SELECT count(*) FROM register.person WHERE cpr_tag = ANY($1)";
        let count: i64 = sqlx::query_scalar(rows).bind(tags).fetch_one(&self.pool).await.unwrap();
        usize::try_from(count).unwrap()
    }
}

/// One ledger more, with the keys in `dir`. It signs nothing.
async fn another(secured: &Secured, dir: &Path) -> Service {
    let mut settings = secured.settings.clone();
    settings.push(("FRIKORT_SIGNING_KEY_FILE", String::new()));
    Service::start_with(Kind::Ledger, &secured.database, dir, settings).await.unwrap()
}

async fn sent(ledger: &Ledger, run: RunOptions, lines: &[ReportPaymentRequest]) -> RunTotals {
    let options = ReportPaymentsRequest { run: Some(run), ..ReportPaymentsRequest::default() };
    let items = lines.iter().cloned().map(|payment| ReportPaymentsRequest {
        payment: Some(payment),
        ..ReportPaymentsRequest::default()
    });
    let messages: Vec<_> = std::iter::once(options).chain(items).collect();
    let results = ledger.payments.clone().report_payments(iter(messages)).await.unwrap();
    let results: Vec<_> = results.into_inner().collect().await;
    match results.into_iter().last().unwrap().unwrap().result.unwrap() {
        Became::Totals(totals) => totals,
        other => panic!("a run without totals: {other:?}"),
    }
}

/// The tags of all rows there are, ascending.
async fn tags(pool: &PgPool) -> Vec<Vec<u8>> {
    let rows = "SELECT cpr_tag FROM register.person ORDER BY cpr_tag";
    sqlx::query_scalar(rows).fetch_all(pool).await.unwrap()
}

/// Grants cards to the same new persons through both ledgers at once: the persons' ids.
async fn race(ledgers: &[Ledger; 2], cprs: &[String]) -> Vec<String> {
    let calls = cprs.iter().flat_map(|cpr| {
        ledgers.iter().map(move |ledger| {
            let mut ledger = ledger.clone();
            async move { ledger.grant(cpr).await.unwrap() }
        })
    });
    let ids = join_all(calls).await;
    let both = ids.chunks(2);
    both.map(|both| {
        assert_eq!(both[0], both[1], "one number leads to two persons");
        both[0].clone()
    })
    .collect()
}

/// Kills the command that enters rows anew when it has done some and not all of `old`.
async fn retag_and_kill(ground: &Ground, old: &[Vec<u8>]) {
    // It comes to a row that somebody else holds, and waits.
    let mut holding = ground.pool.begin().await.unwrap();
    let hold = "SELECT 1 FROM register.person WHERE cpr_tag = $1 FOR UPDATE";
    sqlx::query(hold).bind(&old[old.len() / 2]).execute(&mut *holding).await.unwrap();
    let keys = ground.keys();
    let mut retag = register_keys(&ground.secured.database, &keys, &["retag", "--page", "5"]);
    let mut retag = retag.spawn().unwrap();
    until("it waits for a row", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND application_name = 'frikort-retag' AND wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&ground.pool).await.unwrap() == 1
    })
    .await;
    retag.kill().await.unwrap();
    holding.rollback().await.unwrap();
    let left = ground.unchanged(old).await;
    assert!((1..old.len()).contains(&left), "{left} of {} are left", old.len());
}

/// Forgets somebody, whom then nobody finds; and grants a card to somebody new of the same number.
async fn forget(ground: &Ground, cpr: &str) -> String {
    let mut one = registers(&ground.secured, "operator").await;
    let asked = one.request_forgetting(asking(by_cpr(cpr), "SAG-1")).await.unwrap();
    let asked = asked.into_inner().forgetting.unwrap();
    let mut two = registers(&ground.secured, "watch").await;
    two.confirm_forgetting(confirming(&asked)).await.unwrap();
    let mut ledgers = ground.ledgers().await;
    for ledger in &mut ledgers {
        let card = GetCardRequest { person: by_cpr(cpr) };
        assert!(!found(ledger.visitations.get_card(card).await));
    }
    let newcomer = ledgers[1].grant(cpr).await.unwrap();
    assert_ne!(newcomer, asked.person_id);
    newcomer
}

/// Everybody is found by number, as who they are, at each service that is asked anew.
async fn assert_all_found(ground: &Ground, persons: &[(String, String)]) {
    let (mut ledgers, mut allowances) = (ground.ledgers().await, ground.allowances().await);
    for (cpr, id) in persons {
        for ledger in &mut ledgers {
            let card = GetCardRequest { person: by_cpr(cpr) };
            let card = ledger.visitations.get_card(card).await.unwrap().into_inner();
            assert_eq!(&card.card.unwrap().person_id, id);
        }
        let asked = GetAllowanceRequest {
            person: by_cpr(cpr),
            year: 2022,
            ..GetAllowanceRequest::default()
        };
        let told = allowances.get_allowance(asked).await.unwrap().into_inner();
        assert_eq!(&told.allowance.unwrap().person_id, id);
    }
}

/// A register of its own, of a process with these keys.
fn register(database: &Database, keys: &str) -> Register {
    let options = database::service(&database.url("frikort_ledger"), "frikort-test").unwrap();
    let sessions = DatabaseSessions::new(options);
    let keys = InUse::from(Keys::parse(keys).unwrap());
    Register::start(
        sessions.clone(),
        sessions.pool(4, SessionPurpose::Calls),
        sessions.pool(4, SessionPurpose::Calls),
        keys,
    )
}

/// With the old keys alone nobody is found; with the new ones alone everybody.
async fn assert_old_keys_are_useless(ground: &Ground, persons: &[(String, String)]) {
    let new = fs::read_to_string(ground.keys()).unwrap();
    let register = |keys: &str| register(&ground.secured.database, keys);
    let (old, new) = (register(&old_text()), register(&new));
    let cprs: Vec<_> = persons.iter().map(|(cpr, _)| cpr.parse().unwrap()).collect();
    assert!(old.find_cprs(&cprs).await.unwrap().iter().all(Option::is_none));
    let persons_now = new.find_cprs(&cprs).await.unwrap();
    for (person, (_, id)) in persons_now.iter().zip(persons) {
        let person = person.unwrap();
        assert_eq!(&person.id.to_string(), id);
        assert!(new.birth_date(person.id).await.unwrap().is_some());
        assert!(old.birth_date(person.id).await.unwrap().is_none());
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("register.keys"), old_text()).unwrap();
    let service = another(&ground.secured, dir.path()).await;
    let mut ledger = Ledger::new(channel(&ground.secured, &service, "operator").await);
    for (cpr, _) in persons.iter().take(20) {
        let card = GetCardRequest { person: by_cpr(cpr) };
        assert!(!found(ledger.visitations.get_card(card).await));
    }
}

/// Callers at both ledgers, at work until they are told to stop.
struct Callers {
    stop: CancellationToken,
    lives: Vec<JoinHandle<Lived>>,
}

impl Callers {
    async fn begin(ground: &Ground) -> Self {
        let stop = CancellationToken::new();
        let mut lives = Vec::new();
        for ledger in ground.ledgers().await {
            let allowances = ground.allowances().await;
            lives.push(tokio::spawn(live(ledger, allowances, stop.clone())));
        }
        Self { stop, lives }
    }

    async fn end(self) -> Lived {
        self.stop.cancel();
        let mut all = Lived::default();
        for lived in join_all(self.lives).await {
            let Lived { persons, events } = lived.unwrap();
            assert!(!persons.is_empty());
            all.persons.extend(persons);
            all.events += events;
        }
        all
    }
}

/// Steps 1 and 2: the new keys are there, and then used. Between two ledgers of which one has taken a
/// step and the other has not, one number is entered as one person.
async fn add_and_use(ground: &Ground, cprs: &[String]) -> (Vec<String>, Vec<Vec<u8>>) {
    let old = finding(&ground.secured.database, &ground.keys()).await;
    let (code, said) = ground.step(&["add"]).await;
    assert_eq!(code, Some(0), "{said}");
    let keys = finding(&ground.secured.database, &ground.keys()).await;
    assert_eq!((keys.len(), &keys[..1]), (2, &old[..]));
    let (code, said) = ground.step(&["add"]).await;
    assert!(code == Some(1) && said.contains("under way"), "{said}");

    until_used(&ground.secured.ledger, &keys).await;
    let mut persons = race(&ground.ledgers().await, &cprs[..RACES]).await;
    ground.hand_over();
    ground.until_used(&keys).await;
    let old_tags = tags(&ground.pool).await;

    let (code, said) = ground.step(&["use", &keys[1]]).await;
    assert_eq!(code, Some(0), "{said}");
    let reversed = [keys[1].clone(), keys[0].clone()];
    until_used(&ground.secured.ledger, &reversed).await;
    persons.extend(race(&ground.ledgers().await, &cprs[RACES..]).await);
    ground.hand_over();
    ground.until_used(&reversed).await;
    let rows = tags(&ground.pool).await.len();
    assert!(ground.unchanged(&old_tags).await == old_tags.len() && rows > old_tags.len());
    (persons, old_tags)
}

/// Step 3, killed in the middle and run again, and step 4, which is refused before that.
async fn retag_and_drop(ground: &Ground, old_tags: &[Vec<u8>]) {
    let keys = finding(&ground.secured.database, &ground.keys()).await;
    let (code, said) = ground.step(&["drop", &keys[1]]).await;
    assert!(code == Some(1) && said.contains("need that key"), "{said}");
    let (code, said) = ground.step(&["drop", &keys[0]]).await;
    assert!(code == Some(1) && said.contains("`use` another one before"), "{said}");
    let (code, said) = ground.step(&["retag", "--page", "5"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(ground.unchanged(old_tags).await, 0);
    let (code, said) = ground.step(&["retag"]).await;
    assert!(code == Some(0) && said.contains("0 rows entered anew"), "{said}");
    let (code, said) = ground.step(&["drop", &keys[1]]).await;
    assert_eq!(code, Some(0), "{said}");
    ground.hand_over();
    ground.until_used(&keys[..1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_under_load_without_a_failed_or_doubled_call() {
    let mut ground = Ground::start().await;
    let mut ledgers = ground.ledgers().await;
    ledgers[0].set_limit(2022, 20_000).await.unwrap();
    let cprs: Vec<String> = (0..2 * RACES).map(|_| new_cpr()).collect();
    let early = [new_cpr(), new_cpr()];
    let early_id = ledgers[0].grant(&early[0]).await.unwrap();
    ledgers[1].grant(&early[1]).await.unwrap();
    let lines = [report(&early[0], "planned", 100), report(&early[0], "planned too", 200)];
    let plan = RunOptions { validate_only: true, plan_token: String::new() };
    let plan_token = sent(&ledgers[0], plan, &lines).await.plan_token;
    let callers = Callers::begin(&ground).await;

    let (raced, old_tags) = add_and_use(&ground, &cprs).await;
    retag_and_kill(&ground, &old_tags).await;
    let newcomer = forget(&ground, &early[1]).await;
    retag_and_drop(&ground, &old_tags).await;

    let Lived { mut persons, events } = callers.end().await;
    persons.extend(cprs.into_iter().zip(raced));
    let [one, two] = early;
    persons.extend([(one, early_id), (two, newcomer)]);
    // Nothing in memory: the limits, grants and rows are what they would be without it.
    for service in [&mut ground.secured.ledger, &mut ground.secured.projector, &mut ground.second] {
        service.kill_and_restart().unwrap();
        service.wait_until_ready().await.unwrap();
    }
    let mut ledgers = ground.ledgers().await;
    let commit = RunOptions { validate_only: false, plan_token };
    assert_eq!(sent(&ledgers[1], commit, &lines).await.recorded, 2);
    assert_all_found(&ground, &persons).await;
    assert_old_keys_are_useless(&ground, &persons).await;
    for (cpr, _) in &persons[..5] {
        pay(&mut ledgers[0], cpr, "last").await;
    }
    let expected = i64::try_from(2 * RACES).unwrap() + events + 1 + 3 + 2 + 5;
    assert_eq!(audit::assert_sound(&ground.pool).await, expected);
    assert_eq!(tags(&ground.pool).await.len(), persons.len());
    assert_keys_are_kept(&ground);
}

/// The file is nobody else's still, and no log has shown a key.
fn assert_keys_are_kept(ground: &Ground) {
    let mode = fs::metadata(ground.keys()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let keys = old_text() + &fs::read_to_string(ground.keys()).unwrap();
    for service in [&ground.secured.ledger, &ground.secured.projector, &ground.second] {
        let log = service.logged().unwrap();
        for word in keys.split_ascii_whitespace() {
            assert!(!log.contains(word.split_once('=').unwrap().1), "a key is in the log");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_entered_at_once_under_two_keys_is_one_person() {
    let database = Database::create(1).await.unwrap();
    let [a, b, seal] = ["ab", "cd", "ef"].map(|byte| byte.repeat(32));
    let rest = format!("seal={seal} tag={a}");
    let one = register(&database, &format!("find={a} find={b} {rest}"));
    let two = register(&database, &format!("find={b} find={a} {rest}"));
    for _ in 0..200 {
        let cpr = new_cpr().parse().unwrap();
        let (by_one, by_two) =
            tokio::join!(one.find_or_enter(&cpr, &[0]), two.find_or_enter(&cpr, &[0]));
        assert_eq!(by_one.unwrap().unwrap().id, by_two.unwrap().unwrap().id);
    }
    let pool = database.pool().await.unwrap();
    assert_eq!(tags(&pool).await.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_key_unseals_is_named_and_the_rest_is_done() {
    let database = Database::create(1).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("register.keys");
    fs::write(&file, old_text()).unwrap();
    let lost = format!("find={} seal={}", "ab".repeat(32), "99".repeat(32));
    let (old, lost) = (register(&database, &old_text()), register(&database, &lost));
    let enter = async |register: &Register| {
        let (cpr, partitions) = (new_cpr().parse().unwrap(), [0]);
        register.find_or_enter(&cpr, &partitions).await.unwrap().unwrap().id.to_string()
    };
    let mut persons = Vec::new();
    for _ in 0..20 {
        persons.push(enter(&old).await);
    }
    let unreadable = enter(&lost).await;
    assert_eq!(run(&database, &file, &["add"]).await.0, Some(0));
    let keys = finding(&database, &file).await;
    assert_eq!(run(&database, &file, &["use", &keys[1]]).await.0, Some(0));
    // No service may change a row.
    let mut as_service = register_keys(&database, &file, &["retag"]);
    as_service.env("DATABASE_URL", database.url("frikort_ledger"));
    let (code, said) = told(&as_service.output().await.unwrap());
    assert!(code == Some(1) && said.contains("permission denied"), "{said}");
    let (code, said) = run(&database, &file, &["retag", "--page", "3"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("20 rows entered anew, of 21"), "{said}");
    assert!(said.contains(&format!("{unreadable}: ")), "{said}");
    assert!(persons.iter().all(|person| !said.contains(person)), "{said}");
    let (code, said) = run(&database, &file, &["drop", &keys[0]]).await;
    assert!(code == Some(1) && said.contains(&unreadable), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_a_command_whose_failure_is_told_and_does_no_harm_later() {
    let database = Database::create(1).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("printed.keys");
    let start = async |kind, command: String| {
        let settings = vec![("FRIKORT_KEYS_COMMAND", command)];
        Service::start_with(kind, &database, dir.path(), settings).await
    };
    let print = format!("cat {}", file.display());
    let failed = format!("{:#}", start(Kind::Ledger, print.clone()).await.unwrap_err());
    assert!(failed.contains("keys failed (exit status: 1)"), "{failed}");
    fs::write(&file, old_text()).unwrap();
    let ledger = start(Kind::Ledger, print.clone()).await.unwrap();
    let projector = start(Kind::Projector, print).await.unwrap();
    let mut client = Ledger::new(ledger.channel().await.unwrap());
    client.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    client.grant(&cpr).await.unwrap();

    fs::remove_file(&file).unwrap();
    for service in [&ledger, &projector] {
        until("the failure is told", async || {
            service.logged().unwrap().contains("stays in use, and reading is tried again")
        })
        .await;
    }
    pay(&mut client, &cpr, "meanwhile").await;
    let (a, b, seal) = ("ab".repeat(32), "ef".repeat(32), "cd".repeat(32));
    fs::write(&file, format!("find={b} find={a} seal={seal} tag={a}")).unwrap();
    for service in [&ledger, &projector] {
        until("they are read anew", async || service.logged().unwrap().contains("read anew")).await;
        assert!(!service.logged().unwrap().contains(&a));
    }
    pay(&mut client, &cpr, "after").await;
    client.grant(&new_cpr()).await.unwrap();
    assert!(!dir.path().join("register.keys").exists());
}
