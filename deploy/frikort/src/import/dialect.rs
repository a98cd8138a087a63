//! How a file is written: its encoding, what separates its fields, and which of its columns is
//! which of ours. Payroll systems export what their spreadsheet likes; the file is taken as it is,
//! and what it was taken for is said. What must stay out: the content of rows.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, bail};
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::rows::Column;

/// Bytes looked at to tell the encoding, at a time.
const CHUNK: usize = 64 * 1024;

const SEPARATORS: [u8; 3] = *b",;\t";

/// How one file is written.
#[derive(Debug)]
pub(super) struct Dialect {
    encoding: &'static Encoding,
    pub(super) separator: u8,
    /// Fields of a row.
    pub(super) width: usize,
    /// Where each of our columns is.
    pub(super) places: HashMap<&'static str, usize>,
    /// Theirs and ours, where the names differ.
    renamed: Vec<(String, &'static str)>,
    ignored: Vec<String>,
}

impl Dialect {
    /// Reads the header, and as much of the file as tells its encoding.
    pub(super) fn of(path: &Path, columns: &[Column]) -> anyhow::Result<Self> {
        Self::read(&path.display().to_string(), || File::open(path), columns)
    }

    /// The same of a file with this name that is opened so.
    pub(super) fn read<R: Read>(
        name: &str,
        open: impl Fn() -> io::Result<R>,
        columns: &[Column],
    ) -> anyhow::Result<Self> {
        let open = || open().with_context(|| format!("cannot read {name}"));
        let encoding = encoding(BufReader::with_capacity(CHUNK, open()?))
            .with_context(|| format!("cannot read {name}"))?;
        let mut header = Vec::new();
        BufReader::new(open()?)
            .read_until(b'\n', &mut header)
            .with_context(|| format!("cannot read {name}"))?;
        let count = |separator: &u8| header.iter().filter(|byte| *byte == separator).count();
        // The first of the most frequent ones: a comma when there is none.
        let separator = SEPARATORS.into_iter().rev().max_by_key(count).unwrap_or(b',');
        let mut reader =
            csv::ReaderBuilder::new().delimiter(separator).from_reader(header.as_slice());
        let header = reader.byte_headers().with_context(|| format!("in the header of {name}"))?;
        let mut dialect = Self {
            encoding,
            separator,
            width: header.len(),
            places: HashMap::new(),
            renamed: Vec::new(),
            ignored: Vec::new(),
        };
        for (place, field) in header.iter().enumerate() {
            let (theirs, _) = encoding.decode_with_bom_removal(field);
            let theirs = theirs.trim().trim_matches('"').to_owned();
            let Some(column) = columns.iter().find(|column| column.is(&theirs)) else {
                dialect.ignored.push(theirs);
                continue;
            };
            if dialect.places.insert(column.name, place).is_some() {
                bail!("{name} has more than one column for {}", column.name);
            }
            if theirs != column.name {
                dialect.renamed.push((theirs, column.name));
            }
        }
        let lacks = |column: &&Column| column.needed && !dialect.places.contains_key(column.name);
        if let Some(missing) = columns.iter().find(lacks) {
            let needed: Vec<_> = columns.iter().filter(|c| c.needed).map(|c| c.name).collect();
            bail!("{name} has no column {}; it needs {}", missing.name, needed.join(","));
        }
        Ok(dialect)
    }

    /// A field as text; `None` if it is not of the file's encoding.
    pub(super) fn text(&self, field: &[u8]) -> Option<String> {
        let text = self.encoding.decode_without_bom_handling_and_without_replacement(field)?;
        Some(text.trim().to_owned())
    }

    /// Whether it is our own form, so that nothing need be said of it.
    pub(super) fn is_ours(&self) -> bool {
        self.separator == b',' && self.encoding == UTF_8 && self.renamed.is_empty()
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.separator {
            b'\t' => "tab".to_owned(),
            other => format!("`{}`", char::from(other)),
        };
        write!(f, "fields separated by {separator}, text in {}", self.encoding.name())?;
        if !self.renamed.is_empty() {
            let pairs: Vec<_> =
                self.renamed.iter().map(|(theirs, ours)| format!("{theirs} as {ours}")).collect();
            write!(f, "; taken: {}", pairs.join(", "))?;
        }
        if !self.ignored.is_empty() {
            write!(f, "; not looked at: {}", self.ignored.join(", "))?;
        }
        Ok(())
    }
}

/// UTF-8, unless the file has bytes that are none and not one character of UTF-8 beyond ASCII:
/// then Windows-1252, of which Latin-1 is a part. A file that has both is UTF-8 with broken rows.
fn encoding(mut file: impl BufRead) -> io::Result<&'static Encoding> {
    let mut broken = false;
    // The end of a chunk may cut a character in two.
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let chunk = file.fill_buf()?;
        let (length, last) = (chunk.len(), chunk.is_empty());
        rest.extend_from_slice(chunk);
        file.consume(length);
        let mut kept = 0;
        for part in rest.utf8_chunks() {
            if !part.valid().is_ascii() {
                return Ok(UTF_8);
            }
            // An unfinished character is at the very end, and less than four bytes long.
            let at_end = part.invalid().len();
            if at_end > 0 {
                let is_tail = rest.ends_with(part.invalid())
                    && std::str::from_utf8(part.invalid()).is_err_and(|e| e.error_len().is_none());
                if is_tail && !last {
                    kept = at_end;
                } else {
                    broken = true;
                }
            }
        }
        rest.drain(..rest.len() - kept);
        if last {
            return Ok(if broken { WINDOWS_1252 } else { UTF_8 });
        }
    }
}
