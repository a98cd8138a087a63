//! The limit schedule: loading it from a CSV file, and showing it. What must stay out: any
//! amount; the schedule is data (`deploy/annual-limits.csv`), and the ledger keeps it as events.

use std::{io::Read, path::Path};

use anyhow::{Context, bail};
use frikort_domain::{Amount, parse_date};
use frikort_proto::v1::{
    AnnualLimit, ListAnnualLimitsRequest, SetAnnualLimitRequest,
    policy_service_client::PolicyServiceClient,
};

use crate::{
    client::Service,
    money, output,
    table::{self, Align},
    wire,
};

/// The schedule as published until this release.
const PUBLISHED: &str = include_str!("../../annual-limits.csv");

/// `frikort limits`.
pub(crate) async fn run(ledger: &Service, load: Option<&Path>) -> anyhow::Result<()> {
    if let Some(file) = load {
        let open = std::fs::File::open(file);
        let limits = open
            .map_err(anyhow::Error::from)
            .and_then(read)
            .with_context(|| format!("in {}", file.display()))?;
        for limit in limits {
            set(ledger, limit).await?;
        }
    }
    show(ledger).await
}

/// Loads the published schedule. A year's entry that the operator has replaced stays replaced;
/// one that is on record is repeated, since a partition may have been added.
pub(crate) async fn load_published(ledger: &Service) -> anyhow::Result<()> {
    let on_record = list(ledger).await?;
    for limit in read(PUBLISHED.as_bytes()).context("in the published schedule")? {
        let day = |l: &AnnualLimit| (l.year, l.in_force_date);
        let replaced = on_record.iter().any(|l| day(l) == day(&limit) && *l != limit);
        if !replaced {
            set(ledger, limit).await?;
        }
    }
    Ok(())
}

async fn set(ledger: &Service, limit: AnnualLimit) -> anyhow::Result<()> {
    let request = SetAnnualLimitRequest { limit: Some(limit), validate_only: false };
    let call = ledger.call(request, |channel, request| async move {
        PolicyServiceClient::new(channel).set_annual_limit(request).await
    });
    call.await?;
    Ok(())
}

async fn list(ledger: &Service) -> anyhow::Result<Vec<AnnualLimit>> {
    let call = ledger.call(ListAnnualLimitsRequest {}, |channel, request| async move {
        PolicyServiceClient::new(channel).list_annual_limits(request).await
    });
    Ok(call.await?.limits)
}

async fn show(ledger: &Service) -> anyhow::Result<()> {
    let columns = ["Year", "Limit", "In force from", "Citation"];
    let mut table = table::new(&columns, &[Align::Left, Align::Right, Align::Left, Align::Left]);
    for limit in list(ledger).await? {
        table.add_row([
            limit.year.to_string(),
            money::danish(limit.limit_oere),
            wire::show(limit.in_force_date),
            limit.citation,
        ]);
    }
    output::line(&table.to_string())?;
    Ok(())
}

/// Reads `year,limit,in_force_from,citation`; the limit in kroner, with or without decimals.
fn read(file: impl Read) -> anyhow::Result<Vec<AnnualLimit>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    if reader.headers()? != vec!["year", "limit", "in_force_from", "citation"] {
        bail!("the columns must be year,limit,in_force_from,citation");
    }
    let mut limits = Vec::new();
    for row in reader.records() {
        let row = row?;
        let line = row.position().map_or(0, csv::Position::line);
        limits.push(entry(&row).with_context(|| format!("line {line}"))?);
    }
    Ok(limits)
}

fn entry(row: &csv::StringRecord) -> anyhow::Result<AnnualLimit> {
    let kroner = if row[1].contains('.') { row[1].to_owned() } else { format!("{}.00", &row[1]) };
    let limit = kroner.parse::<Amount>().context("limit")?;
    let day = parse_date(&row[2]).context("in_force_from must be a date such as 2025-01-01")?;
    Ok(AnnualLimit {
        year: row[0].parse().context("year must be a number")?,
        limit_oere: limit.oere(),
        in_force_date: Some(wire::date(day)),
        citation: row[3].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schedule_reads_and_2023_has_two_entries() {
        let limits = read(PUBLISHED.as_bytes()).unwrap();
        let of = |year| {
            limits.iter().filter(|l| l.year == year).map(|l| l.limit_oere).collect::<Vec<_>>()
        };
        assert_eq!(of(2022), [2_000_000]);
        assert_eq!(of(2023), [2_000_000, 4_000_000]);
        assert_eq!(of(2024), [4_128_000]);
        assert_eq!(of(2025), [4_276_600]);
        assert!(limits.iter().all(|l| !l.citation.is_empty() && l.in_force_date.is_some()));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let text =
            "year,limit,in_force_from,citation\n2026,43000,2026-01-01,x\n2027,x,2027-01-01,y\n";
        assert!(format!("{:#}", read(text.as_bytes()).unwrap_err()).starts_with("line 3: limit"));
    }
}
