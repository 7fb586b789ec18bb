//! What operators are told of, and how.

use std::time::Duration;

use adit::config::reader::Object;

/// What operators are told of, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// How long a site or an endpoint has to be online or offline before it is told.
    pub settle: Duration,
}

impl EventsConfig {
    pub(super) fn read(section: Option<Object<'_>>) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let settle = section.duration("settle", SETTLE_LEAST..=SETTLE_MOST).unwrap_or(SETTLE_DEFAULT);
        section.finish();
        Self { settle }
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { settle: SETTLE_DEFAULT }
    }
}

/// An agent whose line broke is back within seconds; one whose box restarts takes half a minute.
const SETTLE_DEFAULT: Duration = Duration::from_secs(30);
/// For trials.
const SETTLE_LEAST: Duration = Duration::from_millis(100);
const SETTLE_MOST: Duration = Duration::from_secs(3600);
