//! What a generic client asks a server about itself: health of each service, and reflection in
//! both versions, with descriptors that say what the .proto files say.

use std::{collections::BTreeSet, future::ready, time::Duration};

use frikort_proto::DESCRIPTOR_SET;
use frikort_tests::stack::Stack;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tokio::time::timeout;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

const LEDGER: [&str; 4] = [
    "frikort.v1.AuditService",
    "frikort.v1.PaymentService",
    "frikort.v1.PolicyService",
    "frikort.v1.VisitationService",
];
const PROJECTOR: [&str; 3] =
    ["frikort.v1.AllowanceService", "frikort.v1.OverviewService", "frikort.v1.VerificationService"];

/// What reflection answers: the services listed, and the file that holds a symbol.
macro_rules! reflection {
    ($name:ident, $version:ident) => {
        mod $name {
            use tonic::transport::Channel;
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, ServerReflectionResponse,
                server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };

            async fn ask(channel: Channel, request: MessageRequest) -> MessageResponse {
                let request =
                    ServerReflectionRequest { host: String::new(), message_request: Some(request) };
                let mut client = ServerReflectionClient::new(channel);
                let requests = tokio_stream::once(request);
                let answers = client.server_reflection_info(requests).await.unwrap();
                let answer: ServerReflectionResponse =
                    answers.into_inner().message().await.unwrap().unwrap();
                answer.message_response.unwrap()
            }

            pub(super) async fn services(channel: Channel) -> Vec<String> {
                let request = MessageRequest::ListServices(String::new());
                match ask(channel, request).await {
                    MessageResponse::ListServicesResponse(list) => {
                        list.service.into_iter().map(|service| service.name).collect()
                    }
                    other => panic!("{other:?}"),
                }
            }

            pub(super) async fn files(channel: Channel, symbol: &str) -> Vec<Vec<u8>> {
                let request = MessageRequest::FileContainingSymbol(symbol.to_owned());
                match ask(channel, request).await {
                    MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto,
                    other => panic!("{symbol}: {other:?}"),
                }
            }
        }
    };
}

reflection!(reflection_v1, v1);
reflection!(reflection_v1alpha, v1alpha);

async fn status(channel: Channel, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

/// Waits until a service serves: the history is held against what was signed, before it is told.
async fn serves(channel: Channel, service: &str) {
    let request = HealthCheckRequest { service: service.to_owned() };
    let watched = HealthClient::new(channel).watch(request).await;
    let statuses = watched.expect("health is watched").into_inner();
    let serving = |answer: &HealthCheckResponse| answer.status() == ServingStatus::Serving;
    let mut statuses = statuses.try_filter(|answer| ready(serving(answer))).boxed();
    let first = timeout(Duration::from_secs(30), statuses.try_next()).await;
    assert!(first.is_ok_and(|first| matches!(first, Ok(Some(_)))), "{service:?} does not serve");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_for_each_service_that_a_process_serves_and_for_all_of_it() {
    let stack = Stack::start(1).await.unwrap();
    let ledger = stack.ledger.channel().await.unwrap();
    let projector = stack.projector.channel().await.unwrap();
    let (theirs, ours) = (PROJECTOR.as_slice(), LEDGER.as_slice());
    for (channel, served, elsewhere) in [(&ledger, ours, theirs), (&projector, theirs, ours)] {
        for name in served.iter().chain(&[""]) {
            serves(channel.clone(), name).await;
        }
        for name in elsewhere.iter().chain(&["frikort.v1.NoService"]) {
            assert_eq!(status(channel.clone(), name).await, Err(Code::NotFound), "{name:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_reflection_list_our_services() {
    let stack = Stack::start(1).await.unwrap();
    for (process, served) in
        [(&stack.ledger, LEDGER.as_slice()), (&stack.projector, PROJECTOR.as_slice())]
    {
        let channel = process.channel().await.unwrap();
        let v1 = reflection_v1::services(channel.clone()).await;
        let v1alpha = reflection_v1alpha::services(channel).await;
        for listed in [v1, v1alpha] {
            let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
            assert!(listed.contains("grpc.health.v1.Health"), "{listed:?}");
            for name in served {
                assert!(listed.contains(name), "{name} is not in {listed:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_gives_the_files_that_our_services_are_described_in() {
    let stack = Stack::start(1).await.unwrap();
    let known = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap().file;
    for (process, served) in
        [(&stack.ledger, LEDGER.as_slice()), (&stack.projector, PROJECTOR.as_slice())]
    {
        let channel = process.channel().await.unwrap();
        for name in served {
            let symbol = name.rsplit('.').next().unwrap();
            let v1 = reflection_v1::files(channel.clone(), name).await;
            let v1alpha = reflection_v1alpha::files(channel.clone(), name).await;
            assert_eq!(v1, v1alpha, "{name}");
            let file = FileDescriptorProto::decode(v1[0].as_slice()).unwrap();
            assert!(file.service.iter().any(|service| service.name() == symbol), "{name}");
            let original = known.iter().find(|known| known.name() == file.name()).unwrap();
            assert_eq!(file.service, original.service, "{name}");
            assert_eq!(file.message_type, original.message_type, "{name}");
        }
    }
}
