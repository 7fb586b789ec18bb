//! What operators do to the running gateway: one line for each act, in the program's own log and in a file if there is one.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The configuration was read anew.
    Reload,
    /// The gateway was told to end.
    Drain,
    /// A session of an agent was ended.
    Kick,
    /// A credential was added, changed or taken away.
    Credential,
    /// Somebody's log-in was ended.
    EndLogIn,
    /// The logs were opened anew.
    ReopenLogs,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line<'a> {
    time: String,
    act: Act,
    by: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    outcome: &'a str,
}

impl<'a> Line<'a> {
    pub(crate) fn new(act: Act, by: &dyn fmt::Display, subject: &'a str, outcome: &'a str) -> Self {
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        Self { time, act, by: by.to_string(), subject, outcome }
    }
}

impl Act {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Drain => "drain",
            Self::Kick => "kick",
            Self::Credential => "credential",
            Self::EndLogIn => "end_log_in",
            Self::ReopenLogs => "reopen_logs",
        }
    }
}
