//! `frikort up`: database, ledger and projector on one machine, started in this order, watched,
//! and stopped in the other.
//!
//! The services are this program again, as separate processes, so that each can be killed and
//! replaced while the others serve. What must stay out: anything the services themselves decide;
//! whoever runs them in earnest starts `ledger serve` and `projector serve` without this.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::{Ending, client::Service, limits, output, profile};

mod certificates;
mod child;
mod database;
mod place;
mod restarts;

pub(crate) use child::stop_with_parent;
use child::{Child, Role};
use database::Database;
use place::Place;
pub(crate) use place::default_dir;

/// Where the services listen unless told otherwise, and where the client commands look for them.
pub(crate) const LEDGER: &str = "127.0.0.1:50051";
pub(crate) const PROJECTOR: &str = "127.0.0.1:50052";

/// How long a port may still be held by a predecessor that is going.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the services may take to take a first call after they serve.
const PATIENCE: Duration = Duration::from_secs(30);

const AFTER: &str = "\
The database is private: it lies in the data directory and listens on no network address. Without \
a PostgreSQL server on this machine, one is fetched. FRIKORT_PG_BIN names another directory of \
server programs; DATABASE_URL names a running server, and then none is started: the schema is made \
by the user in it, and the services connect as frikort_ledger and frikort_projector, with the same \
password if there is one.

In the data directory: postgres/ (the cluster), register.keys (the keys of the identity register: \
back it up apart from the database), signing.key (the key that signs checkpoints of the history, \
and beside it the last one of each partition), tls/ (certificates of the services and of one caller \
a role, made at the first start; callers.toml says who may do what), profiles.toml (by which the \
other commands find all this; `--profile employer` is the employer), lookups/ (look-ups on their way \
to the access log), log/ (what the services say).

Ctrl-C stops everything; what was accepted is finished first.";

/// Options of `frikort up` and `frikort demo`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Where everything is kept [default: frikort in the user's data directory; as root
    /// /var/lib/frikort; the demo's ends in -demo].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the ledger listens.
    #[arg(long, value_name = "ADDR", default_value = LEDGER)]
    pub(crate) ledger: SocketAddr,
    /// Where the projector listens.
    #[arg(long, value_name = "ADDR", default_value = PROJECTOR)]
    pub(crate) projector: SocketAddr,
    /// Partitions of the ledger; may grow from one start to the next, never shrink.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) partitions: i32,
}

/// `frikort up`.
pub(crate) async fn up(args: Args) -> anyhow::Result<Ending> {
    let stack = Stack::new(args, &default_dir()?)?;
    run(stack, async |_: &Stack| std::future::pending().await).await
}

/// Runs the stack around `work`: until `work` fails, a part of the stack does, or a signal comes.
pub(crate) async fn run(
    stack: Stack,
    work: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>,
) -> anyhow::Result<Ending> {
    let stop = frikort_process::stop::on_signal()?;
    let mut running = Running::default();
    let result = running.start_and_work(&stack, &stop, work).await;
    if stop.is_cancelled() {
        output::note("stopping");
    }
    let stopped = running.stop().await;
    result.and(stopped).map(|()| Ending::Done)
}

/// What to run, and where.
pub(crate) struct Stack {
    place: Place,
    args: Args,
    operator: profile::Credentials,
}

impl Stack {
    /// Takes the data directory, `default_dir` where none was chosen.
    pub(crate) fn new(args: Args, default_dir: &Path) -> anyhow::Result<Self> {
        let place = Place::open(args.data_dir.as_deref().unwrap_or(default_dir))?;
        certificates::prepare(&place, args.ledger, args.projector)?;
        let operator = certificates::credentials(&place)?;
        Ok(Self { place, args, operator })
    }

    /// The ledger, for calls.
    pub(crate) fn ledger(&self) -> anyhow::Result<Service> {
        Service::new(&self.args.ledger.to_string(), PATIENCE, &self.operator)
    }

    /// The projector, for calls.
    pub(crate) fn projector(&self) -> anyhow::Result<Service> {
        Service::new(&self.args.projector.to_string(), PATIENCE, &self.operator)
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &Path {
        self.place.dir()
    }

    /// What to add to a client command so that it finds us; nothing at the usual place.
    pub(crate) fn profiles_option(&self) -> String {
        if default_dir().is_ok_and(|usual| usual == self.dir()) {
            return String::new();
        }
        format!(" --profiles {}", self.dir().join(profile::FILE).display())
    }

    fn ready_line(&self) -> String {
        let (ledger, projector) = (self.args.ledger, self.args.projector);
        format!("ready: ledger {ledger} projector {projector} data {}", self.place.dir().display())
    }
}

/// What runs; the services in the order in which they were started.
#[derive(Default)]
struct Running {
    database: Option<Database>,
    services: Vec<Child>,
}

impl Running {
    async fn start_and_work(
        &mut self,
        stack: &Stack,
        stop: &CancellationToken,
        work: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        place::check_port(stack.args.ledger, "--ledger", PORT_PATIENCE).await?;
        place::check_port(stack.args.projector, "--projector", PORT_PATIENCE).await?;
        // Not cut short by a signal: a half-started database could not be stopped.
        self.database = Some(Database::start(&stack.place).await?);
        tokio::select! {
            started = self.start_services(stack) => started?,
            () = stop.cancelled() => return Ok(()),
        }
        output::line(&stack.ready_line())?;
        tokio::select! {
            failed = self.watch(&stack.place) => failed,
            worked = work(stack) => worked,
            () = stop.cancelled() => Ok(()),
        }
    }

    async fn start_services(&mut self, stack: &Stack) -> anyhow::Result<()> {
        let Stack { place, args, operator } = stack;
        let database = self.database.as_ref().context("no database")?;
        let (ledger_url, projector_url) =
            (database.url_as("frikort_ledger"), database.url_as("frikort_projector"));
        child::migrate(place, &database.url_to_migrate(), args.partitions).await?;
        self.start(Child::spawn(place, Role::ledger(args.ledger, ledger_url))?, operator).await?;
        let ledger = stack.ledger()?;
        limits::load_published(&ledger).await.context("cannot record the yearly limits")?;
        let projector = Role::projector(args.projector, projector_url);
        self.start(Child::spawn(place, projector)?, operator).await
    }

    async fn start(
        &mut self,
        mut child: Child,
        operator: &profile::Credentials,
    ) -> anyhow::Result<()> {
        let ready = child.wait_ready(operator).await;
        self.services.push(child);
        ready
    }

    /// Starts again what dies, each part by itself. Ends only when one has to be given up.
    async fn watch(&mut self, place: &Place) -> anyhow::Result<()> {
        let database = async {
            match &mut self.database {
                Some(database) => database.watch(place).await,
                None => std::future::pending().await,
            }
        };
        let services = self.services.iter_mut().map(|service| Box::pin(service.watch()));
        let given_up = tokio::select! {
            error = database => error,
            (error, ..) = futures::future::select_all(services) => error,
        };
        Err(given_up)
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        while let Some(service) = self.services.pop() {
            service.stop().await;
        }
        match self.database {
            Some(database) => database.stop().await,
            None => Ok(()),
        }
    }
}

/// The variable by which somebody names a server of their own.
fn own_server() -> Option<String> {
    env::var("DATABASE_URL").ok().filter(|url| !url.is_empty())
}

/// The cluster's directory within the data directory.
fn cluster_dir(place: &Path) -> PathBuf {
    place.join("postgres")
}
