//! The sessions of one process with its database: whether the server answers, and which run of which
//! server the newest session is with.
//!
//! A session ends with its server process, so a history cannot change under a session: whoever reads
//! another history has opened a new session first, and every session is opened here. So what a process
//! remembers is tied to a [`ServerRun`], and is believed only while no session with another run was
//! opened and the server is known to answer.
//!
//! Not here: what is remembered; and what is done with a history that has changed.

use std::{
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::OffsetDateTime;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::{ConnectionPool, apply_settings};

/// How long a call waits for a connection. A call that arrives while the database is down is refused
/// within a second.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection that was idle for so long is tested before it is used: a server, or what stands between,
/// may end idle sessions. Under load hardly any is.
const TESTED_AFTER_IDLE: Duration = Duration::from_millis(100);

/// How often the server is asked for a sign of life.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);

/// A server that has not answered for so long is taken for unreachable. Together with the interval it
/// leaves some time of the two seconds within which a caller is refused.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(900);

/// How often an outage that lasts is logged.
const OUTAGE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What the statements of a session are for. It says how long one of them may take, so that none waits
/// for ever for a lock, and none goes on for a caller who has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPurpose {
    /// A caller waits for it: an append, a question, a page of a list.
    Calls,
    /// No caller waits for it: a page of a fold, a rebuild or a recalculation.
    Background,
    /// An operator waits for it: a migration may take as long as it takes.
    Operations,
}

impl SessionPurpose {
    /// How long one statement may take, in milliseconds; zero where it may take any time. With the wait for
    /// a connection, a call that needs one statement is answered within two seconds.
    const fn statement_timeout(self) -> i32 {
        match self {
            Self::Calls => 1_500,
            Self::Background => 60_000,
            Self::Operations => 0,
        }
    }
}

/// Counts the server runs that a process has had sessions with. A server that is started again is
/// another run, as is another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerRun(u64);

impl ServerRun {
    /// Before the first session.
    pub const NONE: Self = Self(0);

    /// The run after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A server run that every answer looks at, without a lock.
#[derive(Debug, Default)]
pub struct CurrentRun(AtomicU64);

impl CurrentRun {
    /// The one that was set last; [`ServerRun::NONE`] before.
    pub fn get(&self) -> ServerRun {
        ServerRun(self.0.load(Ordering::Acquire))
    }

    /// Sets another one.
    pub fn set(&self, run: ServerRun) {
        self.0.store(run.0, Ordering::Release);
    }
}

/// Whether the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Not known: at the start, and when a session has ended. Nothing is answered from memory.
    Unknown,
    /// The server has answered within the heartbeat's timeout.
    Reachable,
    /// The server has not.
    Unreachable,
}

/// The sessions of one process with one database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DatabaseSessions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    /// When the server was started that the newest session is with.
    server_started: Mutex<Option<OffsetDateTime>>,
    run: AtomicU64,
    reachability: watch::Sender<Reachability>,
    /// The run that is believed in: the newest, while the server is known to answer; else none. Set with
    /// `publishing` held.
    believed: CurrentRun,
    publishing: Mutex<()>,
    /// Whether the server is not known to be unreachable.
    answers: watch::Sender<bool>,
    /// What the server's clock showed at the last heartbeat, and when that was asked.
    server_time: Mutex<Option<(OffsetDateTime, Instant)>>,
    /// Wakes the heartbeat.
    suspected: Notify,
    /// When a session was last found to have ended.
    last_suspicion: Mutex<Option<Instant>>,
}

impl DatabaseSessions {
    /// For a database; opens nothing yet.
    pub fn new(options: PgConnectOptions) -> Self {
        let reachability = watch::Sender::new(Reachability::Unknown);
        Self(Arc::new(Shared {
            options,
            server_started: Mutex::new(None),
            run: AtomicU64::new(0),
            reachability,
            believed: CurrentRun::default(),
            publishing: Mutex::new(()),
            answers: watch::Sender::new(false),
            server_time: Mutex::new(None),
            suspected: Notify::new(),
            last_suspicion: Mutex::new(None),
        }))
    }

    /// What sessions are opened with.
    pub fn options(&self) -> &PgConnectOptions {
        &self.0.options
    }

    /// A pool of at most `connections`, which are kept. One that was idle is tested before it is used,
    /// and replaced if its session was ended meanwhile; one that has just been given back is not: a broken
    /// one fails the query, and every caller handles that.
    pub fn pool(&self, connections: u32, purpose: SessionPurpose) -> ConnectionPool {
        self.sqlx_pool(connections, purpose).into()
    }

    pub(crate) fn sqlx_pool(&self, connections: u32, purpose: SessionPurpose) -> PgPool {
        let (sessions, testing) = (self.clone(), self.clone());
        PgPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .before_acquire(move |connection, metadata| {
                let must_test = testing.must_test(metadata.idle_for);
                Box::pin(async move {
                    if must_test {
                        // An error closes it, and another one is opened.
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                let sessions = sessions.clone();
                Box::pin(async move { sessions.begin(connection, purpose).await.map(drop) })
            })
            .connect_lazy_with(self.0.options.clone())
    }

    /// One connection of its own, and the server run that it is with.
    pub async fn connect(
        &self,
        purpose: SessionPurpose,
    ) -> Result<(PgConnection, ServerRun), sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.0.options).await?;
        let run = self.begin(&mut connection, purpose).await?;
        Ok((connection, run))
    }

    /// The run that the newest session is with.
    pub fn server_run(&self) -> ServerRun {
        ServerRun(self.0.run.load(Ordering::Acquire))
    }

    /// Whether what was read in sessions with `run` can be answered from memory.
    pub fn can_answer_from_memory(&self, run: ServerRun) -> bool {
        run != ServerRun::NONE && self.0.believed.get() == run
    }

    /// Publishes which run is believed in, after a run or what is known of the server has changed.
    fn publish_believed(&self) {
        let _publishing = self.0.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_reachable = *self.0.reachability.borrow() == Reachability::Reachable;
        self.0.believed.set(if is_reachable { self.server_run() } else { ServerRun::NONE });
    }

    /// Whether the server answers: for health, and to end calls that wait for it.
    pub fn answers(&self) -> watch::Receiver<bool> {
        self.0.answers.subscribe()
    }

    /// What is known of the server, as it changes.
    pub fn reachability(&self) -> watch::Receiver<Reachability> {
        self.0.reachability.subscribe()
    }

    /// What the server's clock shows now, as of the last heartbeat; `None` before the first. Exact to
    /// the time that a heartbeat takes.
    pub fn server_time(&self) -> Option<OffsetDateTime> {
        let server_time = self.0.server_time.lock().unwrap_or_else(PoisonError::into_inner);
        server_time.map(|(time, asked)| time + asked.elapsed())
    }

    /// Waits until the server is unreachable.
    pub async fn unreachable(&self) {
        let mut reachability = self.reachability();
        // The sender lives as long as `self`.
        let _ = reachability.wait_for(|now| *now == Reachability::Unreachable).await;
    }

    /// What comes of some work with the database; `None` where the server became unreachable meanwhile,
    /// and the work was given up with its connections.
    pub async fn while_reachable<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.unreachable() => None,
        }
    }

    /// Whether a connection that was idle for so long must be tested before it is used: its session may
    /// have been ended meanwhile.
    pub(crate) fn must_test(&self, idle: Duration) -> bool {
        let suspected = *self.0.last_suspicion.lock().unwrap_or_else(PoisonError::into_inner);
        idle >= TESTED_AFTER_IDLE || suspected.is_some_and(|suspected| suspected.elapsed() <= idle)
    }

    /// A session has ended, so the server may have: nothing is answered from memory until it is known
    /// to answer, and connections that were opened before are tested.
    pub fn suspect(&self) {
        let mut last = self.0.last_suspicion.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Instant::now());
        drop(last);
        self.0.reachability.send_if_modified(|now| {
            let is_change = *now == Reachability::Reachable;
            if is_change {
                *now = Reachability::Unknown;
            }
            is_change
        });
        self.publish_believed();
        self.0.suspected.notify_one();
    }

    /// Asks the server for signs of life until dropped.
    pub async fn monitor(self) {
        let mut connection = None;
        let mut outage = Outage::default();
        loop {
            let answered = timeout(HEARTBEAT_TIMEOUT, self.heartbeat(&mut connection)).await;
            let now = match &answered {
                Ok(Ok(())) => Reachability::Reachable,
                // It answers, and refuses a further session: calls may have theirs.
                Ok(Err(sqlx::Error::Database(error)))
                    if error.code().as_deref() == Some("53300") =>
                {
                    Reachability::Unknown
                }
                _ => Reachability::Unreachable,
            };
            if now != Reachability::Reachable {
                connection = None;
            }
            outage.log(&answered.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut)));
            self.0.reachability.send_if_modified(|before| std::mem::replace(before, now) != now);
            self.publish_believed();
            let answers = now != Reachability::Unreachable;
            self.0.answers.send_if_modified(|before| std::mem::replace(before, answers) != answers);
            // Its time-out is the next beat.
            let _ = timeout(HEARTBEAT_INTERVAL, self.0.suspected.notified()).await;
        }
    }

    async fn heartbeat(&self, connection: &mut Option<PgConnection>) -> Result<(), sqlx::Error> {
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.connect(SessionPurpose::Calls).await?.0,
        };
        // Only a connection that has answered is used again.
        *connection = match self.beat(&mut open).await {
            Ok(()) => Some(open),
            // The session was ended while it was idle; the server may be there.
            Err(_) => {
                let (mut again, _) = self.connect(SessionPurpose::Calls).await?;
                self.beat(&mut again).await?;
                Some(again)
            }
        };
        Ok(())
    }

    async fn beat(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let asked = Instant::now();
        let time = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "time!""#);
        let time = time.fetch_one(connection).await?;
        let mut server_time = self.0.server_time.lock().unwrap_or_else(PoisonError::into_inner);
        *server_time = Some((time, asked));
        Ok(())
    }

    /// Begins a session: notes which server run it is with, makes its commits durable whatever the
    /// server's default is, and bounds its statements. Stronger settings stay.
    async fn begin(
        &self,
        connection: &mut PgConnection,
        purpose: SessionPurpose,
    ) -> Result<ServerRun, sqlx::Error> {
        apply_settings(connection, &self.0.options).await?;
        let session = sqlx::query!(
            r#"SELECT pg_postmaster_start_time() AS "started!",
                      set_config('synchronous_commit',
                          CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
                               THEN current_setting('synchronous_commit') ELSE 'on' END,
                          false) AS synchronous_commit,
                      set_config('statement_timeout',
                          CASE WHEN $1 = 0 OR current_setting('statement_timeout')::interval
                                   BETWEEN interval '1 ms' AND interval '1 ms' * $1
                               THEN current_setting('statement_timeout') ELSE $1::text END,
                          false) AS statement_timeout"#,
            purpose.statement_timeout()
        )
        .fetch_one(&mut *connection)
        .await?;
        let mut server_started =
            self.0.server_started.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = server_started.replace(session.started) != Some(session.started);
        let run = match is_other {
            true => {
                let run = ServerRun(self.0.run.fetch_add(1, Ordering::AcqRel)).next();
                self.publish_believed();
                run
            }
            false => self.server_run(),
        };
        drop(server_started);
        if is_other && run > ServerRun::NONE.next() {
            let (started, run) = (session.started, run.0);
            tracing::info!(
                %started,
                run,
                "the database server was started anew, or is another one; what is remembered is checked"
            );
        }
        Ok(run)
    }
}

/// Logs when an outage begins, while it lasts, and when it ends.
#[derive(Default)]
struct Outage {
    began: Option<Instant>,
    logged: Option<Instant>,
}

impl Outage {
    fn log(&mut self, answered: &Result<(), sqlx::Error>) {
        match answered {
            Ok(()) => {
                if let Some(began) = self.began.take() {
                    let seconds = began.elapsed().as_secs_f64();
                    tracing::info!(seconds, "the database answers again");
                }
                self.logged = None;
            }
            Err(error) => {
                let began = *self.began.get_or_insert_with(Instant::now);
                if self.logged.is_none_or(|logged| logged.elapsed() >= OUTAGE_LOG_INTERVAL) {
                    self.logged = Some(Instant::now());
                    let (error, seconds) = (error as &dyn Error, began.elapsed().as_secs());
                    tracing::warn!(error, seconds, "the database does not answer; retrying");
                }
            }
        }
    }
}
