//! Every method of the contract, asked by every role over the wire: the table is what the services
//! do.

use frikort_access::{METHODS, Role, Who};
use frikort_tests::process::Service;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{
    Code,
    body::Body,
    codegen::{Service as _, http},
    transport::Channel,
};

use crate::Secured;

/// Asks a method with an empty message, and gives the status that comes without waiting for an
/// answer; `None` where the request was let through to be answered.
async fn ask(channel: &mut Channel, path: &str) -> Option<Code> {
    let request = http::Request::post(format!("https://127.0.0.1{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "500m")
        .body(Body::new(http_body_util::Full::new(bytes_of_nothing())))
        .unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    let status = response.headers().get("grpc-status")?.to_str().unwrap().parse::<i32>().unwrap();
    Some(Code::from(status))
}

/// An empty message, as gRPC frames it.
fn bytes_of_nothing() -> tonic::codegen::Bytes {
    tonic::codegen::Bytes::from_static(&[0; 5])
}

/// The path of every method of the contract.
fn contract() -> Vec<String> {
    let set = FileDescriptorSet::decode(frikort_proto::DESCRIPTOR_SET).unwrap();
    let ours = set.file.iter().filter(|file| file.package() == "frikort.v1");
    let services = ours.flat_map(|file| &file.service);
    let paths = services.flat_map(|service| {
        let name = service.name();
        service.method.iter().map(move |of| format!("/frikort.v1.{name}/{}", of.name()))
    });
    paths.collect()
}

/// The service that has a method.
fn home<'a>(secured: &'a Secured, path: &str) -> &'a Service {
    let projectors = ["AllowanceService", "OverviewService", "VerificationService"];
    match projectors.iter().any(|name| path.contains(name)) || path == "/metrics" {
        true => &secured.projector,
        false => &secured.ledger,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_open_to_the_roles_of_the_table_and_to_nobody_else() {
    let secured = Secured::start().await;
    let mut asked = 0;
    for role in Role::ALL {
        let shown = secured.authority.sign(&format!("{}.test", role.name())).unwrap();
        for path in contract() {
            let service = home(&secured, &path);
            let mut channel = secured.connect(service, Some(&shown)).await.unwrap();
            let of = METHODS.iter().find(|method| method.path == path);
            let of = of.unwrap_or_else(|| panic!("{path} is not in the table"));
            let Who::Roles(roles) = of.who else { panic!("{path} is open to everybody") };
            let refused = ask(&mut channel, &path).await == Some(Code::PermissionDenied);
            assert_eq!(refused, !roles.contains(&role), "{path} as {}", role.name());
            asked += 1;
        }
    }
    assert!(asked > 150, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_is_told_nothing() {
    let secured = Secured::start().await;
    let stranger = secured.authority.sign("stranger.test").unwrap();
    for shown in [None, Some(&stranger)] {
        for path in contract() {
            let service = home(&secured, &path);
            let mut channel = secured.connect(service, shown).await.unwrap();
            assert_eq!(ask(&mut channel, &path).await, Some(Code::Unauthenticated), "{path}");
        }
        // Nor which methods there are.
        let mut channel = secured.connect(&secured.ledger, shown).await.unwrap();
        let none = "/frikort.v1.PaymentService/DeleteEverything";
        assert_eq!(ask(&mut channel, none).await, Some(Code::Unauthenticated));
        let health = "/grpc.health.v1.Health/Check";
        assert_eq!(ask(&mut channel, health).await, None, "health is for everybody");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_get_is_held_against_the_table_too() {
    let secured = Secured::start().await;
    for (path, role, expected) in [
        ("/metrics", Some("operator"), "200"),
        ("/metrics", Some("employer"), "403"),
        ("/metrics", None, "401"),
        ("/log/partition/0/keys", Some("auditor"), "200"),
        ("/log/partition/0/keys", Some("municipality"), "403"),
        ("/log/partition/0/keys", None, "401"),
        // Nothing is there, and gRPC says so.
        ("/log/../../etc/passwd", Some("auditor"), "unimplemented"),
        ("/log/%2e%2e/metrics", Some("employer"), "403"),
        ("/anything", Some("operator"), "403"),
    ] {
        let shown = role.map(|role| secured.authority.sign(&format!("{role}.test")).unwrap());
        let mut channel = secured.connect(home(&secured, path), shown.as_ref()).await.unwrap();
        let request = http::Request::get(format!("https://127.0.0.1{path}"));
        let request = request.body(Body::empty()).unwrap();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        let response = channel.call(request).await.unwrap();
        let status = response.status();
        let answered = match response.headers().get("grpc-status") {
            Some(code) if code == "12" => "unimplemented",
            _ => status.as_str(),
        };
        assert_eq!(answered, expected, "{path} as {role:?}");
    }
}
