//! The persons that a question is about: one CPR number, or a file with one a line. What must
//! stay out: a CPR number in any message; a bad one is named by its line.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use frikort_domain::Cpr;

/// Whom to ask about.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Persons {
    /// One person, by CPR number (the hyphen may be left out).
    #[arg(long, value_name = "N")]
    cpr: Option<String>,
    /// Many persons: a file with one CPR number a line.
    #[arg(long, value_name = "FILE")]
    cpr_file: Option<PathBuf>,
}

/// Whom to ask about, or everybody.
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
pub(crate) struct OrEverybody {
    /// Only this person, by CPR number.
    #[arg(long, value_name = "N")]
    cpr: Option<String>,
    /// Only these persons: a file with one CPR number a line.
    #[arg(long, value_name = "FILE")]
    cpr_file: Option<PathBuf>,
}

impl OrEverybody {
    /// Reads them; none for everybody.
    pub(crate) fn read(self) -> anyhow::Result<Vec<Asked>> {
        let Self { cpr, cpr_file } = self;
        if cpr.is_none() && cpr_file.is_none() {
            return Ok(Vec::new());
        }
        Persons { cpr, cpr_file }.read()
    }
}

/// One person, and where the number stood.
#[derive(Clone)]
pub(crate) struct Asked {
    /// The ten digits.
    pub(crate) cpr: String,
    /// Line in the file, from 1; 0 when given as an option.
    pub(crate) line: usize,
}

impl Persons {
    /// Reads them all; a line that is no CPR number stops the program before anything is asked.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<Asked>> {
        if let Some(cpr) = &self.cpr {
            return Ok(vec![Asked { cpr: digits(cpr).context("--cpr")?, line: 0 }]);
        }
        let file = self.cpr_file.as_deref().context("give --cpr or --cpr-file")?;
        let name = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        let asked = parse(&text).with_context(|| format!("in {name}"))?;
        ensure!(!asked.is_empty(), "{name} holds no CPR number");
        Ok(asked)
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<Asked>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, text)| {
            let line = index + 1;
            let cpr = digits(text.trim()).with_context(|| format!("line {line}"))?;
            Ok(Asked { cpr, line })
        })
        .collect()
}

fn digits(text: &str) -> anyhow::Result<String> {
    Ok(text.parse::<Cpr>()?.expose_digits().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_lines() {
        let asked = parse("0101605001\n\n010178-5362\r\n").unwrap();
        let pairs: Vec<_> = asked.iter().map(|a| (a.cpr.as_str(), a.line)).collect();
        assert_eq!(pairs, [("0101605001", 1), ("0101785362", 3)]);
    }

    #[test]
    fn w5_a_bad_line_is_named_without_its_content() {
        let error = format!("{:#}", parse("0101605001\n3002605001\n").err().unwrap());
        assert!(error.starts_with("line 2: ") && !error.contains("3002605001"), "{error}");
    }
}
