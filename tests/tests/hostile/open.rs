//! What everybody may ask, known or not: whether a service is well, and what it offers. One connection
//! has so many answers, and another is answered as if there were no other.

use std::time::Duration;

use frikort_proto::{error::Failure, v1::ErrorReason};
use frikort_tests::pki;
use futures::{StreamExt, future::join_all, stream};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::Ground;

/// What one connection may have at once, and a second; a little more where a second has just begun.
const AT_ONCE: f64 = 200.0;
const PER_SECOND: f64 = 50.0;

async fn is_well(channel: &Channel) -> Result<(), Status> {
    let mut health = HealthClient::new(channel.clone());
    health.check(HealthCheckRequest::default()).await.map(drop)
}

/// So many answers may there have been since.
fn most(began: Instant) -> f64 {
    AT_ONCE + PER_SECOND * (began.elapsed().as_secs_f64() + 0.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_so_often_and_to_an_orchestrator_always() {
    let ground = Ground::start().await;
    let connect =
        async || pki::connect(&ground.authority.pem(), ground.address(), None).await.unwrap();
    let (hostile, orchestrator) = (connect().await, connect().await);
    let attack = || {
        let (hostile, orchestrator) = (hostile.clone(), orchestrator.clone());
        async move {
            let (began, mut answered, mut refused) = (Instant::now(), 0_u32, 0_u32);
            while began.elapsed() < Duration::from_secs(2) {
                // Slower than what a stranger is cut off for, which sends too much.
                sleep(Duration::from_millis(50)).await;
                for answer in join_all((0..30).map(|_| is_well(&hostile))).await {
                    let Err(status) = answer else {
                        answered += 1;
                        continue;
                    };
                    let failure = Failure::from_status(&status).expect("our own refusal");
                    assert_eq!(failure.reason, ErrorReason::Overloaded);
                    assert!(failure.retry_delay().is_some_and(|wait| wait.as_secs() < 1));
                    refused += 1;
                }
                is_well(&orchestrator).await.expect("the orchestrator is starved");
            }
            assert!(f64::from(answered) <= most(began), "{answered} answered");
            // After the delay it is answered again.
            sleep(Duration::from_millis(100)).await;
            is_well(&hostile).await.unwrap();
            refused
        }
    };
    let refused = ground.endures("health", attack).await;
    assert!(refused > 0, "nothing was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_answers_on_one_call_are_paced() {
    let ground = Ground::start().await;
    let channel = pki::connect(&ground.authority.pem(), ground.address(), None).await.unwrap();
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let began = Instant::now();
    let asked = stream::iter(vec![request; 1000]).chain(stream::pending());
    let mut reflection = ServerReflectionClient::new(channel);
    let mut answers = reflection.server_reflection_info(asked).await.unwrap().into_inner();
    let mut answered = 0_u32;
    while let Ok(answer) = timeout(Duration::from_secs(2), answers.next()).await {
        answer.unwrap().unwrap();
        answered += 1;
        assert!(f64::from(answered) <= most(began), "{answered} in {:?}", began.elapsed());
        if answered == 300 {
            break;
        }
    }
    // They wait, and are not refused.
    assert_eq!(answered, 300);
    ground.is_as_before("reflection").await;
}
