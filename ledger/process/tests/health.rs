//! Health over a real connection.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use frikort_process::serve;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

async fn status(client: &mut HealthClient<Channel>) -> ServingStatus {
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    answer.into_inner().status()
}

/// A sequencer that has ended, by whatever fault, tells nobody anything any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_not_serving() {
    let listener = serve::bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (routes, health) = serve::routes().await.unwrap();
    let (sound, is_sound) = watch::channel(true);
    let telling = tokio::spawn(serve::tell_health(health, vec![""], vec![is_sound]));
    let stop = CancellationToken::new();
    let limits = serve::Limits::default();
    let serving = tokio::spawn(serve::serve(listener, None, limits, routes.routes(), stop.clone()));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let until_serving = async {
        while status(&mut client).await != ServingStatus::Serving {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), until_serving).await.unwrap();

    drop(sound);
    telling.await.unwrap();
    assert_eq!(status(&mut client).await, ServingStatus::NotServing);
    stop.cancel();
    serving.await.unwrap().unwrap();
}
