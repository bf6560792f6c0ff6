//! Standard output, which may be closed at any time.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use super::error::CliError;

/// Standard output.
pub struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Standard output.
    pub fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.0.write_all(text.as_bytes()).map_err(closed)
    }

    /// Writes a line.
    pub fn line(&mut self, line: &[u8]) -> Result<(), CliError> {
        self.0
            .write_all(line)
            .and_then(|()| self.0.write_all(b"\n"))
            .map_err(closed)
    }

    /// Writes a value as a line of JSON.
    pub fn json<T: Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        let line = serde_json::to_vec(value).map_err(io::Error::from);
        self.line(&line.map_err(closed)?)
    }

    /// Lets everything be seen now.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.0.flush().map_err(closed)
    }
}

fn closed(source: io::Error) -> CliError {
    if source.kind() == io::ErrorKind::BrokenPipe {
        return CliError::OutputClosed;
    }
    CliError::Io {
        doing: "write the output",
        source,
    }
}
