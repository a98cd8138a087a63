//! What the sample came to: the years' totals, and one person's year payment by payment. Sums
//! of answers for display; nothing is decided here.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use frikort_proto::v1::{Allowance, BatchGetAllowancesRequest, GetStatementRequest, Payment};

use crate::{
    allowance,
    client::Service,
    money, output, statement,
    table::{self, Align},
    wire,
};

/// The calendar years of the sample.
const YEARS: [i32; 3] = [2022, 2023, 2024];

/// Prints a line a year, and answers every person's allowances with payments.
pub(super) async fn years(projector: &Service, cprs: &[String]) -> anyhow::Result<Vec<Allowance>> {
    let persons: Vec<_> = cprs.iter().map(|cpr| wire::by_cpr(cpr.clone(), String::new())).collect();
    let mut all = Vec::new();
    for year in YEARS {
        let persons = persons.clone();
        let request =
            BatchGetAllowancesRequest { persons, year, ..BatchGetAllowancesRequest::default() };
        let answers = allowance::batch(projector, request).await?.into_iter();
        all.extend(answers.map(|(_, allowance)| allowance).filter(|a| a.payment_count > 0));
    }
    output::line("\n2. What it came to")?;
    output::line(&by_year(&all).to_string())?;
    Ok(all)
}

fn by_year(allowances: &[Allowance]) -> comfy_table::Table {
    let columns = ["Year", "Limit", "Persons", "Payments", "Paid out", "Exempt", "Taxable"];
    let mut table = table::new(&columns, &[Align::Right; 7]);
    let mut years: BTreeMap<(i32, i64), Vec<&Allowance>> = BTreeMap::new();
    for allowance in allowances {
        years.entry((allowance.year, allowance.limit_oere)).or_default().push(allowance);
    }
    for ((year, limit), of_year) in years {
        let sum =
            |part: fn(&Allowance) -> i64| money::danish(of_year.iter().map(|a| part(a)).sum());
        table.add_row([
            year.to_string(),
            money::danish(limit),
            of_year.len().to_string(),
            of_year.iter().map(|a| a.payment_count).sum::<i32>().to_string(),
            sum(|a| a.total_oere),
            sum(|a| a.used_oere),
            sum(|a| a.taxable_oere),
        ]);
    }
    table
}

/// Explains one year of a person who went over the limit: the one with most to see.
pub(super) async fn one_year(projector: &Service, all: &[Allowance]) -> anyhow::Result<()> {
    let mut candidates = Vec::new();
    for allowance in all.iter().filter(|a| a.taxable_oere > 0) {
        let request = GetStatementRequest {
            person: Some(wire::by_id(allowance.person_id.clone())),
            year: allowance.year,
            ..GetStatementRequest::default()
        };
        candidates.push((allowance, statement::whole(projector, request).await?.payments));
    }
    let chosen = candidates.into_iter().max_by_key(|(_, payments)| to_see(payments));
    let Some((allowance, payments)) = chosen else { return Ok(()) };
    let (year, limit) = (allowance.year, money::danish(allowance.limit_oere));
    output::line(&format!(
        "\n3. One person's {year}, payment by payment in the order of registration; limit {limit}"
    ))?;
    output::line(&explained(&payments, allowance.limit_oere).to_string())?;
    output::line(&format!(
        "{} paid out, {} exempt, {} taxable.",
        money::danish(allowance.total_oere),
        money::danish(allowance.used_oere),
        money::danish(allowance.taxable_oere)
    ))?;
    Ok(())
}

/// How much there is to see: kinds of remarks, employers, and then the shorter the better.
fn to_see(payments: &[Payment]) -> (usize, usize, Reverse<usize>) {
    let count = |matches: fn(&Payment) -> bool| usize::from(payments.iter().any(matches));
    let kinds = count(|p| p.cancelled)
        + count(|p| p.revision > 1 && !p.cancelled)
        + count(|p| p.exempt_oere > 0 && p.taxable_oere > 0);
    let employers: BTreeSet<_> = payments.iter().map(|p| &p.employer_cvr).collect();
    (kinds, employers.len().min(2), Reverse(payments.len()))
}

fn explained(payments: &[Payment], limit: i64) -> comfy_table::Table {
    let columns = ["Paid on", "Employer", "Amount", "Exempt", "Taxable", "Used so far", ""];
    let align = [
        Align::Left,
        Align::Left,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Left,
    ];
    let mut table = table::new(&columns, &align);
    let mut used = 0;
    for payment in payments {
        used += payment.exempt_oere;
        table.add_row([
            wire::show(payment.facts.as_ref().and_then(|facts| facts.payment_date)),
            payment.employer_cvr.clone(),
            money::danish(payment.amount_oere),
            money::danish(payment.exempt_oere),
            money::danish(payment.taxable_oere),
            money::danish(used),
            remark(payment, used, limit),
        ]);
    }
    table
}

fn remark(payment: &Payment, used: i64, limit: i64) -> String {
    let change = match (payment.cancelled, payment.revision) {
        (true, _) => return "cancelled: uses nothing".to_owned(),
        // Taxable though the limit is not used up here: what a correction adds draws when it is
        // made, and pushes nobody out (A4).
        (false, 2..) if payment.taxable_oere > 0 && used < limit => {
            return "corrected upwards: the increase drew last".to_owned();
        }
        (false, 2..) => "corrected; ",
        (false, _) => "",
    };
    let place = match (payment.exempt_oere, payment.taxable_oere) {
        (_, 0) if used == limit => "reaches the limit",
        (_, 0) => "inside the limit",
        (0, _) => "above the limit",
        (_, _) => "crosses the limit: split",
    };
    format!("{change}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_payment_gets_its_reason() {
        let payment = |exempt_oere, taxable_oere, revision, cancelled| Payment {
            exempt_oere,
            taxable_oere,
            revision,
            cancelled,
            ..Payment::default()
        };
        assert_eq!(remark(&payment(5, 0, 1, false), 5, 10), "inside the limit");
        assert_eq!(remark(&payment(4, 6, 2, false), 10, 10), "corrected; crosses the limit: split");
        assert_eq!(remark(&payment(0, 6, 1, false), 10, 10), "above the limit");
        let increased = remark(&payment(4, 6, 2, false), 4, 10);
        assert_eq!(increased, "corrected upwards: the increase drew last");
        assert_eq!(remark(&payment(0, 0, 2, true), 10, 10), "cancelled: uses nothing");
    }
}
