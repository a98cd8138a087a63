//! Figures, and how they are said: percentiles, ratios with their spread, one table at the end.

use std::{
    io::{self, Write},
    time::Duration,
};

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use hdrhistogram::Histogram;

use super::closed::Tally;

/// One line on standard output.
pub(super) fn say(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// Latencies, to three digits.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn of(micros: &[u32]) -> anyhow::Result<Self> {
        let mut histogram = Histogram::new_with_max(u64::from(u32::MAX), 3)?;
        for value in micros {
            histogram.record(u64::from(*value))?;
        }
        Ok(Self(histogram))
    }

    /// So many hundredths were answered within this time.
    pub(super) fn percentile(&self, hundredths: f64) -> Duration {
        Duration::from_micros(self.0.value_at_percentile(hundredths))
    }

    /// All of them in a line.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for percentile in [50.0, 95.0, 99.0, 99.9, 100.0] {
            let name = if percentile < 100.0 { format!("p{percentile}") } else { "max".into() };
            text += &format!("{name} {} ", milliseconds(self.percentile(percentile)));
        }
        text + "ms"
    }
}

pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

/// Says what one measurement gave.
pub(super) fn say_tally(name: &str, tally: &Tally) -> anyhow::Result<()> {
    let latencies = Latencies::of(&tally.done)?;
    let (rate, cpu) = (tally.rate(), &tally.cpu.text);
    say(&format!("  {name}: {rate:.0}/s, {}; {cpu}", latencies.text()))
}

/// One figure for each round.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<f64>);

impl Series {
    pub(super) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Round by round, this against that.
    pub(super) fn against(&self, baseline: &Self) -> Self {
        Self(self.0.iter().zip(&baseline.0).map(|(ours, theirs)| ours / theirs).collect())
    }

    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// What must be reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Must {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    work: String,
    ours: String,
    baseline: String,
    ratio: Series,
    must: Option<Must>,
    /// Whether it holds; `None` where nothing is asked.
    pub(super) holds: Option<bool>,
}

impl Row {
    /// The median of `ratio` is what is judged.
    pub(super) fn new(
        work: impl Into<String>,
        ours: String,
        baseline: String,
        ratio: Series,
        must: Option<Must>,
    ) -> Self {
        let holds = must.map(|must| match must {
            Must::AtLeast(least) => ratio.median() >= least,
            Must::AtMost(most) => ratio.median() <= most,
        });
        Self { work: work.into(), ours, baseline, ratio, must, holds }
    }

    /// Figures of which more is better, a second.
    pub(super) fn rates(
        work: impl Into<String>,
        ours: &Series,
        name: &str,
        baseline: &Series,
        must: Option<f64>,
    ) -> Self {
        let (said, theirs) = (ours.median(), baseline.median());
        Self::new(
            work,
            format!("{said:.0}/s"),
            format!("{theirs:.0}/s {name}"),
            ours.against(baseline),
            must.map(Must::AtLeast),
        )
    }
}

/// Two kinds of the same work, by what they did a second and by the processor time of a call.
///
/// The second is what the first would be on a machine of our own: a neighbour that takes the
/// processors away costs several processes that wait for each other more than one that does not.
#[derive(Debug, Default)]
pub(super) struct Rates {
    rate: Series,
    processor: Series,
}

impl Rates {
    pub(super) fn push(&mut self, tally: &Tally) {
        self.rate.push(tally.rate());
        self.processor.push(tally.cpu.each);
    }

    /// The row that is judged, and the one that explains.
    pub(super) fn rows(
        &self,
        work: &str,
        name: &str,
        baseline: &Self,
        must: impl Into<Option<f64>>,
    ) -> [Row; 2] {
        let (ours, theirs) = (&self.processor, &baseline.processor);
        let time = |series: &Series| format!("{:.0} µs", series.median());
        [
            Row::rates(work, &self.rate, name, &baseline.rate, must.into()),
            Row::new("… by processor time", time(ours), time(theirs), theirs.against(ours), None),
        ]
    }
}

/// The table of all that was measured.
pub(super) fn table(rows: &[Row]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["Work", "Ours", "Baseline", "Ratio (min-max)", "Must", "Holds"]);
    for row in rows {
        let (least, most) = (row.ratio.least(), row.ratio.most());
        table.add_row([
            row.work.clone(),
            row.ours.clone(),
            row.baseline.clone(),
            format!("{:.2} ({least:.2}-{most:.2})", row.ratio.median()),
            row.must.map_or(String::new(), |must| match must {
                Must::AtLeast(least) => format!(">= {least}"),
                Must::AtMost(most) => format!("<= {most}"),
            }),
            row.holds.map_or("", |holds| if holds { "yes" } else { "NO" }).to_owned(),
        ]);
    }
    say(&format!("\n{table}"))
}
