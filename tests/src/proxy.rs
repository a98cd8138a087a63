//! A proxy in front of Postgres that cuts or delays a chosen request: the way to the failures
//! that matter most, an append that failed, one that was committed although its answer was lost,
//! and one that arrives after its callers have given up. It can also swallow or delay all traffic.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Notify,
    task::JoinHandle,
    time::sleep,
};

/// What happens to the request that carries the marked text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never reaches the server, and the connection is cut.
    CutBefore,
    /// The server carries it out, its answer is lost, and the connection is cut.
    CutAfter,
    /// The connection is cut, and the request reaches the server when [`Proxy::deliver`] is
    /// called.
    Late,
}

/// What happens to all that goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// It goes through.
    #[default]
    Flows,
    /// It is lost, and connections stay open. One of which something was lost never answers again.
    Swallowed,
    /// So many requests still go through, then all is lost.
    SwallowedAfter(u32),
    /// Each request waits for so long.
    Delayed(Duration),
}

/// Postgres, seen through a proxy.
#[derive(Debug)]
pub struct Proxy {
    dir: PathBuf,
    plan: Arc<Plan>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Plan {
    armed: Mutex<Option<(Vec<u8>, Fault)>>,
    traffic: Mutex<Traffic>,
    lost: Notify,
    struck: Notify,
    deliver: Notify,
    delivered: Notify,
}

impl Proxy {
    /// Listens in `dir`, and forwards to the socket in `server`.
    pub fn start(dir: &Path, server: &Path) -> anyhow::Result<Self> {
        let listener = UnixListener::bind(dir.join(".s.PGSQL.5432"))?;
        let (plan, server) = (Arc::new(Plan::default()), server.join(".s.PGSQL.5432"));
        let to = plan.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = UnixStream::connect(&server).await {
                    tokio::spawn(to.clone().forward(client, server));
                }
            }
        });
        Ok(Self { dir: dir.to_owned(), plan, accepting })
    }

    /// The database URL through the proxy.
    pub fn url(&self, url: &str) -> String {
        let (before, rest) = url.split_once("?host=").unwrap_or((url, ""));
        let rest = rest.split_once('&').map_or("", |(_, rest)| rest);
        format!("{before}?host={}&{rest}", self.dir.display())
    }

    /// The next request that carries `mark` meets `fault`.
    pub fn arm(&self, mark: &str, fault: Fault) {
        *self.plan.armed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((mark.as_bytes().to_vec(), fault));
    }

    /// From now on this happens to all that goes through.
    pub fn set_traffic(&self, traffic: Traffic) {
        *self.plan.traffic.lock().unwrap_or_else(PoisonError::into_inner) = traffic;
    }

    /// Waits until something was lost.
    pub async fn lost(&self) {
        self.plan.lost.notified().await;
    }

    /// Waits until the fault has struck.
    pub async fn struck(&self) {
        self.plan.struck.notified().await;
    }

    /// Lets a late request through, and waits until the server has answered it.
    pub async fn deliver(&self) {
        self.plan.deliver.notify_one();
        self.plan.delivered.notified().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Plan {
    fn strikes(&self, bytes: &[u8]) -> Option<Fault> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let (mark, fault) = armed.as_ref()?;
        let marked = bytes.windows(mark.len()).any(|window| window == mark.as_slice());
        let fault = marked.then_some(*fault)?;
        *armed = None;
        Some(fault)
    }

    fn traffic(&self) -> Traffic {
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to the next request.
    fn next_request(&self) -> Traffic {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        if let Traffic::SwallowedAfter(requests) = *traffic {
            *traffic = match requests.checked_sub(1) {
                Some(left) => Traffic::SwallowedAfter(left),
                None => Traffic::Swallowed,
            };
            return if requests == 0 { Traffic::Swallowed } else { Traffic::Flows };
        }
        *traffic
    }

    async fn forward(self: Arc<Self>, client: UnixStream, server: UnixStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let mut has_lost = false;
        // A request is small enough here to come in one piece.
        let mut request = vec![0; 1 << 20];
        let mut answer = vec![0; 1 << 16];
        loop {
            tokio::select! {
                read = from_client.read(&mut request) => {
                    let Ok(length @ 1..) = read else { return };
                    match self.next_request() {
                        Traffic::Flows | Traffic::SwallowedAfter(_) => {}
                        Traffic::Swallowed => has_lost = true,
                        Traffic::Delayed(time) => sleep(time).await,
                    }
                    if has_lost {
                        self.lost.notify_one();
                        continue;
                    }
                    let fault = self.strikes(&request[..length]);
                    if fault == Some(Fault::CutBefore) {
                        self.struck.notify_one();
                        return;
                    }
                    if fault == Some(Fault::Late) {
                        drop((from_client, to_client));
                        self.struck.notify_one();
                        self.deliver.notified().await;
                        if to_server.write_all(&request[..length]).await.is_ok() {
                            let _ = from_server.read(&mut answer).await;
                        }
                        self.delivered.notify_one();
                        return;
                    }
                    if to_server.write_all(&request[..length]).await.is_err() {
                        return;
                    }
                    if fault == Some(Fault::CutAfter) {
                        // Its answer says that the server is done with it.
                        let _ = from_server.read(&mut answer).await;
                        self.struck.notify_one();
                        return;
                    }
                }
                read = from_server.read(&mut answer) => {
                    let Ok(length @ 1..) = read else { return };
                    has_lost |= self.traffic() == Traffic::Swallowed;
                    if has_lost {
                        continue;
                    }
                    if to_client.write_all(&answer[..length]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
