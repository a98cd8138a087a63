//! The only place that writes to the terminal: results to stdout, remarks to stderr. A reader
//! that went away (`| head`) is no error of ours. What must stay out: what is said.

use std::io::{self, Write};

/// One remark on stderr. Nobody can be told when even that fails.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
