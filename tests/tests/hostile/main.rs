//! Hostile clients against a real ledger with TLS, while an honest one goes on reporting payments:
//! the honest one is answered as usual, the ledger stays the same process, its memory is bounded, and
//! its log holds no CPR number.
//!
//! Attackers have a thread of their own, which gives way to all others as another machine would, and
//! addresses of their own (127.0.0.0/8 is all loopback). They still share the processors with the
//! ledger, so a single round may be slow for their sake, and is repeated. Half of the honest calls take
//! at most twice the usual time; a build that is not for use may take up to [`FLOOR`] instead, and the
//! slowest up to [`SLOW`]. `--nocapture` shows what was measured.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod floods;
mod guesses;
mod limits;
mod open;
mod slow;
mod wire;
mod wrong;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use frikort_tests::{
    client::{Ledger, new_cpr, report},
    database::Database,
    pki::{self, Authority, CALLERS, Pair},
    privacy,
    process::{Kind, Service, logs_as_usual},
};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Attacks that run beside each other would be measured together.
static TURN: Mutex<()> = Mutex::const_new(());

/// A build without optimization, where all that the ledger does takes far longer, is judged by this where
/// it is more than twice the usual time.
const FLOOR: Duration = match cfg!(debug_assertions) {
    true => Duration::from_millis(10),
    false => Duration::ZERO,
};

/// The same of the slowest five in a hundred: some wait for the ledger's own turn on a processor, which
/// the attackers have too.
const SLOW: Duration = match cfg!(debug_assertions) {
    true => Duration::from_millis(60),
    false => Duration::from_millis(10),
};

/// How often an attack is tried.
const ROUNDS: usize = 5;

/// When others than the ledger and this test take so much of the processors, times say nothing of the
/// ledger; and after how many rounds that is believed.
const OTHERS: f64 = 0.3;
const BUSY_ROUNDS: usize = 2;

/// What the ledger may hold after any attack, in KiB; a quiet one of this build holds some 60 MB.
const MEMORY: u64 = 300 * 1024;

/// How long the usual time is measured.
const QUIET: Duration = Duration::from_millis(800);

/// One ledger with TLS, and an honest employer whom it knows.
struct Ground {
    ledger: Service,
    authority: Authority,
    honest: Honest,
    usual: Times,
    _database: Database,
    _dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Reports payments, one after the other.
#[derive(Clone)]
struct Honest {
    ledger: Ledger,
    cprs: Vec<String>,
    next: Arc<std::sync::atomic::AtomicUsize>,
}

/// How long honest calls took.
#[derive(Clone, Debug)]
struct Times {
    calls: usize,
    median: Duration,
    slow: Duration,
}

impl Ground {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings beside the usual ones.
    async fn start_with(settings: &[(&'static str, &str)]) -> Self {
        let turn = TURN.lock().await;
        more_files();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();
        let mut all = authority.write(dir.path(), CALLERS).unwrap();
        all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let database = Database::create(1).await.unwrap();
        let ledger = Service::start_with(Kind::Ledger, &database, dir.path(), all).await.unwrap();
        let connect = async |name| Ledger::new(connect(&authority, &ledger, name).await);
        connect("operator").await.set_limit(2022, 20_000).await.unwrap();
        let (mut municipality, mut cprs) = (connect("municipality").await, Vec::new());
        for _ in 0..20 {
            cprs.push(new_cpr());
            municipality.grant(cprs.last().unwrap()).await.unwrap();
        }
        let honest = Honest { ledger: connect("employer").await, cprs, next: Arc::default() };
        // What is asked for the first time takes longer.
        honest.clone().report_for(Duration::from_millis(300)).await;
        let usual = honest.clone().report_for(QUIET).await;
        let (_database, _dir, _turn) = (database, dir, turn);
        Self { ledger, authority, honest, usual, _database, _dir, _turn }
    }

    fn address(&self) -> SocketAddr {
        self.ledger.address()
    }

    /// A certificate of somebody.
    fn certificate(&self, name: &str) -> Pair {
        self.authority.sign(&format!("{name}.test")).unwrap()
    }

    /// Clients in the name of somebody, over a new connection.
    async fn as_caller(&self, name: &str) -> Ledger {
        Ledger::new(connect(&self.authority, &self.ledger, name).await)
    }

    /// Attacks, in a thread of their own, while the honest client reports. Gives what the attack
    /// gives. What else this machine does may make honest calls slow, so a slow round is repeated: an
    /// attack that is not endured is not endured in any. On a machine that is busy with something
    /// else, and where more than usual is logged, times are not judged.
    async fn endures<F>(&self, what: &str, attack: impl Fn() -> F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let mut outcome = None;
        for round in 1..=ROUNDS {
            let goes_on = Arc::new(AtomicBool::new(true));
            let reporting = self.honest.clone().report_while(goes_on.clone());
            let (attacking, before) = (on_a_thread(attack()), Processors::now(self.ledger.id()));
            outcome = Some(attacking.await.unwrap());
            goes_on.store(false, Ordering::Relaxed);
            let times = reporting.await.unwrap();
            let others = Processors::now(self.ledger.id()).of_others_since(&before);
            let memory = resident(self.ledger.id());
            show(&format!(
                "{what}: {} honest calls, median {:?} (usual {:?}), p95 {:?} (usual {:?}); the \
                 ledger holds {} MB; others took {:.0} % of the processors",
                times.calls,
                times.median,
                self.usual.median,
                times.slow,
                self.usual.slow,
                memory / 1024,
                others * 100.0
            ));
            assert!(memory <= MEMORY, "{what}: the ledger holds {memory} KiB");
            self.is_as_before(what).await;
            if times.are_as_usual(&self.usual) {
                break;
            }
            if !logs_as_usual() {
                show("    not held against the usual time: the ledger logs more than usual");
                break;
            }
            if others > OTHERS && round >= BUSY_ROUNDS {
                show(
                    "    not held against the usual time: the machine is busy with something else",
                );
                break;
            }
            assert!(round < ROUNDS, "{what}: {times:?}, usually {:?}", self.usual);
        }
        outcome.unwrap()
    }

    /// The same process, which serves, and has written nobody's number and no key into its log.
    async fn is_as_before(&self, what: &str) {
        assert!(self.ledger.is_serving().await, "{what}: the ledger does not serve");
        let log = self.ledger.logged().unwrap();
        assert_eq!(log.matches("the ledger listens").count(), 1, "{what}: it was started again");
        assert!(Path::new(&format!("/proc/{}", self.ledger.id())).exists());
        assert_eq!(privacy::find(&log), None, "{what}: the log");
        assert!(!log.contains("panicked"), "{what}: the log");
    }
}

impl Times {
    fn are_as_usual(&self, usual: &Self) -> bool {
        let median = (usual.median * 2).max(FLOOR);
        let slow = (usual.slow * 2).max(SLOW);
        self.calls >= 5 && self.median <= median && self.slow <= slow
    }
}

impl Honest {
    /// Reports one payment.
    async fn report(&mut self) -> Duration {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cpr = &self.cprs[number % self.cprs.len()];
        let began = Instant::now();
        let payment = report(cpr, &format!("payment {number}"), 1);
        self.ledger.payments.report_payment(payment).await.unwrap();
        began.elapsed()
    }

    async fn report_for(self, time: Duration) -> Times {
        let goes_on = Arc::new(AtomicBool::new(true));
        let reporting = self.report_while(goes_on.clone());
        sleep(time).await;
        goes_on.store(false, Ordering::Relaxed);
        reporting.await.unwrap()
    }

    fn report_while(mut self, goes_on: Arc<AtomicBool>) -> JoinHandle<Times> {
        tokio::spawn(async move {
            let mut times = Vec::new();
            while goes_on.load(Ordering::Relaxed) {
                times.push(self.report().await);
                sleep(Duration::from_millis(3)).await;
            }
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            Times { calls: times.len(), median: at(50), slow: at(95) }
        })
    }
}

/// Tells what was measured.
#[expect(clippy::print_stderr, reason = "who runs it with --nocapture wants to see it")]
fn show(text: &str) {
    eprintln!("{text}");
}

/// A connection in the name of somebody.
async fn connect(authority: &Authority, ledger: &Service, name: &str) -> tonic::transport::Channel {
    let shown = authority.sign(&format!("{name}.test")).unwrap();
    pki::connect(&authority.pem(), ledger.address(), Some(&shown)).await.unwrap()
}

/// Runs something on a runtime of one thread.
fn on_a_thread<F>(work: F) -> tokio::sync::oneshot::Receiver<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // On Linux a thread's, not the process's.
        rustix::process::nice(19).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = end.send(runtime.block_on(work));
    });
    ended
}

/// Time of the processors, in ticks.
struct Processors {
    all: f64,
    busy: f64,
    ours: f64,
}

impl Processors {
    fn now(ledger: u32) -> Self {
        let numbers = |text: &str| {
            text.split_whitespace().map(|n| n.parse().unwrap_or(0.0)).collect::<Vec<f64>>()
        };
        let all = fs::read_to_string("/proc/stat").unwrap();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let all = numbers(all.lines().next().unwrap().strip_prefix("cpu").unwrap());
        let idle = all[3] + all[4];
        let sum = all[..8].iter().sum::<f64>();
        let of = |process: u32| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
            let after_name = numbers(stat.rsplit_once(')').unwrap().1);
            after_name[11] + after_name[12]
        };
        let ours = of(ledger) + of(std::process::id());
        Self { all: sum, busy: sum - idle, ours }
    }

    /// The part that others had, of all there was.
    fn of_others_since(&self, before: &Self) -> f64 {
        let others = (self.busy - before.busy) - (self.ours - before.ours);
        others / (self.all - before.all).max(1.0)
    }
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Files that a process has open.
fn open_files(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// As many open files as this process may have.
fn more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
