//! One process that the tool started: from its command line to its end, by its pid.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// How long a process may take until it serves, and until it has stopped.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts `program` apart from our terminal, so that Ctrl-C reaches it through us only.
    pub(super) fn spawn(
        name: &'static str,
        program: &Path,
        log: &Path,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        let child = arguments(&mut command)
            .env("FRIKORT_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                let advice = "cargo build --release -p frikort-ledger -p frikort-projector";
                format!("cannot start {}; build it first: {advice}", program.display())
            })?;
        Ok(Self { name, child })
    }

    /// The process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for a process that ends by itself.
    pub(super) async fn finish(mut self) -> anyhow::Result<()> {
        let status = timeout(PATIENCE, self.child.wait()).await.context("it hangs")??;
        ensure!(status.success(), "{} failed: {status}", self.name);
        Ok(())
    }

    /// Waits until it says over gRPC that it serves.
    pub(super) async fn serving(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at its start: {status}", self.name);
            }
            if is_serving(address).await {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not serve", self.name);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to stop, waits, and insists.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let Some(pid) = self.pid().map(i32::try_from).transpose()?.and_then(Pid::from_raw) else {
            return Ok(());
        };
        kill_process(pid, Signal::TERM)?;
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => {
                let status = status?;
                ensure!(status.success(), "{} ended badly: {status}", self.name);
                Ok(())
            }
            Err(_) => {
                self.child.kill().await?;
                bail!("{} did not stop and was killed", self.name)
            }
        }
    }
}

/// Whether the service at `address` is there and serves.
pub(super) async fn is_serving(address: SocketAddr) -> bool {
    let Ok(channel) = connect(address).await else { return false };
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

/// One connection.
pub(super) async fn connect(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    Channel::from_shared(format!("http://{address}"))
        .expect("a socket address makes a URI")
        .tcp_nodelay(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .connect()
        .await
}

/// Several connections, to be shared among the calls.
pub(super) async fn connections(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::with_capacity(count);
    for _ in 0..count {
        channels.push(connect(address).await?);
    }
    Ok(channels)
}

/// An address on loopback that is free now.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
