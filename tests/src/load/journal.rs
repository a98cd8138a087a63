//! What the ledger has acknowledged, in a file: the one witness against the tables.

use std::{
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use frikort_proto::v1::LedgerPosition;

/// The journal: lines of `partition,position,reference,oere`.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<BufWriter<File>>,
}

impl Journal {
    pub(super) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&path)
            .with_context(|| format!("cannot write the journal {}", path.display()))?;
        Ok(Self { path, file: Mutex::new(BufWriter::with_capacity(1 << 16, file)) })
    }

    /// Notes one acknowledged payment.
    pub(super) fn note(
        &self,
        place: &LedgerPosition,
        reference: &str,
        oere: i64,
    ) -> anyhow::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{},{},{reference},{oere}", place.partition, place.position)?;
        Ok(())
    }

    /// What was noted from byte `from` on.
    pub(super) fn read_from(&self, from: u64) -> anyhow::Result<Vec<u8>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    }
}
