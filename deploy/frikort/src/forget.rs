//! `frikort forget`: has a person forgotten, by two operators together, and lists what was asked for.
//! What must stay out: deciding who may; the ledger does.

use std::io::Write;

use anyhow::Context;
use frikort_proto::{
    Timestamp,
    error::Failure,
    instant,
    v1::{
        ConfirmForgettingRequest, Forgetting, ForgettingState, ListForgettingsRequest,
        RequestForgettingRequest, register_service_client::RegisterServiceClient,
    },
};
use time::format_description::well_known::Rfc3339;

use crate::{
    Ending,
    client::{CallError, Service},
    output,
    profile::Us,
    wire,
};

const AFTER: &str = "\
Confirming destroys what leads from the person's CPR numbers to the person; it cannot be undone. Events,
totals and proofs stay as they are, and are nobody's. Backups are not reached. Whoever has asked cannot
confirm. Deactivate a card first that is active.

Examples:
  frikort forget request --cpr 0101605001 --reference SAG-1
  frikort forget list --waiting
  frikort forget confirm 0b8f…                      in the name of another operator";

/// What is done.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = AFTER)]
pub(crate) enum Command {
    /// Ask for a person to be forgotten; nothing is destroyed yet. Print the request's line
    Request(Request),
    /// Confirm what another operator has asked for: the person is forgotten when this returns
    Confirm(Confirm),
    /// What was asked for and what was confirmed: one line of CSV each
    List(List),
}

#[derive(clap::Args, Debug)]
#[group(id = "person", required = true, multiple = false, args = ["cpr", "person_id"])]
pub(crate) struct Request {
    /// The person, by CPR number.
    #[arg(long, value_name = "N")]
    cpr: Option<String>,
    /// The person, by the ledger's id.
    #[arg(long, value_name = "UUID")]
    person_id: Option<String>,
    /// Why, as the number of a case.
    #[arg(long, value_name = "TEXT")]
    reference: String,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Confirm {
    /// The request's id, as `frikort forget list` tells it.
    #[arg(value_name = "REQUEST_ID")]
    request_id: String,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

#[derive(clap::Args, Debug)]
pub(crate) struct List {
    /// Only what waits for another operator.
    #[arg(long)]
    waiting: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

pub(crate) async fn run(command: Command, us: &Us) -> anyhow::Result<Ending> {
    let told = match command {
        Command::Request(args) => vec![request(args, us).await?],
        Command::Confirm(args) => vec![confirm(args, us).await?],
        Command::List(args) => list(&args.ledger.service(us)?, args.waiting).await?,
    };
    let mut out = csv::Writer::from_writer(output::bulk());
    out.write_record([
        "request_id",
        "state",
        "person_id",
        "reference",
        "requested_by",
        "request_time",
        "confirmed_by",
        "confirm_time",
    ])?;
    for forgetting in told {
        let state = match forgetting.state() {
            ForgettingState::Requested => "requested",
            ForgettingState::Forgotten => "forgotten",
            ForgettingState::Unspecified => "",
        };
        out.write_record([
            &forgetting.request_id,
            state,
            &forgetting.person_id,
            &forgetting.reference,
            &forgetting.requested_by,
            &shown(forgetting.request_time)?,
            &forgetting.confirmed_by,
            &shown(forgetting.confirm_time)?,
        ])?;
    }
    out.into_inner().map_err(|error| error.into_error())?.flush()?;
    Ok(Ending::Done)
}

async fn request(args: Request, us: &Us) -> anyhow::Result<Forgetting> {
    let person = match (args.cpr, args.person_id) {
        (Some(cpr), _) => wire::by_cpr(cpr, String::new()),
        (None, id) => wire::by_id(id.unwrap_or_default()),
    };
    let request = RequestForgettingRequest { person: Some(person), reference: args.reference };
    let ledger = args.ledger.service(us)?;
    let call = ledger.call(request, |channel, request| async move {
        RegisterServiceClient::new(channel).request_forgetting(request).await
    });
    call.await?.forgetting.context("an answer without a request")
}

async fn confirm(args: Confirm, us: &Us) -> anyhow::Result<Forgetting> {
    let request = ConfirmForgettingRequest { request_id: args.request_id };
    let ledger = args.ledger.service(us)?;
    let call = ledger.call(request, |channel, request| async move {
        RegisterServiceClient::new(channel).confirm_forgetting(request).await
    });
    call.await?.forgetting.context("an answer without a request")
}

async fn list(ledger: &Service, waiting_only: bool) -> anyhow::Result<Vec<Forgetting>> {
    let request = ListForgettingsRequest { waiting_only };
    let call = ledger.stream(request, |channel, request| async move {
        RegisterServiceClient::new(channel).list_forgettings(request).await
    });
    let (mut answers, mut told) = (call.await?, Vec::new());
    while let Some(message) = answers.message().await.map_err(|status| {
        Failure::from_status(&status).map_or(CallError::Foreign(status), CallError::Refused)
    })? {
        told.push(message.forgetting.context("an answer without a request")?);
    }
    Ok(told)
}

fn shown(at: Option<Timestamp>) -> anyhow::Result<String> {
    let Some(at) = at else { return Ok(String::new()) };
    Ok(instant(at).context("an instant that is none")?.format(&Rfc3339)?)
}
