//! `frikort allowance`: how much of the yearly limit is used. Copies what the projector answers;
//! nothing is computed here.

use std::io::{BufWriter, Stdout};

use frikort_proto::v1::{
    Allowance, AsOf, BatchGetAllowancesRequest, BatchGetAllowancesResponse,
    allowance_service_client::AllowanceServiceClient,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    Ending,
    client::{MAX_ANSWER_BYTES, Service},
    money, output,
    persons::{Asked, Persons},
    profile::Us,
    table, wire,
};

/// Persons in one question; the most that the contract allows.
const CHUNK: usize = 1000;

/// Questions under way at once.
const IN_FLIGHT: usize = 4;

/// Options of `frikort allowance`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    persons: Persons,
    /// Calendar year; may be given several times.
    #[arg(long = "year", value_name = "YEAR", required = true)]
    years: Vec<i32>,
    /// CSV with the columns cpr,year,limit,total,used,remaining,taxable,payments.
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    projector: crate::cli::Projector,
}

/// One person of the question, and the answer of each year; empty for a person without a card.
struct Answered {
    asked: Asked,
    years: Vec<Allowance>,
}

pub(crate) async fn run(args: Args, us: &Us) -> anyhow::Result<Ending> {
    let projector = args.projector.address.service(us)?;
    let (min_position, as_of) = (args.projector.min_position, args.projector.as_of.ask()?);
    let asked = args.persons.read()?;
    let chunks: Vec<Vec<Asked>> = asked.chunks(CHUNK).map(<[Asked]>::to_vec).collect();
    let mut answers = stream::iter(chunks)
        .map(|chunk| ask(&projector, chunk, &args.years, min_position, as_of))
        .buffered(IN_FLIGHT);
    let mut show = Show::new(args.csv)?;
    let mut ending = Ending::Done;
    while let Some(chunk) = answers.try_next().await? {
        for answered in &chunk {
            if answered.years.is_empty() {
                note_no_card(&answered.asked);
                ending = Ending::Incomplete;
            }
            for allowance in &answered.years {
                show.row(&answered.asked.cpr, allowance)?;
            }
        }
    }
    show.end()?;
    Ok(ending)
}

/// Says that no card is known for a person, by the line and not by the number.
pub(crate) fn note_no_card(asked: &Asked) {
    let place = if asked.line == 0 { String::new() } else { format!("line {}: ", asked.line) };
    output::note(&format!("{place}NO_CARD: no card is known for this person"));
}

async fn ask(
    projector: &Service,
    chunk: Vec<Asked>,
    years: &[i32],
    min_position: i64,
    as_of: Option<AsOf>,
) -> anyhow::Result<Vec<Answered>> {
    let persons: Vec<_> =
        chunk.iter().map(|asked| wire::by_cpr(asked.cpr.clone(), String::new())).collect();
    let mut answers: Vec<Answered> =
        chunk.into_iter().map(|asked| Answered { asked, years: Vec::new() }).collect();
    for &year in years {
        let request =
            BatchGetAllowancesRequest { persons: persons.clone(), year, min_position, as_of };
        for (index, allowance) in batch(projector, request).await? {
            if let Some(answered) = answers.get_mut(index) {
                answered.years.push(allowance);
            }
        }
    }
    Ok(answers)
}

/// The allowances of up to 1000 persons, each with its place in the question.
pub(crate) async fn batch(
    projector: &Service,
    request: BatchGetAllowancesRequest,
) -> anyhow::Result<Vec<(usize, Allowance)>> {
    let results = batch_at(projector, request).await?.results.into_iter();
    Ok(results.filter_map(|r| Some((usize::try_from(r.index).ok()?, r.allowance?))).collect())
}

/// The same as it was answered, with the positions.
pub(crate) async fn batch_at(
    projector: &Service,
    request: BatchGetAllowancesRequest,
) -> anyhow::Result<BatchGetAllowancesResponse> {
    let call = projector.call(request, |channel, request| async move {
        let client = AllowanceServiceClient::new(channel);
        client.max_decoding_message_size(MAX_ANSWER_BYTES).batch_get_allowances(request).await
    });
    Ok(call.await?)
}

/// Rows as CSV at once, or gathered into a table.
enum Show {
    Csv(Box<csv::Writer<BufWriter<Stdout>>>),
    Table(Box<comfy_table::Table>),
}

impl Show {
    fn new(csv: bool) -> anyhow::Result<Self> {
        if !csv {
            let columns =
                ["CPR", "Year", "Limit", "Total", "Used", "Remaining", "Taxable", "Payments"];
            let table = table::new(&columns, &table::numbers_after(2, 8));
            return Ok(Self::Table(Box::new(table)));
        }
        let mut writer = csv::Writer::from_writer(output::bulk());
        writer.write_record([
            "cpr",
            "year",
            "limit",
            "total",
            "used",
            "remaining",
            "taxable",
            "payments",
        ])?;
        Ok(Self::Csv(Box::new(writer)))
    }

    fn row(&mut self, cpr: &str, a: &Allowance) -> anyhow::Result<()> {
        let amounts = [a.limit_oere, a.total_oere, a.used_oere, a.remaining_oere, a.taxable_oere];
        let row = |amount: fn(i64) -> String| {
            let mut row = vec![cpr.to_owned(), a.year.to_string()];
            row.extend(amounts.map(amount));
            row.push(a.payment_count.to_string());
            row
        };
        match self {
            Self::Csv(writer) => writer.write_record(row(money::plain))?,
            Self::Table(table) => {
                table.add_row(row(money::danish));
            }
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Csv(mut writer) => writer.flush()?,
            Self::Table(table) if table.row_count() > 0 => output::line(&table.to_string())?,
            Self::Table(_) => {}
        }
        Ok(())
    }
}
