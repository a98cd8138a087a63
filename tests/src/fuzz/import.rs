//! Files that `frikort import` reads: any bytes are rows that can be sent or that are named with what
//! is wrong, each at the line where it stands, or no file at all.

use frikort::fuzzing::{self, Seen};
use frikort_domain::contains_cpr;

pub(super) fn payments(data: &[u8]) {
    held(data, fuzzing::payments(data));
}

pub(super) fn visitations(data: &[u8]) {
    held(data, fuzzing::visitations(data));
}

fn held(data: &[u8], rows: anyhow::Result<Vec<Seen>>) {
    let Ok(rows) = rows else { return };
    // A quotation mark that nothing closes makes all that follows one row, whose line is a guess.
    let quoted = data.contains(&b'"');
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let exact = (!quoted).then(|| row_lines(data));
    let mut before = 1;
    if let Some(exact) = exact {
        let told: Vec<u64> = rows.iter().map(|row| row.line).collect();
        assert_eq!(told, exact, "the lines on which rows begin");
    }
    for Seen { line, faults } in rows {
        let line = if quoted { 1 } else { line };
        let at = usize::try_from(line).unwrap_or(usize::MAX);
        let there = at.checked_sub(1).and_then(|index| lines.get(index));
        let there = there.unwrap_or_else(|| panic!("line {line} of {} lines", lines.len()));
        assert!(
            quoted || !there.iter().all(|byte| *byte == b'\r'),
            "line {line} is empty: no row is there"
        );
        assert!(line >= before, "line {line} after line {before}");
        before = line;
        for fault in faults {
            assert!(!fault.is_empty(), "line {line}: a fault says what is wrong");
            assert!(!contains_cpr(&fault), "W5: line {line}: a fault holds a CPR number");
        }
    }
}

/// The lines on which the rows of a file without quotation marks begin: all but the header's.
fn row_lines(data: &[u8]) -> Vec<u64> {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let (mut line, mut lines) = (1, Vec::new());
    for part in data.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        if !matches!(part, b"\n" | b"\r") {
            lines.push(line);
        }
        line += u64::from(part.ends_with(b"\n"));
    }
    lines.into_iter().skip(1).collect()
}
