//! What there is to verify: records, and beside `partition-N.jsonl` what a whole export has of the
//! partition. What must stay out: records.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use frikort_proof::{Checkpoint, NoteError, VerifierKey};

use crate::audit::{
    files,
    findings::Place,
    history::{Check, Fault},
    keys,
    proved::{Known, Tiles},
    report::{CheckpointReport, KeysFrom, Report},
    tiles::TileDir,
};

/// All of it.
pub(super) struct Input {
    /// Files of records: number, path, and the partition that the name tells.
    pub(super) records: Vec<(u32, PathBuf, i32)>,
    /// What stands beside them, by partition.
    pub(super) partitions: BTreeMap<i32, Beside>,
    /// Of records and totals together.
    pub(super) bytes: u64,
}

/// What there is of a partition beside its records.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) tiles: Vec<Tiles>,
    /// The export's own, and older ones.
    pub(super) checkpoints: Vec<Known>,
    /// With the number of the file.
    pub(super) totals: Option<(PathBuf, u32)>,
}

impl Input {
    /// Finds the files that are named, and those of the directories.
    pub(super) fn find(
        paths: &[PathBuf],
        given: &[VerifierKey],
        checkpoints: &[PathBuf],
        report: &mut Report,
    ) -> anyhow::Result<Self> {
        report.keys = if given.is_empty() { KeysFrom::None } else { KeysFrom::Given };
        let mut all = Self { records: Vec::new(), partitions: BTreeMap::new(), bytes: 0 };
        let mut exported = given.to_vec();
        for path in paths {
            let files = if path.is_dir() { within(path)? } else { vec![path.clone()] };
            for file in files {
                let base = partition_of(&file);
                let partition = base.as_ref().map(|(partition, _)| *partition);
                if file.extension().is_some_and(|extension| extension == "jsonl") || base.is_none()
                {
                    let length = fs::metadata(&file).with_context(|| shown(&file))?.len();
                    all.bytes += length;
                    let number = report.findings.file(shown(&file));
                    all.records.push((number, file, partition.unwrap_or_default()));
                }
                if let Some((partition, base)) = base {
                    all.beside(partition, &base, given, &mut exported, report)?;
                }
            }
        }
        for path in checkpoints {
            all.older(path, &exported, report)?;
        }
        Ok(all)
    }

    /// Takes what there is of a partition beside its records, once.
    fn beside(
        &mut self,
        partition: i32,
        base: &Path,
        given: &[VerifierKey],
        exported: &mut Vec<VerifierKey>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        if self.partitions.contains_key(&partition) {
            return Ok(());
        }
        let named = |end: &str| PathBuf::from(format!("{}.{end}", base.display()));
        let mut beside = Beside::default();
        let keys = match files::text(&named("keys"))? {
            Some(text) if given.is_empty() => {
                report.keys = KeysFrom::Export;
                keys::parse(&text).with_context(|| shown(&named("keys")))?
            }
            _ => given.to_vec(),
        };
        if let Some(note) = files::text(&named("checkpoint"))? {
            let file = report.findings.file(shown(&named("checkpoint")));
            beside.checkpoints.extend(own(partition, file, &note, &keys, report));
        }
        if given.is_empty() {
            exported.extend(keys);
        }
        let tiles = named("tiles");
        if tiles.is_dir() {
            let number = report.findings.file(shown(&tiles));
            beside.tiles.push(Tiles::new(TileDir(tiles), number, true));
        }
        let totals = named("totals.jsonl");
        if let Ok(metadata) = fs::metadata(&totals) {
            self.bytes += metadata.len();
            let number = report.findings.file(shown(&totals));
            beside.totals = Some((totals, number));
        }
        self.partitions.insert(partition, beside);
        Ok(())
    }

    /// Takes a checkpoint that was noted earlier.
    fn older(
        &mut self,
        path: &Path,
        keys: &[VerifierKey],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let Some(note) = files::text(path)? else { bail!("{} is not there", path.display()) };
        let checkpoint = Checkpoint::parse_unverified(&note).with_context(|| shown(path))?;
        let Some(partition) = keys::partition(&checkpoint) else {
            let origin = checkpoint.origin.as_str();
            bail!("{}: {origin} is no log of a partition", path.display());
        };
        let number = report.findings.file(shown(path));
        let size = checkpoint.size;
        match Checkpoint::verify(&note, keys) {
            Ok(_) => {}
            Err(error @ NoteError::FalseSignature) => {
                let place = at(partition, number, Some(size));
                report.findings.add(place, fault(error.to_string()));
            }
            // Whoever kept it knows it; the records are held against it all the same.
            Err(error) => report.not_checked(format!("{}: {error}", path.display())),
        }
        report.checkpoints.push(CheckpointReport::new(path, partition, size));
        let known = Known { checkpoint, file: number, own: false, agrees: None };
        if !self.records.iter().any(|(_, _, of)| *of == partition) {
            report.not_checked(format!(
                "{} is about partition {partition}, of which no file is there",
                path.display()
            ));
            return Ok(());
        }
        let beside = self.partitions.entry(partition).or_default();
        beside.checkpoints.push(known);
        if let Some(tiles) = tiles_beside(path) {
            let number = report.findings.file(shown(&tiles));
            beside.tiles.push(Tiles::new(TileDir(tiles), number, false));
        }
        Ok(())
    }
}

/// Tiles that were kept with a checkpoint: of an earlier export, or of a mirror.
fn tiles_beside(checkpoint: &Path) -> Option<PathBuf> {
    let exported = checkpoint.with_extension("tiles");
    let mirror = checkpoint.with_file_name("tile").parent().map(Path::to_path_buf);
    let is_mirror = checkpoint.with_file_name("tile").is_dir();
    if exported.is_dir() { Some(exported) } else { mirror.filter(|_| is_mirror) }
}

/// The checkpoint that came with an export, if it is one.
fn own(
    partition: i32,
    file: u32,
    note: &str,
    keys: &[VerifierKey],
    report: &mut Report,
) -> Option<Known> {
    let checkpoint = match Checkpoint::parse_unverified(note) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            report.findings.add(at(partition, file, None), fault(error.to_string()));
            return None;
        }
    };
    let place = at(partition, file, Some(checkpoint.size));
    if keys::partition(&checkpoint) != Some(partition) {
        let what = format!("it is of another log: {}", checkpoint.origin.as_str());
        report.findings.add(place, fault(what));
        return None;
    }
    let named = |key: &&VerifierKey| *key.name() == checkpoint.origin;
    if keys.iter().find(named).is_none() {
        report
            .missing(format!("the signature of partition {partition}'s checkpoint: no key of it"));
    } else if let Err(error) = Checkpoint::verify(note, keys) {
        report.findings.add(place, fault(error.to_string()));
    }
    Some(Known { checkpoint, file, own: true, agrees: None })
}

fn fault(what: String) -> Fault {
    Fault { check: Check::Checkpoints, what: what.into() }
}

/// A place that is about a whole file, behind all that is about records.
fn at(partition: i32, file: u32, size: Option<u64>) -> Place {
    let position = size.and_then(|size| i64::try_from(size).ok());
    Place { file, line: None, partition, index: size.unwrap_or(u64::MAX), position }
}

/// The files of records of a directory, and what names a partition that has none, by name.
fn within(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| shown(dir))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(".totals.jsonl") {
            continue;
        }
        let alone = name.ends_with(".checkpoint") && partition_of(&path).is_some();
        if name.ends_with(".jsonl") || alone {
            all.push(path);
        }
    }
    ensure!(!all.is_empty(), "{} holds no .jsonl file", dir.display());
    all.sort();
    Ok(all)
}

/// `…/partition-3.jsonl` → 3, and `…/partition-3`.
fn partition_of(file: &Path) -> Option<(i32, PathBuf)> {
    let name = file.file_name()?.to_str()?;
    let (base, _) = name.split_once('.')?;
    let number = base.strip_prefix("partition-")?.parse().ok()?;
    Some((number, file.with_file_name(base)))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
