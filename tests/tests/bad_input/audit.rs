//! AuditService.

use frikort_domain::Record;
use frikort_proto::{
    Timestamp, timestamp,
    v1::{ReadEventsRequest, read_events_response::Item},
};
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
    cases.extend(numbers("to_position", |r: &mut Read| &mut r.to_position, &[-1, i64::MIN]));
    let bad_instant = Timestamp { seconds: 0, nanos: -1 };
    cases.push(case("no instant", &["recorded_from", "recorded_before"], move |r: &mut Read| {
        (r.recorded_from, r.recorded_before) = (Some(bad_instant), Some(bad_instant));
    }));
    cases.push(case("an end before the begin", &["to_position"], |r: &mut Read| {
        (r.from_position, r.to_position) = (3, 2);
    }));
    cases.push(case("an end that is never reached", &["to_position"], |r: &mut Read| {
        (r.to_position, r.follow) = (2, true);
    }));
    cases.push(case("an instant that ends it", &["recorded_before"], |r: &mut Read| {
        (r.recorded_before, r.follow) = (Some(Timestamp::default()), true);
    }));
    cases.push(case("types", &["types[0]", "types[2]"], |r: &mut Read| {
        r.types = ["", "card_granted", "payment"].map(str::to_owned).to_vec();
    }));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_range_an_interval_and_types_choose_what_is_read() {
    let ground = Ground::new().await;
    let read = async |request: Read| {
        let mut events =
            ground.ledger.audits.clone().read_events(request).await.unwrap().into_inner();
        let (mut places, mut mark) = (Vec::new(), None);
        while let Some(item) = events.next().await {
            match item.unwrap().item.unwrap() {
                Item::Event(event) => {
                    let record = Record::decode(std::str::from_utf8(&event.record).unwrap());
                    places.push((event.position, record.unwrap().recorded_at));
                }
                Item::CaughtUp(caught_up) => mark = Some(caught_up.position),
            }
        }
        (places, mark)
    };
    let (all, _) = read(Read::default()).await;
    let [(1, _), (2, second)] = all[..] else { panic!("{all:?}") };
    let at = |micros| Some(timestamp(second + time::Duration::microseconds(micros)));
    let types = |name: &str| Read { types: vec![name.to_owned()], ..Read::default() };
    for (request, positions, mark) in [
        (Read { to_position: 1, ..Read::default() }, vec![1], 1),
        (Read { to_position: 9, ..Read::default() }, vec![1, 2], 2),
        (Read { from_position: 2, to_position: 2, ..Read::default() }, vec![2], 2),
        (Read { recorded_from: at(0), ..Read::default() }, vec![2], 2),
        (Read { recorded_from: at(1), ..Read::default() }, vec![], 2),
        (Read { recorded_before: at(0), ..Read::default() }, vec![1], 1),
        (Read { recorded_before: at(1), ..Read::default() }, vec![1, 2], 2),
        (Read { recorded_from: at(0), recorded_before: at(0), ..Read::default() }, vec![], 1),
        (Read { recorded_before: Some(Timestamp::default()), ..Read::default() }, vec![], 0),
        (types("annual_limit_set"), vec![1], 2),
        (types("card_granted"), vec![2], 2),
        (types("payment_reported"), vec![], 2),
        (Read { person: by_cpr(&ground.cpr), to_position: 1, ..Read::default() }, vec![], 1),
    ] {
        let shown = format!("{request:?}");
        let (places, caught_up) = read(request).await;
        let read: Vec<i64> = places.into_iter().map(|(position, _)| position).collect();
        assert_eq!((read, caught_up), (positions, Some(mark)), "{shown}");
    }
}
