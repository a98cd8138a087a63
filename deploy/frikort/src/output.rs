//! The only place that writes to the terminal: results to stdout, remarks to stderr. What must
//! stay out: what is said.
//!
//! A reader that went away (`| head`) shows as an error of kind `BrokenPipe`, which the program
//! ends on without a word.

use std::io::{self, BufWriter, Stdout, Write};

/// One remark on stderr. Nobody can be told when even that fails.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// One line of result, at once.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// A text of result as it is, at once.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Stdout for much; flush it at the end.
pub(crate) fn bulk() -> BufWriter<Stdout> {
    BufWriter::new(io::stdout())
}

/// Whether an error is only that nobody reads our output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |kind| kind == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| {
        let plain = cause.downcast_ref::<io::Error>().is_some_and(|e| broken(e.kind()));
        let in_csv = || match cause.downcast_ref::<csv::Error>().map(csv::Error::kind) {
            Some(csv::ErrorKind::Io(error)) => broken(error.kind()),
            _ => false,
        };
        plain || in_csv()
    })
}
