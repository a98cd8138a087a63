//! What a service finds out about its database when it starts, and refuses with one clear message:
//! a server that may lose what it has acknowledged, and connections without sessions of their own.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{net::SocketAddr, path::Path, process::Output, time::Duration};

use frikort::postgres::{Cluster, OWNER, Options};
use frikort_proto::v1::GetAllowanceRequest;
use frikort_tests::{
    audit::assert_sound,
    client::{Ledger, allowances, by_cpr, new_cpr, report},
    database::Database,
    pooler::Pooler,
    process::{Kind, Service, program},
};
use sqlx::{Connection, Executor, PgConnection};
use tokio::process::Command;

/// How long a program may take to find out that it cannot run.
const PATIENCE: Duration = Duration::from_secs(20);

/// What lets sqlx connect through PgBouncer, which else refuses what it does not track.
const IGNORE: &str = "ignore_startup_parameters = extra_float_digits, options";

/// How `NAME serve` with these settings, or another command, ends by itself.
async fn ended(name: &str, arguments: &[&str], url: &str, dir: &Path) -> Output {
    let mut command = Command::new(program(name).unwrap());
    command
        .args(arguments)
        .env("DATABASE_URL", url)
        .env("FRIKORT_INSECURE_ON_LOOPBACK", "true")
        .env("FRIKORT_LOOKUP_JOURNAL", dir.join("lookups"))
        .env("FRIKORT_KEYS_FILE", dir.join("register.keys"))
        .kill_on_drop(true);
    if arguments.contains(&"serve") {
        command.args(["--listen", "127.0.0.1:0"]);
        if name == "ledger" {
            command.arg("--create-keys");
        }
    }
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output.unwrap_or_else(|_| panic!("{name} {arguments:?} does not end")).unwrap()
}

/// The message of a program that must not start.
async fn refusal(name: &str, arguments: &[&str], url: &str, dir: &Path) -> String {
    let output = ended(name, arguments, url, dir).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{name} {arguments:?}: {text}");
    text
}

/// A server of its own with some settings, and a migrated database in it.
async fn server(dir: &Path, settings: &[(&str, &str)]) -> (Cluster, String) {
    let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let options = Options { settings: settings.collect(), ..Options::default() };
    let dir = dir.join("postgres");
    let start = move || Cluster::start(&dir, &options).unwrap();
    let cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let mut owner = PgConnection::connect(&cluster.url(OWNER, "postgres")).await.unwrap();
    owner.execute("CREATE DATABASE frikort").await.unwrap();
    owner.close().await.unwrap();
    let pool = sqlx::PgPool::connect(&cluster.url(OWNER, "frikort")).await.unwrap();
    frikort_event_store::migrate(&pool.clone().into(), 1).await.unwrap();
    pool.close().await;
    let url = cluster.url("frikort_ledger", "frikort");
    (cluster, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_what_it_has_acknowledged_is_refused_by_name() {
    for (settings, named, allowed_by_file) in [
        (&[("fsync", "off")][..], "fsync = off", false),
        (&[("full_page_writes", "off")], "full_page_writes = off", true),
        (
            &[("fsync", "off"), ("full_page_writes", "off")],
            "fsync = off and full_page_writes = off",
            false,
        ),
    ] {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let (cluster, url) = server(dir.path(), settings).await;
        for name in ["ledger", "projector"] {
            let url = match name {
                "ledger" => url.clone(),
                _ => cluster.url("frikort_projector", "frikort"),
            };
            let text = refusal(name, &["serve"], &url, dir.path()).await;
            for part in [named, "postgresql.conf", "--allow-unsafe-database"] {
                assert!(text.contains(part), "{name}: {text}");
            }
        }
        // With the flag it starts, and says so. An empty value takes the usual one of tests away.
        let mut set = vec![("FRIKORT_ALLOW_UNSAFE_DATABASE", "true".to_owned())];
        if allowed_by_file {
            let file = dir.path().join("ledger.toml");
            std::fs::write(&file, "allow_unsafe_database = true\n").unwrap();
            set = vec![
                ("FRIKORT_ALLOW_UNSAFE_DATABASE", String::new()),
                ("FRIKORT_LEDGER_CONFIG", file.display().to_string()),
            ];
        }
        let service = Service::start_on(Kind::Ledger, &url, dir.path(), set).await.unwrap();
        let log = service.logged().unwrap();
        assert!(log.contains("WARN") && log.contains(named), "{log}");
        drop(service);
        tokio::task::spawn_blocking(move || cluster.stop().unwrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_server_needs_no_flag() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let database = Database::create_alone(dir.path().join("postgres"), 1).await.unwrap();
    for kind in [Kind::Ledger, Kind::Projector] {
        let settings = vec![("FRIKORT_ALLOW_UNSAFE_DATABASE", String::new())];
        Service::start_with(kind, &database, dir.path(), settings).await.unwrap();
    }
    database.stop_cluster().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_in_transaction_mode_nothing_starts_and_says_why() {
    let database = Database::create(1).await.unwrap();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    open(dir.path());
    let transaction = "pool_mode = transaction";
    let what_is_missing =
        ["session settings", "prepared statements", "LISTEN", "directly", "session mode"];
    let cases: [(&[&str], &[&str]); 4] = [
        (&[transaction, IGNORE], &what_is_missing),
        // One server process for everybody, and several that are given out in turn.
        (&[transaction, IGNORE, "default_pool_size = 1"], &what_is_missing),
        (&[transaction, IGNORE, "server_round_robin = 1", "min_pool_size = 5"], &what_is_missing),
        (&["pool_mode = statement", IGNORE], &what_is_missing),
    ];
    for (settings, parts) in cases {
        let pooler = Pooler::start(&database, dir.path(), settings).unwrap();
        for (name, arguments, user) in [
            ("ledger", &["serve"][..], "frikort_ledger"),
            ("projector", &["serve"], "frikort_projector"),
            ("projector", &["generations"], "frikort_projector"),
            ("ledger", &["migrate"], OWNER),
        ] {
            let text = refusal(name, arguments, &pooler.url(user), dir.path()).await;
            for part in parts {
                assert!(text.contains(part), "{settings:?}: {name} {arguments:?}: {text}");
            }
        }
    }
    // One that takes no options at all.
    let pooler = Pooler::start(&database, dir.path(), &["pool_mode = session"]).unwrap();
    let text = refusal("ledger", &["serve"], &pooler.url("frikort_ledger"), dir.path()).await;
    assert!(text.contains("ignore_startup_parameters"), "{text}");
}

/// Lets the pooler's account enter.
fn open(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_pooler_in_session_mode_everything_works() {
    let database = Database::create(1).await.unwrap();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    open(dir.path());
    let settings = ["pool_mode = session", IGNORE, "default_pool_size = 60"];
    let pooler = Pooler::start(&database, dir.path(), &settings).unwrap();
    let migrated = ended("ledger", &["migrate"], &pooler.url(OWNER), dir.path()).await;
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));

    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let start = |kind, user| {
        let (url, dir) = (pooler.url(user), dir.path().to_owned());
        async move { Service::start_at(kind, &url, &dir, anywhere).await.unwrap() }
    };
    let service = start(Kind::Ledger, "frikort_ledger").await;
    let projector = start(Kind::Projector, "frikort_projector").await;
    let mut ledger = Ledger::new(service.channel().await.unwrap());
    ledger.set_limit(2022, 20_000).await.unwrap();
    let cpr = new_cpr();
    ledger.grant(&cpr).await.unwrap();
    let mut position = 0;
    for number in 0..20 {
        let request = report(&cpr, &format!("payment-{number}"), 100);
        let answer = ledger.payments.report_payment(request).await.unwrap().into_inner();
        position = answer.position.unwrap().position;
    }
    let mut allowances = allowances(projector.channel().await.unwrap());
    let request = GetAllowanceRequest {
        person: by_cpr(&cpr),
        year: 2022,
        min_position: position,
        ..GetAllowanceRequest::default()
    };
    let answer = allowances.get_allowance(request).await.unwrap().into_inner();
    assert_eq!(answer.allowance.unwrap().total_oere, 2000);
    assert_eq!(assert_sound(&database.pool().await.unwrap()).await, 22);

    // The settings of a session are in force although the pooler has left them out.
    let options =
        frikort_process::database::service(&pooler.url("frikort_ledger"), "test").unwrap();
    let mut connection = frikort_event_store::pool(options, 1).acquire().await.unwrap();
    let setting: String =
        sqlx::query_scalar("SHOW plan_cache_mode").fetch_one(&mut *connection).await.unwrap();
    assert_eq!(setting, "force_generic_plan");
}
