//! A database that was restored from a dump has the roles, owners and rights of a new one once
//! `ledger migrate` has run, and the services work on it. The commands are those of
//! `deploy/restore.md`, as they are written there.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use frikort::postgres::{Cluster, OWNER, Options};
use frikort_proto::v1::GetAllowanceRequest;
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, allowances, by_cpr, new_cpr, report},
    database::Database,
    process::{Kind, Service, program, until_noted},
    rights::{guards, rights},
};
use sqlx::PgPool;

/// The name in the guide.
const RESTORED: &str = "frikort_restored";

/// The commands of the guide, in order: dump, create, restore, migrate, check.
fn commands() -> [String; 5] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/restore.md");
    let guide = fs::read_to_string(path).unwrap();
    let blocks = guide.split("```sh\n").skip(1);
    let commands: Vec<String> =
        blocks.map(|block| block.split("```").next().unwrap().trim().to_owned()).collect();
    commands.try_into().unwrap()
}

/// Where commands run, and with what.
struct Shell {
    dir: PathBuf,
    path: String,
    variables: Vec<(&'static str, String)>,
}

impl Shell {
    /// With the server's own client programs, and ours.
    async fn new(dir: &Path, database: &Database) -> Self {
        let server: String =
            sqlx::query_scalar("SELECT setting FROM pg_config() WHERE name = 'BINDIR'")
                .fetch_one(&database.pool().await.unwrap())
                .await
                .unwrap();
        let ours = program("ledger").unwrap().parent().unwrap().display().to_string();
        let path = format!("{server}:{ours}:{}", env::var("PATH").unwrap());
        let variables = vec![("DATABASE_URL", database.url(OWNER))];
        Self { dir: dir.to_owned(), path, variables }
    }

    fn output(&self, command: &str) -> Output {
        let mut shell = Command::new("bash");
        shell.args(["-euc", command]).current_dir(&self.dir).env("PATH", &self.path);
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        shell.output().unwrap()
    }

    fn run(&self, command: &str) {
        let output = self.output(command);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {text}");
    }
}

/// What a service says that is started on a database which it cannot use.
async fn refusal(cluster: &Cluster, dir: &Path) -> String {
    let url = cluster.url("frikort_ledger", RESTORED);
    let error = Service::start_on(Kind::Ledger, &url, dir, Vec::new()).await.unwrap_err();
    error.to_string()
}

/// The database is as a new one, and the services go on where the history ends.
async fn assert_restored(
    shell: &mut Shell,
    cluster: &Cluster,
    fresh: &Database,
    dir: &Path,
    cpr: &str,
) {
    let pool = PgPool::connect(&cluster.url(OWNER, RESTORED)).await.unwrap();
    let new = fresh.pool().await.unwrap();
    assert_eq!(rights(&pool).await.unwrap(), rights(&new).await.unwrap());
    assert_eq!(guards(&pool).await.unwrap(), guards(&new).await.unwrap());

    let start = async |kind, user| {
        let url = cluster.url(user, RESTORED);
        Service::start_on(kind, &url, dir, Vec::new()).await.unwrap()
    };
    let service = start(Kind::Ledger, "frikort_ledger").await;
    let projector = start(Kind::Projector, "frikort_projector").await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    // The person is found, the payments are there, and another one is recorded.
    let again = ledger.payments.report_payment(report(cpr, "one", 100)).await.unwrap();
    assert!(again.into_inner().replayed);
    let answer = ledger.payments.report_payment(report(cpr, "two", 100)).await.unwrap();
    let min_position = answer.into_inner().position.unwrap().position;
    let (person, year) = (by_cpr(cpr), 2022);
    let request =
        GetAllowanceRequest { person, year, min_position, ..GetAllowanceRequest::default() };
    let mut allowances = allowances(projector.channel().await.unwrap());
    let answer = allowances.get_allowance(request).await.unwrap().into_inner();
    assert_eq!(answer.allowance.unwrap().total_oere, 200);
    ledger.grant(&new_cpr()).await.unwrap();
    // Lookups reach the access log.
    until_noted(dir).await.unwrap();
    shell.variables.push(("FRIKORT_PROFILES", "/dev/null".to_owned()));
    shell.variables.push(("FRIKORT_LEDGER", service.uri()));
    shell.variables.push(("FRIKORT_PROJECTOR", projector.uri()));
    let [.., check] = commands();
    shell.run(&check);
    assert_sound(&pool).await;
    pool.close().await;
}

/// A database with one person's payment, and its directory with the keys.
async fn filled(dir: &Path, database: &Database) -> String {
    let service = Service::start(Kind::Ledger, database, dir).await.unwrap();
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    ledger.payments.report_payment(report(&cpr, "one", 100)).await.unwrap();
    until_noted(dir).await.unwrap();
    cpr
}

fn reach(shell: &mut Shell, cluster: &Cluster) {
    shell.variables.push(("SERVER_URL", cluster.url(OWNER, "postgres")));
    shell.variables.push(("RESTORED_URL", cluster.url(OWNER, RESTORED)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_into_a_new_database_of_the_same_cluster() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let database = Database::create_alone(dir.path().join("postgres"), 1).await.unwrap();
    let cpr = filled(dir.path(), &database).await;
    let mut shell = Shell::new(dir.path(), &database).await;
    reach(&mut shell, database.cluster());
    let [dump, create, restore, migrate, _] = commands();
    for command in [dump, create, restore] {
        shell.run(&command);
    }
    let text = refusal(database.cluster(), dir.path()).await;
    assert!(text.contains("ledger migrate"), "{text}");
    // Also what a hand or a restore of rows has done to the guards.
    let damage = "psql --dbname=\"$RESTORED_URL\" --command='
        DROP TRIGGER event_append_only ON ledger.event;
        ALTER TABLE ledger.tile DISABLE TRIGGER ALL;
        DROP POLICY person_forget ON register.person;
        GRANT ALL ON ledger.event TO frikort_projector;
        GRANT SELECT ON ledger.event TO PUBLIC'";
    shell.run(damage);
    shell.run(&migrate);
    let cluster = database.cluster().clone();
    assert_restored(&mut shell, &cluster, &database, dir.path(), &cpr).await;
    // And again: it changes nothing.
    shell.run(&migrate);
    let pool = PgPool::connect(&cluster.url(OWNER, RESTORED)).await.unwrap();
    let new = database.pool().await.unwrap();
    assert_eq!(rights(&pool).await.unwrap(), rights(&new).await.unwrap());
    assert_eq!(guards(&pool).await.unwrap(), guards(&new).await.unwrap());
    database.stop_cluster().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_into_a_cluster_that_has_no_roles() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let database = Database::create(1).await.unwrap();
    let cpr = filled(dir.path(), &database).await;
    let [dump, create, restore, migrate, _] = commands();
    // As the guide says; and without its options, which reports that roles are missing.
    let plain = restore.replace("--no-owner --no-privileges --exit-on-error ", "");
    assert_ne!(plain, restore);
    for (number, (restore, succeeds)) in [(restore, true), (plain, false)].into_iter().enumerate() {
        let mut shell = Shell::new(dir.path(), &database).await;
        let home = dir.path().join(format!("new-{number}"));
        let start = move || Cluster::start(&home, &Options::default()).unwrap();
        let cluster = tokio::task::spawn_blocking(start).await.unwrap();
        reach(&mut shell, &cluster);
        shell.run(&dump);
        shell.run(&create);
        assert_eq!(shell.output(&restore).status.success(), succeeds);
        shell.run(&migrate);
        assert_restored(&mut shell, &cluster, &database, dir.path(), &cpr).await;
        tokio::task::spawn_blocking(move || cluster.stop().unwrap()).await.unwrap();
        // The next one is another history, which has not what was signed of this one.
        fs::remove_file(dir.path().join("signing.key.partition-0.checkpoint")).unwrap();
    }
}
