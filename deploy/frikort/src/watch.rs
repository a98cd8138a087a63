//! `frikort watch`: changes of allowances as they come, one line each, with the position to go on
//! from. Copies what the projector answers; nothing is computed here.

use std::io::Write;

use anyhow::Context;
use frikort_proto::{
    error::Failure,
    instant,
    v1::{
        Allowance, LedgerPosition, LimitChange, WatchAllowancesRequest,
        allowance_service_client::AllowanceServiceClient, watch_allowances_response::Item,
    },
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Ending,
    client::CallError,
    money, output,
    persons::{Asked, OrEverybody},
    profile::Us,
    wire,
};

/// Options of `frikort watch`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Go on after this position: the first two columns of a line that an earlier run printed; once for
    /// each partition.
    #[arg(long, value_name = "PARTITION:POSITION,RECORDED")]
    after: Vec<String>,
    #[command(flatten)]
    persons: OrEverybody,
    /// Only this calendar year.
    #[arg(long, value_name = "YEAR", default_value_t = 0, hide_default_value = true)]
    year: i32,
    #[command(flatten)]
    projector: crate::cli::ProjectorAddress,
}

/// The columns; a limit has neither person nor sums.
const COLUMNS: &str =
    "position,recorded,what,person_id,year,limit,total,used,remaining,taxable,payments";

pub(crate) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let person = |asked: Asked| wire::by_cpr(asked.cpr, String::new());
    let request = WatchAllowancesRequest {
        after: args.after.iter().map(|text| position(text)).collect::<anyhow::Result<_>>()?,
        persons: args.persons.read()?.into_iter().map(person).collect(),
        year: args.year,
    };
    let projector = args.projector.service(us)?;
    // Not repeated once it has begun: whoever reads on knows the last line that was printed.
    let call = projector.stream(request, |channel, request| async move {
        AllowanceServiceClient::new(channel).watch_allowances(request).await
    });
    let mut items = call.await?;
    let mut out = output::bulk();
    writeln!(out, "{COLUMNS}")?;
    while let Some(message) = items.message().await.map_err(|status| {
        Failure::from_status(&status).map_or(CallError::Foreign(status), CallError::Refused)
    })? {
        let lines = match message.item {
            Some(Item::Change(change)) => {
                let at = place(change.position)?;
                let line = |allowance| format!("{at},{}\n", columns(allowance));
                change.allowances.iter().map(line).collect()
            }
            Some(Item::Limit(change)) => limit(&change)?,
            Some(Item::CaughtUp(_)) => {
                out.flush()?;
                continue;
            }
            None => continue,
        };
        // All lines of a position at once: whoever is cut off has printed none of them, or all.
        out.write_all(lines.as_bytes())?;
    }
    out.flush()?;
    Ok(Ending::Done)
}

fn position(text: &str) -> anyhow::Result<LedgerPosition> {
    let parsed = text.split_once(',').and_then(|(place, recorded)| {
        let (partition, position) = place.split_once(':')?;
        let recorded_at = OffsetDateTime::parse(recorded, &Rfc3339).ok()?;
        let (partition, position) = (partition.parse().ok()?, position.parse().ok()?);
        Some(LedgerPosition::new(partition, position, Some(recorded_at)))
    });
    parsed.with_context(|| {
        format!(
            "--after {text}: give the first two columns of a line, PARTITION:POSITION,RECORDED, such \
             as 0:17,2026-11-22T04:18:59.123456Z"
        )
    })
}

/// `0:17,2026-11-22T04:18:59.123456Z`
fn place(at: Option<LedgerPosition>) -> anyhow::Result<String> {
    let at = at.context("an answer without a position")?;
    let recorded = at.recorded_time.and_then(instant).context("a position without an instant")?;
    Ok(format!("{}:{},{}", at.partition, at.position, recorded.format(&Rfc3339)?))
}

fn columns(a: &Allowance) -> String {
    let amounts = [a.limit_oere, a.total_oere, a.used_oere, a.remaining_oere, a.taxable_oere];
    let amounts = amounts.map(money::plain).join(",");
    format!("allowance,{},{},{amounts},{}", a.person_id, a.year, a.payment_count)
}

fn limit(change: &LimitChange) -> anyhow::Result<String> {
    let limit = change.limit.as_ref().context("a limit without its amount")?;
    let at = place(change.position)?;
    Ok(format!("{at},limit,,{},{},,,,,\n", limit.year, money::plain(limit.limit_oere)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_to_go_on() {
        let recorded = time::macros::datetime!(2026-11-22 04:18:59.123456 UTC);
        let at = LedgerPosition::new(1, 17, Some(recorded));
        let line = place(Some(at)).unwrap();
        assert_eq!(line, "1:17,2026-11-22T04:18:59.123456Z");
        assert_eq!(position(&line).unwrap(), at);
        for bad in ["1:17", "17,2026-11-22T04:18:59Z", "0:x,2026-11-22T04:18:59Z", "0:1,today"] {
            assert!(position(bad).is_err(), "{bad}");
        }
        let allowance = Allowance::new("p".to_owned(), 2022, 2_000_000, 2_500_050, 3);
        let row = columns(&allowance);
        assert_eq!(row, "allowance,p,2022,20000.00,25000.50,20000.00,0.00,5000.50,3");
        assert_eq!(format!("{line},{row}").split(',').count(), COLUMNS.split(',').count());
    }
}
