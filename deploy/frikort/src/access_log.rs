//! `frikort access-log`: who was looked up, one line of CSV each. Copies what the ledger answers;
//! nothing is computed here.

use std::io::Write;

use anyhow::Context;
use frikort_proto::{
    Timestamp,
    error::Failure,
    instant,
    v1::{ListLookupsRequest, access_log_service_client::AccessLogServiceClient},
};
use time::format_description::well_known::Rfc3339;

use crate::{Ending, client::CallError, output, profile::Us, wire};

const AFTER: &str = "\
A citizen has a right to know when they were looked up, and what for: that is what is printed. --full
adds who, by which method, and what was asked, where the caller may read it (auditor, operator).

Purposes are the codes that callers stated; PAYROLL, VISITATION, AUDIT and OPERATION stand for a role
that stated none.

Examples:
  frikort access-log --cpr 0101605001
  frikort access-log --full --from 2026-01-01T00:00:00Z > lookups.csv";

/// Options of `frikort access-log`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Only this person's, by CPR number; everybody's without it.
    #[arg(long, value_name = "N")]
    cpr: Option<String>,
    /// Only look-ups at this instant or later, such as 2025-01-31T12:00:00Z.
    #[arg(long, value_name = "INSTANT", value_parser = wire::instant)]
    from: Option<Timestamp>,
    /// Only look-ups before this instant.
    #[arg(long, value_name = "INSTANT", value_parser = wire::instant)]
    before: Option<Timestamp>,
    /// Tell who looked, by which method, and what was asked.
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    ledger: crate::cli::Ledger,
}

pub(crate) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let request = ListLookupsRequest {
        person: args.cpr.map(|cpr| wire::by_cpr(cpr, String::new())),
        from_time: args.from,
        before_time: args.before,
    };
    // Not repeated once it has begun: lines have been printed.
    let ledger = args.ledger.service(us)?;
    let call = ledger.stream(request, |channel, request| async move {
        AccessLogServiceClient::new(channel).list_lookups(request).await
    });
    let mut lookups = call.await?;
    let mut out = csv::Writer::from_writer(output::bulk());
    let columns = ["time", "purpose", "caller", "role", "method", "asked", "person_id"];
    let shown = if args.full { columns.len() } else { 2 };
    out.write_record(&columns[..shown])?;
    while let Some(message) = lookups.message().await.map_err(|status| {
        Failure::from_status(&status).map_or(CallError::Foreign(status), CallError::Refused)
    })? {
        let lookup = message.lookup.context("an answer without a look-up")?;
        let at = lookup.lookup_time.and_then(instant).context("a look-up without an instant")?;
        let at = at.format(&Rfc3339)?;
        let line = [
            &at,
            &lookup.purpose,
            &lookup.caller,
            &lookup.caller_role,
            &lookup.method,
            &lookup.asked,
            &lookup.person_id,
        ];
        out.write_record(&line[..shown])?;
    }
    out.into_inner().map_err(|error| error.into_error())?.flush()?;
    Ok(Ending::Done)
}
