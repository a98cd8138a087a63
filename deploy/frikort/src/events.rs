//! `frikort events`: the records as they are stored, one JSON line each. The bytes are passed on
//! untouched, since they are what is hashed.

use std::{collections::BTreeMap, io::Write};

use frikort_proto::{
    Timestamp,
    error::Failure,
    v1::{
        EventRecord, PersonRef, ReadEventsRequest, audit_service_client::AuditServiceClient,
        read_events_response::Item,
    },
};
use tonic::Streaming;

use crate::{
    Ending,
    client::{CallError, MAX_ANSWER_BYTES, Service},
    output,
    profile::Us,
    wire,
};

/// Options of `frikort events`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only this person's records, by CPR number.
    #[arg(long, value_name = "N")]
    cpr: Option<String>,
    /// The first position wanted, in each partition.
    #[arg(long, value_name = "POSITION", default_value_t = 1)]
    from: i64,
    /// The last position wanted, in each partition.
    #[arg(long, value_name = "POSITION", conflicts_with = "follow")]
    to: Option<i64>,
    /// Only what was recorded at this instant or later, such as 2025-01-31T12:00:00Z.
    #[arg(long, value_name = "INSTANT", value_parser = wire::instant)]
    recorded_from: Option<Timestamp>,
    /// Only what was recorded before this instant.
    #[arg(long, value_name = "INSTANT", value_parser = wire::instant, conflicts_with = "follow")]
    recorded_before: Option<Timestamp>,
    /// Only records of this type, such as payment_reported; may be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only this partition.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Go on with new records as they are recorded, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

pub(crate) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let request = ReadEventsRequest {
        person: args.cpr.map(|cpr| wire::by_cpr(cpr, String::new())),
        partition: args.partition,
        from_position: args.from,
        follow: args.follow,
        to_position: args.to.unwrap_or_default(),
        recorded_from: args.recorded_from,
        recorded_before: args.recorded_before,
        types: args.types,
    };
    let mut events = Events::read(&args.ledger.service(us)?, request).await?;
    let mut out = output::bulk();
    while let Some(item) = events.next().await? {
        match item {
            Item::Event(event) => {
                out.write_all(&event.record)?;
                out.write_all(b"\n")?;
            }
            Item::CaughtUp(_) => {}
        }
        // Whoever follows wants each record when it comes.
        if args.follow {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(Ending::Done)
}

/// The head of each partition; of a person, only that partition's.
pub(crate) async fn heads(
    ledger: &Service,
    person: Option<PersonRef>,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    // Nothing stands there, so only the marks come.
    let request =
        ReadEventsRequest { person, from_position: i64::MAX, ..ReadEventsRequest::default() };
    let mut marks = Events::read(ledger, request).await?;
    let mut heads = BTreeMap::new();
    while let Some(item) = marks.next().await? {
        if let Item::CaughtUp(mark) = item {
            heads.insert(mark.partition, mark.position);
        }
    }
    Ok(heads)
}

/// A stream of records under way.
pub(crate) struct Events(Streaming<frikort_proto::v1::ReadEventsResponse>);

impl Events {
    /// Starts reading. Not repeated once it has begun: a reader must know what it has seen.
    pub(crate) async fn read(
        ledger: &Service,
        request: ReadEventsRequest,
    ) -> Result<Self, CallError> {
        let call = ledger.stream(request, |channel, request| async move {
            let client = AuditServiceClient::new(channel);
            client.max_decoding_message_size(MAX_ANSWER_BYTES).read_events(request).await
        });
        call.await.map(Self)
    }

    /// The next record or mark; `None` at the end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        match self.0.message().await {
            Ok(message) => Ok(message.and_then(|message| message.item)),
            Err(status) => Err(Failure::from_status(&status)
                .map_or(CallError::Foreign(status), CallError::Refused)
                .into()),
        }
    }

    /// The next record, past the marks.
    pub(crate) async fn next_event(&mut self) -> anyhow::Result<Option<EventRecord>> {
        while let Some(item) = self.next().await? {
            if let Item::Event(event) = item {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}
