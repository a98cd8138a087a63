//! The answers file: what became of each row, in the order of the input, though answers come in
//! any order. What must stay out: how much may be outstanding; whoever reads the rows bounds it.

use std::{collections::VecDeque, fs::File, path::Path};

use anyhow::Context;

use super::Answer;
use crate::money;

/// Rows read and not yet written, from the oldest without an answer.
pub(super) struct Answers {
    file: Option<csv::Writer<File>>,
    /// Number of the oldest row in `waiting`, from 1.
    oldest: u64,
    waiting: VecDeque<Option<[String; 4]>>,
}

impl Answers {
    /// Without a file they are only put in order.
    pub(super) fn new(file: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| -> anyhow::Result<csv::Writer<File>> {
            let mut writer = csv::Writer::from_path(path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            writer.write_record(["line", "result", "exempt", "taxable"])?;
            Ok(writer)
        };
        Ok(Self { file: file.map(open).transpose()?, oldest: 1, waiting: VecDeque::new() })
    }

    /// The next row was read.
    pub(super) fn expect_one_more(&mut self) {
        self.waiting.push_back(None);
    }

    /// How many rows lie between the oldest without an answer and the last one read.
    pub(super) fn open(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the answer to row `number`, and writes what is in order now.
    pub(super) fn put(&mut self, number: u64, answer: &Answer) -> anyhow::Result<()> {
        let at = usize::try_from(number.saturating_sub(self.oldest))?;
        let place = self.waiting.get_mut(at).context("an answer to a row that was not read")?;
        *place = Some(line(number, answer));
        while let Some(Some(line)) = self.waiting.front() {
            if let Some(file) = &mut self.file {
                file.write_record(line)?;
            }
            self.waiting.pop_front();
            self.oldest += 1;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.file.as_mut().map_or(Ok(()), csv::Writer::flush).context("cannot write the answers")
    }
}

fn line(number: u64, answer: &Answer) -> [String; 4] {
    let (exempt, taxable) = match answer.split {
        Some((exempt, taxable)) => (money::plain(exempt), money::plain(taxable)),
        None => (String::new(), String::new()),
    };
    [number.to_string(), answer.result.to_owned(), exempt, taxable]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_written_in_the_order_of_the_input() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("answers.csv");
        let mut answers = Answers::new(Some(&path)).unwrap();
        for _ in 0..3 {
            answers.expect_one_more();
        }
        answers.put(3, &Answer::refused("NOT_COVERED")).unwrap();
        answers
            .put(1, &Answer { split: Some((40_000, 60_000)), ..Answer::refused("recorded") })
            .unwrap();
        assert_eq!(answers.open(), 2);
        answers.put(2, &Answer::refused("recorded")).unwrap();
        assert_eq!(answers.open(), 0);
        answers.flush().unwrap();
        let expected =
            "line,result,exempt,taxable\n1,recorded,400.00,600.00\n2,recorded,,\n3,NOT_COVERED,,\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }
}
