//! What services say of their health, all the time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use frikort_tests::history::Services;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// How often each is asked.
const INTERVAL: Duration = Duration::from_millis(50);

/// A health check without a reply after this counts as no reply.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a service said at an instant; `None` where it said nothing.
pub(crate) type HealthSample = (Instant, Option<bool>);

/// Asks until it is ended.
pub(crate) struct HealthWatch {
    said: Vec<Arc<Mutex<Vec<HealthSample>>>>,
    tasks: JoinSet<()>,
}

impl HealthWatch {
    pub(crate) async fn start(services: &Services) -> Self {
        let (mut said, mut tasks) = (Vec::new(), JoinSet::new());
        for service in services.all() {
            let health = HealthClient::new(service.channel().await.unwrap());
            let of_service = Arc::new(Mutex::new(Vec::new()));
            said.push(of_service.clone());
            tasks.spawn(async move {
                loop {
                    let mut health = health.clone();
                    let asked = health.check(HealthCheckRequest::default());
                    let answer = timeout(TIMEOUT, asked).await.ok().and_then(Result::ok);
                    let serves =
                        answer.map(|reply| reply.get_ref().status() == ServingStatus::Serving);
                    of_service.lock().unwrap().push((Instant::now(), serves));
                    sleep(INTERVAL).await;
                }
            });
        }
        Self { said, tasks }
    }

    /// How long after `since` all of them said that they serve.
    pub(crate) async fn until_all_serve(&self, since: Instant, limit: Duration) -> Duration {
        loop {
            let serves = |said: &Arc<Mutex<Vec<HealthSample>>>| matches!(said.lock().unwrap().last(), Some((at, Some(true))) if *at > since);
            if self.said.iter().all(serves) {
                return since.elapsed();
            }
            assert!(since.elapsed() < limit, "a service does not say that it serves");
            sleep(INTERVAL).await;
        }
    }

    /// What each of them said, ledgers first.
    pub(crate) async fn end(mut self) -> Vec<Vec<HealthSample>> {
        self.tasks.shutdown().await;
        self.said.iter().map(|said| said.lock().unwrap().clone()).collect()
    }
}
