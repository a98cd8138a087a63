//! `frikort statement`: every payment with its split, in the order of registration. Copies what
//! the projector answers; nothing is computed here.

use std::io::{BufWriter, Stdout, Write};

use anyhow::Context;
use frikort_proto::{
    instant,
    v1::{
        ErrorReason, GetStatementRequest, GetStatementResponse, Payment, PaymentChangeKind,
        WorkedHours, allowance_service_client::AllowanceServiceClient,
    },
};
use futures::{StreamExt, stream};
use time::format_description::well_known::Rfc3339;

use crate::{
    Ending,
    allowance::note_no_card,
    client::{CallError, MAX_ANSWER_BYTES, Service},
    money, output,
    persons::Persons,
    profile::Us,
    table, wire,
};

/// Statements asked for at once.
const IN_FLIGHT: usize = 16;

/// Options of `frikort statement`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    persons: Persons,
    /// Only this calendar year.
    #[arg(long, value_name = "YEAR", default_value_t = 0, hide_default_value = true)]
    year: i32,
    /// CSV with the columns cpr,employer_cvr,reference,year,amount,exempt,taxable,cancelled.
    #[arg(long)]
    csv: bool,
    /// What happened to each payment, too.
    #[arg(long, conflicts_with = "csv")]
    history: bool,
    #[command(flatten)]
    projector: crate::cli::Projector,
}

pub(crate) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let projector = args.projector.address.service(us)?;
    let (year, min_position) = (args.year, args.projector.min_position);
    let (as_of, with_history) = (args.projector.as_of.ask()?, args.history);
    let mut answers = stream::iter(args.persons.read()?)
        .map(|asked| {
            let person = Some(wire::by_cpr(asked.cpr.clone(), String::new()));
            let request = GetStatementRequest {
                person,
                year,
                min_position,
                hours_through: None,
                as_of,
                with_history,
                ..GetStatementRequest::default()
            };
            let projector = &projector;
            async move { (asked, whole(projector, request).await) }
        })
        .buffered(IN_FLIGHT);
    let mut show = if args.csv { Show::csv()? } else { Show::Text(output::bulk()) };
    let mut ending = Ending::Done;
    while let Some((asked, answer)) = answers.next().await {
        match answer {
            Ok(statement) => show.statement(&asked.cpr, &statement)?,
            Err(CallError::Refused(failure)) if failure.reason == ErrorReason::NoCard => {
                note_no_card(&asked);
                ending = Ending::Incomplete;
            }
            Err(error) => return Err(error.into()),
        }
    }
    show.end()?;
    Ok(ending)
}

/// One person's statement, of all pages.
pub(crate) async fn whole(
    projector: &Service,
    mut request: GetStatementRequest,
) -> Result<GetStatementResponse, CallError> {
    let mut statement = ask(projector, request.clone()).await?;
    loop {
        request.page_token = std::mem::take(&mut statement.next_page_token);
        if request.page_token.is_empty() {
            return Ok(statement);
        }
        let page = ask(projector, request.clone()).await?;
        if page.payments.is_empty() {
            // Every page of ours has some; a server whose pages have none could go on for ever.
            return Ok(statement);
        }
        statement.next_page_token = page.next_page_token;
        let mut payments = page.payments.into_iter().peekable();
        if let (Some(last), Some(first)) = (statement.payments.last_mut(), payments.peek())
            && (&last.employer_cvr, &last.reference) == (&first.employer_cvr, &first.reference)
        {
            // A history that is longer than a page.
            last.history.extend(payments.next().map(|first| first.history).unwrap_or_default());
        }
        statement.payments.extend(payments);
    }
}

/// The first page of one person's statement, or the one that the request's token leads to.
pub(crate) async fn ask(
    projector: &Service,
    request: GetStatementRequest,
) -> Result<GetStatementResponse, CallError> {
    let call = projector.call(request, |channel, request| async move {
        let client = AllowanceServiceClient::new(channel);
        client.max_decoding_message_size(MAX_ANSWER_BYTES).get_statement(request).await
    });
    call.await
}

/// Where statements go.
enum Show {
    Csv(Box<csv::Writer<BufWriter<Stdout>>>),
    Text(BufWriter<Stdout>),
}

impl Show {
    fn csv() -> anyhow::Result<Self> {
        let mut writer = csv::Writer::from_writer(output::bulk());
        writer.write_record([
            "cpr",
            "employer_cvr",
            "reference",
            "year",
            "amount",
            "exempt",
            "taxable",
            "cancelled",
        ])?;
        Ok(Self::Csv(Box::new(writer)))
    }

    fn statement(&mut self, cpr: &str, statement: &GetStatementResponse) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => {
                for payment in &statement.payments {
                    writer.write_record(csv_row(cpr, payment))?;
                }
            }
            Self::Text(out) => {
                writeln!(out, "{cpr}\n{}", as_table(&statement.payments))?;
                if statement.payments.iter().any(|payment| !payment.history.is_empty()) {
                    writeln!(out, "\n{}\n", as_history(&statement.payments)?)?;
                }
                for a in &statement.allowances {
                    let (total, taxable) =
                        (money::danish(a.total_oere), money::danish(a.taxable_oere));
                    let (used, limit) = (money::danish(a.used_oere), money::danish(a.limit_oere));
                    writeln!(
                        out,
                        "{}: {total}, of which {taxable} taxable; {used} of {limit} used",
                        a.year
                    )?;
                }
                if let Some(hours) = &statement.hours {
                    writeln!(out, "{}", worked(hours))?;
                }
                writeln!(out)?;
            }
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Csv(mut writer) => writer.flush()?,
            Self::Text(mut out) => out.flush()?,
        }
        Ok(())
    }
}

/// `hours 2025-11-23 to 2026-11-22: 12,50 (and 2 payments that say nothing of hours)`
fn worked(hours: &WorkedHours) -> String {
    let period = hours.period.unwrap_or_default();
    let (first, last) = (wire::show(period.first_day), wire::show(period.last_day));
    let (whole, hundredths) = (hours.hours_hundredths / 100, hours.hours_hundredths % 100);
    let unknown = match hours.payments_without_hours {
        0 => String::new(),
        1 => " (and 1 payment that says nothing of hours)".to_owned(),
        n => format!(" (and {n} payments that say nothing of hours)"),
    };
    format!("hours {first} to {last}: {whole},{hundredths:02}{unknown}")
}

fn csv_row(cpr: &str, payment: &Payment) -> [String; 8] {
    [
        cpr.to_owned(),
        payment.employer_cvr.clone(),
        payment.reference.clone(),
        payment.year.to_string(),
        money::plain(payment.amount_oere),
        money::plain(payment.exempt_oere),
        money::plain(payment.taxable_oere),
        payment.cancelled.to_string(),
    ]
}

/// What happened to payments, one event a line, payment by payment.
fn as_history(payments: &[Payment]) -> anyhow::Result<comfy_table::Table> {
    let columns =
        ["Employer", "Reference", "What", "Recorded", "Position", "Amount", "Exempt", "Taxable"];
    let mut table = table::new(&columns, &table::numbers_after(4, 8));
    for payment in payments {
        for change in &payment.history {
            let what = match change.kind() {
                PaymentChangeKind::Reported => "reported",
                PaymentChangeKind::Corrected => "corrected",
                PaymentChangeKind::Cancelled => "cancelled",
                PaymentChangeKind::SplitChanged => "split changed",
                PaymentChangeKind::Unspecified => "",
            };
            let recorded = change.recorded_time.and_then(instant).context("no instant")?;
            table.add_row([
                payment.employer_cvr.clone(),
                payment.reference.clone(),
                what.to_owned(),
                recorded.format(&Rfc3339)?,
                change.position.to_string(),
                money::danish(change.exempt_oere + change.taxable_oere),
                money::danish(change.exempt_oere),
                money::danish(change.taxable_oere),
            ]);
        }
    }
    Ok(table)
}

/// Payments for people, one a line.
pub(crate) fn as_table(payments: &[Payment]) -> comfy_table::Table {
    let columns =
        ["Employer", "Reference", "Paid on", "Counts in", "", "Amount", "Exempt", "Taxable"];
    let mut table = table::new(&columns, &table::numbers_after(5, 8));
    for payment in payments {
        let remark = match (payment.cancelled, payment.revision) {
            (true, _) => "cancelled",
            (false, 2..) => "corrected",
            (false, _) => "",
        };
        table.add_row([
            payment.employer_cvr.clone(),
            payment.reference.clone(),
            wire::show(payment.facts.as_ref().and_then(|facts| facts.payment_date)),
            payment.year.to_string(),
            remark.to_owned(),
            money::danish(payment.amount_oere),
            money::danish(payment.exempt_oere),
            money::danish(payment.taxable_oere),
        ]);
    }
    table
}
