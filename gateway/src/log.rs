//! The gateway's log: lines on standard error, as text or as JSON.

use std::fmt;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// The least important lines that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// What ends the program.
    Error,
    /// What an operator should look at.
    Warn,
    /// What changes: sessions, configuration, draining.
    #[default]
    Info,
    /// One line for each stream, with the addresses of visitors.
    Debug,
    /// One line for each frame.
    Trace,
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, words, and fields as `key=value`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the level of the running log; by default, of none.
#[derive(Debug, Default)]
pub struct LogControl {
    /// `None` when the environment has set the filter, which then stands, and where there is no log.
    handle: Option<reload::Handle<EnvFilter, Registry>>,
}

/// Why there is no log.
#[derive(Debug)]
pub enum LogError {
    /// The environment variable does not hold a filter.
    Filter(String),
    /// Another log is there already.
    Installed(TryInitError),
}

impl LogLevel {
    /// The levels as the configuration names them.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    fn filter(self) -> EnvFilter {
        let word = Self::WORDS.iter().find(|(_, level)| *level == self).map_or("info", |(word, _)| word);
        // Other crates have their say only when something is wrong.
        EnvFilter::new(format!("warn,adit={word},adit_gateway={word}"))
    }
}

impl LogFormat {
    /// The formats as the configuration names them.
    pub const WORDS: [(&'static str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];
}

impl LogControl {
    /// Sets the level; without effect where the environment has set it.
    pub fn set_level(&self, level: LogLevel) {
        let Some(handle) = &self.handle else { return };
        // It fails only when the log is gone, and then there is nothing to set.
        let _ = handle.reload(level.filter());
    }
}

/// Starts the log of the process. The environment variable [`LOG_VARIABLE`] beats `level`; it takes a level, or levels
/// for parts of the program such as `info,adit_gateway::session=debug`.
///
/// # Errors
///
/// See [`LogError`].
pub fn install(level: LogLevel, format: LogFormat) -> Result<LogControl, LogError> {
    let variable = std::env::var(LOG_VARIABLE).ok().filter(|text| !text.is_empty());
    let is_fixed = variable.is_some();
    let filter = match variable {
        Some(text) => EnvFilter::try_new(text).map_err(|error| LogError::Filter(error.to_string()))?,
        None => level.filter(),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).compact().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(LogError::Installed)?;
    Ok(LogControl { handle: (!is_fixed).then_some(handle) })
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(error) => {
                write!(
                    f,
                    "{LOG_VARIABLE} must be a level (error, warn, info, debug or trace) or a list of them: {error}"
                )
            }
            Self::Installed(error) => write!(f, "the log cannot be started: {error}"),
        }
    }
}

impl std::error::Error for LogError {}

/// The environment variable that sets what is logged.
pub const LOG_VARIABLE: &str = "ADIT_LOG";
