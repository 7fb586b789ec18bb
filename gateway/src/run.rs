//! The gateway as a process: what `adit-gateway run` does until a signal ends it.

use std::fmt;

use crate::config::Config;
use crate::identity_key::{IdentityKey, IdentityKeyError};
use crate::log::LogControl;

/// Why the gateway could not start, or ended by itself.
#[derive(Debug)]
pub enum RunError {
    /// There is no key for the identities of agents.
    IdentityKey(String, IdentityKeyError),
    /// The seam to the listeners: there are none in this build.
    Listeners,
}

/// Runs the gateway until SIGTERM or SIGINT, and reloads its configuration at SIGHUP.
///
/// # Errors
///
/// See [`RunError`].
pub async fn run(config: Config, _log: LogControl) -> Result<(), RunError> {
    let key_file = &config.key_file;
    IdentityKey::load_or_create(key_file)
        .map_err(|error| RunError::IdentityKey(key_file.display().to_string(), error))?;
    Err(RunError::Listeners)
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdentityKey(file, error) => write!(f, "{file}: {error}"),
            Self::Listeners => f.write_str("this build has no listeners yet"),
        }
    }
}

impl std::error::Error for RunError {}
