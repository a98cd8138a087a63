//! AuditService.

use frikort_proto::v1::{ReadEventsRequest, read_events_response::Item};
use frikort_tests::client::by_cpr;
use tokio_stream::StreamExt;

use super::{
    case::{Ground, case},
    fields::{numbers, optional_person},
};

type Read = ReadEventsRequest;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_for_events_is_refused_by_field() {
    let ground = Ground::new().await;
    let sound = ReadEventsRequest { person: by_cpr(&ground.cpr), ..Read::default() };
    let mut cases = optional_person("person", |r: &mut Read| &mut r.person);
    cases.extend(numbers(
        "partition",
        |r: &mut Read| r.partition.get_or_insert_default(),
        &[1, -1, i32::MIN, i32::MAX],
    ));
    cases.extend(numbers("from_position", |r: &mut Read| &mut r.from_position, &[-1, i64::MIN]));
    cases.push(case(
        "all of it wrong",
        &["person", "partition", "from_position"],
        |r: &mut Read| {
            r.person.get_or_insert_default().person = None;
            r.partition = Some(7);
            r.from_position = -1;
        },
    ));
    ground
        .refuses(&sound, cases, async |r| ground.ledger.audits.clone().read_events(r).await)
        .await;
    ground.ledger.audits.clone().read_events(sound).await.expect("sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_beyond_the_head_is_no_error_and_gives_the_mark_alone() {
    let ground = Ground::new().await;
    for from_position in [3, 4, i64::MAX] {
        let request = ReadEventsRequest { from_position, ..Read::default() };
        let mut events =
            ground.ledger.audits.clone().read_events(request).await.unwrap().into_inner();
        let mut items = Vec::new();
        while let Some(item) = events.next().await {
            items.push(item.unwrap().item.unwrap());
        }
        let [Item::CaughtUp(mark)] = &items[..] else { panic!("{from_position}: {items:?}") };
        assert_eq!((mark.partition, mark.position), (0, 2), "from {from_position}");
    }
}
