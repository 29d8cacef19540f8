//! Lines on stdout and complaints on stderr.

use std::io::Write;

use serde::Serialize;

use crate::error::ClientError;

/// A line of data. An error when nobody takes it any more.
pub(super) fn data(line: &str) -> Result<(), ClientError> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.map_err(|source| ClientError::Sink { name: "standard output".to_owned(), source })
}

/// A line of JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), ClientError> {
    let line = serde_json::to_string(value).map_err(|error| ClientError::Sink {
        name: "standard output".to_owned(),
        source: error.into(),
    })?;
    data(&line)
}

/// What went wrong with one of several things.
pub(super) fn complaint(error: &ClientError) {
    eprintln!("error: {error}");
}
