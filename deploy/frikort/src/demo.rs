//! `frikort demo`: the whole thing once, with a bundled sample: import, what it came to, one
//! person's year payment by payment, and a replay of the history against the projector's totals.
//!
//! The persons are made up: they are born 1858-1880. What must stay out: any way around the
//! public contract; the demo sees what every client sees.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tokio::time::Instant;

use crate::{
    Ending, audit,
    client::Service,
    import::{self, Files},
    output,
    stack::{self, Stack},
};

mod explain;

const VISITATIONS: &str = include_str!("../sample/visitations.csv");
const PAYMENTS: &str = include_str!("../sample/payments.csv");

/// Calls under way at once.
const IN_FLIGHT: usize = 64;

/// `frikort demo`; it keeps apart from a ledger that is meant seriously.
pub(crate) async fn run(args: stack::Args) -> anyhow::Result<Ending> {
    let mut dir = stack::default_dir()?;
    dir.set_file_name("frikort-demo");
    stack::run(Stack::new(args, &dir)?, show_and_stay).await
}

async fn show_and_stay(stack: &Stack) -> anyhow::Result<()> {
    let (ledger, projector) = (stack.ledger()?, stack.projector()?);
    let sample = Sample::write(stack.dir())?;
    import_sample(&ledger, &projector, &sample).await?;
    let allowances = explain::years(&projector, &sample.cprs).await?;
    explain::one_year(&projector, &allowances).await?;
    check(&ledger, &projector).await?;
    output::line(&next_steps(stack, &sample))?;
    std::future::pending().await
}

/// The sample as files, so that people can read them and import them again.
struct Sample {
    visitations: PathBuf,
    payments: PathBuf,
    answers: PathBuf,
    persons: PathBuf,
    cprs: Vec<String>,
}

impl Sample {
    fn write(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("sample");
        fs::create_dir_all(&dir)?;
        let path = |name: &str| dir.join(name);
        // The persons of the payments, in the order in which they first come.
        let mut cprs: Vec<String> = Vec::new();
        let mut reader = csv::Reader::from_reader(PAYMENTS.as_bytes());
        for row in reader.records() {
            let cpr = row?.get(1).context("the sample has no persons")?.to_owned();
            if !cprs.contains(&cpr) {
                cprs.push(cpr);
            }
        }
        fs::write(path("visitations.csv"), VISITATIONS)?;
        fs::write(path("payments.csv"), PAYMENTS)?;
        fs::write(path("persons.txt"), cprs.join("\n") + "\n")?;
        Ok(Self {
            visitations: path("visitations.csv"),
            payments: path("payments.csv"),
            answers: path("answers.csv"),
            persons: path("persons.txt"),
            cprs,
        })
    }
}

async fn import_sample(
    ledger: &Service,
    projector: &Service,
    sample: &Sample,
) -> anyhow::Result<()> {
    output::line("\n1. Import: municipalities' decisions, then payments as employers report them")?;
    let files = Files {
        visitations: Some(&sample.visitations),
        payments: Some(&sample.payments),
        answers: Some(&sample.answers),
    };
    let summary = import::import(ledger, &files, IN_FLIGHT).await?;
    output::line(&summary.to_string())?;
    output::line(&format!("Each payment's answer: {}", sample.answers.display()))?;
    import::wait_for_projector(projector, &summary.reached).await
}

/// Every event decided anew, and all totals held against the projector's: `frikort audit totals`.
async fn check(ledger: &Service, projector: &Service) -> anyhow::Result<()> {
    output::line(
        "\n4. Replay: every event from the first on, decided anew, against the projector",
    )?;
    let start = Instant::now();
    let compared = audit::compare(ledger, projector).await?.verified()?;
    output::line(&format!(
        "{} events of {} persons decided anew as they were recorded, in {} ms; all {} yearly \
         totals equal the projector's.",
        compared.records,
        compared.persons,
        start.elapsed().as_millis(),
        compared.compared
    ))?;
    Ok(())
}

fn next_steps(stack: &Stack, sample: &Sample) -> String {
    let program = env::args().next().unwrap_or_else(|| "frikort".to_owned());
    let persons = sample.persons.display();
    let at = stack.profiles_option();
    format!(
        "\nIt stays up until Ctrl-C. Try next, in another terminal:\n  \
         {program} allowance --cpr-file {persons} --year 2023{at}\n  \
         {program} statement --cpr-file {persons} --csv{at}\n  \
         {program} events --follow{at}\n  \
         {program} audit export history{at} && {program} audit verify history"
    )
}
