//! Asks a running agent. Blocks, within bounds.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{REPORT_BYTES_MAX, Report};

/// Why there is no report.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens at the socket.
    NotRunning(io::Error),
    /// Something took the connection, and the report did not come whole and in time.
    NoAnswer(io::Error),
    /// What came is no report.
    Malformed(serde_json::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(error) => write!(f, "no agent answers there: {error}"),
            Self::NoAnswer(error) => write!(f, "the agent took the connection but gave no report: {error}"),
            Self::Malformed(error) => write!(f, "what answered there is no agent: {error}"),
        }
    }
}

impl std::error::Error for AskError {}

/// The report of the agent that serves `socket`, and its JSON as it came.
///
/// # Errors
/// [`AskError`].
pub fn ask(socket: &Path) -> Result<(Report, String), AskError> {
    let mut stream = UnixStream::connect(socket).map_err(AskError::NotRunning)?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || bytes.len() > REPORT_BYTES_MAX {
            return Err(AskError::NoAnswer(io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(AskError::NoAnswer)?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => bytes.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(AskError::NoAnswer(io::ErrorKind::TimedOut.into()));
            }
            Err(error) => return Err(AskError::NoAnswer(error)),
        }
    }
    if bytes.is_empty() {
        return Err(AskError::NoAnswer(io::ErrorKind::UnexpectedEof.into()));
    }
    let report = Report::read(&bytes).map_err(AskError::Malformed)?;
    Ok((report, String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

/// The agent answers within a turn of its loop; a box that is this busy is not well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
