//! Messages that cannot be read at all: bytes that are no message, text that is no UTF-8.

use frikort_proto::{error::Failure, v1::ReportPaymentResponse};
use prost::{Message, bytes::BufMut};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use super::case::Ground;
use frikort_tests::client::report;

/// Sends bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ReportPaymentResponse;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ReportPaymentResponse;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let answer = ReportPaymentResponse::decode(from);
        answer.map(Some).map_err(|error| Status::data_loss(error.to_string()))
    }
}

/// The reference `sound` of a sound report, replaced by bytes that are no text.
fn not_utf8(cpr: &str) -> Vec<u8> {
    let mut bytes = report(cpr, "sound", 50_000).encode_to_vec();
    let at = bytes.windows(5).position(|window| window == b"sound").unwrap();
    bytes[at..at + 5].copy_from_slice(&[0xff, 0xfe, 0xc3, 0x28, 0x80]);
    bytes
}

async fn refused(ground: &Ground, method: &'static str, bytes: Vec<u8>) -> Status {
    let channel = ground.stack.ledger.channel().await.unwrap();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let request = Request::new(tokio_stream::once(bytes));
    let path = PathAndQuery::from_static(method);
    match client.streaming(request, path, Raw).await {
        Err(status) => status,
        Ok(answer) => {
            answer.into_inner().message().await.expect_err("it cannot have been understood")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_is_the_callers_fault_in_our_error_model() {
    let ground = Ground::new().await;
    let before = ground.stack.recorded().await.unwrap();
    let unary = "/frikort.v1.PaymentService/ReportPayment";
    let stream = "/frikort.v1.PaymentService/ReportPayments";
    // One item of a stream: the report as its field 1.
    let item = |report: Vec<u8>| {
        let mut item = vec![0x0a, u8::try_from(report.len()).unwrap()];
        item.extend(report);
        item
    };
    let cpr = &ground.cpr;
    for (what, method, bytes) in [
        ("no UTF-8", unary, not_utf8(cpr)),
        ("cut short", unary, report(cpr, "sound", 1).encode_to_vec()[..9].to_vec()),
        ("no message", unary, vec![0xff; 64]),
        ("no UTF-8 in a stream", stream, item(not_utf8(cpr))),
        ("no message in a stream", stream, vec![0xff; 64]),
    ] {
        let status = refused(&ground, method, bytes).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        let failure = Failure::from_status(&status).expect("an error of our model");
        assert_eq!(failure.reason_name(), "INVALID_FIELD", "{what}");
        assert_eq!(failure.fields[0].0, "(message)", "{what}");
        assert!(!status.message().contains(cpr), "{what}");
    }
    assert_eq!(ground.stack.recorded().await.unwrap(), before);
}
